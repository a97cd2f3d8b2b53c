"""Any method by its name, also one of another package or of a file, on a dataset of the papers.

  dcjax condense --config configs/method.py:my_method.py:KERNEL_DM,cifar10,ipc=10 --workdir runs/my

How to write one: docs/extending.md.
"""

from ml_collections import ConfigDict

from dcjax.common.errors import UserError
from dcjax.config import default, presets


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset.

  The argument begins with the method's name, or `FILE.py:NAME`; then, all optional, come the
  dataset (by default the digits, which are not downloaded), `ipc=N`, and `smoke`.
  """
  method, _, rest = (argument or "").partition(",")
  if not method:
    raise UserError("config argument: empty; name a method, such as configs/method.py:dm,cifar10")
  given = presets.arguments(rest, "digits", ("digits", *presets.DATASETS))
  config = default(method)
  if given["dataset"] == "digits":
    config.dataset.name, config.network.depth = "digits", 2  # of 8x8 pixels
  else:
    presets.take_dataset(config, given["dataset"])
  config.ipc = given["ipc"]
  return presets.smoke(config) if given["smoke"] else config
