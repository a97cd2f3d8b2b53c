"""Folders of image files, one folder a class: the layout of ImageNet."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from dcjax.data import class_folders, statistics
from dcjax.data.dataset import Dataset, from_arrays
from dcjax.errors import UserError
from dcjax.files import expand

_WORDNET_ID = re.compile(r"n\d{8}")  # how ImageNet's folders are called


def load(path: str | os.PathLike[str], *, side: int, classes: Sequence[str] = ()) -> Dataset:
  """Loads `train/<class>/*` and `val/<class>/*` as square RGB images of one size.

  Each image's short side is resized to `side` (bilinear, antialiased), then the centre
  is cut out: the usual preparation of ImageNet's test images. Hidden files are passed
  over; files that are no image are skipped with a warning.

  Args:
    path: the folder that holds `train` and `val`.
    side: height and width of the images, at least 1.
    classes: which classes to load, in the order of their labels; by default all
      folders in `train`, sorted by name.

  Returns:
    The data set, named as the folder is. Where all classes are called like ImageNet's
    (n01440764), mean and deviation are ImageNet's, otherwise they are measured.

  Raises:
    UserError: a folder or a class missing, a class without images, `side` below 1, or
      more than one broken file in a hundred.
  """
  path = expand("dataset.data_dir", path)
  if side < 1:
    raise UserError(f"dataset.side: {side} is no image size; give 1 or more, such as 224")
  splits = path / "train", path / "val"
  names = class_folders.class_names(splits, classes, "train/<class>/ and val/<class>/")
  x_train, y_train = _load_split(splits[0], names, side)
  x_test, y_test = _load_split(splits[1], names, side)
  mean, std = None, None
  if all(_WORDNET_ID.fullmatch(name) for name in names):
    mean, std = statistics.usual("imagenet2012") or (None, None)
  try:
    return from_arrays(
      x_train,
      y_train,
      x_test,
      y_test,
      name=path.resolve().name,
      class_names=names,
      mean=mean,
      std=std,
    )
  except UserError as error:
    raise UserError(f"dataset.data_dir: {path}: {error}") from error


def _load_split(split: Path, names: Sequence[str], side: int) -> tuple[np.ndarray, np.ndarray]:
  """Decodes a split: images uint8 `[N, side, side, 3]`, sorted by class, and labels."""
  files, labels = class_folders.list_files(split, names, "image")
  images, good = class_folders.decode(files, partial(_decode, side=side), (side, side, 3))
  class_folders.report_broken(split, files, good, "image", most=len(files) // 100)
  return (images, labels) if good.all() else (images[good], labels[good])


def _decode(file: Path, side: int) -> np.ndarray:
  """Reads one image file as uint8 `[side, side, 3]`."""
  with Image.open(file) as image:
    width, height = image.size
    short = min(width, height)
    size = (side * width // short, side * height // short)
    resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
  left, top = (size[0] - side) // 2, (size[1] - side) // 2
  return np.asarray(resized.crop((left, top, left + side, top + side)))
