"""Files: written whole or not at all; paths as users write them, and sizes as they read them."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dcjax.common.errors import UserError

# In the folder of a run, besides its results.
LOCK = ".lock"  # held by the process that uses the folder
PROGRESS = "progress.json"  # how fast the run is and what it is doing, for `dcjax status`


def expand(field: str, path: str | os.PathLike[str]) -> Path:
  """A path with its `~` replaced; `field` is to blame where that cannot be done.

  Raises:
    UserError: it begins with the name of a user who does not exist.
  """
  try:
    expanded = Path(path).expanduser()
    with suppress(ValueError):  # of a NUL, of which its reader says more
      expanded.exists()
    return expanded
  except OSError as error:  # a name that is too long, say
    raise UserError(
      f"{field}: {os.fspath(path)[:60]}...: {error.strerror}; give another path"
    ) from None
  except RuntimeError:
    raise UserError(f"{field}: {path}: there is no such user; write the path in full") from None


def check_new(field: str, path: Path) -> None:
  """Raises `UserError` for a file or folder that is there, or that cannot be made."""
  if os.path.lexists(path):
    raise UserError(f"{field}: {path} is there already; give a new name")
  if not os.access(path.parent, os.W_OK):
    raise UserError(f"{field}: no folder {path.parent} that can be written to; make it first")


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
