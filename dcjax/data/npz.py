"""Arrays in one `.npz` file: the plainest way to bring data of one's own."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from dcjax.common.errors import UserError
from dcjax.common.files import expand
from dcjax.data.dataset import Dataset
from dcjax.data.on_disk import Memory
from dcjax.data.pixels import Range, as_range
from dcjax.data.source import Source, from_any, required_path

_OURS = ("x_train", "y_train", "x_test", "y_test")  # the arguments of `from_arrays`
_MEDMNIST = ("train_images", "train_labels", "test_images", "test_labels")  # in the same order
_NAMES = "class_names"
_NOT_USED = "val_images"


def load(path: str | os.PathLike[str], *, limits: Range | None = None) -> Dataset:
  """Loads images and labels from an `.npz` file, as `numpy.savez` writes it.

  Args:
    path: the file. Its keys are those of `from_arrays`: `x_train` `[N, H, W, C]` or `[N, H, W]`,
      `y_train` integers `[N]` or `[N, 1]`, `x_test`, `y_test`, and if wanted `class_names`, strings
      `[classes]`. Or they are MedMNIST's, `train_images` to `test_labels`, of which those that
      begin with `val_` are not used. Nothing in it is unpickled.
    limits: the values of black and white; None: those of the images' type (`dcjax.data.pixels`).

  Returns:
    The data set, named as the file is. Mean and deviation are measured.

  Raises:
    UserError: no such file, no `.npz` file, a key missing, or an array that is not as
      above. The message names the file and the key.
  """
  path = expand("dataset.data_dir", path)
  keys, found = _read(path)
  names = found.pop(_NAMES, None)
  try:
    arrays = [found[key] for key in keys]
    return from_any(arrays, name=path.stem, class_names=_class_names(names), limits=limits)
  except UserError as error:
    message = str(error)
    for ours, theirs in zip(_OURS, keys, strict=True):
      message = message.replace(ours, theirs)
    raise UserError(f"dataset.data_dir: {path}: {message}") from error


def _read(path: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
  """Reads the arrays of the keys that we know from the file at `path`; also returns these keys."""
  try:
    file = np.load(path, allow_pickle=False)
  except FileNotFoundError:
    raise UserError(f"dataset.data_dir: no file {path}; give the path of an .npz file") from None
  except Exception as error:  # a damaged file may raise anything
    raise _not_an_npz(path) from error
  if not isinstance(file, np.lib.npyio.NpzFile):
    raise _not_an_npz(path)
  with file:
    keys = _MEDMNIST if set(_MEDMNIST) & set(file) else _OURS
    _check_keys(path, file, keys)
    if _NOT_USED in file:
      logging.warning(
        "%s: training on train_images, testing on test_images; not used: %s", path, _NOT_USED
      )
    return keys, {key: _array(path, file, key) for key in (*keys, _NAMES) if key in file}


def _not_an_npz(path: Path) -> UserError:
  return UserError(
    f"dataset.data_dir: {path} is not a readable .npz file; write one with numpy.savez,"
    f" keys {', '.join(_OURS)}"
  )


def _check_keys(path: Path, file: Mapping[str, np.ndarray], keys: tuple[str, ...]) -> None:
  """Checks that no key is missing; an error also names the keys that are there."""
  missing = [key for key in keys if key not in file]
  if missing:
    raise UserError(
      f"dataset.data_dir: {path} lacks {', '.join(missing)} (found:"
      f" {', '.join(file) or 'nothing'}); save the arrays under these names"
    )


def _array(path: Path, file: Mapping[str, np.ndarray], key: str) -> np.ndarray:
  """Reads one array; object arrays, which would need pickle, are refused."""
  try:
    array = file[key]
    if not isinstance(array, np.ndarray):
      raise ValueError("no array")
    return array
  except Exception as error:  # zipfile, zlib and numpy each raise their own
    raise UserError(
      f"dataset.data_dir: {path}: {key}: cannot be read ({type(error).__name__});"
      " save it anew, as a plain array without objects"
    ) from error


def _class_names(names: np.ndarray | None) -> list[str] | None:
  """Returns the names as strings; checks that they are strings, in one dimension."""
  if names is None:
    return None
  if names.ndim != 1 or names.dtype.kind != "U":
    raise UserError(
      f"class_names: expected strings [classes], got {names.dtype} {list(names.shape)}"
    )
  return names.tolist()


def _load(fields: Any, _: Memory) -> Dataset:
  return load(required_path(fields, "the .npz file"), limits=as_range(fields.range))


SOURCE = Source(_load, ranged=True)
