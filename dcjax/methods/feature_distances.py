"""Distances between the features of real and of synthetic images, for DM and IDM.

Each is made of two functions, as real images are constants and may be shared among devices:
`target(features, weights, strategy, key)` is what a real batch comes to, from features `[m, D]` and
weights `[m]` that sum up to one over all devices along `batch`; `compare(features, target, key)`
is the distance of synthetic features `[n, D]` from that, a scalar.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import logging
from ml_collections import ConfigDict

from dcjax.common.errors import UserError, check_name
from dcjax.common.products import product
from dcjax.common.types import Array, Key
from dcjax.devices.sharding import gather_batch, sum_batch
from dcjax.devices.strategy import Strategy
from dcjax.nn import Network

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # in units of the mean squared distance (M3D)
FREQUENCIES = 4096  # at which characteristic functions are compared (NCFM)
SCALE = 300.0  # of their distance (NCFM, authors' code)
LEAST = 1e-12  # of a square whose root is taken (NCFM, authors' code)


class FeatureDistance(NamedTuple):
  """How far synthetic features are from those of real images.

  Attributes:
    target, compare: see above.
    blocks: weights of a network's blocks, from the first; those behind the last weight have it,
      too. Features are then those of all blocks. Empty: the network's features.
    discrimination: weight of the cross-entropy of real images that the synthetic centres of the
      classes classify.
  """

  target: Callable[[Array, Array, Strategy, Key], Any]
  compare: Callable[[Array, Any, Key], Array]
  blocks: tuple[float, ...] = ()
  discrimination: float = 0.0


def _mean(features: Array, weights: Array, strategy: Strategy, key: Key) -> Array:
  del key
  return sum_batch(strategy, product(weights, features))


def _square(features: Array, target: Array, key: Key) -> Array:
  """The squared distance of the means (DM; IDM, Eq. 2)."""
  del key
  return ((features.mean(0) - target) ** 2).sum()


def _all(features: Array, weights: Array, strategy: Strategy, key: Key) -> tuple[Array, Array]:
  del key
  return gather_batch(strategy, (features, weights))


def _rbf(features: Array, target: tuple[Array, Array], key: Key) -> Array:
  """The squared maximum mean discrepancy, summed over Gaussian kernels (M3D, AAAI 2024)."""
  del key
  real, weights = target
  both = jnp.concatenate([real, features])
  count = len(features)
  signs = jnp.concatenate([weights, jnp.full(count, -1 / count, weights.dtype)])
  squares = _squared_distances(both)
  present = (signs != 0).astype(both.dtype)  # images of weight zero fill up a device's share
  pairs = present.sum() * (present.sum() - 1)
  mean = (squares * present[:, None] * present[None]).sum() / jnp.maximum(pairs, 1)
  scale = jax.lax.stop_gradient(jnp.maximum(mean, LEAST))
  kernels = jnp.stack([jnp.exp(-squares / (scale * each)) for each in BANDWIDTHS]).sum(0)
  return product(product(signs, kernels), signs)


def _squared_distances(rows: Array) -> Array:
  norms = jnp.square(rows).sum(1)
  inner = product(rows, rows.T)
  return jnp.maximum(norms[:, None] + norms[None] - 2 * inner, 0)


def _characteristic(features: Array, weights: Array, key: Key) -> tuple[Array, Array]:
  """The characteristic function at random frequencies, `[F]`: real and imaginary part."""
  norms = jnp.sqrt(jnp.square(features).sum(1, keepdims=True) + LEAST)
  frequencies = jax.random.normal(key, (features.shape[1], FREQUENCIES), features.dtype)
  phases = product(features / norms, frequencies)
  return product(weights, jnp.cos(phases)), product(weights, jnp.sin(phases))


def _cf_target(features: Array, weights: Array, strategy: Strategy, key: Key) -> Any:
  return sum_batch(strategy, _characteristic(features, weights, key))


def _cf(features: Array, target: tuple[Array, Array], key: Key) -> Array:
  """The distance of characteristic functions, in amplitude and in phase (NCFM, CVPR 2025)."""
  count = len(features)
  ours = _characteristic(features, jnp.full(count, 1 / count, features.dtype), key)
  (a, b), (c, d) = ours, target
  one, other = jnp.sqrt(a**2 + b**2 + LEAST), jnp.sqrt(c**2 + d**2 + LEAST)
  amplitude = (one - other) ** 2
  phase = jnp.maximum(2 * (one * other - a * c - b * d), LEAST)
  return SCALE * jnp.sqrt(0.5 * amplitude + 0.5 * phase).mean()


# By the values of the config field `distance`.
FEATURE_DISTANCES = {
  "mean": FeatureDistance(_mean, _square),
  "rbf_mmd": FeatureDistance(_all, _rbf),
  "cf": FeatureDistance(_cf_target, _cf),
  # (CAFE, CVPR 2022)
  "layerwise": FeatureDistance(_mean, _square, blocks=(1.0, 1.0, 0.1, 0.1), discrimination=0.01),
}


def weighted_blocks(outputs: Sequence[Array], weights: Sequence[float]) -> Array:
  """What blocks give, one behind the other, so that a squared distance weighs them.

  Args:
    outputs: of the blocks, each `[N, D]`.
    weights: of the blocks, as `FeatureDistance` has them.

  Returns:
    `[N, sum of D]`; the last block is at the end.
  """
  scaled = [_root(number, weights) * each for number, each in enumerate(outputs)]
  return jnp.concatenate(scaled, 1)


def last_block(
  outputs: Sequence[jax.ShapeDtypeStruct], weights: Sequence[float]
) -> Callable[[Array], Array]:
  """From what `weighted_blocks` makes of such outputs to the last of them, without its weight."""
  size, root = outputs[-1].shape[1], _root(len(outputs) - 1, weights)
  return lambda features: features[..., -size:] / root


def _root(number: int, weights: Sequence[float]) -> float:
  return math.sqrt(weights[min(number, len(weights) - 1)])


def check_blocks(distance: str, network: Network) -> None:
  """Raises `UserError` for a distance of blocks, and a network that does not show them."""
  if FEATURE_DISTANCES[distance].blocks and network.blocks is None:
    raise UserError(
      f"distance: '{distance}' compares what the blocks of a network give, which this one does "
      "not show; use network.name=convnet"
    )


def check(config: ConfigDict) -> None:
  """Raises `UserError` for a distance that is not known; says what is not to be relied on."""
  check_name("distance", config.distance, FEATURE_DISTANCES)
  if config.distance == "cf":
    logging.warning(
      "distance: 'cf' is experimental: NCFM publishes 49.5 %% on CIFAR-10 with one image a class, "
      "others have found 36 %% with its code"
    )
