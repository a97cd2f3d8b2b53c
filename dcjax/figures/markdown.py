"""Markdown tables that also read well as plain text."""

from collections.abc import Sequence
from typing import Literal


def table(rows: Sequence[Sequence[str]], align: Literal["left", "right"] = "right") -> str:
  """A table of cells, padded to columns; the first row is its head."""
  escaped = [[plain(cell).replace("|", "\\|") for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
  pad = str.ljust if align == "left" else str.rjust
  head, *body = [" | ".join(map(pad, row, widths)) for row in escaped]
  rule = "|".join("-" * (width + 1) + ("-" if align == "left" else ":") for width in widths)
  return "\n".join([f"| {head} |", f"|{rule}|", *(f"| {line} |" for line in body)])


def plain(text: str) -> str:
  """A text in which no HTML begins."""
  return text.replace("<", "\\<")
