"""The upsampling network of a learnable formation (IDC, Appendix D)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcjax.common.types import Array
from dcjax.nn import layers
from dcjax.nn.convolution import CONVOLUTIONS

FEATURES, SHRUNK = 16, 8  # channels; FSRCNN (Dong et al. 2016) has 56 and 12


class Upsampler(nn.Module):
  """Brings tiles `[N, h, w, C]` to `[N, H, W, C]`, for sides about `factor` times as long.

  An FSRCNN with fewer channels and one mapping layer, whose result is added to bilinear
  upsampling. Its last kernel starts at zero, so that it begins as bilinear upsampling does. The
  deconvolution is a convolution to `factor` squared times as many channels, laid out in space.
  """

  factor: int

  @nn.compact
  def __call__(self, tiles: Array, shape: tuple[int, int, int]) -> Array:
    count, height, width, channels = tiles.shape
    features = tiles
    for filters, size in ((FEATURES, 5), (SHRUNK, 1), (SHRUNK, 3), (FEATURES, 1)):
      features = layers.Convolution(filters, size, size // 2, "patches", "torch")(features)
      features = nn.PReLU()(features)
    kernel = self.param(
      "kernel", nn.initializers.zeros, (3, 3, FEATURES, self.factor**2 * channels), jnp.float32
    )
    details = CONVOLUTIONS["patches"](features, kernel, 1)
    details = details.reshape(count, height, width, self.factor, self.factor, channels)
    details = details.swapaxes(2, 3).reshape(
      count, height * self.factor, width * self.factor, channels
    )
    full = (count, *shape)
    return jax.image.resize(tiles, full, "bilinear") + jax.image.resize(details, full, "bilinear")
