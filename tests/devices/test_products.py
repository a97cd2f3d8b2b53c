"""No product of a run is left to a device, which may round what it multiplies."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params

import dcjax.config
from dcjax import augment
from dcjax.data import digits
from dcjax.run import experiment
from tests.runs import tiny, with_experts

PRODUCTS = ("dot_general", "conv_general_dilated")
EXACT = (jax.lax.Precision.HIGHEST,) * 2


def equations(jaxpr) -> Iterator:
  """All of a program, also those of its loops and conditions."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in jaxprs_in_params(equation.params):
      yield from equations(inner)


def rounded(function, *arguments):
  """The places of products that do not say how exact they are."""
  found = [
    each for each in equations(jax.make_jaxpr(function)(*arguments).jaxpr)
    if each.primitive.name in PRODUCTS
  ]  # fmt: skip
  assert found
  return [
    [str(line) for line in each.source_info.traceback.frames if "dcjax" in str(line)][:3]
    for each in found if each.params["precision"] != EXACT
  ]  # fmt: skip


@pytest.mark.parametrize(
  ("method", "fields"),
  [
    ("dc", {}),
    ("dsa", {}),
    ("dm", {}),
    ("dm", {"distance": "layerwise"}),
    ("dm", {"distance": "rbf_mmd"}),
    ("dm", {"distance": "cf"}),
    ("idm", {}),
    ("idc", {}),
    ("bptt", {}),
    ("tm", {}),
    ("frepo", {}),
    ("rcig", {}),
    ("kip", {}),
  ],
)
def test_an_iteration_is_exact(method, fields, tmp_path):
  config = dcjax.config.resolve(with_experts(tiny(method, **fields), tmp_path))
  dataset, key = digits.load(), jax.random.key(0)
  built = experiment.method(config, dataset, experiment.condensing(config, dataset))
  state = jax.eval_shape(built.init, key, dataset)
  assert rounded(built.update, state, dataset, key, 0) == []


@pytest.mark.parametrize("name", [*augment.NAMED, augment.STRATEGY])
def test_an_augmentation_is_exact(name):
  if name in ("none", "rded", "imagenet"):
    pytest.skip("it multiplies no matrices")
  assert rounded(augment.by_name(name), jax.random.key(0), jnp.ones((2, 8, 8, 3))) == []
