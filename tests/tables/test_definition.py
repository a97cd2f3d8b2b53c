"""How tables are written down, and how rows and columns are chosen."""

import pytest

from dcjax.common.errors import UserError
from dcjax.tables.definition import DRAWN, Figure, Table, choose, figures, line, slug

LINES = (
  line("MNIST", "1"), line("MNIST", "10"), line("K-Center"), line("(A)"), line("IDC"),
  line("IDC-I"),
)  # fmt: skip


def test_figures_are_read_as_they_are_printed():
  assert figures("\n 91.7±0.5 -\n 8.2±11.6 99.6\n ? -\n") == (
    (Figure(91.7, 0.5), None),
    (Figure(8.2, 11.6), Figure(99.6, None)),
    (DRAWN, None),
  )


def test_fields_of_a_cell():
  table = Table(
    name="x",
    title="",
    headings=("",),
    base={"method": "dc", "ipc": 1, "seed": 1},
    rows=(line("a", fields={"ipc": 2, "seed": 2}), line("b", missing="b")),
    columns=(line("A", fields={"seed": 3}), line("B", fields={"iterations": 1})),
    figures=figures("1.0±0.0 -\n2.0±0.0 3.0±0.0"),
    special={("a", "b"): {"ipc": 4, "lr_image": 0.1}},
  )
  first, second, third, _ = table.cells()
  assert first.fields == {"method": "dc", "ipc": 2, "seed": 3} and first.runnable
  assert second.fields == {
    "method": "dc", "ipc": 4, "seed": 2, "iterations": 1, "lr_image": 0.1,
  }  # fmt: skip
  assert second.paper is None and not second.runnable
  assert (third.row, third.column, third.missing) == ("b", "a", "b")
  assert not third.runnable
  assert table.varied() == {"ipc", "seed", "iterations"}


@pytest.mark.parametrize(
  ("names", "chosen"),
  [
    (None, {"mnist-1", "mnist-10", "k-center", "a", "idc", "idc-i"}),
    (["mnist"], {"mnist-1", "mnist-10"}),
    (["MNIST 1"], {"mnist-1"}),
    (["K-Center", "(A)"], {"k-center", "a"}),
    (["IDC"], {"idc"}),
  ],
)
def test_lines_are_chosen_by_name(names, chosen):
  assert choose("--rows", LINES, names) == chosen


@pytest.mark.parametrize(
  ("names", "message"),
  [
    (["minst-1"], "--rows: unknown 'minst-1'; did you mean 'mnist-1'?"),
    ([""], "--rows: unknown ''; choose one of"),
    ([], "--rows: none given; choose from mnist-1, mnist-10, k-center, a, idc, idc-i"),
  ],
)
def test_lines_that_are_not_there(names, message):
  with pytest.raises(UserError) as caught:
    choose("--rows", LINES, names)
  assert message in str(caught.value)


def test_slug():
  assert slug("convnet:norm=batch") == "convnet-norm-batch" and slug("(A)") == "a"
