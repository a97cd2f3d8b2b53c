"""Networks by name, as pure functions of their parameters."""

import jax
import jax.numpy as jnp

from dcjax.common.errors import UserError, check_name
from dcjax.common.registry import NETWORKS
from dcjax.nn import layers
from dcjax.nn.convolution import CONVOLUTIONS, TF32, exactly
from dcjax.nn.definition import Definition, Network, find, largest_activation, of_module

__all__ = ["Definition", "Network", "create", "largest_activation"]

# What a network computes in: bfloat16 has the range of float32 and 8 bits of its 24
PRECISIONS = ("float32", "tf32", "bfloat16")


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
  filters: int | None = None,
  growth: int | None = None,
  first_block: int = 0,
  precision: str = "float32",
) -> Network:
  """Makes a network by name.

  Args:
    name: one of `registry.NETWORKS`, or `FILE.py:NAME`; see `users.network` for users' own.
    image_shape: `(H, W, C)` of the images.
    num_classes: number of logits.
    width: filters of each block (ConvNet only, as are depth, activation and pooling).
    depth: number of blocks.
    norm: one of `layers.NORMS`; None for the authors': none in AlexNet, else 'instance'. LeNet and
      MLP have none.
    activation: one of `layers.ACTIVATIONS`.
    pooling: one of `layers.POOLINGS`.
    init: 'torch', PyTorch's default (uniform within 1 / sqrt(fan_in), biases too), on which the
      papers' published numbers rest; 'kaiming' (He et al. 2015, normal), as their text says; or
      'fan_out', which is 'torch' but for convolutions, whose weights are normal with variance
      2 / fan_out, as IDC's authors have it in ResNets; or 'lecun', flax's default (normal with
      variance 1 / fan_in, biases zero), as FRePo's authors have it.
    convolution: one of `convolution.CONVOLUTIONS`.
    filters: of the first stage of a ResNet; each other stage has twice as many as the one before.
      None: 64, and 32 of ResNet10 for images of up to `layers.TINY_SIDE` pixels.
    growth: filters that a layer of DenseNet121 adds; None: 32, and 12 for those images.
    first_block: images that go through the first block together (ConvNet only), more where there
      are over `convnet.PARTS` times as many; 0 for all, as batch norm needs them whatever is said.
    precision: one of `PRECISIONS`. 'bfloat16': images and activations are; parameters, moments of
      norms, logits, features and gradients to the parameters are in float32 with each. 'tf32':
      convolutions round what they multiply to 10 bits of mantissa, as those of PyTorch do by
      default on GPUs since NVIDIA's Ampere; on other devices it is imitated.

  Returns:
    The network.

  Raises:
    UserError: for an unknown name, images too small for the network, or a user's that fails.
  """
  definition = find("network.name", name)
  check_name("network.init", init, layers.INITIALISERS)
  check_name("compute.convolution", convolution, CONVOLUTIONS)
  check_name("network.precision", precision, PRECISIONS)
  norm = norm or definition.norm
  check_name("network.norm", norm, layers.NORMS)
  _check_side(name, definition.smallest_side, image_shape)
  given = definition.given(
    num_classes=num_classes,
    image_shape=image_shape,
    width=width,
    depth=depth,
    norm=norm,
    activation=activation,
    pooling=pooling,
    init=init,
    convolution=convolution + TF32 * (precision == "tf32"),
    filters=filters,
    growth=growth,
    first_block=first_block,
  )
  if name in NETWORKS.own:
    definition.check(**given | {"image_shape": image_shape})
    module, batch_norm = definition.make(**given), given.get("norm") == "batch"
    network = of_module(module, image_shape, batch_norm, definition.dropout, definition.blocks)
  else:
    from dcjax.nn import users  # which needs all of flax

    network = users.network(name, definition, given, image_shape, num_classes)
  exact = network._replace(
    init=exactly(network.init),  # which applies the network, too
    apply=exactly(network.apply),
    statistics=exactly(network.statistics),
    train=network.train and exactly(network.train),
    blocks=network.blocks and exactly(network.blocks),
  )
  return _in_bfloat16(exact) if precision == "bfloat16" else exact


def _check_side(name: str, least: int, image_shape: tuple[int, int, int]) -> None:
  """Refuses images that a network's poolings would leave nothing of."""
  side = min(image_shape[:2]) + 2 * layers.first_padding(image_shape[0], 0)
  if side < least:
    raise UserError(
      f"network.name: {name} takes images of {least} pixels or more, these have "
      f"{image_shape[0]}x{image_shape[1]}; use convnet or mlp"
    )


def _in_bfloat16(network: Network) -> Network:
  """The same network on images and parameters in bfloat16; what it returns is in float32."""

  def cast(tree, dtype=jnp.bfloat16):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

  def apply(params, images, stats=None):
    return cast(network.apply(cast(params), cast(images), stats), jnp.float32)

  def statistics(params, images):
    return network.statistics(cast(params), cast(images))

  def train(params, images, key):
    assert network.train is not None
    return cast(network.train(cast(params), cast(images), key), jnp.float32)

  def blocks(params, images):
    assert network.blocks is not None
    return cast(network.blocks(cast(params), cast(images)), jnp.float32)

  return network._replace(
    apply=apply,
    statistics=statistics,
    train=network.train and train,
    blocks=network.blocks and blocks,
  )
