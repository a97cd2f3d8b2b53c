"""A page of tables as Markdown, HTML, LaTeX and CSV.

Names of classes and sets may be anybody's. Each becomes one line of visible characters, and each
format then shows it and does not obey it: `<script>`, `|`, `\\input` and `=1+1` are text.
"""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jinja2

from dcjax.figures import markdown as markdown_lib
from dcjax.run.workdir import write_text

_TEX = str.maketrans(
  {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # arguments, behind a row's end
  }
)
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
# What a spreadsheet would compute; "-" alone is none.
_FORMULA = re.compile("[=+@-].")
_HTML = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
h1 { font-size: 1.3rem }
div { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
thead, tbody { border-bottom: 1px solid }
thead { border-top: 2px solid }
tbody { border-bottom-width: 2px }
th, td { padding: .2rem .7rem; text-align: inherit; vertical-align: top }
.left { text-align: left }
.right { text-align: right }
@media screen { td { white-space: nowrap } }
@media print { body { margin: 0; max-width: none; font-size: 9pt } div { overflow: visible } }
</style>
<h1>{{ title }}</h1>
{% for block in blocks %}
{% if block is string %}
<p>
{% for line in block.splitlines() %}
{{ line }}{% if not loop.last %}<br>{% endif %}

{% endfor %}
</p>
{% else %}
<div><table class="{{ block.align }}">
<thead><tr>{% for cell in block.rows[0] %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in block.rows[1:] %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endif %}
{% endfor %}
</html>
""")


class Grid(NamedTuple):
  """A table.

  Attributes:
    rows: of texts; the first is the head.
    align: of all columns.
  """

  rows: Sequence[Sequence[str]]
  align: Literal["left", "right"] = "right"


class Page(NamedTuple):
  """Tables and what is said of them.

  Attributes:
    title: one line.
    blocks: tables, and paragraphs, which may have several lines.
  """

  title: str
  blocks: Sequence[Grid | str]


def write(folder: Path, page: Page, records: Sequence[Sequence[str]]) -> str:
  """Writes `table.md`, `table.html`, `table.tex` and `table.csv`, each whole or not at all.

  Args:
    folder: which is there.
    page: what people read.
    records: the same for programs, a row for each line of the CSV, the head first.

  Returns:
    The Markdown.
  """
  text = markdown(page)
  write_text(folder / "table.md", text)
  write_text(folder / "table.html", html(page))
  write_text(folder / "table.tex", latex(page))
  write_text(folder / "table.csv", comma_separated(records))
  return text


def markdown(page: Page) -> str:
  """A page as Markdown that also reads well as plain text; no `<` begins HTML."""
  title, blocks = _visible(page)
  parts = [
    markdown_lib.plain(block).replace("\n", "  \n")
    if isinstance(block, str)
    else markdown_lib.table(*block)
    for block in blocks
  ]
  return "\n\n".join([f"# {markdown_lib.plain(title)}", *parts]) + "\n"


def html(page: Page) -> str:
  """A page as HTML that needs nothing else, has no script, and follows light and dark."""
  return _HTML.render(_visible(page)._asdict())


def latex(page: Page) -> str:
  r"""A page as a float for `\input`, of a document that uses the package booktabs."""
  title, blocks = _visible(page)
  lines = [r"% Needs \usepackage{booktabs}.", r"\begin{table}", r"\centering"]
  lines.append(rf"\caption{{{_tex(title)}}}")
  for block in blocks:
    lines += _tex_paragraph(block) if isinstance(block, str) else _tabular(block)
  return "\n".join([*lines, r"\end{table}"]) + "\n"


def _tex_paragraph(text: str) -> list[str]:
  lines = "\\\\\n".join(map(_tex, text.splitlines()))
  return [r"\par\smallskip", rf"{{\footnotesize\raggedright {lines}\par}}"]


def _tabular(grid: Grid) -> list[str]:
  head, *body = [" & ".join(map(_tex, row)) + r" \\" for row in grid.rows]
  columns = grid.align[0] * len(grid.rows[0])
  return [
    rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule",
    r"\end{tabular}",
  ]  # fmt: skip


def _tex(text: str) -> str:
  """A text as TeX prints it, with a minus where a number has one."""
  return _MINUS.sub("$-$", text.translate(_TEX))


def comma_separated(records: Sequence[Sequence[str]]) -> str:
  """Rows as CSV; a text that a spreadsheet would compute has a `'` before it."""
  stream = io.StringIO()
  writer = csv.writer(stream, lineterminator="\n")
  writer.writerows([_inert(_line(cell)) for cell in row] for row in records)
  return stream.getvalue()


def _inert(text: str) -> str:
  return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True


def _visible(page: Page) -> Page:
  """A page whose cells are one line each, without characters that cannot be seen."""
  return Page(
    _line(page.title),
    [
      "\n".join(map(_line, block.splitlines()))
      if isinstance(block, str)
      else block._replace(rows=[[_line(cell) for cell in row] for row in block.rows])
      for block in page.blocks
    ],
  )


def _line(text: str) -> str:
  """One line of a text, without what cannot be seen."""
  return " ".join("".join(c if c.isprintable() else " " for c in text).split())
