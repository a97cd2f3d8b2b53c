"""ConvNet: D blocks of convolution, norm, activation and pooling, then one linear layer."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from dcjax.common.types import Array
from dcjax.nn import layers

KERNEL = 3
PARTS = 8  # in which the first block runs at the most, as each of them is compiled


class ConvNet(nn.Module):
  """`[W, N, A, P] x D` of DC, section 3.1; the features are the flattened last block.

  Called on normalised images `[N, H, W, C]` it returns logits `[N, classes]` and features
  `[N, H' * W' * width]`.
  """

  classes: int
  width: int
  depth: int
  norm: str
  activation: str
  pooling: str
  initializer: str
  convolution: str
  first_block: int

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    whole = self.norm == "batch" or not self.first_block
    parts = 1 if whole else min(-(-images.shape[0] // self.first_block), PARTS)
    images = _in_parts(self._block(layers.first_padding(images.shape[1], 1)), images, parts)
    for _ in range(1, self.depth):
      images = self._block(padding=1)(images)
    features = images.reshape(images.shape[0], -1)
    return layers.Linear(self.classes, self.initializer)(features), features

  def _block(self, padding: int) -> Callable[[Array], Array]:
    convolution = layers.Convolution(
      self.width, KERNEL, padding, self.convolution, self.initializer
    )
    norm, activation = layers.Norm(self.norm), layers.ACTIVATIONS[self.activation]
    return lambda images: layers.POOLINGS[self.pooling](activation(norm(convolution(images))))


def _in_parts(function: Callable[[Array], Array], images: Array, parts: int) -> Array:
  """What a function of images gives, from so many parts of them that are as even as they can be.

  The activations of a part may fit a cache that those of all images do not.
  """
  if parts == 1:
    return function(images)
  return jnp.concatenate([function(part) for part in jnp.array_split(images, parts)])
