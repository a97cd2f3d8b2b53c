"""Decoded arrays kept on disk, so that a data set is decoded once.

An entry is a folder of plain `.npy` files. It is written under another name and then
renamed, so what bears the entry's name is whole. A cache only saves time: whatever
goes wrong with it is a reason to decode again, never an error.
"""

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import logging

from dcjax.files import expand


def root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
  """Returns the folder that entries lie in.

  Args:
    cache_dir: the folder; None or empty for `dcjax` in `$XDG_CACHE_HOME`, or in
      `~/.cache` where that is not set.
  """
  if cache_dir:
    return expand("dataset.cache_dir", cache_dir)
  return expand("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dcjax"


def read(entry: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray] | None:
  """Reads an entry; the arrays are mapped from disk and read when they are used.

  Returns:
    One array a key; or None where there is no entry, or none that can be read.
  """
  if not entry.is_dir():
    return None
  try:
    return {key: np.load(entry / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in keys}
  except (OSError, ValueError, EOFError) as error:
    logging.warning("%s: unreadable (%s); decoding anew", entry, _one_line(error))
    return None


def write(entry: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes an entry in one step, in place of any that is there.

  Where that cannot be done, it logs a warning and leaves nothing half-written behind.
  """
  partial = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}.partial")
  try:
    partial.mkdir(parents=True)
    for key, array in arrays.items():
      np.save(partial / f"{key}.npy", array, allow_pickle=False)
    shutil.rmtree(entry, ignore_errors=True)
    partial.rename(entry)
  except OSError as error:
    shutil.rmtree(partial, ignore_errors=True)
    logging.warning("%s: cannot be written (%s); going on without", entry, _one_line(error))


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())
