"""A network as its file defines it, and as pure functions of its parameters."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as linen
import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, jaxprs_in_params

from dcjax.common.errors import UserError
from dcjax.common.registry import NETWORKS
from dcjax.common.types import Array, Key, Params

# Where a module keeps what its blocks give, for those who ask: `self.sow(*BLOCKS, images)`.
BLOCKS = ("intermediates", "blocks")
# The fields of the config that are a network's own, where its keywords name them.
FIELDS: dict[str, type] = {
  "width": int,
  "depth": int,
  "filters": int,
  "growth": int,
  "activation": str,
  "pooling": str,
  "norm": str,
  "init": str,
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
    train: `train(params, images, key) -> (logits, features)`, the pass of a training step, for a
      network with dropout; None: `apply`.
    blocks: `blocks(params, images) -> (logits, outputs)`, what each block gives, in order and each
      flattened, `[N, D]`; None for a network that does not show it.
  """

  init: Callable[[Key], Params]
  apply: Callable[..., tuple[Array, Array]]
  statistics: Callable[[Params, Array], Params]
  batch_norm: bool
  train: Callable[[Params, Array, Key], tuple[Array, Array]] | None = None
  blocks: Callable[[Params, Array], tuple[Array, list[Array]]] | None = None


def largest_activation(network: Network, image_shape: tuple[int, int, int]) -> int:
  """Bytes of the largest array that one image `[H, W, C]` becomes on its way through a network."""
  images = 256  # so many that what comes of the parameters alone is small beside it
  params = jax.eval_shape(network.init, jax.random.key(0))
  batch = jax.ShapeDtypeStruct((images, *image_shape), jnp.float32)
  return max(_made(jax.make_jaxpr(network.apply)(params, batch).jaxpr)) // images


def _made(jaxpr: Jaxpr) -> Iterator[int]:
  """Bytes of each array that a program makes, those of the programs in it among them."""
  for equation in jaxpr.eqns:
    for made in equation.outvars:
      if isinstance(made.aval, jax.core.ShapedArray):
        yield made.aval.size * made.aval.dtype.itemsize
    for inner in jaxprs_in_params(equation.params):
      yield from _made(inner)


def _anything(**keywords: Any) -> None:
  """The check of a network that can be built with all images and keywords."""


class Definition(NamedTuple):
  """All that dcjax knows of a network.

  Attributes:
    make: a flax.linen Module class, or a function that returns a module; of users also what
      `users.network` takes. It is called with those of these keywords that its signature names:
      `num_classes`, `image_shape` (H, W, C), the fields of `FIELDS`, `convolution` and
      `first_block`, see `nn.create`. As a Module has a method `init`, that field comes under the
      name `initializer`, too.
    smallest_side: the least side of an image that it can take; 28 pixels are padded to 32.
    norm: the authors', which stands where the config has None.
    check: `check(**keywords)`, with `image_shape` and the keywords of `make`; it raises `UserError`
      for what cannot be built.
    dropout: whether its training steps drop something at random, see `layers.Dropout`.
    blocks: whether its module keeps what its blocks give, see `BLOCKS`.
    earlier: what fields of it were before a config had them, where the default is another now.
  """

  make: Callable[..., Any]
  smallest_side: int = 1
  norm: str = "instance"
  check: Callable[..., None] = _anything
  dropout: bool = False
  blocks: bool = False
  earlier: Mapping[str, int] = MappingProxyType({})

  def given(self, **offered: Any) -> dict[str, Any]:
    """Those of the keywords offered that `make` names; for None it has a default of its own."""
    # An nnx class would show the signature of its metaclass.
    make = self.make.__init__ if isinstance(self.make, type) else self.make  # type: ignore[misc]
    offered["initializer"] = offered["init"]
    named = inspect.signature(make).parameters
    return {n: value for n, value in offered.items() if n in named and value is not None}

  def fields(self) -> dict[str, type]:
    """Those of `FIELDS` that it has."""
    given = self.given(**FIELDS)
    return {"init" if name == "initializer" else name: kind for name, kind in given.items()}


def find(field: str, name: str) -> Definition:
  """The definition of a network by name, `field` is to blame if there is none.

  Raises:
    UserError: there is no such network, or what has the name makes none.
  """
  found = NETWORKS.find(field, name)
  definition = found if isinstance(found, Definition) else Definition(found)
  try:
    if isinstance(definition.make, linen.Module):
      raise TypeError
    definition.fields()
  except (TypeError, ValueError):  # it cannot be called, or its signature is not known
    raise UserError(
      f"{field}: {name} is of type {type(definition.make).__name__}; give a flax Module class, or "
      "a function that makes a network"
    ) from None
  return definition


def of_module(
  module: linen.Module,
  image_shape: tuple[int, int, int],
  batch_norm: bool = False,
  dropout: bool = False,
  blocks: bool = False,
) -> Network:
  """The pure functions of a module that returns logits and features."""

  def init(key):
    return module.init(key, jnp.zeros((1, *image_shape), jnp.float32))["params"]

  def apply(params, images, stats=None):
    variables = {"params": params, "batch_stats": stats} if stats else {"params": params}
    return module.apply(variables, images)

  def statistics(params, images):
    if not batch_norm:
      return {}
    kept = module.apply({"params": params}, images, mutable="batch_stats")[1]
    return kept.get("batch_stats", {})  # a network of one block may have no norm

  def train(params, images, key):
    return module.apply({"params": params}, images, rngs={"dropout": key})

  def outputs(params, images):
    (logits, _), kept = module.apply({"params": params}, images, mutable=BLOCKS[0])
    return logits, [each.reshape(len(each), -1) for each in kept[BLOCKS[0]][BLOCKS[1]]]

  training = jax.named_call(train, name="network") if dropout else None
  shown = jax.named_call(outputs, name="network") if blocks else None
  whole = jax.named_call(apply, name="network")
  return Network(init, whole, statistics, batch_norm, training, shown)
