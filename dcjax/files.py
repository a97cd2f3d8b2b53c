"""Files: written whole or not at all, read as runs have left them; paths as users write them."""

import errno
import fcntl
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dcjax.errors import UserError

# In the folder of a run, besides its results.
LOCK = ".lock"  # held by the process that uses the folder
PROGRESS = "progress.json"  # how fast the run is and what it is doing, for `dcjax status`


def expand(field: str, path: str | os.PathLike[str]) -> Path:
  """A path with its `~` replaced; `field` is to blame where that cannot be done.

  Raises:
    UserError: it begins with the name of a user who does not exist.
  """
  try:
    return Path(path).expanduser()
  except RuntimeError:
    raise UserError(f"{field}: {path}: there is no such user; write the path in full") from None


@contextmanager
def writing(file: Path, mode: str = "w") -> Iterator[IO[Any]]:
  """Opens a file under another name, which becomes `file` when all is on the disk.

  Of several processes that write the same file, each waits for the one before it. What a killed
  one has left is overwritten.

  Raises:
    OSError: it cannot be written; what was there under the name `file` is still there.
  """
  partial = file.with_name(f"{file.name}.partial")
  with os.fdopen(_take(partial), mode) as stream:
    try:
      yield stream
      stream.flush()
      os.fsync(stream.fileno())
      partial.replace(file)
    except BaseException:
      partial.unlink(missing_ok=True)
      raise
  sync(file.parent)


def _take(partial: Path) -> int:
  """Opens an empty file for this process alone, once the ones before it are done."""
  while True:
    descriptor = open_own(partial)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX)
      with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), partial.lstat()):
          os.ftruncate(descriptor, 0)
          return descriptor
    except BaseException:
      os.close(descriptor)
      raise
    os.close(descriptor)  # meanwhile another process has put it in place


def open_own(file: Path) -> int:
  """Opens a file that only dcjax writes, made if need be, and leaves its content.

  A link that somebody has put there is not followed: what it leads to is not ours.

  Raises:
    OSError: it cannot be opened, or is a link or no file.
  """
  if file.is_symlink():
    raise OSError(errno.ELOOP, "it is a link; remove it", str(file))
  flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
  descriptor = os.open(file, flags, 0o666)
  status = os.fstat(descriptor)
  if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
    os.close(descriptor)
    raise OSError(errno.EEXIST, "it is no file, or one with several names; remove it", str(file))
  return descriptor


def sync(folder: Path) -> None:
  """Brings the names in a folder to the disk, where the file system can do that."""
  try:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  except PermissionError:  # one may write into a folder that one cannot list
    return
  try:
    os.fsync(descriptor)
  except OSError as error:
    if error.errno not in (errno.EINVAL, errno.ENOTSUP):
      raise
  finally:
    os.close(descriptor)


def read_json(file: Path) -> Any:
  """What a JSON file holds.

  Raises:
    ValueError: it is none.
    OSError: it cannot be read.
  """
  try:
    return json.loads(file.read_bytes())
  except RecursionError:
    raise ValueError("nested too deeply") from None


def is_numbers(values: Any) -> bool:
  """Whether what JSON holds is a list of finite numbers."""
  return isinstance(values, list) and all(
    type(value) in (int, float) and math.isfinite(value) for value in values
  )


def read_object(file: Path) -> dict[str, Any]:
  """What a JSON file of a run holds.

  Raises:
    UserError: no object.
  """
  try:
    content = read_json(file)
  except ValueError:
    content = None
  if not isinstance(content, dict):
    raise UserError(f"workdir: {file} is not a JSON object; give another folder")
  return content


def read_records(file: Path) -> list[dict[str, Any]]:
  """The records of a log, up to a line that was cut short; none if there is no log."""
  records = []
  for line in file.read_bytes().splitlines() if file.exists() else []:
    try:
      record = json.loads(line)
    except ValueError:
      break
    if not isinstance(record, dict) or not isinstance(record.get("iteration"), int):
      break
    records.append(record)
  return records


def read_summary(folder: Path) -> dict[str, Any] | None:
  """What a finished run has written, if it is all there."""
  file = folder / "summary.json"
  return read_object(file) if file.exists() and (folder / "synthetic.npz").exists() else None


def is_taken(folder: Path) -> bool:
  """Whether a process uses a folder as `Workdir` does, as far as locks are seen from here."""
  try:
    descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor) as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back at once
  except BlockingIOError:
    return True
  except OSError:  # no lock, or none that can be seen
    return False
  return False
