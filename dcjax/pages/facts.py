"""The texts and tables of a page: what was run, its numbers, its config, what it ran on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dcjax.pages import charts
from dcjax.pages.gather import Run, confusion, digest, percent, plain, shown
from dcjax.run.experiment import RANDOM, SYNTHETIC, WHOLE
from dcjax.tables.published import Published

MOST_LOSSES = 20  # rows of the table of losses
MOST_MISTAKES = 12  # rows of the table of classes that are taken for others
SETS = {SYNTHETIC: "the set", RANDOM: "random images", WHOLE: "all images"}
ABSENT = "–"


class Cell(NamedTuple):
  """An accuracy, and the paper's.

  Attributes:
    text: in percent.
    paper: likewise; empty where no paper prints it.
    source: the number of the footnote that says where it is from.
  """

  text: str
  paper: str
  source: int


class Row(NamedTuple):
  """The accuracies of one network.

  Attributes:
    run: its number.
    name: of the run.
    network: what is trained.
    iteration: of the set.
    cells: one for each kind of sets.
    networks: how many are trained.
  """

  run: int
  name: str
  network: str
  iteration: str
  cells: tuple[Cell, ...]
  networks: int


class Numbers(NamedTuple):
  """The table of accuracies: its rows, and where the papers' figures are from."""

  sets: tuple[str, ...]
  rows: list[Row]
  sources: list[dict[str, Any]]


def numbers(runs: Sequence[Run]) -> Numbers:
  """The last accuracies of all runs and networks, beside real images and the papers'."""
  have = [name for name in SETS if any(r["set"] == name for run in runs for r in run.evaluations)]
  sources: list[dict[str, Any]] = []
  rows = [
    _row(number, run, network, have, sources)
    for number, run in enumerate(runs)
    for network in run.networks
  ]
  return Numbers(tuple(SETS[name] for name in have), rows, sources)


def _row(
  number: int, run: Run, network: str, sets: Sequence[str], sources: list[dict[str, Any]]
) -> Row:
  ours = run.last(SYNTHETIC, network)
  any_set = next(r for r in run.evaluations if r["network"] == network)
  iteration = str(ours["iteration"]) if ours and run.iterations else ABSENT
  cells = tuple(_cell(run, images, network, sources) for images in sets)
  return Row(number, run.name, network, iteration, cells, any_set["networks"])


def _cell(run: Run, images: str, network: str, sources: list[dict[str, Any]]) -> Cell:
  text = percent(run.last(images, network)) or ABSENT
  found = run.paper(images, network)
  if found is None:
    return Cell(text, "", 0)
  source = _source(found)
  if source not in sources:
    sources.append(source)
  mean, std = found.figure
  paper = f"{mean:.1f}" + ("" if std is None else f" ± {std:.1f}")
  return Cell(text, paper, sources.index(source) + 1)


def _source(found: Published) -> dict[str, Any]:
  """Where a figure is printed, and what differs from the run."""
  differing = [
    (name, shown(theirs), shown(ours)) for name, (theirs, ours) in found.differing.items()
  ]
  return {"table": found.table, "cell": found.cell, "differing": differing}


def overview(run: Run) -> dict[str, Any]:
  """A run in a few words."""
  fields = run.fields
  facts = [
    ("network", shown(fields["network.name"])),
    ("images per class", _ipc(run)),
    ("seed", shown(fields["seed"])),
  ]
  if run.iterations:
    done = f"{run.iteration} of {run.iterations}"
    early = run.finished and run.iteration < run.iterations
    facts.append(("iterations", f"{done}, ended early" if early else done))
  if run.losses:
    facts.append(("loss at the end", f"{run.losses[-1]:.4g}"))
  if not run.evaluations:
    facts.append(("accuracy", "not evaluated" if run.finished else "not evaluated yet"))
  return {
    "name": run.name, "title": run.title, "state": run.state, "facts": facts, "notes": run.notes,
    "share": min(1.0, run.iteration / run.iterations) if run.iterations else None,
    "finished": run.finished,
  }  # fmt: skip


def _ipc(run: Run) -> str:
  """Stored images of each class, and what they are decoded to, if to more."""
  ipc, decoded = run.fields["ipc"], run.summary.get("decoded_ipc")
  return f"{ipc} as {decoded}" if isinstance(decoded, int) and decoded != ipc else str(ipc)


def losses(run: Run) -> list[tuple[int, str]]:
  """Some losses over the iterations, for a table."""
  count = len(run.losses)
  places = np.unique(np.linspace(0, count - 1, min(count, MOST_LOSSES)).round().astype(int))
  return [(int(place) + 1, f"{run.losses[place]:.5g}") for place in places]


def classes(run: Run, names: Sequence[str]) -> list[tuple[str, str, str]]:
  """What is right in each class, in percent, of the run's set and of random images."""
  ours = charts.by_class(run, SYNTHETIC, len(names))
  random = charts.by_class(run, RANDOM, len(names))
  if ours is None:
    return []
  beside = [ABSENT] * len(names) if random is None else [f"{share:.1f}" for share in random]
  return [
    (name, f"{share:.1f}", other) for name, share, other in zip(names, ours, beside, strict=True)
  ]


def mistakes(run: Run, names: Sequence[str]) -> list[tuple[str, str, int, str]]:
  """The classes most often taken for others, of the run's set on its first network.

  Returns:
    Tuples (class, what it is taken for, test images, share of the class), the most frequent first.
  """
  record = run.last(SYNTHETIC, run.networks[0]) if run.networks else None
  counts = None if record is None else confusion(record)
  if counts is None or len(counts) != len(names):
    return []
  wrong = counts.copy()
  np.fill_diagonal(wrong, 0)
  order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_MISTAKES]
  totals = np.maximum(counts.sum(1), 1)
  pairs = [divmod(int(place), len(names)) for place in order]
  return [
    (names[true], names[taken], int(wrong[true, taken]), f"{wrong[true, taken] / totals[true]:.1%}")
    for true, taken in pairs
    if wrong[true, taken]
  ]


def differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
  """The fields of the configs that are not the same in all runs."""
  return [(name, values) for name, values in config(runs) if len(set(values)) > 1]


def config(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
  """All fields of the configs."""
  names = dict.fromkeys(name for run in runs for name in run.fields)
  return [
    (shown(name), [shown(run.fields[name]) if name in run.fields else ABSENT for run in runs])
    for name in names
  ]


def origin(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
  """What runs took and ran on, with which versions, and the digests of their sets."""
  each = [
    {
      **_set(run),
      **_prefixed("seconds, ", run.summary.get("seconds")),
      **_prefixed("", run.summary.get("hardware")),
      **_prefixed("version of ", run.summary.get("versions")),
    }
    for run in runs
  ]
  labels = dict.fromkeys(label for facts in each for label in facts)
  return [(label, [facts.get(label, ABSENT) for facts in each]) for label in labels]


def _set(run: Run) -> dict[str, str]:
  """The digest of the set, and how large it is."""
  found = {}
  if run.final is not None and (text := digest(run.final)):
    found["SHA-256 of synthetic.npz"] = text
  if isinstance(size := run.summary.get("stored_bytes"), int):
    found["bytes of the numbers in the set"] = f"{size:,}"
  return found


def _prefixed(prefix: str, values: Any) -> dict[str, str]:
  return {f"{prefix}{name}": value for name, value in plain(values).items()}
