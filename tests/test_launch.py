"""The command line: what works, and that every mistake is one line and exit code 2."""

import configparser
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from dcjax.launch import evaluate as command
from dcjax.launch import main

from dcjax import SyntheticSet, UserError
from dcjax.commands import evaluate
from dcjax.common.errors import Interrupted
from dcjax.run.experiment import Evaluation

TOP = Path(__file__).parents[1]
QUICK = "--config=configs/quickstart.py:smoke"
TINY = ["--config.network.depth=1", "--config.network.width=4", "--config.inner_loop=1"]


def mistake(monkeypatch, capsys, *arguments):
  """Runs `dcjax`, which must fail as a user's mistake does; returns its message."""
  monkeypatch.setattr(sys, "argv", ["dcjax", *arguments])
  with pytest.raises(SystemExit) as caught:
    main.main()
  assert caught.value.code == 2
  message = capsys.readouterr().err
  assert message.startswith("dcjax: ") and message.count("\n") == 1
  assert "Traceback" not in message
  return message


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run by the command line, from a folder that is no checkout."""
  folder = tmp_path_factory.mktemp("elsewhere")
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    main.run(["condense", QUICK, "--workdir", "run", *TINY])
  return folder / "run"


def test_condense_prints_a_table(run, capsys, monkeypatch):
  monkeypatch.chdir(run.parent)
  main.run(["condense", QUICK, "--workdir=run", *TINY])
  printed = capsys.readouterr().out
  assert "| synthetic | convnet |" in printed and "|    random | convnet |" in printed
  assert (run / "synthetic.npz").exists()


def test_status_of_a_run(run, capsys):
  main.run(["status", str(run)])
  printed = capsys.readouterr().out
  assert printed.startswith(f"{run}: finished ") and "\n  iteration   2 of 2 (100%)\n" in printed
  assert "\n  speed       " in printed and "| synthetic | convnet |" in printed


def test_fields_are_set_from_the_command_line(run):
  assert json.loads((run / "config.json").read_text())["network"]["width"] == 4


def test_evaluate_a_saved_file_on_other_networks(run, tmp_path, capsys):
  output = tmp_path / "records.json"
  main.run([
    "evaluate", f"--synthetic={run / 'synthetic.npz'}", "--architectures=mlp,mlp:init=kaiming",
    "--networks=2", "--epochs=1", "--whole", f"--output={output}",
  ])  # fmt: skip
  records = json.loads(output.read_text())["evaluations"]
  assert [(r["set"], r["network"]) for r in records] == [
    (name, network)
    for name in ("synthetic", "random", "whole")
    for network in ("mlp", "mlp:init=kaiming")
  ]
  assert all(record["networks"] == 2 and record["epochs"] == 1 for record in records)
  assert all((r["augmentation"], r["cutmix"]) == ("none", 0) for r in records)
  assert " whole |" in capsys.readouterr().out


def test_evaluate_by_another_protocol(run, monkeypatch):
  configs = []

  def evaluate_nothing(path, unfinished, **changes):
    configs.append(evaluate.config_of(SyntheticSet.load(path), None, changes))
    return []

  def changed(*flags):
    main.run(["evaluate", f"--synthetic={run / 'synthetic.npz'}", *flags])
    fields = configs[-1].evaluation
    return fields.protocol, fields.augmentation, fields.cutmix, fields.epochs

  monkeypatch.setattr(command, "records", evaluate_nothing)
  assert changed() == ("dc", "none", 0, 2)
  assert changed("--cutmix=1") == ("dc", "none", 1, 2)
  assert changed("--augmentation=crop") == ("dc", "crop", 0, 1000)
  strategy = "sequence:color,one:crop_scale_rotate"
  assert changed("--protocol=idc", "--same_steps") == ("idc", strategy, 0.5, 1000)
  with pytest.raises(UserError, match=r"evaluation.same_steps: True makes 300 epochs .* is 7;"):
    changed("--same_steps", "--epochs=7")
  assert changed("--protocol=idc", "--cutmix=0", "--epochs=7") == (
    "idc",
    f"{strategy},sequence:cutout",
    0,
    7,
  )


@pytest.mark.parametrize(
  "arguments",
  [
    [],
    ["--help"],
    ["condense", "--help"],
    ["evaluate", "-h"],
    ["status", "-h"],
    ["continual", "--help"],
  ],
)
def test_help(arguments, capsys):
  try:
    main.run(arguments)
  except SystemExit as caught:
    assert caught.code == 0
  shown = {
    "condense": "--config.network.width=128",
    "evaluate": "--synthetic",
    "status": "W [W2",
    "continual": "--config.continual.training.iterations=5000",
  }
  expected = shown.get(next(iter(arguments), ""), "dcjax evaluate --synthetic")
  assert expected in capsys.readouterr().out


@pytest.mark.parametrize("command", main.COMMANDS)
def test_every_command_says_what_it_takes(command, capsys):
  try:
    main.run([command, "--help"])
  except SystemExit as caught:
    assert caught.code == 0
  shown = capsys.readouterr().out
  assert f"dcjax {command}" in shown and ("--" in shown or "W" in shown)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["condens"], "did you mean 'condense'?"),
    (["condense"], "--config: missing"),
    (["condense", QUICK], "--workdir: missing"),
    (["condense", "--config=configs/qickstart.py"], "did you mean 'configs/quickstart.py'?"),
    (["condense", "--config=configs/dc.py:minst"], "did you mean 'mnist'?"),
    (["condense", QUICK, "--wrokdir=x"], "Did you mean: workdir"),
    (["condense", QUICK, "--config.network.widht=3"], "did you mean 'network.width'?"),
    (["condense", QUICK, "--config.nothing_like_it=3"], "no field 'nothing_like_it'"),
    (["condense", QUICK, "--config.networ.depth=2"], "no field 'networ.depth'; did you mean"),
    (["condense", QUICK, "--config.ipc.foo=2"], "no field 'ipc.foo'"),
    (["condense", QUICK, "--workdir=x", "--config.seed=9223372036854775808"], "seed: "),
    (["condense", QUICK, "--workdir=x", "--config.lr_image=inf"], "lr_image: inf is too large"),
    (["condense", QUICK, "--workdir="], "--workdir: empty"),
    (["condense", "--config=", "--workdir=x"], "no file ''; choose one of: configs/continual.py"),
    (["condense", QUICK, "--workdir=~nosuchuser/x"], "x: there is no such user"),
    (["condense", "--config=/home/me/quickstart.py", "--workdir=x"], "no file '/home/me/q"),
    (["condense", QUICK, "--flagfile=gone"], "gone"),
    (["condense", QUICK, "--config.ipc=two"], "--config.ipc=two"),
    (["condense", QUICK, "--workdir=x", "word"], "'word' is not a flag"),
    (["condense", QUICK, "--workdir=x", "--config.dataset.name=digit"], "did you mean 'digits'?"),
    (["condense", QUICK, "--workdir=x", "--config.dataset.name=npz"], "dataset.data_dir: empty"),
    (["condense", QUICK, "--workdir=x", "--config.network.name=covnet"], "did you mean 'convnet'?"),
    (["condense", QUICK, "--workdir=x", "--config.network.depth=6"], "network.depth: 6 is too"),
    (["condense", QUICK, "--workdir=x", "--config.distance=mes"], "did you mean 'mse'?"),
    (["condense", QUICK, "--workdir=x", "--config.ipc=0"], "ipc: 0 is too small"),
    (["condense", QUICK, "--workdir=x", "--config.evaluation.architectures=mlp,lent"], "'lenet'?"),
    (["condense", QUICK, "--workdir=x", "--config.compute.mesh=99x1"], "compute.mesh: 99x1"),
    (["condense", "--config=configs/dc.py:smoke", "--workdir=x", "--config.dataset.data_dir=gone"],
     "dataset.data_dir: no folder"),
    (["evaluate"], "--synthetic: missing"),
    (["status"], "status: no workdir; write dcjax status W"),
    (["status", "--workdir=x"], "status: no flag '--workdir=x'"),
    (["status", "gone"], "status: no folder gone; give the --workdir of a run"),
    (["evaluate", "--synthetic=gone.npz"], "no file gone.npz"),
    (["evaluate", "--synthetic=gone.npz", "--output=none/x.json"], "--output: no folder none"),
  ],
)  # fmt: skip
def test_mistakes(monkeypatch, capsys, tmp_path, arguments, message):
  monkeypatch.chdir(tmp_path)
  assert message in mistake(monkeypatch, capsys, *arguments)


@pytest.mark.parametrize(
  ("program", "message"),
  [
    ("\ndef get_config(:", "--config: the preset fails in mine.py, line 2, with SyntaxError: "),
    ("import nothing_of_this_name", "mine.py, line 1, with ModuleNotFoundError: No module named"),
    ("def get_config(): raise KeyError('x')", "line 1, with KeyError: 'x'"),
    ("def get_config():\n\n  return 1 / 0", "line 3, with ZeroDivisionError: division by zero"),
    ("def get_config():\n  raise ValueError('a\\nb' * 999)", "line 2, with ValueError: a ba b"),
    ("def get_config():\n  open('gone.txt')", "line 2, with FileNotFoundError: [Errno 2]"),
    ("def deep(): assert not 'so'\ndef get_config():\n  deep()", "line 1, with AssertionError: "),
    ("from dcjax.config import default\ndef get_config():\n  default().ipc = 'x'",
     "line 3, with TypeError: "),
    ("from dcjax.config import presets\ndef get_config():\n  presets.arguments('x', 'a', ('a',))",
     "config argument: unknown 'x'"),
    ("def get_config(): return None", "NoneType is not a ConfigDict"),
    ("CONFIG = 3", "get_config"),
    ("from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'ipcs': 1})",
     "no field 'ipcs'; did you mean 'ipc'?"),
  ],
)  # fmt: skip
def test_presets_that_fail(monkeypatch, capsys, tmp_path, program, message):
  (tmp_path / "mine.py").write_text(program)
  monkeypatch.chdir(tmp_path)
  assert message in mistake(monkeypatch, capsys, "condense", "--config=mine.py", "--workdir=x")


@pytest.mark.parametrize("error", [RuntimeError("Unable to\n..."), AssertionError()])
def test_a_device_that_is_not_there(monkeypatch, capsys, tmp_path, error):
  def devices():
    raise error

  monkeypatch.setattr(jax, "devices", devices)
  workdir = f"--workdir={tmp_path / 'x'}"
  assert "JAX_PLATFORMS: jax cannot" in mistake(monkeypatch, capsys, "condense", QUICK, workdir)


def test_corrupt_synthetic_file(run, monkeypatch, capsys, tmp_path):
  whole = (run / "synthetic.npz").read_bytes()
  (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
  assert "cut short" in mistake(
    monkeypatch, capsys, "evaluate", f"--synthetic={tmp_path / 'cut.npz'}"
  )


def test_set_that_does_not_fit_the_data(run, monkeypatch, capsys, tmp_path):
  labels = np.arange(20) % 10
  images = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 1), np.uint8)
  file = tmp_path / "other.npz"
  np.savez(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
  synthetic = SyntheticSet.load(run / "synthetic.npz")
  synthetic.metadata["config"]["dataset"] |= {"name": "npz", "data_dir": str(file)}
  synthetic.save(tmp_path / "set.npz")
  assert "do not fit dataset" in mistake(
    monkeypatch, capsys, "evaluate", f"--synthetic={tmp_path / 'set.npz'}", f"--data_dir={file}"
  )


@pytest.mark.parametrize("field", ["class_names", "mean", "std"])
def test_set_of_other_data_of_the_same_shape(run, monkeypatch, capsys, tmp_path, field):
  synthetic = SyntheticSet.load(run / "synthetic.npz")
  value = synthetic.metadata[field]
  synthetic.metadata[field] = value[::-1] if field == "class_names" else [2 * value[0]]
  synthetic.save(tmp_path / "set.npz")
  assert f"its {field} is" in mistake(
    monkeypatch, capsys, "evaluate", f"--synthetic={tmp_path / 'set.npz'}"
  )


def test_existing_output_is_not_overwritten(run, monkeypatch, capsys, tmp_path):
  output = tmp_path / "records.json"
  output.write_text("precious")
  arguments = ("evaluate", f"--synthetic={run / 'synthetic.npz'}", f"--output={output}")
  assert "there already" in mistake(monkeypatch, capsys, *arguments)
  assert output.read_text() == "precious"


def stop_at(monkeypatch, number):
  """Makes the evaluation of a task, by its number, end as Ctrl-C ends it."""
  run, tasks = Evaluation.run, []

  def stopped(self, *arguments):
    tasks.append(arguments[0])
    if len(tasks) == number:
      raise Interrupted(signal.SIGINT, "")
    return run(self, *arguments)

  monkeypatch.setattr(Evaluation, "run", stopped)
  return tasks


def test_an_evaluation_that_is_stopped_shows_what_is_finished_and_goes_on(
  run, monkeypatch, capsys, tmp_path
):
  output, whole = tmp_path / "records.json", tmp_path / "whole.json"
  command = ["evaluate", f"--synthetic={run / 'synthetic.npz'}", "--architectures=mlp,convnet"]
  main.run([*command, f"--output={whole}"])
  shown = capsys.readouterr().out
  with monkeypatch.context() as patch, pytest.raises(Interrupted):
    stop_at(patch, 2)
    main.run([*command, f"--output={output}"])
  assert [line for line in capsys.readouterr().out.splitlines() if "synthetic" in line] == [
    next(line for line in shown.splitlines() if "mlp" in line)
  ]
  unfinished = tmp_path / "records.json.unfinished"
  assert unfinished.exists() and not output.exists()
  other = [*command, "--seed=3", f"--output={output}"]
  assert "is of another evaluation that was stopped" in mistake(monkeypatch, capsys, *other)
  with monkeypatch.context() as patch:
    tasks = stop_at(patch, 99)
    main.run([*command, f"--output={output}"])
  assert tasks == [("synthetic", "convnet"), ("random", "mlp"), ("random", "convnet")]
  assert output.read_bytes() == whole.read_bytes() and not unfinished.exists()
  assert capsys.readouterr().out == shown


def test_output_that_cannot_be_written_is_said(run, monkeypatch, capsys, tmp_path):
  folder = tmp_path / "results"
  folder.mkdir()

  def go_away(self, task, *arguments):
    folder.rename(tmp_path / "elsewhere")
    return {"last_mean": 0.5}

  monkeypatch.setattr(Evaluation, "run", go_away)
  command = ["evaluate", f"--synthetic={run / 'synthetic.npz'}", f"--output={folder / 'x.json'}"]
  assert "--output: cannot write" in mistake(monkeypatch, capsys, *command)


@pytest.mark.parametrize("seconds", [0, 0.1, 0.4, 1, 2])
def test_ctrl_c_before_a_run_begins_is_one_line(tmp_path, seconds):
  """While modules load, which takes seconds, and arguments and data are read."""
  program = "import sys; from dcjax.launch.main import main; print(flush=True); main()"
  arguments = ["condense", QUICK, f"--workdir={tmp_path / 'run'}"]
  process = subprocess.Popen(
    [sys.executable, "-c", program, *arguments],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  process.stdout.readline()
  time.sleep(seconds + 0.05)  # until `main` has begun
  if process.poll() is not None:
    pytest.skip("the machine is so busy that the run was over before the signal")
  process.send_signal(signal.SIGINT)
  printed, said = process.communicate()
  last = said.splitlines()[-1]
  begun = "; all saved, and the same command goes on"  # on a machine that is fast
  assert printed == "" and last.removesuffix(begun) == "dcjax: stopped by SIGINT"
  assert "Traceback" not in said and "Error" not in said
  assert process.returncode == 130


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: no room")])
def test_memory_that_has_run_out_is_one_line(monkeypatch, capsys, error):
  def fail(arguments):
    raise error

  monkeypatch.setattr(main, "run", fail)
  assert "compute: out of memory; take fewer" in mistake(monkeypatch, capsys, "evaluate")


def test_a_network_that_there_is_not_is_said_before_the_data_are_read(
  run, monkeypatch, capsys, tmp_path
):
  monkeypatch.setattr("dcjax.data.load", None)
  flags = ["--architectures=convnet,foo", f"--synthetic={run / 'synthetic.npz'}"]
  message = mistake(monkeypatch, capsys, "evaluate", *flags)
  assert "evaluation.architectures: 'foo': " in message


def test_output_that_cannot_be_written_is_one_line(run, monkeypatch, capsys, tmp_path):
  monkeypatch.setattr(command, "records", lambda path, unfinished, **options: [])
  output, precious = tmp_path / "records.json", tmp_path / "precious"
  precious.write_text("mine")
  arguments = ("evaluate", f"--synthetic={run / 'synthetic.npz'}", f"--output={output}")
  output.symlink_to(tmp_path / "nowhere")
  assert "there already" in mistake(monkeypatch, capsys, *arguments)
  output.unlink()
  output.with_name("records.json.partial").symlink_to(precious)
  assert "it is a link; remove it" in mistake(monkeypatch, capsys, *arguments)
  assert precious.read_text() == "mine" and not output.exists()


def test_heavy_packages_are_imported_only_when_used():
  program = (
    "import sys, dcjax.commands.condense, dcjax.commands.evaluate, dcjax.launch.main;"
    "unwanted = {'tensorflow', 'tensorflow_datasets', 'tensorboardX', 'matplotlib', 'torch'};"
    "unwanted.add('wandb');"
    "sys.exit(str(unwanted & sys.modules.keys()) if unwanted & sys.modules.keys() else 0)"
  )
  assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_command_line_starts_without_jax():
  program = (
    "import sys, dcjax.launch.main; unwanted = {'jax', 'absl', 'numpy'} & sys.modules.keys();"
    "import dcjax.launch.status; sys.exit('jax' in sys.modules or bool(unwanted))"
  )
  assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.checkout
def test_the_checkout_is_whole_where_the_package_is_installed_elsewhere():
  program = (
    "import sys;"  # an editable install adds a finder, which a plain one has not
    "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)];"
    "import dcjax.configs, dcjax.launch.main, dcjax.__main__;"
    "print(dcjax.configs.__file__, dcjax.launch.__file__)"
  )
  found = subprocess.run(
    [sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True, check=True
  )
  assert found.stdout.split() == [f"{TOP}/configs/__init__.py", f"{TOP}/launch/__init__.py"]
  version = [sys.executable, "-m", "dcjax", "--version"]
  assert subprocess.run(version, capture_output=True, text=True, check=True).stdout[0].isdigit()


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"]])
def test_output_that_nobody_reads_ends_the_command_without_a_traceback(arguments):
  """As behind `| head -1`."""
  read, write = os.pipe()
  os.close(read)
  found = subprocess.run(
    [sys.executable, "-m", "dcjax", *arguments],
    stdout=write, stderr=subprocess.PIPE, text=True, check=False,
  )  # fmt: skip
  os.close(write)
  assert found.returncode == main.CLOSED and "Traceback" not in found.stderr


@pytest.mark.checkout
def test_an_install_has_all_packages():
  """Also one that is not editable, which takes no folder that `setup.cfg` does not list."""
  setup = configparser.ConfigParser()
  setup.read(TOP / "setup.cfg")
  own = {".".join(file.parent.relative_to(TOP).parts) for file in TOP.glob("dcjax/**/__init__.py")}
  listed = set(setup["options"]["packages"].split())
  assert listed == own | {"dcjax.configs", "dcjax.launch"}
