"""Images read ahead of their use, by Grain, in processes of their own."""

import gc
import signal
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from dcjax.common.registry import OF_FILE
from dcjax.data.on_disk import Drawn, OnDisk

BLOCK = 16  # images that a process hands over at a time
AHEAD = 4  # blocks that a process has ready
SEGMENT = 2**18  # images of one pipeline, whose indices go to each process as it starts


class Stream:
  """Reads one draw after another, in their order, and always some images ahead.

  Grain's processes are given indices when they start. So the stream is a chain of pipelines, each
  of which reads many draws, and the next one starts before the last one ends.
  """

  def __init__(self, images: OnDisk, draws: Iterator[np.ndarray]):
    """Starts reading.

    Args:
      images: from which draws are read.
      draws: indices int32 `[m]` each, in any order, some perhaps twice.
    """
    self._images, self._draws = images, draws
    self._segments = deque([_Segment(images, draws)])

  def __next__(self) -> Drawn:
    """The images of the next draw, as arrays of NumPy: m rows, but no more than there are images.

    Raises:
      StopIteration: there are no more draws.
    """
    current = self._segments[0]
    if current.left <= current.size // 2 and len(self._segments) == 1:
      self._segments.append(_Segment(self._images, self._draws))
    if not current.left:
      self._segments.popleft().close()
    return self._segments[0].next()

  def close(self) -> None:
    """Ends the processes."""
    while self._segments:
      self._segments.popleft().close()
    if self._images.workers:
      gc.collect()  # Grain's iterators, which hold shared memory, are in cycles


class _Segment:
  """One pipeline of Grain, for the next draws.

  Attributes:
    size: how many draws.
    left: how many of them are still to come.
  """

  def __init__(self, images: OnDisk, draws: Iterator[np.ndarray]):
    self._images, self._draws = images, deque[tuple[np.ndarray, np.ndarray]]()
    wanted = 0
    for draw in draws:
      source, indices = np.unique(draw, return_inverse=True)  # what is drawn twice is read once
      self._draws.append((source, indices.astype(np.int32)))
      wanted += len(source)
      if wanted >= SEGMENT:
        break
    self.size = len(self._draws)
    self._rest = np.empty((0, *images.image_shape), np.uint8)
    distinct = [source for source, _ in self._draws]
    self._blocks: Any = _pipeline(images, distinct) if wanted else None

  @property
  def left(self) -> int:
    return len(self._draws)

  def next(self) -> Drawn:
    """The images of one draw."""
    if not self._draws:
      raise StopIteration
    found, indices = self._draws.popleft()
    count = min(len(indices), len(self._images.reader))
    source = np.zeros(count, np.int32)
    source[: len(found)] = found
    rows = np.zeros((count, *self._images.image_shape), np.uint8)
    done = 0
    while done < len(found):
      if not len(self._rest):
        self._rest = np.array(next(self._blocks))  # which frees the memory shared with a process
      some = self._rest[: len(found) - done]
      rows[done : done + len(some)] = some
      self._rest = self._rest[len(some) :]
      done += len(some)
    return Drawn(rows, source, indices)

  def close(self) -> None:
    if self._blocks is not None:
      self._blocks.close()


def _pipeline(images: OnDisk, draws: list[np.ndarray]) -> Any:
  """An iterator over blocks `[BLOCK, H, W, C]` of the images of draws; the last may be shorter."""
  import grain

  by_value(images.reader)
  if not flags.FLAGS.is_parsed():  # which Grain takes for granted (its issue 1355)
    flags.FLAGS.mark_as_parsed()
  blocks = (
    grain.MapDataset.source(np.concatenate(draws))
    .map(images.reader.__getitem__)
    .batch(BLOCK)
    .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    .mp_prefetch(
      grain.MultiprocessingOptions(num_workers=images.workers, per_worker_buffer_size=AHEAD),
      worker_init_fn=_ignore_interrupts,
    )
  )
  iterator = iter(blocks)
  iterator.start_prefetch()
  return iterator


def by_value(reader: Any) -> None:
  """Lets Grain's processes have a reader whose class is in a user's file: they cannot import it."""
  import cloudpickle

  module = sys.modules[type(reader).__module__]
  if module.__name__.startswith(OF_FILE):
    cloudpickle.register_pickle_by_value(module)


def _ignore_interrupts(worker: int, workers: int) -> None:
  """Leaves Ctrl-C, which all processes get, to the one that saves."""
  del worker, workers
  signal.signal(signal.SIGINT, signal.SIG_IGN)
