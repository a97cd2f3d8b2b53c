"""Classes and batches over devices: where arrays lie, and who does what.

The mesh has the axes `class` and `batch`. Along `class`, devices hold the real and the synthetic
images of some classes each and match these; along `batch`, they share the work on a real batch.
Networks are whole on every device. One device is a mesh like any other.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dcjax.common.types import Array
from dcjax.data import Dataset
from dcjax.devices import processes
from dcjax.devices.strategy import Strategy

CLASS, BATCH = "class", "batch"


def mesh(strategy: Strategy) -> Mesh:
  """The devices of a strategy; several processes have one mesh."""
  devices = np.array((strategy.described or jax.devices())[: strategy.devices])
  return Mesh(devices.reshape(strategy.mesh), (CLASS, BATCH))


@struct.dataclass
class Part:
  """The images of some classes, seen from a device that holds them."""

  rows: Array  # [longest, H, W, C] uint8
  first: Array  # int32, the index of the first one among all images

  def __getitem__(self, indices: Array) -> jax.Array:
    """Images by their indices among all images; those of other devices are not here."""
    return self.rows[indices - self.first]


@struct.dataclass
class Spread:
  """Images sorted by class, each class' on the devices at one place along `class`.

  It stands for `Dataset.images`: what is drawn does not depend on where it lies.
  """

  rows: Array  # [shards * longest, H, W, C] uint8: shard d has those from d * longest on
  bounds: Array  # int32 [shards + 1]: shard d holds the indices bounds[d]:bounds[d + 1]
  count: int = struct.field(pytree_node=False)  # of images
  mesh: Mesh = struct.field(pytree_node=False)

  @property
  def shape(self) -> tuple[int, ...]:
    """`[N, H, W, C]`, as of the array that this stands for."""
    return self.count, *self.rows.shape[1:]

  def __getitem__(self, indices: Array) -> jax.Array:
    """Images by their indices, on every device: each is given by the one that holds it."""

    def found(spread, indices):
      part = spread.part()
      here = (indices >= part.first) & (indices < part.first + spread.size())
      rows = part[jnp.clip(indices, part.first, part.first + len(part.rows) - 1)]
      # int32, since not every backend adds bytes up.
      mine = jnp.where(here[..., None, None, None], rows, 0).astype(jnp.int32)
      return jax.lax.psum(mine, CLASS).astype(rows.dtype)

    specs = self.specs(), P()
    return jax.shard_map(found, mesh=self.mesh, in_specs=specs, out_specs=P(), check_vma=False)(
      self, indices
    )

  def part(self) -> Part:
    """What this device holds; for use inside `shard_map`."""
    return Part(self.rows, self.bounds[jax.lax.axis_index(CLASS)])

  def size(self) -> Array:
    """How many images this device holds; for use inside `shard_map`."""
    shard = jax.lax.axis_index(CLASS)
    return self.bounds[shard + 1] - self.bounds[shard]

  def specs(self) -> "Spread":
    """Where its arrays lie, for `shard_map`."""
    return Spread(cast(Array, P(CLASS)), cast(Array, P()), self.count, self.mesh)


def spread(strategy: Strategy, dataset: Dataset) -> Dataset:
  """The training split of a dataset as `strategy.real_images` says.

  Args:
    strategy: says over which devices.
    dataset: as it was loaded.

  Returns:
    The dataset, on several devices without its test split. By class, `images` is a `Spread`;
    everything else is on every device.
  """
  if strategy.devices == 1:
    return put(dataset, replicated(strategy)) if strategy.described else dataset
  dataset = replace(
    dataset, test_images=dataset.test_images[:0], test_labels=dataset.test_labels[:0]
  )
  if strategy.real_images == "everywhere":
    return put(dataset, replicated(strategy))
  images, shards = np.asarray(dataset.images), strategy.mesh[0]
  first_classes = np.arange(shards + 1) * _share(strategy, dataset.num_classes)
  bounds = np.asarray(dataset.offsets)[np.minimum(first_classes, dataset.num_classes)]
  longest = int(np.diff(bounds).max())

  def rows(index):
    start = bounds[(index[0].start or 0) // longest]
    return np.resize(images[start : start + longest], (longest, *images.shape[1:]))

  shape = (shards * longest, *images.shape[1:])
  by_class = NamedSharding(mesh(strategy), P(CLASS))
  placed: Any = jax.ShapeDtypeStruct(shape, images.dtype, sharding=by_class)
  if not strategy.described:
    placed = jax.make_array_from_callback(shape, by_class, rows)
  rest = replace(dataset, images=dataset.images[:0])
  rest, bounds = put((rest, bounds.astype(np.int32)), replicated(strategy))
  return replace(rest, images=cast(Array, Spread(placed, bounds, len(images), mesh(strategy))))


def put(tree: Any, shardings: Any) -> Any:
  """Lays arrays out; where there are several processes, all must have the same ones.

  Args:
    tree: arrays, or their shapes.
    shardings: one for all, or a tree of them.

  Returns:
    The arrays. Of devices that are only described, what would be there: shapes, and their places.
  """
  if not processes.several() and _can_be_put(tree, shardings):
    return jax.device_put(tree, shardings)
  if isinstance(shardings, NamedSharding):
    shardings = jax.tree.map(lambda _: shardings, tree)
  return jax.tree.map(_put_one, tree, shardings)


def _can_be_put(tree: Any, shardings: Any) -> bool:
  """Whether all are arrays, and for devices that are there."""
  leaves, layouts = jax.tree.leaves(tree), jax.tree.leaves(shardings)[:1]
  there = all(layout.mesh.devices.flat[0] in jax.devices() for layout in layouts)
  return there and not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)


def _put_one(array: Any, layout: NamedSharding) -> Any:
  if not _can_be_put(array, layout):
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=layout)
  if isinstance(array, jax.Array) and array.sharding == layout:
    return array
  content = np.asarray(array)
  return jax.make_array_from_callback(content.shape, layout, lambda index: content[index])


def state_shardings(strategy: Strategy, state: Any) -> Any:
  """Where the arrays of a method's state lie: those shaped as the images by class, others whole.

  Where the devices along `class` do not divide the classes evenly, all are whole everywhere.

  Args:
    strategy: says over which devices.
    state: of a method, its arrays or their shapes.

  Returns:
    A sharding for each array.
  """
  over, images = mesh(strategy), state.stored.images.shape
  by_class = P() if images[0] % strategy.mesh[0] else P(CLASS)
  return jax.tree.map(
    lambda leaf: NamedSharding(over, by_class if leaf.shape == images else P()), state
  )


def replicated(strategy: Strategy) -> NamedSharding:
  """The sharding of what every device holds in full."""
  return NamedSharding(mesh(strategy), P())


def whole(strategy: Strategy, tree: Any) -> Any:
  """Arrays in full on every device, gathered once; inside jit.

  A loop that takes some of their rows at each step would gather these each time.
  """
  if strategy.devices == 1:
    return tree
  return jax.lax.with_sharding_constraint(tree, replicated(strategy))


def map_classes(strategy: Strategy, function: Callable[[Any, Any], Any], shared: Any, each: Any):
  """Applies `function(shared, item)` to every class, on as many devices as the strategy says.

  Args:
    strategy: how.
    function: a pure function of what is shared and of one class' arrays.
    shared: arrays that every class sees whole, but of a `Spread` only the images of its device.
    each: a pytree whose arrays have a leading class axis.

  Returns:
    The results, stacked along a leading class axis.
  """
  if strategy.devices == 1:
    one = partial(function, shared)
    return jax.vmap(one)(each) if strategy.class_map == "vmap" else jax.lax.map(one, each)
  classes = jax.tree.leaves(each)[0].shape[0]
  count = _share(strategy, classes) * strategy.mesh[0]
  if count > classes:  # an uneven share is filled up with the last class, whose copies are dropped
    index = jnp.minimum(jnp.arange(count), classes - 1)
    each = jax.tree.map(lambda x: x[index], each)

  def local(shared, each):
    shared = _map_spread(lambda x: x.part(), lambda x: x, shared)
    return map_classes(strategy._replace(mesh=(1, 1)), function, shared, each)

  specs = _map_spread(lambda x: x.specs(), lambda _: P(), shared)
  over = jax.shard_map(
    local,
    mesh=mesh(strategy),
    in_specs=(specs, P(CLASS)),
    out_specs=P(CLASS),
    check_vma=False,
  )
  return jax.tree.map(lambda x: x[:classes], over(shared, each))


def share_batch(strategy: Strategy, images: Array) -> tuple[Array, Array]:
  """What each device along `batch` takes of a batch whose mean is wanted; inside `map_classes`.

  Args:
    strategy: says how many devices.
    images: `[N, H, W, C]`, the same on all these devices.

  Returns:
    Some of the images, and weights of 1/N, or 0 for images that fill up.
  """
  count, devices = len(images), strategy.mesh[1]
  if devices == 1:
    return images, jnp.full(count, 1 / count, jnp.float32)
  share = -(-count // devices)
  indices = jax.lax.axis_index(BATCH) * share + jnp.arange(share)
  return images[indices % count], jnp.where(indices < count, 1 / count, 0)


def sum_batch(strategy: Strategy, value: Any) -> Any:
  """The sum of what the devices along `batch` have found, each for its share."""
  return value if strategy.mesh[1] == 1 else jax.lax.psum(value, BATCH)


def gather_batch(strategy: Strategy, tree: Any) -> Any:
  """What the devices along `batch` have found, each for its share, one after another."""
  if strategy.mesh[1] == 1:
    return tree
  return jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, BATCH, tiled=True), tree)


def _share(strategy: Strategy, classes: int) -> int:
  """Classes of one place along `class`, at most."""
  return -(-classes // strategy.mesh[0])


def _map_spread(spread: Callable[[Spread], Any], other: Callable[[Any], Any], tree: Any) -> Any:
  """Maps a tree's `Spread`s by one function, its arrays by another."""

  def is_spread(leaf):
    return isinstance(leaf, Spread)

  return jax.tree.map(
    lambda leaf: spread(leaf) if is_spread(leaf) else other(leaf), tree, is_leaf=is_spread
  )
