"""`dcjax experts`: what is kept, that nothing is lost, and who may use it."""

import json
import re
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dcjax.configs import mtt
from dcjax.launch import main
from jax.flatten_util import ravel_pytree
from PIL import Image

import dcjax.config
from dcjax import SyntheticSet, UserError, augment, data
from dcjax.commands import experts as driver
from dcjax.commands.condense import condense
from dcjax.commands.experts import experts
from dcjax.common.registry import METHODS
from dcjax.methods import trajectories
from dcjax.nn import training
from dcjax.run import experiment
from tests.runs import Killed, killed_again_and_again, tiny

FEW = {"experts__networks": 2, "experts__epochs": 3, "start__most": 2, "ipc": 2}


def config_of(**changes):
  return tiny("tm", **FEW | {"iterations": 4} | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("experts")
  experts(config_of(), folder)
  return folder


def opened(folder, **changes):
  """The trajectories that a run of a config finds."""
  config = dcjax.config.resolve(config_of(experts__folder=str(folder), **changes))
  dataset = data.load(config.dataset)
  layout = experiment.strategy(config, dataset)
  network = experiment.network(config, dataset, layout)
  needed = config.start.most - 1 + config.expert_epochs
  return trajectories.find(config, dataset, network, needed)


def test_each_epoch_is_kept(trained):
  config = dcjax.config.resolve(config_of())
  dataset = data.load(config.dataset)
  layout = experiment.strategy(config, dataset)
  network = experiment.network(config, dataset, layout)
  rows = np.load(trained / "0001.npy")
  assert len(rows) == 4 and rows.dtype == np.float32
  unravel = trajectories.unraveller(network)
  strategy = augment.transform(config.dsa.strategy, draw="one", shared=False)
  batching = training.Batching(256, 256, dataset.normalise, strategy)
  learner = training.Learner(network, optax.sgd(0.01), batching)
  init_key, key = jax.random.split(jax.random.fold_in(experiment.Keys.from_seed(0).loop, 1))
  flat = ravel_pytree(network.init(init_key))[0]

  @jax.jit
  def epoch(flat, key):
    params = unravel(flat)
    carry = params, learner.optimizer.init(params)
    return ravel_pytree(training.epoch(learner, carry, dataset.images, dataset.labels, key)[0])[0]

  for number, row in enumerate(rows):
    np.testing.assert_allclose(row, flat, atol=1e-6)
    flat = epoch(flat, jax.random.fold_in(key, number))


def test_what_is_read_is_what_was_kept(trained):
  found = opened(trained)
  assert (found.count, found.about["experts"]["networks"]) == (2, 2)
  rows = np.load(trained / "0001.npy")
  at = jax.jit(lambda expert, epoch: (found.at(expert, epoch), found.last(expert)))
  for epoch in range(4):
    row, last = at(jnp.int32(1), jnp.int32(epoch))
    np.testing.assert_array_equal(row, rows[epoch])
    np.testing.assert_array_equal(last, rows[3])
  assert opened(trained, experts__networks=1).count == 1


def test_a_kill_loses_no_epoch(trained, tmp_path, monkeypatch):
  epochs, starts, once = [], [], driver.Training._once_through

  def counted(self, *arguments):
    epochs.append(1)
    return once(self, *arguments)

  def start():
    starts.append(1)
    return experts(config_of(), tmp_path / "e")

  monkeypatch.setattr(driver.Training, "_once_through", counted)
  manifest = killed_again_and_again(monkeypatch, start)
  assert len(starts) > 5 and len(epochs) < 6 + len(starts)  # of six, one at most is lost by a kill
  for name in ("0000.npy", "0001.npy"):
    assert (tmp_path / "e" / name).read_bytes() == (trained / name).read_bytes()
  there = json.loads((trained / "experts.json").read_text())["experts"]
  assert [e["sha256"] for e in manifest["experts"]] == [e["sha256"] for e in there]
  names = {path.name for path in (tmp_path / "e").iterdir()}
  assert {"0000.npy", "0001.npy", "experts.json"} <= names
  assert not [name for name in names if name.startswith("unfinished")]


def test_more_experts_are_added_and_a_deleted_one_is_trained_again(trained, tmp_path):
  folder = tmp_path / "e"
  shutil.copytree(trained, folder)
  (folder / "0000.npy").unlink()
  manifest = experts(config_of(experts__networks=3), folder)
  assert len(manifest["experts"]) == 3
  for name in ("0000.npy", "0001.npy"):
    assert (folder / name).read_bytes() == (trained / name).read_bytes()
  assert opened(folder, experts__networks=3).count == 3
  before = (folder / "0002.npy").stat().st_mtime_ns
  experts(config_of(experts__networks=3), folder)
  assert (folder / "0002.npy").stat().st_mtime_ns == before


def test_only_the_needed_epochs_in_half_precision(trained, tmp_path):
  changes = {"experts__epochs": 5, "experts__kept": "needed", "experts__dtype": "float16"}
  manifest = experts(config_of(**changes), tmp_path)
  assert manifest["kept"] == [0, 1, 2, 5]
  rows = np.load(tmp_path / "0000.npy")
  assert rows.dtype == np.float16
  np.testing.assert_allclose(rows[:3], np.load(trained / "0000.npy")[:3], atol=1e-3)
  found = opened(tmp_path, experts__epochs=5)
  np.testing.assert_array_equal(found.last(jnp.int32(0)), np.float32(rows[3]))
  with pytest.raises(UserError, match=r"start.most: students end at epoch 3 .* kept up to epoch 2"):
    opened(tmp_path, start__most=3)


def test_from_disk(tmp_path):
  rng = np.random.default_rng(0)
  for split, count in (("train", 9), ("test", 4)):
    for name in "ab":
      for number in range(count):
        file = tmp_path / "set" / split / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(file)
  fields = {
    "dataset__name": "folder", "dataset__data_dir": str(tmp_path / "set"), "dataset__side": 8,
    "dataset__cache_dir": str(tmp_path / "cache"), "compute__workers": 0, "experts__batch": 8,
  }  # fmt: skip
  manifest = experts(config_of(compute__streaming=True, **fields), tmp_path / "disk")
  assert len(manifest["experts"]) == 2
  rows = np.load(tmp_path / "disk" / "0000.npy")
  assert (np.abs(np.diff(rows, axis=0)).max(1) > 0).all()
  # Experts of images on disk serve where these are in memory, and the other way round.
  assert opened(tmp_path / "disk", **fields).count == 2


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"network__width": 5}, "network.width: 4 there, 5 here"),
    ({"dataset__zca": True}, "dataset.zca: False there, True here"),
    ({"experts__rho": 0.1}, "experts.rho: 0.0 there, 0.1 here"),
    ({"dsa__strategy": "flip"}, "dsa.strategy: color_crop_.* there, flip here"),
    ({"start__most": 4, "experts__epochs": 9}, "start.most: students end at epoch 4 .* epoch 3"),
    ({"dataset__classes": ("1", "2")}, r"training images, by their digest: \w+ there, \w+ here"),
  ],
)
def test_others_experts_are_refused(trained, changes, message):
  with pytest.raises(UserError, match=message):
    opened(trained, **changes)


def damage(file):
  content = bytearray(file.read_bytes())
  content[-1] ^= 1
  file.write_bytes(content)


@pytest.mark.parametrize(
  ("harm", "message"),
  [
    (lambda folder: damage(folder / "0000.npy"), "0000.npy is damaged .its content has changed"),
    (lambda folder: (folder / "0001.npy").write_bytes(b"abc"), "0001.npy is damaged"),
    (lambda folder: (folder / "0001.npy").unlink(), "0001.npy is damaged"),
    (lambda folder: np.save(folder / "0000.npy", np.zeros((4, 3))), "0000.npy is damaged .float64"),
    (lambda folder: (folder / "experts.json").unlink(), "no experts.json in"),
    (lambda folder: (folder / "experts.json").write_text("{}"), "experts.json is damaged"),
    (lambda folder: (folder / "experts.json").write_text("["), "experts.json is damaged"),
  ],
)
def test_damaged_folders(trained, tmp_path, harm, message):
  folder = tmp_path / "e"
  shutil.copytree(trained, folder)
  harm(folder)
  with pytest.raises(UserError, match=message):
    opened(folder)


def test_what_cannot_be_trained(trained, tmp_path, monkeypatch):
  for method in METHODS:
    if method != "tm":
      with pytest.raises(UserError, match=f"config: {method} has no experts; give configs/mtt.py"):
        experts(dcjax.config.default(method), tmp_path)
  with pytest.raises(UserError, match=r"workdir: .* holds experts with seed: 0, this config has 1"):
    experts(config_of(seed=1), trained)
  with pytest.raises(UserError, match=r"experts.lr: 1000.0 leads to parameters"):
    experts(config_of(experts__lr=1000.0, network__norm="none", experts__dtype="float16"), tmp_path)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
  with pytest.raises(UserError, match=r"experts.networks: 2 experts of [\d,]+ bytes do not fit"):
    experts(config_of(), tmp_path / "full")
  with pytest.raises(UserError, match=r"experts.folder: empty; train experts by 'dcjax experts"):
    condense(config_of(), tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(trained, tmp_path):
  fields = {"learn": "both", "init": "correct", "gradient": "tesla", "average": 0.5}
  fields["experts__folder"] = str(trained)
  condense(config_of(**fields), tmp_path / "whole")
  condense(config_of(**fields, iterations=2), tmp_path / "parts")
  summary = condense(config_of(**fields), tmp_path / "parts")
  whole, parts = (
    SyntheticSet.load(tmp_path / name / "synthetic.npz") for name in ("whole", "parts")
  )
  np.testing.assert_array_equal(whole.images, parts.images)
  assert whole.metadata["student_lr"] == parts.metadata["student_lr"] != 0.01
  assert whole.training() == {"lr": whole.metadata["student_lr"]}
  assert whole.metadata["experts"]["networks"] == 2
  rates = {record["set"]: record["lr"] for record in summary["evaluations"]}
  assert rates == {"synthetic": whole.metadata["student_lr"], "random": 0.01}
  np.testing.assert_array_equal(whole.soft_labels, parts.soft_labels)
  assert whole.metadata["label_kind"] == "logit"


def test_a_config_that_has_changed_does_not_go_on_with_unfinished_experts(tmp_path, monkeypatch):
  once = driver.Training._once_through

  def stopping(self, *arguments):
    stopping.left -= 1
    if not stopping.left:
      raise Killed
    return once(self, *arguments)

  stopping.left = 3
  monkeypatch.setattr(driver.Training, "_once_through", stopping)
  with pytest.raises(Killed):
    experts(config_of(), tmp_path)
  with pytest.raises(UserError, match=r"experts.lr: 0.01 there, 0.5 here"):
    experts(config_of(experts__lr=0.5), tmp_path)
  with pytest.raises(UserError, match="holds experts with seed: 0, this config has 3"):
    experts(config_of(seed=3), tmp_path)


def test_fewer_experts_than_asked_are_said(trained):
  with pytest.raises(
    UserError, match=r"experts.networks: 5, but 2 are done in .*; give the number"
  ):
    opened(trained, experts__networks=5)


@pytest.mark.slow
def test_labels_and_pool_are_of_the_images_of_a_file(trained, tmp_path):
  """What a method computes at its start is of the images that it starts with."""
  quick = {"evaluation__networks": 0, "iterations": 1, "experts__folder": str(trained)}
  condense(config_of(**quick), tmp_path / "first")
  file = str(tmp_path / "first" / "synthetic.npz")
  images = SyntheticSet.load(file).images
  condense(config_of(**quick, learn="both", init=file, lr_label=1e-9), tmp_path / "second")
  start = SyntheticSet.load(tmp_path / "second" / "images" / "000000.npz")
  np.testing.assert_array_equal(start.images, images)
  found = opened(trained)
  config = dcjax.config.resolve(config_of())
  dataset = data.load(config.dataset)
  network = experiment.network(config, dataset, experiment.strategy(config, dataset))
  unravel = trajectories.unraveller(network)
  flat = jnp.asarray(images.reshape(-1, *dataset.image_shape))
  logits = np.stack([network.apply(unravel(found.last(jnp.int32(i))), flat)[0] for i in range(2)])
  right = logits.argmax(-1) == np.repeat(np.arange(10), 2)
  weights = np.where(right.any(0), right, 1)[..., None]
  expected = (weights * logits).sum(0) / weights.sum(0)
  np.testing.assert_allclose(start.soft_labels.reshape(20, 10), expected, atol=1e-4)


def test_batch_norm_is_refused(trained, tmp_path):
  with pytest.raises(UserError, match=r"network.norm: batch norm has averages"):
    experts(config_of(network__norm="batch"), tmp_path)


def test_the_command(tmp_path, capsys, monkeypatch):
  def quick(argument):
    config = mtt.get_config(argument)
    assert config.method == "tm"
    return config

  monkeypatch.setattr(mtt, "get_config", quick)
  main.run(
    [
      "experts", "--config=configs/mtt.py:smoke", "--config.dataset.name=digits",
      "--config.dataset.zca=False", f"--workdir={tmp_path / 'e'}",
    ]
  )  # fmt: skip
  printed = capsys.readouterr().out
  assert re.match(r"1 experts?, \d+\.\d\d \+- 0\.00 % of the test images right\n", printed)
  assert f"--config.experts.folder={tmp_path / 'e'}" in printed


def test_a_folder_of_somebody_else_is_refused(tmp_path):
  mine = [tmp_path / "unfinished-chapter", tmp_path / "unfinished-0000", tmp_path / "0000.npy"]
  for file in mine:
    file.write_text("mine")
  with pytest.raises(UserError, match=r"holds 0000\.npy but no experts"):
    experts(config_of(), tmp_path)
  assert [file.read_text() for file in mine] == ["mine"] * 3


def test_only_epochs_are_deleted(trained, tmp_path):
  shutil.copytree(trained, tmp_path / "copy")
  mine, left = tmp_path / "copy" / "unfinished-chapter", tmp_path / "copy" / "unfinished-0007.npy"
  mine.write_text("mine")
  left.write_text("of a start that was killed")
  experts(config_of(), tmp_path / "copy")
  assert mine.exists() and not left.exists()
