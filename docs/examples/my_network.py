"""A network of one's own: two blocks of convolution, norm, ReLU and pooling, and a linear layer."""

import flax.linen as nn

from dcjax.nn.layers import Norm, average_pool


class Small(nn.Module):
  """Images `[N, H, W, C]` to logits `[N, num_classes]` and features `[N, (H W / 16) width]`."""

  num_classes: int
  width: int
  norm: str

  @nn.compact
  def __call__(self, images):
    """Called on normalised images."""
    for _ in range(2):
      images = nn.Conv(self.width, (3, 3))(images)
      images = nn.relu(Norm(self.norm)(images))
      images = average_pool(images)
    features = images.reshape(images.shape[0], -1)
    return nn.Dense(self.num_classes)(features), features
