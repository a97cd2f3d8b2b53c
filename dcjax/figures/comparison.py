"""The figure of `dcjax compare`: a point for each row, and one for each of its networks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from dcjax.common.files import writing
from dcjax.figures.style import COLOURS, DPI, GREYS, STYLE, Drawing


def draw(rows: Sequence[dict[str, Any]], file: Path, by: str = "last") -> None:
  """Draws the rows of a comparison as PNG, one panel for each kind of labels.

  Args:
    rows: as `compare.json` has them.
    file: where to.
    by: the accuracies that are drawn, a name in each row.
  """
  kinds = list(dict.fromkeys(row["labels"] for row in rows))
  names = list(dict.fromkeys(row["set"] for row in rows))
  with matplotlib.rc_context(STYLE):
    figure = Drawing((2 + 2.6 * len(kinds), 0.9 + 0.3 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for panel, kind in zip(panels, kinds, strict=True):
      for row in rows:
        if row["labels"] == kind:
          _row(panel, names.index(row["set"]), 100 * np.ravel(row[by]), row["control"])
      panel.set(title=f"{kind} labels", xlabel="test accuracy (%)")
      panel.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
      panel.grid(axis="x", linewidth=0.4)
    panels[0].invert_yaxis()
    with writing(file, "wb") as stream:
      figure.savefig(stream, format="png", dpi=DPI)


def _row(panel: Any, place: int, accuracies: np.ndarray, control: bool) -> None:
  """Each network as a small point, the mean as a large one."""
  colour = GREYS[1] if control else COLOURS[0]
  panel.plot(accuracies, np.full(len(accuracies), place), ".", color=colour, alpha=0.4)
  panel.plot(accuracies.mean(), place, "D" if control else "o", color=colour, markersize=6)
