"""Where a run is shown beside the files of its folder: what such a place is, and TensorBoard."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from dcjax.devices import processes

if TYPE_CHECKING:  # it takes long to import
  from tensorboardX import SummaryWriter

FLUSH_SECONDS = 10  # between two writes of TensorBoard's events
PICTURE = "set"  # the name that pictures of the set have


class Writer(Protocol):
  """Shows a run. What it cannot show is left out: it never stops a run, and never changes it."""

  def scalar(self, name: str, value: float, iteration: int) -> None:
    """Shows a point of the curve `name`."""

  def picture(self, file: Path, iteration: int) -> None:
    """Shows the set, of which `file` is a PNG."""

  def close(self, summary: Mapping[str, Any] | None) -> None:
    """Ends; `summary` is that of a finished run, None of one that was stopped or has failed."""


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


class TensorBoard:
  """TensorBoard's events, in the folder of the run."""

  def __init__(self, folder: Path, done: int):
    """Begins a file; events of earlier starts count up to iteration `done`."""
    self._board = _summary_writer(folder, done)

  def scalar(self, name: str, value: float, iteration: int) -> None:
    """Writes a point of the curve `name`."""
    self._board.add_scalar(name, value, iteration)

  def picture(self, file: Path, iteration: int) -> None:
    """Writes the set, of which `file` is a PNG."""
    with suppress(OSError), Image.open(file) as image:
      self._board.add_image(PICTURE, np.asarray(image), iteration, dataformats="HWC")

  def close(self, summary: Mapping[str, Any] | None) -> None:
    """Ends the file, in which there is no place for a summary."""
    del summary
    self._board.close()


def _summary_writer(folder: Path, done: int) -> "SummaryWriter":
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
