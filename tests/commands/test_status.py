"""`dcjax status`: what the files of runs tell, whole, cut short, without notes, or of another."""

import json
import os
import shutil
import time

import pytest

import dcjax.config
from dcjax import UserError
from dcjax.commands.status import duration, status
from dcjax.common.files import PROGRESS
from dcjax.run.progress import Progress
from dcjax.run.workdir import Workdir, write_json
from tests.runs import tiny

MINUTE = 60


def record(name="synthetic", iteration=4, network="convnet", mean=0.5):
  """An evaluation as `metrics.jsonl` and `summary.json` have it."""
  return {
    "iteration": iteration, "set": name, "network": network, "augmentation": "none", "cutmix": 0.0,
    "epochs": 2, "networks": 5, "ipc": 1, "decoded_ipc": 1, "last_mean": mean, "last_std": 0.01,
    "best_mean": mean, "best_std": 0.01,
  }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
  """A run of 10 iterations, stopped at its fourth two minutes ago, with all saved."""
  path = tmp_path / "run"
  for name in ("2", "4", "6.orbax-checkpoint-tmp"):
    (path / "checkpoints" / name).mkdir(parents=True)
  write_json(path / "config.json", dcjax.config.resolve(tiny(iterations=10)).to_dict())
  losses = [{"iteration": i, "loss": 10.0 - i} for i in range(1, 5)]
  evaluations = [
    record(iteration=2, mean=0.3),
    record("random", 0),
    record(network="mlp"),
    record(),
  ]
  log = [*losses, *({"iteration": 4, "evaluation": each} for each in evaluations)]
  (path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in log))
  write_json(path / PROGRESS, {"seconds_per_iteration": 20.0, "doing": "compiling"})
  age(path, 2 * MINUTE)
  return path


def age(path, seconds):
  """Makes it so long ago that a run wrote anything."""
  for file in path.glob("*.json*"):
    os.utime(file, (time.time() - seconds,) * 2)


def finish(path, **fields):
  """Makes a run a finished one; `fields` replace those of its summary."""
  write_json(path / "summary.json", {"iterations": 10, "evaluations": [record()], **fields})
  (path / "synthetic.npz").write_bytes(b"")
  age(path, 2 * MINUTE)


def details(path):
  """The first line, the named lines, and the lines of the table."""
  first, *rest = status([path]).splitlines()
  named = [line for line in rest if not line.startswith("|")]
  fields = dict(line.split(maxsplit=1) for line in named)
  return first.removeprefix(f"{path}: "), fields, rest[len(named) + 2 :]


def cells(text):
  return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def test_a_stopped_one_in_full(folder):
  first, fields, evaluations = details(folder)
  assert first == "stopped 2 min ago"
  assert fields == {
    "run": "dc on digits, convnet, ipc 1, seed 0",
    "iteration": "4 of 10 (40%)",
    "loss": "6",
    "speed": "20 s an iteration, 2 min left without evaluations",
    "checkpoint": "of iteration 4; the same command goes on from there",
  }
  assert cells("\n\n" + "\n".join(evaluations)) == [
    ["4", "synthetic", "convnet", "1", "2", "5", "50.0 ± 1.0", "50.0 ± 1.0"],
    ["-", "random", "convnet", "1", "2", "5", "50.0 ± 1.0", "50.0 ± 1.0"],
    ["4", "synthetic", "mlp", "1", "2", "5", "50.0 ± 1.0", "50.0 ± 1.0"],
  ]


def test_a_running_one_is_left_as_it_is(folder):
  lock = Workdir(folder)
  before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
  first, fields, _ = details(folder)
  assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
  assert first == "running, last sign 2 min ago"
  assert (fields["doing"], fields["checkpoint"]) == ("compiling", "of iteration 4")
  lock.close()
  assert details(folder)[0] == "stopped 2 min ago"


def test_a_killed_one_has_lost_what_came_after_its_checkpoint(folder):
  (folder / "checkpoints" / "4").rmdir()
  first, fields, _ = details(folder)
  assert first == "killed or failed 2 min ago" and fields["iteration"] == "4 of 10 (40%)"
  assert fields["speed"] == "20 s an iteration, 2 min 40 s left without evaluations"


def test_a_finished_one(folder):
  finish(folder)
  first, fields, evaluations = details(folder)
  assert first == "finished 2 min ago" and len(evaluations) == 1
  assert (fields["iteration"], fields["speed"]) == ("10 of 10 (100%)", "20 s an iteration")
  assert "checkpoint" not in fields
  finish(folder, iterations=6)
  assert details(folder)[1]["iteration"] == "6 of 10, converged (60%)"


@pytest.mark.parametrize("section", ["continual", "search"])
def test_of_a_study_the_runs_inside_are_shown(section, folder, tmp_path):
  config = dcjax.config.resolve(tiny()).to_dict() | {section: {}}
  write_json(tmp_path / "config.json", config)
  assert status([tmp_path]).startswith(f"{folder}: stopped")
  (tmp_path / "empty").mkdir()
  write_json(tmp_path / "empty" / "config.json", config)
  with pytest.raises(UserError, match="is no workdir and holds none"):
    status([tmp_path / "empty"])


def test_rded_is_not_finished_before_its_random_images(tmp_path):
  config = dcjax.config.resolve(dcjax.config.default("rded"))
  write_json(tmp_path / "config.json", config.to_dict())
  finish(tmp_path, evaluations=[record()])
  assert not status([tmp_path]).startswith(f"{tmp_path}: finished")
  finish(tmp_path, evaluations=[record(), record("random", 0)])
  assert status([tmp_path]).startswith(f"{tmp_path}: finished")


def test_what_is_cut_short_or_missing(folder):
  with (folder / "metrics.jsonl").open("a") as log:
    log.write('{"iteration": 5, "lo')
  assert details(folder)[1]["iteration"] == "4 of 10 (40%)"
  (folder / PROGRESS).unlink()  # as in runs of an older version
  assert "speed" not in details(folder)[1]
  (folder / "metrics.jsonl").unlink()
  shutil.rmtree(folder / "checkpoints")
  first, fields, evaluations = details(folder)
  assert first == "stopped 2 min ago" and evaluations == []
  assert set(fields) == {"run", "iteration"} and fields["iteration"] == "0 of 10 (0%)"


def test_the_speed_is_a_mean_since_the_start(tmp_path):
  progress = Progress(tmp_path, 10, 0)

  def note():
    return json.loads((tmp_path / PROGRESS).read_text())

  progress.say("compiling")
  assert note() == {"seconds_per_iteration": None, "doing": "compiling"}
  progress.loss(1, 1.0, seconds=0.5)
  assert note() == {"seconds_per_iteration": 0.5, "doing": ""}
  progress.loss(2, 1.0, seconds=0.5)
  progress.loss(3, 1.0, seconds=3.5)
  progress.close()
  assert note() == {"seconds_per_iteration": 1.5, "doing": ""}


def test_several_are_a_line_each(folder, tmp_path):
  other = tmp_path / "table" / "sets" / "digits" / "seed0"
  finish(shutil.copytree(folder, other))
  (tmp_path / "else").mkdir()
  (tmp_path / "else" / "config.json").write_text("{}")
  what = "dc on digits, convnet, ipc 1"
  lines = [
    [str(folder), "stopped 2 min ago", what, "4 of 10", "20", "2 min", "50.0 ± 1.0"],
    [str(other), "finished 2 min ago", what, "10 of 10", "20", "", "50.0 ± 1.0"],
  ]
  assert cells(status([tmp_path])) == lines
  assert cells(status([other, folder])) == lines[::-1]
  assert status([tmp_path / "table"]).startswith(f"{other}: finished")


@pytest.mark.parametrize(
  ("file", "text", "message"),
  [
    (None, None, r"no folder .*w; give the --workdir of a run"),
    ("images", None, r"w is no workdir and holds none; give the --workdir of a run"),
    ("config.json", "[", "is no workdir"),
    ("config.json", '{"method": "dc"}', "is no workdir"),
  ],
)
def test_what_is_no_run(tmp_path, file, text, message):
  workdir = tmp_path / "w"
  if file:
    workdir.mkdir()
    (workdir / file).write_text(text or "")
  with pytest.raises(UserError, match=f"status: .*{message}"):
    status([workdir])


def test_a_file_that_cannot_be_read_is_said(folder):
  (folder / "metrics.jsonl").unlink()
  (folder / "metrics.jsonl").mkdir()
  first, fields, _ = details(folder)
  assert first.endswith("ago, with damaged files")
  assert fields["damaged"] == f"cannot read {folder / 'metrics.jsonl'} (Is a directory)"


def test_all_are_shown_beside_one_that_is_damaged(folder, tmp_path):
  for name, config in (("a", "[" * 10**5), ("b", '{"seed": 1}'), ("c", None)):
    other = shutil.copytree(folder, tmp_path / name)
    (other / "config.json").unlink()
    (other / "config.json").write_text(config) if config else (other / "config.json").mkdir()
    with pytest.raises(UserError, match=rf"^status: .*{name}/config.json"):
      status([other])
  rows = cells(status([tmp_path]))
  assert [row[:2] for row in rows] == [
    *([str(tmp_path / name), "config.json is damaged"] for name in "abc"),
    [str(folder), "stopped 2 min ago"],
  ]


@pytest.mark.parametrize(
  ("seconds", "text"),
  [
    (0.4, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3659, "1 h"), (3660 + 59, "1 h 1 min"),
    (86400 * 2 + 7200, "2 d 2 h"),
  ],
)  # fmt: skip
def test_durations(seconds, text):
  assert duration(seconds) == text
