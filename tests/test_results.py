"""What is recorded in `results/` is indexed, and the docs' tables are made from that."""

import json
from datetime import date

from benchmarks import records

FIELDS = {"name", "shows", "recorded", "hardware", "jax", "seeds", "commands", "files"}


def test_every_folder_is_indexed_with_its_files():
  found = {each["name"]: each for each in records.index()}
  folders = {path.name for path in records.INDEX.parent.iterdir() if path.is_dir()}
  assert set(found) == folders
  for name, record in found.items():
    assert record.keys() >= FIELDS and record["commands"] and record["seeds"]
    assert date.fromisoformat(record["recorded"])
    files = {path.name for path in (records.INDEX.parent / name).iterdir()}
    assert files == set(record["files"])


def test_the_docs_show_what_is_recorded():
  text = records.DOCS.read_text()
  assert records.filled(text, records.index()) == text
  summary = json.loads((records.INDEX.parent / "dc-mnist-ipc1" / "summary.json").read_text())
  accuracy = 100 * summary["evaluations"][0]["last_mean"]
  assert f"| {accuracy:.1f} ± " in text.split("<!-- end of runs -->")[0]
