"""Distances between two gradients of one network.

Flax keeps the output units of every kernel on its last axis, and so the vector that belongs to
an output unit (A_i of DC, Eq. 10) is a column of the kernel reshaped to `[-1, units]`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from absl import logging
from ml_collections import ConfigDict

from dcjax.common.types import Array, Params

EPSILON = 1e-6  # added to the product of norms in a cosine


def _cosine_distance(a: Array, b: Array) -> Array:
  """1 - cos between the columns of two matrices `[n, units]`: `[units]`."""
  # safe_norm has the gradient zero at zero, where a dead unit would otherwise give NaN.
  norms = optax.safe_norm(a, 0.0, axis=0) * optax.safe_norm(b, 0.0, axis=0)
  return 1.0 - (a * b).sum(0) / (norms + EPSILON)


def layerwise(a: Params, b: Params) -> Array:
  """Sum over layers and output units of 1 - cos (DC, Eq. 10). Scalar.

  Parameters of one dimension (biases, the scales of most norms) count zero.
  """
  leaves = jax.tree.leaves(a)
  total = jnp.zeros((), leaves[0].dtype)
  for x, y in zip(leaves, jax.tree.leaves(b), strict=True):
    if x.ndim > 1:
      units = x.shape[-1]
      total += _cosine_distance(x.reshape(-1, units), y.reshape(-1, units)).sum()
  return total


def euclidean(a: Params, b: Params) -> Array:
  """Squared distance of the two gradients, all parameters in one vector (DC, Table T11)."""
  return optax.tree.norm(optax.tree.sub(a, b), squared=True)


def cosine(a: Params, b: Params) -> Array:
  """1 - cos of the two gradients, all parameters in one vector (DC, Table T11)."""
  x, y = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
  return _cosine_distance(x[:, None], y[:, None]).sum()


def manhattan(a: Params, b: Params) -> Array:
  """Sum of the absolute differences of the two gradients (IDC, Appendix C.1)."""
  return optax.tree.sum(jax.tree.map(lambda x, y: jnp.abs(x - y).sum(), a, b))


Distance = Callable[[Params, Params], Array]


def on_convolutions(distance: Distance) -> Distance:
  """The distance of the kernels of convolutions alone, which is what IDC matches."""

  def kernels(gradients: Params) -> Params:
    return [leaf for leaf in jax.tree.leaves(gradients) if leaf.ndim == 4]

  return lambda a, b: distance(kernels(a), kernels(b))


# By the values of the config field `distance`.
DISTANCES: dict[str, Distance] = {
  "ours": layerwise,
  "mse": euclidean,
  "cos": cosine,
  "l1": manhattan,
}


def note_new(config: ConfigDict, in_papers: tuple[str, ...]) -> None:
  """Logs a distance that is in no paper with the method and the formation of a config."""
  if config.distance not in in_papers:
    logging.info(
      "distance: '%s' with %s and formation.factor %d is in none of the papers",
      config.distance, config.method, config.formation.factor,
    )  # fmt: skip
