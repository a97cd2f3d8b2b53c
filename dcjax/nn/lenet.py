"""LeNet: two 5x5 convolutions of 6 and 16 filters, linear layers of 120 and 84 units."""

import flax.linen as nn

from dcjax.common.types import Array
from dcjax.nn import layers
from dcjax.nn.definition import Definition

KERNEL = 5


class LeNet(nn.Module):
  """Images `[N, H, W, C]` to logits `[N, classes]` and features `[N, 84]` (LeCun et al., 1998).

  With ReLU and max pooling, as DC uses it (section 3.1).
  """

  num_classes: int
  initializer: str
  convolution: str

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    padding = layers.first_padding(images.shape[1], 0)
    for filters in (6, 16):
      images = layers.Convolution(filters, KERNEL, padding, self.convolution, self.initializer)(
        images
      )
      images = layers.max_pool(nn.relu(images))
      padding = 0
    features = images.reshape(images.shape[0], -1)
    for units in (120, 84):
      features = nn.relu(layers.Linear(units, self.initializer)(features))
    return layers.Linear(self.num_classes, self.initializer)(features), features


# Below this the second pooling leaves nothing
DEFINITION = Definition(LeNet, smallest_side=16)
