"""What is recorded in `results/` is indexed; tables in docs are made from that and from presets."""

import json
from datetime import date

from benchmarks import records, settings

OTHERS = {"quickstart", "method"}  # presets of no paper
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


def test_the_docs_show_the_settings_of_the_presets():
  text = settings.DOCS.read_text()
  assert settings.filled(text) == text, "run python -m benchmarks.settings"
  assert "| `lr_network` | 0.01 | eta_theta" in text
  for preset in {path.stem for path in (records.ROOT / "configs").glob("[a-z]*.py")} - OTHERS:
    assert f"(../configs/{preset}.py)" in text
