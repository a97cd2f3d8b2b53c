"""Several processes as one: the same numbers, killed and gone on with; and the cluster scripts."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dcjax.common.errors import UserError
from dcjax.devices.processes import join
from dcjax.sets.synthetic import SyntheticSet

LAUNCH = Path(__file__).parents[2] / "launch"
RUN = [
  sys.executable, "-m", "dcjax.launch.main", "condense", "--config=configs/quickstart.py:smoke",
  "--config.iterations=60", "--config.checkpoint_every=5", "--config.network.name=mlp",
  "--config.inner_loop=1", "--config.evaluation.networks=0",
]  # fmt: skip
SECONDS = 240


def start(workdir: Path, devices: int, *more: str) -> subprocess.Popen:
  flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
  with (workdir.parent / f"log{len(more)}").open("a") as log:
    return subprocess.Popen(
      [*RUN, f"--workdir={workdir}", *more], env=environment, stdout=log, stderr=log
    )


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def wait_for(path: Path, *running: subprocess.Popen) -> None:
  for _ in range(SECONDS * 10):
    if path.exists():
      return
    assert all(process.poll() is None for process in running)
    time.sleep(0.1)
  raise TimeoutError(path)


@pytest.mark.slow
def test_one_of_two_processes_is_killed_and_the_run_goes_on_on_other_devices(tmp_path):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  alone = start(whole, 1)
  coordinator = f"--coordinator=127.0.0.1:{free_port()}"
  two = [start(killed, 2, coordinator, "--processes=2", f"--process={n}") for n in (0, 1)]
  try:
    wait_for(killed / "checkpoints" / "5", *two)
    two[1].kill()
  finally:
    for process in two:
      process.kill()
      process.wait()
  assert not (killed / "summary.json").exists()
  assert start(killed, 3).wait(SECONDS) == 0
  assert alone.wait(SECONDS) == 0
  found, expected = (SyntheticSet.load(path / "synthetic.npz").images for path in (killed, whole))
  np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((None, 2, 0), "--coordinator: missing; give HOST:PORT of the first process, or auto"),
    (("127.0.0.1:1", None, 0), "--processes, --process: missing"),
    (("127.0.0.1:1", 2, 2), "--process: 2 is too large; give 1 at most"),
    (("127.0.0.1:1", 0, 0), "--processes: 0 is too small; give 1 or more"),
  ],
)
def test_what_does_not_make_processes_one(arguments, message):
  with pytest.raises(UserError, match=re.escape(message)):
    join(*arguments)


# --- Scripts -------------------------------------------------------------------------------

PRESET = ("configs/dm.py:cifar10,ipc=10", "runs/a b", "--config.seed=1")
COMMAND = ["condense", "--config=configs/dm.py:cifar10,ipc=10", "--workdir=runs/a b"]


@pytest.fixture
def cluster(tmp_path):
  """Stands in for a cluster: a folder of commands that write down how they are called."""
  for name in ("srun", "scontrol", "gcloud", "dcjax"):
    file = tmp_path / name
    file.write_text(
      f'#!/usr/bin/env bash\necho "{name} ${{CUDA_VISIBLE_DEVICES-}}" >> {tmp_path}/calls\n'
      f'printf "%s\\n" "$@" >> {tmp_path}/calls\n[[ {name} != srun ]] || exit ${{CODE-0}}\n'
    )
    file.chmod(0o755)
  environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}

  def call(script, *arguments, **more):
    done = subprocess.run(
      ["bash", LAUNCH / script, *arguments],
      env=environment | more, capture_output=True, text=True, check=False,
    )  # fmt: skip
    calls = tmp_path / "calls"
    return done, calls.read_text().splitlines() if calls.exists() else []

  return call


def test_slurm_starts_one_process_a_task_which_find_each_other(cluster):
  done, calls = cluster("slurm.sh", *PRESET)
  assert done.returncode == 0
  assert calls[:2] == ["srun ", "--kill-on-bad-exit=1"]
  assert calls[2:] == ["dcjax", COMMAND[0], "--coordinator=auto", *COMMAND[1:], "--config.seed=1"]


@pytest.mark.parametrize(("code", "requeued"), [(143, True), (2, False)])
def test_slurm_requeues_a_run_that_was_asked_to_stop(cluster, code, requeued):
  done, calls = cluster("slurm.sh", *PRESET, CODE=str(code))
  assert done.returncode == code
  assert (calls[-3:] == ["scontrol ", "requeue", "7"]) == requeued


def test_a_tpu_slice_runs_one_command_on_all_hosts(cluster):
  done, calls = cluster("tpu_vm.sh", "pod", "zone", *PRESET)
  assert done.returncode == 0
  assert calls[1:8] == ["compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=zone", "--worker=all"]
  command = calls[8].removeprefix("--command=")
  shown = subprocess.run(
    ["bash", "-c", f'printf "%s\\n" {command}'], capture_output=True, text=True, check=True
  )
  words = ["dcjax", COMMAND[0], "--coordinator=auto", *COMMAND[1:], "--config.seed=1"]
  assert shown.stdout.splitlines() == words


def test_gpus_are_chosen_by_number(cluster):
  done, calls = cluster("gpus.sh", "0,2", *PRESET)
  assert done.returncode == 0
  assert calls == ["dcjax 0,2", *COMMAND, "--config.seed=1"]


ARRAY = ("dc,my/own.py,dm", "0,7", "cifar10,ipc=10", "runs/a b", "--config.ipc=2")
TASKS = [
  (preset, f"runs/a b/{name}-{seed}", seed)
  for preset, name in (
    ("configs/dc.py", "dc"),
    ("my/own.py", "own"),
    ("configs/dm.py", "dm"),
  )
  for seed in (0, 7)
]


@pytest.mark.parametrize("index", range(len(TASKS)))
def test_a_task_of_an_array_is_a_method_and_a_seed(cluster, index):
  done, calls = cluster("slurm_array.sh", *ARRAY, SLURM_ARRAY_TASK_ID=str(index))
  preset, workdir, seed = TASKS[index]
  assert done.returncode == 0 and calls == [
    "srun ", "--ntasks=1", "dcjax", "condense", f"--config={preset}:cifar10,ipc=10",
    f"--workdir={workdir}", f"--config.seed={seed}", "--config.ipc=2",
  ]  # fmt: skip


def test_a_task_of_an_array_is_requeued_alone(cluster):
  tasks = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "40"}
  done, calls = cluster("slurm_array.sh", *ARRAY, **tasks, CODE="143")
  assert done.returncode == 143 and calls[-3:] == ["scontrol ", "requeue", "40_3"]


@pytest.mark.parametrize(
  ("arguments", "index", "message"),
  [
    (ARRAY, "6", "task '6' is none of 0 to 5; start it by sbatch --array=0-5"),
    (ARRAY, "", "task '' is none of 0 to 5"),
    (("dc,,dm", *ARRAY[1:]), "0", "a method is empty"),
    (("dc", "0,x", *ARRAY[2:]), "0", "seed 'x' is not a whole number"),
    (("dc", "", *ARRAY[2:]), "0", "give seeds, as 0,1,2"),
    (ARRAY[:3], "0", "give the folder of the runs"),
  ],
)
def test_an_array_says_in_a_line_what_is_wrong(cluster, arguments, index, message):
  done, calls = cluster("slurm_array.sh", *arguments, SLURM_ARRAY_TASK_ID=index)
  assert done.returncode != 0 and not calls
  assert message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("script", ["slurm.sh", "slurm_array.sh", "tpu_vm.sh", "gpus.sh"])
def test_a_script_says_what_is_missing(cluster, script):
  done, calls = cluster(script)
  assert done.returncode != 0 and "give " in done.stderr and not calls
