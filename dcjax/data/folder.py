"""Folders of image files, one folder a class: the layout of ImageNet."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from dcjax.data import statistics
from dcjax.data.dataset import Dataset, from_arrays
from dcjax.errors import UserError, nearest
from dcjax.files import expand

_MAX_BROKEN = 0.01  # of a split's files; beyond it something is wrong with the folder
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
  names = _class_names(path, tuple(classes))
  x_train, y_train = _load_split(path / "train", names, side)
  x_test, y_test = _load_split(path / "val", names, side)
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


def _class_names(path: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
  """Returns the classes to load; checks that both splits have a folder of each."""
  train, val = _folders(path / "train"), _folders(path / "val")
  if not classes:
    for name in sorted(set(train) ^ set(val)):
      lacking, other = ("val", "train") if name in train else ("train", "val")
      raise UserError(
        f"dataset.data_dir: {path / lacking} lacks class '{name}', which {other} has;"
        " add its images, or name the classes to load in dataset.classes"
      )
    return tuple(train)
  if len(set(classes)) < len(classes):
    twice = next(name for name in classes if classes.count(name) > 1)
    raise UserError(f"dataset.classes: '{twice}' is there twice; name each class once")
  for split, folders in (("train", train), ("val", val)):
    for name in classes:
      if name not in folders:
        raise UserError(
          f"dataset.classes: no class '{name}' in {path / split}; {nearest(name, folders)}"
        )
  return classes


def _folders(split: Path) -> list[str]:
  """Returns the names of the folders in `split`, sorted."""
  if not split.is_dir():
    raise UserError(
      f"dataset.data_dir: no folder {split}; give the folder that holds train/<class>/"
      " and val/<class>/"
    )
  folders = [entry.name for entry in split.iterdir() if entry.is_dir()]
  names = sorted(name for name in folders if not name.startswith("."))
  if not names:
    raise UserError(f"dataset.data_dir: {split} holds no class folders; add one a class")
  return names


def _load_split(split: Path, names: tuple[str, ...], side: int) -> tuple[np.ndarray, np.ndarray]:
  """Decodes a split: images uint8 `[N, side, side, 3]`, sorted by class, and labels."""
  files, labels = _list_files(split, names)
  images = np.empty((len(files), side, side, 3), np.uint8)

  def decode_into(k: int) -> bool:
    try:
      images[k] = _decode(files[k], side)
    except Exception:  # a broken file can make a decoder raise anything
      return False
    return True

  with ThreadPoolExecutor() as pool:
    good = np.fromiter(pool.map(decode_into, range(len(files))), bool, len(files))
  if good.all():
    return images, labels
  _report_broken(split, files, good)
  return images[good], labels[good]


def _list_files(split: Path, names: tuple[str, ...]) -> tuple[list[Path], np.ndarray]:
  """Lists the files of each class, sorted by name, and their labels."""
  files: list[Path] = []
  labels: list[int] = []
  for label, name in enumerate(names):
    entries = [entry for entry in (split / name).iterdir() if entry.is_file()]
    of_class = sorted(entry for entry in entries if not entry.name.startswith("."))
    if not of_class:
      raise UserError(
        f"dataset.data_dir: {split / name} holds no image files; add some, or leave the"
        " class out of dataset.classes"
      )
    files += of_class
    labels += [label] * len(of_class)
  return files, np.asarray(labels, np.int32)


def _decode(file: Path, side: int) -> np.ndarray:
  """Reads one image file as uint8 `[side, side, 3]`."""
  with Image.open(file) as image:
    width, height = image.size
    short = min(width, height)
    size = (side * width // short, side * height // short)
    resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
  left, top = (size[0] - side) // 2, (size[1] - side) // 2
  return np.asarray(resized.crop((left, top, left + side, top + side)))


def _report_broken(split: Path, files: list[Path], good: np.ndarray) -> None:
  """Warns that files were skipped; raises if they are too many."""
  count = int((~good).sum())
  first = files[int(np.argmin(good))]
  if count > _MAX_BROKEN * len(files):
    raise UserError(
      f"dataset.data_dir: {count} of {len(files)} files in {split} are no readable"
      f" images, the first is {first}; mend or remove them"
    )
  logging.warning(
    "%s: skipped %d of %d files, which are no readable images; the first is %s",
    split,
    count,
    len(files),
    first,
  )
