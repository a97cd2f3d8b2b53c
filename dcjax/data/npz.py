"""Arrays in one `.npz` file: the plainest way to bring data of one's own."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dcjax.data.dataset import Dataset, from_arrays
from dcjax.errors import UserError
from dcjax.files import expand

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_OPTIONAL = ("class_names",)


def load(path: str | os.PathLike[str]) -> Dataset:
  """Loads images and labels from an `.npz` file, as `numpy.savez` writes it.

  Args:
    path: the file. Its keys are those of `from_arrays`: `x_train` uint8
      `[N, H, W, C]` or `[N, H, W]`, `y_train` integers `[N]`, `x_test`, `y_test`, and
      if wanted `class_names`, strings `[classes]`. Nothing in it is unpickled.

  Returns:
    The data set, named as the file is. Mean and deviation are measured.

  Raises:
    UserError: no such file, no `.npz` file, a key missing, or an array that is not as
      above. The message names the file and the key.
  """
  path = expand("dataset.data_dir", path)
  found = _read(path)
  names = found.pop("class_names", None)
  try:
    return from_arrays(**found, name=path.stem, class_names=_class_names(names))
  except UserError as error:
    raise UserError(f"dataset.data_dir: {path}: {error}") from error


def _read(path: Path) -> dict[str, np.ndarray]:
  """Reads the keys that we know from the file at `path`."""
  try:
    file = np.load(path, allow_pickle=False)
  except FileNotFoundError:
    raise UserError(f"dataset.data_dir: no file {path}; give the path of an .npz file") from None
  except Exception as error:  # a damaged file may raise anything
    raise _not_an_npz(path) from error
  if not isinstance(file, np.lib.npyio.NpzFile):
    raise _not_an_npz(path)
  with file:
    _check_keys(path, file)
    return {key: _array(path, file, key) for key in _REQUIRED + _OPTIONAL if key in file}


def _not_an_npz(path: Path) -> UserError:
  return UserError(
    f"dataset.data_dir: {path} is not a readable .npz file; write one with numpy.savez,"
    f" keys {', '.join(_REQUIRED)}"
  )


def _check_keys(path: Path, file: Mapping[str, np.ndarray]) -> None:
  """Checks that no key is missing; an error also names the keys that are there."""
  missing = [key for key in _REQUIRED if key not in file]
  if missing:
    raise UserError(
      f"dataset.data_dir: {path} lacks {', '.join(missing)} (found:"
      f" {', '.join(file) or 'nothing'}); save the arrays under these names"
    )


def _array(path: Path, file: Mapping[str, np.ndarray], key: str) -> np.ndarray:
  """Reads one array; object arrays, which would need pickle, are refused."""
  try:
    return file[key]
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
