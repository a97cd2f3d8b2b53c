"""Distances of gradients against loops over output units, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import nn
from dcjax.methods import distances
from dcjax.methods.distances import DISTANCES
from dcjax.nn import training

EPSILON = 1e-6


def tree(seed):
  """A gradient as Flax lays it out: a convolution, a layer norm, a linear layer, 1-d leaves."""
  rng = np.random.default_rng(seed)
  shapes = {
    "convolution": {"kernel": (3, 3, 2, 4), "bias": (4,)},
    "norm": {"scale": (2, 3, 4), "bias": (2, 3, 4)},
    "linear": {"kernel": (6, 5), "bias": (5,)},
  }
  draw = lambda shape: np.float32(rng.standard_normal(shape))  # noqa: E731
  return jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple))


def in_one_vector(gradient):
  return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])


def by_units(a, b):
  """Equation 10 as the paper writes it, with out as the last axis."""
  total = 0.0
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if x.ndim < 2:
      continue
    for unit in range(x.shape[-1]):
      u, v = x[..., unit].ravel(), y[..., unit].ravel()
      total += 1 - u @ v / (np.linalg.norm(u) * np.linalg.norm(v) + EPSILON)
  return total


def test_layerwise_equals_a_loop_over_output_units():
  a, b = tree(0), tree(1)
  np.testing.assert_allclose(distances.layerwise(a, b), by_units(a, b), rtol=1e-5)


def test_layerwise_does_not_see_parameters_of_one_dimension():
  a, b = tree(0), tree(1)
  changed = jax.tree.map(lambda leaf: -7 * leaf if leaf.ndim == 1 else leaf, b)
  assert distances.layerwise(a, b) == distances.layerwise(a, changed)
  assert distances.layerwise({"bias": a["linear"]["bias"]}, {"bias": b["linear"]["bias"]}) == 0


def test_layerwise_does_not_see_the_length_of_a_unit():
  a, b = tree(0), tree(1)
  scales = np.float32([0.5, 2, 3, 10])
  longer = jax.tree.map(lambda leaf: leaf * scales if leaf.shape[-1] == 4 else leaf, b)
  np.testing.assert_allclose(distances.layerwise(a, longer), distances.layerwise(a, b), rtol=1e-5)


def test_the_ends_of_layerwise():
  a, units = tree(0), 4 + 2 * 4 + 5
  opposite = jax.tree.map(jnp.negative, a)
  np.testing.assert_allclose(distances.layerwise(a, a), 0, atol=1e-5)
  np.testing.assert_allclose(distances.layerwise(a, opposite), 2 * units, rtol=1e-5)


def test_euclidean_is_the_squared_distance_of_all_parameters():
  a, b = tree(0), tree(1)
  expected = ((in_one_vector(a) - in_one_vector(b)) ** 2).sum()
  np.testing.assert_allclose(distances.euclidean(a, b), expected, rtol=1e-5)


def test_cosine_is_that_of_all_parameters():
  x, y = in_one_vector(tree(0)), in_one_vector(tree(1))
  expected = 1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + EPSILON)
  np.testing.assert_allclose(distances.cosine(tree(0), tree(1)), expected, rtol=1e-5)


# --- Derivatives ---------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [distances.layerwise, distances.cosine])
@pytest.mark.parametrize("dead", ["ours", "theirs", "both"])
def test_a_zero_gradient_is_far_and_has_a_finite_derivative(distance, dead):
  kernels = {
    "ours": jnp.ones((3, 2)).at[:, 0].set(0 if dead != "theirs" else 1),
    "theirs": jnp.ones((3, 2)).at[:, 0].set(0 if dead != "ours" else 1),
  }
  value, gradient = jax.value_and_grad(distance)(kernels["ours"], kernels["theirs"])
  assert np.isfinite(value) and np.isfinite(gradient).all()
  if distance is distances.layerwise:
    np.testing.assert_allclose(value, 1, atol=1e-5)  # the dead unit's, the other one matches


def image_distances(network, params, real):
  """DC's objective, by each distance: `[distances]`, as a function of the synthetic images."""

  def class_gradient(images):
    n = images.shape[0]
    weights = jnp.full(n, 1 / n)
    return training.gradient(network, params, images, jnp.full(n, 1), weights, block=n)

  def distances(images):
    ours, theirs = class_gradient(images), class_gradient(real)
    return jnp.stack([distance(ours, theirs) for distance in DISTANCES.values()])

  return distances


def quick_jit(function):
  """Compiles a program that runs once, and need not be fast."""
  return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def test_dead_units_give_a_finite_image_gradient():
  network = nn.create("convnet", (8, 8, 1), 3, width=4, depth=1)
  params = jax.jit(network.init)(jax.random.key(0))
  params["Norm_0"]["bias"] = jnp.array([-100.0, 0, 0, 0])  # its ReLU is shut for good
  real, synthetic = jax.random.normal(jax.random.key(1), (2, 3, 8, 8, 1))
  gradients = quick_jit(jax.jacrev(image_distances(network, params, real)))(synthetic)
  assert np.isfinite(gradients).all() and np.abs(gradients).max((1, 2, 3, 4)).all()


@pytest.fixture(scope="module")
def slopes():
  """Derivatives along some directions, `[distances, directions]`: by JAX, by differences."""
  step, directions = 1e-4, 6
  options = {"width": 4, "depth": 2, "activation": "swish"}  # smooth, as is average pooling
  network = nn.create("convnet", (8, 8, 1), 3, **options)
  params = jax.jit(network.init)(jax.random.key(0))
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    synthetic, real = jnp.array(rng.standard_normal((2, 2, 8, 8, 1)))
    along = jnp.array(rng.standard_normal((directions, *synthetic.shape)))
    distances = image_distances(network, params, real)
    gradients = quick_jit(jax.jacrev(distances))(synthetic)
    around = quick_jit(lambda signed: jax.lax.map(lambda d: distances(synthetic + d), signed))
    ahead, behind = around(step * along), around(-step * along)
    return jnp.einsum("dnhwc,mnhwc->md", along, gradients), (ahead - behind).T / (2 * step)


@pytest.mark.parametrize("metric", DISTANCES)
def test_the_image_gradient_equals_finite_differences(slopes, metric):
  actual, expected = (slope[list(DISTANCES).index(metric)] for slope in slopes)
  assert actual.dtype == np.float64 and np.abs(actual).min() > 0
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
