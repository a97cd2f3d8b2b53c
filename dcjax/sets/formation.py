"""Multi-formation: from the images that a set stores to the more that networks train on.

A formation cuts a stored image into tiles and brings each to the full size (IDC, section 3.2; IDM
calls it partition and expansion, Eq. 3). It is deterministic, and differentiable in what is
stored.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcjax.common.errors import UserError, check_least, check_name
from dcjax.common.types import Array, Key, Params
from dcjax.data.zca import Whitening
from dcjax.nn.upsampler import Upsampler

# identity: the images as they are. uniform: factor x factor tiles. multi_scale: those of all
# factors up to the given one (IDC, Appendix D). bounded: uniform, but with lower factors for some
# images while they are matched, so that no more than the bound are decoded (authors' code).
# learnable: uniform, with a small network beside the bilinear upsampling (Appendix D). time: tiles
# beside each other only, along the columns, which are the time of a spectrogram (section 5.1).
# partition: uniform, but pixels that are left over where the factor does not divide a side belong
# to no tile (IDM, authors' code).
NAMES = ("identity", "uniform", "multi_scale", "bounded", "learnable", "time", "partition")
BOUND = 128  # decoded images a class of 'bounded', as many as IDC matches at once
FILL = 0.5  # a pixel in [0, 1]; pads images whose sides the factor does not divide


class Stored(NamedTuple):
  """What a set stores, and hence what a method optimises."""

  images: Array  # [..., n, H, W, C] float32
  weights: Params  # of the upsampling network, if the formation is 'learnable'; else empty


def over_classes(gradients: Stored) -> Stored:
  """The gradient of a sum over classes, from that of each: all classes share the weights."""
  return gradients._replace(weights=jax.tree.map(lambda leaf: leaf.sum(0), gradients.weights))


class Part(NamedTuple):
  """Stored images `start:stop`, each cut into `rows` x `columns` tiles."""

  start: int
  stop: int
  rows: int
  columns: int

  @property
  def tiles(self) -> int:
    """How many tiles all of them make."""
    return (self.stop - self.start) * self.rows * self.columns


@dataclass(frozen=True)
class Formation:
  """A formation for images of one shape and range.

  Attributes:
    name: an entry of `NAMES`.
    factor: tiles along a side.
    bound: most decoded images a class that are matched; for 'bounded' alone.
    shape: `(H, W, C)` of stored and decoded images alike.
    mean: of pixels in [0, 1], one for each channel.
    std: likewise.
    unit: whether stored pixels are in [0, 1]; otherwise they are normalised, and whitened where
      images are.
    former: whether 'bounded' is that of files from before it was for matching alone, by which
      networks see such a set at evaluation, too; it splits the images in another way.
  """

  name: str
  factor: int
  bound: int
  shape: tuple[int, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  unit: bool = False
  former: bool = False

  def at_evaluation(self) -> "Formation":
    """What a set is decoded by once it is made: 'bounded' is for matching alone."""
    bounded = self.name == "bounded" and not self.former
    return replace(self, name="uniform") if bounded else self

  def init(self, key: Key) -> Params:
    """Weights of the upsampling network, whose part is zero at first; empty without one."""
    if self.name != "learnable":
      return {}
    return self._upsampler.init(key, jnp.zeros((1, *self.shape), jnp.float32), self.shape)["params"]

  def decoded(self, count: int) -> int:
    """How many images `count` stored ones of a class become."""
    return sum(part.tiles for part in self._parts(count))

  def origins(self, count: int) -> np.ndarray:
    """Of which of `count` stored images each of those is that `decode` makes, int `[decoded]`."""
    of = [
      np.repeat(np.arange(part.start, part.stop), part.rows * part.columns)
      for part in self._parts(count)
    ]
    return np.concatenate(of)

  def decode(self, stored: Stored, whitening: Whitening | None = None) -> Array:
    """The images that networks see.

    Args:
      stored: images `[n, H, W, C]` in the range of the set.
      whitening: of what networks see, if there is one. Pixels in [0, 1] are whitened here, after
        all else, as real images are; what is not in that range has been stored as whitened.

    Returns:
      Normalised images `[decoded(n), H, W, C]`: those of the first stored image, row by row of
      its tiles, then those of the next; 'multi_scale' has all of factor 1 first.
    """
    images = self._zoom_all(stored, self._parts(stored.images.shape[0]))
    if not self.unit:
      return images
    images = self._normalised(images)
    return images if whitening is None else whitening.whiten(images)

  def decode_classes(self, stored: Stored, whitening: Whitening | None = None) -> Array:
    """`decode` for `[classes, n, H, W, C]` images: `[classes, decoded(n), H, W, C]`."""
    return jax.vmap(lambda images: self.decode(Stored(images, stored.weights), whitening))(
      stored.images
    )

  def decode_labelled(
    self, stored: Stored, labels: Array | None, whitening: Whitening | None = None
  ) -> tuple[Array, Array | None]:
    """`decode_classes`, and what is learned of each stored image for all that it is decoded to.

    Args:
      stored: as `decode_classes` takes it.
      labels: `[classes, n, ...]`, if there are any.
      whitening: as `decode` takes it.

    Returns:
      Images `[classes, decoded(n), H, W, C]`, and labels `[classes, decoded(n), ...]`.
    """
    images = self.decode_classes(stored, whitening)
    return images, None if labels is None else labels[:, self.origins(stored.images.shape[1])]

  def unwhiten_classes(self, stored: Stored, whitening: Whitening) -> Array:
    """Normalised images for stored ones that are whitened, `[classes, n, H, W, C]` both.

    A tile stands for a whitened image of full size, and goes back at that size.
    """
    count = stored.images.shape[1]
    tiling = self.at_evaluation()._tiling(count)

    def one_class(images):
      tiles = self._zoom_all(Stored(images, stored.weights), tiling)
      return self.mosaic(whitening.unwhiten(tiles), count, blend=True)

    return jax.vmap(one_class)(stored.images)

  def sources(self, count: int) -> int:
    """How many images `mosaic` takes for `count` stored ones."""
    return sum(part.tiles for part in self.at_evaluation()._tiling(count))

  def mosaic(self, images: Array, count: int, *, blend: bool = False) -> Array:
    """Stored images whose tiles are given images made smaller (IDC's initialisation 'mix').

    Args:
      images: normalised `[sources(count), H, W, C]`.
      count: how many images to make.
      blend: whether a pixel is blended of all that it stands for; else it is the nearest one to
        where it is sampled (authors' code).

    Returns:
      `[count, H, W, C]`, in the range of the set.
    """
    sheets, start = [], 0
    for part in self.at_evaluation()._tiling(count):
      sheets.append(self._assemble(images[start : start + part.tiles], part, blend=blend))
      start += part.tiles
    return self.store(jnp.concatenate(sheets))

  def store(self, images: Array) -> Array:
    """Brings normalised images `[..., C]` to the range of the set."""
    if not self.unit:
      return images
    return jnp.clip(images * _last(self.std, images) + _last(self.mean, images), 0, 1)

  def metadata(self) -> dict[str, Any]:
    """What a file must say for `from_metadata`."""
    return {"name": self.name, "factor": self.factor, "bound": self.bound}

  def _normalised(self, images: Array) -> Array:
    return (images - _last(self.mean, images)) / _last(self.std, images)

  def _tiling(self, count: int) -> tuple[Part, ...]:
    """Into which tiles `count` stored images are cut, at the finest."""
    if self.name == "bounded":
      split = _formerly_bounded if self.former else _bounded
      return split(count, self.factor, self.bound)
    rows = 1 if self.name == "time" else self.factor
    return (Part(0, count, rows, self.factor),)

  def _parts(self, count: int) -> tuple[Part, ...]:
    """All tiles that `count` stored images are decoded to."""
    if self.name == "multi_scale":
      return tuple(Part(0, count, k, k) for k in range(1, self.factor + 1))
    return self._tiling(count)

  def _sides(self, part: Part) -> tuple[int, int]:
    """Height and width of a tile."""
    if self.name == "partition":
      return self.shape[0] // part.rows, self.shape[1] // part.columns
    return -(-self.shape[0] // part.rows), -(-self.shape[1] // part.columns)

  def _zoom_all(self, stored: Stored, parts: tuple[Part, ...]) -> Array:
    """The tiles of all parts, one part after another."""
    return jnp.concatenate([self._zoom(stored, part) for part in parts])

  def _zoom(self, stored: Stored, part: Part) -> Array:
    """The tiles of a part at full size: `[tiles, H, W, C]`."""
    images = stored.images[part.start : part.stop]
    if part.rows == part.columns == 1 and self.name != "learnable":
      return images
    channels, (tile_height, tile_width) = self.shape[2], self._sides(part)
    sides = part.rows * tile_height, part.columns * tile_width
    images = self._fit(images, sides, unit=self.unit)
    tiles = images.reshape(-1, part.rows, tile_height, part.columns, tile_width, channels)
    tiles = tiles.swapaxes(2, 3).reshape(-1, tile_height, tile_width, channels)
    if self.name == "learnable":
      return jnp.asarray(self._upsampler.apply({"params": stored.weights}, tiles, self.shape))
    return jax.image.resize(tiles, (len(tiles), *self.shape), "bilinear")

  def _fit(self, images: Array, sides: tuple[int, ...], *, unit: bool) -> Array:
    """Images cut to a height and width, or filled up with grey; pixels in [0, 1] or normalised."""
    images = images[:, : sides[0], : sides[1]]
    below, right = sides[0] - images.shape[1], sides[1] - images.shape[2]
    if not below and not right:
      return images
    grey = jnp.full((1, 1, 1, images.shape[-1]), FILL, images.dtype)
    fill = grey if unit else self._normalised(grey)
    return jnp.pad(images - fill, ((0, 0), (0, below), (0, right), (0, 0))) + fill

  def _assemble(self, images: Array, part: Part, *, blend: bool) -> Array:
    """Images of a part from its tiles, the inverse of `_zoom` up to resampling."""
    (height, width, channels), (tile_height, tile_width) = self.shape, self._sides(part)
    if blend:
      images = jax.image.resize(
        images, (len(images), tile_height, tile_width, channels), "bilinear"
      )
    row, pixel_row = _places(height, tile_height, part.rows, nearest=not blend)
    column, pixel_column = _places(width, tile_width, part.columns, nearest=not blend)
    tiles = images.reshape(-1, part.rows, part.columns, *images.shape[1:])
    sheets = tiles[:, row[:, None], column, pixel_row[:, None], pixel_column]
    return self._fit(sheets, self.shape[:2], unit=False)

  @property
  def _upsampler(self) -> Upsampler:
    return Upsampler(self.factor)


IDENTITY = Formation("identity", 1, BOUND, shape=(), mean=(), std=())  # of normalised images


def create(
  name: str,
  factor: int,
  bound: int = BOUND,
  *,
  shape: tuple[int, int, int],
  ipc: int,
  mean: tuple[float, ...],
  std: tuple[float, ...],
  unit: bool = False,
  former: bool = False,
) -> Formation:
  """A formation that fits the images; the arguments are those of `Formation`, and `ipc`.

  Raises:
    UserError: a field is out of range, or does not fit the images.
  """
  check(name, factor, bound, ipc=ipc)
  sides = shape[1:2] if name == "time" else shape[:2]
  if factor > min(sides):
    raise UserError(
      f"formation.factor: {factor} tiles do not fit the {min(sides)} pixels of a side; lower it"
    )
  return Formation(name, factor, bound, shape, mean, std, unit, former)


def check(name: str, factor: int, bound: int, *, ipc: int) -> None:
  """Raises `UserError` for fields that no images can have."""
  check_name("formation.name", name, NAMES)
  check_least("formation.factor", factor, 1)
  if name == "identity" and factor != 1:
    raise UserError(
      f"formation.factor: identity leaves images whole, so {factor} would do nothing; "
      "set formation.name=uniform, or leave the factor at 1"
    )
  if name == "bounded" and bound < ipc:
    raise UserError(
      f"formation.bound: {ipc} images per class decode to more than {bound} at any factor; "
      "raise it, or lower ipc"
    )


def _last(values: tuple[float, ...], images: Array) -> Array:
  """A value for each channel, shaped to meet images `[..., C]`."""
  return jnp.asarray(values, images.dtype).reshape((1,) * (images.ndim - 1) + (-1,))


def _places(side: int, tile: int, tiles: int, *, nearest: bool) -> tuple[np.ndarray, np.ndarray]:
  """Of each pixel along a side, which tile it lies in, and which pixel of the tile's image it is.

  Args:
    side: of stored images, in pixels.
    tile: its length; the last one may be cut off by the side.
    tiles: how many there are; pixels after the last one are left out.
    nearest: whether a tile's image has the length of the side, and not that of a tile.

  Returns:
    int `[pixels]` both. Pixel i of the n that a tile has is `nearest` to number floor(i side / n),
    in float32 as PyTorch's `interpolate(mode="nearest")` has it.
  """
  inside = min(side, tile * tiles)
  number, offset = np.divmod(np.arange(inside), tile)
  if not nearest:
    return number, offset
  lengths = np.minimum(tile, inside - number * tile).astype(np.float32)
  sampled = np.floor(offset.astype(np.float32) * (np.float32(side) / lengths)).astype(int)
  return number, np.minimum(sampled, side - 1)


def _bounded(count: int, factor: int, bound: int) -> tuple[Part, ...]:
  """At each factor k, the highest first, as many images as k^2 times fit into what is left.

  Left of the bound is what neither the images before take nor one place for each of the others
  (authors' code): an image that is cut gives its own place away.
  """
  parts, start, decoded = [], 0, 0
  for k in range(factor, 0, -1):
    left = count - start
    fit = left if k == 1 else min(left, (bound - decoded - left) // (k * k))
    if fit:
      parts.append(Part(start, start + fit, k, k))
      start, decoded = start + fit, decoded + fit * k * k
  return tuple(parts)


def _formerly_bounded(count: int, factor: int, bound: int) -> tuple[Part, ...]:
  """As many images at each factor, the highest first, as leave room for the others whole."""
  parts, start, room = [], 0, bound
  for k in range(factor, 0, -1):
    left = count - start
    fit = left if k == 1 else min(left, (room - left) // (k * k - 1))
    if fit:
      parts.append(Part(start, start + fit, k, k))
      start, room = start + fit, room - fit * k * k
  return tuple(parts)
