"""How the work is laid out on the machine: the one place where backends differ.

Every choice here changes speed and memory, and numbers only by rounding. The defaults for a CPU are
measured (`benchmarks/`). Those for a GPU come from the programs that XLA compiles for an H100 and a
T4: grouped convolutions, bytes moved, kernels launched and memory, in this order. Those for a TPU
are the same, for the same reasons in what libtpu compiles. Nothing has been timed there.
"""

from typing import Any, NamedTuple

import jax

from dcjax.common.errors import UserError, check_least, check_name

CLASS_MAPS = ("scan", "vmap")
PLACES = ("by_class", "everywhere")
LONGEST_CHUNK = 100  # iterations; the metrics of a chunk wait in a buffer of this length
LARGE_SIDE = 65  # pixels; from here on half as many images go together, as memory is what counts


class Strategy(NamedTuple):
  """Where the work goes.

  Attributes:
    convolution: an entry of `nn.convolution.CONVOLUTIONS`.
    class_map: 'scan' takes the classes one after another, 'vmap' all at once.
    image_block: how many images go through a network together, at most, when a gradient over many
      is summed or a test set is classified; 0 for all of them.
    first_block: how many of these go through a ConvNet's first block together when gradients are
      matched, see `nn.create`; 0 for all of them. Matching features is slower in parts.
    network_block: how many networks are trained together at evaluation.
    mesh: devices along the axes `class` and `batch` of `sharding.mesh`.
    synthetic_block: how many synthetic images of a class go through a network together when what
      is matched is differentiated; 0 for all of them. What a block computes is computed again in
      the backward pass, in place of being kept.
    real_images: where they lie, in memory and on several devices: 'by_class', each class' on those
      that match it, which give others what networks are trained on; or 'everywhere'.
    described: the devices, where they are not this process's own, see `target`; then nothing can
      run, and programs are compiled alone.
  """

  convolution: str = "patches"
  class_map: str = "scan"
  image_block: int = 32
  first_block: int = 0
  network_block: int = 1
  mesh: tuple[int, int] = (1, 1)
  synthetic_block: int = 0
  real_images: str = "by_class"
  described: tuple[jax.Device, ...] = ()

  @property
  def devices(self) -> int:
    """Devices of the mesh."""
    return self.mesh[0] * self.mesh[1]

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


# A CPU's caches hold the activations of a few images, of the first layer's of fewer, and a class
# fills its cores. On a GPU or TPU, classes or networks together need grouped convolutions, or
# copies of each one's part for convolutions of its own; where features alone are matched, they need
# memory only, and `run.experiment.condensing` puts classes together on a GPU that has some, since
# fewer kernels are launched then. It also copies real images to all devices.
ON_CPU = Strategy(convolution="winograd", first_block=8)
ON_ACCELERATOR = Strategy(convolution="ungrouped", image_block=0)


def choose(
  backend: str,
  num_classes: int,
  side: int,
  described: tuple[jax.Device, ...] = (),
  **overrides: Any,
) -> Strategy:
  """The strategy for a backend, with whatever the config sets by hand.

  Args:
    backend: 'cpu', 'gpu' or 'tpu', as `jax.default_backend()` says.
    num_classes: classes of the dataset.
    side: height of its images in pixels.
    described: devices that are not this process's own.
    **overrides: fields of `Strategy`; None leaves the default. `mesh` is a text such as '4x2', by
      default all devices there are, as many along `class` as there are classes at most.

  Raises:
    UserError: for a value that no strategy has.
  """
  given = {field: value for field, value in overrides.items() if value is not None}
  available = len(described) or jax.device_count()
  mesh = _mesh(given.pop("mesh", None), num_classes, available)
  strategy = ON_CPU if backend == "cpu" else ON_ACCELERATOR
  if side >= LARGE_SIDE:
    strategy = strategy._replace(image_block=strategy.image_block // 2)
  strategy = strategy._replace(mesh=mesh, described=described, **given)
  check_name("compute.class_map", strategy.class_map, CLASS_MAPS)
  check_name("compute.real_images", strategy.real_images, PLACES)
  least = {"image_block": 0, "first_block": 0, "synthetic_block": 0, "network_block": 1}
  for field, value in least.items():
    check_least(f"compute.{field}", getattr(strategy, field), value)
  return strategy


def _mesh(text: str | None, num_classes: int, available: int) -> tuple[int, int]:
  """Devices along `class` and `batch`, by hand or automatically."""
  if text is None:
    classes = min(available, num_classes)
    return classes, available // classes
  sides = text.split("x")
  if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
    raise UserError(
      f"compute.mesh: '{text}' is not devices along class x along batch; give {available}x1, say"
    )
  classes, batch = map(int, sides)
  if classes > num_classes:
    raise UserError(
      f"compute.mesh: {text} has {classes} devices for {num_classes} classes; lower the first "
      "number"
    )
  if classes * batch > available:
    raise UserError(
      f"compute.mesh: {text} takes {classes * batch} devices, and there are {available}; lower it"
    )
  return classes, batch
