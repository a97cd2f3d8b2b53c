"""Distances between the features of real and of synthetic images, for DM and IDM.

Each is made of two functions, as real images are constants and may be shared among devices:
`target(features, weights, strategy, key)` is what a real batch comes to, from features `[m, D]` and
weights `[m]` that sum up to one over all devices along `batch`; `compare(features, target, key)`
is the distance of synthetic features `[n, D]` from that, a scalar.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import logging
from ml_collections import ConfigDict

from dcjax.common.errors import check_name
from dcjax.common.types import Array, Key
from dcjax.devices.sharding import gather_batch, sum_batch
from dcjax.devices.strategy import Strategy

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # in units of the mean squared distance (M3D)
FREQUENCIES = 4096  # at which characteristic functions are compared (NCFM)
SCALE = 300.0  # of their distance (NCFM, authors' code)
LEAST = 1e-12  # of a square whose root is taken (NCFM, authors' code)


class FeatureDistance(NamedTuple):
  """How far synthetic features are from those of real images, see above."""

  target: Callable[[Array, Array, Strategy, Key], Any]
  compare: Callable[[Array, Any, Key], Array]


def _mean(features: Array, weights: Array, strategy: Strategy, key: Key) -> Array:
  del key
  return sum_batch(strategy, weights @ features)


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
  kernels = sum(jnp.exp(-squares / (scale * each)) for each in BANDWIDTHS)
  return signs @ kernels @ signs


def _squared_distances(rows: Array) -> Array:
  norms = jnp.square(rows).sum(1)
  inner = jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.maximum(norms[:, None] + norms[None] - 2 * inner, 0)


def _characteristic(features: Array, weights: Array, key: Key) -> tuple[Array, Array]:
  """The characteristic function at random frequencies, `[F]`: real and imaginary part."""
  norms = jnp.sqrt(jnp.square(features).sum(1, keepdims=True) + LEAST)
  frequencies = jax.random.normal(key, (features.shape[1], FREQUENCIES), features.dtype)
  phases = features / norms @ frequencies
  return weights @ jnp.cos(phases), weights @ jnp.sin(phases)


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
}


def check(config: ConfigDict) -> None:
  """Raises `UserError` for a distance that is not known; says what is not to be relied on."""
  check_name("distance", config.distance, FEATURE_DISTANCES)
  if config.distance == "cf":
    logging.warning(
      "distance: 'cf' is experimental: NCFM publishes 49.5 %% on CIFAR-10 with one image a class, "
      "others have found 36 %% with its code"
    )
