"""Networks of users, from what the function or class that they name makes."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.errors
import flax.linen as linen
import jax
import jax.numpy as jnp
from flax import nnx

from dcjax.common.errors import UserError, gist
from dcjax.common.registry import line_of
from dcjax.common.types import Array, Key, Params
from dcjax.nn.definition import Definition, Network, of_module


class _StateError(Exception):
  """A module has variables beside its parameters."""


_STATEFUL = (
  _StateError,
  flax.errors.InvalidRngError,
  flax.errors.ScopeCollectionNotFound,
  flax.errors.ScopeVariableNotFoundError,
)
_IMAGES = 2  # on which it is tried


def network(
  name: str,
  definition: Definition,
  given: dict[str, Any],
  image_shape: tuple[int, int, int],
  num_classes: int,
) -> Network:
  """The network that a user's class or function makes, tried on shapes.

  It may be

  - a flax.linen Module class, or a function that returns a module. It has parameters alone, and
    batch norm as `layers.Norm("batch")`;
  - a flax.nnx Module class, all variables of which are of type Param; it also gets `rngs`;
  - a function that returns a pair of pure functions, `init(key) -> params` and
    `apply(params, images)`, or a `Network`.

  A module and `apply` return `(logits [N, num_classes], features [N, F])` for normalised images
  `[N, H, W, C]`, or the logits alone, which then are the features as well.

  Args:
    name: as the user has it.
    definition: with the class or function.
    given: what that is called with.
    image_shape: `(H, W, C)` of the images.
    num_classes: number of logits.

  Raises:
    UserError: it fails, or returns something else.
  """
  try:
    definition.check(**given | {"image_shape": image_shape})
    found = _pure(name, definition, given, image_shape)
    params = jax.eval_shape(found.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((_IMAGES, *image_shape), jnp.float32)
    outputs = jax.eval_shape(found.apply, params, images)
    if found.train is not None:
      jax.eval_shape(found.train, params, images, jax.random.key(0))
  except UserError:
    raise
  except Exception as error:  # a user's code may raise anything
    raise _failure(name, definition.make, image_shape, error) from error
  _check(name, outputs, num_classes)
  return found


def _pure(
  name: str,
  definition: Definition,
  given: dict[str, Any],
  image_shape: tuple[int, int, int],
) -> Network:
  make = definition.make
  if isinstance(make, type) and issubclass(make, nnx.Module):
    return _of_functions(*_of_nnx(partial(make, **given)))
  made = make(**given)
  if isinstance(made, Network):
    return made
  if isinstance(made, linen.Module):
    return _of_linen(made, image_shape, definition)
  if isinstance(made, tuple) and len(made) == 2 and all(map(callable, made)):
    return _of_functions(*made)
  raise UserError(
    f"network.name: {name} makes a {type(made).__name__}; let it make a flax.linen module, "
    "functions (init, apply) or a dcjax.nn.Network, or give the class of an nnx module"
  )


def _failure(
  name: str, make: Callable[..., Any], image_shape: tuple[int, int, int], error: Exception
) -> UserError:
  """What is said of an error in a user's code."""
  if isinstance(error, _STATEFUL):
    return UserError(
      f"network.name: {name} needs more than its parameters, as flax' BatchNorm and Dropout do; "
      "take dcjax.nn.layers.Norm('batch') or another norm, and dcjax.nn.layers.Dropout with "
      "Definition(..., dropout=True)"
    )
  module = sys.modules.get(getattr(make, "__module__", ""))
  line = line_of(error, getattr(module, "__file__", None) or "")
  return UserError(
    f"network.name: {name}{line} fails on images of {list(image_shape)}: "
    f"{type(error).__name__}: {gist(error)}; mend it"
  )


def _of_linen(
  module: linen.Module, image_shape: tuple[int, int, int], definition: Definition
) -> Network:
  images = jnp.zeros((1, *image_shape), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), images)
  batch_norm = "batch_stats" in variables
  found = of_module(module, image_shape, batch_norm, definition.dropout, definition.blocks)

  def both(function):
    return function and (lambda *arguments: _both(function(*arguments)))

  return found._replace(apply=both(found.apply), train=both(found.train))


def _of_nnx(make: Callable[..., nnx.Module]) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """The functions `init` and `apply` of a class, with a list of arrays as parameters."""

  def init(key: Key) -> Params:
    return jax.tree.leaves(nnx.state(make(rngs=nnx.Rngs(key)), nnx.Param))

  shapes = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
  if jax.tree.leaves(nnx.state(shapes, nnx.Not(nnx.Param))):
    raise _StateError
  graph, state = nnx.split(shapes)
  structure = jax.tree.structure(state)

  def apply(params: Params, images: Array) -> Any:
    return nnx.merge(graph, jax.tree.unflatten(structure, params))(images)

  return init, apply


def _of_functions(init: Callable[..., Params], apply: Callable[..., Any]) -> Network:
  def applied(params, images, stats=None):
    return _both(apply(params, images))

  return Network(init, applied, lambda params, images: {}, batch_norm=False)


def _both(outputs: Any) -> tuple[Array, Array]:
  """Logits and features, from these or from logits alone."""
  return tuple(outputs) if isinstance(outputs, tuple) else (outputs, outputs)


def _check(name: str, outputs: Any, num_classes: int) -> None:
  """Raises `UserError` unless these are the shapes of logits and features."""
  right = (
    len(outputs) == 2
    and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in outputs)
    and outputs[0].shape == (_IMAGES, num_classes)
    and len(outputs[1].shape) == 2
    and outputs[1].shape[0] == _IMAGES
    and all(leaf.dtype == jnp.float32 for leaf in outputs)
  )
  if not right:
    seen = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", outputs)
    raise UserError(
      f"network.name: {name} returns {str(seen)[:200]} for {_IMAGES} images; let it return "
      f"logits float32[{_IMAGES}, {num_classes}] and features float32[{_IMAGES}, ...], both of "
      "two dimensions"
    )
