"""GSAM against its formula, written out on flat vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcjax.nn import training
from dcjax.nn.gsam import gsam
from tests.networks import two_layers


def loss(params):
  return jnp.sin(params["a"]).sum() * jnp.square(params["b"]).sum() + params["b"][0] ** 3


def test_the_formula():
  params = {"a": jnp.float32([0.3, -1.2, 0.8]), "b": jnp.float32([1.5, -0.4])}
  gradient = jax.grad(loss)(params)
  found = gsam(0.2, 0.7)(jax.grad(loss), params, gradient)

  def flat(tree):
    return np.concatenate([np.float64(tree["a"]), np.float64(tree["b"])])

  p, g = flat(params), flat(gradient)
  moved = p + 0.2 * p**2 * g / np.linalg.norm(np.abs(p) * g)
  sharp = flat(jax.grad(loss)({"a": jnp.float32(moved[:3]), "b": jnp.float32(moved[3:])}))
  cosine = g @ sharp / (np.linalg.norm(g) * np.linalg.norm(sharp))
  orthogonal = g - cosine * np.linalg.norm(g) * sharp / np.linalg.norm(sharp)
  np.testing.assert_allclose(flat(found), sharp - 0.7 * orthogonal, rtol=1e-4)
  assert orthogonal @ sharp == pytest.approx(0, abs=1e-5)


def test_without_radius_and_share_it_is_plain_sgd_bit_for_bit():
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.standard_normal((20, 8, 8, 1)), jnp.float32)
  labels = jnp.asarray(rng.integers(0, 10, 20), jnp.int32)
  params, rate = two_layers().init(jax.random.key(1)), optax.sgd(0.1)

  def after(**more):
    learner = training.Learner(two_layers(), rate, training.Batching(6, 4), **more)
    carry = params, rate.init(params)
    return jax.jit(lambda c: training.epoch(learner, c, images, labels, jax.random.key(2)))(carry)

  plain, refined, other = after(), after(refine=gsam(0.0, 0.0)), after(refine=gsam(0.1, 0.3))
  jax.tree.map(np.testing.assert_array_equal, plain, refined)
  assert (plain[0][0] != other[0][0]).any()


def test_zeros_stay_finite():
  zeros = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
  found = gsam(0.1, 0.3)(lambda params: zeros, zeros, zeros)
  jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), found)
