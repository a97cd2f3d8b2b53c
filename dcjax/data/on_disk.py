"""Training images that stay on disk, and those of them that are in memory for one step.

What a step draws follows from a key alone. So it can be read before the step runs, and what is
computed does not depend on where the images are.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from flax import struct

from dcjax.common.errors import UserError
from dcjax.common.types import Array

MOST_WORKERS = 16  # processes, where the config does not say


class Reader(Protocol):
  """Training images sorted by class, decoded one by one; it goes to other processes by pickle."""

  def __len__(self) -> int:
    """How many images there are."""

  def __getitem__(self, index: int) -> np.ndarray:
    """An image by its index, uint8 `[H, W, C]`."""


class Memory(NamedTuple):
  """What of a dataset may be in memory; fields of `config.compute`.

  Attributes:
    streaming: whether training images stay on disk; None: where they do not fit.
    memory_limit: bytes that fit, of the training images and of those that one step draws.
    workers: processes that decode; 0: none but this one; None: one for each core but one.
  """

  streaming: bool | None
  memory_limit: int
  workers: int | None

  def streams(self, size: int) -> bool:
    """Whether images of so many bytes stay on disk."""
    return size > self.memory_limit if self.streaming is None else self.streaming


IN_MEMORY = Memory(streaming=False, memory_limit=0, workers=None)


@struct.dataclass
class OnDisk:
  """Images that are read when they are needed. It stands for `Dataset.images`, but not in jit."""

  reader: Reader = struct.field(pytree_node=False)
  image_shape: tuple[int, int, int] = struct.field(pytree_node=False)
  memory: Memory = struct.field(pytree_node=False)

  @property
  def shape(self) -> tuple[int, ...]:
    """`[N, H, W, C]`, as of the array that this stands for."""
    return len(self.reader), *self.image_shape

  @property
  def workers(self) -> int:
    """Processes that decode."""
    if self.memory.workers is not None:
      return self.memory.workers
    return max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1))

  def read(self, indices: Array | np.ndarray) -> np.ndarray:
    """Images by their indices `[...]`, uint8 `[..., H, W, C]`, decoded in threads."""
    indices = np.asarray(indices)
    with ThreadPoolExecutor() as pool:
      images = list(pool.map(self.reader.__getitem__, indices.ravel().tolist()))
    return np.stack(images).reshape(*indices.shape, *self.image_shape)

  def check_fits(self, images: int) -> None:
    """Checks that so many images fit in memory.

    Raises:
      UserError: they do not.
    """
    size = images * int(np.prod(self.image_shape))
    if size > self.memory.memory_limit:
      raise UserError(
        f"compute.memory_limit: {self.memory.memory_limit} bytes are too few for the {images} real "
        f"images of one step, {size} bytes; raise it, or lower batch_real, or else ipc"
      )


class Drawn(NamedTuple):
  """The images that one step has drawn, each of them once."""

  images: Array | np.ndarray  # [n, H, W, C] uint8; black where there are fewer
  source: Array | np.ndarray  # int32 [n], their indices in the full dataset; there 0
  indices: Array | np.ndarray  # int32 [m], of what was drawn, in its order, in `images`
