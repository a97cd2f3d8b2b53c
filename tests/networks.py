"""A network for tests of what is done with networks."""

import jax
import jax.numpy as jnp

from dcjax import nn


def two_layers() -> nn.Network:
  """For the digits; quick to compile, with second derivatives that are not zero."""

  def apply(params, images, stats=None):
    features = jnp.tanh(images.reshape(images.shape[0], -1) @ params[0])
    return features @ params[1], features

  def init(key):
    shapes = (64, 8), (8, 10)
    return [0.3 * jax.random.normal(key, shape) for shape in shapes]

  return nn.Network(init, apply, lambda params, images: {}, batch_norm=False)
