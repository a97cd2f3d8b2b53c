"""Markdown and CSV of a table, against what was written down by hand."""

from dcjax.tables.definition import TOP, WHOLE, Table, figures, line
from dcjax.tables.layout import Result, comma_separated, markdown

TABLE = Table(
  name="x/1",
  title="X, Table 1: an example",
  headings=("Dataset", "Img/Cls"),
  base={"method": "dc"},
  rows=(line("MNIST", "1"), line("MNIST", "10"), line("CIFAR10", "1", missing="Net")),
  columns=(line("Ours"), line("DD", missing="DD")),
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
    "| Dataset | Img/Cls | Ours" + " " * 44 + " | DD" + " " * 29 + " |",
    "|---------|---------|" + "-" * 50 + "|" + "-" * 33 + "|",
    "| MNIST   | 1       | 50.0 ± 7.1 (paper 50.0 ± 1.5, +0.0)"
    + " " * 13
    + " | -"
    + " " * 30
    + " |",
    "| MNIST   | 10      | 60.0 ± 0.0, 1 of 2 sets (paper 60.0 ± 0.0, +0.0)"
    " | not in dcjax (paper 79.5 ± 8.1) |",
    "| CIFAR10 | 1       | not in dcjax (paper 70.0 ± 0.2)" + " " * 17 + " | -" + " " * 30 + " |",
    "",
    "Test accuracy (%) after the last epoch: mean ± standard deviation over all networks of all "
    "sets (the paper's figure, difference of the means). not in dcjax: DD; Net. -: the paper has "
    "no figure.",
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
x/1,mnist-10,dd,,,,,79.5,8.1,,not in dcjax,,,
x/1,cifar10-1,ours,,,,,70.0,0.2,,not in dcjax,,,
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


def test_a_figure_that_the_paper_draws_is_run_and_shown_without_a_difference():
  table = TABLE._replace(figures=figures("? -\n? -\n? -"), note="By us.")
  text = markdown(table, RESULTS)
  assert "| 50.0 ± 7.1 (paper -) " in text and "| not in dcjax (paper -) " in text
  assert text.endswith(
    "-: the paper has no figure. paper -: no number can be read in the paper's text.\n\nBy us.\n"
  )
  assert "x/1,mnist-1,ours,50.0,7.1,2,2,,,,done,dc,300,none" in comma_separated(table, RESULTS)
  assert "not run (paper -)" in markdown(table, {})


def test_what_a_table_has_of_special_cells_is_explained():
  base = {"method": "optimal_random", TOP: 10}
  assert "Top n: the n best of as many" in markdown(TABLE._replace(base=base), {})
  assert "Whole Dataset: one set" in markdown(TABLE._replace(base={"method": WHOLE}), {})
  assert "one set" not in markdown(TABLE, {}) and "Top n" not in markdown(TABLE, {})
