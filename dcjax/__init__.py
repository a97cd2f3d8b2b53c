"""dcjax: dataset condensation in JAX, as pure functions.

`dcjax.condense(config, workdir)` makes a condensed set, `dcjax.select(config, workdir)` chooses
real images instead, `dcjax.evaluate(path)` tests a set, `dcjax.SyntheticSet.load(path)` reads one,
and `dcjax.plot(kind, workdirs)` draws runs. Presets make configs: `quickstart.get_config()` of
`from dcjax.configs import quickstart`, for instance.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from dcjax.common.errors import UserError
from dcjax.common.version import __version__

if TYPE_CHECKING:
  from dcjax.commands.condense import condense
  from dcjax.commands.evaluate import evaluate
  from dcjax.commands.plot import plot
  from dcjax.commands.select import select
  from dcjax.sets.synthetic import SyntheticSet

_HERE = Path(__file__).parent
if not (_HERE / "configs").is_dir():  # in a checkout, configs/ and launch/ lie beside this folder
  __path__.append(str(_HERE.parent))

__all__ = ["SyntheticSet", "UserError", "__version__", "condense", "evaluate", "plot", "select"]

if not TYPE_CHECKING:
  _ROOMS = {
    "SyntheticSet": "dcjax.sets.synthetic",
    "condense": "dcjax.commands.condense",
    "evaluate": "dcjax.commands.evaluate",
    "plot": "dcjax.commands.plot",
    "select": "dcjax.commands.select",
  }

  def __getattr__(name):
    """Imports what takes jax only for those who ask for it."""
    if name not in _ROOMS:
      raise AttributeError(f"module 'dcjax' has no attribute '{name}'")
    return getattr(importlib.import_module(_ROOMS[name]), name)
