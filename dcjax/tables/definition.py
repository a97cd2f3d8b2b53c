"""What a table of a paper is: rows and columns of config fields, and the figures printed there."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dcjax.common.errors import UserError, nearest

Fields = Mapping[str, Any]  # config fields by their dotted names
WHOLE = "whole"  # as `method`: the whole training set

# Fields of a cell that are no fields of a config.
# Each network is trained on a random subset of its own, and so many of the best count (DC, T12)
TOP = "table.top"
SHRINK = "table.shrink"  # a finished set is stored smaller by this factor (IDC, Table 6)
OWN_FIELDS = (TOP, SHRINK)


class Figure(NamedTuple):
  """Mean and deviation, in percent; None where the paper prints none."""

  mean: float | None
  std: float | None


DRAWN = Figure(None, None)  # of an experiment whose figure the paper draws and does not print


class Line(NamedTuple):
  """A row or a column.

  Attributes:
    labels: as the paper has them; a column has one.
    fields: what the experiments of its cells have in common.
    name: by which it is chosen.
    missing: what dcjax lacks for all of its cells; empty where they can be run.
  """

  labels: tuple[str, ...]
  fields: Fields
  name: str
  missing: str


class Cell(NamedTuple):
  """One experiment of a table.

  Attributes:
    row: name of the row.
    column: name of the column.
    fields: of its config, with `method`, which may be `WHOLE`.
    paper: the paper's figure; None where it has no such experiment.
    missing: what dcjax lacks for it; empty where it can be run.
  """

  row: str
  column: str
  fields: dict[str, Any]
  paper: Figure | None
  missing: str

  @property
  def runnable(self) -> bool:
    """Whether the paper has the experiment, and dcjax what it takes."""
    return self.paper is not None and not self.missing


class Table(NamedTuple):
  """A table of a paper.

  Attributes:
    name: by which it is chosen, such as 'dc/2'.
    title: the paper's number and subject of it.
    headings: above the labels of the rows.
    base: fields of all cells; those of the row, of the column and `special` replace them.
    rows: from top to bottom.
    columns: from left to right.
    figures: the paper's, `[rows][columns]`; None for '-'.
    special: further fields of single cells, by names of row and column.
    sets: how many the paper's figures are of.
    note: sentences below the table.
  """

  name: str
  title: str
  headings: tuple[str, ...]
  base: Fields
  rows: tuple[Line, ...]
  columns: tuple[Line, ...]
  figures: tuple[tuple[Figure | None, ...], ...]
  special: Mapping[tuple[str, str], Fields] = {}
  sets: int = 5  # (DC, section 3.1; DSA, section 4.1)
  note: str = ""

  def cells(self) -> Iterator[Cell]:
    """All cells, row by row."""
    for row, figures in zip(self.rows, self.figures, strict=True):
      for column, figure in zip(self.columns, figures, strict=True):
        special = self.special.get((row.name, column.name), {})
        fields = {**self.base, **row.fields, **column.fields, **special}
        yield Cell(row.name, column.name, fields, figure, row.missing or column.missing)

  def varied(self) -> set[str]:
    """The fields that tell rows or columns apart."""
    return set().union(*(line.fields for line in (*self.rows, *self.columns)))


def line(*labels: str, fields: Fields | None = None, name: str = "", missing: str = "") -> Line:
  """A row or column; without a `name` it is chosen by its labels."""
  return Line(labels, fields or {}, name or slug(" ".join(labels)), missing)


def slug(text: str) -> str:
  """A text in lower case, with hyphens for all that is neither letter nor digit."""
  return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def figures(text: str) -> tuple[tuple[Figure | None, ...], ...]:
  """Reads the figures of a table: a line a row, `91.7±0.5`, `91.7`, `-` or `?` a cell.

  `-`: the paper has no such experiment; `?`: it has, but prints no figure.
  """
  return tuple(tuple(map(_figure, row.split())) for row in text.strip().splitlines())


def _figure(text: str) -> Figure | None:
  if text == "-":
    return None
  if text == "?":
    return DRAWN
  mean, _, std = text.partition("±")
  return Figure(float(mean), float(std) if std else None)


def choose(what: str, lines: Sequence[Line], names: Sequence[str] | None) -> set[str]:
  """The names of the lines that are asked for.

  Args:
    what: the flag, for errors.
    lines: the rows or columns of a table.
    names: as a user writes them; `mnist` means `mnist-1`, `mnist-10` and so on, unless a line has
      that very name. None: all.

  Raises:
    UserError: no line has such a name, or none is named.
  """
  known = [line.name for line in lines]
  if names is None:
    return set(known)
  if not names:
    raise UserError(f"{what}: none given; choose from {', '.join(known)}")
  chosen = {name: _named(slug(name), known) for name in names}
  for name, found in chosen.items():
    if not found:
      raise UserError(f"{what}: unknown '{name}'; {nearest(slug(name), known)}")
  return {name for found in chosen.values() for name in found}


def _named(name: str, known: Sequence[str]) -> list[str]:
  """The line of a name, or else those whose names begin with it."""
  return [name] if name in known else [k for k in known if k.startswith(f"{name}-")]
