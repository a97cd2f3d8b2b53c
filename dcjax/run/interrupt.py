"""Stops a run between two steps when it is asked to end, so that it can save first."""

import signal
import time
from types import FrameType
from typing import Any

import jax

from dcjax.common.errors import Interrupted
from dcjax.devices import processes

POLL_SECONDS = 0.01


class Interrupts:
  """While entered, SIGTERM and Ctrl-C are noted instead of obeyed; a second one is obeyed."""

  def __init__(self, left: str = "") -> None:
    """Notes nothing yet; `left` tells the user what an interruption leaves."""
    self._left = left
    self._number = 0
    self._former: dict[int, Any] = {}

  def __enter__(self) -> "Interrupts":
    for number in (signal.SIGTERM, signal.SIGINT):
      try:
        self._former[number] = signal.signal(number, self._note)
      except ValueError:  # not the main thread, as in some notebooks
        return self
    return self

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._former.items():
      signal.signal(number, handler)

  def _note(self, number: int, frame: FrameType | None) -> None:
    del frame
    self._number = number
    for caught, handler in self._former.items():
      signal.signal(caught, handler)

  def check(self) -> None:
    """Raises `Interrupted` if a signal has come."""
    if self._number:
      raise Interrupted(self._number, self._left)

  def wait(self, arrays: Any) -> Any:
    """Returns arrays once they are computed; raises `Interrupted` as soon as a signal comes.

    If one of several processes has a signal, all of them stop, once the arrays are computed.
    """
    for leaf in jax.tree.leaves(arrays):
      while not leaf.is_ready():
        if not processes.several():
          self.check()
        time.sleep(POLL_SECONDS)
    self._number = int(processes.highest(self._number))
    self.check()
    return arrays
