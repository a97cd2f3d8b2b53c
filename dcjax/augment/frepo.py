"""What FRePo's and RCIG's networks are evaluated with (numbers of FRePo's code).

Of FRePo (Zhou et al., NeurIPS 2022) each batch gets one of the transforms, each image its own
parameters; of RCIG (Loo et al., ICML 2023) each image has a transform of its own. What comes from
outside an image is as its edge.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dcjax.augment.transforms import FLIP, Transform, box, drawn
from dcjax.augment.warp import rotation, warp
from dcjax.common.types import Array, Key

COLOR = 0.25  # of brightness, and of the logarithms of contrast and saturation, either way
ZOOM = (0.8, 1.25)  # of a side
SHIFT = 0.125  # of a side, either way
DEGREES = 15.0  # of rotation, either way
CUTOUT = 4  # sides of the square in that of an image


class Zoom(NamedTuple):
  """Parameters of `zoom`: by how much, and `[row, column]` of the new centre, in new pixels."""

  factor: Array
  centre: Array


def color(image: Array, u: Array) -> Array:
  """Brightness, contrast and saturation in this order, for u `[3]` in [-1, 1]."""
  change = COLOR * u
  image = image + change[0]
  for mean_of, exponent in ((None, change[1]), (-1, change[2])):
    mean = image.mean(mean_of, keepdims=True)
    image = (image - mean) * jnp.exp(exponent) + mean
  return image


def zoom(image: Array, drawn: Zoom) -> Array:
  """Enlarges or shrinks an image, and shows another part of it at the same size."""
  eye = jnp.eye(2, dtype=drawn.factor.dtype)
  return warp(image, eye / drawn.factor, drawn.centre / drawn.factor, None)


def rotate(image: Array, degrees: Array) -> Array:
  """Turns an image about its centre."""
  return warp(image, rotation(degrees), jnp.zeros(2, degrees.dtype), None)


def translate(image: Array, shift: Array) -> Array:
  """Moves an image by `[rows, columns]`, which need not be whole."""
  return warp(image, jnp.eye(2, dtype=shift.dtype), shift, None)


def cutout(image: Array, corner: Array) -> Array:
  """Sets a square of a quarter of the side to zero, whose first pixel is `[row, column]`."""
  height, width, _ = image.shape
  sides = [side // CUTOUT for side in (height, width)]
  hole = box(height, width, corner + jnp.array(sides) // 2, sides)
  return jnp.where(hole[..., None], 0, image)


# --- What draws the parameters -------------------------------------------------------------


def _uniform(key: Key, most: Array, shape: tuple[int, ...] = ()) -> Array:
  """Within +- `most`."""
  return most * jax.random.uniform(key, shape, jnp.float32, minval=-1, maxval=1)


def _draw_zoom(key: Key, height: int, width: int) -> Zoom:
  factor_key, centre_key = jax.random.split(key)
  low, high = jnp.log(jnp.array(ZOOM, jnp.float32))
  factor = jnp.exp(jax.random.uniform(factor_key, (), jnp.float32, minval=low, maxval=high))
  room = jnp.abs(factor - 1) / 2 * jnp.array([height, width], jnp.float32)
  return Zoom(factor, _uniform(centre_key, room, (2,)))


def _draw_shift(key: Key, height: int, width: int) -> Array:
  return _uniform(key, SHIFT * jnp.array([height, width], jnp.float32), (2,))


def _draw_corner(key: Key, height: int, width: int) -> Array:
  ends = jnp.array([side - side // CUTOUT + 1 for side in (height, width)])
  return jax.random.randint(key, (2,), 0, ends)


TRANSFORMS = (
  FLIP,
  Transform(lambda key, *_: _uniform(key, jnp.float32(1), (3,)), color),
  Transform(_draw_zoom, zoom),
  Transform(lambda key, *_: _uniform(key, jnp.float32(DEGREES)), rotate),
  Transform(_draw_shift, translate),
  Transform(_draw_corner, cutout),
)
one_of_six = drawn(TRANSFORMS, draw="one", shared=False)
one_of_five = drawn(TRANSFORMS[1:], draw="one", shared=False)  # not mirrored


def _for_each(change: Callable[[Key, Array], Array]) -> Callable[[Key, Array], Array]:
  """What draws a transform for a batch, for each image by itself."""

  def apply(key, images):
    keys = jax.random.split(key, len(images))
    return jax.vmap(lambda key, image: change(key, image[None])[0])(keys, images)

  return apply


each_of_six = _for_each(one_of_six)
each_of_four = _for_each(drawn(TRANSFORMS[2:], draw="one", shared=False))  # nor coloured
