"""Accuracy against images per class (DC, Figure 3), from the summaries of runs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dcjax.figures.pictures import Curve
from dcjax.methods import coreset
from dcjax.run import experiment

RANDOM = "random real images"


def method_name(method: str) -> str:
  """A method as people write it."""
  return method.replace("_", "-") if method in coreset.SELECTIONS else method.upper()


class _Line(NamedTuple):
  """What the points of one curve have in common."""

  name: str
  dataset: str
  network: str
  augmentation: str


_Lines = dict[_Line, dict[int, list[dict[str, Any]]]]  # records by images per class


def from_summaries(summaries: Iterable[dict[str, Any]]) -> list[Curve]:
  """The curves of `pictures.accuracies` from the contents of `summary.json`.

  Args:
    summaries: of evaluated runs. The records for the first of their networks count, and of those
      for synthetic images the last iteration's.

  Returns:
    One curve for each dataset, network, augmentation at evaluation, and method or `random real
    images`; methods come first.
  """
  lines: _Lines = defaultdict(lambda: defaultdict(list))
  whole = []
  for summary in summaries:
    for record in _last_records(summary["evaluations"]):
      name = RANDOM
      if record["set"] == experiment.SYNTHETIC:
        name = method_name(summary["method"])
      line = _Line(name, summary["dataset"], record["network"], _augmentation(record))
      if record["set"] == experiment.WHOLE:
        whole.append((line, record))
      else:
        lines[line][summary["ipc"]].append(record)
  found = [_curve(line, lines, whole) for line in lines]
  return sorted(found, key=lambda curve: curve.reference)


def _augmentation(record: dict[str, Any]) -> str:
  """The augmentation with CutMix, which records of older versions do not have."""
  mixed = " with CutMix" if record.get("cutmix") else ""
  return f"{record['augmentation']}{mixed}"


def _last_records(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Those of the first network; of the synthetic ones, those of the last iteration."""
  last = max(record["iteration"] for record in records)
  return [
    record
    for record in records
    if record["network"] == records[0]["network"]
    and (record["set"] != experiment.SYNTHETIC or record["iteration"] == last)
  ]


def _curve(line: _Line, lines: _Lines, whole: list[tuple[_Line, dict[str, Any]]]) -> Curve:
  points = lines[line]
  ipcs = sorted(points)
  means, deviations = zip(*(pooled(points[ipc]) for ipc in ipcs), strict=True)
  bounds = [
    (other.augmentation == line.augmentation, record)
    for other, record in whole
    if (other.dataset, other.network) == (line.dataset, line.network)
  ]
  # A bound found with the same augmentation is better than one with another.
  best = max((same for same, _ in bounds), default=False)
  bound = pooled([record for same, record in bounds if same == best])[0] if bounds else None
  reference = line.name == RANDOM
  return Curve(_name(line, lines), line.dataset, ipcs, means, deviations, bound, reference)


def pooled(records: Sequence[dict[str, Any]]) -> tuple[float, float]:
  """Mean and deviation over all networks of several records."""
  counts = [record["networks"] for record in records]
  means = np.array([record["last_mean"] for record in records])
  squares = np.array([record["last_std"] for record in records]) ** 2 + means**2
  mean = np.average(means, weights=counts)
  variance = np.average(squares, weights=counts) - mean**2
  return float(mean), float(np.sqrt(max(variance, 0.0)))


def _name(line: _Line, lines: _Lines) -> str:
  """The name of a curve, with the fields that distinguish it from the others of its dataset."""
  words = [line.name]
  if len({other.network for other in lines}) > 1:
    words.append(line.network)
  alike = [other for other in lines if other[:3] == line[:3]]
  if len(alike) > 1:
    protocols = {other: next(iter(lines[other].values()))[0].get("protocol", "") for other in alike}
    distinct = len(set(protocols.values())) == len(alike)
    words.append(f"{protocols[line].upper() if distinct else line.augmentation} evaluation")
  return ", ".join(words)
