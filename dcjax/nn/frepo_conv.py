"""FRePo's ConvNet (Zhou et al., NeurIPS 2022): each block has twice the filters of the last."""

from typing import Any

import flax.linen as nn

from dcjax.common.errors import UserError
from dcjax.common.types import Array
from dcjax.nn import convnet, layers
from dcjax.nn.definition import Definition

NORMS = ("none", "batch", "layer", "instance")


class FRePoConv(nn.Module):
  """Blocks of norm, convolution, activation and pooling, of which the first has no norm.

  Called on normalised images `[N, H, W, C]` it returns logits `[N, classes]` and features, the
  flattened last block.
  """

  num_classes: int
  width: int
  depth: int
  norm: str
  activation: str
  pooling: str
  initializer: str
  convolution: str

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    padding = layers.first_padding(images.shape[1], 1)
    for block in range(self.depth):
      if block:
        images = layers.Norm(self.norm)(images)
      filters = self.width << block
      images = layers.Convolution(
        filters, convnet.KERNEL, padding, self.convolution, self.initializer
      )(images)
      images = layers.POOLINGS[self.pooling](layers.ACTIVATIONS[self.activation](images))
      padding = 1
    features = images.reshape(images.shape[0], -1)
    return layers.Linear(self.num_classes, self.initializer)(features), features


def _check(*, width: int, depth: int, norm: str, **others: Any) -> None:
  if norm not in NORMS:
    raise UserError(f"network.norm: frepo_conv has no {norm} norm; take one of {', '.join(NORMS)}")
  convnet.check(width=width, depth=depth, norm="none", **others)
  if width << (depth - 1) > layers.WIDEST:
    raise UserError(
      f"network.width: {width} filters become {width << (depth - 1)} in {depth} blocks; at most "
      f"{layers.WIDEST}"
    )


DEFINITION = Definition(FRePoConv, norm="batch", check=_check)
