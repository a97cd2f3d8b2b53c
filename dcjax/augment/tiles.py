"""What RDED trains networks with on images that are made of two by two crops."""

import jax
import jax.numpy as jnp

from dcjax.augment.imagenet import ASPECT, draw_crop, resized_crop
from dcjax.augment.transforms import flip
from dcjax.common.types import Array, Key

TILES = 2  # along a side
AREA = (1 / TILES, 1.0)  # of the image: the area of a crop (RDED's code)


def shuffle_crop_flip(key: Key, images: Array) -> Array:
  """Exchanges columns and rows of tiles at random, then crops and resizes, and mirrors half.

  Args:
    key: of all draws; each image has its own.
    images: `[N, H, W, C]` of 2 x 2 tiles.

  Returns:
    `[N, H, W, C]`.
  """
  count, height, width, _ = images.shape

  def one(key, image):
    rows_key, columns_key, crop_key, flip_key = jax.random.split(key, 4)
    image = exchange(image, jax.random.bernoulli(rows_key), jax.random.bernoulli(columns_key))
    return flip(
      resized_crop(image, *draw_crop(crop_key, height, width, AREA, ASPECT)),
      jax.random.bernoulli(flip_key),
    )

  return jax.vmap(one)(jax.random.split(key, count), images)


def exchange(image: Array, rows: Array, columns: Array) -> Array:
  """An image `[H, W, C]` whose two rows of tiles, and whose two columns, change places or do not.

  Of an odd number of pixels the last one belongs to the second tile.
  """
  for axis, swap in ((0, rows), (1, columns)):
    middle = image.shape[axis] // TILES
    image = jnp.where(swap, jnp.roll(image, -middle, axis), image)
  return image
