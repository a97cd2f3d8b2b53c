"""Files: written whole or not at all; paths as users write them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
  """Opens a file under another name, which becomes `file` when all is on the disk."""
  partial = file.with_name(f"{file.name}.partial")
  with partial.open(mode) as stream:
    yield stream
    stream.flush()
    os.fsync(stream.fileno())
  partial.replace(file)


def is_taken(folder: Path) -> bool:
  """Whether a process uses a folder as `Workdir` does, as far as locks are seen from here."""
  try:
    with (folder / LOCK).open() as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back at once
  except BlockingIOError:
    return True
  except OSError:  # no lock, or none that can be seen
    return False
  return False
