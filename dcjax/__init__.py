"""dcjax: dataset condensation in JAX, as pure functions.

`dcjax.condense.condense(config, workdir)` makes a condensed set, `dcjax.evaluate.evaluate(path)`
tests one, and `dcjax.SyntheticSet.load(path)` reads one.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from dcjax.errors import UserError
from dcjax.version import __version__

if TYPE_CHECKING:
  from dcjax.synthetic import SyntheticSet

_HERE = Path(__file__).parent
if not (
  _HERE / "configs"
).is_dir():  # a checkout, which has configs/ and launch/ beside this folder
  __path__.append(str(_HERE.parent))

__all__ = ["SyntheticSet", "UserError", "__version__"]

if not TYPE_CHECKING:

  def __getattr__(name):
    """Imports `SyntheticSet`, and with it jax, for those who ask for it."""
    if name != "SyntheticSet":
      raise AttributeError(f"module 'dcjax' has no attribute '{name}'")
    from dcjax.synthetic import SyntheticSet

    return SyntheticSet
