"""The progress of a run: a bar or log lines, `progress.json`, TensorBoard, a stopwatch."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from dcjax.common.activity import (
  LOG_SECONDS,
  REFRESH_SECONDS,
  log_still,
  logger,
  make_bar,
  shows_bars,
  ticking,
  working,
)
from dcjax.common.files import PROGRESS, writing
from dcjax.devices import processes

if TYPE_CHECKING:  # it takes long to import
  from tensorboardX import SummaryWriter

__all__ = ["LOG_SECONDS", "Progress", "Stopwatch", "logger", "working"]

FLUSH_SECONDS = 10  # between two writes of TensorBoard's events


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


class EventsFile:
  """A file of TensorBoard's events. They are a view of the run: what cannot be written is left out.

  tensorboardX writes in a thread. An error there would end the thread, and the run would then wait
  for it forever. So tensorboardX opens files by this class, under addresses `dcjax:PATH`.
  """

  def __init__(self, address: str):
    """Opens the file."""
    self._stream = Path(address.removeprefix("dcjax:")).open("wb")  # noqa: SIM115 (`close` closes it)

  def write(self, data: bytes) -> None:
    """Appends to the file."""
    with suppress(OSError):
      self._stream.write(data)

  def flush(self) -> None:
    """Hands over to the system what has been written."""
    with suppress(OSError):
      self._stream.flush()

  def close(self) -> None:
    """Closes the file."""
    with suppress(OSError):
      self._stream.close()


def summary_writer(folder: Path, done: int) -> "SummaryWriter":
  """TensorBoard's writer for a run; events of earlier starts count up to iteration `done`."""
  from tensorboardX import SummaryWriter
  from tensorboardX.record_writer import register_writer_factory

  files = SimpleNamespace(open=EventsFile, directory_check=lambda address: None)
  register_writer_factory("dcjax", files)
  with suppress(OSError, ImportError):  # no such folder, or no semaphores for the thread's queue
    return SummaryWriter(
      f"dcjax:{folder}",
      purge_step=done + 1,
      max_queue=0,  # without a limit: the run never waits for the disk
      flush_secs=FLUSH_SECONDS,
      write_to_disk=processes.is_first(),
    )
  return SummaryWriter(str(folder), write_to_disk=False)


class Progress:
  """Shows a run: a bar with loss and time left where there can be one, else plain log lines."""

  def __init__(self, folder: Path, iterations: int, done: int):
    """Starts the bar at `done` iterations; the note and TensorBoard events go to `folder`."""
    self._file = folder / PROGRESS
    self._board = summary_writer(folder, done)
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
    self._board.add_scalar("loss", loss, iteration)
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
    text = f"iteration {iteration} of {self._iterations}, loss {loss:.4g}, {left:.0f} s left"
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
    self._board.add_scalar(name, record["last_mean"], iteration)
    logger.info(
      "iteration %d: %s set on %s, accuracy %.4f ± %.4f",
      iteration, record["set"], record["network"], record["last_mean"], record["last_std"],
    )  # fmt: skip

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

  def close(self) -> None:
    """Ends the bar and the events file."""
    self._stack.close()
    self._note()
    self._bar.close()
    self._board.close()
