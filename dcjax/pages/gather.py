"""What a page says of a run, as plain data from what its files hold.

Anybody may have written the files. So lengths and types that `run.readers` does not check are
checked here, and what is not as it should be is left out with a note.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcjax.common.errors import UserError
from dcjax.config import flatten
from dcjax.figures import accuracies
from dcjax.figures.curves import method_name
from dcjax.pages import repeat
from dcjax.run.readers import MOST_CLASSES
from dcjax.tables import published
from dcjax.tables.published import Published

LONGEST = 300  # characters of a value that are shown

Record = dict[str, Any]  # an evaluation, as `readers.EVALUATION` checks it
Paper = Callable[[str, str], Published | None]  # by set and network


class Run(NamedTuple):
  """What is known of a run.

  Attributes:
    name: its folder, as the user gave it.
    state: for people, such as 'finished', with the time of its last change.
    finished: whether nothing is left to do.
    iteration: how many are done.
    fields: of its config, by their dotted names.
    losses: of all iterations.
    evaluations: in order.
    summary: what a finished run has written; empty before.
    sets: files of its sets, by iteration.
    final: the file of the finished set, if there is one.
    command: that repeats it; None where its config cannot be followed, and `notes` say why.
    paper: finds the figure of a paper for a set and a network.
    notes: sentences on what is damaged or missing.
  """

  name: str
  state: str
  finished: bool
  iteration: int
  fields: dict[str, Any]
  losses: list[float]
  evaluations: list[Record]
  summary: dict[str, Any]
  sets: dict[int, Path]
  final: Path | None
  command: repeat.Command | None
  paper: Paper
  notes: tuple[str, ...]

  @property
  def title(self) -> str:
    """What it is of."""
    return f"{method_name(self.fields['method'])} on {self.dataset}"

  @property
  def dataset(self) -> str:
    """What the real images are called: by the data, or where that is not known by the config."""
    return self.summary.get("dataset") or self.fields["dataset.name"]

  @property
  def networks(self) -> list[str]:
    """The networks that were evaluated, in order."""
    return list(dict.fromkeys(record["network"] for record in self.evaluations))

  @property
  def iterations(self) -> int:
    """How many there are to be; 0 for a selection."""
    return self.fields.get("iterations", 0)

  def records(self, images: str, network: str) -> list[Record]:
    """The evaluations of a set on a network, by iteration."""
    found = {
      record["iteration"]: record
      for record in self.evaluations
      if (record["set"], record["network"]) == (images, network)
    }
    return [found[iteration] for iteration in sorted(found)]

  def last(self, images: str, network: str) -> Record | None:
    """The newest of these."""
    return next(reversed(self.records(images, network)), None)


def sets(folder: Path) -> tuple[dict[int, Path], Path | None]:
  """The files of sets in the folder of a run, by iteration, and that of the finished one."""
  files = (folder / "images").glob("*.npz")
  found = {int(file.stem): file for file in files if file.stem.isdecimal() and len(file.stem) < 16}
  final = folder / "synthetic.npz"
  exists = final.is_file()
  return found or ({0: final} if exists else {}), final if exists else None


@contextmanager
def _quietly() -> Iterator[None]:
  """Without what is said of configs to those who are about to run them."""
  before = logging.root.manager.disable
  logging.disable(logging.WARNING)
  try:
    yield
  finally:
    logging.disable(before)


def repeated(fields: dict[str, Any]) -> tuple[repeat.Command | None, Paper, list[str]]:
  """The command that repeats a run of a config, and the figures of papers for it, with notes."""
  try:
    with _quietly():
      config = repeat.resolved(fields)
      command = repeat.command(config)
  except UserError as error:
    reason = _text(str(error))
    note = f"The config cannot be followed, so there is no command to repeat the run: {reason}."
    return None, lambda images, network: None, [note]

  def paper(images: str, network: str) -> Published | None:
    try:
      with _quietly():
        return published.find(config, images, network)
    except UserError:  # a network that there is not
      return None

  return command, paper, []


def flat(config: dict[str, Any]) -> dict[str, Any]:
  """The fields of a config by their dotted names."""
  return dict(flatten(config))


def digest(file: Path) -> str | None:
  """The SHA-256 of a file, as `sha256sum` gives it; None where it cannot be read."""
  try:
    return _digest(file, file.stat().st_mtime_ns)
  except OSError:
    return None


@lru_cache(maxsize=100)
def _digest(file: Path, written: int) -> str:
  del written  # but what is kept is of the file as it was then
  with file.open("rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def confusion(record: Record) -> np.ndarray | None:
  """How many test images of each class were taken for which: `[classes, classes]`, true first.

  Older records have none, and those of very many classes.
  """
  rows = record.get("confusion")
  if not isinstance(rows, list) or not 0 < len(rows) <= MOST_CLASSES:
    return None
  try:
    counts = np.array([[int(each) for each in row.split()] for row in rows])
  except (AttributeError, ValueError, OverflowError):
    return None
  square = counts.ndim == 2 and counts.shape == (len(rows), len(rows)) and counts.dtype.kind == "i"
  return counts if square and counts.min() >= 0 and counts.max() < 2**40 else None


def percent(record: Record | None) -> str:
  """Mean and deviation of the last epoch's accuracy; empty without a record."""
  return "" if record is None else accuracies.percent(record["last_mean"], record["last_std"])


def plain(values: Any) -> dict[str, str]:
  """What an object of a file holds as texts; nothing for what is none."""
  if not isinstance(values, dict):
    return {}
  return {shown(name): shown(value) for name, value in values.items()}


def shown(value: Any) -> str:
  """A value of a file as text, cut where it is long."""
  if isinstance(value, list | tuple):
    value = ", ".join(map(str, value))
  return _text(str(value))


def _text(text: str) -> str:
  line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
  return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
