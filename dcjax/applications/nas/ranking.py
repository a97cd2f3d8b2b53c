"""What a search finds: who is best on a set, whether that holds on all data; text and picture."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from dcjax.figures import markdown
from dcjax.figures.style import COLOURS, DPI, STYLE, Drawing

BEST = 10  # networks that are compared (DC, Appendix A)
PERCENT = 5  # of all networks, likewise (DSA, section 4.6)
FEWEST = 3  # a correlation of fewer networks says nothing
COLUMNS = (
  "set",
  "images",
  "steps",
  "chosen network",
  "accuracy (%)",
  f"best {BEST}",
  f"best {PERCENT} %",
  "all",
  "seconds",
  "compiling",
)
NOTES = """
Each network is chosen by its mean validation accuracy on a set; accuracy is its test accuracy once
it is trained on all training images. The correlations are Spearman's between accuracies on a set
and on all training images, validation / test, of the networks that are best on the set. Seconds
are those of training and testing; sets of one size share the programs that were compiled.
"""


class Scores(NamedTuple):
  """Mean accuracies of all candidates on one set, in [0, 1]; nan where none was trained.

  Attributes:
    validation: `[candidates]`.
    test: `[candidates]`.
  """

  validation: np.ndarray
  test: np.ndarray


def best(scores: Scores, count: int) -> np.ndarray:
  """The indices of the candidates with the highest validation accuracies, the best first."""
  return np.argsort(-scores.validation, kind="stable")[:count]


def counts(candidates: int) -> dict[str, int]:
  """How many of the candidates each correlation is taken of, by its name."""
  few = -(-candidates * PERCENT // 100)
  return {"best_10": min(BEST, candidates), "best_5_percent": few, "all": candidates}


def shortlist(candidates: int) -> int:
  """How many of the best the papers' correlations need."""
  found = counts(candidates)
  return max(found["best_10"], found["best_5_percent"])


def correlations(proxy: Scores, whole: Scores) -> dict[str, dict[str, float | None]]:
  """Whether the candidates that are best on a set rank the same when trained on everything.

  Args:
    proxy: on the set.
    whole: on all training images.

  Returns:
    For each entry of `counts`, Spearman's rank correlation of the validation accuracies (DC, Table
    4) and of the test accuracies (DM, supplement, Figure F1); None where it is not defined, or a
    network was not trained.
  """
  return {
    name: {
      field: _spearman(getattr(proxy, field)[indices], getattr(whole, field)[indices])
      for field in Scores._fields
    }
    for name, indices in ((name, best(proxy, n)) for name, n in counts(len(whole.test)).items())
  }


def _spearman(first: np.ndarray, second: np.ndarray) -> float | None:
  if len(first) < FEWEST or not np.isfinite(first + second).all():
    return None
  if not np.ptp(first) or not np.ptp(second):
    return None
  return float(stats.spearmanr(first, second).statistic)


# --- As text -------------------------------------------------------------------------------


def table(entries: Sequence[Mapping[str, Any]]) -> str:
  """The sets of a `summary.json` as a Markdown table that also reads well as plain text."""
  return f"{markdown.table([COLUMNS, *map(_row, entries)])}\n{NOTES}"


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
  return (
    entry["set"],
    str(entry["images"]),
    str(entry["steps"]),
    entry["chosen"],
    f"{100 * entry['accuracy_mean']:.1f} ± {100 * entry['accuracy_std']:.1f}",
    *(" / ".join(map(_number, found.values())) for found in entry["correlations"].values()),
    f"{entry['seconds']:.0f}",
    f"{entry['compile_seconds']:.0f}",
  )


def _number(value: float | None) -> str:
  return "-" if value is None else f"{value:.2f}"


def comma_separated(candidates: Sequence[str], scores: Mapping[str, Scores]) -> str:
  """Comma-separated: place and accuracies of all candidates on each set; empty if not trained."""
  stream = io.StringIO()
  writer = csv.writer(stream, lineterminator="\n")
  fields = ("rank", *Scores._fields)
  writer.writerow(["network", *(f"{name} {field}" for name in scores for field in fields)])
  ranks = {name: np.argsort(best(found, len(candidates))) + 1 for name, found in scores.items()}
  for place, candidate in enumerate(candidates):
    cells: list[Any] = [candidate]
    for name, found in scores.items():
      trained = not math.isnan(found.validation[place])
      accuracies = [round(float(part[place]), 6) for part in found]
      cells += [int(ranks[name][place]), *accuracies] if trained else [""] * len(fields)
    writer.writerow(cells)
  return stream.getvalue()


# --- As a picture --------------------------------------------------------------------------


@matplotlib.rc_context(STYLE)
def scatter(proxies: Mapping[str, Scores], whole: Scores) -> Figure:
  """Test accuracies on each set against those on everything (DC, F5; DSA, Figure 4; DM, F1).

  Args:
    proxies: by name, one panel each; the best by validation are drawn in colour, with their
      correlation, the others that were trained on everything in grey.
    whole: on all training images.
  """
  columns = len(proxies) if len(proxies) <= 3 else math.ceil(math.sqrt(len(proxies)))
  rows = -(-len(proxies) // columns)
  figure = Drawing((0.4 + 2.3 * columns, 0.4 + 2.5 * rows), dpi=DPI, layout="constrained")
  panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
  for axes, (name, scores) in zip(panels.flat, proxies.items(), strict=False):
    _draw_panel(axes, name, scores, whole)
  for axes in panels.flat[len(proxies) :]:
    axes.set_axis_off()
  figure.supxlabel("test accuracy, trained on the set (%)", fontsize=STYLE["font.size"])
  figure.supylabel("test accuracy, trained on everything (%)", fontsize=STYLE["font.size"])
  return figure


def _draw_panel(axes: Axes, name: str, scores: Scores, whole: Scores) -> None:
  indices = best(scores, shortlist(len(whole.test)))
  others = np.setdiff1d(np.arange(len(whole.test)), indices)
  axes.scatter(100 * scores.test[others], 100 * whole.test[others], 6, "#BFBFBF")
  first, second = scores.test[indices], whole.test[indices]
  axes.scatter(100 * first, 100 * second, 10, COLOURS[0])
  axes.set_title(f"{name}\nbest {len(indices)}: ρ = {_number(_spearman(first, second))}")
