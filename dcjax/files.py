"""Files: written whole or not at all, read as runs have left them; paths as users write them."""

import fcntl
import json
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


def read_object(file: Path) -> dict[str, Any]:
  """What a JSON file of a run holds.

  Raises:
    UserError: no object.
  """
  try:
    content = json.loads(file.read_bytes())
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
    with (folder / LOCK).open() as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back at once
  except BlockingIOError:
    return True
  except OSError:  # no lock, or none that can be seen
    return False
  return False
