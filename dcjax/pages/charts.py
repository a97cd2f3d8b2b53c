"""The charts of a page as plotly's JSON; colours are variables of the page's style sheet."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dcjax.figures.curves import method_name
from dcjax.figures.style import COLOURS, LOG_RANGE
from dcjax.pages.gather import Run, confusion, percent
from dcjax.run.experiment import RANDOM, SYNTHETIC, WHOLE

Chart = dict[str, Any]

MOST_POINTS = 1500  # of a line of losses
SMOOTHED = 50  # windows that a run is as long as
MOST_HEAT_MAPS = 6  # of a run
MANY_CLASSES = 30  # whose names do not fit below bars
HOVER_CLASS = "%{hovertext}<br>%{y:.1f} % right<extra>%{fullData.name}</extra>"
LABEL = 18  # characters of a class name at an axis
DASHES = ("solid", "dash", "dashdot", "longdash")
REFERENCES = {RANDOM: ("random images", "dash"), WHOLE: ("all images", "longdashdot")}


def colour(number: int) -> str:
  """The colour of a run."""
  return f"var(--run-{number % len(COLOURS)})"


def losses(runs: Sequence[Run]) -> list[Chart]:
  """The loss of runs over their iterations, a chart for each method."""
  groups: dict[str, list[tuple[int, Run]]] = {}
  for number, run in enumerate(runs):
    if run.losses:
      groups.setdefault(run.fields["method"], []).append((number, run))
  return [_loss(name, members) for name, members in groups.items()]


def _loss(method: str, members: Sequence[tuple[int, Run]]) -> Chart:
  traces = [trace for number, run in members for trace in _loss_lines(number, run)]
  everything = [loss for _, run in members for loss in run.losses]
  wide = min(everything) > 0 and max(everything) >= LOG_RANGE * min(everything)
  layout = _layout("iteration", {"title": {"text": "loss"}, "type": "log" if wide else "linear"})
  layout |= {"hovermode": "x unified"}
  layout["xaxis"]["unifiedhovertitle"] = {"text": "iteration %{x}"}
  return _chart(f"loss-{method}", f"Loss of {method_name(method)}", traces, layout)


def _loss_lines(number: int, run: Run) -> list[dict[str, Any]]:
  """A thin line of all losses, and a line of their means where there are many."""
  x = np.arange(1, len(run.losses) + 1)
  some = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
  width, name = window(len(x)), _text(run.name)

  def line(values: np.ndarray, hover: str, **style: Any) -> dict[str, Any]:
    return {
      "x": x[some].tolist(), "y": _rounded(values[some]), "mode": "lines", "name": name,
      "hovertemplate": f"{hover}: %{{y:.4g}}<extra>%{{fullData.name}}</extra>", **style,
    }  # fmt: skip

  paint = {"color": colour(number), "width": 2}
  if width == 1:
    return [line(np.array(run.losses), "loss", line=paint)]
  thin = {"line": paint | {"width": 1}, "opacity": 0.35, "showlegend": False}
  return [
    line(np.array(run.losses), "loss", **thin),
    line(smoothed(run.losses), f"loss, mean of {width}", line=paint),
  ]


def window(count: int) -> int:
  """Over how many iterations a loss is averaged."""
  return max(1, count // SMOOTHED)


def smoothed(values: Sequence[float]) -> np.ndarray:
  """Means over `window` values about each, fewer at the ends."""
  half = window(len(values)) // 2
  places = np.arange(len(values))
  low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
  with np.errstate(over="ignore", invalid="ignore"):  # of very large losses
    sums = np.concatenate([[0.0], np.cumsum(np.array(values, float))])
    return (sums[high] - sums[low]) / (high - low)


def accuracy(runs: Sequence[Run]) -> list[Chart]:
  """The accuracy of sets over iterations beside real images and papers, a chart a dataset."""
  groups: dict[str, list[tuple[int, Run]]] = {}
  for number, run in enumerate(runs):
    if run.evaluations:
      groups.setdefault(run.dataset, []).append((number, run))
  return [_accuracy(name, members) for name, members in groups.items()]


def _accuracy(dataset: str, members: Sequence[tuple[int, Run]]) -> Chart:
  longest = max(run.iteration for _, run in members) or 1
  traces: list[dict[str, Any]] = []
  for number, run in members:
    for place, network in enumerate(run.networks):
      name = _name(run, network, members)
      records = run.records(SYNTHETIC, network)
      style = {"color": colour(number), "dash": DASHES[place % len(DASHES)], "width": 2}
      if records and run.iterations:
        traces.append(_evaluated(records, name, style))
      elif records:
        traces.append(_level(records[-1], f"{name}: set", style, longest))
      for images, (called, dash) in REFERENCES.items():
        if record := run.last(images, network):
          thin = {"color": colour(number), "dash": dash, "width": 1}
          traces.append(_level(record, f"{name}: {called}", thin, longest))
      if found := run.paper(SYNTHETIC, network):
        traces.append(_paper(found, f"{name}: paper", colour(number), longest))
  axis = {"title": {"text": "test accuracy (%)"}, "rangemode": "normal"}
  layout = _layout("iteration", axis)
  return _chart(f"accuracy-{dataset}", f"Test accuracy on {dataset}", traces, layout)


def _name(run: Run, network: str, members: Sequence[tuple[int, Run]]) -> str:
  """What tells a line from the others."""
  words = [run.name] if len(members) > 1 else []
  return ", ".join([*words, network])


def _evaluated(records: Sequence[dict[str, Any]], name: str, style: dict[str, Any]) -> Chart:
  return {
    "x": [record["iteration"] for record in records],
    "y": _rounded([100 * record["last_mean"] for record in records]),
    "error_y": {
      "type": "data", "array": _rounded([100 * record["last_std"] for record in records]),
      "thickness": 1.2, "width": 4, "color": style["color"],
    },
    "mode": "lines+markers", "line": style, "marker": {"size": 7}, "name": _text(f"{name}: set"),
    "hovertext": [f"{percent(record)} %" for record in records],
    "hovertemplate": "iteration %{x}<br>%{hovertext}<extra>%{fullData.name}</extra>",
  }  # fmt: skip


def _level(record: dict[str, Any], name: str, style: dict[str, Any], longest: int) -> Chart:
  return _line(100 * record["last_mean"], f"{percent(record)} %", name, style, longest)


def _paper(found: Any, name: str, paint: str, longest: int) -> Chart:
  mean, std = found.figure
  text = f"{mean:.1f}" + ("" if std is None else f" ± {std:.1f}")
  style = {"color": paint, "dash": "dot", "width": 2}
  return _line(mean, f"{text} %<br>{_text(found.table)}", name, style, longest)


def _line(height: float, hover: str, name: str, style: dict[str, Any], longest: int) -> Chart:
  """A level over all iterations, with points to hover over."""
  x = np.linspace(0, longest, 11)
  return {
    "x": x.tolist(), "y": _rounded([height] * len(x)), "mode": "lines", "line": style,
    "name": _text(name), "hovertemplate": f"{hover}<extra>%{{fullData.name}}</extra>",
  }  # fmt: skip


def classes(runs: Sequence[Run], names: Sequence[Sequence[str]]) -> list[Chart]:
  """The accuracy of each class, of the runs' sets and random images; a chart for each dataset.

  Args:
    runs: those whose evaluations have no confusion are left out.
    names: the classes of each run.
  """
  groups: dict[tuple[str, int], list[tuple[int, Run]]] = {}
  for number, run in enumerate(runs):
    if by_class(run, SYNTHETIC, len(names[number])) is not None:
      groups.setdefault((run.dataset, len(names[number])), []).append((number, run))
  return [
    _classes(f"{dataset}-{count}", dataset, members, names[members[0][0]])
    for (dataset, count), members in groups.items()
  ]


def _classes(
  key: str, dataset: str, members: Sequence[tuple[int, Run]], names: Sequence[str]
) -> Chart:
  traces: list[dict[str, Any]] = []
  for number, run in members:
    called = f"{run.name}: " if len(members) > 1 else ""
    shares = by_class(run, SYNTHETIC, len(names))
    assert shares is not None  # others are left out
    hover = [_text(name) for name in names]
    common = {"x": list(range(len(names))), "hovertext": hover, "offsetgroup": str(number)}
    traces.append(
      {**common, "type": "bar", "y": _rounded(shares), "marker": {"color": colour(number)}}
      | {"name": _text(f"{called}set"), "hovertemplate": HOVER_CLASS}
    )
    if (random := by_class(run, RANDOM, len(names))) is not None:
      few = len(names) <= MANY_CLASSES
      mark: dict[str, Any] = {"symbol": "line-ew-open" if few else "circle-open"}
      mark |= {"size": 12 if few else 5, "color": "var(--ink)"}
      traces.append(
        {**common, "type": "scatter", "mode": "markers", "y": _rounded(random)}
        | {"marker": mark | {"line": {"width": 2, "color": "var(--ink)"}}}
        | {"name": _text(f"{called}random images")}
        | {"hovertemplate": HOVER_CLASS}
      )
  layout = _layout("", {"title": {"text": "right (%)"}, "range": [0, 100]})
  layout["xaxis"] |= _ticks(names) | {"showgrid": False}
  layout |= {"barmode": "group", "scattermode": "group"}
  return _chart(f"classes-{key}", f"Right in each class of {dataset}", traces, layout)


def by_class(run: Run, images: str, classes: int) -> np.ndarray | None:
  """The share of the test images of each class that is right, in percent, of the first network.

  Args:
    run: any.
    images: what networks are trained on.
    classes: how many there are; None is returned where the run has recorded another number.
  """
  record = run.last(images, run.networks[0]) if run.networks else None
  counts = None if record is None else confusion(record)
  if counts is None or len(counts) != classes:
    return None
  return 100 * np.diag(counts) / np.maximum(counts.sum(1), 1)


def confusions(run: Run, names: Sequence[str]) -> list[Chart]:
  """A heat map for each set and network of a run, of its last evaluation.

  Args:
    run: any.
    names: of its classes.
  """
  found = []
  for network in run.networks:
    for images in (SYNTHETIC, RANDOM, WHOLE):
      record = run.last(images, network)
      counts = None if record is None else confusion(record)
      if counts is not None and len(counts) == len(names):
        label = REFERENCES.get(images, ("set",))[0]
        found.append(_heat_map(counts, names, f"{label}, {network}"))
  return found[:MOST_HEAT_MAPS]


def _heat_map(counts: np.ndarray, names: Sequence[str], title: str) -> Chart:
  shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
  called = [_text(name) for name in names]
  trace = {
    "type": "heatmap", "z": np.round(shares, 1).tolist(), "zmin": 0, "zmax": 100,
    "text": counts.tolist(), "showscale": False, "xgap": 1 if len(names) <= 50 else 0,
    "ygap": 1 if len(names) <= 50 else 0,
    "colorscale": [[0, "var(--heat-0)"], [0.3, "var(--heat-1)"], [1, "var(--heat-2)"]],
    "customdata": called,
    "hovertemplate": "%{text} images (%{z:.1f} %)<extra></extra>",
  }  # fmt: skip
  layout = _layout("taken for", {"title": {"text": "is"}, "autorange": "reversed"})
  layout["yaxis"] |= _ticks(names) | {"showgrid": False, "scaleanchor": "x", "constrain": "domain"}
  layout["xaxis"] |= _ticks(names) | {"showgrid": False, "constrain": "domain"}
  layout |= {
    "hovermode": "closest",
    "names": called,
    "height": 420 if len(names) <= MANY_CLASSES else 640,
  }
  return _chart("", title, [trace], layout)


def _ticks(names: Sequence[str]) -> dict[str, Any]:
  """An axis of classes; of very many only some are named."""
  every = -(-len(names) // MANY_CLASSES)
  places = list(range(0, len(names), every))
  texts = [name if len(name) <= LABEL else f"{name[: LABEL - 1]}…" for name in names]
  return {
    "tickmode": "array", "tickvals": places, "ticktext": [_text(texts[place]) for place in places],
    "automargin": True, "zeroline": False,
  }  # fmt: skip


def _layout(title: str, yaxis: dict[str, Any]) -> dict[str, Any]:
  axis = {"gridcolor": "var(--rule)", "zeroline": False, "fixedrange": True, "automargin": True}
  line = {"linecolor": "var(--rule)", "tickcolor": "var(--rule)"}
  return {
    "xaxis": {**axis, **line, "title": {"text": title}, "showgrid": False},
    "yaxis": {**axis, **line, **yaxis},
    "hovermode": "closest",
    "hoverdistance": 60,
    "dragmode": False,
    "height": 340,
    "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
  }


def _chart(key: str, title: str, traces: Sequence[dict[str, Any]], layout: dict[str, Any]) -> Chart:
  return {"id": key, "title": title, "data": list(traces), "layout": layout}


def _rounded(values: Iterable[float]) -> list[float | None]:
  """Numbers as JSON has them; None for what is none, as a sum of very large ones."""
  return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]


def _text(text: str) -> str:
  """A text that plotly shows as it is, and does not take for tags."""
  return html.escape(text, quote=False)
