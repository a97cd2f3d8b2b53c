"""What `dcjax doctor` finds, what it calls wrong, and what it leaves alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from dcjax.launch import doctor as launched
from dcjax.launch import main

import dcjax
from dcjax import UserError
from dcjax.commands import doctor
from dcjax.data import originals

SIDE = 64


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  """A home that is empty, and a working folder in it, on a machine that lacks nothing."""
  for name in ("XDG_CACHE_HOME", "TFDS_DATA_DIR"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("HOME", str(tmp_path))
  for name, value in {"SMALLEST": SIDE, "LARGEST": SIDE, "STEP": SIDE, "gpus": list}.items():
    monkeypatch.setattr(doctor, name, value)
  for name in ("LOW_DISK", "LOW_MEMORY"):  # whatever this machine has
    monkeypatch.setattr(doctor, name, 0)
  (tmp_path / "work").mkdir()
  monkeypatch.chdir(tmp_path / "work")
  return tmp_path


def told(report):
  return [f"{each['what']}; {each['remedy']}" for each in report["problems"]]


def test_a_machine_that_is_well(home):
  before = set(home.rglob("*"))
  report = doctor.examine()
  assert set(report["versions"]) == {"dcjax", "python", *doctor.PACKAGES}
  assert report["versions"]["dcjax"] == dcjax.__version__ and all(report["versions"].values())
  (device,) = report["devices"]
  assert device["platform"] == "cpu" and device["number"] >= 1 and device["memory_bytes"] > 0
  assert report["folders"]["datasets"]["path"] == "~/.cache/dcjax"
  assert report["folders"]["runs"]["path"] == "~/work/runs"
  product = report["product"]
  assert (product["side"], product["dtype"]) == (SIDE, "float32")
  assert product["gflops"] == pytest.approx(2 * SIDE**3 / product["seconds"] / 1e9)
  assert set(home.rglob("*")) == before  # nothing is left behind


def test_text_and_json_say_the_same(capsys):
  main.run(["doctor", "--json"])
  report = json.loads(capsys.readouterr().out)
  main.run(["doctor"])
  lines = capsys.readouterr().out.splitlines()
  shown = [line.split() for line in lines]
  for name, version in report["versions"].items():
    assert [name, version] in shown
  for name, each in report["datasets"].items():
    assert each["path"] is None and [name, "not", "here;"] in [words[:3] for words in shown]
  assert any("as measured, which is no bound" in line for line in lines)
  assert lines[-1] == "No problems"
  assert len({line.index("not here") for line in lines if " to download" in line}) == 1


def test_datasets_are_found_where_runs_find_them(home):
  downloads = home / ".cache" / "dcjax" / "downloads"
  for file in originals.ORIGINALS["mnist"].files:
    path = downloads / "mnist" / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
  half = downloads / "svhn_cropped" / "train_32x32.mat"  # the other file would be downloaded
  mine = home / "mine" / "cifar-100-binary" / "train.bin"
  prepared = home / "tensorflow_datasets" / "usps" / "1.0.0" / "dataset_info.json"
  words = downloads / originals.SPEECH / originals.SPEECH / "yes" / "a.wav"
  for file in (half, mine, prepared, words):
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
  report = doctor.examine(data_dir="~/mine", side=SIDE)
  found = {name: each["path"] for name, each in report["datasets"].items() if each["path"]}
  assert found == {
    "mnist": "~/.cache/dcjax/downloads/mnist",
    "cifar100": "~/mine/cifar-100-binary",
    originals.SPEECH: f"~/.cache/dcjax/downloads/{originals.SPEECH}/{originals.SPEECH}",
  }
  assert doctor.datasets("", "")["usps"]["path"] == "~/tensorflow_datasets/usps"
  assert report["folders"]["datasets"]["bytes"] == 40


def test_a_gpu_that_jax_does_not_use(monkeypatch):
  monkeypatch.setattr(doctor, "gpus", lambda: ["NVIDIA X"])
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  report = doctor.examine()
  expected = "NVIDIA X is here, but jax computes on the CPU; pip install 'dcjax[cuda12]'"
  assert told(report) == [expected] and not report["problems"][0]["broken"]
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert "unset JAX_PLATFORMS, which is cpu" in told(doctor.examine())[0]


@pytest.mark.parametrize(
  ("script", "expected"),
  [("echo NVIDIA A; echo NVIDIA B", ["NVIDIA A", "NVIDIA B"]), ("echo failed; exit 9", [])],
)
def test_gpus_are_those_that_the_driver_lists(home, monkeypatch, script, expected):
  monkeypatch.undo()
  tool = home / "nvidia-smi"
  tool.write_text(f"#!/bin/sh\n{script}\n")
  tool.chmod(0o755)
  monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
  assert doctor.gpus() == expected
  monkeypatch.setenv("PATH", "")
  assert doctor.gpus() == []


def unwritable(dir=None):
  raise OSError(30, "Read-only file system")


def test_folders_that_cannot_be_written_to(monkeypatch):
  monkeypatch.setattr(doctor.tempfile, "TemporaryFile", unwritable)
  report = doctor.examine()
  assert (
    "~/.cache/dcjax cannot be written to; see to its permissions, or give another folder in"
    in (told(report)[0])
  )
  assert [each["broken"] for each in report["problems"]] == [False, False, True]


def test_a_file_in_place_of_a_folder(home):
  (home / ".cache").write_text("")
  assert not doctor.examine()["folders"]["datasets"]["writable"]


@pytest.mark.parametrize(("free", "broken"), [(10**9, False), (10**6, True)])
def test_a_disk_without_room(monkeypatch, free, broken):
  monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
  monkeypatch.setattr(doctor, "LOW_DISK", 10**10)
  report = doctor.examine()
  assert "~/work/runs has little room (1 " in told(report)[2]
  assert report["problems"][2]["broken"] == broken


def test_little_memory_and_a_wrong_product(monkeypatch, capsys):
  monkeypatch.setattr("dcjax.common.environment.memory", lambda: 10**9)
  monkeypatch.setattr(doctor, "LOW_MEMORY", 10**10)

  def wrong(side):
    raise ValueError("the product of two matrices is wrong")

  monkeypatch.setattr(doctor, "_seconds", wrong)
  with pytest.raises(SystemExit) as caught:
    main.run(["doctor"])
  assert caught.value.code == launched.BROKEN
  shown = capsys.readouterr().out
  assert "has little memory (1 GB); lower compute.image_block" in shown
  assert "broken: the device cannot multiply matrices" in shown


def test_a_package_that_is_missing(monkeypatch):
  version = doctor.metadata.version

  def without_grain(name):
    if name == "grain":
      raise doctor.metadata.PackageNotFoundError(name)
    return version(name)

  monkeypatch.setattr(doctor.metadata, "version", without_grain)
  report = doctor.examine()
  assert told(report) == ["grain is not installed; pip install grain"]
  assert "  grain                not installed" in list(launched.lines(report))


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_without_jax_it_says_so(home, more):
  broken = home / "broken" / "jax"
  broken.mkdir(parents=True)
  (broken / "__init__.py").write_text("raise ImportError('built for another numpy')")
  folders = [str(broken.parent), str(Path(dcjax.__file__).parents[1])]
  done = subprocess.run(
    [sys.executable, "-m", "dcjax", "doctor", *more],
    env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)}, capture_output=True, text=True,
    check=False,
  )  # fmt: skip
  assert done.returncode == launched.BROKEN and "Traceback" not in done.stderr
  assert "jax cannot be loaded (built for another numpy)" in done.stdout
  if more:
    assert json.loads(done.stdout)["problems"][0]["broken"]


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--data_dir=/no/such", "--data_dir: no folder /no/such; give one"),
    ("--dat=1", "see dcjax doctor --help"),
    ("more", "doctor: 'more' is not a flag"),
    ("--runs=~nobody_here/x", "--runs: ~nobody_here/x: there is no such user"),
  ],
)
def test_mistakes_on_the_command_line(flag, message):
  with pytest.raises(UserError) as caught:
    main.run(["doctor", flag])
  assert message in str(caught.value)


def test_a_folder_that_cannot_be_looked_into(monkeypatch):
  def closed(name, **places):
    raise PermissionError(13, "Permission denied", "/closed")

  monkeypatch.setattr(originals, "here", closed)
  with pytest.raises(
    UserError, match=r"mnist: cannot look into /closed \(Permission denied\); see"
  ):
    doctor.examine()


def test_a_home_is_not_shown(monkeypatch):
  monkeypatch.setenv("HOME", "/home/ann")
  assert doctor.shown(Path("/home/ann/x")) == "~/x"
  assert doctor.shown(Path("/home/anna/x")) == "/home/anna/x"
  monkeypatch.setenv("HOME", "/")
  assert doctor.shown(Path("/data")) == "/data"
