"""Images of noise in place of a dataset of the papers, where its size is all that matters."""

from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np

from dcjax.common.types import Array
from dcjax.data.dataset import Dataset
from dcjax.data.on_disk import Memory, OnDisk
from dcjax.data.zca import Whitening


class Size(NamedTuple):
  """How much a dataset has."""

  classes: int
  train: int  # images
  test: int
  side: int  # pixels
  channels: int


_SIZES = {
  "mnist": Size(10, 60_000, 10_000, 28, 1),
  "fashion_mnist": Size(10, 60_000, 10_000, 28, 1),
  "svhn_cropped": Size(10, 73_257, 26_032, 32, 3),
  "cifar10": Size(10, 50_000, 10_000, 32, 3),
  "cifar100": Size(100, 50_000, 10_000, 32, 3),
  "tiny_imagenet": Size(200, 100_000, 10_000, 64, 3),
  "usps": Size(10, 7_291, 2_007, 16, 1),
  "speech": Size(8, 7_000, 1_000, 64, 1),  # Mini Speech Commands
  "mini_speech_commands": Size(8, 7_000, 1_000, 64, 1),
}
_OF_IMAGENET = 1300, 50  # most training images of a class, and its test images


class _Black:
  """Images on disk that are not there."""

  def __init__(self, count: int, shape: tuple[int, int, int]):
    self._count, self._shape = count, shape

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> np.ndarray:
    return np.zeros(self._shape, np.uint8)


def size_of(fields: Any) -> Size | None:
  """The size of a dataset that the section `dataset` of a config names, if it is known unread."""
  size = _SIZES.get(fields.name)
  if fields.name == "folder" and fields.classes and fields.side:  # as those of ImageNet
    train, test = (len(fields.classes) * each for each in _OF_IMAGENET)
    size = Size(len(fields.classes), train, test, fields.side, 3)
  elif size is not None and fields.classes:
    share = len(fields.classes) / size.classes
    train, test = int(size.train * share), int(size.test * share)
    size = size._replace(classes=len(fields.classes), train=train, test=test)
  if size is not None and fields.rgb_side:
    size = size._replace(side=fields.rgb_side, channels=3)
  return size


def stand_in(fields: Any, size: Size, memory: Memory, *, filled: bool) -> Dataset:
  """A dataset of a size, its classes alike, whose labels say nothing.

  Args:
    fields: the section `dataset` of a config.
    size: as `size_of` returns it.
    memory: whether training images stay on disk.
    filled: whether there are pixels, of noise; else images in memory have a shape only.
  """
  shape = (size.side, size.side, size.channels)
  offsets = np.round(np.linspace(0, size.train, size.classes + 1)).astype(np.int32)
  images: Any = OnDisk(_Black(size.train, shape), shape, memory)
  if not memory.streams(size.train * int(np.prod(shape))):
    images = _images(size.train, shape, filled)
  whitening = None
  if fields.zca:
    numbers = int(np.prod(shape))
    unit = np.eye(numbers, dtype=np.float32)
    whitening = Whitening(np.zeros(numbers, np.float32), unit, unit)
  return Dataset(
    images=cast(Array, images),
    labels=jnp.repeat(jnp.arange(size.classes), np.diff(offsets), total_repeat_length=size.train),
    source=jnp.arange(size.train),
    offsets=jnp.asarray(offsets),
    mean=jnp.full(size.channels, 0.5, jnp.float32),
    std=jnp.full(size.channels, 0.25, jnp.float32),
    test_images=_images(size.test, shape, filled),
    test_labels=jnp.arange(size.test) % size.classes,
    name=fields.name,
    class_names=tuple(map(str, range(size.classes))),
    largest_class=int(np.diff(offsets).max()),
    whitening=whitening,
  )


def _images(count: int, shape: tuple[int, int, int], filled: bool) -> Array:
  if not filled:
    return cast(Array, np.broadcast_to(np.zeros((), np.uint8), (count, *shape)))
  noise = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
  return jnp.asarray(noise)
