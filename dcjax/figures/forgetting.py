"""Accuracy after each stage of continual learning: the papers' figure, and a table of it."""

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from dcjax.common.json_files import by_name, holds, is_count, is_number, is_text, many
from dcjax.figures import markdown
from dcjax.figures.curves import method_name
from dcjax.figures.style import COLOURS, DPI, MARKERS, STYLE, Drawing

_CURVE = holds({"mean": many(is_number), "std": many(is_number)})
_SUMMARY = holds({
  "method": is_text, "ipc": is_count, "stages": many(is_text), "accuracy": by_name(_CURVE),
})  # fmt: skip


def is_summary(value: Any) -> bool:
  """Whether it is what `summary.json` of a run holds: accuracies for each of its stages."""
  return _SUMMARY(value) and all(
    len(curve["mean"]) == len(curve["std"]) == len(value["stages"]) > 0
    for curve in value["accuracy"].values()
  )


def title(summary: dict[str, Any]) -> str:
  """What a run's curve is called where it is the only one."""
  return f"{method_name(summary['method'])}, {summary['ipc']} images per class"


@matplotlib.rc_context(STYLE)
def draw(runs: Sequence[tuple[str, dict[str, Any]]]) -> Figure:
  """Draws runs of the same stages (DC, Figure 4; IDC, Figure 7; IDM, Figure 8).

  Args:
    runs: pairs (title, content of `summary.json`). Each has a curve for each network, with the
      deviation over runs.
  """
  lines = [
    (f"{name}, {network}" if len(summary["accuracy"]) > 1 else name, accuracy)
    for name, summary in runs
    for network, accuracy in summary["accuracy"].items()
  ]
  stages = runs[0][1]["stages"]
  numbers = range(1, len(stages) + 1)
  width = max(3.6, 0.9 * len(stages))
  figure = Drawing((width, 2.7 + 0.18 * len(lines)), dpi=DPI, layout="constrained")
  axes = figure.subplots()
  for number, (name, accuracy) in enumerate(lines):
    mean, std = ([100 * value for value in accuracy[part]] for part in ("mean", "std"))
    axes.errorbar(
      numbers, mean, std, label=name, elinewidth=0.8,
      color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
    )  # fmt: skip
  axes.margins(x=0.05)
  axes.set_xticks(list(numbers), stages)
  axes.set_xlabel("stage")
  axes.set_ylabel("test accuracy (%)")
  figure.legend(loc="outside lower center")
  return figure


def table(summary: dict[str, Any]) -> str:
  """The accuracies of a run as a Markdown table, a column for each stage."""
  heading = ["network", *(f"{label} (%)" for label in summary["stages"])]
  rows = [heading]
  for network, accuracy in summary["accuracy"].items():
    pairs = zip(accuracy["mean"], accuracy["std"], strict=True)
    rows.append([network, *(f"{100 * mean:.1f} ± {100 * std:.1f}" for mean, std in pairs)])
  return markdown.table(rows)
