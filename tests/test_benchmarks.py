"""The benchmarks' arithmetic and tables; nothing is timed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dcjax.config
from benchmarks import budget, jax_parts, problem, profile, report, streaming
from benchmarks.process import Process
from dcjax.commands.condense import condense
from tests.runs import tiny

FOLDER = Path(report.__file__).parent
MEMORY = {"data": 2**20, "prepared": 3 * 2**20, "peak": 6 * 2**20}
ROW = {
  "label": "DC, CIFAR-10",
  "ratios": [2.0, 1.5, 2.5],
  "ratio": 2.0,
  "median_seconds": {"dcjax": 1.5, "torch": 3.0},
  "prepare_seconds": {"dcjax": 6.0, "torch": 0.0},
  "flops": {"dcjax": 2e11, "torch": 1e11},
  "share_of_product": {"dcjax": 0.5, "torch": 0.25},
  "product_flops": 4e11,
  "bytes": {"dcjax": 4e9, "torch": 2e9},
  "share_of_copy": {"dcjax": 0.4, "torch": 0.2},
  "copy_bytes": 1e10,
  "memory": {"dcjax": MEMORY, "torch": MEMORY},
  "disturbed": [],
  "about": {
    "dcjax": {"backend": "cpu", "device": "cpu", "version": "1"},
    "torch": {"version": "2"},
  },
}
HARDWARE = {"cpu": "a processor", "cores": 2, "environment": {}, "date": "a day"}


def test_a_row_has_ratio_rates_and_memory():
  results = {
    "hardware": HARDWARE,
    "arguments": {"rounds": 3, "torch_block": 0},
    "rows": [ROW],
  }
  _, _, row, _, measured_with = report.table(results).splitlines()
  assert row == (
    "| DC, CIFAR-10 | 2.00 (1.50..2.50) | 1.5, 3 | 6.0 | 200, 100 (50%, 25% of 400) "
    "| 4, 2 (40%, 20% of 10) | 6 (1 + 2 + 3) | 6 (1 + 2 + 3) |"
  )
  assert "PyTorch 2 takes all images" in measured_with


def test_compiled_pytorch_has_a_table_of_its_own():
  compiled = ROW | {
    "label": "DM",
    "ratios_compiled": [1.0, 1.5, 3.0],
    "median_seconds": ROW["median_seconds"] | {report.COMPILED: 2.0},
    "prepare_seconds": ROW["prepare_seconds"] | {report.COMPILED: 40.0},
    "memory": ROW["memory"] | {report.COMPILED: MEMORY},
  }
  results = {
    "hardware": HARDWARE,
    "arguments": {"rounds": 3, "torch_block": 0},
    "rows": [ROW, compiled],
  }
  eager, beside, measured_with = report.table(results).split("\n\n")
  assert len(eager.splitlines()) == 4 and measured_with.startswith("a processor")
  assert beside.splitlines()[2:] == ["| DM | 1.50 (1.00..3.00) | 2 | 40.0 | 6 (1 + 2 + 3) |"]


def test_the_fastest_pytorch_has_a_table_of_its_own():
  ways = {
    "torch": [2.0, 2.5, 3.0], report.COMPILED: [1.5, 1.6, 1.7], "blocks of 16": [1.2, 1.4, 1.9],
  }  # fmt: skip
  results = {
    "hardware": HARDWARE,
    "arguments": {"rounds": 3, "torch_block": 0},
    "rows": [ROW, ROW | {"label": "DM", "ratios_of": ways}],
  }
  _, best, _ = report.table(results).split("\n\n")
  assert best.splitlines()[2:] == [
    "| DM | blocks of 16 | 1.40 (1.20..1.90) | eager 2.50, torch.compile 1.60, blocks of 16 1.40 |"
  ]


def test_a_process_may_have_an_environment_of_its_own():
  worker = Process("tests.test_benchmarks", environment={"DCJAX_TOLD": "yes"})
  try:
    assert worker.call("told") == "yes" and "DCJAX_TOLD" not in os.environ
  finally:
    worker.close()


class Worker:
  """What a process of the benchmarks runs."""

  def told(self):
    return os.environ.get("DCJAX_TOLD")


def test_a_profile_sums_operations_by_kind():
  def event(name, micros):
    return {"ph": "X", "dur": micros, "args": {"hlo_op": name}}

  events = [
    {"displayTimeUnit": "ns"},
    event("while.3", 9e6),
    event("dot.1", 2e6),
    event("dot.12", 4e6),
    event("add", 1e6),
  ]
  kinds = profile.summed([*events, {"ph": "M", "args": {"name": "thread"}}], steps=2)
  assert kinds == {"dot": (3.0, 1), "add": (0.5, 0)}
  assert "| dot | 86% | 3.00 | 1 |" in profile.table(kinds)


def test_growth_is_beside_the_first_row_of_an_axis():
  rows = [
    {
      "axis": axis,
      "label": "DC",
      "setting": {"problem": "dc"},
      "seconds": 1.0,
      "flops": flops,
      "compile": 2.0,
      "memory": MEMORY,
      "disturbed": [],
      "about": ROW["about"],
    }
    for axis, flops in (("ipc", 4e11), ("ipc", 2e11), ("side", 1e11))
  ]
  results = {"hardware": HARDWARE, "arguments": {"rounds": 3}, "rows": rows}
  table = report.render(results).splitlines()[2:5]
  assert [line.split(" | ")[3] for line in table] == ["1.00", "2.00", "1.00"]


def test_choices_are_all_others_than_the_default():
  (setting,) = problem.settings(["dm"], 64)
  default = {
    "convolution": "winograd", "class_map": "scan", "image_block": 16, "first_block": 8
  }  # fmt: skip
  found = problem.choices(setting, default)
  assert {name: variant.strategy for name, variant in found.items()} == {
    "convolution=lax": (("convolution", "lax"),),
    "convolution=patches": (("convolution", "patches"),),
    "class_map=vmap": (("class_map", "vmap"),),
    "image_block=0": (("image_block", 0),),
    "image_block=8": (("image_block", 8),),
    "image_block=32": (("image_block", 32),),
    "precision=bfloat16": (),
  }
  assert found["precision=bfloat16"].precision == "bfloat16"
  assert jax_parts.strategy(found["image_block=8"]).image_block == 8
  matching = problem.choices(setting._replace(problem="dc"), default)
  assert set(matching) - set(found) == {"first_block=0", "first_block=4"}


def test_a_choice_is_beside_the_default():
  row = {
    "label": "DM", "choice": "image_block=8", "seconds": 2.0, "ratios": [2.0, 1.5, 2.5],
    "compile": 3.0, "memory": MEMORY, "disturbed": [], "about": ROW["about"],
  }  # fmt: skip
  results = {"hardware": HARDWARE, "arguments": {"rounds": 3}, "rows": [row]}
  line = report.render(results).splitlines()[2]
  assert line == "| DM | image_block=8 | 2 | 2.00 (1.50..2.50) | 3.0 | 6 (1 + 2 + 3) |"


@pytest.mark.parametrize("method", ["dc", "dsa", "dm", "idc", "idm"])
def test_arithmetic_and_traffic_grow_with_the_number_of_classes(method):
  few, many = (s for axis, s in problem.along_axes(method) if axis == "classes")
  growth = many.classes / few.classes
  # A linear layer of more classes, and IDC's training whatever their number.
  assert problem.traffic(few) < problem.traffic(many) <= growth * problem.traffic(few)
  assert (
    problem.arithmetic(few) < problem.arithmetic(many) < 1.01 * growth * problem.arithmetic(few)
  )


@pytest.mark.parametrize("file", sorted(FOLDER.glob("results/*.json")), ids=lambda file: file.stem)
def test_the_page_has_the_tables_of_the_files(file):
  table = report.render(json.loads(file.read_text()))
  assert table in (FOLDER / "README.md").read_text()


def test_the_results_have_the_short_table():
  results = json.loads((FOLDER / "results" / "cpu.json").read_text())
  assert report.short_table(results) in (FOLDER.parent / "docs" / "results.md").read_text()


@pytest.mark.parametrize("ipc", [1, 10])
@pytest.mark.parametrize("method", budget.PRESETS)
def test_what_is_condensed_for_a_time_is_a_config(method, ipc):
  config = dcjax.config.resolve(budget.preset(method, ipc, 64))
  assert config.ipc == ipc and (method in budget.OWN_BATCH or config.batch_real == 64)
  if "experts" in config:
    assert config.start.most - 1 + config.expert_epochs <= config.experts.epochs


@pytest.mark.slow
def test_a_timed_run_ends_before_its_time_is_over(tmp_path):
  config = budget.preset("dm", 1, 4)
  config.dataset.name, config.iterations = "digits", budget.FOREVER
  config.network.update({"width": 8, "depth": 2})
  config.evaluation.networks = 0
  summary = condense(config, tmp_path / "run", seconds=1.0)
  assert 1 <= summary["iterations"] < budget.FOREVER
  assert summary["seconds"]["condense"] < 2


def test_a_run_from_disk_is_compared_with_one_in_memory(tmp_path):
  for name in ("a", "b"):
    for split in ("train", "val"):
      (tmp_path / split / name).mkdir(parents=True)
      for number in range(4):
        pixels = np.full((8, 8, 3), 60 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
  config = tiny(
    "dm", dataset__name="folder", dataset__data_dir=str(tmp_path), dataset__side=8, batch_real=2,
    dataset__cache_dir=str(tmp_path / "cache"), dsa__strategy="flip", iterations=2,
    evaluation__networks=0, compute__workers=0,
  )  # fmt: skip
  row = streaming.compared(config, tmp_path / "runs")
  assert row["difference"] < 1e-5 and "wait" in row["seconds"]["disk"]
  assert streaming.table([row]).splitlines()[-1].startswith("| dm | 2 | ")
