"""ConvNet: D blocks of convolution, norm, activation and pooling, then one linear layer."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from absl import logging

from dcjax.common.errors import UserError, check_most, check_name
from dcjax.common.types import Array
from dcjax.nn import layers
from dcjax.nn.definition import BLOCKS, Definition

KERNEL = 3
DEEPEST = 100  # blocks
PARTS = 8  # in which the first block runs at the most, as each of them is compiled


class ConvNet(nn.Module):
  """`[W, N, A, P] x D` of DC, section 3.1; the features are the flattened last block.

  Called on normalised images `[N, H, W, C]` it returns logits `[N, classes]` and features
  `[N, H' * W' * width]`.
  """

  num_classes: int
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
    self.sow(*BLOCKS, images)
    for _ in range(1, self.depth):
      images = self._block(padding=1)(images)
      self.sow(*BLOCKS, images)
    features = images.reshape(images.shape[0], -1)
    return layers.Linear(self.num_classes, self.initializer)(features), features

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


def check(
  *,
  image_shape: tuple[int, int, int],
  width: int,
  depth: int,
  norm: str,
  activation: str,
  pooling: str,
  **_: Any,
) -> None:
  """Refuses what cannot be built, and warns of what cannot learn."""
  check_name("network.activation", activation, layers.ACTIVATIONS)
  check_name("network.pooling", pooling, layers.POOLINGS)
  if width < 1 or depth < 1:
    raise UserError(f"network: width {width} and depth {depth} must be at least 1")
  check_most("network.width", width, layers.WIDEST)
  check_most("network.depth", depth, DEEPEST)
  if norm == "group" and width % layers.GROUPS:
    raise UserError(f"network.width: {width} is not a multiple of the {layers.GROUPS} groups")
  side = min(image_shape[:2]) + 2 * layers.first_padding(image_shape[0], 0)
  halvings = 0 if pooling == "none" else depth
  if side < 2**halvings:
    raise UserError(
      f"network.depth: {depth} is too deep for images of {image_shape[0]}x{image_shape[1]} "
      f"pixels, which {pooling} pooling halves at each block; "
      + (f"use at most {side.bit_length() - 1}" if side > 1 else "use network.name=mlp")
    )
  last = side if pooling == "none" else side >> (depth - 1)
  if norm == "instance" and last <= 2:
    logging.warning(
      "network.depth: at depth %d the last instance norm sees only %dx%d pixels and leaves "
      "almost nothing to learn from; a smaller depth is better",
      depth, last, last,
    )  # fmt: skip


DEFINITION = Definition(ConvNet, check=check, blocks=True)
