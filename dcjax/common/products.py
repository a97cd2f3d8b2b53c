"""Products that no device rounds: GPUs and TPUs do, where nothing is said."""

import jax
import jax.numpy as jnp
import numpy as np

from dcjax.common.types import Array


def product(left: Array | np.ndarray, right: Array | np.ndarray) -> Array:
  """`left @ right` of numbers as they are."""
  return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
