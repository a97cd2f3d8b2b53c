"""Whole runs: what they write, how they stop and go on, what they refuse."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from dcjax import SyntheticSet, UserError
from dcjax import config as config_lib
from dcjax.commands.condense import Run, condense, converged
from dcjax.commands.evaluate import evaluate
from dcjax.commands.status import status
from dcjax.common.errors import Interrupted
from dcjax.figures import accuracies
from dcjax.run import experiment, workdir
from dcjax.run.checkpoint import Checkpoints
from dcjax.run.interrupt import Interrupts
from dcjax.run.loop import Loop
from tests.runs import tiny


def result(folder):
  """What a run computed: the bytes of its log, and its images."""
  return (folder / "metrics.jsonl").read_bytes(), SyntheticSet.load(folder / "synthetic.npz")


def assert_same_result(one, other):
  (log, synthetic), (other_log, other_synthetic) = result(one), result(other)
  assert log == other_log
  np.testing.assert_array_equal(synthetic.images, other_synthetic.images)


def losses(folder):
  records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  return [record["loss"] for record in records if "loss" in record]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run that was never stopped, and its summary."""
  folder = tmp_path_factory.mktemp("finished")
  return folder, condense(tiny(evaluate_every=3), folder)


def interrupt_after(monkeypatch, chunks):
  """Makes a run be asked to end while it computes its next chunk."""
  run, done = Loop.run, []

  def interrupted(self, *arguments):
    if len(done) == chunks:
      raise Interrupted(signal.SIGTERM)
    done.append(None)
    return run(self, *arguments)

  monkeypatch.setattr(Loop, "run", interrupted)


def test_writes_everything(finished):
  folder, summary = finished
  assert json.loads((folder / "summary.json").read_text()) == summary
  assert json.loads((folder / "config.json").read_text())["evaluation"]["epochs"] == 2
  assert list(folder.glob("events.out.tfevents*"))
  names = [f"00000{iteration}.{kind}" for iteration in (0, 3, 6) for kind in ("npz", "png")]
  assert sorted(file.name for file in (folder / "images").iterdir()) == names
  assert len(losses(folder)) == 6
  assert summary["method"] == "dc" and summary["dataset"] == "digits"
  assert set(summary["seconds"]) == {"compile", "condense", "evaluate"}
  assert summary["versions"]["jax"] == jax.__version__


def test_evaluates_beside_a_random_subset(finished):
  _, summary = finished
  evaluated = [(r["iteration"], r["set"], r["network"]) for r in summary["evaluations"]]
  assert evaluated == [
    (3, "synthetic", "convnet"),
    (0, "random", "convnet"),
    (6, "synthetic", "convnet"),
  ]
  for record in summary["evaluations"]:
    assert 0 <= record["last_mean"] <= record["best_mean"] <= 1
    assert record["decoded_ipc"] == 1 and record["networks"] == 1 and record["epochs"] == 2


def test_names_the_set_that_was_best_on_the_test_images_beside_the_last(finished):
  _, summary = finished
  ours = [record for record in summary["evaluations"] if record["set"] == "synthetic"]
  means = [record["last_mean"] for record in ours]
  assert summary["best"] == ours[means.index(max(means))]
  three = [
    {**ours[0], "iteration": t, "last_mean": mean} for t, mean in ((1, 0.2), (2, 0.4), (3, 0.3))
  ]
  assert accuracies.best(three)["iteration"] == 2
  assert "chose it: iteration 2, 40.0 ± " in accuracies.of_best(three)
  assert accuracies.best(three[:1]) is None and accuracies.of_best([]) == ""


def test_pictures_are_large_enough_to_see(finished):
  folder, _ = finished
  with Image.open(folder / "images" / "000006.png") as picture:
    assert picture.height >= 5 * 72 and picture.width >= 2 * 72  # two columns of five


def test_saved_set_describes_itself(finished):
  folder, _ = finished
  synthetic = SyntheticSet.load(folder / "synthetic.npz")
  assert synthetic.images.shape == (10, 1, 8, 8, 1)
  assert synthetic.metadata["class_names"] == [str(digit) for digit in range(10)]
  assert synthetic.metadata["config"]["iterations"] == 6


def test_a_finished_run_is_left_alone(finished):
  folder, summary = finished
  before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.name != ".lock"}
  assert condense(tiny(evaluate_every=3), folder) == summary
  after = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.name != ".lock"}
  assert after == before


@pytest.mark.parametrize(
  ("method", "fields"),
  [
    ("idc", {"training__pretraining": 1, "training__batch": 400, "training__networks": 2}),
    pytest.param("idm", {"formation__name": "learnable"}, marks=pytest.mark.slow),
  ],
)
def test_a_method_with_networks_of_its_own_goes_on_bit_for_bit(method, fields, tmp_path):
  config = tiny(method, compute__chunk=2, evaluation__networks=0, **fields)
  summary = condense(config, tmp_path / "straight")
  shorter = config.copy_and_resolve_references()
  shorter.iterations = 3
  for part in (shorter, config):
    condense(part, tmp_path / "parts")
  assert_same_result(tmp_path / "straight", tmp_path / "parts")
  # Stored and decoded images, in the summary, in the file, and at evaluation.
  synthetic = SyntheticSet.load(tmp_path / "straight" / "synthetic.npz")
  assert (summary["ipc"], summary["decoded_ipc"]) == (1, 4)
  assert summary["stored_bytes"] == synthetic.stored_bytes() >= 4 * synthetic.images.size
  assert synthetic.decoded().shape == (10, 4, 8, 8, 1)
  ours, random = evaluate(tmp_path / "straight" / "synthetic.npz", networks=1)
  assert (ours["ipc"], ours["decoded_ipc"], random["decoded_ipc"]) == (1, 4, 1)


def copied(finished, folder):
  """A finished run of one's own to damage."""
  return shutil.copytree(finished[0], folder / "copy")


def test_a_finished_run_needs_no_checkpoints(finished, tmp_path):
  folder = copied(finished, tmp_path)
  shutil.rmtree(folder / "checkpoints")
  assert condense(tiny(evaluate_every=3), folder) == finished[1]
  assert_same_result(folder, finished[0])


def test_a_set_that_was_deleted_is_written_again(finished, tmp_path):
  folder = copied(finished, tmp_path)
  (folder / "synthetic.npz").unlink()
  condense(tiny(evaluate_every=3), folder)
  assert_same_result(folder, finished[0])


def test_a_log_that_lacks_iterations_is_refused(finished, tmp_path):
  folder = copied(finished, tmp_path)
  (folder / "summary.json").unlink()
  (folder / "metrics.jsonl").unlink()
  with pytest.raises(UserError, match=r"metrics.jsonl holds 0 of the 6 iterations"):
    condense(tiny(evaluate_every=3), folder)


@pytest.mark.parametrize("file", ["config.json", "summary.json"])
def test_files_of_a_run_that_are_damaged(finished, tmp_path, file):
  folder = copied(finished, tmp_path)
  (folder / file).write_bytes(b"\xff[]")
  with pytest.raises(UserError, match=f"{file} is damaged"):
    condense(tiny(evaluate_every=3), folder)


@pytest.mark.parametrize("chunks", [0, 1, 4])
def test_interrupted_run_goes_on_bit_for_bit(finished, tmp_path, monkeypatch, chunks):
  with monkeypatch.context() as patch:
    interrupt_after(patch, chunks)
    with pytest.raises(Interrupted):
      condense(tiny(evaluate_every=3), tmp_path)
  assert status([tmp_path]).startswith(f"{tmp_path}: stopped ")
  condense(tiny(evaluate_every=3), tmp_path)
  assert_same_result(tmp_path, finished[0])


def test_interrupted_while_evaluating(finished, tmp_path, monkeypatch):
  def interrupted(self, *arguments):
    raise Interrupted(signal.SIGINT)

  with monkeypatch.context() as patch:
    patch.setattr(experiment.Evaluation, "run", interrupted)
    with pytest.raises(Interrupted):
      condense(tiny(evaluate_every=3), tmp_path)
  condense(tiny(evaluate_every=3), tmp_path)
  assert_same_result(tmp_path, finished[0])


def test_the_set_is_there_before_its_evaluation_ends(tmp_path, monkeypatch):
  def interrupted(self, *arguments):
    raise Interrupted(signal.SIGINT)

  monkeypatch.setattr(experiment.Evaluation, "run", interrupted)
  with pytest.raises(Interrupted):
    condense(tiny(), tmp_path)
  assert SyntheticSet.load(tmp_path / "synthetic.npz").metadata["iteration"] == 6
  assert not (tmp_path / "summary.json").exists()


def test_killed_run_goes_on_bit_for_bit(finished, tmp_path):
  """Kills a run's process without warning as soon as it has a checkpoint."""
  program = (
    "from tests.runs import tiny; from dcjax.commands.condense import condense; import jax;"
    "jax.config.update('jax_numpy_dtype_promotion', 'strict');"
    f"condense(tiny(evaluate_every=3), {str(tmp_path)!r})"
  )
  process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
  deadline = time.monotonic() + 120
  while not (tmp_path / "checkpoints" / "2" / "_CHECKPOINT_METADATA").exists():
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
  assert status([tmp_path]).startswith(f"{tmp_path}: running, last sign ")
  process.send_signal(signal.SIGKILL)
  process.wait()
  condense(tiny(evaluate_every=3), tmp_path)
  assert_same_result(tmp_path, finished[0])


def test_line_cut_short_is_written_again(finished, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    interrupt_after(patch, 2)
    with pytest.raises(Interrupted):
      condense(tiny(evaluate_every=3), tmp_path)
  with (tmp_path / "metrics.jsonl").open("a") as log:
    log.write('{"iteration": 5, "loss": 1.0}\n{"iteration": 6, "lo')
  condense(tiny(evaluate_every=3), tmp_path)
  assert_same_result(tmp_path, finished[0])


@pytest.mark.parametrize("chunk", [1, 4])
def test_chunk_length_changes_nothing(finished, tmp_path, chunk):
  condense(tiny(evaluate_every=3, compute__chunk=chunk), tmp_path)
  assert_same_result(tmp_path, finished[0])


def test_compiled_programs_are_kept(tmp_path, monkeypatch):
  monkeypatch.setattr(Run, "finish", lambda *_: {"kept": jax.config.jax_compilation_cache_dir})
  kept = str(tmp_path / "kept")
  assert condense(tiny(compute__cache_dir=kept), tmp_path / "run") == {"kept": kept}


@pytest.mark.parametrize("mesh", ["4x1", "2x2"])
def test_number_of_devices_changes_only_rounding(finished, tmp_path, mesh):
  condense(tiny(evaluate_every=3, compute__mesh=mesh), tmp_path)
  np.testing.assert_allclose(losses(tmp_path), losses(finished[0]), rtol=1e-3)
  ours, theirs = result(tmp_path)[1], result(finished[0])[1]
  np.testing.assert_allclose(ours.images, theirs.images, atol=1e-3)


def test_traces_the_iteration_once_for_all_chunks(tmp_path, monkeypatch):
  method = experiment.method

  def counted(*arguments):
    made = method(*arguments)
    (step,) = made.iteration
    # Once for the shapes of the metrics, once for the program.
    counted = step._replace(run=chex.assert_max_traces(step.run, n=2))
    return made._replace(iteration=(counted,))

  monkeypatch.setattr(experiment, "method", counted)
  condense(tiny(compute__chunk=1), tmp_path)
  assert len(losses(tmp_path)) == 6


# --- More iterations than before ---------------------------------------------------------------


def crash_at(monkeypatch, when):
  """Makes a run end at some moment after it was told to become longer."""

  def crash(*arguments):
    raise Interrupted(signal.SIGTERM)

  if when == "before the config":
    monkeypatch.setattr(workdir, "write_json", crash)
  if when == "later":
    interrupt_after(monkeypatch, 1)


@pytest.mark.parametrize("when", ["before the config", "later"])
def test_a_finished_run_that_becomes_longer_is_one_of_that_length(
  finished, tmp_path, monkeypatch, when
):
  """Its former end, where no evaluation is due otherwise, leaves no trace in what it computed."""
  short, long = (tiny(evaluate_every=3, compute__chunk=1, iterations=n) for n in (4, 6))
  before = condense(short, tmp_path)
  with monkeypatch.context() as patch, pytest.raises(Interrupted):
    crash_at(patch, when)
    condense(long, tmp_path)
  summary = condense(long, tmp_path)
  assert_same_result(tmp_path, finished[0])
  for field in ("evaluations", "iterations"):
    assert summary[field] == finished[1][field]
  assert json.loads((tmp_path / "config.json").read_text())["iterations"] == 6
  assert SyntheticSet.load(tmp_path / "synthetic.npz").metadata["config"]["iterations"] == 6
  assert json.loads((tmp_path / "summary-4.json").read_text()) == before
  assert (tmp_path / "checkpoints" / "6").is_dir()
  assert status([tmp_path]).startswith(f"{tmp_path}: finished")
  with pytest.raises(UserError, match=r"iterations: 5 are fewer than the 6 that are done in "):
    condense(tiny(evaluate_every=3, iterations=5), tmp_path)


def test_evaluations_on_real_images_are_not_done_again(finished, tmp_path, monkeypatch):
  condense(tiny(evaluate_every=3, iterations=2), tmp_path)
  run, tasks = experiment.Evaluation.run, []

  def counted(self, task, *arguments):
    tasks.append(task[0])
    return run(self, task, *arguments)

  monkeypatch.setattr(experiment.Evaluation, "run", counted)
  condense(tiny(evaluate_every=3), tmp_path)
  assert tasks == ["synthetic", "synthetic"]
  assert_same_result(tmp_path, finished[0])


def test_a_stopped_run_may_end_sooner_than_it_was_to(finished, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    interrupt_after(patch, 3)
    with pytest.raises(Interrupted):
      condense(tiny(evaluate_every=3, compute__chunk=1, iterations=99), tmp_path)
  assert condense(tiny(evaluate_every=3), tmp_path)["iterations"] == 6
  assert_same_result(tmp_path, finished[0])


def test_a_run_that_time_has_ended_goes_on_with_more_of_it(finished, tmp_path):
  config = tiny(evaluate_every=3, compute__chunk=1)
  assert condense(config, tmp_path, seconds=1e-9)["iterations"] == 1
  assert condense(config, tmp_path, seconds=1e-9)["iterations"] == 1
  assert condense(config, tmp_path)["iterations"] == 6
  assert_same_result(tmp_path, finished[0])


# --- What it refuses ---------------------------------------------------------------------------


def test_a_folder_that_is_deleted_or_moved_meanwhile_is_noticed(tmp_path, monkeypatch):
  run = Loop.run

  def after(change):
    def changed(self, state, start, *arguments):
      if start == 1:
        change()
      return run(self, state, start, *arguments)

    monkeypatch.setattr(Loop, "run", changed)
    return tiny(compute__chunk=1, evaluation__networks=0)

  folder, other = tmp_path / "run", tmp_path / "other"
  config = after(lambda: folder.rename(other))
  with pytest.raises(UserError, match=rf"run was moved to {other} while it was used; go on there"):
    condense(config, folder)
  assert not folder.exists()
  config = after(lambda: shutil.rmtree(folder))
  with pytest.raises(UserError, match=r"run was deleted while it was used, with all that was"):
    condense(config, folder)
  config = after(lambda: (folder / "config.json").unlink())
  with pytest.raises(UserError, match=r"run was emptied while it was used"):
    condense(config, folder)


def test_other_config_is_refused_by_field(finished):
  folder, _ = finished
  with pytest.raises(
    UserError, match=r"evaluate_every is 3 there and 0 here; .*seed is 0 there and 7"
  ):
    condense(tiny(seed=7), folder)


def test_epochs_and_same_steps_are_refused_before_any_work(tmp_path):
  config = tiny(evaluation__same_steps=True, formation__factor=2)  # which has 2 epochs
  with pytest.raises(UserError, match=r"evaluation.same_steps: True makes .* is 2; leave one"):
    condense(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_folder_of_something_else_is_refused(tmp_path):
  (tmp_path / "synthetic.npz").write_bytes(b"precious")
  with pytest.raises(UserError, match=r"holds synthetic.npz but no config.json"):
    condense(tiny(), tmp_path)
  assert (tmp_path / "synthetic.npz").read_bytes() == b"precious"


def test_a_folder_that_was_made_for_nothing_is_not_left(tmp_path):
  (tmp_path / "mine").mkdir()
  for name in ("new", "mine"):
    with pytest.raises(UserError, match=r"dataset\.data_dir"):
      condense(tiny(dataset__name="npz"), tmp_path / name)
  assert os.listdir(tmp_path) == ["mine"]


def test_two_runs_in_one_folder_are_refused(tmp_path):
  from dcjax.run.workdir import Workdir

  first = Workdir(tmp_path)
  with pytest.raises(UserError, match="another run is using"):
    condense(tiny(), tmp_path)
  first.close()


def test_folder_that_cannot_be_made(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="workdir: cannot write to"):
    condense(tiny(), tmp_path / "file" / "run")


def checkpoints(folder):
  return sorted(path.name for path in (folder / "checkpoints").iterdir())


def cut(checkpoint):
  for file in (checkpoint / "state").rglob("*"):
    if file.is_file() and file.parent.name == "d":
      os.truncate(file, file.stat().st_size // 2)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """A run that was stopped after its fourth iteration, at which it has a checkpoint."""
  folder = tmp_path_factory.mktemp("stopped") / "run"
  with pytest.MonkeyPatch.context() as patch:
    interrupt_after(patch, 4)
    with pytest.raises(Interrupted):
      condense(tiny(evaluate_every=3), folder)
  assert checkpoints(folder) == ["3", "4"]
  return folder


def test_a_run_goes_on_from_before_a_corrupt_checkpoint(finished, stopped, tmp_path, caplog):
  folder = shutil.copytree(stopped, tmp_path / "run")
  (folder / "checkpoints" / "4.corrupt").mkdir()  # from an earlier time
  cut(folder / "checkpoints" / "4")
  condense(tiny(evaluate_every=3), folder)
  assert f"{folder / 'checkpoints' / '4'}: corrupt checkpoint (" in caplog.text
  assert "keeping this as 4.corrupt1" in caplog.text
  assert_same_result(folder, finished[0])
  assert {"4.corrupt", "4.corrupt1", "6"} <= set(checkpoints(folder))
  (size,) = {os.path.getsize(file) for file in (stopped / "checkpoints" / "4").glob("_CHECK*")}
  assert (folder / "checkpoints" / "4.corrupt1" / "_CHECKPOINT_METADATA").stat().st_size == size


def test_a_run_without_a_good_checkpoint_does_not_begin_anew(stopped, tmp_path):
  folder = shutil.copytree(stopped, tmp_path / "run")
  for step in ("3", "4"):
    cut(folder / "checkpoints" / step)
  before = (folder / "metrics.jsonl").read_bytes()
  for _ in range(2):
    with pytest.raises(UserError, match=r"checkpoints: all checkpoints are corrupt \(4: .*delete"):
      condense(tiny(evaluate_every=3), folder)
  assert checkpoints(folder) == ["3", "4"] and (folder / "metrics.jsonl").read_bytes() == before


def test_running_out_of_memory_says_what_to_lower(tmp_path, monkeypatch):
  def exhausted(self, *arguments):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.")

  monkeypatch.setattr(Loop, "run", exhausted)
  with pytest.raises(UserError, match=r"out of memory; set a lower compute.synthetic_block"):
    condense(tiny(), tmp_path)
  monkeypatch.undo()
  condense(tiny(compute__image_block=1), tmp_path)  # the same workdir


def test_full_disk_stops_with_a_message_and_loses_nothing(finished, tmp_path, monkeypatch):
  import orbax.checkpoint as ocp

  def full(self, *arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    patch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(UserError, match=r"No space left on device.*make room"):
      condense(tiny(evaluate_every=3), tmp_path)
  condense(tiny(evaluate_every=3), tmp_path)
  assert_same_result(tmp_path, finished[0])


def test_a_disk_without_room_is_seen_before_anything_is_written(tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 0))
    with pytest.raises(UserError, match=r"iteration 2 \(No space left on device\); make room"):
      condense(tiny(), tmp_path)
  assert not list((tmp_path / "checkpoints").iterdir())


def test_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
  monkeypatch.setattr("dcjax.config.numbers.MOST", 1e31)
  with pytest.raises(UserError, match=r"iteration \d: the loss or the images are not finite"):
    condense(tiny(lr_image=1e30), tmp_path)
  assert not (tmp_path / "synthetic.npz").exists()


@pytest.mark.parametrize(
  ("method", "remedy"),
  [
    ("dc", "lower lr_image or lr_network in a new"),
    ("dm", "lower lr_image in a new"),
    ("kip", "lower lr_image, or raise regularisation, in a new"),
  ],
)
def test_a_loss_that_is_not_finite_names_fields_that_there_are(method, remedy, tmp_path):
  run = Run.__new__(Run)
  run.config, run.checkpoints = config_lib.resolve(tiny(method)), Checkpoints(tmp_path)
  with pytest.raises(UserError, match=remedy):
    run._check_finite(float("nan"), 3)


def test_the_last_good_checkpoint_is_kept(tmp_path, monkeypatch):
  run = Loop.run

  def bad_in_the_end(self, state, start, limit, wait):
    state, done, metrics = run(self, state, start, limit, wait)
    return state, done, {"loss": metrics["loss"] * (np.nan if done > 4 else 1)}

  monkeypatch.setattr(Loop, "run", bad_in_the_end)
  with pytest.raises(UserError, match=r"iteration 5: .* checkpoint of iteration 4 is kept"):
    condense(tiny(compute__chunk=1), tmp_path)
  assert (tmp_path / "checkpoints" / "4").is_dir()
  assert len(losses(tmp_path)) == 4


COMMAND = [
  sys.executable, "-m", "dcjax.launch.main", "condense", "--config=configs/quickstart.py:smoke",
  "--config.iterations=100", "--config.checkpoint_every=100", "--config.network.depth=1",
  "--config.inner_loop=1", "--config.compute.mesh=1x1", "--config.compute.chunk=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
  """The folder of a run of the command itself."""
  folder = tmp_path_factory.mktemp("command") / "whole"
  subprocess.run([*COMMAND, f"--workdir={folder}"], check=True, capture_output=True)
  return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_saves_and_the_command_goes_on(tmp_path, never_stopped, number):
  command = [*COMMAND, f"--workdir={tmp_path / 'stopped'}"]
  process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
  log = tmp_path / "stopped" / "metrics.jsonl"
  deadline = time.monotonic() + 120
  while not (log.exists() and log.stat().st_size):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(number)
  error = process.communicate()[1]
  assert process.returncode == 128 + number
  assert error.splitlines()[-1].startswith(f"dcjax: stopped by {number.name}; all saved")
  assert (log.parent / "checkpoints").is_dir() and len(losses(log.parent)) < 100
  subprocess.run(command, check=True, capture_output=True)
  assert_same_result(log.parent, never_stopped)


def test_signals_are_noted_once_and_handlers_come_back():
  former = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Interrupted) as caught, Interrupts() as interrupts:
    interrupts.check()
    os.kill(os.getpid(), signal.SIGTERM)
    interrupts.check()
  assert caught.value.exit_code == 143
  assert signal.getsignal(signal.SIGTERM) == former


# --- Sets on the way, and an early end -------------------------------------------------------


def test_sets_on_the_way_are_saved_without_evaluations(tmp_path):
  summary = condense(tiny(picture_every=2, evaluation__networks=0), tmp_path)
  assert summary["evaluations"] == []
  sets = [SyntheticSet.load(file) for file in sorted((tmp_path / "images").glob("*.npz"))]
  assert [each.metadata["iteration"] for each in sets] == [0, 2, 4, 6]
  last = SyntheticSet.load(tmp_path / "synthetic.npz")
  np.testing.assert_array_equal(sets[-1].images, last.images)
  assert not np.array_equal(sets[0].images, last.images)


@pytest.mark.parametrize(
  ("losses", "window", "expected"),
  [
    ([3, 2, 1], 2, False),  # two windows are not full
    ([4, 3, 2, 1], 2, False),
    ([4, 2, 1, 5], 2, True),
    ([9, 9, 4, 4, 4, 4], 2, True),
    ([9, 9, 5, 5, 4, 5], 2, False),
  ],
)
def test_converged_when_a_mean_is_no_lower_than_the_one_before(losses, window, expected):
  assert converged(losses, window) == expected


@pytest.fixture(scope="module")
def converging(tmp_path_factory):
  """A run whose image rate is so low that its loss does not fall for long."""
  config = tiny(iterations=60, converged_after=4, lr_image=1e-6, evaluate_every=50)
  folder = tmp_path_factory.mktemp("converging")
  return config, folder, condense(config, folder)


def test_a_converged_run_ends_and_is_evaluated(converging):
  _, folder, summary = converging
  found = losses(folder)
  assert summary["iterations"] == len(found) < 60 and len(found) % 4 == 0
  ends = [end for end in range(8, len(found) + 1, 4) if converged(found[:end], 4)]
  assert ends == [len(found)]
  assert {record["iteration"] for record in summary["evaluations"]} == {len(found), 0}
  assert SyntheticSet.load(folder / "synthetic.npz").metadata["iteration"] == len(found)


def test_a_converged_run_stays_so_with_more_iterations(converging, tmp_path):
  config, folder, summary = converging
  longer = config.copy_and_resolve_references()
  longer.iterations = 99
  shutil.copytree(folder, tmp_path / "copy")
  again = condense(longer, tmp_path / "copy")
  assert again["iterations"] == summary["iterations"]
  assert again["evaluations"] == summary["evaluations"]
  assert_same_result(folder, tmp_path / "copy")
  synthetic = SyntheticSet.load(tmp_path / "copy" / "synthetic.npz")
  assert synthetic.metadata["config"]["iterations"] == 99


def test_a_run_that_its_time_has_ended_goes_on_with_more(tmp_path):
  """Also where it would have ended sooner had it converged."""
  config = tiny(iterations=4, converged_after=100)
  first = condense(config, tmp_path, seconds=1e-9)
  assert first["iterations"] == 1
  assert condense(config, tmp_path, seconds=600)["iterations"] == 4


def test_a_stopped_run_converges_where_it_would_have(converging, tmp_path, monkeypatch):
  config, folder, _ = converging
  with monkeypatch.context() as patch:
    interrupt_after(patch, chunks=2)
    with pytest.raises(Interrupted):
      condense(config, tmp_path)
  condense(config, tmp_path)
  assert_same_result(folder, tmp_path)
