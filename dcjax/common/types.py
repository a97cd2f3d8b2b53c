"""Names for the types that appear in every signature."""

from typing import Any

import jax

Array = jax.Array
Key = jax.Array  # a typed PRNG key, as `jax.random.key` makes them
Params = Any  # a pytree of float arrays
