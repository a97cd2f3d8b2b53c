"""Selections of real images: what they write, what they share, what they refuse."""

import dataclasses
import json
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dcjax.configs import coreset as preset
from dcjax.launch import main

import dcjax.config
from dcjax import SyntheticSet, UserError, data, evaluation
from dcjax.commands.condense import condense
from dcjax.commands.evaluate import evaluate
from dcjax.commands.select import Selection, select
from dcjax.commands.status import status
from dcjax.common.errors import Interrupted
from dcjax.data import cache
from dcjax.devices.strategy import Strategy
from dcjax.methods.coreset import SELECTIONS
from dcjax.run import experiment, pretrained
from tests.runs import killed_again_and_again

SIZES = (30, 12, 21)  # training images of each class
OTHER = "mlp:init=kaiming"  # another network that compiles quickly


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
  """A shuffled dataset of three classes that a small network can tell apart, and its file."""
  rng = np.random.default_rng(0)
  y_train = rng.permutation(np.repeat(np.arange(3), SIZES))
  y_test = np.repeat(np.arange(3), 10)
  prototypes = rng.integers(60, 196, (3, 4, 4))

  def draw(labels):
    return (prototypes[labels] + rng.integers(-60, 60, (len(labels), 4, 4))).astype(np.uint8)

  arrays = {"x_train": draw(y_train), "y_train": y_train, "x_test": draw(y_test), "y_test": y_test}
  file = tmp_path_factory.mktemp("data") / "toy.npz"
  np.savez(file, **arrays)
  return {"file": file, **arrays}


def toy(arrays, folder, method="herding", **changes):
  """A config whose selection takes a second; `changes` name fields by path."""
  config = preset.get_config("smoke")
  config.method = method
  config.dataset.name, config.dataset.data_dir = "npz", str(arrays["file"])
  config.dataset.cache_dir = str(folder / "cache")
  config.network.name = "mlp"
  config.selection.validation = 15
  for path, value in changes.items():
    config.update_from_flattened_dict({path.replace("__", "."): value})
  return config


@pytest.fixture
def configure(arrays, tmp_path):
  """Makes configs as `toy` does, with a cache of the test's own."""
  return partial(toy, arrays, tmp_path)


@pytest.fixture(scope="module")
def finished(arrays, tmp_path_factory):
  """A selection that nothing stood in for: its config, its folder, and its summary."""
  folder = tmp_path_factory.mktemp("finished")
  config = toy(arrays, folder)
  return config, folder / "run", select(config, folder / "run")


@pytest.fixture
def trainings(monkeypatch):
  """Counts the trainings on the whole set, which take no time: the networks learn nothing."""
  counted = []

  def train(network, settings, layout, dataset, key, wait):
    counted.append(None)
    return pretrained.Trained(network.init(key), dataset.source % 7)

  monkeypatch.setattr(pretrained, "train", train)
  return counted


def chosen(folder):
  return SyntheticSet.load(folder / "synthetic.npz").metadata["indices"]


# --- What it writes ------------------------------------------------------------------------


@pytest.mark.parametrize("method", SELECTIONS)
def test_chosen_images_are_those_of_the_file(configure, arrays, tmp_path, trainings, method):
  select(configure(method, ipc=4, evaluation__networks=0), tmp_path / "run")
  synthetic = SyntheticSet.load(tmp_path / "run" / "synthetic.npz")
  indices = np.array(synthetic.metadata["indices"])
  assert indices.shape == (3, 4) and len(np.unique(indices)) == 12
  np.testing.assert_array_equal(arrays["y_train"][indices], synthetic.labels)
  np.testing.assert_array_equal(synthetic.pixels()[..., 0], arrays["x_train"][indices])
  assert (synthetic.metadata["method"], synthetic.metadata["ipc"]) == (method, 4)


def test_writes_everything(finished):
  _, folder, summary = finished
  assert json.loads((folder / "summary.json").read_text()) == summary
  assert {file.name for file in folder.iterdir()} == {
    ".lock", "config.json", "images", "summary.json", "synthetic.npz",
  }  # fmt: skip
  assert (folder / "images" / "000000.png").is_file()
  assert (summary["method"], summary["dataset"], summary["ipc"]) == ("herding", "toy", 1)
  assert set(summary["seconds"]) == {"train", "select", "evaluate"}
  assert summary["versions"]["jax"] == jax.__version__ and summary["hardware"]["backend"] == "cpu"


def test_compiled_programs_are_kept(configure, tmp_path, monkeypatch):
  monkeypatch.setattr(
    Selection, "finish", lambda *_: {"kept": jax.config.jax_compilation_cache_dir}
  )
  kept = str(tmp_path / "kept")
  assert select(configure("random", compute__cache_dir=kept), tmp_path / "run") == {"kept": kept}


def test_evaluates_what_the_config_asks_for(configure, tmp_path):
  changes = {"evaluation__architectures": (f"mlp,{OTHER}",), "evaluation__networks": 2}
  summary = select(configure("random", evaluation__whole=True, **changes), tmp_path / "run")
  assert [(r["set"], r["network"], r["networks"]) for r in summary["evaluations"]] == [
    (name, network, 2) for name in ("synthetic", "whole") for network in ("mlp", OTHER)
  ]
  assert summary["evaluations"][0]["iteration"] == 0


def test_no_networks_no_evaluation(configure, tmp_path, trainings):
  assert select(configure(evaluation__networks=0), tmp_path / "run")["evaluations"] == []


def test_evaluate_takes_a_coreset(finished, arrays):
  _, folder, summary = finished
  records = evaluate(folder / "synthetic.npz", data_dir=str(arrays["file"]))
  assert [record["set"] for record in records] == ["synthetic", "random"]
  assert records[0] == summary["evaluations"][0]


def test_rules_choose_their_images(configure, arrays, tmp_path, trainings):
  changes = {"ipc": 3, "evaluation__networks": 0}

  def made(method, **more):
    folder = tmp_path / "-".join([method, *more.values()])
    select(configure(method, **changes, **more), folder)
    return chosen(folder)

  labels = arrays["y_train"]
  of_class = [np.flatnonzero(labels == label)[:3].tolist() for label in range(3)]
  assert made("random", selection__random="first") == of_class
  assert made("random") != of_class
  nearest, greedy = made("herding"), made("herding", selection__herding="greedy")
  assert nearest == made("herding", selection__herding="nearest") != greedy
  assert [row[0] for row in nearest] == [row[0] for row in greedy]


def test_herding_and_k_center_begin_with_the_same_image(configure, tmp_path, trainings):
  for method in ("herding", "k_center"):
    select(configure(method, evaluation__networks=0), tmp_path / method)
  assert chosen(tmp_path / "herding") == chosen(tmp_path / "k_center")


@pytest.mark.parametrize("method", ["random", "forgetting"])
def test_the_seed_decides(configure, tmp_path, method):
  for folder, seed in (("one", 0), ("again", 0), ("other", 1)):
    config = configure(method, seed=seed, ipc=4, evaluation__networks=0)
    select(config, tmp_path / folder)
  assert chosen(tmp_path / "one") == chosen(tmp_path / "again") != chosen(tmp_path / "other")


# --- Starting again ------------------------------------------------------------------------


def test_a_finished_selection_is_left_alone(finished):
  config, folder, summary = finished
  before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.name != ".lock"}
  assert select(config, folder) == summary
  after = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.name != ".lock"}
  assert after == before


def test_an_interrupted_evaluation_chooses_nothing_again(
  configure, tmp_path, monkeypatch, trainings
):
  folder, config = tmp_path / "run", configure(evaluation__architectures=(f"mlp,{OTHER}",))
  run = experiment.Evaluation.run

  def interrupted(self, task, *arguments):
    if task[1] == OTHER:
      raise Interrupted(signal.SIGTERM)
    return run(self, task, *arguments)

  with monkeypatch.context() as patch:
    patch.setattr(experiment.Evaluation, "run", interrupted)
    with pytest.raises(Interrupted):
      select(config, folder)
  assert status([folder]).startswith(f"{folder}: stopped ")
  before = (folder / "synthetic.npz").stat().st_mtime_ns
  summary = select(config, folder)
  assert status([folder]).startswith(f"{folder}: finished ")
  assert [record["network"] for record in summary["evaluations"]] == ["mlp", OTHER]
  assert (folder / "synthetic.npz").stat().st_mtime_ns == before


def test_another_config_is_refused(configure, tmp_path):
  select(configure("random", evaluation__networks=0), tmp_path / "run")
  with pytest.raises(UserError, match="belongs to a run with another config: ipc is 1 there"):
    select(configure("random", evaluation__networks=0, ipc=2), tmp_path / "run")


# --- The network trained on the whole set ----------------------------------------------------


def test_methods_and_sizes_share_one_network(configure, tmp_path, trainings):
  for method in ("herding", "k_center", "forgetting"):
    for ipc in (1, 3):
      config = configure(method, ipc=ipc, evaluation__networks=0)
      select(config, tmp_path / f"{method}{ipc}")
  assert len(trainings) == 1


@pytest.mark.parametrize(
  "changes",
  [
    {"seed": 1},
    {"training__epochs": 2},
    {"network__init": "kaiming"},
    {"evaluation__augmentation": "dc"},
    {"dataset__zca": True},
  ],
)
def test_another_network_is_trained_anew(configure, tmp_path, trainings, changes):
  select(configure(evaluation__networks=0), tmp_path / "one")
  select(configure(evaluation__networks=0, **changes), tmp_path / "other")
  assert len(trainings) == 2


def test_other_images_of_the_same_name_are_another_network(configure, arrays, tmp_path, trainings):
  select(configure(evaluation__networks=0), tmp_path / "one")
  others = {name: array for name, array in arrays.items() if name != "file"}
  np.savez(tmp_path / "toy.npz", **{**others, "x_train": 255 - arrays["x_train"]})
  config = configure(evaluation__networks=0, dataset__data_dir=str(tmp_path / "toy.npz"))
  select(config, tmp_path / "other")
  assert len(trainings) == 2


@pytest.mark.parametrize("damage", ["gone", "short", "shape", "bit", "events", "consistent"])
def test_a_damaged_cache_is_a_warning(configure, tmp_path, trainings, caplog, damage):
  config = configure(ipc=3, evaluation__networks=0)
  select(config, tmp_path / "one")
  *params, events = sorted((tmp_path / "cache" / "networks").glob("*/*.npy"))
  file = params[0]
  if damage == "gone":
    file.unlink()
  elif damage == "short":
    file.write_bytes(file.read_bytes()[:-8])
  elif damage == "shape":
    np.save(file, np.zeros(3, np.float32))
  elif damage == "bit":
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
  elif damage == "events":
    np.save(events, np.load(events)[::-1])
  else:  # whole, but not of this network
    cache.write(file.parent, {path.stem: np.load(path)[:1] for path in (*params, events)})
  select(config, tmp_path / "other")
  assert len(trainings) == 2 and chosen(tmp_path / "one") == chosen(tmp_path / "other")
  assert f"{file.parent}: not used (" in caplog.text
  select(config, tmp_path / "third")
  assert len(trainings) == 2


def test_a_cache_that_cannot_be_written_is_no_error(configure, tmp_path, caplog, trainings):
  (tmp_path / "cache").write_text("a file, not a folder")
  select(configure(evaluation__networks=0), tmp_path / "run")
  assert "cannot be written" in caplog.text


EPOCHS = 4


@pytest.fixture(scope="module")
def problem(arrays):
  """A network, the settings of its training, and a dataset."""
  dataset = data.from_arrays(
    arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"], name="toy"
  )
  config = dcjax.config.default("herding")
  config.network.name = "mlp"
  network = experiment.network(config, dataset, Strategy())
  return network, evaluation.EvaluationSettings("dc", EPOCHS, "none", networks=1, checks=1), dataset


def test_the_network_is_that_of_an_evaluation(problem):
  network, settings, dataset = problem
  key = jax.random.key(3)
  params, _ = pretrained.train(network, settings, Strategy(), dataset, key)
  images = dataset.normalise(dataset.images)
  expected = evaluation.train(network, images, dataset.labels, key, epochs=EPOCHS)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, expected)


def test_events_are_counted_after_each_epoch(problem):
  network, settings, dataset = problem
  key, images = jax.random.key(3), dataset.normalise(dataset.images)
  trainer = evaluation.make_trainer(network, settings, Strategy(), images, dataset.labels, key=key)

  @jax.jit
  def train_and_test(carry, epoch):
    carry = trainer.advance(carry, epoch, epoch + 1)
    return carry, network.apply(carry[0], images)[0].argmax(-1) == dataset.labels

  carry, was_right, events, ever = jax.jit(trainer.start)(), False, 0, False
  for epoch in range(EPOCHS):
    carry, right = train_and_test(carry, epoch)
    right = np.asarray(right)
    events, ever, was_right = events + (was_right & ~right), ever | right, right
  expected = np.where(ever, events, EPOCHS)
  assert len(np.unique(expected)) > 1
  counted = pretrained.train(network, settings, Strategy(), dataset, key).events
  np.testing.assert_array_equal(counted, expected)


def test_a_network_that_diverges_is_an_error(problem):
  network, settings, dataset = problem
  broken = network._replace(init=lambda key: jax.tree.map(lambda x: x * jnp.nan, network.init(key)))
  with pytest.raises(UserError, match="network: its parameters are not finite after epoch 1"):
    pretrained.train(broken, settings, Strategy(), dataset, jax.random.key(0))


# --- The best of many random subsets ---------------------------------------------------------


def test_optimal_random_is_the_best_on_images_held_out(configure, arrays, tmp_path, monkeypatch):
  seen = {}

  def evaluator(network, settings, layout, dataset, teacher=None, **more):
    """Stands in for the training of networks: the third of four subsets is the best."""

    def evaluate(subsets, labels, key, own_sets, first):
      assert own_sets and settings.networks == 4
      seen["images"] = np.asarray(subsets[np.arange(4)])
      seen["held"] = np.asarray(dataset.test_images)
      yield jnp.array([[0.1], [0.4]])
      yield jnp.array([[0.9], [0.6]])

    return evaluate

  monkeypatch.setattr(evaluation, "Evaluator", evaluator)
  config = configure("optimal_random", ipc=2, selection__candidates=4, evaluation__networks=0)
  select(config, tmp_path)
  synthetic = SyntheticSet.load(tmp_path / "synthetic.npz")
  np.testing.assert_array_equal(synthetic.pixels().reshape(6, 4, 4, 1), seen["images"][2])
  assert synthetic.metadata["selection"] == pytest.approx(
    {
      "ranked_by": "accuracy on 15 held-out training images",
      "candidates": 4,
      "accuracy": 0.9,
      "accuracy_mean": 0.5,
      "accuracy_std": np.std([0.1, 0.4, 0.9, 0.6]),
    }
  )
  training = {image.tobytes() for image in arrays["x_train"]}
  held = {image.tobytes() for image in seen["held"]}
  assert len(held) == 15 and held <= training
  assert not held & {image.tobytes() for image in seen["images"].reshape(-1, 4, 4)}


@pytest.mark.parametrize("block", [1, 3])
def test_subsets_are_ranked_by_networks_trained_on_them(configure, tmp_path, block):
  config = dcjax.config.resolve(
    configure("optimal_random", ipc=5, selection__candidates=4, compute__network_block=block,
              evaluation__epochs=40)
  )  # fmt: skip
  selection = Selection(config, data.load(config.dataset), tmp_path)
  dataset, free = selection.dataset, np.flatnonzero(~selection.held)
  places = np.stack(
    [
      [free[np.asarray(dataset.labels)[free] == label][k : k + 5] for label in range(3)]
      for k in range(4)
    ]
  )
  accuracies = selection._accuracies(jnp.asarray(places), jax.block_until_ready)
  held = np.flatnonzero(selection.held)
  alone = evaluation.Evaluator(
    selection.network,
    selection.settings._replace(networks=4, checks=1),
    Strategy(),
    dataclasses.replace(
      dataset, test_images=dataset.images[held], test_labels=dataset.labels[held]
    ),
  )
  labels = jnp.repeat(jnp.arange(3), 5)
  for k in range(4):
    images = dataset.normalise(dataset.images[places[k].ravel()])
    expected = np.concatenate(list(alone(images, labels, selection.network_key)))[k, -1]
    assert accuracies[k] == pytest.approx(expected, abs=1.01 / 15)  # one image may turn


@pytest.mark.parametrize("method", ["optimal_random", "k_center"])
def test_kills_lose_no_more_than_a_file(configure, tmp_path, monkeypatch, trainings, method):
  monkeypatch.setattr(
    "dcjax.commands.select.LOG_SECONDS", 0.0
  )  # between two looks at the candidates
  config = configure(
    method, ipc=2, selection__candidates=3, compute__network_block=1,
    evaluation__architectures=("mlp", OTHER),
  )  # fmt: skip
  whole = select(config, tmp_path / "whole")
  summary = killed_again_and_again(monkeypatch, lambda: select(config, tmp_path / "parts"))
  assert summary["evaluations"] == whole["evaluations"]
  for one in ("whole", "parts"):
    assert json.loads((tmp_path / one / "summary.json").read_text())["evaluations"]
  ours, theirs = (SyntheticSet.load(tmp_path / one / "synthetic.npz") for one in ("whole", "parts"))
  np.testing.assert_array_equal(ours.images, theirs.images)
  assert ours.metadata.get("selection") == theirs.metadata.get("selection")


def test_candidates_that_were_tried_are_not_tried_again(configure, tmp_path):
  config = dcjax.config.resolve(
    configure("optimal_random", selection__candidates=4, compute__network_block=1)
  )
  selection = Selection(config, data.load(config.dataset), tmp_path)
  looked = []

  def stop_at(number):
    def wait(arrays):
      looked.append(None)
      if len(looked) == number:
        raise Interrupted(signal.SIGTERM)
      return jax.block_until_ready(arrays)

    return wait

  places = jnp.zeros((4, 3, 1), jnp.int32) + 13 * jnp.arange(4)[:, None, None]
  with pytest.raises(Interrupted):
    selection._accuracies(places, stop_at(3))
  accuracies = selection._accuracies(places, stop_at(99))
  assert len(looked) == 3 + 2
  (tmp_path / "candidates.json").unlink()
  np.testing.assert_array_equal(accuracies, selection._accuracies(places, stop_at(99)))


# --- What it refuses -------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("method", "changes", "message"),
  [
    ("random", {"ipc": 13}, "ipc: 13 is more than the 12 training images of class '1'; give 12 or"),
    ("herding", {"ipc": 0}, "ipc: 0 is too small"),
    ("herdin", {}, "method: unknown 'herdin'; did you mean 'herding'"),
    ("dc", {}, "method: unknown 'dc'; choose one of: forgetting, herding"),
    ("herding", {"training__epochs": 0}, "training.epochs: 0 is too small"),
    ("herding", {"selection__herding": "gredy"}, "selection.herding: unknown 'gredy'; did you"),
    ("random", {"selection__random": "last"}, "selection.random: unknown 'last'"),
    ("optimal_random", {"selection__candidates": 0}, "selection.candidates: 0 is too small"),
    ("optimal_random", {"selection__validation": 0}, "selection.validation: 0 is too small"),
    ("optimal_random", {"selection__validation": 63}, "63 of 63 training images leave 0 of class"),
    ("optimal_random", {"ipc": 12}, r"selection.validation: 15 of 63 .* leave \d+ of class '1'"),
    ("random", {"network__name": "lenet"}, "network.name: lenet takes images of"),
    ("random", {"evaluation__architectures": ("lenet",)}, "evaluation.architectures: 'lenet'"),
  ],
)
def test_mistakes_come_before_any_work(configure, tmp_path, trainings, method, changes, message):
  with pytest.raises(UserError, match=message):
    select(configure(method, **changes), tmp_path / "run")
  assert not trainings and not (tmp_path / "run" / "config.json").exists()


def test_all_images_of_a_class_can_be_chosen(configure, tmp_path, trainings):
  select(configure(ipc=12, evaluation__networks=0), tmp_path / "run")
  assert len(chosen(tmp_path / "run")[1]) == 12


def test_what_is_no_config_is_refused(tmp_path):
  with pytest.raises(UserError, match="NoneType is not a ConfigDict"):
    select(None, tmp_path)


def test_condense_refuses_a_coreset(configure, tmp_path):
  with pytest.raises(UserError, match="method: herding selects real images; use dcjax select"):
    condense(configure(), tmp_path / "run")


# --- Config and command line -----------------------------------------------------------------


@pytest.mark.parametrize("method", SELECTIONS)
def test_defaults_have_what_a_selection_needs(method):
  config = dcjax.config.resolve(dcjax.config.default(method))
  assert (config.method, config.evaluation.protocol) == (method, "dc")
  assert (config.selection.candidates, config.evaluation.networks) == (1000, 20)
  assert not {"iterations", "init", "batch_real", "lr_image"} & set(config)


def test_the_preset_names_datasets_and_sizes():
  config = dcjax.config.resolve(preset.get_config("cifar10,ipc=50"))
  assert (config.dataset.name, config.ipc, config.method) == ("cifar10", 50, "herding")


def arguments(arrays, folder, *more):
  """A command line with a small network on the toy dataset."""
  return [
    "select", *more, f"--workdir={folder / 'run'}", "--config.dataset.name=npz",
    f"--config.dataset.data_dir={arrays['file']}", f"--config.dataset.cache_dir={folder}",
    "--config.network.name=mlp", "--config.training.epochs=1", "--config.evaluation.epochs=2",
    "--config.evaluation.networks=1",
  ]  # fmt: skip


def test_command_line_without_a_preset(arrays, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  main.run(arguments(arrays, tmp_path, "--method=k_center"))
  assert "| synthetic |     mlp |" in capsys.readouterr().out
  assert SyntheticSet.load(tmp_path / "run" / "synthetic.npz").metadata["method"] == "k_center"


def test_command_line_without_evaluation_prints_no_table(arrays, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  preset = "--config=configs/coreset.py:smoke"
  line = arguments(arrays, tmp_path, preset)
  main.run([*line[:-1], "--config.evaluation.networks=0"])
  printed = capsys.readouterr().out
  assert "|" not in printed and f"Everything is in {tmp_path / 'run'}" in printed


@pytest.mark.parametrize(
  ("more", "message"),
  [
    (["--method=herdin"], "did you mean 'herding'?"),
    (["--config=configs/coreset.py", "--method=rded"], "rded has other fields than this preset"),
    (["--config=configs/dc.py"], "the preset has no field 'training.epochs'"),
    (["--config.iterations=3"], "the preset has no field 'iterations'"),
    (
      ["--method=random", "--config.selection.herding=greedy"],
      "selection.herding: 'greedy' is a rule of herding, but the method is random; leave it out",
    ),
    (["--config.selection.random=first"], "'first' is a rule of random, but the method is herding"),
    (["--config.selection.candidate=3"], "did you mean 'selection.candidates'?"),
    (["--config=configs/coreset.py:cifar11"], "did you mean 'cifar10'?"),
  ],
)
def test_mistakes_on_the_command_line(arrays, tmp_path, monkeypatch, more, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError) as caught:
    main.run(arguments(arrays, tmp_path, *more))
  assert message in str(caught.value)


def test_a_preset_that_returns_nothing_is_said(arrays, tmp_path, monkeypatch):
  (tmp_path / "mine.py").write_text("def get_config(argument=None):\n  pass\n")
  with pytest.raises(UserError, match="NoneType is not a ConfigDict"):
    main.run(["select", f"--config={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'run'}"])


def test_rded_has_a_preset_of_its_own(tmp_path):
  line = ["select", "--config=configs/rded.py", "--method=herding", f"--workdir={tmp_path / 'run'}"]
  with pytest.raises(UserError, match=r"herding has other fields .* give configs/coreset\.py"):
    main.run(line)
  for method in (["--method=rded"], ["--method", "rded"]):
    with pytest.raises(UserError, match=r"rded\.factor: 9"):
      main.run(["select", *method, f"--workdir={tmp_path / 'run'}", "--config.rded.factor=9"])


def test_a_folder_with_pictures_of_somebody_else_is_refused(configure, tmp_path):
  (tmp_path / "images").mkdir()
  (tmp_path / "images" / "000000.png").write_bytes(b"mine")
  with pytest.raises(UserError, match=r"holds images but no config\.json"):
    select(configure("random"), tmp_path)
  assert (tmp_path / "images" / "000000.png").read_bytes() == b"mine"


def test_help(capsys):
  with pytest.raises(SystemExit) as caught:
    main.run(["select", "--help"])
  assert caught.value.code == 0
  assert "--config.selection.candidates=1000" in capsys.readouterr().out
