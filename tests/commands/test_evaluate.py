"""A saved set may be anybody's: its file does not decide where something is read or written."""

import json
import os
import socket

import jax
import numpy as np
import pytest

import dcjax.config
from dcjax import UserError
from dcjax.commands import plot
from dcjax.commands.evaluate import bind, evaluate
from dcjax.run import experiment
from dcjax.sets.formation import Stored
from dcjax.sets.synthetic import SyntheticSet
from tests.runs import tiny


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
  """An `.npz` of two classes."""
  rng = np.random.default_rng(0)
  images, labels = rng.integers(0, 256, (8, 4, 4), np.uint8), np.arange(8) % 2
  path = tmp_path_factory.mktemp("data") / "toy set.npz"
  np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
  return path


@pytest.fixture
def saved(toy, tmp_path):
  """`saved(changes) -> file` of a set of the toy data whose run had these fields."""

  def save(**changes):
    config = tiny("dc", dataset__name="npz", dataset__data_dir=str(toy), evaluation__networks=1)
    config = dcjax.config.resolve(config)
    dataset = dcjax.data.load(config.dataset)
    stored = Stored(np.zeros((2, 1, *dataset.image_shape), np.float32), {})
    made = experiment.synthetic_set(config, dataset, stored, iteration=3)
    for name, value in changes.items():
      *path, last = name.split("__")
      fields = made.metadata["config"]
      for part in path:
        fields = fields[part]
      fields[last] = value
    made.save(tmp_path / "set.npz")
    return tmp_path / "set.npz"

  return save


def error_of(path, **options):
  with pytest.raises(UserError) as caught:
    bind(path, **options)
  message = str(caught.value)
  assert "\n" not in message and message.isprintable()
  return message


def test_the_user_says_where_the_data_are(saved, toy):
  evaluation, (images, labels), iteration = bind(saved(), data_dir=str(toy))
  assert images.shape == (2, 4, 4, 1) and labels.tolist() == [0, 1] and iteration == 3
  assert [task[0] for task in evaluation.tasks()] == ["synthetic", "random"]


def test_what_the_run_had_is_quoted_but_not_followed(saved, toy):
  message = error_of(saved())
  assert message.startswith("dataset.data_dir: empty, but dataset.name=npz needs it")
  assert message.endswith(f"(its run had --data_dir='{toy}')")


@pytest.mark.parametrize(
  "hostile", ["a\x1b[2Jb", "a\nb", "x" * 5000, ["/etc"], 3, {"a": 1}, None, ""]
)
def test_what_cannot_be_shown_is_not_quoted(saved, hostile):
  assert error_of(saved(dataset__data_dir=hostile)).endswith("give the .npz file")


@pytest.fixture
def touched(monkeypatch):
  """All paths that are opened, listed, made or asked for; and no network."""
  seen = []

  def watch(module, name):
    real = getattr(module, name)

    def watched(path=".", *more, **options):
      seen.append(str(path))
      return real(path, *more, **options)

    monkeypatch.setattr(module, name, watched)

  for name in ("open", "mkdir", "stat", "listdir", "scandir", "rename"):
    watch(os, name)
  watch(__import__("builtins"), "open")
  watch(__import__("io"), "open")
  monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connects"))
  return seen


def test_no_place_in_a_file_is_looked_at(saved, toy, tmp_path, touched, monkeypatch):
  monkeypatch.setattr("dcjax.commands.evaluate.Evaluation", lambda config, *more: config)
  trap = tmp_path / "trap"
  file = saved(
    dataset__data_dir=f"{trap}/data",
    dataset__cache_dir=f"{trap}/cache",
    compute={"cache_dir": f"{trap}/programs", "mesh": "64x64", "workers": 10**9, "chunk": "x"},
  )
  touched.clear()
  config, *_ = bind(file, data_dir=str(toy), cache_dir=str(tmp_path / "mine"))
  assert config.compute.to_dict() == dcjax.config.default("dc").compute.to_dict()
  assert config.dataset.cache_dir == str(tmp_path / "mine")
  assert str(toy) in touched and not any("trap" in path for path in touched)
  assert not trap.exists()


@pytest.mark.parametrize(
  ("changes", "problem"),
  [
    ({"dataset__classes": ["{trap}/secret.txt"]}, "names another file"),
    ({"dataset__classes": "{trap}/secret.txt"}, "dataset.classes"),
    ({"dataset__name": "huggingface:mnist"}, "no dataset that a file may name"),
    ({"dataset__name": "{trap}/data"}, "no dataset that a file may name"),
    ({"dataset__name": "../trap"}, "no dataset that a file may name"),
    ({"dataset__name": "a\nb\x1b"}, "no dataset that a file may name"),
    ({"dataset__name": ""}, "no dataset that a file may name"),
    ({"dataset": "npz"}, "no field 'dataset'"),
    ({"compute": "npz"}, "no field 'compute'"),
    ({"evaluation__networks": "many"}, "evaluation.networks"),
    ({"evaluation__networks": -1}, "evaluation.networks"),
    ({"evaluation__protocol": ["dc"]}, "evaluation.protocol"),
    ({"evaluation__cutmix": 7.0}, "evaluation.cutmix"),
    ({"method": ["dc"]}, "method"),
    ({"method": None}, "method"),
    ({"seed": 2**70}, "seed"),
  ],
)
def test_what_a_file_may_not_say_is_one_line(saved, toy, tmp_path, touched, changes, problem):
  trap = str(tmp_path / "trap")

  def filled(value):
    if isinstance(value, list):
      return [filled(each) for each in value]
    return value.replace("{trap}", trap) if isinstance(value, str) else value

  file = saved(**{name: filled(value) for name, value in changes.items()})
  touched.clear()
  assert problem in error_of(file, data_dir=str(toy))
  assert not any("trap" in path for path in touched)


def test_pictures_of_gradients_do_not_follow_the_config_of_a_run(toy, tmp_path, touched):
  config = tiny("dc", dataset__name="npz", dataset__data_dir=f"{tmp_path}/trap")
  fields = json.loads(dcjax.config.resolve(config).to_json())
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text(json.dumps(fields))
  touched.clear()
  with pytest.raises(UserError, match=r"empty, .* \(its run had --data_dir=.*trap\)"):
    plot.gradients([tmp_path / "run"])
  assert not any("trap" in path for path in touched)


def test_names_of_datasets_that_a_file_may_have():
  for name in ("mnist", "imagenet_resized/32x32:0.1.0", "d4rl/v0-human:1.*.*", "npz"):
    assert dcjax.config.of_file({"dataset": {"name": name}}).dataset.name == name


def test_a_file_that_was_saved_keeps_where_its_data_were(saved, toy):
  assert SyntheticSet.load(saved()).metadata["config"]["dataset"]["data_dir"] == str(toy)


# --- Soft labels ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def black_and_white(tmp_path_factory):
  """An `.npz` of dark images and bright ones, which any network tells apart."""
  rng = np.random.default_rng(0)
  labels = np.arange(40) % 2
  images = (labels[:, None, None] * 150 + rng.integers(0, 100, (40, 4, 4))).astype(np.uint8)
  path = tmp_path_factory.mktemp("data") / "toy.npz"
  np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
  return path


@pytest.mark.parametrize("kind", ["prob", "logit", "centred"])
def test_networks_learn_the_soft_labels_of_a_set(black_and_white, tmp_path, kind):
  """They say the other class of each image; those of random images do not."""
  config = tiny("dc", dataset__name="npz", dataset__data_dir=str(black_and_white), ipc=4)
  config.evaluation.networks, config.evaluation.epochs = 1, 200
  config = dcjax.config.resolve(config)
  dataset = dcjax.data.load(config.dataset)
  images = dcjax.data.random_subset(dataset, jax.random.key(0), ipc=4)
  swapped = np.eye(2, dtype=np.float32)[[[1] * 4, [0] * 4]]
  soft = {"prob": 0.8 * swapped + 0.1, "logit": 5 * swapped, "centred": swapped - 0.5}[kind]
  more = {"label_kind": kind, "student_lr": 0.1}
  made = experiment.synthetic_set(config, dataset, Stored(images, {}), **more)
  made._replace(soft_labels=soft.astype(np.float32)).save(tmp_path / "set.npz")
  ours, random = evaluate(tmp_path / "set.npz", data_dir=str(black_and_white))
  assert ours["last_mean"] < 0.1 and random["last_mean"] > 0.9
  assert ours["lr"] == random["lr"] == 0.1
  assert ours["loss"] == ("squared_error" if kind == "centred" else "cross_entropy")
  slow = evaluate(tmp_path / "set.npz", data_dir=str(black_and_white), lr=1e-6, epochs=1)
  assert slow[0]["lr"] == 1e-6
