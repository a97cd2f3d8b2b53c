"""The recorded runs that `results/index.json` lists, and the docs' tables of them.

python -m benchmarks.records

Writes the tables into `docs/results.md`, between its marks.
"""

import json
from pathlib import Path
from typing import Any

from absl import app

from dcjax.figures import markdown
from dcjax.figures.accuracies import percent

ROOT = Path(__file__).resolve().parent.parent
INDEX, DOCS = ROOT / "results" / "index.json", ROOT / "docs" / "results.md"
MARKS = "<!-- {} -->", "<!-- end of {} -->"


def index() -> list[dict[str, Any]]:
  """The records, one for each folder of `results/`.

  Each has `name` (the folder), `shows`, `recorded` (a date), `hardware`, `jax`, `seeds`,
  `commands`, `files`, and `changed_since`: what of it a default would now do otherwise, and the
  fields that do it as it was; empty if nothing. Those with a `comparison`, the figures of others,
  are single runs, and have a `summary.json`.
  """
  return json.loads(INDEX.read_text())


def runs(records: list[dict[str, Any]]) -> str:
  """The table of single runs, whose figures are those of their summaries."""
  rows = [("run", "condensed (%)", "random real (%)", "for comparison (%)")]
  for record in records:
    if "comparison" in record:
      file = INDEX.parent / record["name"] / "summary.json"
      found = {each["set"]: each for each in json.loads(file.read_text())["evaluations"]}
      figures = (
        percent(found[name]["last_mean"], found[name]["last_std"])
        for name in ("synthetic", "random")
      )
      link = f"{record['shows']} ([summary](../results/{record['name']}/summary.json))"
      rows.append((link, *figures, record["comparison"]))
  return markdown.table(rows, align="left")


def versions(records: list[dict[str, Any]]) -> str:
  """When each was recorded, and what has changed since."""
  rows = [("folder of results/", "recorded", "what is done otherwise by default since")]
  rows += [(each["name"], each["recorded"], each["changed_since"] or "-") for each in records]
  return markdown.table(rows, align="left")


def filled(text: str, records: list[dict[str, Any]]) -> str:
  """The docs with both tables between their marks."""
  for name, table in (("runs", runs(records)), ("versions", versions(records))):
    begin, end = (mark.format(name) for mark in MARKS)
    before, rest = text.split(begin)
    text = f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
  return text


def main(argv: list[str]) -> None:
  """Writes the docs' tables anew."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument {argv[1]!r}")
  DOCS.write_text(filled(DOCS.read_text(), index()))


if __name__ == "__main__":
  app.run(main)
