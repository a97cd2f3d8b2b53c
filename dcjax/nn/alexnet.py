"""AlexNet for small images: five convolutions, three poolings, one linear layer."""

import flax.linen as nn

from dcjax.common.types import Array
from dcjax.nn import layers
from dcjax.nn.definition import Definition

# Filters, kernel, and whether a pooling follows.
BLOCKS = ((128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True))


class AlexNet(nn.Module):
  """Images `[N, H, W, C]` to logits `[N, classes]` and features `[N, (H / 8) (W / 8) 192]`.

  Krizhevsky et al. (2012) as the authors of DC cut it down to 32x32 pixels, without norms; DM's
  variant has batch norm after each convolution.
  """

  num_classes: int
  norm: str
  initializer: str
  convolution: str

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    padding = layers.first_padding(images.shape[1], 2)
    for filters, size, pooled in BLOCKS:
      images = layers.Convolution(filters, size, padding, self.convolution, self.initializer)(
        images
      )
      images = nn.relu(layers.Norm(self.norm)(images))
      images = layers.max_pool(images) if pooled else images
      padding = 2 if filters == 128 else 1
    features = images.reshape(images.shape[0], -1)
    return layers.Linear(self.num_classes, self.initializer)(features), features


# Below this the third pooling leaves nothing
DEFINITION = Definition(AlexNet, smallest_side=8, norm="none")
