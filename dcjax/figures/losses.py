"""The loss of runs over their iterations, and their accuracy beside it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dcjax.figures.style import COLOURS, DPI, GREYS, LOG_RANGE, MARKERS, STYLE, Drawing

SMOOTHED = 50  # parts of a run that the mean line averages over


class Course(NamedTuple):
  """One run.

  Attributes:
    name: of the run.
    losses: of all iterations so far `[iterations]`.
    evaluations: records of its log.
  """

  name: str
  losses: Sequence[float]
  evaluations: Sequence[Mapping[str, Any]]


@matplotlib.rc_context(STYLE)
def draw(courses: Sequence[Course]) -> Figure:
  """Draws the loss of each iteration with its running mean, and below it the accuracy if known.

  Accuracies are of the network that each run was evaluated on first, with the deviation over
  networks; random real images are dashed.
  """
  evaluated = any(course.evaluations for course in courses)
  rows, lines = (2, 4.2) if evaluated else (1, 2.4)
  height = lines + 0.18 * len(courses)
  figure = Drawing((5.2, height), dpi=DPI, layout="constrained")
  panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
  for number, course in enumerate(courses):
    colour = COLOURS[number % len(COLOURS)]
    _draw_loss(panels[0], course, colour)
    if evaluated:
      _draw_accuracy(panels[1], course, colour, MARKERS[number % len(MARKERS)])
  _scale(panels[0], [loss for course in courses for loss in course.losses])
  panels[0].set_ylabel("loss")
  if evaluated:
    panels[1].set_ylabel("test accuracy (%)")
  panels[-1].set_xlabel("iteration")
  panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
  handles = panels[0].get_legend_handles_labels()
  figure.legend(*handles, loc="outside lower center", ncols=min(len(courses), 3))
  return figure


def _draw_loss(axes: Axes, course: Course, colour: str) -> None:
  losses = np.asarray(course.losses, float)
  iterations = np.arange(1, len(losses) + 1)
  window = max(1, len(losses) // SMOOTHED)
  axes.plot(iterations, losses, color=colour, alpha=0.3 if window > 1 else 1, linewidth=0.8)
  smooth = np.convolve(losses, np.full(window, 1 / window), "valid")
  axes.plot(iterations[window - 1 :], smooth, color=colour, label=course.name)


def _draw_accuracy(axes: Axes, course: Course, colour: str, marker: str) -> None:
  """The synthetic set's accuracy at each iteration, and that of random real images."""
  first = course.evaluations[0]["network"] if course.evaluations else ""
  records = [record for record in course.evaluations if record["network"] == first]
  ours = [record for record in records if record["set"] == "synthetic"]
  iterations = [record["iteration"] for record in ours]
  mean, std = ([100 * record[f"last_{part}"] for record in ours] for part in ("mean", "std"))
  axes.errorbar(iterations, mean, std, color=colour, marker=marker, elinewidth=0.8)
  for record in records:
    if record["set"] == "random":
      axes.axhline(100 * record["last_mean"], color=GREYS[1], linestyle="--", zorder=0)
      axes.annotate(
        f"random real images ({course.name})", (1, 100 * record["last_mean"]),
        xycoords=axes.get_yaxis_transform(), ha="right", va="bottom", color="#595959",
      )  # fmt: skip


def _scale(axes: Axes, losses: Sequence[float]) -> None:
  """A logarithmic axis for losses that differ by more than one and a half orders of magnitude."""
  if losses and min(losses) > 0 and max(losses) / min(losses) > LOG_RANGE:
    axes.set_yscale("log")
