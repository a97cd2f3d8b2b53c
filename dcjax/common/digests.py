"""What tells arrays from others."""

import hashlib
from typing import Any

import jax
import numpy as np


def of_arrays(tree: Any) -> str:
  """Sixteen letters that tell the arrays of a tree from others, by all their bytes."""
  digest = hashlib.sha256()
  for array in jax.tree.leaves(tree):
    digest.update(np.asarray(array).tobytes())
  return digest.hexdigest()[:16]
