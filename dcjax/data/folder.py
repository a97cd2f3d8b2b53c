"""Folders of image files, one folder a class: the layout of ImageNet."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from dcjax.common.activity import counted
from dcjax.common.errors import UserError
from dcjax.common.files import expand
from dcjax.data import cache, class_folders, layout, pixels, statistics
from dcjax.data.dataset import Dataset, from_arrays
from dcjax.data.on_disk import IN_MEMORY, Memory, OnDisk
from dcjax.data.pixels import Range
from dcjax.data.source import Source, required_path
from dcjax.data.split import Split
from dcjax.data.zca import check_size

_CACHE_FORMAT = 2  # to be raised when what is cached changes
Listed = tuple[list[Path], np.ndarray]  # files and their labels
_WORDNET_ID = re.compile(r"n\d{8}")  # how ImageNet's folders are called


def load(
  path: str | os.PathLike[str],
  *,
  side: int,
  test_resize: int = 0,
  classes: Sequence[str] = (),
  limits: Range | None = None,
  split: Split = Split(),  # noqa: B008
  memory: Memory = IN_MEMORY,
  cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
  """Loads `train/<class>/*` and `test/<class>/*` as square RGB images of one size.

  Each image's short side is resized to `side` (bilinear, antialiased), then the centre
  is cut out: the usual preparation of ImageNet's test images. `pixels.read_image` says what
  becomes of orientation, transparency and grey images of more than 8 bits. Files that are no image
  by name or content are skipped with a warning.

  Args:
    path: the folder that holds `train` and one of `test`, `val`, `valid` and `validation`, or
      without the latter, or the folders of the classes themselves; the folder above it, or `train`
      (`layout.find`). In place of `test/<class>/*` there may be `val/images/*` and
      `val/val_annotations.txt`, as in Tiny ImageNet.
    side: height and width of the images, at least 1.
    test_resize: what the short side of test images is resized to in place of `side`; 0: `side`.
    classes: which classes to load, in the order of their labels; by default all
      folders in `train`, sorted by name.
    limits: the values of black and white; None: those of each image's type.
    split: which images are for testing where none are set apart.
    memory: whether the images of `train` stay on disk. All of them are decoded once even then, to
      find those that are broken; the same images are used either way.
    cache_dir: where it is kept which files are broken; None or empty as `cache.root` says.

  Returns:
    The data set, named as the folder is. Where all classes are called like ImageNet's
    (n01440764), mean and deviation are ImageNet's, otherwise they are measured.

  Raises:
    UserError: a folder or a class missing, a class without images, `side` below 1, `test_resize`
      below `side`, or too many broken files (`class_folders.report_broken`).
  """
  path = expand("dataset.data_dir", path)
  if side < 1:
    raise UserError(f"dataset.side: {side} is no image size; give 1 or more, such as 224")
  if test_resize and test_resize < side:
    raise UserError(
      f"dataset.test_resize: {test_resize} is less than dataset.side={side}, which is cut out of "
      f"it; give {side * 8 // 7}, or 0"
    )
  found = layout.find(path)
  read = partial(pixels.read_image, side=side, limits=limits)
  names, (files, y_train), tested = _list(found, classes, split)
  mean, std = None, None
  x_train: np.ndarray | OnDisk
  if memory.streams(len(files) * side * side * 3):
    good, levels = _examined(found.train, files, y_train, read, cache_dir)
    files, y_train = (
      [file for file, is_good in zip(files, good, strict=True) if is_good],
      y_train[good],
    )
    x_train = OnDisk(Files(files, read), (side, side, 3), memory)
    mean, std = statistics.of_levels(levels)
  else:
    x_train, y_train = _decode_all(found.train, files, y_train, read, side)
  read_test = partial(read, resize=test_resize)
  x_test, y_test = _decode_all(found.test or found.train, *tested, read_test, side)
  if all(_WORDNET_ID.fullmatch(name) for name in names):
    mean, std = statistics.usual("imagenet2012") or (None, None)
  try:
    return from_arrays(
      x_train,
      y_train,
      x_test,
      y_test,
      name=found.root.resolve().name,
      class_names=names,
      mean=mean,
      std=std,
    )
  except UserError as error:
    raise UserError(f"dataset.data_dir: {found.root}: {error}") from error


def _list(
  found: layout.Layout, classes: Sequence[str], split: Split
) -> tuple[tuple[str, ...], Listed, Listed]:
  """The names of the classes, and the files for training and for testing with their labels."""
  annotations = found.annotations
  roots = [found.train] if found.test is None or annotations else [found.train, found.test]
  names = class_folders.class_names(roots, classes, layout.LAYOUT)
  files, labels = class_folders.list_files(found.train, names, "image", class_folders.is_image)
  if annotations:
    return names, (files, labels), layout.annotated(annotations, names, some=bool(classes))
  if found.test:
    tested = class_folders.list_files(found.test, names, "image", class_folders.is_image)
    return names, (files, labels), tested
  keys = [str(file.relative_to(found.train)) for file in files]
  test = split.held_out(found.root, keys, labels, names)
  listed = [([files[k] for k in np.flatnonzero(part)], labels[part]) for part in (~test, test)]
  return names, listed[0], listed[1]


def _decode_all(
  root: Path, files: list[Path], labels: np.ndarray, read: Callable[[Path], np.ndarray], side: int
) -> tuple[np.ndarray, np.ndarray]:
  """Decodes files: images uint8 `[N, side, side, 3]`, and the labels of those that are images."""
  images, good = class_folders.decode(files, read, (side, side, 3))
  class_folders.report_broken(root, files, labels, good, "image")
  return (images, labels) if good.all() else (images[good], labels[good])


class Files:
  """Images of one size, each decoded from its file when it is asked for.

  It goes to other processes, and decodes there.
  """

  def __init__(self, files: Sequence[Path], read: Callable[[str], np.ndarray]):
    """Reads nothing yet; `files` are sorted by class, and known to be images for `read`."""
    self._files, self._read = [str(file) for file in files], read

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
      return self._read(file)
    except Exception as error:
      raise UserError(
        f"dataset.data_dir: cannot read {file} any more ({type(error).__name__}); put it back and "
        "start the same command again"
      ) from None


def _examined(
  root: Path,
  files: list[Path],
  labels: np.ndarray,
  read: partial,
  cache_dir: str | os.PathLike[str] | None,
) -> tuple[np.ndarray, np.ndarray]:
  """Decodes all files once: which are images, bool `[N]`, and their `statistics.levels`.

  What was found is kept for as long as no file changes.
  """
  entry = cache.root(cache_dir) / "folders" / _digest(root, files, read)
  found = cache.read(entry, {"good": bool, "levels": np.int64})
  if found is None:
    logging.warning(
      "%s: looking once at all of its %d images, which can take minutes", root, len(files)
    )
    found = _examine(files, read)
    cache.write(entry, found)
  good = np.asarray(found["good"])
  class_folders.report_broken(root, files, labels, good, "image")
  return good, np.asarray(found["levels"])


def _digest(root: Path, files: list[Path], read: partial) -> str:
  """A name for all that the decoded files depend on."""
  digest = hashlib.sha256(f"{_CACHE_FORMAT} {read.keywords}".encode())
  for file in files:
    status = file.stat() if file.exists() else file.lstat()  # of a link that leads nowhere
    line = f"{file.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n"
    digest.update(line.encode(errors="surrogateescape"))
  return digest.hexdigest()[:16]


def _examine(files: list[Path], read: Callable[[Path], np.ndarray]) -> dict[str, np.ndarray]:
  """What `_examined` returns, by name."""

  def levels(file):
    try:
      return statistics.levels(read(file)[np.newaxis])
    except UserError:
      raise
    except Exception:  # as in `_decode_all`
      return None

  good, total = [], np.zeros((3, 256), np.int64)
  with ThreadPoolExecutor() as pool:
    for counts in counted(pool.map(levels, files), "decoding", len(files)):
      good.append(counts is not None)
      total += 0 if counts is None else counts
  return {"good": np.array(good), "levels": total}


def _load(fields: Any, memory: Memory) -> Dataset:
  if fields.zca:  # before files are decoded, which may take long
    check_size((fields.side, fields.side, 3))
  return load(
    required_path(fields, "the folder that holds train/ and test/"),
    side=fields.side,
    test_resize=fields.test_resize,
    classes=fields.classes,
    limits=pixels.as_range(fields.range),
    split=Split(fields.test_share, fields.test_seed),
    memory=memory,
    cache_dir=fields.cache_dir,
  )


SOURCE = Source(_load, ranged=True, sided=True, resized=True, classes=True, streams=True)
