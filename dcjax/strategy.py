"""How the work is laid out on the machine: the one place where backends differ.

Every choice here changes speed and memory, and numbers only by rounding. The defaults come from
measurement on CPU (`benchmarks/`); those for GPU and TPU are reasoned, not measured.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dcjax.errors import UserError, check_least, check_name

CLASS_MAPS = ("scan", "vmap")


class Strategy(NamedTuple):
  """Where the work goes.

  Attributes:
    convolution: an entry of `nn.convolution.CONVOLUTIONS`.
    class_map: 'scan' takes the classes one after another, 'vmap' all at once.
    image_block: how many images go through a network together when a gradient over many is
      summed or a test set is classified; 0 for all of them.
    network_block: how many networks are trained together at evaluation.
    devices: over how many devices the classes are spread.
    synthetic_block: how many synthetic images of a class go through a network together when what
      is matched is differentiated; 0 for all of them. What a block computes is computed again in
      the backward pass, in place of being kept.
  """

  convolution: str = "patches"
  class_map: str = "scan"
  image_block: int = 16
  network_block: int = 1
  devices: int = 1
  synthetic_block: int = 0

  def blocks(self, images: int) -> int:
    """Images of one block when there are `images` of them, in blocks as even as they can be."""
    return _even(images, self.image_block)

  def synthetic_blocks(self, images: int) -> int:
    """Synthetic images of one block, likewise."""
    return _even(images, self.synthetic_block)


def _even(images: int, block: int) -> int:
  """The size of blocks of at most `block` images that are as even as they can be; 0: one block."""
  count = -(-images // (block or images))
  return -(-images // count)


# A CPU's caches hold the activations of a few images, and a class fills its cores; elsewhere
# one launch over everything wins. At evaluation 20 networks is what the papers train.
DEFAULTS = {
  "cpu": Strategy(convolution="winograd"),
  "gpu": Strategy(class_map="vmap", image_block=0, network_block=20),
  "tpu": Strategy(class_map="vmap", image_block=0, network_block=20),
}


def choose(backend: str, num_classes: int, **overrides: Any) -> Strategy:
  """The strategy for a backend, with whatever the config sets by hand.

  Args:
    backend: 'cpu', 'gpu' or 'tpu', as `jax.default_backend()` says.
    num_classes: classes of the dataset.
    **overrides: fields of `Strategy`; None leaves the default. `devices` defaults to all there
      are, or to one for each class if that is fewer.

  Raises:
    UserError: for a value that no strategy has.
  """
  given = {field: value for field, value in overrides.items() if value is not None}
  strategy = DEFAULTS.get(backend, DEFAULTS["gpu"])._replace(
    devices=min(jax.local_device_count(), num_classes)
  )
  strategy = strategy._replace(**given)
  check_name("compute.class_map", strategy.class_map, CLASS_MAPS)
  least = {"image_block": 0, "synthetic_block": 0, "network_block": 1, "devices": 1}
  for field, value in least.items():
    check_least(f"compute.{field}", getattr(strategy, field), value)
  if strategy.devices > jax.local_device_count():
    raise UserError(
      f"compute.devices: {strategy.devices} is too many; this machine has "
      f"{jax.local_device_count()}"
    )
  return strategy


def map_classes(strategy: Strategy, function: Callable[..., Any], shared: Any, each: Any) -> Any:
  """Applies `function(shared, *item)` to every class, on as many devices as the strategy says.

  Args:
    strategy: how.
    function: a pure function of what is shared and of one class' arrays.
    shared: arrays that every class sees whole.
    each: a tuple of pytrees whose arrays have a leading class axis.

  Returns:
    The results, stacked along a leading class axis.
  """

  def local(shared, each):
    if strategy.class_map == "vmap":
      return jax.vmap(lambda *item: function(shared, *item))(*each)
    return jax.lax.map(lambda item: function(shared, *item), each)

  if strategy.devices == 1:
    return local(shared, each)
  classes = jax.tree.leaves(each)[0].shape[0]
  # An uneven share is filled up with the last class, whose copies are dropped again.
  share = -(-classes // strategy.devices)
  index = jnp.minimum(jnp.arange(share * strategy.devices), classes - 1)
  spread = jax.shard_map(
    local,
    mesh=_mesh(strategy),
    in_specs=(PartitionSpec(), PartitionSpec("class")),
    out_specs=PartitionSpec("class"),
    check_vma=False,
  )
  results = spread(shared, jax.tree.map(lambda x: x[index], each))
  return jax.tree.map(lambda x: x[:classes], results)


def _mesh(strategy: Strategy) -> Mesh:
  return Mesh(np.array(jax.local_devices()[: strategy.devices]), ("class",))


def replicate(strategy: Strategy, tree: Any) -> Any:
  """Puts arrays whole on every device of the strategy."""
  return jax.device_put(tree, replicated(strategy))


def replicated(strategy: Strategy) -> NamedSharding:
  """The sharding of what every device holds whole."""
  return NamedSharding(_mesh(strategy), PartitionSpec())
