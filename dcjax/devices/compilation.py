"""Compiled programs kept on disk, beside the folders of runs, for all runs there to use.

jax writes and reads them; their names hold all that they depend on: program, versions, flags and
processor. They only save time: whatever goes wrong with them is a warning, never an error.

Of several processes that run as one, jax has the first alone write them, and means all to find
them, if they see the folder. On CPUs names differ between processes: the others compile again.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from dcjax.common.activity import logger
from dcjax.common.files import expand
from dcjax.devices import processes

NAME = ".jax_cache"
COMPILE_SECONDS = 0.5  # what takes less to compile is not kept
MOST_BYTES = 2**30  # of all programs; one of a ConvNet takes some 400 kB on a CPU
ROOM = 2**26  # bytes that must be free on the disk
# What jax calls a program: its name and a SHA-256. The eviction of jax itself takes every `*-cache`
# for a program.
_PROGRAM = re.compile(r".+-[0-9a-f]{64}-cache")
_SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@contextmanager
def kept(cache_dir: str | None, workdir: Path) -> Iterator[None]:
  """While entered, jax keeps what it compiles, and reads what was compiled before.

  Args:
    cache_dir: the folder; None: `.jax_cache` beside `workdir`, unless jax has been given one, as by
      JAX_COMPILATION_CACHE_DIR; empty: none but that.
    workdir: of the run.

  Raises:
    UserError: `cache_dir` names a user who does not exist.
  """
  former = [getattr(jax.config, name) for name in _SETTINGS]
  left_alone = cache_dir == "" or (cache_dir is None and former[0] is not None)
  folder = None if left_alone else _open(cache_dir, workdir)
  if folder is None:
    yield
    return
  _configure(str(folder), COMPILE_SECONDS)
  try:
    yield
  finally:
    _configure(*former)


def _configure(*values: str | float | None) -> None:
  for name, value in zip(_SETTINGS, values, strict=True):
    jax.config.update(name, value)
  compilation_cache.reset_cache()  # jax opens a folder once and keeps to it


def _open(cache_dir: str | None, workdir: Path) -> Path | None:
  """Makes the folder, tidied up; None, with a warning, where it cannot be used."""
  beside = workdir.resolve().parent / NAME
  folder = expand("compute.cache_dir", cache_dir).resolve() if cache_dir else beside
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not cache_dir and folder.stat().st_uid != os.geteuid():
      raise OSError(0, "it is another user's, whose programs would be run")
    with tempfile.TemporaryFile(dir=folder):
      pass
    if shutil.disk_usage(folder).free < ROOM:
      raise OSError(0, "the disk is full")
  except OSError as error:
    logger.warning(
      "compute.cache_dir: compiled programs are not kept in %s (%s)", folder, error.strerror
    )
    return None
  if not processes.several():  # none must miss what another has found: they compile together
    _prune(folder)
  return folder


def _prune(folder: Path) -> None:
  """Deletes programs that a full disk has left empty, and those read longest ago if too many.

  Nothing else is touched: the folder may be one of the user's.
  """
  with suppress(OSError):  # another run may delete the same ones
    files = [file for file in folder.iterdir() if _PROGRAM.fullmatch(file.name)]
    entries = [(file.lstat(), file) for file in files]
    total = 0
    for status, file in sorted(entries, key=lambda entry: -entry[0].st_atime_ns):
      if not stat.S_ISREG(status.st_mode):
        continue
      total += status.st_size
      if total > MOST_BYTES or not status.st_size:
        file.unlink()
