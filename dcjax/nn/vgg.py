"""VGG11 for small images: eight convolutions, five poolings, one linear layer."""

import flax.linen as nn

from dcjax.common.types import Array
from dcjax.nn import layers
from dcjax.nn.convnet import KERNEL
from dcjax.nn.definition import Definition

# Filters of the convolutions of each stage; a pooling ends it.
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11(nn.Module):
  """Images `[N, H, W, C]` to logits `[N, classes]` and features `[N, (H / 32) (W / 32) 512]`.

  Simonyan and Zisserman (2015), with a norm after each convolution and one linear layer, as DC
  uses it (section 3.1).
  """

  num_classes: int
  norm: str
  initializer: str
  convolution: str

  @nn.compact
  def __call__(self, images: Array) -> tuple[Array, Array]:
    padding = layers.first_padding(images.shape[1], 1)
    for stage in STAGES:
      for filters in stage:
        images = layers.Convolution(filters, KERNEL, padding, self.convolution, self.initializer)(
          images
        )
        images = nn.relu(layers.Norm(self.norm)(images))
        padding = 1
      images = layers.max_pool(images)
    features = images.reshape(images.shape[0], -1)
    return layers.Linear(self.num_classes, self.initializer)(features), features


# Below this the fifth pooling leaves nothing; images of 28 are padded to it
DEFINITION = Definition(VGG11, smallest_side=32)
