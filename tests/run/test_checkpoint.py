"""Checkpoints: what is read is what was written, else the one before; nothing is deleted."""

import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import UserError
from dcjax.devices import processes
from dcjax.run.checkpoint import Checkpoints

# What `dcjax.launch.main` does not show.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def state(iteration):
  return {"images": jnp.arange(600.0) * iteration, "count": jnp.int32(iteration)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """Checkpoints of iterations 2 and 4."""
  folder = tmp_path_factory.mktemp("run") / "checkpoints"
  checkpoints = Checkpoints(folder)
  for iteration in (2, 4):
    checkpoints.save(iteration, state(iteration), {"condense": iteration / 2})
  checkpoints.close()
  return folder


@pytest.fixture
def folder(written, tmp_path):
  return shutil.copytree(written, tmp_path / "checkpoints")


def restored(folder):
  """What is read, and the iteration that it is of."""
  checkpoints = Checkpoints(folder)
  found, seconds = checkpoints.restore(state(0))
  assert checkpoints.latest == int(found["count"]) == 2 * seconds["condense"]
  np.testing.assert_array_equal(found["images"], state(checkpoints.latest)["images"])
  return checkpoints


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def data(step):
  """The file that holds the arrays."""
  return max(step.rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)


def flip_bits(step):
  for file in step.rglob("*"):
    if file.is_file() and file.parent.name == "d":
      content = bytearray(file.read_bytes())
      content[len(content) // 2] ^= 1
      file.write_bytes(content)


def cut(step):
  os.truncate(data(step), 40)


def empty(step):
  os.truncate(data(step), 0)


def lose_the_state(step):
  shutil.rmtree(step / "state")


def lose_the_progress(step):
  shutil.rmtree(step / "progress")


def lose_everything(step):
  shutil.rmtree(step)
  step.mkdir()


def garble_metadata(step):
  for file in step.rglob("_*METADATA"):
    file.write_bytes(b"\xff{")


def change(**fields):
  def damage(step):
    file = step / "progress" / "metadata"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

  return damage


def come_from_elsewhere(step):
  shutil.rmtree(step)
  shutil.copytree(step.with_name("2"), step)


@pytest.mark.parametrize(
  "damage",
  [
    flip_bits, cut, empty, lose_the_state, lose_the_progress, lose_everything,
    garble_metadata, come_from_elsewhere, change(seconds=3), change(seconds={"condense": "long"}),
    change(digest="0"),
  ],
)  # fmt: skip
def test_the_one_before_serves_and_the_iteration_can_be_saved_again(folder, caplog, damage):
  damage(folder / "4")
  left = {file.name: file.stat().st_size for file in (folder / "4").rglob("*") if file.is_file()}
  checkpoints = restored(folder)
  assert checkpoints.latest == 2
  assert f"{folder / '4'}: corrupt checkpoint (" in caplog.text
  assert names(folder) == ["2", "4.corrupt"]
  checkpoints.save(4, state(4), {"condense": 2.0})
  checkpoints.close()
  assert restored(folder).latest == 4 and names(folder) == ["2", "4", "4.corrupt"]
  kept = (folder / "4.corrupt").rglob("*")
  assert {file.name: file.stat().st_size for file in kept if file.is_file()} == left


def test_old_corrupt_ones_do_not_count_among_those_that_are_kept(folder):
  cut(folder / "4")
  checkpoints = restored(folder)
  for iteration in (4, 6, 8):
    checkpoints.save(iteration, state(iteration), {"condense": iteration / 2})
  assert names(folder) == ["4.corrupt", "6", "8"]


def test_no_good_one_is_an_error_that_changes_nothing(folder):
  for step in ("2", "4"):
    cut(folder / step)
  for _ in range(2):
    with pytest.raises(UserError, match=r"all checkpoints are corrupt \(4: ") as caught:
      restored(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
  assert names(folder) == ["2", "4"]


def test_processes_agree_on_which_one_serves(folder, monkeypatch):
  asked = []
  monkeypatch.setattr(processes, "highest", lambda bad: asked.append(bad) or len(asked) == 1)
  assert restored(folder).latest == 2 and asked == [False, False]


def test_checkpoints_of_an_earlier_version_are_read(folder):
  file = folder / "4" / "progress" / "metadata"
  fields = json.loads(file.read_text())
  del fields["iteration"]
  file.write_text(json.dumps(fields))
  assert restored(folder).latest == 4
