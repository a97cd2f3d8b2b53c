"""The tables of the papers as data, what an experiment of each cell is, and how they are shown."""

from dcjax.tables import dc, dm, dsa, idc, idc_appendix, idm
from dcjax.tables.definition import Cell, Figure, Line, Table
from dcjax.tables.layout import Result, comma_separated, markdown

__all__ = [
  "TABLES",
  "Cell",
  "Figure",
  "Line",
  "Result",
  "Table",
  "comma_separated",
  "markdown",
]

_PAPERS = (dc, dsa, dm, idc, idc_appendix, idm)
TABLES: dict[str, Table] = {table.name: table for paper in _PAPERS for table in paper.TABLES}
