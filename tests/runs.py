"""Tiny runs on the handwritten digits, for the tests of whole runs."""

from ml_collections import ConfigDict

import dcjax.config
from dcjax import presets


def tiny(method="dc", **changes) -> ConfigDict:
  """A config whose run takes a second beyond its compilation; `changes` name fields by path."""
  config = presets.smoke(dcjax.config.default(method))
  config.dataset.name = "digits"
  config.network.depth, config.network.width = 1, 4
  config.iterations = 6
  if method == "dc":
    config.inner_loop = 1
  config.checkpoint_every = 2
  config.compute.mesh = "1x1"  # more devices take longer to compile for
  for path, value in changes.items():
    config.update_from_flattened_dict({path.replace("__", "."): value})
  return config
