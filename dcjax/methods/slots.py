"""Several networks as one tree, whose arrays have a leading axis of slots."""

from typing import Any

import jax
import jax.numpy as jnp

from dcjax.common.types import Array


def zeros(tree: Any, slots: int) -> Any:
  """Zeros shaped as a tree's arrays, `[slots, ...]` each."""
  return jax.tree.map(lambda leaf: jnp.zeros((slots, *leaf.shape), leaf.dtype), tree)


def at(tree: Any, slot: Array | int) -> Any:
  """One slot."""
  return jax.tree.map(lambda leaf: leaf[slot], tree)


def put(tree: Any, slot: Array | int, values: Any) -> Any:
  """The slots with one replaced."""
  return jax.tree.map(lambda leaf, value: leaf.at[slot].set(value), tree, values)
