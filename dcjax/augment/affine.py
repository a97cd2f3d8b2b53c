"""What DC trains networks with on MNIST, and networks with batch norm on any dataset."""

import jax
import jax.numpy as jnp

from dcjax.augment.warp import rotation, warp
from dcjax.common.types import Array, Key

SHIFT = 4  # pixels, either way
SCALE = 0.2  # each side is scaled within 1 +- this
DEGREES = 45.0  # of rotation, either way
NOISE = 0.001  # deviation, of normalised pixels


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
  return jax.vmap(lambda key, image: warp(image, *_one_of_three(key), fill))(keys, images)


def shift_or_noise(key: Key, images: Array) -> Array:
  """DC's augmentation for networks with batch norm: each image is shifted or gets noise.

  Shifts are those of `shift_scale_or_rotate`; the noise is normal with deviation 0.001 (the
  authors' code).

  Args:
    key: of all draws.
    images: `[N, H, W, C]`.

  Returns:
    `[N, H, W, C]`.
  """
  fill = images.mean((0, 1, 2))

  def one(key, image):
    choice_key, shift_key, noise_key = jax.random.split(key, 3)
    shifted = warp(image, jnp.eye(2, dtype=jnp.float32), _draw_shift(shift_key), fill)
    noisy = image + NOISE * jax.random.normal(noise_key, image.shape, image.dtype)
    return jnp.where(jax.random.bernoulli(choice_key), shifted, noisy)

  return jax.vmap(one)(jax.random.split(key, images.shape[0]), images)


def _draw_shift(key: Key) -> Array:
  return jax.random.randint(key, (2,), -SHIFT, SHIFT + 1).astype(jnp.float32)


def _one_of_three(key: Key) -> tuple[Array, Array]:
  """A map as `warp` takes it: matrix and shift."""
  choice_key, shift_key, scale_key, angle_key = jax.random.split(key, 4)
  low, high = 1 - SCALE, 1 + SCALE
  scale = jnp.diag(1 / jax.random.uniform(scale_key, (2,), jnp.float32, minval=low, maxval=high))
  degrees = jax.random.uniform(angle_key, (), jnp.float32, minval=-DEGREES, maxval=DEGREES)
  matrices = jnp.stack([jnp.eye(2, dtype=jnp.float32), scale, rotation(degrees)])
  shifts = jnp.zeros((3, 2), jnp.float32).at[0].set(_draw_shift(shift_key))
  choice = jax.random.randint(choice_key, (), 0, 3)
  return matrices[choice], shifts[choice]
