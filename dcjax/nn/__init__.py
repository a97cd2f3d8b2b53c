"""Networks by name, as pure functions of their parameters."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as linen
import jax
import jax.numpy as jnp
from absl import logging

from dcjax.common.errors import UserError, check_most, check_name
from dcjax.common.types import Array, Key, Params
from dcjax.nn import alexnet, densenet, efficientnet, layers, lenet, resnet, vgg
from dcjax.nn.alexnet import AlexNet
from dcjax.nn.convnet import ConvNet
from dcjax.nn.convolution import CONVOLUTIONS
from dcjax.nn.densenet import DenseNet121
from dcjax.nn.efficientnet import EfficientNetB0
from dcjax.nn.lenet import LeNet
from dcjax.nn.mlp import MLP
from dcjax.nn.resnet import ResNet
from dcjax.nn.vgg import VGG11

NETWORKS = (
  "convnet",
  "lenet",
  "mlp",
  "alexnet",
  "vgg11",
  "resnet10",
  "resnet10_ap",
  "resnet18",
  "resnet18_ap",
  "densenet121",
  "efficientnet_b0",
)
# What a network computes in: bfloat16 has the range of float32 and 8 bits of its 24
WIDEST, DEEPEST = 2**14, 100  # ConvNets: channels, whose square a kernel has, and blocks
PRECISIONS = ("float32", "bfloat16")
# The least side of an image that a network can take; images of 28 pixels are padded to 32.
SMALLEST_SIDES = {
  "lenet": lenet.SMALLEST_SIDE,
  "alexnet": alexnet.SMALLEST_SIDE,
  "vgg11": vgg.SMALLEST_SIDE,
  "resnet10": resnet.SMALLEST_SIDE,
  "resnet10_ap": resnet.SMALLEST_SIDE,
  "resnet18": resnet.SMALLEST_SIDE,
  "resnet18_ap": resnet.SMALLEST_SIDE,
  "densenet121": densenet.SMALLEST_SIDE,
  "efficientnet_b0": efficientnet.SMALLEST_SIDE,
}


class Network(NamedTuple):
  """A network as pure functions.

  Attributes:
    init: `init(key) -> params`.
    apply: `apply(params, images, stats=None) -> (logits, features)` for normalised images
      `[N, H, W, C]`. With `stats`, batch norm uses these frozen statistics, otherwise its batch's.
    statistics: `statistics(params, images) -> stats`, the moments that each batch norm sees when
      these images go through; empty without batch norm.
    batch_norm: whether an image's logits depend on the others in its batch.
  """

  init: Callable[[Key], Params]
  apply: Callable[..., tuple[Array, Array]]
  statistics: Callable[[Params, Array], Params]
  batch_norm: bool


def create(
  name: str,
  image_shape: tuple[int, int, int],
  num_classes: int,
  *,
  width: int = 128,
  depth: int = 3,
  norm: str | None = None,
  activation: str = "relu",
  pooling: str = "average",
  init: str = "torch",
  convolution: str = "patches",
  first_block: int = 0,
  precision: str = "float32",
) -> Network:
  """Makes a network by name.

  Args:
    name: one of `NETWORKS`.
    image_shape: `(H, W, C)` of the images.
    num_classes: number of logits.
    width: filters of each block (ConvNet only, as are depth, activation and pooling).
    depth: number of blocks.
    norm: one of `layers.NORMS`; None for the authors': none in AlexNet, else 'instance'. LeNet and
      MLP have none.
    activation: one of `layers.ACTIVATIONS`.
    pooling: one of `layers.POOLINGS`.
    init: 'torch', PyTorch's default (uniform within 1 / sqrt(fan_in), biases too), on which the
      papers' published numbers rest, or 'kaiming' (He et al. 2015, normal), as their text says.
    convolution: one of `convolution.CONVOLUTIONS`.
    first_block: images that go through the first block together (ConvNet only), more where there
      are over `convnet.PARTS` times as many; 0 for all, as batch norm needs them whatever is said.
    precision: one of `PRECISIONS`, in which images and activations are; parameters, moments of
      norms, logits, features and gradients to the parameters are in float32 with either.

  Returns:
    The network.

  Raises:
    UserError: for an unknown name, or images too small for the network.
  """
  check_name("network.name", name, NETWORKS)
  check_name("network.init", init, layers.INITIALISERS)
  check_name("compute.convolution", convolution, CONVOLUTIONS)
  check_name("network.precision", precision, PRECISIONS)
  norm = norm or default_norm(name)
  check_name("network.norm", norm, layers.NORMS)
  _check_side(name, image_shape)
  if name == "convnet":
    check_name("network.activation", activation, layers.ACTIVATIONS)
    check_name("network.pooling", pooling, layers.POOLINGS)
    _check_convnet(image_shape, width, depth, norm, pooling)
  modules: dict[str, Callable[[], linen.Module]] = {
    "convnet": lambda: ConvNet(
      num_classes, width, depth, norm, activation, pooling, init, convolution, first_block
    ),
    "lenet": lambda: LeNet(num_classes, init, convolution),
    "mlp": lambda: MLP(num_classes, init),
    "alexnet": lambda: AlexNet(num_classes, norm, init, convolution),
    "vgg11": lambda: VGG11(num_classes, norm, init, convolution),
    "resnet10": lambda: ResNet(num_classes, 1, norm, False, init, convolution),
    "resnet10_ap": lambda: ResNet(num_classes, 1, norm, True, init, convolution),
    "resnet18": lambda: ResNet(num_classes, 2, norm, False, init, convolution),
    "resnet18_ap": lambda: ResNet(num_classes, 2, norm, True, init, convolution),
    "densenet121": lambda: DenseNet121(num_classes, norm, init, convolution),
    "efficientnet_b0": lambda: EfficientNetB0(num_classes, norm, init, convolution),
  }
  batch_norm = norm == "batch" and name not in ("lenet", "mlp")
  network = _network(modules[name](), image_shape, batch_norm)
  return _in_bfloat16(network) if precision == "bfloat16" else network


def default_norm(name: str) -> str:
  """The norm that the authors' network has: none in AlexNet, instance norm elsewhere."""
  return "none" if name == "alexnet" else "instance"


def _check_side(name: str, image_shape: tuple[int, int, int]) -> None:
  """Refuses images that a network's poolings would leave nothing of."""
  least = SMALLEST_SIDES.get(name, 1)
  side = min(image_shape[:2]) + 2 * layers.first_padding(image_shape[0], 0)
  if side < least:
    raise UserError(
      f"network.name: {name} takes images of {least} pixels or more, these have "
      f"{image_shape[0]}x{image_shape[1]}; use convnet or mlp"
    )


def _network(
  module: linen.Module, image_shape: tuple[int, int, int], batch_norm: bool = False
) -> Network:
  def init(key):
    return module.init(key, jnp.zeros((1, *image_shape), jnp.float32))["params"]

  def apply(params, images, stats=None):
    variables = {"params": params, "batch_stats": stats} if stats else {"params": params}
    return module.apply(variables, images)

  def statistics(params, images):
    if not batch_norm:
      return {}
    return module.apply({"params": params}, images, mutable="batch_stats")[1]["batch_stats"]

  return Network(init, jax.named_call(apply, name="network"), statistics, batch_norm)


def _in_bfloat16(network: Network) -> Network:
  """The same network on images and parameters in bfloat16; what it returns is in float32."""

  def cast(tree, dtype=jnp.bfloat16):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

  def apply(params, images, stats=None):
    return cast(network.apply(cast(params), cast(images), stats), jnp.float32)

  def statistics(params, images):
    return network.statistics(cast(params), cast(images))

  return network._replace(apply=apply, statistics=statistics)


def _check_convnet(
  image_shape: tuple[int, int, int], width: int, depth: int, norm: str, pooling: str
) -> None:
  """Refuses what cannot be built, and warns of what cannot learn."""
  if width < 1 or depth < 1:
    raise UserError(f"network: width {width} and depth {depth} must be at least 1")
  check_most("network.width", width, WIDEST)
  check_most("network.depth", depth, DEEPEST)
  if norm == "group" and width % layers.GROUPS:
    raise UserError(f"network.width: {width} is not a multiple of the {layers.GROUPS} groups")
  side = min(image_shape[:2]) + 2 * layers.first_padding(image_shape[0], 0)
  halvings = 0 if pooling == "none" else depth
  if side < 2**halvings:
    raise UserError(
      f"network.depth: {depth} is too deep for images of {image_shape[0]}x{image_shape[1]} "
      f"pixels, which {pooling} pooling halves at each block; "
      + (f"use at most {side.bit_length() - 1}" if side > 1 else "use network.name=mlp")
    )
  last = side if pooling == "none" else side >> (depth - 1)
  if norm == "instance" and last <= 2:
    logging.warning(
      "network.depth: at depth %d the last instance norm sees only %dx%d pixels and leaves "
      "almost nothing to learn from; a smaller depth is better",
      depth, last, last,
    )  # fmt: skip
