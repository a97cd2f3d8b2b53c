"""Training images that stay on disk, and those of them that are in memory for one stage.

A method asks for images by their places, which follow from a key alone. So they can be read before
it asks, and what is computed does not depend on where the images are.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dcjax.errors import UserError
from dcjax.types import Array

MOST_WORKERS = 16  # processes, where the config does not say


class Reader(Protocol):
  """Training images sorted by class, decoded one by one; it goes to other processes by pickle."""

  def __len__(self) -> int:
    """How many images there are."""

  def __getitem__(self, place: int) -> np.ndarray:
    """An image by its place, uint8 `[H, W, C]`."""


class Memory(NamedTuple):
  """What of a dataset may be in memory; fields of `config.compute`.

  Attributes:
    streaming: whether training images stay on disk; None: where they do not fit.
    memory_limit: bytes that fit, of the training images and of those that one stage takes.
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

  def read(self, places: Array | np.ndarray) -> np.ndarray:
    """Images by their places `[...]`, uint8 `[..., H, W, C]`, decoded in threads."""
    places = np.asarray(places)
    with ThreadPoolExecutor() as pool:
      images = list(pool.map(self.reader.__getitem__, places.ravel().tolist()))
    return np.stack(images).reshape(*places.shape, *self.image_shape)

  def check_fits(self, images: int) -> None:
    """Checks that so many images fit in memory.

    Raises:
      UserError: they do not.
    """
    size = images * int(np.prod(self.image_shape))
    if size > self.memory.memory_limit:
      raise UserError(
        f"compute.memory_limit: {self.memory.memory_limit} bytes are too few for the {images} real "
        f"images of one stage, {size} bytes; raise it, or lower batch_real, or else ipc"
      )


@struct.dataclass
class Drawn:
  """The images that one stage takes. It stands for `Dataset.images` there, also in jit."""

  rows: Array | np.ndarray  # [n, H, W, C] uint8
  places: Array | np.ndarray  # int32 [n], of the rows among all images; sorted
  count: int = struct.field(pytree_node=False)  # of all images

  @property
  def shape(self) -> tuple[int, ...]:
    """`[N, H, W, C]`, as of the array that this stands for."""
    return self.count, *self.rows.shape[1:]

  def __getitem__(self, places: Array) -> jax.Array:
    """Images by their places among all images; they must be among those drawn."""
    return jnp.asarray(self.rows)[jnp.searchsorted(self.places, places)]
