"""Pixels as they are meant: numbers of any type, and image files of any mode, as uint8.

One rule for all sources. Black and white are 0 and 1 for floats and booleans, and the ends of the
type for uint8 and uint16. Other integers never fill their type, so `dataset.range` has to say them.
It also serves data that fill a part of their type, such as 12 bits in files of 16.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps

from dcjax.common.errors import UserError

Range = tuple[float, float]  # the values of black and white

BACKGROUND = (255, 255, 255, 255)  # what is seen where an image is transparent: white

BLOCK = 1 << 22  # numbers converted at a time, which bounds the memory used
_USUAL: tuple[Range, ...] = ((0, 1), (-1, 1), (0, 255), (0, 4095), (0, 65535))
# Formats whose grey images of 16 bits some versions of Pillow open as 32 bits.
_SIXTEEN_BITS = ("PNG", "PPM")
_ORIENTATION, _FIRST_TURNED = 0x0112, 5  # the EXIF tag, and the first value that swaps the sides


def as_range(value: Iterable[Any]) -> Range | None:
  """`dataset.range` as two numbers; None where it is empty.

  Args:
    value: two numbers, or text that stands for them; an empty one, as the command line gives it,
      counts for nothing.

  Raises:
    UserError: it is not two finite numbers, the lower first.
  """
  given = [part for part in value if part != ""]
  if not given:
    return None
  try:
    low, high = map(float, given)
  except (TypeError, ValueError, OverflowError):
    low = high = 0.0
  with np.errstate(all="ignore"):
    factor = np.float64(255) / (high - low)
  if not (low < high and np.isfinite([low, high, high - low, factor]).all()):
    raise UserError(
      f"dataset.range: {str(tuple(value))[:60]} is not two numbers, for black and, higher, for "
      "white; give such as 0,4095"
    )
  return low, high


def as_uint8(field: str, pixels: np.ndarray, limits: Range | None = None) -> np.ndarray:
  """Pixels of any type as uint8.

  Args:
    field: what to call the array in an error.
    pixels: numbers of any shape.
    limits: the values of black and white; None: those of the type.

  Returns:
    uint8 of the same shape; `pixels` itself if there is nothing to do.

  Raises:
    UserError: no numbers, NaN, infinity, values outside the limits, or a type without limits.
  """
  pixels = np.atleast_1d(pixels)
  if not pixels.size or (pixels.dtype == np.uint8 and limits is None):
    return pixels.astype(np.uint8, copy=False)
  low, high = _limits(field, pixels, limits)
  result = np.empty(pixels.shape, np.uint8)
  count = max(1, BLOCK // pixels[0].size)
  for start in range(0, len(pixels), count):
    result[start : start + count] = np.rint(_levels(pixels[start : start + count], low, high))
  return result


def read_image(file: str | os.PathLike[str] | IO[bytes], *, side: int = 0, resize: int = 0,
               limits: Range | None = None) -> np.ndarray:  # fmt: skip
  """Reads an image file, of several images the first, as uint8 `[H, W, 3]`.

  It is turned as its EXIF orientation says, and shown on white where it is transparent. Grey images
  of 16 bits and of floats keep their precision until they have been resized.

  Args:
    file: its path, or the open file.
    side: height and width. The short side is resized to it (bilinear, antialiased), and the centre
      is cut out. 0: the size of the image.
    resize: what the short side is resized to in place of `side`, at least that; 0: `side`.
    limits: the values of black and white; None: those of the type.

  Raises:
    UserError: its values are not within the limits.
    Exception: it cannot be read.
  """
  with Image.open(file) as image:
    image.load()
    picture = _with_levels(f"dataset.data_dir: {_name(file)}", image, limits)
  if side:
    picture = _square(picture, side, resize or side)
  levels = np.asarray(picture)
  if picture.mode == "F":
    grey = np.rint(levels).clip(0, 255).astype(np.uint8)
    levels = np.repeat(grey[..., np.newaxis], 3, axis=-1)
  return levels


def look(file: str | os.PathLike[str] | IO[bytes]) -> tuple[tuple[int, int], bool]:
  """Height and width of an image as `read_image` reads it, and whether it is grey.

  Raises:
    Exception: it cannot be read.
  """
  with Image.open(file) as image:
    width, height = image.size
    turned = False
    with suppress(Exception):  # as in `_turn`
      turned = image.getexif().get(_ORIENTATION, 1) >= _FIRST_TURNED
    size = (width, height) if turned else (height, width)
    return size, image.mode in ("1", "L", "LA") or _is_wide(image)


def _limits(field: str, pixels: np.ndarray, limits: Range | None) -> Range:
  """The values of black and white; checks that all pixels are within."""
  if pixels.dtype.kind not in "buif":
    raise UserError(f"{field}: {pixels.dtype} is no type of pixels; save them as numbers")
  least, most = _ends(field, pixels)
  found = f"{pixels.dtype} pixels from {least:g} to {most:g}"
  if limits is None or pixels.dtype == bool:
    limits = _limits_of_type(pixels.dtype)
  elif not _can_hold(pixels.dtype, limits):
    raise UserError(
      f"{field}: {found}, which cannot fill dataset.range={_text(limits)}; give their own"
    )
  # What rounding may add to floats is forgiven: half a level.
  slack = (limits[1] - limits[0]) / 510 if limits and pixels.dtype.kind == "f" else 0
  if limits is None or least < limits[0] - slack or most > limits[1] + slack:
    problem = "" if limits is None else f" are not within {limits[0]:g}..{limits[1]:g}"
    usual = next((r for r in _USUAL if r[0] <= least and most <= r[1]), (least, most))
    raise UserError(
      f"{field}: {found}{problem}; give the values of black and white, such as "
      f"dataset.range={_text(usual)}"
    )
  return limits


def _ends(field: str, pixels: np.ndarray) -> Range:
  """The least and the highest value; checks that all are finite."""
  least, most = float(pixels.min()), float(pixels.max())
  if not np.isfinite([least, most]).all():
    place = tuple(np.argwhere(~np.isfinite(pixels))[0].tolist())
    raise UserError(
      f"{field}: pixel {list(place)} is {pixels[place]}; mend it, or leave its image out"
    )
  return least, most


def _limits_of_type(dtype: np.dtype) -> Range | None:
  if dtype.kind in "bf":
    return 0, 1
  return (0, np.iinfo(dtype).max) if dtype.kind == "u" and dtype.itemsize <= 2 else None


def _can_hold(dtype: np.dtype, limits: Range) -> bool:
  """Whether a type has the values of black and white."""
  if dtype.kind == "f":
    return True
  return bool(np.iinfo(dtype).min <= limits[0] and limits[1] <= np.iinfo(dtype).max)


def _text(limits: Range) -> str:
  return f"{limits[0]:g},{limits[1]:g}"


def _levels(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
  """Numbers as float64 levels in [0, 255], not rounded."""
  return ((pixels.astype(np.float64) - low) * (255 / (high - low))).clip(0, 255)


def _name(file: Any) -> str:
  return "an image" if hasattr(file, "read") else str(file)


def _is_wide(image: Image.Image) -> bool:
  """Whether an image is grey with more than 8 bits."""
  return image.mode in ("I", "F") or image.mode.startswith("I;")


def _with_levels(field: str, image: Image.Image, limits: Range | None) -> Image.Image:
  """An image in RGB, or, where it has more than 8 bits, as floats; both of levels in 0..255."""
  sixteen_bits = image.mode == "I" and image.format in _SIXTEEN_BITS
  _turn(image)
  if _is_wide(image):
    numbers = np.asarray(image)
    numbers = numbers.astype(np.uint16) if sixteen_bits else numbers
    return Image.fromarray(_levels(numbers, *_limits(field, numbers, limits)).astype(np.float32))
  image = _on_background(image)
  if limits is None:
    return image
  return Image.fromarray(as_uint8(field, np.asarray(image), limits))


def _turn(image: Image.Image) -> None:
  """Turns an image as its orientation says; one that cannot be read says nothing."""
  with suppress(Exception):  # damaged EXIF can raise anything
    ImageOps.exif_transpose(image, in_place=True)


def _on_background(image: Image.Image) -> Image.Image:
  """The image in RGB, on `BACKGROUND` where it is transparent."""
  if not image.has_transparency_data:
    return image.convert("RGB")
  canvas = Image.new("RGBA", image.size, BACKGROUND)
  canvas.alpha_composite(image.convert("RGBA"))
  return canvas.convert("RGB")


def _square(image: Image.Image, side: int, resize: int) -> Image.Image:
  """The centre, of `side`, of an image whose short side is brought to `resize`."""
  width, height = image.size
  short = min(width, height)
  size = (resize * width // short, resize * height // short)
  resized = image.resize(size, Image.Resampling.BILINEAR)
  left, top = (size[0] - side) // 2, (size[1] - side) // 2
  return resized.crop((left, top, left + side, top + side))
