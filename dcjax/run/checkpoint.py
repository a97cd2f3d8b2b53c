"""Checkpoints of a run, by Orbax: written atomically, and checked when they are read."""

import errno
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from dcjax.common.digests import sha256
from dcjax.common.errors import UserError
from dcjax.common.files import sync
from dcjax.devices import processes
from dcjax.run.progress import logger

ROOM = 2**18  # bytes of a checkpoint beside its arrays, amply
KEPT = 2  # the newest checkpoints; older ones are deleted


class Checkpoints:
  """The checkpoints of one run, by the number of outer iterations that are done."""

  def __init__(self, folder: Path):
    """Opens the folder, which need not exist; what was cut short while written is removed."""
    self._folder = folder
    options = ocp.CheckpointManagerOptions(
      max_to_keep=KEPT, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

  @property
  def latest(self) -> int:
    """Iterations done at the newest checkpoint; 0 without one."""
    return self._manager.latest_step() or 0

  def save(self, iteration: int, state: Any, seconds: dict[str, float]) -> None:
    """Writes a checkpoint, unless there is one of this iteration.

    Args:
      iteration: outer iterations done.
      state: the method's state; each of several processes writes its shards.
      seconds: spent so far, by what they were spent on.

    Raises:
      UserError: it could not be written; older ones are still there.
    """
    if iteration == self.latest:
      return
    progress = {"iteration": iteration, "seconds": seconds, "digest": digest(state)}
    try:
      self._check_room(state)
      self._manager.save(
        iteration,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
        ),
      )
    except Exception as error:  # Orbax and its storage raise many kinds
      raise UserError(
        f"{self._folder}: cannot write the checkpoint of iteration {iteration} "
        f"({_first_line(error)}); make room and start the same command again, "
        f"it goes on from iteration {self.latest}"
      ) from None

  def _check_room(self, state: Any) -> None:
    """Raises `OSError` before Orbax, whose many files would fail one after another."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if shutil.disk_usage(self._folder).free < size + ROOM:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  def restore(self, like: Any) -> tuple[Any, dict[str, float]]:
    """Reads the newest checkpoint that is what was written.

    Newer ones, which are not, are given another name, with a warning: the run will save those
    iterations anew.

    Args:
      like: shapes and types of a state, and where its arrays are to lie.

    Returns:
      The state and the seconds, as they were saved; `latest` is the iteration that they are of.

    Raises:
      UserError: there is no such checkpoint.
    """
    problems: dict[int, str] = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        found = self._read(step, like)
      except Exception as error:  # a damaged file may raise anything
        problems[step] = _first_line(error)
      if not processes.highest(step in problems):
        self._set_aside(problems)
        return found
      problems.setdefault(step, "another process cannot read it")
    newest = max(problems)
    raise UserError(
      f"{self._folder}: all checkpoints are corrupt ({newest}: {problems[newest]}), or of another "
      "version of dcjax; put one back, or delete this folder to start from the beginning"
    )

  def _read(self, step: int, like: Any) -> tuple[Any, dict[str, float]]:
    """A checkpoint; raises anything if it is not what was written."""
    args = ocp.args.Composite(state=ocp.args.StandardRestore(like), progress=ocp.args.JsonRestore())
    restored = self._manager.restore(step, args=args)
    state, progress = restored["state"], restored["progress"]
    seconds = {name: float(value) for name, value in progress["seconds"].items()}
    if progress.get("iteration", step) != step or digest(state) != progress["digest"]:
      raise ValueError("its content has changed since it was written")
    return state, seconds

  def _set_aside(self, problems: dict[int, str]) -> None:
    """Renames corrupt checkpoints, so that their iterations can be saved again."""
    for step, problem in problems.items():
      corrupt = self._folder / str(step)
      logger.warning(
        "%s: corrupt checkpoint (%s); going on from the one before, and keeping this as %s",
        corrupt, problem, _unused(corrupt).name,
      )  # fmt: skip
      if processes.is_first():
        corrupt.rename(_unused(corrupt))
        sync(self._folder)
    processes.meet("checkpoints")
    self._manager.reload()

  def close(self) -> None:
    """Releases Orbax' threads."""
    self._manager.close()


def digest(state: Any) -> str:
  """A fingerprint of all arrays of a state."""
  return sha256(map(processes.to_host, jax.tree.leaves(state)))


def _unused(folder: Path) -> Path:
  """A name that a corrupt checkpoint can have, and that Orbax takes for none."""
  names = (f"{folder.name}.corrupt{number or ''}" for number in itertools.count())
  return next(folder.with_name(name) for name in names if not folder.with_name(name).exists())


def _first_line(error: Exception) -> str:
  full = os.strerror(errno.ENOSPC)
  if full in str(error):  # tensorstore puts a long description of itself first
    return full
  return (str(error).splitlines() or [type(error).__name__])[0][:200]
