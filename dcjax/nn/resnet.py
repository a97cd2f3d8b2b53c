"""ResNet18 for small images, and its variant that pools where the other strides."""

import flax.linen as nn

from dcjax.nn import layers
from dcjax.types import Array

STAGES = (64, 128, 256, 512)  # filters; every stage but the first halves the sides
BLOCKS = 2  # of each stage
SMALLEST_SIDE = 8  # below this the last stage has nothing left to halve


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


class ResNet18(nn.Module):
  """Images `[N, H, W, C]` to logits `[N, classes]` and features.

  He et al. (2016) with a 3x3 stem and no max pooling, as the authors of DC have it. The features
  are the mean of the last feature map, `[N, 512]`, or, with `average`, all of it (IDC and DM call
  that variant ResNetAP; DM, supplement, section 1.1).
  """

  classes: int
  norm: str
  average: bool
  initializer: str
  convolution: str

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    images = layers.Convolution(
      STAGES[0], 3, 1, self.convolution, self.initializer, stride=1, bias=False
    )(images)
    images = nn.relu(layers.Norm(self.norm)(images))
    for filters in STAGES:
      for block in range(BLOCKS):
        halve = filters != STAGES[0] and block == 0
        images = Block(filters, halve, self.norm, self.average, self.initializer, self.convolution)(
          images
        )
    features = images.reshape(images.shape[0], -1) if self.average else images.mean((1, 2))
    return layers.Linear(self.classes, self.initializer)(features), features
