"""Stateless augmentation: `f(key, images) -> images`."""

import jax
import jax.numpy as jnp

from dcjax.types import Array, Key

CROP = 4  # pixels of shift, either way
SCALE = 0.2  # each side is scaled within 1 +- this
DEGREES = 45.0  # of rotation, either way


def shift_scale_or_rotate(key: Key, images: Array) -> Array:
  """DC's augmentation of MNIST: each image is shifted, scaled or rotated, one of the three.

  A shift is by whole pixels within +-4 of rows and of columns; the two sides are scaled each
  within +-20 %; the rotation is within +-45 degrees. Sampling is bilinear, and what comes from
  outside the image is filled with the mean of all images (DC, Appendix A; the numbers are those
  of the authors' code).

  Args:
    key: of all draws.
    images: `[N, H, W, C]`.

  Returns:
    `[N, H, W, C]`.
  """
  fill = images.mean((0, 1, 2))
  keys = jax.random.split(key, images.shape[0])
  return jax.vmap(lambda key, image: _warp(image, *_one_of_three(key), fill))(keys, images)


def _one_of_three(key: Key) -> tuple[Array, Array]:
  """An affine map from output to input places about the centre: matrix `[2, 2]`, shift `[2]`."""
  choice_key, shift_key, scale_key, angle_key = jax.random.split(key, 4)
  shift = jax.random.randint(shift_key, (2,), -CROP, CROP + 1).astype(jnp.float32)
  scale = jnp.diag(1 / jax.random.uniform(scale_key, (2,), minval=1 - SCALE, maxval=1 + SCALE))
  angle = jnp.deg2rad(jax.random.uniform(angle_key, (), minval=-DEGREES, maxval=DEGREES))
  sine, cosine = jnp.sin(angle), jnp.cos(angle)
  rotation = jnp.array([[cosine, -sine], [sine, cosine]])
  matrices, shifts = (
    jnp.stack([jnp.eye(2), scale, rotation]),
    jnp.zeros((3, 2)).at[0].set(shift),
  )
  choice = jax.random.randint(choice_key, (), 0, 3)
  return matrices[choice], shifts[choice]


def _warp(image: Array, matrix: Array, shift: Array, fill: Array) -> Array:
  """Samples an image `[H, W, C]` bilinearly at the mapped places, `fill` `[C]` outside it."""
  height, width, _ = image.shape
  centre = jnp.array([height - 1, width - 1]) / 2
  grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)
  offsets = grid.astype(jnp.float32) - centre[None, None]
  rows, cols = jnp.moveaxis(offsets @ matrix.T + (centre + shift)[None, None], -1, 0)

  def channel(plane, value):
    places = [rows, cols]
    return jax.scipy.ndimage.map_coordinates(plane - value, places, order=1) + value

  return jax.vmap(channel, in_axes=-1, out_axes=-1)(image, fill)


# By the values of the config field `evaluation.augmentation`.
AUGMENTATIONS = {
  "none": lambda key, images: images,
  "dc": shift_scale_or_rotate,
}
