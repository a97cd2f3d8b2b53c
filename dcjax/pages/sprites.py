"""The images of a run as sprite sheets: all of a set in one picture, as text that a page holds."""

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image

from dcjax.common.errors import UserError
from dcjax.common.quantities import spread
from dcjax.figures.pictures import MOST_COLUMNS
from dcjax.sets.synthetic import SyntheticSet

LOSSLESS = 4_000_000  # bytes that all sheets of a run may have as PNG; else they are WebP
QUALITY = 85  # of WebP, out of 100
MOST_PIXELS = 16_000_000  # of a sheet, which the browser holds in memory
STORED, DECODED = "stored", "decoded"

Kinds = dict[str, np.ndarray]  # uint8 `[classes, images, H, W, C]` of each kind


class Gallery(NamedTuple):
  """The images of a run.

  Attributes:
    classes: their names, in order.
    iterations: of which there are images, in order.
    kinds: the sheets of stored images, and of decoded ones where they differ. Of each kind there
      are `sheets`, a data URI for each iteration; `columns` of images; `tile`, height and width of
      an image; `count`, images of each class. Classes come one after another.
    notes: sentences on what is left out or changed.
  """

  classes: list[str]
  iterations: list[int]
  kinds: dict[str, dict[str, Any]]
  notes: list[str]


class _Choice(NamedTuple):
  """What fits: how many iterations, which share of the images, and whether without losses."""

  iterations: int
  share: float
  lossless: bool

  def of(self, images: np.ndarray) -> np.ndarray:
    """The images that are shown, `[classes, count, H, W, C]`."""
    return images[:, : max(1, int(images.shape[1] * self.share))]


def gallery(sets: Mapping[int, Path], budget: int) -> Gallery:
  """The images of a run over its iterations, in about so many bytes of text.

  Where they are too many, iterations are left out first, and then images of each class.

  Args:
    sets: files of synthetic sets, by iteration.
    budget: bytes that the data URIs may have together.

  Raises:
    UserError: no set can be read.
  """
  notes: list[str] = []
  iterations, synthetic = _newest(sets, notes)
  kinds = pictures(synthetic)
  choice = _choose(kinds, min(len(iterations), MOST_COLUMNS), budget)
  sheets: dict[int, dict[str, str]] = {}
  for iteration in spread(iterations, choice.iterations):
    try:
      images = kinds if iteration == iterations[-1] else _earlier(sets[iteration], kinds)
    except UserError as error:
      notes.append(f"Iteration {iteration} is left out: {reason(error)}.")
      continue
    sheets[iteration] = {
      kind: _uri(choice.of(each), choice.lossless) for kind, each in images.items()
    }
  _thin(sheets, budget)
  described = {
    kind: {"sheets": [each[kind] for each in sheets.values()], **_layout(choice.of(images))}
    for kind, images in kinds.items()
  }
  names = synthetic.class_names()
  if synthetic.soft_labels is not None:
    label = synthetic.metadata["label_kind"]
    notes.append(f"Labels are soft ({label}): an image may stand for other classes, too.")
  notes += _left_out(len(sheets), len(sets), kinds, choice)
  return Gallery(names, list(sheets), described, notes)


def _thin(sheets: dict[int, dict[str, str]], budget: int) -> None:
  """Leaves out iterations until the others fit: earlier images may take more than the last."""
  sizes = {place: sum(map(len, each.values())) for place, each in sheets.items()}
  while len(sizes) > 1 and sum(sizes.values()) > budget:
    place = list(sizes)[len(sizes) // 2 - 1]
    del sheets[place], sizes[place]


def reason(error: UserError) -> str:
  """What is wrong, without what to do about it."""
  return str(error).rpartition(";")[0] or str(error)


def _newest(sets: Mapping[int, Path], notes: list[str]) -> tuple[list[int], SyntheticSet]:
  """The newest set that can be read, and the iterations up to it; notes on those after it."""
  iterations = sorted(sets)
  while True:
    try:
      return iterations, SyntheticSet.load(sets[iterations[-1]])
    except UserError as error:
      if len(iterations) == 1:
        raise
      notes.append(f"Iteration {iterations.pop()} is left out: {reason(error)}.")


def pictures(synthetic: SyntheticSet) -> Kinds:
  """The images as a person sees them: as stored, and as networks see them if that is different."""
  stored = synthetic.pixels()
  images = synthetic.decoded()
  if synthetic.whitening is not None:
    images = np.asarray(synthetic.whitening.unwhiten(jnp.asarray(images)))
  mean, std = (np.asarray(synthetic.metadata[name], np.float32) for name in ("mean", "std"))
  decoded = np.round(np.clip(images * std + mean, 0, 1) * 255).astype(np.uint8)
  if decoded.shape == stored.shape and np.abs(decoded.astype(int) - stored).max() <= 1:
    return {STORED: stored}
  return {STORED: stored, DECODED: decoded}


def _earlier(file: Path, kinds: Kinds) -> Kinds:
  """The images of an earlier iteration, in the same kinds."""
  found = pictures(SyntheticSet.load(file))
  found = {kind: found.get(kind, found[STORED]) for kind in kinds}
  if any(found[kind].shape != images.shape for kind, images in kinds.items()):
    raise UserError(f"{file.name} has other images than the last; remove it")
  return found


def _choose(kinds: Kinds, iterations: int, budget: int) -> _Choice:
  """What of so many iterations fits into so many bytes of base64, of which one is 3/4 byte."""
  budget = budget * 3 // 4
  most = min(LOSSLESS, budget) // iterations
  raw = sum(images.nbytes for images in kinds.values())
  if raw < 10 * most and sum(len(_encoded(images, True)) for images in kinds.values()) <= most:
    return _Choice(iterations, 1.0, True)
  size = sum(len(_encoded(images, False)) for images in kinds.values())
  share = min(1.0, budget / size)
  return _Choice(max(1, min(iterations, int(budget / (size * share)))), share, False)


def _left_out(shown: int, available: int, kinds: Kinds, choice: _Choice) -> list[str]:
  """Sentences on what is not as it is in the files."""
  notes = []
  if shown < available:
    notes.append(f"{shown} of {available} saved iterations are shown.")
  images = kinds[STORED]
  if (count := choice.of(images).shape[1]) < images.shape[1]:
    notes.append(f"{count} of {images.shape[1]} images of each class are shown.")
  if not choice.lossless:
    notes.append(f"Images are compressed with losses (WebP, quality {QUALITY}).")
  if any(_step(choice.of(each)) > 1 for each in kinds.values()):
    notes.append("Images are shown smaller than they are.")
  return notes


def _step(images: np.ndarray) -> int:
  """By what images are made smaller, so that the sheet is not too large."""
  classes, count, height, width, _ = images.shape
  return math.ceil(math.sqrt(classes * count * height * width / MOST_PIXELS))


def _layout(images: np.ndarray) -> dict[str, Any]:
  """How a sheet is made of images `[classes, count, H, W, C]`; it is about as wide as high."""
  classes, count, height, width, _ = images.shape
  step = _step(images)
  columns = math.ceil(math.sqrt(classes * count * height / width))
  return {
    "columns": min(columns, classes * count),
    "tile": [max(1, height // step), max(1, width // step)],
    "count": count,
  }


def sheet(images: np.ndarray) -> np.ndarray:
  """Images `[classes, count, H, W, C]` in one picture: uint8 `[height, width]`, or `[..., 3]`."""
  layout, step = _layout(images), _step(images)
  (height, width), columns = layout["tile"], layout["columns"]
  tiles = images.reshape(-1, *images.shape[2:])
  tiles = tiles[..., :3] if tiles.shape[-1] >= 3 else tiles[..., :1]
  channels = tiles.shape[-1]
  if step > 1:
    tiles = tiles[:, : height * step, : width * step]
    tiles = tiles.reshape(len(tiles), height, -1, width, tiles.shape[2] // width, channels)
    tiles = tiles.mean((2, 4)).round().astype(np.uint8)
  rows = -(-len(tiles) // columns)
  whole = np.zeros((rows * columns, height, width, channels), np.uint8)
  whole[: len(tiles)] = tiles
  whole = whole.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
  whole = whole.reshape(rows * height, columns * width, channels)
  return whole[..., 0] if channels == 1 else whole


def _encoded(images: np.ndarray, lossless: bool) -> bytes:
  stream = io.BytesIO()
  picture = Image.fromarray(sheet(images))
  if lossless:
    picture.save(stream, "PNG", compress_level=6)
  else:
    picture.save(stream, "WEBP", quality=QUALITY, method=2)
  return stream.getvalue()


def _uri(images: np.ndarray, lossless: bool) -> str:
  kind = "png" if lossless else "webp"
  return f"data:image/{kind};base64,{base64.b64encode(_encoded(images, lossless)).decode()}"
