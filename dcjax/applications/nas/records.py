"""What a search has done so far, in a file for each architecture and set."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcjax.common.errors import UserError
from dcjax.common.json_files import holds, is_number, many, read_json
from dcjax.run.workdir import write_json


class Record(NamedTuple):
  """Networks of one architecture that were trained on one set, network i from the i-th key.

  Attributes:
    validation: accuracies on what was held out, in [0, 1].
    test: accuracies on the test split, in [0, 1].
    seconds: of training and testing each network.
    compile_seconds: of the program that trained them, which sets of one size share.
  """

  validation: tuple[float, ...] = ()
  test: tuple[float, ...] = ()
  seconds: tuple[float, ...] = ()
  compile_seconds: float = 0.0

  def first(self, count: int) -> "Record":
    """The record of the first networks alone."""
    return self._replace(
      validation=self.validation[:count], test=self.test[:count], seconds=self.seconds[:count]
    )


class Records:
  """All records of a search; one that changes is written at once, whole."""

  def __init__(self, path: Path):
    """Nothing is read yet; `path` is the folder."""
    self._path = path
    self._known: dict[Path, Record] = {}

  def get(self, folder: str, architecture: str) -> Record:
    """What was trained of an architecture on the set of a folder; an empty record if nothing.

    Raises:
      UserError: its file is damaged.
    """
    file = self._file(folder, architecture)
    if file not in self._known:
      self._known[file] = _read(file) if file.exists() else Record()
    return self._known[file]

  def add(
    self,
    folder: str,
    architecture: str,
    accuracies: np.ndarray,
    seconds: float,
    compile_seconds: float,
  ) -> None:
    """Adds a network, `accuracies` being those of validation and test."""
    old, file = self.get(folder, architecture), self._file(folder, architecture)
    validation, test = np.round(accuracies.astype(float), 6).tolist()
    record = Record(
      (*old.validation, validation),
      (*old.test, test),
      (*old.seconds, round(seconds, 3)),
      round(compile_seconds, 3),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record._asdict())
    self._known[file] = record

  def _file(self, folder: str, architecture: str) -> Path:
    return self._path / folder / f"{architecture.replace(':', ',')}.json"


_NUMBERS = dict.fromkeys(Record._fields[:3], many(is_number))
_RECORD = holds({**_NUMBERS, "compile_seconds": is_number})


def _read(file: Path) -> Record:
  remedy = "delete it to have its networks trained again"
  content = read_json(file, _RECORD, remedy)
  lists = {name: tuple(content[name]) for name in _NUMBERS}
  if len(set(map(len, lists.values()))) > 1:
    raise UserError(f"workdir: {file} is damaged, its lists have different lengths; {remedy}")
  return Record(**lists, compile_seconds=content["compile_seconds"])
