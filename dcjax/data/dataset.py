"""Labelled images, sorted by class, and random draws of them by class.

Images stay uint8 wherever they are kept and are normalised after the gather: a quarter
of the memory, and the draw runs inside jit.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import struct

from dcjax.common.errors import UserError
from dcjax.common.types import Array, Key
from dcjax.data import arrays, statistics
from dcjax.data.on_disk import OnDisk
from dcjax.data.zca import Whitening

_NARROW = 64  # levels of 256; images that span fewer have lost most of what they showed
_NAMED = 5  # classes that a warning names before it says "and more"


@struct.dataclass
class Dataset:
  """A training split sorted by class, a test split, and what the pixels mean.

  A frozen pytree: it goes through jit as an argument, so that the images do not become
  constants of the program. Build one with `from_arrays`.
  """

  images: Array  # [N, H, W, C] uint8, sorted by class; or `OnDisk`
  labels: Array  # [N] int32, never decreasing
  source: Array  # [N] int32, the place of each image in the training split as it was loaded
  offsets: Array  # [classes + 1] int32: class k is images[offsets[k]:offsets[k + 1]]
  mean: Array  # [C] float32, of pixels in [0, 1]
  std: Array  # [C] float32, of pixels in [0, 1], positive
  test_images: Array  # [M, H, W, C] uint8, in no particular order
  test_labels: Array  # [M] int32
  name: str = struct.field(pytree_node=False)  # static
  class_names: tuple[str, ...] = struct.field(pytree_node=False)  # static, [classes]
  largest_class: int = struct.field(pytree_node=False)  # static, images in that class
  whitening: Whitening | None = None  # None: networks see images normalised only

  @property
  def num_classes(self) -> int:
    """How many classes there are."""
    return len(self.class_names)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of one image."""
    height, width, channels = self.images.shape[-3:]
    return height, width, channels

  def normalise(self, images: Array) -> jax.Array:
    """What networks see of stored pixels: zero mean and unit deviation, channel by channel.

    Args:
      images: uint8 `[..., H, W, C]`.

    Returns:
      float32 `[..., H, W, C]`: (images / 255 - mean) / std, and that whitened if there is a
      `whitening`.
    """
    per_channel = (1,) * (images.ndim - 1) + (-1,)
    pixels = jnp.asarray(images).astype(jnp.float32) / 255.0
    normalised = (pixels - self.mean.reshape(per_channel)) / self.std.reshape(per_channel)
    return normalised if self.whitening is None else self.whitening.whiten(normalised)

  def whitened(self, whitening: Whitening | None) -> "Dataset":
    """The same data whitened in this way, or not at all."""
    return dataclasses.replace(self, whitening=jax.tree.map(jnp.array, whitening))


def from_arrays(
  x_train: np.ndarray | OnDisk,
  y_train: np.ndarray,
  x_test: np.ndarray,
  y_test: np.ndarray,
  *,
  name: str,
  class_names: Sequence[str] | None = None,
  mean: np.ndarray | None = None,
  std: np.ndarray | None = None,
) -> Dataset:
  """Checks arrays and makes a `Dataset` of them, on JAX's default device.

  Args:
    x_train: uint8 `[N, H, W, C]` with C of 1 or 3, or `[N, H, W]`, in any order; or images on disk,
      sorted by class, whose `mean` and `std` are given.
    y_train: integers `[N]` in 0..classes-1; every class occurs.
    x_test: uint8 `[M, H, W, C]` or `[M, H, W]`, images of the same shape.
    y_test: integers `[M]` in 0..classes-1.
    name: what to call the data set.
    class_names: one name a class; by default "0", "1", ... up to the largest label.
    mean: `[C]`, of pixels in [0, 1]; measured on `x_train` if not given.
    std: `[C]`, likewise.

  Returns:
    The data set. Within a class, images keep their order.

  Raises:
    UserError: something is not as above; the message begins with the argument's name.
  """
  if not isinstance(x_train, OnDisk):
    x_train = arrays.as_images("x_train", x_train)
  x_test = arrays.as_images("x_test", x_test)
  y_train = arrays.as_labels("y_train", y_train, x_train.shape[0])
  y_test = arrays.as_labels("y_test", y_test, len(x_test))
  if x_test.shape[1:] != x_train.shape[1:]:
    raise UserError(
      f"x_test: images are {list(x_test.shape[1:])}, those of x_train"
      f" {list(x_train.shape[1:])}; make them alike"
    )
  class_names = arrays.as_class_names(class_names, y_train)
  arrays.check_in_range("y_test", y_test, len(class_names))
  mean, std = _statistics(x_train, mean, std)
  x_train, y_train, source = _sort_by_class(x_train, y_train)
  offsets = np.searchsorted(y_train, np.arange(len(class_names) + 1))
  return Dataset(
    images=cast(Array, x_train) if isinstance(x_train, OnDisk) else jnp.array(x_train),
    labels=jnp.array(y_train.astype(np.int32)),
    source=jnp.array(source.astype(np.int32)),
    offsets=jnp.array(offsets.astype(np.int32)),
    mean=jnp.array(mean),
    std=jnp.array(std),
    test_images=jnp.array(x_test),
    test_labels=jnp.array(y_test.astype(np.int32)),
    name=name,
    class_names=class_names,
    largest_class=int(np.diff(offsets).max()),
  )


def _statistics(
  images: Any, mean: np.ndarray | None, std: np.ndarray | None
) -> statistics.Statistics:
  """Checks the statistics that are given and measures those that are not."""
  if mean is None or std is None:
    measured = statistics.measure(images)
    mean = measured[0] if mean is None else mean
    std = measured[1] if std is None else std
  mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
  arrays.check_statistics(mean, std, images.shape[-1])
  return mean, std


def _sort_by_class(images: Any, labels: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
  """Sorts stably by label and says where each came from; copies nothing that is sorted already."""
  if (labels[1:] >= labels[:-1]).all():
    return images, labels, np.arange(len(labels))
  order = np.argsort(labels, kind="stable")
  return images[order], labels[order], order


def take(dataset: Dataset, places: np.ndarray, labels: np.ndarray, classes: int) -> Dataset:
  """A data set with some of the training images alone.

  Args:
    dataset: with images in memory; all but its training split stays as it is.
    places: int `[n]`, of those to keep, in their new order.
    labels: `[n]`, never decreasing; their new labels, all of 0..classes-1.
    classes: how many there are then.
  """
  sizes = np.bincount(labels, minlength=classes)
  return dataclasses.replace(
    dataset,
    images=dataset.images[places],
    labels=jnp.array(labels, dtype=jnp.int32),
    source=dataset.source[places],
    offsets=jnp.array(np.append(0, sizes.cumsum()), dtype=jnp.int32),
    largest_class=int(sizes.max()),
  )


def images_at(dataset: Dataset, places: Array | np.ndarray) -> np.ndarray:
  """Training images by their places `[...]`, uint8 `[..., H, W, C]`, wherever they are."""
  images: Any = dataset.images
  return images.read(places) if isinstance(images, OnDisk) else np.asarray(images[places])


def sample(dataset: Dataset, key: Key, label: Array | int, *, n: int) -> jax.Array:
  """Draws `n` images of one class, uniformly. Runs inside jit, vmap and lax.map.

  Without replacement where the class has `n` images or more, and with replacement
  where it has fewer (`warn_small_classes` says so, outside jit).

  Args:
    dataset: what to draw from.
    key: the same key draws the same images.
    label: the class, a scalar in 0..classes-1; may be traced.
    n: how many; static.

  Returns:
    int32 `[n]`: places in `dataset.images`, in random order.
  """
  distinct_key, repeated_key = jax.random.split(key)
  offsets = jnp.asarray(dataset.offsets)
  start, size = offsets[label], offsets[label + 1] - offsets[label]
  repeated = jax.random.randint(repeated_key, (n,), 0, size, dtype=jnp.int32)
  if n > dataset.largest_class:
    return start + repeated
  # The n largest of random priorities; places beyond the class come after all others.
  priority = jax.random.uniform(distinct_key, (dataset.largest_class,), jnp.float32)
  inside = jnp.arange(dataset.largest_class, dtype=jnp.int32) < size
  _, distinct = jax.lax.top_k(jnp.where(inside, priority, -1.0), n)
  return start + jnp.where(size >= n, distinct, repeated)


def sample_of_classes(dataset: Dataset, key: Key, classes: Array, *, n: int) -> jax.Array:
  """Draws `n` images of some classes with replacement, each as likely as the others.

  Args:
    dataset: what to draw from.
    key: the same key draws the same images.
    classes: bool `[classes]`, which ones; may be traced, at least one is true.
    n: how many; static.

  Returns:
    int32 `[n]`: places in `dataset.images`.
  """
  label_key, place_key = jax.random.split(key)
  offsets = jnp.asarray(dataset.offsets)
  sizes = offsets[1:] - offsets[:-1]
  chances = jnp.log(jnp.where(classes, sizes, 0).astype(jnp.float32))
  labels = jax.random.categorical(label_key, chances, shape=(n,))
  return offsets[labels] + jax.random.randint(place_key, (n,), 0, sizes[labels])


def random_subset(dataset: Dataset, key: Key, *, ipc: int) -> jax.Array:
  """Draws `ipc` images of each class and normalises them.

  Args:
    dataset: what to draw from.
    key: the same key draws the same images.
    ipc: images per class; static.

  Returns:
    float32 `[classes, ipc, H, W, C]`, normalised.
  """
  return dataset.normalise(dataset.images[subset_indices(dataset, key, ipc=ipc)])


def subset_indices(dataset: Dataset, key: Key, *, ipc: int) -> jax.Array:
  """Which images `random_subset` draws with these arguments.

  Class k is drawn with `fold_in(key, k)`, hence does not depend on the other classes.

  Returns:
    int32 `[classes, ipc]`: places in `dataset.images`.
  """

  def draw(label: jax.Array) -> jax.Array:
    return sample(dataset, jax.random.fold_in(key, label), label, n=ipc)

  return jax.vmap(draw)(jnp.arange(dataset.num_classes, dtype=jnp.int32))


def any_indices(dataset: Dataset, key: Key, *, n: int) -> jax.Array:
  """Which `n` training images are drawn of all classes together, none twice; or all of them.

  Returns:
    int32 `[min(n, N)]`: places in `dataset.images`.
  """
  return jax.random.permutation(key, dataset.labels.shape[0])[:n].astype(jnp.int32)


def as_batch(images: Array | np.ndarray) -> tuple[jax.Array, jax.Array]:
  """Images `[classes, n, H, W, C]` as one batch `[classes * n, H, W, C]`, and its labels."""
  classes, count = images.shape[:2]
  labels = jnp.repeat(jnp.arange(classes), count)
  return jnp.asarray(images).reshape(-1, *images.shape[2:]), labels


def warn_small_classes(dataset: Dataset, n: int) -> None:
  """Logs one warning if classes have fewer than `n` images. Not for use inside jit.

  Args:
    dataset: what `sample` will draw from.
    n: how many images of a class it will draw at a time.
  """
  sizes = np.diff(np.asarray(dataset.offsets))
  small = [f"{dataset.class_names[k]} ({sizes[k]})" for k in np.flatnonzero(sizes < n)]
  if small:
    more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
    logging.warning(
      "%s: fewer than %d images in %s%s: these classes are sampled with replacement",
      dataset.name,
      n,
      ", ".join(small[:_NAMED]),
      more,
    )


def check_varied(dataset: Dataset, field: str = "dataset.data_dir") -> None:
  """Checks that images show something; warns where those of a class do not, or all span few levels.

  It looks at the first image of each class, and at more only where that leaves a doubt.

  Args:
    dataset: any.
    field: what an error blames.

  Raises:
    UserError: all training images, or all test images, are of one and the same colour.
  """
  starts, ends = np.asarray(dataset.offsets)[:-1], np.asarray(dataset.offsets)[1:]
  firsts = images_at(dataset, starts)
  colours = firsts[:, :1, :1]
  plain = [
    k
    for k in np.flatnonzero((firsts == colours).all((1, 2, 3)))
    if _all_are(colours[k], (images_at(dataset, b) for b in _blocks(starts[k], ends[k])))
  ]
  if len(plain) == dataset.num_classes and (colours == colours[0]).all():
    raise _all_alike(field, dataset, "training", colours[0])
  tests = dataset.test_images
  if _all_are(np.asarray(tests[0, :1, :1]), (np.asarray(tests[b]) for b in _blocks(0, len(tests)))):
    raise _all_alike(field, dataset, "test", np.asarray(tests[0, 0, 0]))
  _warn_of_few_levels(dataset, firsts)
  if plain:
    more = f" and {len(plain) - _NAMED} more" if len(plain) > _NAMED else ""
    logging.warning(
      "%s: all pixels of all training images are the same in %s%s: is that meant?",
      dataset.name,
      ", ".join(
        f"{dataset.class_names[k]} ({colours[k].ravel().tolist()})" for k in plain[:_NAMED]
      ),
      more,
    )


def _warn_of_few_levels(dataset: Dataset, firsts: np.ndarray) -> None:
  """Logs a warning if no training image spans many levels, as 12 bits in 16 do without a range."""
  low, high = int(firsts.min()), int(firsts.max())
  for places in _blocks(0, dataset.images.shape[0]):
    if high - low >= _NARROW:
      return
    images = images_at(dataset, places)
    low, high = min(low, int(images.min())), max(high, int(images.max()))
  if high - low < _NARROW:
    logging.warning(
      "%s: all training pixels are from %d to %d of 0..255; if their files tell them apart more "
      "finely, give the values of black and white in dataset.range",
      dataset.name, low, high,
    )  # fmt: skip


def _blocks(start: int, end: int) -> Iterator[np.ndarray]:
  """Places from one to another, few at first: it is seldom that all have to be looked at."""
  size = 1
  while start < end:
    yield np.arange(start, min(start + size, end))
    start, size = start + size, min(2 * size, 1024)


def _all_are(colour: np.ndarray, blocks: Iterable[np.ndarray]) -> bool:
  return all((block == colour).all() for block in blocks)


def _all_alike(field: str, dataset: Dataset, split: str, colour: np.ndarray) -> UserError:
  return UserError(
    f"{field}: all pixels of all {split} images of {dataset.name} are "
    f"{colour.ravel().tolist()}; look at the files, and at dataset.range"
  )
