"""A picture of a set for the screen, drawn without matplotlib, which takes long to load."""

from pathlib import Path
from typing import TYPE_CHECKING

from dcjax.common.files import writing

if TYPE_CHECKING:  # it brings jax
  from dcjax.sets.synthetic import SyntheticSet

TILE = 72  # least side of an image in a grid, in pixels of the screen
WIDEST = 2000  # a grid of many images is not magnified beyond this
GAP = 4  # pixels between images
TEXT = 15  # height of the text in pixels


def save_grid(synthetic: "SyntheticSet", file: Path) -> None:
  """Draws a set as a PNG: one row a class, with its name, pixels magnified and denormalised."""
  from PIL import Image, ImageDraw, ImageFont

  pixels = synthetic.pixels()
  classes, ipc, height, width, channels = pixels.shape
  factor = max(1, min(-(-TILE // min(height, width)), WIDEST // ((width + GAP) * ipc)))
  font = ImageFont.load_default(TEXT)
  names = [str(name) for name in synthetic.metadata["class_names"]]
  margin = 2 * GAP + max(int(font.getlength(name)) for name in names)
  step_x, step_y = width * factor + GAP, max(height * factor, TEXT) + GAP
  sheet = Image.new("RGB", (margin + ipc * step_x, GAP + classes * step_y), "white")
  draw = ImageDraw.Draw(sheet)
  for row, name in enumerate(names):
    top = GAP + row * step_y
    draw.text((GAP, top + step_y / 2 - GAP), name, fill="black", font=font, anchor="lm")
    for column in range(ipc):
      image = Image.fromarray(pixels[row, column, ..., 0] if channels == 1 else pixels[row, column])
      image = image.resize((width * factor, height * factor), Image.Resampling.NEAREST)
      sheet.paste(image, (margin + column * step_x, top))
  with writing(file, "wb") as stream:
    sheet.save(stream, "PNG")
