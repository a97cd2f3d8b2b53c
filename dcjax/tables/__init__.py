"""The tables of the papers as data, what an experiment of each cell is, and how they are shown."""

from dcjax.tables import dc, dsa, idc
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

TABLES: dict[str, Table] = {table.name: table for table in (*dc.TABLES, *dsa.TABLES, *idc.TABLES)}
