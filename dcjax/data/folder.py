"""Folders of image files, one folder a class: the layout of ImageNet."""

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from dcjax.activity import counted
from dcjax.data import cache, class_folders, statistics
from dcjax.data.dataset import Dataset, from_arrays
from dcjax.data.on_disk import IN_MEMORY, Memory, OnDisk
from dcjax.errors import UserError
from dcjax.files import expand

_CACHE_FORMAT = 1  # to be raised when what is cached changes
_WORDNET_ID = re.compile(r"n\d{8}")  # how ImageNet's folders are called


def load(
  path: str | os.PathLike[str],
  *,
  side: int,
  classes: Sequence[str] = (),
  memory: Memory = IN_MEMORY,
  cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
  """Loads `train/<class>/*` and `val/<class>/*` as square RGB images of one size.

  Each image's short side is resized to `side` (bilinear, antialiased), then the centre
  is cut out: the usual preparation of ImageNet's test images. Hidden files are passed
  over; files that are no image are skipped with a warning.

  Args:
    path: the folder that holds `train` and `val`.
    side: height and width of the images, at least 1.
    classes: which classes to load, in the order of their labels; by default all
      folders in `train`, sorted by name.
    memory: whether the images of `train` stay on disk. All of them are decoded once even then, to
      find those that are broken; the same images are used either way.
    cache_dir: where it is kept which files are broken; None or empty as `cache.root` says.

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
  files, y_train = class_folders.list_files(splits[0], names, "image")
  mean, std = None, None
  x_train: np.ndarray | OnDisk
  if memory.streams(len(files) * side * side * 3):
    good, levels = _examined(splits[0], files, side, cache_dir)
    files, y_train = (
      [file for file, is_good in zip(files, good, strict=True) if is_good],
      y_train[good],
    )
    x_train = OnDisk(Files(files, side), (side, side, 3), memory)
    mean, std = statistics.of_levels(levels)
  else:
    x_train, y_train = _decode_all(splits[0], files, y_train, side)
  tested = class_folders.list_files(splits[1], names, "image")
  x_test, y_test = _decode_all(splits[1], *tested, side)
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


def _decode_all(
  split: Path, files: list[Path], labels: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
  """Decodes files: images uint8 `[N, side, side, 3]`, and the labels of those that are images."""
  images, good = class_folders.decode(files, partial(_decode, side=side), (side, side, 3))
  _report_broken(split, files, good)
  return (images, labels) if good.all() else (images[good], labels[good])


def _report_broken(split: Path, files: list[Path], good: np.ndarray) -> None:
  class_folders.report_broken(split, files, good, "image", most=len(files) // 100)


class Files:
  """Images of one size, each decoded from its file when it is asked for.

  It goes to other processes, and decodes there.
  """

  def __init__(self, files: Sequence[Path], side: int):
    """Reads nothing yet; `files` are sorted by class, and known to be images."""
    self._files, self._side = [str(file) for file in files], side

  def __len__(self) -> int:
    """How many there are."""
    return len(self._files)

  def __getitem__(self, place: int) -> np.ndarray:
    """An image by its place, uint8 `[side, side, 3]`.

    Raises:
      UserError: it could be read once, and cannot any more.
    """
    file = self._files[place]
    try:
      return _decode(Path(file), self._side)
    except Exception as error:
      raise UserError(
        f"dataset.data_dir: cannot read {file} any more ({type(error).__name__}); put it back and "
        "start the same command again"
      ) from None


def _examined(
  split: Path, files: list[Path], side: int, cache_dir: str | os.PathLike[str] | None
) -> tuple[np.ndarray, np.ndarray]:
  """Decodes all files once: which are images, bool `[N]`, and their `statistics.levels`.

  What was found is kept for as long as no file changes.
  """
  entry = cache.root(cache_dir) / "folders" / _digest(split, files, side)
  found = cache.read(entry, ("good", "levels"))
  if found is None:
    logging.warning(
      "%s: looking once at all of its %d images, which can take minutes", split, len(files)
    )
    found = _examine(files, side)
    cache.write(entry, found)
  good = np.asarray(found["good"])
  _report_broken(split, files, good)
  return good, np.asarray(found["levels"])


def _digest(split: Path, files: list[Path], side: int) -> str:
  """A name for all that the decoded files depend on."""
  digest = hashlib.sha256(f"{_CACHE_FORMAT} {side}".encode())
  for file in files:
    status = file.stat()
    line = f"{file.relative_to(split)} {status.st_size} {status.st_mtime_ns}\n"
    digest.update(line.encode(errors="surrogateescape"))
  return digest.hexdigest()[:16]


def _examine(files: list[Path], side: int) -> dict[str, np.ndarray]:
  """What `_examined` returns, by name."""

  def levels(file):
    try:
      return statistics.levels(_decode(file, side)[np.newaxis])
    except Exception:  # as in `_decode_all`
      return None

  good, total = [], np.zeros((3, 256), np.int64)
  with ThreadPoolExecutor() as pool:
    for counts in counted(pool.map(levels, files), "decoding", len(files)):
      good.append(counts is not None)
      total += 0 if counts is None else counts
  return {"good": np.array(good), "levels": total}


def _decode(file: Path, side: int) -> np.ndarray:
  """Reads one image file as uint8 `[side, side, 3]`."""
  with Image.open(file) as image:
    width, height = image.size
    short = min(width, height)
    size = (side * width // short, side * height // short)
    resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
  left, top = (size[0] - side) // 2, (size[1] - side) // 2
  return np.asarray(resized.crop((left, top, left + side, top + side)))
