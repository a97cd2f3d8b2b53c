"""MLP: two hidden layers of 128 units (DC, section 3.1)."""

import flax.linen as nn

from dcjax.common.types import Array
from dcjax.nn import layers
from dcjax.nn.definition import Definition


class MLP(nn.Module):
  """Images `[N, H, W, C]` to logits `[N, classes]` and features `[N, 128]`."""

  num_classes: int
  initializer: str
  units: int = 128

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    features = images.reshape(images.shape[0], -1)
    for _ in range(2):
      features = nn.relu(layers.Linear(self.units, self.initializer)(features))
    return layers.Linear(self.num_classes, self.initializer)(features), features


DEFINITION = Definition(MLP)
