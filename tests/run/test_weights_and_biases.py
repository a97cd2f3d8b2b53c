"""A run in Weights & Biases is the run that it would be without."""

import importlib.util
import json
import signal
import struct
import sys
from types import SimpleNamespace

import pytest
from dcjax.launch import main

from dcjax import UserError
from dcjax.commands.condense import Run, condense
from dcjax.common.errors import Interrupted
from dcjax.run import weights_and_biases
from tests.runs import tiny

BLOCK = 32768  # bytes of a block in W&B's own files


def config():
  return tiny("dm", evaluate_every=3, evaluation__networks=1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
  """The run without."""
  folder = tmp_path_factory.mktemp("plain") / "run"
  return folder, condense(config(), folder)


def check_same(folder, summary, plain):
  """Everything is as without, but what was measured of time."""
  names = ["config.json", "metrics.jsonl", "synthetic.npz"]
  names += [f"images/{n:06d}.{kind}" for n in (0, 3, 6) for kind in ("png", "npz")]
  for name in names:
    assert (folder / name).read_bytes() == (plain[0] / name).read_bytes(), name
  assert {**summary, "seconds": 0} == {**plain[1], "seconds": 0}


def losses(folder):
  records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
  return {(r["iteration"], r["loss"]) for r in records if "loss" in r}


# --- With the package, offline -------------------------------------------------------------------


def sent(file):
  """The records of a file of W&B's, which is a log of LevelDB behind seven bytes."""
  from wandb.proto import wandb_internal_pb2

  data, place, whole, records = file.read_bytes(), 7, b"", []
  while place < len(data):
    if BLOCK - place % BLOCK < 7:  # no room for another header
      place += BLOCK - place % BLOCK
      continue
    length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
    whole += data[place + 7 : place + 7 + length]
    place += 7 + length
    if kind in (1, 4):  # all of a record, or its last part
      records.append(wandb_internal_pb2.Record.FromString(whole))
      whole = b""
  return records


def values(items):
  """What JSON says under the names of a record."""
  return {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}


@pytest.fixture
def offline(monkeypatch):
  wandb = pytest.importorskip("wandb", reason="wandb is not installed")
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB__DISABLE_STATS", "true")
  wandb.teardown()
  yield
  wandb.teardown()


def stop_at_three(run):
  if run.iteration == 3:
    raise Interrupted(signal.SIGTERM)


def test_a_run_that_was_stopped_goes_on_there(offline, plain, tmp_path, monkeypatch):
  folder = tmp_path / "run"
  with monkeypatch.context() as patch, pytest.raises(Interrupted):
    patch.setattr(Run, "_evaluate_if_due", stop_at_three)
    condense(config(), folder, wandb="digits")
  summary = condense(config(), folder, wandb="digits")
  check_same(folder, summary, plain)
  identity = json.loads((folder / "wandb.json").read_text())["id"]
  files = list(folder.glob(f"wandb/offline-run-*/run-{identity}.wandb"))
  assert len(files) == 2
  found = {}
  for record in (record for file in files for record in sent(file)):
    kind = record.WhichOneof("record_type")
    found.setdefault(kind, []).append(getattr(record, kind))
  history = [values(each.item) for each in found["history"]]
  # The iteration after the checkpoint was done twice, and came to the same.
  assert {(row["iteration"], row["loss"]) for row in history if "loss" in row} == losses(folder)
  for each in summary["evaluations"]:
    name = f"accuracy/{each['set']}/{each['network']}"
    assert each["last_mean"] in {row[name] for row in history if name in row}
  assert sorted(row["iteration"] for row in history if "set.path" in row) == [0, 3, 6]
  assert {(run.project, run.display_name) for run in found["run"]} == {("digits", "run")}
  told = {name: value for each in found["config"] for name, value in values(each.update).items()}
  assert told["iterations"] == 6 and told["dataset"]["name"] == "digits"
  told = {name: value for each in found["summary"] for name, value in values(each.update).items()}
  assert told["best"] == summary["best"] and told["method"] == "dm"
  assert sorted(each.exit_code for each in found["exit"]) == [0, 1]


# --- Without it ----------------------------------------------------------------------------------


class Stub:
  """A package wandb, some of whose functions fail."""

  def __init__(self, *failing):
    self.failing, self.calls, self.logged = failing, [], []
    self.summary = self.config = SimpleNamespace(update=lambda *a, **k: self._done("update"))
    self.url, self.Settings = "there", dict

  def _done(self, name):
    self.calls.append(name)
    if name in self.failing:
      raise RuntimeError(f"{name} cannot\nbe done")

  def setup(self, settings):
    return SimpleNamespace(settings=SimpleNamespace(mode="online"))

  def login(self, prompt):
    return "login" not in self.failing

  def init(self, **options):
    self._done("init")
    self.options = options
    return self

  def Image(self, file):
    self._done("Image")

  def define_metric(self, *names, **options):
    pass

  def log(self, values):
    self._done("log")
    self.logged.append(values)

  def finish(self, exit_code):
    self._done(f"finish {exit_code}")


@pytest.fixture
def stub(monkeypatch):
  def install(*failing):
    made = Stub(*failing)
    monkeypatch.setitem(sys.modules, "wandb", made)
    monkeypatch.setattr(weights_and_biases, "check", lambda project: None)
    return made

  return install


def test_a_failure_changes_nothing(stub, plain, tmp_path):
  made = stub("log")
  summary = condense(config(), tmp_path / "run", wandb="digits")
  check_same(tmp_path / "run", summary, plain)
  assert made.calls == ["init", "update", "Image", "log"]


@pytest.mark.parametrize("failing", ["login", "init", "update", "log", "Image", "finish 0"])
def test_a_failure_is_said_once(failing, stub, tmp_path, caplog):
  stub(failing)
  (writer,) = weights_and_biases.writers("digits", tmp_path, {})
  for iteration in (1, 2):
    writer.scalar("loss", 0.5, iteration)
    writer.picture(tmp_path / "set.png", iteration)
  writer.close({"iterations": 2})
  (said,) = [line for line in caplog.messages if line.startswith("wandb: ")]
  assert said.endswith("; the run goes on without it") and "\n" not in said


@pytest.mark.parametrize(("summary", "code"), [({"iterations": 2}, 0), (None, 1)])
def test_only_a_run_with_a_summary_is_a_finished_one_there(stub, tmp_path, summary, code):
  made = stub()
  (writer,) = weights_and_biases.writers("digits", tmp_path, {})
  writer.scalar("loss", 0.5, 1)
  writer.close(summary)
  assert made.logged == [{"loss": 0.5, "iteration": 1}] and made.calls[-1] == f"finish {code}"


def test_another_project_has_another_run_and_only_one_process_writes(stub, tmp_path, monkeypatch):
  made, found = stub(), []
  for project in ("a", "a", "b"):
    weights_and_biases.writers(project, tmp_path, {})
    found.append(made.options["id"])
  assert found[0] == found[1] != found[2]
  monkeypatch.setattr("dcjax.devices.processes.is_first", lambda: False)
  assert weights_and_biases.writers("a", tmp_path, {}) == []


@pytest.mark.parametrize(
  ("project", "problem"), [("a/b", "names no project; leave out # % "), ("a", "pip install 'dcjax")]
)
def test_a_wish_that_cannot_be_met_is_one_line_before_the_work(
  project, problem, monkeypatch, tmp_path
):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  arguments = ["condense", "--config=configs/quickstart.py:smoke", f"--workdir={tmp_path / 'run'}"]
  with pytest.raises(UserError, match=problem) as caught:
    main.run([*arguments, f"--wandb={project}"])
  assert str(caught.value).startswith(f"wandb: '{project}' ") and "\n" not in str(caught.value)
  assert not (tmp_path / "run").exists()
