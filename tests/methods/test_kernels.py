"""Kernel regression against NumPy, and the neural tangent kernel against wide networks."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax.methods.kernels import centred, half_squares, ntk, predict, regularised


def test_a_set_predicts_its_own_labels():
  rng = np.random.default_rng(0)
  features = jnp.asarray(rng.standard_normal((12, 40)), jnp.float32)
  targets = jnp.asarray(rng.standard_normal((12, 3)), jnp.float32)
  kernel = features @ features.T
  np.testing.assert_allclose(predict(kernel, kernel, targets, 1e-7), targets, atol=1e-4)


def test_prediction_is_that_of_numpy():
  rng = np.random.default_rng(1)
  ours, theirs = rng.standard_normal((5, 9)), rng.standard_normal((7, 9))
  targets = rng.standard_normal((5, 4))
  kernel = ours @ ours.T
  full = kernel + 0.2 * np.trace(kernel) / 5 * np.eye(5)
  np.testing.assert_allclose(regularised(jnp.float32(kernel), 0.2), full, rtol=1e-5)
  expected = theirs @ ours.T @ np.linalg.solve(full, targets)
  arrays = (jnp.float32(each) for each in (kernel, theirs @ ours.T, targets))
  np.testing.assert_allclose(predict(*arrays, 0.2), expected, rtol=1e-3, atol=1e-4)


def test_labels_and_their_loss():
  labels = centred(jnp.int32([2, 0]), 4)
  np.testing.assert_allclose(labels, [[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]])
  assert float(half_squares(labels, jnp.zeros((2, 4)))) == pytest.approx(0.375)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_kernel_is_that_of_wide_networks(depth):
  rng = np.random.default_rng(2)
  images = jnp.asarray(rng.standard_normal((4, 3, 2, 1)), jnp.float32)
  width, weight, bias = 1024, 1.4, 0.3

  def network(params, flat):
    for layer, (w, b) in enumerate(params):
      flat = weight * flat @ w / np.float32(w.shape[0] ** 0.5) + bias * b
      flat = jax.nn.relu(flat) if layer < depth else flat
    return flat[0]

  @jax.jit
  def empirical(key):
    sizes = [6] + [width] * depth + [1]
    keys = jax.random.split(key, 2 * len(sizes))
    params = [
      (jax.random.normal(keys[2 * i], (m, n)), jax.random.normal(keys[2 * i + 1], (n,)))
      for i, (m, n) in enumerate(pairwise(sizes))
    ]
    slopes = jax.vmap(jax.grad(network), (None, 0))(params, images.reshape(4, -1))
    rows = jnp.concatenate([leaf.reshape(4, -1) for leaf in jax.tree.leaves(slopes)], axis=1)
    return rows @ rows.T

  found = ntk(images, images, depth=depth, weight=weight, bias=bias)
  expected = np.mean([empirical(jax.random.key(seed)) for seed in range(4)], axis=0)
  np.testing.assert_allclose(found, expected, rtol=0.08)
  np.testing.assert_allclose(found, found.T, rtol=1e-5)
  assert np.linalg.eigvalsh(np.asarray(found)).min() > 0


def test_the_derivative_is_finite_where_images_are_the_same():
  images = jnp.ones((3, 2, 2, 1))

  def trace(images):
    return ntk(images, images, depth=1, weight=1.4, bias=0.1).sum()

  assert np.isfinite(jax.grad(trace)(images)).all()
