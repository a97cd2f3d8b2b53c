"""The deep networks at work: second derivatives, and statistics of every batch norm."""

import jax
import numpy as np
import pytest

from dcjax import nn
from dcjax.nn import densenet, efficientnet, layers, resnet

NAMES = ("resnet10", "resnet10_ap", "densenet121", "efficientnet_b0")
SIDE = 16
# Compiling is what takes the time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(autouse=True)
def _few_layers_and_a_reducing_stem(monkeypatch):
  """Cuts the networks to what compiles soon, in the form that they have for large images."""
  monkeypatch.setattr(layers, "LARGE_SIDE", SIDE)
  monkeypatch.setattr(resnet, "STAGES", (1, 2))
  monkeypatch.setattr(resnet, "FEW_FILTERS", 8)
  monkeypatch.setattr(densenet, "STAGES", (1, 1))
  monkeypatch.setattr(efficientnet, "STAGES", ((6, 3, 32, 1),))
  monkeypatch.setattr(efficientnet, "STRIDES", (2, 1))


def compiled(function, *arguments):
  return jax.jit(function, compiler_options=QUICK)(*arguments)


def drawn(network):
  """Random parameters; the network's own `init` takes longer to compile."""
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  generator = np.random.default_rng(0)
  return jax.tree.map(lambda x: np.float32(0.3 * generator.standard_normal(x.shape)), shapes)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_are_finite(name):
  network = nn.create(name, (SIDE, SIDE, 3), 3)
  images = jax.random.normal(jax.random.key(1), (2, SIDE, SIDE, 3))

  def norm_of_gradient(images, params):
    gradient = jax.grad(lambda params: (network.apply(params, images)[0] ** 2).sum())(params)
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient))

  params = drawn(network)
  gradient = compiled(jax.grad(norm_of_gradient), images, params)
  assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_statistics_free_an_image_from_its_batch(name):
  network = nn.create(name, (SIDE, SIDE, 3), 3, norm="batch")
  images = jax.random.normal(jax.random.key(1), (4, SIDE, SIDE, 3))

  def both(params, images):
    stats = network.statistics(params, images)
    live, alone = network.apply(params, images)[0], network.apply(params, images[:2], stats)[0]
    return live[:2], alone

  live, alone = compiled(both, drawn(network), images)
  np.testing.assert_allclose(alone, live, atol=1e-4)
