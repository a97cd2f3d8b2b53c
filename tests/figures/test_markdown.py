"""Markdown tables."""

import pytest

from dcjax.figures import markdown

ROWS = [("a", "second"), ("x|y", "1")]


def test_cells_are_aligned_and_bars_escaped():
  lines = ["|    a | second |", "|-----:|-------:|", "| x\\|y |      1 |"]
  assert markdown.table(ROWS).splitlines() == lines
  lines = ["| a    | second |", "|------|--------|", "| x\\|y | 1      |"]
  assert markdown.table(ROWS, "left").splitlines() == lines


def test_a_row_with_a_cell_missing_is_an_error():
  with pytest.raises(ValueError, match="shorter"):
    markdown.table([*ROWS, ("z",)])


def test_a_head_alone_is_a_table():
  assert markdown.table([("a",)]) == "| a |\n|--:|"
