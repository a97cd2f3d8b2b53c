"""The driver of `dcjax status`: shows the progress of runs, from their files alone.

It writes nothing and does without jax: it answers at once, beside a run or on a copy of one.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcjax.common.errors import UserError
from dcjax.common.files import LOCK, PROGRESS, expand, is_taken
from dcjax.common.json_files import read_json
from dcjax.common.quantities import duration
from dcjax.figures import accuracies, markdown
from dcjax.run.readers import CONFIG, NOTE, newest_checkpoint, read_log, read_summary

logger = logging.getLogger("dcjax")

COLUMNS = ("workdir", "state", "run", "iteration", "s each", "left", "accuracy (%)")
SIGNS = ("config.json", "metrics.jsonl", PROGRESS, "summary.json")  # what a run writes to
FINISHED, RUNNING, STOPPED, KILLED = "finished", "running", "stopped", "killed or failed"


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
    losses: of all iterations.
    history: all evaluations, in order.
    summary: what a finished run has written; empty before.
    seconds: of an iteration, a mean since the last start, if it is known.
    doing: what the run does besides iterations, such as compiling.
    damaged: what cannot be read, and is left out.
  """

  path: Path
  config: dict[str, Any]
  state: str
  quiet: float
  iteration: int
  checkpoint: int
  losses: list[float]
  history: list[dict[str, Any]]
  summary: dict[str, Any]
  seconds: float | None
  doing: str
  damaged: tuple[str, ...]

  @property
  def iterations(self) -> int:
    """How many there are to be; 0 for a selection."""
    return self.config.get("iterations", 0)

  @property
  def evaluations(self) -> list[dict[str, Any]]:
    """Of each set and network the last one."""
    return list({(r["set"], r["network"]): r for r in self.history}.values())

  @property
  def left(self) -> float | None:
    """Seconds that the iterations still take, if their speed is known."""
    if self.seconds is None or self.state == FINISHED:
      return None
    done = self.checkpoint if self.state == KILLED else self.iteration
    return self.seconds * (self.iterations - done)


def status(workdirs: Sequence[str | os.PathLike[str]]) -> str:
  """Shows the progress of runs and selections.

  Args:
    workdirs: their folders, or folders of such folders, as those of tables.

  Returns:
    All about one run, or a line for each of several.

  Raises:
    UserError: there is no run in one of them, or the config of the only one cannot be read.
  """
  if not workdirs:
    raise UserError("status: no workdir; write dcjax status W, or several")
  runs = [run for path in workdirs for run in find(expand("status", path))]
  if len(runs) > 1:
    return markdown.table([COLUMNS, *map(_row, runs)])
  if isinstance(runs[0], Unknown):
    raise UserError(runs[0].problem)
  return "\n".join(_details(runs[0]))


class Unknown(NamedTuple):
  """A run whose config cannot be read."""

  path: Path
  problem: str


def find(path: Path, field: str = "status") -> list[Run | Unknown]:
  """The run of a folder, or all those below it.

  Args:
    path: the folder.
    field: what an error begins with.

  Raises:
    UserError: there is none.
  """
  if not path.is_dir():
    raise UserError(f"{field}: no folder {path}; give the --workdir of a run")
  one = os.path.lexists(path / "config.json") and not _is_study(path)
  folders = [path] if one else sorted(_below(path))
  runs = [run for folder in folders if (run := _read(folder, field))]
  if not runs:
    raise UserError(f"{field}: {path} is no workdir and holds none; give the --workdir of a run")
  return runs


def _below(path: Path) -> Iterator[Path]:
  """The folders below one that hold a config; a warning for those that cannot be looked into."""

  def warn(error: OSError) -> None:
    logger.warning("status: cannot read %s (%s); left out", error.filename, error.strerror)

  for folder, subfolders, files in os.walk(path, onerror=warn):
    if "config.json" in (*subfolders, *files):
      yield Path(folder)


def _is_study(path: Path) -> bool:
  """Whether a folder is one of `dcjax continual` or `nas`, which may have runs inside."""
  try:
    return not {"continual", "search"}.isdisjoint(read_json(path / "config.json"))
  except (UserError, OSError):
    return False


def _read(path: Path, field: str) -> Run | Unknown | None:
  """What the files in a folder tell; None if it is not that of a run."""
  file = path / "config.json"
  if _is_study(path):
    return None
  try:
    return _tell(path, read_json(file, CONFIG, field=field))
  except UserError as error:  # many programs have a config.json
    signs = (LOCK, *SIGNS[1:])
    if os.access(file, os.R_OK) and not any(os.path.lexists(path / name) for name in signs):
      return None
    return Unknown(path, str(error))
  except OSError as error:  # it is being deleted
    return Unknown(path, f"{field}: cannot read {error.filename} ({error.strerror}); try again")


def _tell(path: Path, config: dict[str, Any]) -> Run:
  damaged: list[str] = []

  def attempt(otherwise: Any, read: Callable[..., Any], *arguments: Any) -> Any:
    try:
      return read(*arguments)
    except UserError as error:
      damaged.append(str(error).partition(": ")[2].partition(";")[0])
      return otherwise

  records, lines_left = attempt(([], 0), read_log, path / "metrics.jsonl")
  if lines_left > 1:
    damaged.append(f"{path / 'metrics.jsonl'} is damaged after line {len(records)}")
  summary = attempt(None, read_summary, path)
  note = attempt({}, read_json, path / PROGRESS, NOTE) if (path / PROGRESS).exists() else {}
  losses = [record["loss"] for record in records if "loss" in record]
  evaluations = [record["evaluation"] for record in records if "evaluation" in record]
  if summary is not None:
    evaluations = summary["evaluations"]
  iteration = len(losses) if summary is None else summary.get("iterations", 0)
  checkpoint = newest_checkpoint(path)
  left = summary is None or attempt(True, _evaluations_left, config, summary)
  written = max((path / name).stat().st_mtime for name in SIGNS if (path / name).exists())
  return Run(
    path=path,
    config=config,
    state=_state(path, finished=not left, saved=checkpoint >= iteration),
    quiet=max(0.0, time.time() - written),
    iteration=iteration,
    checkpoint=checkpoint,
    losses=losses,
    history=evaluations,
    summary=summary or {},
    seconds=note.get("seconds_per_iteration"),
    doing=note.get("doing", ""),
    damaged=tuple(damaged),
  )


def _state(path: Path, finished: bool, saved: bool) -> str:
  if finished:
    return FINISHED
  if is_taken(path):
    return RUNNING
  return STOPPED if saved else KILLED


def _evaluations_left(config: dict[str, Any], summary: dict[str, Any]) -> bool:
  """Whether a selection, whose summary is written before the first evaluation, lacks some."""
  if "iterations" in config:
    return False
  from dcjax.commands.select import tasks_left
  from dcjax.config import complete

  # Names are counted, not followed, and so may be of any dataset and network.
  fields = complete({name: config[name] for name in ("network", "evaluation")})
  fields.method = config["method"]
  return bool(tasks_left(fields, summary))


def _details(run: Run) -> Iterator[str]:
  """A run in full."""
  yield f"{run.path}: {_when(run)}"
  for name, text in _lines(run):
    yield f"  {name:<10}  {text}"
  if run.evaluations:
    yield accuracies.table(run.evaluations)


def _lines(run: Run) -> Iterator[tuple[str, str]]:
  yield "run", f"{_name(run)}, seed {run.config['seed']}"
  if run.iterations:
    yield "iteration", f"{_iteration(run)} ({run.iteration / run.iterations:.0%})"
  if run.losses:
    yield "loss", f"{run.losses[-1]:.4g}"
  if run.seconds is not None:
    left = "" if run.left is None else f", {duration(run.left)} left without evaluations"
    yield "speed", f"{run.seconds:.3g} s an iteration{left}"
  if run.doing and run.state == RUNNING:
    yield "doing", run.doing
  for problem in run.damaged:
    yield "damaged", problem
  if run.checkpoint and run.state != FINISHED:
    onward = "" if run.state == RUNNING else "; the same command goes on from there"
    yield "checkpoint", f"of iteration {run.checkpoint}{onward}"


def _row(run: Run | Unknown) -> tuple[str, ...]:
  """A run in a line; its accuracy is that of the network that comes first."""
  if isinstance(run, Unknown):
    return str(run.path), "config.json is damaged", *[""] * (len(COLUMNS) - 2)
  ours = [record for record in run.evaluations if record["set"] == "synthetic"]
  return (
    str(run.path),
    _when(run),
    _name(run),
    _iteration(run) if run.iterations else "",
    "" if run.seconds is None else f"{run.seconds:.3g}",
    "" if run.left is None else duration(run.left),
    accuracies.percent(ours[0]["last_mean"], ours[0]["last_std"]) if ours else "",
  )


def _when(run: Run) -> str:
  sign = ", last sign" if run.state == RUNNING else ""
  damaged = ", with damaged files" if run.damaged else ""
  return f"{run.state}{sign} {duration(run.quiet)} ago{damaged}"


def _name(run: Run) -> str:
  config = run.config
  return (
    f"{config['method']} on {config['dataset']['name']}, {config['network']['name']}, "
    f"ipc {config['ipc']}"
  )


def _iteration(run: Run) -> str:
  converged = run.state == FINISHED and run.iteration < run.iterations
  return f"{run.iteration} of {run.iterations}{', converged' if converged else ''}"
