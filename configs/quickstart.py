"""One image for each handwritten digit, 8x8 pixels, in about a minute on two CPU cores.

The data come with scikit-learn; nothing is downloaded. Depth 2, because at depth 3 the last
instance norm would see 2x2 pixels.

  dcjax condense --config configs/quickstart.py --workdir runs/quickstart
"""

from ml_collections import ConfigDict

from dcjax.config import default, presets


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument may hold `ipc=N` and `smoke`."""
  given = presets.arguments(argument, "digits", ("digits",))
  config = default()
  config.dataset.name = "digits"
  config.ipc = given["ipc"]
  config.iterations = 100
  config.batch_real = 64
  config.network.width = 64
  config.network.depth = 2
  config.evaluate_every = 50
  config.evaluation.networks = 5
  return presets.smoke(config) if given["smoke"] else config
