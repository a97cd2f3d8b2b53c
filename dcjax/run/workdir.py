"""The folder of a run: its config, its metrics, its results. Nothing in it is overwritten."""

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dcjax.common.errors import UserError
from dcjax.common.files import LOCK, PROGRESS, expand, open_own, writing
from dcjax.common.json_files import read_json
from dcjax.config import flatten, of_earlier, resolve
from dcjax.devices import processes
from dcjax.run.readers import newest_checkpoint, read_log, read_summary

Fields = dict[str, Any]  # a config, as nested dicts
# What a run writes besides its config, by which a folder of somebody else's is told
WRITTEN = (
  "checkpoints", "images", "metrics.jsonl", "synthetic.npz", "summary.json", "init.npz", PROGRESS,
  "networks.json", "candidates.json", "teacher.npz", "wandb.json",
)  # fmt: skip


class Workdir:
  """One run's folder.

  Attributes:
    path: the folder.
  """

  def __init__(self, path: str | os.PathLike):
    """Creates the folder if need be, and locks it for this process, or for all of a run.

    Raises:
      UserError: it cannot be written to, or another run is using it.
    """
    self.path = expand("workdir", path)
    self._claimed = False  # whether the config is there
    if processes.is_first():
      self._take()

  def _take(self) -> None:
    self._is_new = not self.path.exists()
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      with tempfile.TemporaryFile(dir=self.path):
        pass
      self._lock = os.fdopen(open_own(self.path / LOCK))
      self._folder = os.open(self.path, os.O_RDONLY)
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

  def check(
    self,
    config: Fields,
    completed: Callable[[ConfigDict], Fields] = lambda config: resolve(config).to_dict(),
    free: Collection[str] = (),
  ) -> bool:
    """Checks that the folder is a new one, or that of a run with the same config but `compute`.

    Args:
      config: of the run, with all its fields.
      completed: gives a config of an earlier version the fields that it lacks.
      free: fields that may have another value.

    Returns:
      Whether some of these have.

    Raises:
      UserError: the folder belongs to a run with another config, or to something else.
    """
    self._check_kinds()
    file = self.path / "config.json"
    if file.exists():
      old = read_json(file)
      different = _different(_with_defaults(old, completed), json.loads(json.dumps(config)))
      self._refuse([text for field, text in different.items() if field not in free])
      return bool(different)
    for name in WRITTEN:
      if (self.path / name).exists():
        raise UserError(
          f"workdir: {self.path} holds {name} but no config.json; give another folder"
        )
    return False

  def _check_kinds(self) -> None:
    """Raises `UserError` for a file in place of a folder, or a folder in place of a file."""
    for name in ("checkpoints", "images", "metrics.jsonl", "synthetic.npz", "summary.json"):
      path, folder = self.path / name, "." not in name
      if path.exists() and path.is_dir() != folder:
        raise UserError(f"workdir: {path} is {'no' if folder else 'a'} folder; move it away")

  def _refuse(self, different: list[str]) -> None:
    if different:
      raise UserError(
        f"workdir: {self.path} belongs to a run with another config: {'; '.join(different)}; "
        "give another folder, or the same config to go on with that run"
      )

  def claim(self, config: Fields) -> None:
    """Writes the config of a new run."""
    if processes.is_first() and not (self.path / "config.json").exists():
      write_json(self.path / "config.json", config)
    self._claimed = True

  def lengthen(self, config: Fields) -> None:
    """Writes the config of a run that is to end at another iteration than it was.

    Its summary is kept under another name, and first: a run without a summary is not finished.
    """
    if not processes.is_first():
      return
    if summary := self.summary():
      file = self.path / "summary.json"
      file.replace(file.with_name(f"summary-{summary.get('iterations', 0)}.json"))
    write_json(self.path / "config.json", config)

  def summary(self) -> dict[str, Any] | None:
    """What a finished run has written, if it is all there."""
    return read_summary(self.path)

  def iterations_done(self) -> int:
    """Iterations done, by the summary or the newest checkpoint."""
    return max((self.summary() or {}).get("iterations", 0), newest_checkpoint(self.path))

  def losses(self) -> list[float]:
    """The loss of every iteration that the log has, in order."""
    return [
      record["loss"] for record in read_log(self.path / "metrics.jsonl")[0] if "loss" in record
    ]

  def check_there(self) -> None:
    """Raises `UserError` if the folder has been deleted, moved or emptied since it was taken."""
    if not processes.is_first():
      return
    if not self._is_there():
      raise UserError(f"workdir: {self.path} was {_fate(self._folder)}")
    if self._claimed and not (self.path / "config.json").exists():
      raise UserError(
        f"workdir: {self.path} was emptied while it was used; start the same command again in "
        "another folder"
      )

  def _is_there(self) -> bool:
    try:
      return os.path.samestat(os.stat(self.path), os.fstat(self._folder))
    except OSError:
      return False

  def close(self) -> None:
    """Releases the folder, and deletes one that was made for nothing."""
    if not processes.is_first():
      return
    for_nothing = self._is_new and self._is_there() and os.listdir(self.path) == [LOCK]
    if for_nothing:
      (self.path / LOCK).unlink(missing_ok=True)
    self._lock.close()
    os.close(self._folder)
    if for_nothing:
      with suppress(OSError):  # somebody else has put something there
        self.path.rmdir()


def refuse_others(folder: Path, mark: str, what: str) -> None:
  """Raises `UserError` for a folder that holds something, but not what one of ours has.

  Args:
    folder: which need not be there.
    mark: the name of that file or folder.
    what: what it is to be a folder of, in the plural.
  """
  if not folder.is_dir() or (folder / mark).exists():
    return
  if others := sorted({each.name for each in folder.iterdir()} - {LOCK}):
    raise UserError(f"workdir: {folder} holds {others[0]} but no {what}; give another folder")


def _with_defaults(old: Fields, completed: Callable[[ConfigDict], Fields]) -> Fields:
  """The config of an earlier version, with what newer fields were then."""
  try:
    return json.loads(json.dumps(completed(ConfigDict(of_earlier(old)))))
  except Exception:  # it may hold anything; then it is compared as it is
    return old


def _different(old: Fields, new: Fields) -> dict[str, str]:
  """The text on each field that differs, by its name."""
  old_fields, new_fields = dict(flatten(old)), dict(flatten(new))
  # How the work is laid out changes numbers by rounding only; a run may go on with less memory.
  fields = sorted(f for f in old_fields.keys() | new_fields.keys() if not f.startswith("compute."))
  return {
    field: f"{field} is {json.dumps(old_fields.get(field))} there and "
    f"{json.dumps(new_fields.get(field))} here"
    for field in fields
    if old_fields.get(field) != new_fields.get(field)
  }


def _fate(folder: int) -> str:
  """What has happened to a folder, from its descriptor."""
  try:
    now = os.readlink(f"/proc/self/fd/{folder}")
  except OSError:  # not on Linux
    return "deleted or moved while it was used; look for it, or start again in another folder"
  if now.endswith(" (deleted)"):
    return "deleted while it was used, with all that was saved; start the same command again"
  return f"moved to {now} while it was used; go on there with what was saved: --workdir {now}"


@contextmanager
def held(folder: Workdir, kept: str = "") -> Iterator[Workdir]:
  """Releases a folder at the end; an error that it cannot be written to says what to do.

  Args:
    folder: of a run.
    kept: what the error says is still there, after a comma.

  Raises:
    UserError: something was not written, or the folder is gone.
  """
  try:
    yield folder
    folder.check_there()
  except OSError as error:
    folder.check_there()
    raise UserError(
      f"workdir: cannot write {error.filename or folder.path} ({error.strerror}); "
      f"mend that and start the same command again{kept and ', '}{kept}"
    ) from None
  finally:
    folder.close()


class Metrics:
  """The log of a run, one JSON object a line; the same for every run of a config."""

  def __init__(self, file: Path, iteration: int):
    """Opens the log of a run that goes on after `iteration`; later records are removed."""
    self._path = file
    self.records = [r for r in read_log(file)[0] if r["iteration"] <= iteration]
    losses = len(self.losses())
    if losses < iteration:
      raise UserError(
        f"workdir: {file} holds {losses} of the {iteration} iterations that are done; put the "
        "complete file back, or start in another folder"
      )
    processes.meet("metrics")  # all have read the same records
    self._write()

  def _write(self) -> None:
    """Writes all records, and opens the file for those to come."""
    if processes.is_first():
      write_text(self._path, "".join(_line(record) for record in self.records))
    self._file = (self._path if processes.is_first() else Path(os.devnull)).open("a")

  def drop_evaluations(self, iteration: int) -> None:
    """Removes the evaluations of an iteration that is no longer the last one."""
    kept = [r for r in self.records if r["iteration"] != iteration or "evaluation" not in r]
    if len(kept) < len(self.records):
      self.close()
      self.records = kept
      self._write()

  def append(self, record: dict[str, Any]) -> None:
    """Adds a record, which holds `iteration`, to the log."""
    self.records.append(record)
    self._file.write(_line(record))
    self._file.flush()

  def sync(self) -> None:
    """Syncs the log to the disk, since a checkpoint must not be newer than the log."""
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
  """Writes a JSON file atomically."""
  write_text(file, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
  """Writes a text file atomically."""
  with writing(file) as stream:
    stream.write(text)
