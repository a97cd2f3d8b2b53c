"""dcjax: dataset condensation in JAX, as pure functions.

`dcjax.condense.condense(config, workdir)` makes a condensed set, `dcjax.evaluate.evaluate(path)`
tests one, and `dcjax.SyntheticSet.load(path)` reads one.
"""

from dcjax.errors import UserError
from dcjax.synthetic import SyntheticSet
from dcjax.version import __version__

__all__ = ["SyntheticSet", "UserError", "__version__"]
