"""ResNet10 and ResNet18, and their variants that pool where the others stride."""

from functools import partial

import flax.linen as nn

from dcjax.common.types import Array
from dcjax.nn import layers
from dcjax.nn.definition import Definition

# Filters of each stage, in those of the first; every stage but that one halves the sides
STAGES = (1, 2, 4, 8)
FILTERS, FEW_FILTERS = 64, 32  # of the first stage


class Block(nn.Module):
  """Two 3x3 convolutions beside a shortcut: `[N, H, W, C]` to `[N, H', W', filters]`.

  Where it halves the sides, the first convolution and the shortcut have stride 2; with `average`
  they have stride 1 and a 2x2 average pool each.
  """

  filters: int
  halve: bool
  norm: str
  average: bool
  initializer: str
  convolution: str

  @nn.compact
  def __call__(self, images: Array) -> Array:
    stride = 2 if self.halve and not self.average else 1
    pool = layers.average_pool if self.halve and self.average else lambda images: images
    outputs = self._convolve(3, stride)(images)
    outputs = pool(nn.relu(layers.Norm(self.norm)(outputs)))
    outputs = layers.Norm(self.norm)(self._convolve(3, 1)(outputs))
    if images.shape[-1] != self.filters:
      images = layers.Norm(self.norm)(pool(self._convolve(1, stride)(images)))
    return nn.relu(outputs + images)

  def _convolve(self, size: int, stride: int) -> layers.Convolution:
    return layers.Convolution(
      self.filters, size, size // 2, self.convolution, self.initializer, stride, bias=False
    )


class ResNet(nn.Module):
  """Images `[N, H, W, C]` to logits `[N, classes]` and features.

  He et al. (2016) with basic blocks: one of each stage in ResNet10, two in ResNet18. With
  `average` it is what IDC and DM call ResNetAP (DM, supplement, section 1.1). The stem of small
  images is a 3x3 convolution, as the authors of DC have it; that of images of `LARGE_SIDE` pixels
  or more is a 7x7 convolution that brings the sides to a quarter: by stride 2 and a 3x3 max pool
  or, with `average`, by a 4x4 average pool.

  The features are the mean of the last feature map, `[N, 8 filters]`, except of small images with
  `average`, where they are all of it.
  """

  num_classes: int
  blocks: int  # of each stage
  norm: str
  average: bool
  initializer: str
  convolution: str
  # Of the first stage; None: 64, and 32 of ResNet10 for images of up to `TINY_SIDE` pixels (IDC's
  # authors' code)
  filters: int | None = None

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    large = layers.large(images)
    few = self.blocks == 1 and layers.tiny(images)
    first = self.filters or (FEW_FILTERS if few else FILTERS)
    images = self._stem(images, first, large)
    for stage, times in enumerate(STAGES):
      for block in range(self.blocks):
        halve = stage > 0 and block == 0
        images = Block(
          times * first, halve, self.norm, self.average, self.initializer, self.convolution
        )(images)
    whole = self.average and not large
    features = images.reshape(images.shape[0], -1) if whole else images.mean((1, 2))
    return layers.Linear(self.num_classes, self.initializer)(features), features

  def _stem(self, images: Array, filters: int, large: bool) -> Array:
    size, stride = (7, 1 if self.average else 2) if large else (3, 1)
    images = layers.Convolution(
      filters, size, size // 2, self.convolution, self.initializer, stride, bias=False
    )(images)
    images = nn.relu(layers.Norm(self.norm)(images))
    if not large:
      return images
    if self.average:
      return layers.average_pool(layers.average_pool(images))
    return layers.overlapping_max_pool(images)


def _definition(blocks: int, average: bool) -> Definition:
  """A ResNet; below 8 pixels the last stage has nothing left to halve."""
  return Definition(
    partial(ResNet, blocks=blocks, average=average),
    smallest_side=8,
    check=layers.check_filters("filters"),
    earlier={"filters": FILTERS} if blocks == 1 else {},
  )


RESNET10, RESNET10_AP = _definition(1, average=False), _definition(1, average=True)
RESNET18, RESNET18_AP = _definition(2, average=False), _definition(2, average=True)
