"""Decoded arrays kept on disk, so that a data set is decoded once.

An entry is a folder of plain `.npy` files, and `digests.json` with a digest of each. It is written
under another name and then renamed, so what bears the entry's name is whole. A cache only saves
time: whatever is wrong with it is a warning and a reason to decode again, never an error.
"""

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from numpy.typing import DTypeLike

from dcjax.common.errors import gist
from dcjax.common.files import expand, sync, writing

DIGESTS = "digests.json"


def root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
  """Returns the folder that entries lie in.

  Args:
    cache_dir: the folder; None or empty for `dcjax` in `$XDG_CACHE_HOME`, or in
      `~/.cache` where that is not set.
  """
  if cache_dir:
    return expand("dataset.cache_dir", cache_dir)
  return expand("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dcjax"


def read(entry: Path, dtypes: Mapping[str, DTypeLike]) -> dict[str, np.ndarray] | None:
  """Reads an entry and checks it; the arrays are mapped from disk.

  Args:
    entry: its folder.
    dtypes: of its arrays, by their names; what else an entry holds makes it unusable.

  Returns:
    One array a name; or None, with a warning, where they are not those that were written, and None
    where there is no entry.
  """
  if not entry.is_dir():
    return None
  try:
    return _read(entry, dtypes)
  except (OSError, ValueError, EOFError, RecursionError) as error:
    logging.warning("%s: not used (%s); making it anew", entry, gist(error))
    return None


def _read(entry: Path, dtypes: Mapping[str, DTypeLike]) -> dict[str, np.ndarray]:
  names = {file.name for file in entry.iterdir()}
  if DIGESTS not in names:
    raise ValueError("an earlier version wrote it, without digests")
  if others := names ^ {DIGESTS, *map(_file_name, dtypes)}:
    raise ValueError(f"{min(others)} is {'not its own' if min(others) in names else 'missing'}")
  digests = json.loads((entry / DIGESTS).read_bytes())
  arrays = {
    key: np.load(entry / _file_name(key), mmap_mode="r", allow_pickle=False) for key in dtypes
  }
  if digests != {key: _digest(array) for key, array in arrays.items()}:
    raise ValueError("its content has changed since it was written")
  for key, array in arrays.items():
    if array.dtype != dtypes[key]:
      raise ValueError(f"{key} is {array.dtype}, not {np.dtype(dtypes[key])}")
  return arrays


def write(entry: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes an entry in one step, in place of any that is there.

  Where that cannot be done, it logs a warning and leaves nothing half-written behind.
  """
  partial = _another_name(entry)
  try:
    partial.mkdir(parents=True)
    for key, array in arrays.items():
      with writing(partial / _file_name(key), "wb") as stream:
        np.save(stream, array, allow_pickle=False)
    with writing(partial / DIGESTS) as stream:
      json.dump({key: _digest(array) for key, array in arrays.items()}, stream)
    _remove(entry, arrays)
    partial.rename(entry)
    sync(entry.parent)
  except OSError as error:
    shutil.rmtree(partial, ignore_errors=True)
    if error.errno != errno.ENOTEMPTY:  # else another process has just written it
      logging.warning("%s: cannot be written (%s); going on without", entry, gist(error))


def _remove(entry: Path, arrays: Mapping[str, Any]) -> None:
  """Deletes an entry, unless it holds what `write` has not put there."""
  if entry.is_symlink():
    raise OSError("it is a link")
  with suppress(FileNotFoundError):  # also where another process removes it
    ours = {DIGESTS, *map(_file_name, arrays)}
    if others := {file.name for file in entry.iterdir()} - ours:
      raise OSError(f"it holds {min(others)}, which is not its own")
    former = entry.rename(_another_name(entry))
    shutil.rmtree(former)


def _another_name(entry: Path) -> Path:
  return entry.with_name(f"{entry.name}.{uuid.uuid4().hex}.partial")


def _file_name(key: str) -> str:
  return f"{key}.npy"


def _digest(array: np.ndarray) -> str:
  """A digest of type, shape and numbers; of 180 MB in some 0.2 s."""
  digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode(), usedforsecurity=False)
  digest.update(np.ascontiguousarray(array).view(np.uint8).data)
  return digest.hexdigest()
