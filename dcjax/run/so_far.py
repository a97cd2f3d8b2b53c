"""The networks of an evaluation that are tested so far: one that was stopped goes on with the next.

Network i depends on its number alone, not on those before it.
"""

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dcjax.common.digests import of_arrays
from dcjax.common.errors import UserError
from dcjax.common.json_files import Shape, holds, is_count, is_share, is_text, many, read_json
from dcjax.devices import processes
from dcjax.run.progress import LOG_SECONDS, logger
from dcjax.run.workdir import write_json

NETWORKS = "networks.json"  # in the folder of a run, while it evaluates


def _table(shape: Shape) -> Shape:
  """Rows of one length, of values of a shape."""
  rows = many(many(shape, least=1), least=1)
  return lambda value: rows(value) and len(set(map(len, value))) == 1


_CONTENT = holds({"of": is_text, "accuracies": _table(is_share)}, confusion=_table(is_count))


def _ours(file: Path) -> dict[str, Any]:
  """What a file holds; raises `UserError` where `SoFar` has not written it."""
  return read_json(file, _CONTENT, "delete it to have finished networks kept")


def forget(file: Path) -> None:
  """Deletes what `SoFar` has left; a file of that name that it has not written stays."""
  if processes.is_first() and file.exists():
    with suppress(UserError):
      _ours(file)
      file.unlink()


def identity(about: Any, arrays: Any) -> str:
  """A name for what an evaluation depends on.

  Args:
    about: what JSON can hold, or has a text.
    arrays: a tree of them.
  """
  text = json.dumps([about, of_arrays(arrays)], default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


class SoFar:
  """Networks that are tested, in a file; in a `with` block, whose end brings all to the disk.

  Whoever has stored what came of them calls `forget`.

  Attributes:
    accuracies: of each network, float32 `[checks]`.
    confusion: summed over networks, int `[classes, classes]`; None: there is none.
  """

  def __init__(self, file: Path | None, of: str):
    """Reads what an earlier start has left.

    Args:
      file: which may be there; None: nothing is kept.
      of: the `identity` of the evaluation; networks of another are not read.
    """
    self._file, self._of = file, of
    self.accuracies: list[np.ndarray] = []
    self.confusion: np.ndarray | None = None
    self._written, self._kept = 0, time.monotonic()
    if found := self._read():
      self.accuracies = list(np.asarray(found["accuracies"], np.float32))
      self.confusion = np.asarray(found["confusion"]) if "confusion" in found else None
      self._written = len(self.accuracies)
      logger.info("going on after %d networks: %s", self._written, file)

  def _read(self) -> dict[str, Any] | None:
    """The content of the file, if it is of this evaluation and every process has the same."""
    content = None
    if self._file is not None and self._file.exists():
      try:
        content = _ours(self._file)
      except UserError as error:  # perhaps the user's own
        logger.warning("%s", error)
        self._file = None
    if content is not None and content["of"] != self._of:
      content = None
    count = len(content["accuracies"]) if content else 0
    return content if processes.highest(count) == -processes.highest(-count) else None

  @property
  def last(self) -> np.ndarray:
    """The accuracy of each network at its last check, float32 `[n]`."""
    return np.stack(self.accuracies)[:, -1]

  def add(self, accuracies: Any, confusion: Any = None) -> None:
    """Adds networks `[n, checks]`, and what they take for what, `[n, classes, classes]`."""
    self.accuracies.extend(np.asarray(accuracies))
    if confusion is not None:
      counts = np.asarray(confusion).sum(0)
      self.confusion = counts if self.confusion is None else self.confusion + counts
    if time.monotonic() - self._kept >= LOG_SECONDS:
      self._write()

  def _write(self) -> None:
    """Brings the networks to the disk; what cannot be written is said, and does not end a run."""
    if self._file is None or not processes.is_first() or self._written == len(self.accuracies):
      return
    content: dict[str, Any] = {
      "of": self._of, "accuracies": [each.tolist() for each in self.accuracies]
    }  # fmt: skip
    if self.confusion is not None:
      content["confusion"] = self.confusion.tolist()
    try:
      write_json(self._file, content)
    except OSError as error:
      logger.warning("cannot write %s (%s)", self._file, error.strerror)
    self._written, self._kept = len(self.accuracies), time.monotonic()

  def __enter__(self) -> "SoFar":
    return self

  def __exit__(self, *exception: object) -> None:
    self._write()
