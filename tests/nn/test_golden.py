"""Networks, gradients and distances against the numbers of the authors' PyTorch code."""

import jax
import numpy as np
import optax
import pytest

from dcjax import matching
from dcjax.nn import layers
from tests.golden import NETWORKS, Golden

TOLERANCE = 1e-3  # relative to the largest number of an array, in float32

pytestmark = pytest.mark.golden


def assert_close(actual, expected, tolerance=TOLERANCE):
  np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


def class_loss(network, params, images, label):
  logits, _ = network.apply(params, images)
  labels = np.full(len(images), label)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def gradient(case, params, images):
  return jax.grad(class_loss, argnums=1)(case.network, params, images, case.label)


@pytest.fixture(params=NETWORKS)
def name(request):
  return request.param


@pytest.fixture(params=layers.CONVOLUTIONS)
def convolution(request):
  return request.param


def test_logits_features_and_loss(shared, name, convolution):
  case = Golden(shared / "golden", name, convolution=convolution)
  logits, features = case.network.apply(case.params, case.real)
  assert_close(logits, case.arrays["logits_real"])
  assert_close(
    class_loss(case.network, case.params, case.real, case.label), case.arrays["loss_real"]
  )
  if "features_real" in case.arrays:
    assert_close(features, case.features())


def test_parameter_gradients(shared, convolution):
  case = Golden(shared / "golden", "convnet_mnist", convolution=convolution)
  expected = case.tree("grad_real")
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
  for ours, theirs in zip(
    jax.tree.leaves(gradient(case, case.params, case.real)),
    jax.tree.leaves(expected),
    strict=True,
  ):
    # A bias before an instance norm has the gradient zero, so scale by the largest of all.
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * largest, rtol=0)


@pytest.mark.parametrize("metric", matching.DISTANCES)
def test_distance_and_image_gradient(shared, name, convolution, metric):
  case = Golden(shared / "golden", name, convolution=convolution)
  real = gradient(case, case.params, case.real)

  def distance(images):
    return matching.DISTANCES[metric](gradient(case, case.params, images), real)

  value, image_gradient = jax.jit(jax.value_and_grad(distance))(case.synthetic)
  assert_close(value, case.arrays[f"distance_{metric}"])
  assert_close(image_gradient, case.images(f"image_gradient_{metric}"))
