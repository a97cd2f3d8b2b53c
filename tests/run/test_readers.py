"""Damaged files of runs: whatever they hold, a reader names them in one line, or does without."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dcjax.config
from dcjax import UserError
from dcjax.applications.continual import driver as continual
from dcjax.applications.continual import fields as continual_config
from dcjax.applications.nas import driver as nas
from dcjax.applications.nas import fields as nas_config
from dcjax.applications.nas import records
from dcjax.commands import plot, table
from dcjax.commands.evaluate import _unfinished
from dcjax.commands.select import tasks_left
from dcjax.commands.status import status
from dcjax.common.files import PROGRESS
from dcjax.run.readers import read_log
from dcjax.run.so_far import SoFar
from dcjax.run.workdir import Metrics, Workdir, held, write_json
from tests.runs import tiny

DEEP = 5000  # levels, of which Python's reader of JSON takes fewer
TEXTS = {
  "empty": b"",
  "no UTF-8": b"\xff\xfe{}",
  "NULs": b"\0" * 100,
  "a list": b"[]",
  "a number": b"3",
  "null": b"null",
  "no fields": b"{}",
  "deep lists": b"[" * DEEP + b"]" * DEEP,
  "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
  "objects that Python reads": b'{"a":' * 300 + b"1" + b"}" * 300,
  "a number of many digits": b"1" * 10_000,
}
VALUES = [None, True, -1, 2.5, 10**30, float("nan"), float("inf"), "x", "\x1b[2J\n", [], {}, [[]]]
EVALUATION = {
  "iteration": 2, "set": "synthetic", "network": "convnet", "protocol": "dc",
  "augmentation": "none", "cutmix": 0.0, "epochs": 2, "networks": 5, "ipc": 1, "decoded_ipc": 1,
  "last_mean": 0.5, "last_std": 0.1, "best_mean": 0.5, "best_std": 0.1,
}  # fmt: skip
SUMMARY = {
  "method": "dc", "dataset": "digits", "ipc": 1, "iterations": 2, "seconds": {"condense": 1.0},
  "evaluations": [EVALUATION, {**EVALUATION, "set": "random", "iteration": 0}],
}  # fmt: skip
LEARNED = {
  "method": "dm", "ipc": 1, "stages": ["a", "b"],
  "accuracy": {"mlp": {"mean": [0.1, 0.2], "std": [0.0, 0.0], "runs": [[0.1, 0.2]]}},
}  # fmt: skip


def damaged(content: Any):
  """Texts in place of a file's, which holds `content`: hostile, cut short, and field by field."""
  yield from TEXTS.values()
  whole = json.dumps(content).encode()
  yield from (whole[: len(whole) // 2], whole + b"}", whole * 2)
  for changed in altered(content):
    yield json.dumps(changed).encode()


def altered(content: Any):
  """Copies of a JSON value in which one field, however deep, is missing or something else."""
  yield from VALUES
  if not isinstance(content, dict | list):
    return
  for key in content if isinstance(content, dict) else range(len(content)):
    copy = content.copy()
    del copy[key]
    yield copy
    for value in altered(content[key]):
      copy = content.copy()
      copy[key] = value
      yield copy


def one_line(read: Callable[[], Any]) -> bool:
  """Whether a reader refuses a file as it must: nothing else may come out of it."""
  try:
    read()
  except UserError as error:
    assert len(str(error).splitlines()) == 1 and str(error).isprintable()
    return True
  return False


def place(file: Path, text: bytes | None) -> None:
  """Puts a text into a file, or in its place a folder."""
  shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
  file.parent.mkdir(parents=True, exist_ok=True)
  file.mkdir() if text is None else file.write_bytes(text)


@pytest.fixture
def folder(tmp_path):
  """The files of a finished run."""
  path = tmp_path / "run"
  path.mkdir()
  write_json(path / "config.json", dcjax.config.resolve(tiny(iterations=2)).to_dict())
  write_json(path / "summary.json", SUMMARY)
  write_json(path / PROGRESS, {"seconds_per_iteration": 2.0, "doing": "compiling"})
  log = [{"iteration": n, "loss": 1.0} for n in (1, 2)] + [
    {"iteration": 2, "evaluation": EVALUATION}
  ]
  (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))
  (path / "synthetic.npz").write_bytes(b"")
  return path


def status_of(path):
  return lambda: (status([path]), status([path, path]))


@pytest.mark.parametrize("name", ["config.json", "summary.json", PROGRESS])
def test_status(folder, name):
  """It tells of whatever is there, but of no run whose config it cannot read."""
  content = json.loads((folder / name).read_bytes())
  for text in (*damaged(content), None):
    place(folder / name, text)
    refused = one_line(status_of(folder))
    assert not refused or name == "config.json", text


def hostile_lines():
  record = {"iteration": 2, "loss": 1.0}
  evaluated = {"iteration": 1, "evaluation": EVALUATION}
  yield from TEXTS.values()
  yield from (json.dumps(each).encode() for each in (*altered(record), *altered(evaluated)))
  wrong_order = [
    {**record, "iteration": 1},
    {**record, "iteration": 3},
    {**evaluated, "iteration": 2},
  ]
  yield from (json.dumps(each).encode() for each in wrong_order)


def test_logs(folder):
  """A log ends where a line is not what comes next; what a run needs of it is asked for."""
  log, first = folder / "metrics.jsonl", b'{"iteration": 1, "loss": 1.0}\n'
  (folder / "summary.json").unlink()
  for line in hostile_lines():
    place(log, first + line + b'\n{"iteration": 3, "loss": 1.0}\n')
    assert not one_line(status_of(folder))
    records, left = read_log(log)
    losses = sum("loss" in record for record in records)
    assert left == 0 or losses == 1, line
    assert one_line(lambda: Metrics(log, losses + 1).close())  # noqa: B023
    place(log, first + line)
    Metrics(log, 1).close()  # what came later is taken out
    records, left = read_log(log)
    assert left == 0 and all(record["iteration"] == 1 for record in records), line
  place(log, None)
  assert not one_line(status_of(folder)) and one_line(lambda: Metrics(log, 0))


def test_configs_and_summaries_of_runs(folder):
  """What `condense` and `select` read before any work."""
  fields = dcjax.config.resolve(tiny(iterations=2)).to_dict()
  workdir = Workdir(folder)

  def of_run():
    workdir.check(fields, free=("iterations",))
    workdir.iterations_done()
    summary = workdir.summary()
    return summary and tasks_left(dcjax.config.of_file(fields), summary)

  assert not one_line(of_run)
  for name in ("config.json", "summary.json"):
    content = (folder / name).read_bytes()
    for text in (*TEXTS.values(), b"[", None):
      place(folder / name, text)
      assert one_line(of_run), text
    for text in damaged(json.loads(content)):
      place(folder / name, text)
      one_line(of_run)
    place(folder / name, content)
  for name, content in (("checkpoints", b""), ("images", b""), ("synthetic.npz", None)):
    place(folder / name, content)
    assert not one_line(status_of(folder))
    assert one_line(of_run), name
    place(folder / name, b"") if content is None else (folder / name).unlink()
  assert not one_line(of_run)
  workdir.close()


@pytest.mark.parametrize(
  ("kind", "name", "content"),
  [
    (plot.ipc, "summary.json", SUMMARY),
    (plot.stages, "summary.json", LEARNED),
    (plot.ipc, "config.json", {"method": "dc", "seed": 0}),
    (plot.stages, "config.json", {"method": "dc", "seed": 0}),
  ],
)
def test_plot(folder, monkeypatch, kind, name, content):
  monkeypatch.setattr(plot.pictures, "accuracies", lambda curves: None)
  monkeypatch.setattr(plot.forgetting, "draw", lambda runs: plot.forgetting.table(runs[0][1]))
  if kind is plot.stages and name != "summary.json":
    write_json(folder / "summary.json", LEARNED)
  write_json(folder / name, content)
  assert not one_line(lambda: kind([folder]))
  for text in (*damaged(content), None):
    place(folder / name, text)
    one_line(lambda: kind([folder]))
  for text in TEXTS.values():
    if text != b"{}":
      place(folder / name, text)
      assert one_line(lambda: kind([folder])), text


CELL = {"record": {"last": [0.5], "protocol": "dc", "epochs": 2, "augmentation": "none"}}
TRAINED = {"validation": [0.5], "test": [0.5], "seconds": [1.0], "compile_seconds": 1.0}
STAGE = {"label": "2 classes", "params": None, "accuracies": [0.5]}
RECORDS = [
  (table._read, CELL),
  (records._read, TRAINED),
  (lambda file: continual._read(file, 1), STAGE),
  (lambda file: _unfinished(file, {"seed": 0}), {"of": {"seed": 0}, "evaluations": [EVALUATION]}),
]


@pytest.mark.parametrize(("read", "content"), RECORDS)
def test_records_that_are_finished(tmp_path, read, content):
  file = tmp_path / "record.json"
  write_json(file, content)
  assert not one_line(lambda: read(file))
  for text in (*damaged(content), None):
    place(file, text)
    one_line(lambda: read(file))
  for text in (*TEXTS.values(), None):
    place(file, text)
    assert one_line(lambda: read(file)), text


def test_networks_that_are_damaged_are_not_taken(tmp_path, caplog):
  file = tmp_path / "networks.json"
  content = {"of": "this", "accuracies": [[0.5, 0.25], [1.0, 0.125]], "confusion": [[3, 1], [0, 4]]}
  ragged = {"of": "this", "accuracies": [[0.5], [1.0, 0.125]]}
  for text in (*damaged(content), json.dumps(ragged).encode(), None):
    place(file, text)
    for accuracies in SoFar(file, "this").accuracies:
      assert ((accuracies >= 0) & (accuracies <= 1)).all()
  assert "networks.json is damaged, not what dcjax writes; delete it" in caplog.text
  place(file, json.dumps(content).encode())
  found = SoFar(file, "this")
  assert np.array_equal(found.accuracies, content["accuracies"])
  assert np.array_equal(found.confusion, content["confusion"])
  assert not SoFar(file, "another").accuracies


# --- Configs of earlier versions -------------------------------------------------------------


def _search(config):
  return nas._lasting(nas_config.resolve_search(config))


@pytest.mark.parametrize(
  ("config", "completed", "field"),
  [
    (tiny("idm"), None, "queue.pretrained"),
    (dcjax.config.default("herding"), None, "dataset.zca"),
    (continual_config.default("gdumb", "dm"), lambda c: continual_config.resolve(c).to_dict(),
     "continual.runs"),
    (nas_config.default_search(), _search, "search.validation"),
  ],
)  # fmt: skip
def test_a_field_that_there_has_been_since(tmp_path, config, completed, field):
  """Of an earlier version a config lacks it; its default is no other config, any other value is."""
  completed = completed or (lambda config: dcjax.config.resolve(config).to_dict())
  fields = json.loads(json.dumps(completed(config)))
  group, name = field.split(".")
  default = fields[group].pop(name)
  write_json(tmp_path / "config.json", fields)
  with held(Workdir(tmp_path)) as workdir:
    fields[group][name] = default
    assert not workdir.check(fields, completed)
    fields[group][name] = 77
    with pytest.raises(
      UserError, match=f"another config: {field} is {default} there and 77 here".lower()
    ):
      workdir.check(fields, completed)


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "metrics.jsonl")
  with pytest.raises(UserError, match="it is no regular file"):
    read_log(tmp_path / "metrics.jsonl")
