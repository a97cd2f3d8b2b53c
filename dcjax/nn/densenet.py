"""DenseNet121: four stages whose layers see the outputs of all layers before them."""

import flax.linen as nn
import jax.numpy as jnp

from dcjax.common.types import Array
from dcjax.nn import layers
from dcjax.nn.definition import Definition

STAGES = (6, 12, 24, 16)  # layers of each; every stage but the first halves the sides
GROWTH, LITTLE_GROWTH = 32, 12  # filters that a layer adds


class DenseNet121(nn.Module):
  """Images `[N, H, W, C]` to logits `[N, classes]` and features `[N, 32 growth]`.

  Huang et al. (2017), DenseNet-BC with compression 0.5. The stem of small images is one 3x3
  convolution, as the paper has it for CIFAR; images of `LARGE_SIDE` pixels or more have the
  paper's for ImageNet, which brings the sides to a quarter. The features are the mean of the last
  feature map.
  """

  num_classes: int
  norm: str
  initializer: str
  convolution: str
  # Filters that a layer adds; None: 32, and 12 for images of up to `TINY_SIDE` pixels (IDC's
  # authors' code)
  growth: int | None = None

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    growth = self.growth or (LITTLE_GROWTH if layers.tiny(images) else GROWTH)
    images = self._stem(images, 2 * growth)
    for stage, count in enumerate(STAGES):
      if stage:
        images = self._norm_relu(images)
        images = layers.average_pool(self._convolve(images, images.shape[-1] // 2, 1))
      for _ in range(count):
        new = self._convolve(self._norm_relu(images), 4 * growth, 1)
        new = self._convolve(self._norm_relu(new), growth, 3)
        images = jnp.concatenate([images, new], axis=-1)
    features = self._norm_relu(images).mean((1, 2))
    return layers.Linear(self.num_classes, self.initializer)(features), features

  def _stem(self, images: Array, filters: int) -> Array:
    if not layers.large(images):
      return self._convolve(images, filters, 3)
    images = self._norm_relu(self._convolve(images, filters, 7, stride=2))
    return layers.overlapping_max_pool(images)

  def _convolve(self, images: Array, filters: int, size: int, stride: int = 1) -> Array:
    return layers.Convolution(
      filters, size, size // 2, self.convolution, self.initializer, stride, bias=False
    )(images)

  def _norm_relu(self, images: Array) -> Array:
    return nn.relu(layers.Norm(self.norm)(images))


# Below this the last stage has nothing left to halve
DEFINITION = Definition(
  DenseNet121,
  smallest_side=8,
  check=layers.check_filters("growth"),
  earlier={"growth": GROWTH},
)
