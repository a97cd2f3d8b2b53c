"""The transforms of DSA (section 4.4), differentiable in the images, and users' own.

A transform is of one image `[H, W, C]` with its parameters; images are normalised. A strategy is
transforms of `common.registry.TRANSFORMS` joined by '_', as 'crop_flip'. One in a Python file is
`FILE.py:NAME`, which '+' joins with others: 'crop_flip+my_transform.py:blur' are three.

A strategy may be groups of transforms with commas between them, of which each changes what the one
before it has made. What stands before a group's colon is how it is drawn, an entry of `DRAWS`: of
'sequence:flip_color,one:crop_scale_rotate' both first transforms are done, and one of the other
three. No path of a Python file may have a '+' or a comma in it.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcjax.augment.warp import rotation, warp
from dcjax.common.errors import UserError, nearest
from dcjax.common.registry import TRANSFORMS, guarded, names_object
from dcjax.common.types import Array, Key

CROP_SHIFT = 0.125  # of a side: the furthest shift, either way
CUTOUT_SIDE = 0.5  # of a side: the side of the square
SCALE_MOST = 1.2  # sides are scaled within [1 / SCALE_MOST, SCALE_MOST]
DEGREES = 15.0  # of rotation, either way


def brightness(image: Array, u: Array) -> Array:
  """Adds u - 0.5, for u in [0, 1]."""
  return image + (u - 0.5)


def saturation(image: Array, u: Array) -> Array:
  """Scales every pixel by 2 u about the mean of its channels, for u in [0, 1]."""
  mean = image.mean(-1, keepdims=True)
  return (image - mean) * (2 * u) + mean


def contrast(image: Array, u: Array) -> Array:
  """Scales the image by u + 0.5 about its mean, for u in [0, 1]."""
  mean = image.mean(keepdims=True)
  return (image - mean) * (u + 0.5) + mean


def color(image: Array, u: Array) -> Array:
  """Brightness, saturation and contrast in this order, for u `[3]` in [0, 1]."""
  return contrast(saturation(brightness(image, u[0]), u[1]), u[2])


def crop(image: Array, shift: Array) -> Array:
  """Moves the window by whole pixels `[rows, columns]`, within `CROP_SHIFT`; outside is zero."""
  rows, cols = (_furthest(side) for side in image.shape[:2])
  padded = jnp.pad(image, ((rows, rows), (cols, cols), (0, 0)))
  return jax.lax.dynamic_slice(padded, (rows + shift[0], cols + shift[1], 0), image.shape)


def _furthest(side: int) -> int:
  return int(side * CROP_SHIFT + 0.5)


def cutout(image: Array, centre: Array) -> Array:
  """Sets a square of half the side to zero, about `[row, column]`, as far as it is inside."""
  height, width, _ = image.shape
  hole = box(height, width, centre, [_cutout_size(side) for side in (height, width)])
  return jnp.where(hole[..., None], 0, image)


def box(height: int, width: int, centre: Array, sides: Sequence[int | Array]) -> Array:
  """Which pixels are in a box of some sides about `[row, column]`, bool `[height, width]`."""

  def inside(length, middle, side):
    first = middle - side // 2
    places = jnp.arange(length)
    return (places >= first) & (places < first + side)

  return inside(height, centre[0], sides[0])[:, None] & inside(width, centre[1], sides[1])[None]


def _cutout_size(side: int) -> int:
  return int(side * CUTOUT_SIDE + 0.5)


def flip(image: Array, mirrored: Array) -> Array:
  """Mirrors left and right where `mirrored` is true."""
  return jnp.where(mirrored, image[:, ::-1], image)


def scale(image: Array, factors: Array) -> Array:
  """Samples at places multiplied by `[columns, rows]` factors about the centre."""
  return warp(image, jnp.diag(factors[::-1]), jnp.zeros(2, factors.dtype), _zero(image))


def rotate(image: Array, degrees: Array) -> Array:
  """Samples at places turned about the centre."""
  return warp(image, rotation(-degrees), jnp.zeros(2, degrees.dtype), _zero(image))


def _zero(image: Array) -> Array:
  return jnp.zeros(image.shape[-1], image.dtype)


# --- What draws the parameters -------------------------------------------------------------


class Transform(NamedTuple):
  """A transform of one image.

  Attributes:
    draw: `draw(key, height, width) -> parameters`.
    apply: `apply(image, parameters) -> image`, for an image `[H, W, C]`.
  """

  draw: Callable[[Key, int, int], Any]
  apply: Callable[[Array, Any], Array]


def _draw_shift(key: Key, height: int, width: int) -> Array:
  furthest = jnp.array([_furthest(height), _furthest(width)])
  return jax.random.randint(key, (2,), -furthest, furthest + 1)


def _draw_centre(key: Key, height: int, width: int) -> Array:
  # One more place for squares of an even side, which have no middle pixel.
  ends = jnp.array([side + 1 - _cutout_size(side) % 2 for side in (height, width)])
  return jax.random.randint(key, (2,), 0, ends)


def _draw_factors(key: Key, height: int, width: int) -> Array:
  return jax.random.uniform(key, (2,), jnp.float32, minval=1 / SCALE_MOST, maxval=SCALE_MOST)


def _draw_degrees(key: Key, height: int, width: int) -> Array:
  return jax.random.uniform(key, (), jnp.float32, minval=-DEGREES, maxval=DEGREES)


COLOR = Transform(lambda key, *_: jax.random.uniform(key, (3,), jnp.float32), color)
CROP = Transform(_draw_shift, crop)
CUTOUT = Transform(_draw_centre, cutout)
FLIP = Transform(lambda key, *_: jax.random.bernoulli(key), flip)
SCALE = Transform(_draw_factors, scale)
ROTATE = Transform(_draw_degrees, rotate)
STRATEGY = "_".join(TRANSFORMS.own)  # DSA's default: all of them
# By the values of the config field `dsa.draw`: how a batch takes the transforms of a strategy.
DRAWS = ("one", "sequence")


class Group(NamedTuple):
  """Transforms of a strategy that stand together.

  Attributes:
    draw: how a batch takes them, as the strategy says it; empty if it does not.
    names: of the transforms.
  """

  draw: str
  names: list[str]


def groups_in(strategy: str) -> list[Group]:
  """The groups of a strategy."""
  return [_group(text) for text in strategy.split(",")]


def _group(text: str) -> Group:
  draw, colon, joined = text.partition(":")
  if not colon or draw.endswith(".py"):
    draw, joined = "", text
  parts = joined.split("+")
  whole = [names_object(part) or part in TRANSFORMS for part in parts]
  names = [[part] if one else part.split("_") for part, one in zip(parts, whole, strict=True)]
  return Group(draw, list(itertools.chain(*names)))


def names_in(strategy: str) -> list[str]:
  """The names of the transforms of a strategy."""
  return [name for group in groups_in(strategy) for name in group.names]


def check_strategy(field: str, strategy: str) -> None:
  """Raises `UserError` for what is no strategy, as the module says; `field` is to blame."""
  for group in groups_in(strategy):
    if group.draw not in ("", *DRAWS):
      raise UserError(
        f"{field}: unknown draw '{group.draw}' in '{strategy}'; {nearest(group.draw, DRAWS)}"
      )
  for name in names_in(strategy):
    if name not in TRANSFORMS and not names_object(name):
      raise UserError(
        f"{field}: unknown transform '{name}' in '{strategy}'; {nearest(name, TRANSFORMS)}"
      )
    _find(field, name)


def _find(field: str, name: str) -> Transform:
  """A transform by its name; one of a user checks what it makes of an image."""
  found = TRANSFORMS.find(field, name)
  return found if name in TRANSFORMS.own else _of_user(field, name, found)


def _of_user(field: str, name: str, found: Any) -> Transform:
  """A user's object as a transform.

  Args:
    field: to blame.
    name: of the object.
    found: a `Transform`, or `f(key, image) -> image` for an image `[H, W, C]`.

  Raises:
    UserError: it is neither; what is returned raises it for an error of the user's code, and for
      an image of another shape or type.
  """
  if isinstance(found, Transform):
    transform = found
  elif callable(found):
    transform = Transform(lambda key, *_: key, lambda image, key: found(key, image))
  else:
    raise UserError(
      f"{field}: {name} is of type {type(found).__name__}; name a function f(key, image), or an "
      "augment.Transform"
    )

  def apply(image, parameters):
    changed = jnp.asarray(transform.apply(image, parameters))
    if (changed.shape, changed.dtype) != (image.shape, image.dtype):
      raise UserError(
        f"{field}: {name} makes {changed.dtype} {list(changed.shape)} of an image, "
        f"{image.dtype} {list(image.shape)}; return the same type and shape"
      )
    return changed

  return Transform(guarded(field, name, transform.draw), guarded(field, name, apply))


def transform(
  strategy: str, *, draw: str = "one", shared: bool, field: str = "augmentation"
) -> Callable[[Key, Array], Array]:
  """DSA's family of transforms as one augmentation.

  Args:
    strategy: names of transforms, joined as the module says.
    draw: of groups that do not say it: 'one' draws one of the transforms for each batch (DSA,
      section 4.4), 'sequence' does all of them in the order given (as IDC does).
    shared: whether all images of a batch get the same parameters, which then depend on nothing
      but the key and the size of an image, or each image its own.
    field: what an error of a user's transform blames.

  Returns:
    The augmentation.
  """
  groups = [
    drawn([_find(field, name) for name in group.names], draw=group.draw or draw, shared=shared)
    for group in groups_in(strategy)
  ]

  def in_turn(key, images):
    for group, group_key in zip(groups, jax.random.split(key, len(groups)), strict=True):
      images = group(group_key, images)
    return images

  return groups[0] if len(groups) == 1 else in_turn


def drawn(
  transforms: Sequence[Transform], *, draw: str, shared: bool
) -> Callable[[Key, Array], Array]:
  """Some transforms as one augmentation, `draw` and `shared` as in `transform`."""

  def draw_like(transform, key, images):
    def like(leaf):
      leaf = jnp.asarray(leaf)
      return leaf.astype(images.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(like, transform.draw(key, *images.shape[1:3]))

  def apply(transform, key, images):
    if shared:
      parameters = draw_like(transform, key, images)
      return jax.vmap(transform.apply, (0, None))(images, parameters)
    keys = jax.random.split(key, len(images))
    parameters = jax.vmap(lambda key: draw_like(transform, key, images))(keys)
    return jax.vmap(transform.apply)(images, parameters)

  def one(key, images):
    choice_key, key = jax.random.split(key)
    choice = jax.random.randint(choice_key, (), 0, len(transforms))
    return jax.lax.switch(choice, [partial(apply, t) for t in transforms], key, images)

  def sequence(key, images):
    for t, step_key in zip(transforms, jax.random.split(key, len(transforms)), strict=True):
      images = apply(t, step_key, images)
    return images

  return {"one": one, "sequence": sequence}[draw]
