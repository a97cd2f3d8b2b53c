"""A table in the layout of its paper, and as records, one for each cell."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dcjax.figures import formats
from dcjax.figures.formats import Grid, Page
from dcjax.tables.definition import DRAWN, TOP, WHOLE, Cell, Figure, Table

COLUMNS = (
  "table", "row", "column", "mean", "std", "sets", "networks", "paper_mean", "paper_std",
  "difference", "status", "protocol", "epochs", "augmentation",
)  # fmt: skip
DONE, PARTIAL, NOT_RUN, MISSING, ABSENT = "done", "partial", "not run", "not in dcjax", "-"


class Result(NamedTuple):
  """What has been measured for a cell.

  Attributes:
    accuracies: in [0, 1], of the last epoch, of all networks that count of all sets that are done.
    sets: how many sets are done.
    wanted: how many there are to be.
    protocol: of the evaluation.
    epochs: of the evaluation.
    augmentation: of the evaluation.
  """

  accuracies: tuple[float, ...]
  sets: int
  wanted: int
  protocol: str
  epochs: int
  augmentation: str

  @property
  def figure(self) -> Figure:
    """Mean and deviation over all of them, in percent."""
    return Figure(100 * float(np.mean(self.accuracies)), 100 * float(np.std(self.accuracies)))


Results = Mapping[tuple[str, str], Result]  # by names of row and column


def page(table: Table, results: Results, budget: str = "") -> Page:
  """The table as its paper has it, each cell beside the paper's figure.

  Args:
    table: which.
    results: of the cells that have been run.
    budget: what to say of it below the title.
  """
  cells = list(table.cells())
  texts = iter([_text(cell, results.get((cell.row, cell.column))) for cell in cells])
  head = (*table.headings, *(column.labels[0] for column in table.columns))
  rows = [(*row.labels, *(next(texts) for _ in table.columns)) for row in table.rows]
  grid = Grid([head, *rows], align="left")
  blocks: list[Grid | str] = [budget, grid, _legend(cells, results), table.note]
  return Page(table.title, list(filter(None, blocks)))


def records(table: Table, results: Results) -> list[Sequence[str]]:
  """The table in long form, accuracies in percent; `networks` are those of each set."""
  lines = [_record(table, cell, results.get((cell.row, cell.column))) for cell in table.cells()]
  return [COLUMNS, *lines]


def markdown(table: Table, results: Results, budget: str = "") -> str:
  """`page` as Markdown."""
  return formats.markdown(page(table, results, budget))


def comma_separated(table: Table, results: Results) -> str:
  """`records` as CSV."""
  return formats.comma_separated(records(table, results))


def status(cell: Cell, result: Result | None) -> str:
  """How far a cell is."""
  if cell.paper is None:
    return ABSENT
  if cell.missing:
    return MISSING
  if result is None:
    return NOT_RUN
  return DONE if result.sets == result.wanted else PARTIAL


def _difference(figure: Figure, paper: Figure) -> float | None:
  """Of the means as they are printed; never -0.0. None: the paper prints none."""
  if figure.mean is None or paper.mean is None:
    return None
  return round(round(figure.mean, 1) - paper.mean, 1) + 0.0


def _percent(figure: Figure) -> str:
  return " ± ".join(filter(None, _numbers(figure))) or ABSENT


def _numbers(figure: Figure | None) -> list[str]:
  """Mean and deviation; what there is not is left empty."""
  return [f"{value:.1f}" if value is not None else "" for value in figure or (None, None)]


def _text(cell: Cell, result: Result | None) -> str:
  """A cell of the Markdown."""
  if cell.paper is None:
    return ABSENT
  state, paper = status(cell, result), f"paper {_percent(cell.paper)}"
  if result is None or state == MISSING:
    return f"{state} ({paper})"
  part = f", {result.sets} of {result.wanted} sets" if state == PARTIAL else ""
  difference = _difference(result.figure, cell.paper)
  compared = paper if difference is None else f"{paper}, {difference:+.1f}"
  return f"{_percent(result.figure)}{part} ({compared})"


def _legend(cells: Sequence[Cell], results: Results) -> str:
  """What the cells mean."""
  states = {status(cell, results.get((cell.row, cell.column))) for cell in cells}
  reasons = dict.fromkeys(cell.missing for cell in cells if cell.paper and cell.missing)
  sentences = [
    "Test accuracy (%) after the last epoch: mean ± standard deviation over all networks of all "
    "sets (the paper's figure, difference of the means)."
  ]
  if reasons:
    sentences.append(f"{MISSING}: {'; '.join(reasons)}.")
  if ABSENT in states:
    sentences.append(f"{ABSENT}: the paper has no figure.")
  if any(cell.paper == DRAWN for cell in cells):
    sentences.append(f"paper {ABSENT}: no number can be read in the paper's text.")
  if any(TOP in cell.fields for cell in cells):
    sentences.append(
      "Top n: the n best of as many random subsets as selection.candidates says, of one seed, "
      "ranked by the accuracy that is shown."
    )
  if any(cell.fields.get("method") == WHOLE for cell in cells):
    sentences.append("Whole Dataset: one set, so one seed.")
  return " ".join(sentences)


def _record(table: Table, cell: Cell, result: Result | None) -> list[str]:
  """A line of the CSV; what there is not is left empty."""
  measured, protocol, difference = [""] * 4, [""] * 3, ""
  if result is not None and cell.paper is not None:
    networks = len(result.accuracies) // result.sets
    measured = [*_numbers(result.figure), str(result.sets), str(networks)]
    protocol = [result.protocol, str(result.epochs), result.augmentation]
    found = _difference(result.figure, cell.paper)
    difference = "" if found is None else f"{found:.1f}"
  names = [table.name, cell.row, cell.column]
  return [*names, *measured, *_numbers(cell.paper), difference, status(cell, result), *protocol]
