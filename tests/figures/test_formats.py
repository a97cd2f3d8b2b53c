"""Pages of tables in each format, with names that mean something to it."""

import csv
import html
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from dcjax.figures import formats
from dcjax.figures.formats import Grid, Page

HOSTILE = [
  "<script>alert(1)</script>", "a|b", r"\input{/etc/passwd}", "=1+1", "+x", "-x", "@SUM(A1)",
  "50 % & $5 #1_a {b} ~c ^d", '"quoted", with \'commas\'', "{{ 7 * 7 }}", "[2cm] *", "two\nlines",
  "\t=1+1", "nothing\u202eseen\x00\x1b[1m", "12.3 ± 0.4 (-1.5)", "-32.9", "-", "</table>", "猫",
]  # fmt: skip
PAGE = Page("A & B: 100 %", [
  "First <b>line</b>.\nSecond, [with] 5 % & more.",
  Grid([("set", "last (%)"), *((name, "1.0") for name in HOSTILE)]),
  Grid([("a",), ("b",)], align="left"),
])  # fmt: skip


class Reader(HTMLParser):
  """Collects the cells and the elements of a page."""

  def __init__(self):
    super().__init__()
    self.elements, self.attributes, self.cells, self._open = [], set(), [], False

  def handle_starttag(self, tag, attrs):
    self.elements.append(tag)
    self.attributes.update(name for name, _ in attrs)
    if tag == "td":
      self.cells.append("")
    self._open = tag == "td"

  def handle_endtag(self, tag):
    self._open = False

  def handle_data(self, data):
    if self._open:
      self.cells[-1] += data


def seen(text):
  """A text as all formats show it."""
  return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def test_html_shows_names_and_has_no_script():
  text = formats.html(PAGE)
  reader = Reader()
  reader.feed(text)
  assert reader.cells[:-1:2] == list(map(seen, HOSTILE))
  known = "html meta title style h1 p br div table thead tr th tbody td"
  assert set(reader.elements) == set(known.split())
  assert "First &lt;b&gt;line&lt;/b&gt;.<br>\nSecond" in text
  assert "<title>A &amp; B: 100 %</title>" in text and "color-scheme: light dark" in text
  assert reader.attributes == {"lang", "charset", "name", "http-equiv", "content", "class", "scope"}


def test_markdown_shows_names_in_one_cell_each():
  text = formats.markdown(PAGE)
  assert "<script" not in text.replace("\\<", "") and "First \\<b>line\\</b>.  \nSecond" in text
  rows = [line for line in text.splitlines() if line.startswith("| ")]
  assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {2, 3}
  assert text.startswith("# A & B: 100 %\n\nFirst")
  assert len(rows) == 1 + len(HOSTILE) + 2


def test_csv_is_read_back_and_computes_nothing():
  records = [("set", "note"), *((name, "1.0") for name in HOSTILE)]
  rows = list(csv.reader(io.StringIO(formats.comma_separated(records))))
  assert rows[0] == ["set", "note"] and len(rows) == len(records)
  for name, (cell, number) in zip(HOSTILE, rows[1:], strict=True):
    assert cell.removeprefix("'") == seen(name) and number == "1.0"
    assert cell[0] not in "=+@" and (cell[0] != "-" or cell in ("-", "-32.9"))


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("50 % & $5 #1_a", r"50 \% \& \$5 \#1\_a"),
    ("{b} ~c ^d", r"\{b\} \textasciitilde{}c \textasciicircum{}d"),
    (r"\input", r"\textbackslash{}input"),
    ("45.0 ± 0.3 (paper 48, -3.0)", r"45.0 $\pm$ 0.3 (paper 48, $-$3.0)"),
    ("[2cm] *", "{[}2cm{]} {*}"),
    ("<a|b>", r"\textless{}a\textbar{}b\textgreater{}"),
    ("mtt-10", "mtt-10"),
  ],
)
def test_latex_escapes(text, expected):
  assert f"{expected} & x \\\\" in formats.latex(Page("", [Grid([("a", "b"), (text, "x")])]))


def test_latex_is_a_table_of_booktabs():
  text = formats.latex(PAGE)
  for rule in ("top", "mid", "bottom"):
    assert text.count(f"\\{rule}rule\n") == 2
  assert "\\begin{tabular}{rr}" in text and "\\begin{tabular}{l}" in text
  assert "\\caption{A \\& B: 100 \\%}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs TeX")
def test_tex_takes_it(tmp_path):
  shown = [name for name in HOSTILE if name.isascii() or "±" in name]
  page = PAGE._replace(blocks=[PAGE.blocks[0], Grid([("a",), *((name,) for name in shown)])])
  document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n%s\\end{document}\n"
  (tmp_path / "a.tex").write_text(document % formats.latex(page))
  command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
  assert done.returncode == 0, done.stdout[-2000:]


def test_all_files_are_written(tmp_path):
  text = formats.write(tmp_path, PAGE, [("a", "b"), ("1", "2")])
  names = sorted(file.name for file in tmp_path.iterdir())
  assert names == ["table.csv", "table.html", "table.md", "table.tex"]
  assert (tmp_path / "table.md").read_text() == text
  assert (tmp_path / "table.csv").read_text() == "a,b\n1,2\n"
  assert html.unescape((tmp_path / "table.html").read_text()).count("50 % & $5") == 1
