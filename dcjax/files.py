"""Files that are written whole or not at all, and paths as users write them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dcjax.errors import UserError


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
