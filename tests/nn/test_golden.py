"""Networks, gradients and distances against the numbers of the authors' PyTorch code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcjax.methods import distances
from tests.golden import NETWORKS, Golden

TOLERANCE = 1e-3  # relative to the largest number of an array, in float32
# Compiling is what takes the time: each program runs at most three times.
METRICS = ("ours", "mse", "cos")  # that the files have
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
CASES = [(name, "winograd") for name in NETWORKS] + [
  (name, convolution)
  for name in ("convnet_mnist", "lenet_cifar")
  for convolution in ("patches", "lax")
]
WITH_GRADIENTS = [case for case in CASES if case[0] == "convnet_mnist"]

pytestmark = pytest.mark.golden


def assert_close(actual, expected, tolerance=TOLERANCE):
  np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


def class_loss(network, params, images, label):
  logits, features = network.apply(params, images)
  labels = np.full(len(images), label)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return losses.mean(), (logits, features)


class Compiled:
  """One file's network with what the tests ask of it, each compiled once."""

  def __init__(self, folder, name, convolution):
    case = Golden(folder, name, convolution=convolution)
    loss = jax.value_and_grad(
      lambda params, images: class_loss(case.network, params, images, case.label), has_aux=True
    )

    def chosen_distance(images, real, chosen):
      ours = loss(case.params, images)[1]
      found = [distances.DISTANCES[name](ours, real) for name in METRICS]
      return jnp.stack(found) @ chosen

    self.case = case
    (self.loss, (self.logits, self.features)), self.gradient = jax.jit(
      loss, compiler_options=QUICK
    )(case.params, case.real)
    self._distance = jax.jit(jax.value_and_grad(chosen_distance), compiler_options=QUICK)

  def distance(self, metric):
    """A distance and its image gradient; one program serves all of them."""
    chosen = np.array([name == metric for name in METRICS], np.float32)
    return self._distance(self.case.synthetic, self.gradient, chosen)


cached = functools.cache(Compiled)


@pytest.fixture(params=CASES, ids="-".join)
def compiled(shared, request):
  return cached(shared / "golden", *request.param)


def test_logits_features_and_loss(compiled):
  arrays = compiled.case.arrays
  assert_close(compiled.logits, arrays["logits_real"])
  assert_close(compiled.loss, arrays["loss_real"])
  if "features_real" in arrays:
    assert_close(compiled.features, compiled.case.features())


@pytest.mark.parametrize("compiled", WITH_GRADIENTS, indirect=True, ids="-".join)
def test_parameter_gradients(compiled):
  expected = compiled.case.tree("grad_real")
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
  for ours, theirs in zip(
    jax.tree.leaves(compiled.gradient), jax.tree.leaves(expected), strict=True
  ):
    # A bias before an instance norm has the gradient zero, so scale by the largest of all.
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * largest, rtol=0)


@pytest.mark.parametrize("metric", METRICS)
def test_distance_and_image_gradient(compiled, metric):
  value, image_gradient = compiled.distance(metric)
  assert_close(value, compiled.case.arrays[f"distance_{metric}"])
  assert_close(image_gradient, compiled.case.images(f"image_gradient_{metric}"))
