"""The papers' figures, drawn by matplotlib from plain data; `commands.plot` gathers that."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, NullLocator

from dcjax.common.quantities import spread
from dcjax.figures.style import COLOURS, DPI, GREYS, LOG_RANGE, MARKERS, STYLE, Drawing
from dcjax.sets import sheet as screen
from dcjax.sets.sheet import GAP, MOST_TILES, mosaic
from dcjax.sets.synthetic import SyntheticSet

PAGE = (1400, 1000)  # pixels that the images of a sheet take up, where their number lets them
TILE = (64, 140)  # least and greatest side of an image in a sheet, in pixels
MOST_COLUMNS = 10  # images beside each other in one panel of a sheet
BINS = 20


class Panel(NamedTuple):
  """One block of images in a sheet.

  Attributes:
    title: what stands above it.
    tiles: uint8 `[rows, columns, H, W, C]`.
    rows: names of the rows.
    columns: names below the columns, or nothing.
    xlabel: what stands below those.
  """

  title: str
  tiles: np.ndarray
  rows: Sequence[str]
  columns: Sequence[str] = ()
  xlabel: str = ""


class Curve(NamedTuple):
  """Accuracies at several numbers of images per class, in [0, 1].

  Attributes:
    name: of the method, or of what else the images are.
    dataset: the name of the real images.
    ipc: images per class, ascending `[n]`.
    mean: `[n]`.
    std: `[n]`, deviations over networks.
    whole: accuracy of training on the full dataset, if known.
    reference: whether it is there for comparison only, and drawn dashed.
  """

  name: str
  dataset: str
  ipc: Sequence[int]
  mean: Sequence[float]
  std: Sequence[float]
  whole: float | None = None
  reference: bool = False


def grid(sets: Sequence[tuple[str, SyntheticSet]]) -> Figure:
  """Sets beside each other: a row for each class, at most ten images of it.

  Args:
    sets: pairs (title, set).
  """
  panels = []
  for title, synthetic in sets:
    classes, ipc = synthetic.images.shape[:2]
    rows, count = screen.choose(classes, min(ipc, MOST_COLUMNS), MOST_TILES // len(sets))
    note = screen.left_out(len(rows), classes, count, ipc)
    tiles = synthetic.pixels()[rows, :count]
    panels.append(Panel(title, tiles, screen.row_names(synthetic, rows), xlabel=note))
  return sheet(panels)


def strip(sequences: Sequence[tuple[str, dict[int, SyntheticSet]]]) -> Figure:
  """The first image of each class over the iterations (DSA, Figure 6).

  Args:
    sequences: pairs (title, sets by iteration). Of many iterations ten are shown, the first and
      the last among them.
  """
  panels = []
  for title, sets in sequences:
    shown = spread(sorted(sets), MOST_COLUMNS)
    first = sets[shown[0]]
    classes, most = len(first.images), MOST_TILES // (len(sequences) * len(shown))
    rows, _ = screen.choose(classes, 1, most)
    note = screen.left_out(len(rows), classes, 1, 1)
    tiles = np.stack([sets[iteration].pixels()[rows, 0] for iteration in shown], 1)
    columns, label = [str(i) for i in shown], ", ".join(filter(None, ("iteration", note)))
    panels.append(Panel(title, tiles, screen.row_names(first, rows), columns, label))
  return sheet(panels)


@matplotlib.rc_context(STYLE)
def sheet(panels: Sequence[Panel]) -> Figure:
  """Panels of images beside each other; rows are named where the names are new."""
  panels = _in_columns(panels)
  rows, columns = len(panels[0].tiles), sum(panel.tiles.shape[1] for panel in panels)
  side = int(np.clip(min(PAGE[0] // columns, PAGE[1] // rows), *TILE))
  mosaics = [mosaic(panel.tiles, side) for panel in panels]
  names = _row_names(panels)
  edges, right = [], -side // 2
  for panel, image, labels in zip(panels, mosaics, names, strict=True):
    overhang = max(0, _longest([panel.title]) - image.shape[1]) // 2
    edges.append(right + side // 2 + _longest(labels) + overhang)
    right = edges[-1] + image.shape[1] + overhang
  size = np.array([right, max(len(image) for image in mosaics)])
  figure = Drawing(tuple(size / DPI), dpi=DPI)
  for panel, image, labels, left in zip(panels, mosaics, names, edges, strict=True):
    box = np.array([[left, size[1] - len(image)], [image.shape[1], len(image)]]) / size
    _draw_panel(figure.add_axes(tuple(box.ravel())), panel, image, labels)
  return figure


def _in_columns(panels: Sequence[Panel]) -> list[Panel]:
  """The panels, cut into pieces that stand beside each other where they have many rows."""
  rows, pitch = max(len(panel.tiles) for panel in panels), TILE[0] + GAP
  width = sum(panel.tiles.shape[1] * pitch for panel in panels) + _longest(panels[0].rows)
  down = -(-rows // screen.columns(rows, pitch, width, PAGE[1]))
  return [
    panel._replace(
      tiles=panel.tiles[top : top + down],
      rows=panel.rows[top : top + down],
      xlabel=panel.xlabel if top + down >= rows else "",
    )
    for top in range(0, rows, down)
    for panel in panels
    if top < len(panel.tiles)
  ]


def _row_names(panels: Sequence[Panel]) -> list[Sequence[str]]:
  """Row names at the left of each panel; none if its rows are those of the previous panel."""
  names = [panels[0].rows]
  for last, panel in pairwise(panels):
    same = last.rows == panel.rows and last.tiles.shape[2:4] == panel.tiles.shape[2:4]
    names.append(() if same else panel.rows)
  return names


def _longest(texts: Sequence[str]) -> int:
  """Width of the longest of some texts in pixels."""
  size = STYLE["font.size"] * DPI / 72
  paths = [TextPath((0, 0), text, size) for text in texts if text]
  return int(max((path.get_extents().width for path in paths), default=0))


def _draw_panel(axes: Axes, panel: Panel, image: np.ndarray, rows: Sequence[str]) -> None:
  height, width = image.shape[:2]
  axes.imshow(image, extent=(0, width, height, 0), aspect="auto", interpolation="none")
  axes.set_title(panel.title)
  axes.set_xlabel(panel.xlabel)
  across, down = width / panel.tiles.shape[1], height / panel.tiles.shape[0]
  crowded = _longest(panel.columns) > 0.9 * across
  axes.set_xticks(
    across * (np.arange(len(panel.columns)) + 0.5), panel.columns, rotation=90 if crowded else 0
  )
  axes.set_yticks(down * (np.arange(len(rows)) + 0.5), rows)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)


@matplotlib.rc_context(STYLE)
def gradient_histogram(norms: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
  """The norms of the gradients of real and of synthetic images (DSA, Figure 5).

  Args:
    norms: triples (title, norms for real images, norms for synthetic images), of any shapes. One
      panel each, on the same axes.
  """
  bins, scale = _bins(np.concatenate([each.ravel() for _, *pair in norms for each in pair]))
  columns = len(norms) if len(norms) <= 3 else math.ceil(math.sqrt(len(norms)))
  rows = -(-len(norms) // columns)
  figure = Drawing((1 + 2.6 * columns, 0.6 + 2.1 * rows), dpi=DPI, layout="constrained")
  panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
  for axes, (title, real, synthetic) in zip(panels.flat, norms, strict=False):
    _draw_shares(axes, bins, real, "real images", COLOURS[0])
    _draw_shares(axes, bins, synthetic, "synthetic images", COLOURS[1])
    axes.set_title(title)
    axes.set_xscale(scale)
  for axes in panels.flat[len(norms) :]:
    axes.set_axis_off()
  for axes in panels.flat[len(norms) - columns : len(norms)]:
    axes.tick_params(labelbottom=True)  # also above an empty panel
  figure.supxlabel("norm of the gradient of one class' loss", fontsize=STYLE["font.size"])
  figure.supylabel("share of gradients (%)", fontsize=STYLE["font.size"])
  handles = panels.flat[0].get_legend_handles_labels()
  figure.legend(*handles, loc="outside upper center", ncols=2)
  return figure


def _bins(values: np.ndarray) -> tuple[np.ndarray, str]:
  """Edges of a histogram's bins, and the scale of its axis, for values of 0 or more `[n]`."""
  high = values.max() or 1.0
  low = values[values > 0].min(initial=high)
  if high / low < LOG_RANGE:
    return np.linspace(values.min(), high * 1.001, BINS + 1), "linear"
  return np.geomspace(low, high * 1.001, BINS + 1), "log"


def _draw_shares(axes: Axes, bins: np.ndarray, values: np.ndarray, label: str, colour: str) -> None:
  axes.hist(
    values.ravel().clip(bins[0]),  # a log axis cannot show a norm of 0
    bins.tolist(),
    weights=np.full(values.size, 100 / values.size),
    histtype="stepfilled",
    facecolor=to_rgba(colour, 0.35),
    edgecolor=colour,
    label=label,
  )


@matplotlib.rc_context(STYLE)
def accuracies(curves: Sequence[Curve]) -> Figure:
  """Accuracy against images per class (DC, Figure 3).

  Absolute at the left, with the deviation over networks. At the right relative to training on the
  full dataset, for the curves that know it; without any, that panel is left out.
  """
  relative = [curve for curve in curves if curve.whole]
  count = 2 if relative else 1
  lines = -(-len(curves) // 2)
  figure = Drawing((3.6 * count, 2.7 + 0.18 * lines), dpi=DPI, layout="constrained")
  panels = figure.subplots(1, count, squeeze=False)[0]
  for curve, style in zip(curves, _styles(curves), strict=True):
    scales = [100.0, 100 / curve.whole] if curve.whole else [100.0]
    for axes, scale in zip(panels, scales, strict=False):
      mean, std = scale * np.asarray(curve.mean), scale * np.asarray(curve.std)
      axes.errorbar(curve.ipc, mean, std, elinewidth=0.8, **style)
  for axes in panels:
    _label_ipc(axes, sorted({ipc for curve in curves for ipc in curve.ipc}))
  panels[0].set_ylabel("test accuracy (%)")
  if relative:
    _finish_relative(panels[1], {curve.dataset for curve in curves if not curve.whole})
  handles = panels[0].get_legend_handles_labels()
  figure.legend(*handles, loc="outside lower center", ncols=min(len(curves), count))
  return figure


def _styles(curves: Sequence[Curve]) -> list[dict[str, Any]]:
  """How each curve is drawn: a colour for each dataset, or for each method if there is but one."""
  datasets = list(dict.fromkeys(curve.dataset for curve in curves))
  names = list(dict.fromkeys(curve.name for curve in curves))
  references = list(dict.fromkeys(curve.name for curve in curves if curve.reference))

  def style(curve: Curve) -> dict[str, Any]:
    colours: Sequence[str] = COLOURS
    label, number = curve.name, names.index(curve.name)
    if len(datasets) > 1:
      label, number = f"{curve.name}, {curve.dataset}", datasets.index(curve.dataset)
    elif curve.reference:
      colours, number = GREYS, references.index(curve.name)
    return {
      "label": label,
      "color": colours[number % len(colours)],
      "marker": MARKERS[names.index(curve.name) % len(MARKERS)],
      "markerfacecolor": "white" if curve.reference else None,
      "linestyle": "--" if curve.reference else "-",
    }

  return [style(curve) for curve in curves]


def _label_ipc(axes: Axes, values: list[int]) -> None:
  """A logarithmic axis with the numbers that occur, as far as they have room."""
  axes.set_xlabel("images per class")
  axes.set_xscale("log")
  if len(values) == 1:
    axes.set_xlim(values[0] / 2, values[0] * 2)
  ticks = values[:1]
  for value in values[1:]:
    if np.log(value / ticks[-1]) > 0.08 * np.log(values[-1] / values[0]):
      ticks.append(value)
  axes.set_xticks(ticks)
  axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
  axes.xaxis.set_minor_locator(NullLocator())


def _finish_relative(axes: Axes, missing: set[str]) -> None:
  axes.axhline(100, color="#7F7F7F", linewidth=0.8, zorder=0)
  along = axes.get_yaxis_transform()
  axes.text(1, 100, "whole dataset", ha="right", va="bottom", color="#595959", transform=along)
  axes.set_ylabel("relative test accuracy (%)")
  if missing:
    axes.set_title(f"upper bound unknown for {', '.join(sorted(missing))}")
