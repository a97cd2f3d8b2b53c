"""Checkpoints of a run, by Orbax: whole or not at all, and checked when they are read."""

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dcjax import processes
from dcjax.errors import UserError

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
      state: the method's state; several processes write their parts.
      seconds: spent so far, by what they were spent on.

    Raises:
      UserError: it could not be written; older ones are still there.
    """
    if iteration == self.latest:
      return
    progress = {"seconds": seconds, "digest": digest(state)}
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
    """Reads the newest checkpoint.

    Args:
      like: shapes and types of a state, and where its arrays are to lie.

    Returns:
      The state and the seconds, as they were saved.

    Raises:
      UserError: the checkpoint is not what was written.
    """
    try:
      restored = self._manager.restore(
        self.latest,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(like), progress=ocp.args.JsonRestore()
        ),
      )
      state, progress = restored["state"], restored["progress"]
      whole = digest(state) == progress["digest"]
    except Exception as error:  # a damaged file may raise anything
      self._fail(_first_line(error))
    if not whole:
      self._fail("its content has changed since it was written")
    return state, progress["seconds"]

  def close(self) -> None:
    """Releases Orbax' threads."""
    self._manager.close()

  def _fail(self, problem: str) -> None:
    older = [step for step in self._manager.all_steps() if step != self.latest]
    onward = f"from iteration {max(older)}" if older else "from the beginning"
    raise UserError(
      f"{self._folder / str(self.latest)}: corrupt checkpoint (or one of another version of dcjax: "
      f"{problem}); delete this folder to go on {onward}"
    ) from None


def digest(state: Any) -> str:
  """A fingerprint of all arrays of a state."""
  fingerprint = hashlib.sha256()
  for leaf in jax.tree.leaves(state):
    fingerprint.update(np.ascontiguousarray(processes.to_host(leaf)).tobytes())
  return fingerprint.hexdigest()


def _first_line(error: Exception) -> str:
  full = os.strerror(errno.ENOSPC)
  if full in str(error):  # which storage hides behind a long description of itself
    return full
  return (str(error).splitlines() or [type(error).__name__])[0][:200]
