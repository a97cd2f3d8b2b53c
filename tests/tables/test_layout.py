"""Markdown and CSV of a table, against what was written down by hand."""

from dcjax.tables.definition import Table, figures, line
from dcjax.tables.layout import Result, comma_separated, markdown

TABLE = Table(
  name="x/1",
  title="X, Table 1: an example",
  headings=("Dataset", "Img/Cls"),
  base={"method": "dc"},
  rows=(line("MNIST", "1"), line("MNIST", "10"), line("CIFAR10", "1", missing="Net is not here")),
  columns=(line("Ours"), line("DD", missing="DD is not here")),
  figures=figures("""
    50.0±1.5 -
    60.0±0.0 79.5±8.1
    70.0±0.2 -
  """),
)
# 0.4, 0.5, 0.5, 0.6: mean 50, variance (100 + 0 + 0 + 100) / 4 = 50 in percent squared.
RESULTS = {
  ("mnist-1", "ours"): Result((0.4, 0.5, 0.5, 0.6), 2, 2, "dc", 300, "none"),
  ("mnist-10", "ours"): Result((0.59996,), 1, 2, "dc", 1000, "dc"),
}


def test_markdown():
  expected = [
    "# X, Table 1: an example",
    "",
    "Not as in the paper: 2 sets.",
    "",
    "| Dataset | Img/Cls | Ours" + " " * 44 + " | DD" + " " * 32 + " |",
    "|---------|---------|" + "-" * 50 + "|" + "-" * 36 + "|",
    "| MNIST   | 1       | 50.0 ± 7.1 (paper 50.0 ± 1.5, +0.0)"
    + " " * 13
    + " | -"
    + " " * 33
    + " |",
    "| MNIST   | 10      | 60.0 ± 0.0, 1 of 2 sets (paper 60.0 ± 0.0, +0.0)"
    " | not implemented (paper 79.5 ± 8.1) |",
    "| CIFAR10 | 1       | not implemented (paper 70.0 ± 0.2)"
    + " " * 14
    + " | -"
    + " " * 33
    + " |",
    "",
    "Test accuracy (%) after the last epoch: mean ± standard deviation over all networks of all "
    "sets (the paper's figure, difference of the means). not implemented: DD is not here; Net is "
    "not here. -: the paper has no figure.",
    "",
  ]
  assert markdown(TABLE, RESULTS, "Not as in the paper: 2 sets.").split("\n") == expected


def test_nothing_that_was_not_run_has_a_number():
  text = markdown(TABLE, {})
  assert "not run (paper 50.0 ± 1.5)" in text and "Not as in" not in text
  assert "sets (the paper's" in text and "1 of 2" not in text


def test_csv():
  assert (
    comma_separated(TABLE, RESULTS)
    == """\
table,row,column,mean,std,sets,networks,paper_mean,paper_std,difference,status,protocol,epochs,augmentation
x/1,mnist-1,ours,50.0,7.1,2,2,50.0,1.5,0.0,done,dc,300,none
x/1,mnist-1,dd,,,,,,,,-,,,
x/1,mnist-10,ours,60.0,0.0,1,1,60.0,0.0,0.0,partial,dc,1000,dc
x/1,mnist-10,dd,,,,,79.5,8.1,,not implemented,,,
x/1,cifar10-1,ours,,,,,70.0,0.2,,not implemented,,,
x/1,cifar10-1,dd,,,,,,,,-,,,
"""
  )


def test_a_paper_without_deviations():
  table = TABLE._replace(figures=figures("82.9 -\n60.0 -\n70.0 -"))
  assert "| 50.0 ± 7.1 (paper 82.9, -32.9) " in markdown(table, RESULTS)
  lines = comma_separated(table, RESULTS).splitlines()
  assert lines[1] == "x/1,mnist-1,ours,50.0,7.1,2,2,82.9,,-32.9,done,dc,300,none"


def test_the_difference_is_that_of_the_printed_figures():
  result = Result((0.9114,), 1, 1, "dc", 300, "none")
  assert "(paper 50.0 ± 1.5, +41.1)" in markdown(TABLE, {("mnist-1", "ours"): result})
  result = Result((0.4996, 0.4994), 1, 1, "dc", 300, "none")  # 49.95 is printed as 50.0 or 49.9
  (record,) = (
    row.split(",")
    for row in comma_separated(TABLE, {("mnist-1", "ours"): result}).splitlines()
    if row.startswith("x/1,mnist-1,ours")
  )
  assert round(float(record[3]) - float(record[7]), 1) == float(record[9])
