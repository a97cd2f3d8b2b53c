"""ConvNet: D blocks of convolution, norm, activation and pooling, then one linear layer."""

import flax.linen as nn

from dcjax.nn import layers
from dcjax.types import Array

KERNEL = 3


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

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    padding = layers.first_padding(images.shape[1], 1)
    for _ in range(self.depth):
      images = layers.Convolution(self.width, KERNEL, padding, self.convolution, self.initializer)(
        images
      )
      images = layers.Norm(self.norm)(images)
      images = layers.ACTIVATIONS[self.activation](images)
      images = layers.POOLINGS[self.pooling](images)
      padding = 1
    features = images.reshape(images.shape[0], -1)
    return layers.Linear(self.classes, self.initializer)(features), features
