"""EfficientNet-B0: inverted bottlenecks of depthwise convolutions with squeeze and excitation."""

from functools import partial

import flax.linen as nn

from dcjax.common.types import Array
from dcjax.nn import layers
from dcjax.nn.definition import Definition

STEM, HEAD = 32, 1280  # filters
# Expansion, kernel, filters and blocks of each stage (Tan and Le, 2019, Table 1).
STAGES = (
  (1, 3, 16, 1),
  (6, 3, 24, 2),
  (6, 5, 40, 2),
  (6, 3, 80, 3),
  (6, 5, 112, 3),
  (6, 5, 192, 4),
  (6, 3, 320, 1),
)
# Of the stem and of the first block of each stage.
STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)
SMALL_STRIDES = (1, 1, 1, 2, 2, 1, 2, 1)
# In training (section 5), of features before the last layer, and of what a block adds to its
# images: from none of the first block it grows evenly, up to but not including this
DROPOUT, DROP_CONNECT = 0.2, 0.2
EPSILON = 1e-3  # added to the variance in every norm (authors' code)


class MBConv(nn.Module):
  """Widens the images, filters each channel, gates it and narrows them to `[N, H', W', filters]`.

  Where the shape stays the same there is a shortcut, and what the block adds to it is dropped from
  a share of the images in training.
  """

  filters: int
  expansion: int  # of the channels
  size: int
  stride: int
  dropped: float  # share
  norm: str
  initializer: str
  convolution: str

  @nn.compact
  def __call__(self, images: Array) -> Array:
    channels, outputs = images.shape[-1], images
    if self.expansion > 1:
      outputs = nn.swish(self._convolve_norm(outputs, self.expansion * channels))
    outputs = layers.DepthwiseConvolution(self.size, self.initializer, self.stride)(outputs)
    outputs = nn.swish(layers.Norm(self.norm, EPSILON)(outputs))
    outputs = self._convolve_norm(outputs * self._gates(outputs, channels // 4), self.filters)
    if outputs.shape != images.shape:
      return outputs
    return layers.Dropout(self.dropped, whole=True)(outputs) + images

  def _convolve_norm(self, images: Array, filters: int) -> Array:
    convolve = layers.Convolution(filters, 1, 0, self.convolution, self.initializer, bias=False)
    return layers.Norm(self.norm, EPSILON)(convolve(images))

  def _gates(self, images: Array, units: int) -> Array:
    """Squeeze and excitation (Hu et al., 2018): `[N, 1, 1, C]` in (0, 1)."""
    means = nn.swish(layers.Linear(units, self.initializer)(images.mean((1, 2))))
    return nn.sigmoid(layers.Linear(images.shape[-1], self.initializer)(means))[:, None, None]


class EfficientNetB0(nn.Module):
  """Images `[N, H, W, C]` to logits `[N, classes]` and features `[N, 1280]`.

  Tan and Le (2019), with dropout and stochastic depth in training. Images of `LARGE_SIDE` pixels
  or more are halved five times. The first two of these strides are 1 for small images, which so
  keep an eighth of their sides, as in the other deep networks: the last norms need pixels to take
  moments of. The features are the mean of the last feature map.
  """

  num_classes: int
  norm: str
  initializer: str
  convolution: str

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    convolve = partial(
      layers.Convolution, convolution=self.convolution, initializer=self.initializer, bias=False
    )
    stem, *strides = STRIDES if layers.large(images) else SMALL_STRIDES
    images = convolve(STEM, 3, 1, stride=stem)(images)
    images = nn.swish(layers.Norm(self.norm, EPSILON)(images))
    number, count = 0, sum(blocks for *_, blocks in STAGES)
    for (expansion, size, filters, blocks), first in zip(STAGES, strides, strict=True):
      for stride in (first, *(1,) * (blocks - 1)):
        dropped = DROP_CONNECT * number / count
        images = MBConv(
          filters, expansion, size, stride, dropped, self.norm, self.initializer, self.convolution
        )(images)
        number += 1
    images = nn.swish(layers.Norm(self.norm, EPSILON)(convolve(HEAD, 1, 0)(images)))
    features = images.mean((1, 2))
    kept = layers.Dropout(DROPOUT)(features)
    return layers.Linear(self.num_classes, self.initializer)(kept), features


# Below this the last stages have nothing left to halve
DEFINITION = Definition(EfficientNetB0, smallest_side=8, dropout=True)
