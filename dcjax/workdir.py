"""The folder of a run: its config, its metrics, its results. Nothing in it is overwritten."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcjax import processes
from dcjax.config import flatten
from dcjax.errors import UserError
from dcjax.files import LOCK, expand, open_own, read_object, read_records, read_summary, writing


class Workdir:
  """One run's folder.

  Attributes:
    path: the folder.
  """

  def __init__(self, path: str | os.PathLike):
    """Creates the folder if need be, and takes it for this process, or for all of a run.

    Raises:
      UserError: it cannot be written to, or another run is using it.
    """
    self.path = expand("workdir", path)
    if processes.is_first():
      self._take()

  def _take(self) -> None:
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      with tempfile.TemporaryFile(dir=self.path):
        pass
      self._lock = os.fdopen(open_own(self.path / LOCK))
    except OSError as error:
      raise UserError(
        f"workdir: cannot write to {self.path} ({error.strerror}); give a folder of your own"
      ) from None
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      raise UserError(
        f"workdir: another run is using {self.path}; wait for it or give another folder"
      ) from None

  def check(self, config: dict[str, Any]) -> None:
    """Checks that the folder is a new one, or that of a run with the same config but `compute`.

    Raises:
      UserError: the folder belongs to a run with another config, or to something else.
    """
    file = self.path / "config.json"
    if file.exists():
      self._check_same(read_object(file), json.loads(json.dumps(config)))
      return
    for name in ("checkpoints", "metrics.jsonl", "synthetic.npz", "summary.json"):
      if (self.path / name).exists():
        raise UserError(
          f"workdir: {self.path} holds {name} but no config.json; give another folder"
        )

  def claim(self, config: dict[str, Any]) -> None:
    """Checks, and writes the config of a new run."""
    self.check(config)
    if processes.is_first() and not (self.path / "config.json").exists():
      write_json(self.path / "config.json", config)

  def summary(self) -> dict[str, Any] | None:
    """What a finished run has written, if it is all there."""
    return read_summary(self.path)

  def _check_same(self, old: dict[str, Any], new: dict[str, Any]) -> None:
    old_fields, new_fields = dict(flatten(old)), dict(flatten(new))
    # How the work is laid out changes numbers by rounding only; a run may go on with less memory.
    fields = sorted(
      f for f in old_fields.keys() | new_fields.keys() if not f.startswith("compute.")
    )
    different = [
      f"{field} is {json.dumps(old_fields.get(field))} there and "
      f"{json.dumps(new_fields.get(field))} here"
      for field in fields
      if old_fields.get(field) != new_fields.get(field)
    ]
    if different:
      raise UserError(
        f"workdir: {self.path} belongs to a run with another config: {'; '.join(different)}; "
        "give another folder, or the same config to go on with that run"
      )

  def close(self) -> None:
    """Gives the folder back."""
    if processes.is_first():
      self._lock.close()


@contextmanager
def held(folder: Workdir, kept: str = "") -> Iterator[Workdir]:
  """Gives a folder back at the end, and says what to do where it cannot be written to.

  Args:
    folder: of a run.
    kept: what the error says is still there, after a comma.

  Raises:
    UserError: something was not written.
  """
  try:
    yield folder
  except OSError as error:
    raise UserError(
      f"workdir: cannot write {error.filename or folder.path} ({error.strerror}); "
      f"mend that and start the same command again{kept and ', '}{kept}"
    ) from None
  finally:
    folder.close()


class Metrics:
  """The log of a run, one JSON object a line; it holds nothing that differs from run to run."""

  def __init__(self, file: Path, iteration: int):
    """Opens the log of a run that goes on after `iteration`; what came later is taken out."""
    self.records = [r for r in read_records(file) if r["iteration"] <= iteration]
    losses = sum("loss" in record for record in self.records)
    if losses < iteration:
      raise UserError(
        f"workdir: {file} holds {losses} of the {iteration} iterations that are done; put the "
        "whole file back, or start in another folder"
      )
    processes.meet("metrics")  # all have read the same records
    if processes.is_first():
      write_text(file, "".join(_line(record) for record in self.records))
    self._file = (file if processes.is_first() else Path(os.devnull)).open("a")

  def append(self, record: dict[str, Any]) -> None:
    """Adds a record, which holds `iteration`, to the log."""
    self.records.append(record)
    self._file.write(_line(record))
    self._file.flush()

  def sync(self) -> None:
    """Brings the log to the disk; a checkpoint must not know more than the log."""
    if processes.is_first():
      os.fsync(self._file.fileno())

  def losses(self) -> list[float]:
    """The loss of every iteration so far, in order."""
    return [record["loss"] for record in self.records if "loss" in record]

  def evaluations(self) -> list[dict[str, Any]]:
    """All evaluations so far, in order."""
    return [record["evaluation"] for record in self.records if "evaluation" in record]

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def _line(record: dict[str, Any]) -> str:
  return json.dumps(record, allow_nan=False) + "\n"


def write_json(file: Path, value: Any) -> None:
  """Writes a JSON file, whole or not at all."""
  write_text(file, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
  """Writes a text file, whole or not at all."""
  with writing(file) as stream:
    stream.write(text)
