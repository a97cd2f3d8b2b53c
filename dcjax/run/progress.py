"""The progress of a run: a bar or log lines, `progress.json`, writers, a stopwatch."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from dcjax.common.activity import (
  LOG_SECONDS,
  REFRESH_SECONDS,
  Pieces,
  log_still,
  logger,
  make_bar,
  shows_bars,
  ticking,
  working,
)
from dcjax.common.files import PROGRESS, writing
from dcjax.common.quantities import duration
from dcjax.devices import processes
from dcjax.run.writers import TensorBoard, Writer

__all__ = ["LOG_SECONDS", "Pieces", "Progress", "Stopwatch", "logger", "working"]


class Stopwatch:
  """Seconds spent, by what they were spent on, over all the starts of a run."""

  def __init__(self, seconds: dict[str, float] | None = None):
    """Goes on from the seconds of earlier starts."""
    self.seconds = {"compile": 0.0, "condense": 0.0, "evaluate": 0.0} | (seconds or {})

  def add(self, name: str, seconds: float) -> None:
    """Counts seconds that were measured elsewhere."""
    self.seconds[name] = self.seconds.get(name, 0.0) + seconds

  @contextmanager
  def __call__(self, name: str) -> Iterator[None]:
    """Counts the seconds of a `with` block."""
    start = time.monotonic()
    try:
      yield
    finally:
      self.add(name, time.monotonic() - start)


class Progress:
  """Shows a run: a bar with loss and time left where there can be one, else plain log lines."""

  def __init__(self, folder: Path, iterations: int, done: int, writers: Sequence[Writer] = ()):
    """Starts the bar at `done` iterations.

    Args:
      folder: for the note and TensorBoard's events.
      iterations: of the whole run.
      done: iterations of earlier starts.
      writers: that show the run beside TensorBoard; they are closed with this.
    """
    self._file = folder / PROGRESS
    self._writers: list[Writer] = [TensorBoard(folder, done), *writers]
    self._has_bar = shows_bars() and processes.is_first()
    self._bar = make_bar(total=iterations, initial=done, unit="it", disable=not self._has_bar)
    self._iterations = iterations
    self._seconds: list[float] = []  # of the iterations of this start
    self._last_line = self._last_note = self._since = time.monotonic()
    self._doing = f"at iteration {done} of {iterations}"
    self._stack = ExitStack()
    self._stack.enter_context(ticking(self._tick, REFRESH_SECONDS))

  def loss(self, iteration: int, loss: float, seconds: float, waited: float | None = None) -> None:
    """Shows an iteration, which took so many seconds.

    Where images are read from disk, the device has `waited` so many seconds for them so far.
    """
    self._scalar("loss", loss, iteration)
    self._seconds.append(seconds)
    next_one = min(iteration + 1, self._iterations)
    self._doing, self._since = f"at iteration {next_one} of {self._iterations}", time.monotonic()
    if self._bar.desc:  # the run did something else, whose time is not that of iterations
      self._bar.set_description("", refresh=False)
      self._bar.unpause()
      self._note()
    elif time.monotonic() - self._last_note >= LOG_SECONDS:
      self._note()
    self._bar.update()
    self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
    left = seconds * (self._iterations - iteration)
    text = f"iteration {iteration} of {self._iterations}, loss {loss:.4g}, {duration(left)} left"
    if waited is not None:
      text += f", waited {waited:.1f} s for images"
    self._line(text, force=iteration == self._iterations)

  def say(self, text: str, force: bool = False) -> None:
    """Shows what the run does besides iterations; without a bar, not too often."""
    self._note(text)
    self._doing, self._since = text, time.monotonic()
    self._bar.set_description(text)
    self._line(text, force)

  def evaluation(self, iteration: int, record: dict[str, Any]) -> None:
    """Shows an accuracy."""
    name = f"accuracy/{record['set']}/{record['network']}"
    self._scalar(name, record["last_mean"], iteration)
    logger.info(
      "iteration %d: %s set on %s, accuracy %.4f ± %.4f",
      iteration, record["set"], record["network"], record["last_mean"], record["last_std"],
    )  # fmt: skip

  def picture(self, file: Path, iteration: int) -> None:
    """Shows the set, of which there is a picture."""
    for writer in self._writers:
      writer.picture(file, iteration)

  def _scalar(self, name: str, value: float, iteration: int) -> None:
    for writer in self._writers:
      writer.scalar(name, value, iteration)

  def _line(self, text: str, force: bool) -> None:
    """Writes a log line if there is no bar, and the last one is long ago or it must be."""
    now = time.monotonic()
    if not self._has_bar and (force or now - self._last_line >= LOG_SECONDS):
      self._last_line = now
      logger.info(text)

  def _tick(self) -> None:
    """Shows that what was said last still goes on."""
    if self._has_bar:
      self._bar.refresh()
    elif (now := time.monotonic()) - self._last_line >= LOG_SECONDS:
      self._last_line = now
      log_still(self._doing, now - self._since)

  def _note(self, doing: str = "") -> None:
    """Writes what `dcjax status` tells beside the log; what cannot be written is left out."""
    self._last_note = time.monotonic()
    mean = sum(self._seconds) / len(self._seconds) if self._seconds else None
    if processes.is_first():
      with suppress(OSError), writing(self._file) as stream:
        json.dump({"seconds_per_iteration": mean, "doing": doing}, stream)

  def close(self, summary: Mapping[str, Any] | None = None) -> None:
    """Ends the bar and the writers, which are told the summary of a run that is finished."""
    self._stack.close()
    self._note()
    self._bar.close()
    for writer in self._writers:
      writer.close(summary)
