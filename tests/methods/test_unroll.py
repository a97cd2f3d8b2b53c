"""Steps that a gradient goes through: the same in segments of any length, with less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax.methods.unroll import PLENTY, kept, segment_for, unroll

SIZE = 64


def loss(weights, count, segment):
  """Of a long vector that every step changes."""

  def step(theta, number):
    return jnp.tanh(theta * weights + number.astype(jnp.float32) / 10)

  return unroll(step, jnp.ones(SIZE, jnp.float32), count, segment).sum()


@pytest.mark.parametrize("segment", [2, 3, 7, 9])
def test_segments_change_nothing(segment):
  weights = jnp.linspace(0.5, 1.5, SIZE, dtype=jnp.float32)
  value, gradient = jax.jit(jax.value_and_grad(lambda w: loss(w, 7, segment)))(weights)
  expected = jax.jit(jax.value_and_grad(lambda w: loss(w, 7, 1)))(weights)
  theta = np.ones(SIZE)
  for number in range(7):
    theta = np.tanh(theta * np.asarray(weights) + number / 10)
  np.testing.assert_allclose(value, theta.sum(), rtol=1e-5)
  np.testing.assert_allclose(expected[0], value, rtol=1e-6)
  np.testing.assert_allclose(expected[1], gradient, rtol=1e-5)


def test_memory_grows_by_the_networks_that_are_kept():
  def temporaries(count, segment):
    gradient = jax.jit(jax.grad(lambda w: loss(w, count, segment)))
    compiled = gradient.lower(jax.ShapeDtypeStruct((SIZE,), jnp.float32)).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  step = (temporaries(900, 1) - temporaries(100, 1)) / 800
  assert step == pytest.approx(4 * SIZE, rel=0.1)
  assert (temporaries(900, 30) - temporaries(100, 10)) / 800 < 0.2 * step


def test_how_many_are_kept():
  assert (kept(60, 1), kept(60, 7), kept(10, 3)) == (60, 16, 7)
  assert segment_for(60, PLENTY // 60) == 1 and segment_for(60, PLENTY) == 7
