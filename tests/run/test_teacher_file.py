"""A teacher of a file: the same as the one that was trained; what it cannot be."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dcjax.config
from dcjax import UserError, data
from dcjax.commands.evaluate import bind
from dcjax.devices.strategy import Strategy
from dcjax.run import experiment, teacher_file
from dcjax.run.experiment import Keys
from dcjax.run.teacher import Teacher
from dcjax.sets.formation import Stored
from tests.runs import tiny

NETWORK = "convnet:width=4:depth=1:norm=batch"


def made(text, folder, dataset):
  config = tiny("dm", dataset__cache_dir=str(folder / "cache"))
  return experiment.teacher(
    dcjax.config.resolve(config), dataset, Strategy(), Keys.from_seed(0), str(text), 1,
    "evaluation.teacher",
  )  # fmt: skip


@pytest.fixture(scope="module")
def dataset():
  return data.load(dcjax.config.resolve(tiny("dm")).dataset)


@pytest.fixture(scope="module")
def saved(dataset, tmp_path_factory):
  """A teacher that was trained for an epoch, and its file."""
  folder = tmp_path_factory.mktemp("teacher")
  teacher = made(NETWORK, folder, dataset)
  assert isinstance(teacher, Teacher)
  teacher.trained(jax.block_until_ready)
  teacher.save(folder / "teacher.npz")
  return teacher, folder / "teacher.npz"


def test_it_labels_as_the_one_that_was_trained(saved, dataset, tmp_path):
  teacher, file = saved
  again = made(file, tmp_path, dataset)
  assert isinstance(again, teacher_file.FromFile)
  images = dataset.normalise(dataset.test_images[:20])
  logits = [
    each.network.apply(params, images, stats)[0]
    for each in (teacher, again)
    for params, stats in [each.trained(jax.block_until_ready)]
  ]
  np.testing.assert_array_equal(*logits)
  ours, theirs = again.record(), teacher.record()
  assert ours["teacher"].startswith("convnet:") and "norm=batch" in ours["teacher"]
  assert ours | {"teacher": ""} == theirs | {"teacher": ""}
  assert not (tmp_path / "cache" / "teachers").exists()


def changed(file, path, **arrays):
  with np.load(file) as found:
    content = dict(found)
  content |= arrays
  np.savez(path, **{name: array for name, array in content.items() if array is not None})
  return path


def about(file, **changes):
  with np.load(file) as found:
    metadata = json.loads(str(found["metadata"])) | changes
  return np.array(json.dumps(metadata))


def evil(file):
  Path(file).write_text("raise SystemExit")
  return f"{file}:Net"


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"class_names": ["a"]}, "has seen images of another class names"),
    ({"image_shape": [9, 9, 1]}, "has seen images of another image shape"),
    ({"mean": [0.9]}, "has seen images of another mean"),
    ({"whitening": "0123"}, "has seen images of another whitening"),
    ({"network": "convnet:width=8"}, "does not hold the parameters of its network"),
    ({"network": "convent"}, "unknown 'convent'"),
    ({"network": 5}, "is no teacher"),
    ({"accuracy": 7}, "is no teacher"),
  ],
)
def test_a_teacher_of_something_else_is_refused(saved, dataset, tmp_path, changes, words):
  file = changed(saved[1], tmp_path / "t.npz", metadata=about(saved[1], **changes))
  with pytest.raises(UserError, match=words):
    made(file, tmp_path, dataset)


def test_files_that_are_damaged_or_none_are_refused_in_a_line(saved, dataset, tmp_path):
  with pytest.raises(UserError, match=r"missing\.npz is not there"):
    made(tmp_path / "missing.npz", tmp_path, dataset)
  (tmp_path / "text.npz").write_text("none")
  with pytest.raises(UserError, match="is damaged"):
    made(tmp_path / "text.npz", tmp_path, dataset)
  name = f"{teacher_file.ARRAYS}0000"
  with np.load(saved[1]) as found:
    nan = np.full_like(found[name], np.nan)
  for array, words in ((None, "parameters"), (nan, "not finite"), (nan.astype("O"), "is damaged")):
    file = changed(saved[1], tmp_path / "t.npz", **{name: array})
    with pytest.raises(UserError, match=words):
      made(file, tmp_path, dataset)
  file = changed(saved[1], tmp_path / "t.npz", metadata=None)
  with pytest.raises(UserError, match="is no teacher"):
    made(file, tmp_path, dataset)


def test_no_code_is_run_of_a_file(saved, dataset, tmp_path):
  network = evil(tmp_path / "net.py")
  file = changed(saved[1], tmp_path / "t.npz", metadata=about(saved[1], network=network))
  with pytest.raises(UserError, match="is no teacher"):
    made(file, tmp_path, dataset)


def test_a_sets_file_does_not_decide_that_another_is_read(saved, dataset, tmp_path):
  config = dcjax.config.resolve(tiny("dm", evaluation__teacher=str(saved[1])))
  images = jnp.zeros((10, 1, 8, 8, 1))
  experiment.synthetic_set(config, dataset, Stored(images, {})).save(tmp_path / "set.npz")
  with pytest.raises(UserError, match="is another file, and the file of a run does not decide"):
    bind(tmp_path / "set.npz", seed=0)
  bind(tmp_path / "set.npz", teacher=str(saved[1]))
  bind(tmp_path / "set.npz", protocol="dsa")


@pytest.mark.slow
def test_a_teacher_that_is_stopped_goes_on_after_its_last_epoch(dataset, tmp_path, monkeypatch):
  def teacher(folder):
    config = dcjax.config.resolve(tiny("dm", dataset__cache_dir=str(tmp_path / folder)))
    return experiment.teacher(
      config, dataset, Strategy(), Keys.from_seed(0), NETWORK, 3, "evaluation.teacher"
    )

  ours, advanced = teacher("ours"), []

  def stopping(value):
    advanced.append(None)
    if len(advanced) == 3:
      raise KeyboardInterrupt
    return jax.block_until_ready(value)

  with pytest.raises(KeyboardInterrupt):
    ours.trained(stopping)
  (entry,) = (tmp_path / "ours" / "teachers").iterdir()
  assert entry.name.endswith("-unfinished")
  advanced.clear()
  found = teacher("ours").trained(lambda value: advanced.append(None) or value)
  assert len(advanced) == 2  # the third epoch, and the test
  expected = teacher("theirs").trained(jax.block_until_ready)
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  assert not entry.exists()
