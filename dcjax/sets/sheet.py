"""A set as one picture for the screen, of any number of classes and images.

matplotlib, which takes long to load, is not needed: it draws the figures of papers
(`figures.pictures`).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcjax.common.files import writing
from dcjax.common.quantities import spread

if TYPE_CHECKING:  # it shows itself by this module
  from dcjax.sets.synthetic import SyntheticSet

GAP = 4  # pixels between the images
MOST_TILES = 2000  # images in one picture
AREA = 8_000_000  # pixels that the images take up, at most
TILE = (32, 96)  # sides that an image is shrunk and magnified to, in pixels
TALLEST = 560  # pixels; a taller picture is no taller than it is wide
TEXT = 15  # height of the text in pixels
LONGEST_NAME = 24  # characters of a class name


def picture(synthetic: "SyntheticSet") -> Image.Image:
  """The images of a set: one row a class, with its name; many classes stand in several columns.

  What a picture has no room for is left out, and a line below says how much.
  """
  classes, ipc = synthetic.images.shape[:2]
  rows, shown = choose(classes, ipc)
  pixels = synthetic.pixels()[rows, :shown]
  side = _side(len(rows) * shown, max(pixels.shape[2:4]))
  images = mosaic(pixels, side)
  names = row_names(synthetic, rows)
  font = ImageFont.load_default(TEXT)
  margin = 2 * GAP + max(int(font.getlength(name)) for name in names)
  height, width = images.shape[0] // len(rows), images.shape[1]
  pitch = max(height, TEXT + GAP)  # from one row to the next
  across = columns(len(rows), pitch, margin + width)
  down = -(-len(rows) // across)
  note = left_out(len(rows), classes, shown, ipc)
  size = across * (margin + width) + GAP, down * pitch + (TEXT + 3 * GAP if note else GAP)
  sheet = Image.new("RGB", size, "white")
  draw = ImageDraw.Draw(sheet)
  for row, name in enumerate(names):
    left, top = row // down * (margin + width), row % down * pitch + GAP // 2
    place = left + margin - GAP, top + pitch / 2
    draw.text(place, name, fill="black", font=font, anchor="rm")
    image = Image.fromarray(images[row * height : (row + 1) * height])
    sheet.paste(image, (left + margin, top + (pitch - height) // 2))
  draw.text((GAP, size[1] - GAP), note, fill="black", font=font, anchor="ls")
  return sheet


def save(synthetic: "SyntheticSet", file: Path) -> None:
  """Writes the picture of a set as a PNG file, whole or not at all."""
  with writing(file, "wb") as stream:
    picture(synthetic).save(stream, "PNG")


def choose(classes: int, ipc: int, most: int = MOST_TILES) -> tuple[list[int], int]:
  """The classes that a picture shows, evenly spread, and how many images of each."""
  rows = spread(range(classes), most)
  return rows, min(ipc, max(1, most // len(rows)))


def left_out(shown_classes: int, classes: int, shown: int, ipc: int) -> str:
  """Says what a picture shows of a set; nothing if it shows all."""
  parts = []
  if shown < ipc:
    parts.append(f"{shown} of {ipc} images per class")
  if shown_classes < classes:
    parts.append(f"{shown_classes} of {classes} classes")
  return ", ".join(parts)


def columns(rows: int, pitch: int, width: int, tallest: int = TALLEST) -> int:
  """The fewest columns that rows can stand in without a picture that is taller than a page.

  Args:
    rows: how many.
    pitch: pixels from one to the next.
    width: of a column, in pixels.
    tallest: the height of a page. A picture that is wider may be as tall as it is wide.
  """
  fits = (
    count for count in range(1, rows) if -(-rows // count) * pitch <= max(tallest, count * width)
  )
  return next(fits, rows)


def row_names(synthetic: "SyntheticSet", rows: Sequence[int]) -> list[str]:
  """The names of some classes, none too long for a picture."""
  names = synthetic.class_names()
  return [_shorten(names[row]) for row in rows]


def _shorten(name: str) -> str:
  return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _side(tiles: int, longest: int) -> int:
  """Pixels that the longer side of an image may take up, of an image of so many."""
  room = math.isqrt(AREA // tiles)
  return max(TILE[0], min(room, max(TILE[1], longest)))


def mosaic(tiles: np.ndarray, side: int) -> np.ndarray:
  """Images in rows and columns on white, magnified by whole numbers where they fit.

  Args:
    tiles: uint8 `[rows, columns, H, W, C]`, C of 1 or 3.
    side: pixels that the longer side of an image may take up.

  Returns:
    uint8 `[height, width, 3]`. Each image has half of `GAP` pixels of white on every side.
  """
  rows, columns, height, width, _ = tiles.shape
  longest = max(height, width)
  factor = side // longest or side / longest
  size = max(1, round(width * factor)), max(1, round(height * factor))
  resample = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
  step_x, step_y = size[0] + GAP, size[1] + GAP
  canvas = np.full((rows * step_y, columns * step_x, 3), 255, np.uint8)
  for row, column in np.ndindex(rows, columns):
    pixels = np.broadcast_to(tiles[row, column], (height, width, 3))
    scaled = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, resample)
    top, left = row * step_y + GAP // 2, column * step_x + GAP // 2
    canvas[top : top + size[1], left : left + size[0]] = scaled
  return canvas
