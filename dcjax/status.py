"""The driver of `dcjax status`: says how far runs are, from their files alone.

It writes nothing and does without jax: it answers at once, beside a run or on a copy of one.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcjax import report
from dcjax.errors import UserError
from dcjax.files import PROGRESS, expand, is_taken, read_object, read_records, read_summary

COLUMNS = ("workdir", "state", "run", "iteration", "s each", "left", "accuracy (%)")
FIELDS = {"method", "dataset", "network", "evaluation", "ipc", "seed"}  # of every config
SIGNS = ("config.json", "metrics.jsonl", PROGRESS, "summary.json")  # what a run writes to
FINISHED, RUNNING, STOPPED, KILLED = "finished", "running", "stopped", "killed or failed"
UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}


class Run(NamedTuple):
  """What the files of a run or a selection tell.

  Attributes:
    path: the folder.
    config: all fields.
    state: 'running' while a process holds the folder; later 'stopped' if a checkpoint has all that
      was done, else 'killed or failed'.
    quiet: seconds since something was written.
    iteration: how many are done.
    checkpoint: how many were at the newest one; 0 without one.
    loss: of the last iteration, if there is one.
    evaluations: of each set and network the last one.
    seconds: of an iteration, a mean since the last start, if it is known.
    doing: what goes on besides iterations.
  """

  path: Path
  config: dict[str, Any]
  state: str
  quiet: float
  iteration: int
  checkpoint: int
  loss: float | None
  evaluations: list[dict[str, Any]]
  seconds: float | None
  doing: str

  @property
  def iterations(self) -> int:
    """How many there are to be; 0 for a selection."""
    return self.config.get("iterations", 0)

  @property
  def left(self) -> float | None:
    """Seconds that the iterations still take, if their speed is known."""
    if self.seconds is None or self.state == FINISHED:
      return None
    done = self.checkpoint if self.state == KILLED else self.iteration
    return self.seconds * (self.iterations - done)


def status(workdirs: Sequence[str | os.PathLike[str]]) -> str:
  """Says how far runs and selections are.

  Args:
    workdirs: their folders, or folders of such folders, as those of tables.

  Returns:
    All about one run, or a line for each of several.

  Raises:
    UserError: there is no run in one of them.
  """
  if not workdirs:
    raise UserError("status: no workdir; write dcjax status W, or several")
  try:
    runs = [run for path in workdirs for run in _find(expand("status", path))]
  except OSError as error:
    raise UserError(
      f"status: cannot read {error.filename} ({error.strerror}); give a folder that you may read"
    ) from None
  if len(runs) == 1:
    return "\n".join(_details(runs[0]))
  return report.aligned([COLUMNS, *map(_row, runs)])


def _find(path: Path) -> list[Run]:
  """The run of a folder, or all those below it."""
  if not path.is_dir():
    raise UserError(f"status: no folder {path}; give the --workdir of a run")
  here = path / "config.json"
  files = [here] if here.exists() else sorted(path.rglob("config.json"))
  runs = [_read(file.parent, config) for file in files if (config := _config(file))]
  if not runs:
    raise UserError(f"status: {path} is no workdir and holds none; give the --workdir of a run")
  return runs


def _config(file: Path) -> dict[str, Any] | None:
  """The config of a run, if it is one."""
  try:
    content = json.loads(file.read_bytes())
  except ValueError:
    return None
  return content if isinstance(content, dict) and content.keys() >= FIELDS else None


def _read(path: Path, config: dict[str, Any]) -> Run:
  records, summary = read_records(path / "metrics.jsonl"), read_summary(path)
  losses = [record["loss"] for record in records if "loss" in record]
  evaluations = [record["evaluation"] for record in records if "evaluation" in record]
  if summary is not None:
    evaluations = summary["evaluations"]
  iteration = len(losses) if summary is None else summary.get("iterations", 0)
  checkpoint = _newest(path / "checkpoints")
  note = read_object(path / PROGRESS) if (path / PROGRESS).exists() else {}
  written = max((path / name).stat().st_mtime for name in SIGNS if (path / name).exists())
  return Run(
    path=path,
    config=config,
    state=_state(path, config, summary, saved=checkpoint >= iteration),
    quiet=max(0.0, time.time() - written),
    iteration=iteration,
    checkpoint=checkpoint,
    loss=losses[-1] if losses else None,
    evaluations=list({(r["set"], r["network"]): r for r in evaluations}.values()),
    seconds=note.get("seconds_per_iteration"),
    doing=note.get("doing", ""),
  )


def _newest(folder: Path) -> int:
  """Iterations done at the newest checkpoint; those that are being written have longer names."""
  names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
  return max((int(name) for name in names if name.isdecimal()), default=0)


def _state(path: Path, config: dict[str, Any], summary: dict[str, Any] | None, saved: bool) -> str:
  if summary is not None and not _evaluations_left(config, summary):
    return FINISHED
  if is_taken(path):
    return RUNNING
  return STOPPED if saved else KILLED


def _evaluations_left(config: dict[str, Any], summary: dict[str, Any]) -> bool:
  """Whether a selection, whose summary is written before the first evaluation, lacks some."""
  if "iterations" in config or not config["evaluation"]["networks"]:
    return False
  from ml_collections import ConfigDict

  from dcjax.select import tasks_left  # brings jax

  return bool(tasks_left(ConfigDict(config), summary))


def _details(run: Run) -> Iterator[str]:
  """A run in full."""
  yield f"{run.path}: {_when(run)}"
  for name, text in _lines(run):
    yield f"  {name:<10}  {text}"
  if run.evaluations:
    yield report.table(run.evaluations)


def _lines(run: Run) -> Iterator[tuple[str, str]]:
  yield "run", f"{_name(run)}, seed {run.config['seed']}"
  if run.iterations:
    yield "iteration", f"{_iteration(run)} ({run.iteration / run.iterations:.0%})"
  if run.loss is not None:
    yield "loss", f"{run.loss:.4g}"
  if run.seconds is not None:
    left = "" if run.left is None else f", {duration(run.left)} left without evaluations"
    yield "speed", f"{run.seconds:.3g} s an iteration{left}"
  if run.doing and run.state == RUNNING:
    yield "doing", run.doing
  if run.checkpoint and run.state != FINISHED:
    onward = "" if run.state == RUNNING else "; the same command goes on from there"
    yield "checkpoint", f"of iteration {run.checkpoint}{onward}"


def _row(run: Run) -> tuple[str, ...]:
  """A run in a line; its accuracy is that of the network that comes first."""
  ours = [record for record in run.evaluations if record["set"] == "synthetic"]
  return (
    str(run.path),
    _when(run),
    _name(run),
    _iteration(run) if run.iterations else "",
    "" if run.seconds is None else f"{run.seconds:.3g}",
    "" if run.left is None else duration(run.left),
    report.percent(ours[0]["last_mean"], ours[0]["last_std"]) if ours else "",
  )


def _when(run: Run) -> str:
  sign = ", last sign" if run.state == RUNNING else ""
  return f"{run.state}{sign} {duration(run.quiet)} ago"


def _name(run: Run) -> str:
  config = run.config
  return (
    f"{config['method']} on {config['dataset']['name']}, {config['network']['name']}, "
    f"ipc {config['ipc']}"
  )


def _iteration(run: Run) -> str:
  converged = run.state == FINISHED and run.iteration < run.iterations
  return f"{run.iteration} of {run.iterations}{', converged' if converged else ''}"


def duration(seconds: float) -> str:
  """A time as people say it, such as '2 h 5 min'."""
  left = round(seconds)
  for (unit, length), (smaller, part) in itertools.pairwise(UNITS.items()):
    if left >= length:
      rest = left % length // part
      return f"{left // length} {unit}" + (f" {rest} {smaller}" if rest else "")
  return f"{left} s"
