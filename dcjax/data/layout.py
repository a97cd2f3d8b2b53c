"""How people lay out folders of images: where the classes for training and testing are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from dcjax.common.errors import UserError
from dcjax.data import class_folders

LAYOUT = "train/<class>/* and test/<class>/* (or val/), or <class>/*"
_TRAIN = ("train", "training")
_UNLABELLED = ("test", "testing")  # which may have no classes
_TEST = (*_UNLABELLED, "val", "valid", "validation")


class Layout(NamedTuple):
  """Where the images of a data set are."""

  root: Path
  train: Path  # holds a folder for each class; may be the root
  test: Path | None  # likewise; None: a share of `train`

  @property
  def annotations(self) -> Path | None:
    """The text file that says the classes of `test/images/*`, as in Tiny ImageNet."""
    return self.test and _annotations(self.test)


def find(path: Path) -> Layout:
  """Finds the images of a data set, also where `path` is a level too high or too deep.

  Args:
    path: the folder that a user gives.

  Raises:
    UserError: there is no folder of images that could be meant.
  """
  if path.is_file():
    source = {".npz": "npz", ".parquet": "hf", ".arrow": "hf"}.get(path.suffix.lower())
    hint = f"set dataset.name={source}" if source else f"give the folder that holds {LAYOUT}"
    raise UserError(f"dataset.data_dir: {path} is a file; {hint}")
  folders = _by_name(path)
  train = _first_split(folders, _TRAIN)
  if train:
    return Layout(path, train, _test_folder(folders, train))
  above = path.resolve().parent
  if path.resolve().name.lower() in (*_TRAIN, *_TEST) and _first_split(_by_name(above), _TRAIN):
    return _elsewhere(path, above)
  if len(folders) == 1 and _by_name(only := next(iter(folders.values()))):
    return _elsewhere(path, only)
  _check_top(path, folders)
  return Layout(path, path, None)


def _elsewhere(path: Path, found: Path) -> Layout:
  logging.warning("%s: reading the data set in %s", path, found)
  return find(found)


def _by_name(path: Path) -> dict[str, Path]:
  """The folders in a folder by their names in lower case."""
  return {folder.name.lower(): folder for folder in class_folders.folders(path, LAYOUT)}


def _first_split(folders: dict[str, Path], names: Sequence[str]) -> Path | None:
  """The first folder of one of these names that holds folders itself: others are classes."""
  return next(
    (folders[name] for name in names if name in folders and _by_name(folders[name])), None
  )


def _test_folder(folders: dict[str, Path], train: Path) -> Path | None:
  """The folder of test images: the first of those with the most classes of `train`.

  A folder `test` with none of them has no labels, as ImageNet's, and is not used.
  """
  candidates = [folders[name] for name in _TEST if name in folders]
  shared = {folder: _shared(folder, train) for folder in candidates}
  able = [f for f in candidates if shared[f] or f.name.lower() not in _UNLABELLED]
  chosen = max(able, key=shared.__getitem__, default=None)
  if others := ", ".join(folder.name for folder in candidates if folder != chosen):
    tested = chosen.name if chosen else "a share of train"
    logging.warning("%s: testing on %s; not used: %s", train.parent, tested, others)
  return chosen


def _shared(folder: Path, train: Path) -> int:
  """How many classes of `train` a folder of test images has."""
  classes = _class_names(train)
  return len(classes if _annotations(folder) else classes & _class_names(folder))


def _class_names(folder: Path) -> set[str]:
  return {found.name for found in _by_name(folder).values()}


def _check_top(path: Path, folders: dict[str, Path]) -> None:
  """Checks that the folders in `path` can be classes."""
  if not folders:
    raise UserError(
      f"dataset.data_dir: {path} holds no class folders; give the folder that holds {LAYOUT}"
    )
  if test := _first_split(folders, _TEST):
    raise UserError(f"dataset.data_dir: {path} holds {test.name}/ and no train/; add it")
  for folder in folders.values():
    files = [entry for entry in folder.iterdir() if entry.is_file()]
    if len(_by_name(folder)) > 1 and not any(map(class_folders.is_image, files)):
      raise UserError(
        f"dataset.data_dir: {folder} holds folders, not images; give the folder whose folders are "
        "the classes"
      )


def _annotations(split: Path) -> Path | None:
  file = split / "val_annotations.txt"
  return file if file.is_file() and (split / "images").is_dir() else None


def annotated(file: Path, names: Sequence[str], *, some: bool) -> tuple[list[Path], np.ndarray]:
  """The files in `images/`, and their labels int32 `[N]`, from a text file beside it.

  Args:
    file: a line for each image: its name, its class, and more, with tabs between.
    names: the classes.
    some: whether there are other classes, whose images are left out.

  Raises:
    UserError: a line is not like that, or has another class; or a class has no image.
  """
  found = [(image, name) for image, name in _lines(file) if name in names or not some]
  for _, name in found:
    if name not in names:
      raise UserError(f"dataset.data_dir: {file}: no class '{name}' for training; add its images")
  for name in set(names) - {name for _, name in found}:
    raise UserError(f"dataset.data_dir: {file} has no image of class '{name}'; add some")
  labels = [names.index(name) for _, name in found]
  return [file.parent / "images" / image for image, _ in found], np.asarray(labels, np.int32)


def _lines(file: Path) -> Iterator[tuple[str, str]]:
  for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
    image, *rest = line.split("\t")
    if not rest or "/" in image:
      raise UserError(
        f"dataset.data_dir: {file}, line {number}: not a file and its class with a tab between; "
        "put the original file back"
      )
    yield image, rest[0]
