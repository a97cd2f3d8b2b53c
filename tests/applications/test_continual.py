"""`dcjax continual`: what is run, what is not run again, what is refused."""

import json

import jax
import numpy as np
import pytest
from dcjax.configs import continual as preset
from dcjax.launch import main
from PIL import Image

from dcjax import SyntheticSet, UserError, data
from dcjax.applications.continual import driver
from dcjax.applications.continual import fields as continual_config
from dcjax.applications.continual.driver import continual
from dcjax.applications.continual.scenarios import GDumb
from dcjax.commands import plot
from dcjax.common.errors import Interrupted
from dcjax.config import presets
from dcjax.evaluation import trainer
from dcjax.run import experiment
from dcjax.sets.formation import Stored
from tests.test_launch import mistake


def tiny(scenario, method="random", **changes):
  """A config whose run takes a second beyond its compilation; `changes` name fields by path."""
  config = presets.smoke(continual_config.default(scenario, method))
  config.dataset.name, config.ipc, config.network.name = "digits", 2, "mlp"
  config.evaluation.architectures, config.evaluation.augmentation = (), "none"
  config.evaluation.cutmix = 0.0
  config.compute.mesh = "1x1"
  config.continual.runs = 1
  if "steps" in config.continual:
    config.continual.steps = 2
  for path, value in changes.items():
    config.update_from_flattened_dict({path.replace("__", "."): value})
  return config


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
  """Leaves out what takes a second to draw; fixtures of the module come before this one."""
  monkeypatch.setattr(driver.style, "save", lambda figure, file: None)


def accuracies(folder):
  """The accuracies of all finished stages, by their files."""
  files = sorted((folder / "stages").glob("*.json"))
  return {file.name: json.loads(file.read_text())["accuracies"] for file in files}


@pytest.fixture(scope="module")
def gdumb(tmp_path_factory):
  """A finished run of two seeds with two networks each, and its summary."""
  folder = tmp_path_factory.mktemp("gdumb")
  config = tiny("gdumb", continual__runs=2, evaluation__networks=2)
  return folder, config, continual(config, folder)


# --- Classes in steps ----------------------------------------------------------------------


def test_each_seed_has_an_order_of_classes_and_memories_of_its_own(gdumb):
  folder, _, summary = gdumb
  orders = []
  for seed in (0, 1):
    files = [folder / "memories" / f"seed{seed}" / f"step{n}" / "synthetic.npz" for n in (1, 2)]
    sets = [SyntheticSet.load(file) for file in files]
    assert [memory.images.shape[:2] for memory in sets] == [(5, 2), (5, 2)]
    orders.append([name for memory in sets for name in memory.metadata["class_names"]])
  assert sorted(orders[0]) == sorted(orders[1]) == list("0123456789")
  assert orders[0] != orders[1]
  assert summary["stages"] == ["5 classes", "10 classes"] and summary["seeds"] == [0, 1]


def test_the_summary_is_of_all_runs_and_networks(gdumb):
  folder, _, summary = gdumb
  found = accuracies(folder)
  assert len(found) == 4 and all(len(values) == 2 for values in found.values())
  second = found["seed0-stage2-mlp.json"] + found["seed1-stage2-mlp.json"]
  accuracy = summary["accuracy"]["mlp"]
  assert accuracy["mean"][1] == pytest.approx(np.mean(second))
  assert accuracy["std"][1] == pytest.approx(np.std(second))
  assert accuracy["runs"][1][1] == pytest.approx(np.mean(second[2:]))
  assert json.loads((folder / "summary.json").read_text()) == summary
  assert (folder / "accuracy.png").exists() and (folder / "accuracy.pdf").exists()


def test_networks_see_the_classes_that_have_arrived(gdumb):
  _, config, _ = gdumb
  scenario = GDumb(continual_config.resolve(config))
  names = [name for task in scenario.tasks(1) for name in task.memory.dataset.classes]
  seen = scenario.seen(1, 0)
  assert list(seen.class_names) == names[:5]
  whole = data.load(scenario.resolved.dataset)
  of_first = np.asarray(whole.test_labels) == whole.class_names.index(names[0])
  expected = np.asarray(whole.test_images)[of_first]
  np.testing.assert_array_equal(np.asarray(seen.test_images)[seen.test_labels == 0], expected)


def test_a_finished_run_is_left_as_it_is(gdumb, monkeypatch):
  folder, config, summary = gdumb
  monkeypatch.setattr(driver, "SCENARIOS", {})
  assert continual(config, folder) == summary


def test_a_stop_loses_nothing(gdumb, tmp_path, monkeypatch):
  _, config, summary = gdumb
  places, learn = [], GDumb.learn

  def stopping(self, place, *rest):
    places.append(place[:2])
    if len(places) == 3:
      raise Interrupted(2)
    return learn(self, place, *rest)

  monkeypatch.setattr(GDumb, "learn", stopping)
  with pytest.raises(Interrupted):
    continual(config, tmp_path)
  assert len(accuracies(tmp_path)) == 2
  assert continual(config, tmp_path)["accuracy"] == summary["accuracy"]
  assert places == [(0, 0), (0, 1), (1, 0), (1, 0), (1, 1)]


def test_networks_grow_from_stage_to_stage(tmp_path, monkeypatch):
  made = []

  def condense(config, folder):
    """Real images in place of those that DM would make."""
    made.append(config)
    dataset = data.load(config.dataset)
    images = data.random_subset(dataset, jax.random.key(0), ipc=config.ipc)
    folder.mkdir(parents=True, exist_ok=True)
    synthetic = experiment.synthetic_set(config, dataset, Stored(images, weights={}))
    synthetic.save(folder / "synthetic.npz")

  monkeypatch.setattr(driver, "condense", condense)
  names = ("mlp:init=kaiming",)  # not the one that makes the memories
  summary = continual(tiny("growing", "dm", evaluation__architectures=names), tmp_path)
  assert list(summary["accuracy"]) == list(names)
  assert {config.method for config in made} == {"dm"}
  assert {config.evaluation.networks for config in made} == {0}
  units = []
  for stage in (1, 2):
    with np.load(tmp_path / "stages" / f"seed0-stage{stage}-mlp-init-kaiming.npz") as file:
      units.append(file["Linear_2/Dense_0/bias"].shape)
  assert units == [(5,), (10,)]


# --- Data sets in turn ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
  """The digits, and the same in negative and in half the size."""
  digits = data.load(tiny("gdumb").dataset)
  arrays = {
    "x_train": 255 - np.asarray(digits.images)[:, ::2, ::2],
    "y_train": np.asarray(digits.labels),
    "x_test": 255 - np.asarray(digits.test_images)[:, ::2, ::2],
    "y_test": np.asarray(digits.test_labels),
  }
  file = tmp_path_factory.mktemp("data") / "negative.npz"
  np.savez(file, **arrays)
  return f"digits,{file}"


@pytest.fixture(scope="module")
def rehearsal(sequence, tmp_path_factory):
  """A finished run with distillation, its config and its summary."""
  folder = tmp_path_factory.mktemp("rehearsal")
  config = tiny(
    "rehearsal",
    dataset__rgb_side=8,
    continual__sequence=sequence,
    continual__test_images=30,
    continual__training__iterations=20,
    continual__finetuning__iterations=3,
    continual__batch=16,
  )
  return folder, config, continual(config, folder)


def test_accuracies_are_means_over_the_tasks_so_far(rehearsal):
  folder, _, summary = rehearsal
  assert summary["stages"] == ["digits", "negative"]
  for stage in (1, 2):
    record = json.loads((folder / "stages" / f"seed0-stage{stage}-mlp.json").read_text())
    assert len(record["tasks"]) == record["stage"] == stage
    assert record["accuracies"] == [pytest.approx(np.mean(record["tasks"]))]
    shares = 30 * np.array(record["tasks"])
    np.testing.assert_allclose(shares, shares.round(), atol=1e-4)


def test_a_stage_goes_on_from_what_the_one_before_has_left(rehearsal):
  folder, config, summary = rehearsal
  (folder / "stages" / "seed0-stage2-mlp.json").unlink()
  assert continual(config, folder)["accuracy"] == summary["accuracy"]


def test_runs_share_memories(rehearsal, tmp_path):
  folder, config, summary = rehearsal
  memories = folder / "memories"
  before = {file: file.stat().st_mtime_ns for file in memories.rglob("*.npz")}
  other = config.copy_and_resolve_references()
  other.continual.distillation = 0.0
  found = continual(other, tmp_path / "without", memories)
  first, last = (np.array(each["accuracy"]["mlp"]["mean"]) for each in (found, summary))
  assert first[0] == last[0]
  assert before == {file: file.stat().st_mtime_ns for file in memories.rglob("*.npz")}
  other.ipc = 1
  with pytest.raises(UserError, match=r"^memory in .*: ipc is 2 there and 1 here"):
    continual(other, tmp_path / "smaller", memories)


def test_curves_of_several_runs(gdumb, rehearsal, tmp_path):
  folders = [gdumb[0], gdumb[0]]
  files = plot.write("stages", folders, tmp_path / "curves", labels=["one", "other"])
  assert [file.name for file in files] == ["curves.png", "curves.pdf"]
  (axes,) = plot.stages(folders, labels=["one", "other"]).axes
  assert [line.get_label() for line in axes.containers] == ["one", "other"]
  drawn = np.asarray(axes.containers[0].lines[0].get_ydata(), float)
  np.testing.assert_allclose(drawn, 100 * np.array(gdumb[2]["accuracy"]["mlp"]["mean"]))
  assert [tick.get_text() for tick in axes.get_xticklabels()] == ["5 classes", "10 classes"]
  with pytest.raises(UserError, match="draw them in two figures"):
    plot.stages([gdumb[0], rehearsal[0]], labels=["one", "other"])


# --- Soft labels ---------------------------------------------------------------------------


def remember(monkeypatch, kind, **metadata):
  """Has memories made of real images, with labels of a kind."""

  def select(config, folder):
    dataset = data.load(config.dataset)
    images = data.random_subset(dataset, jax.random.key(0), ipc=config.ipc)
    more = {"label_kind": kind, **metadata}
    made = experiment.synthetic_set(config, dataset, Stored(images, weights={}), **more)
    classes, count = made.labels.shape
    soft = np.float32(0.6 * np.eye(classes) + 0.4 / classes - (kind == "centred") / classes)
    if kind != "hard":
      made = made._replace(soft_labels=np.repeat(soft[:, None], count, 1))
    folder.mkdir(parents=True, exist_ok=True)
    made.save(folder / "synthetic.npz")

  monkeypatch.setattr(driver, "select", select)


@pytest.mark.parametrize(
  "scenario", ["gdumb", "growing", pytest.param("rehearsal", marks=pytest.mark.slow)]
)
def test_soft_labels_and_a_step_size_are_learned(scenario, tmp_path, monkeypatch, sequence):
  changes = {"continual__sequence": sequence, "dataset__rgb_side": 8, "continual__test_images": 30}
  config = tiny(scenario, **(changes if scenario == "rehearsal" else {}))
  rates, optimizer = [], trainer.make_optimizer

  def of(settings, steps):
    rates.append(settings.learning_rate)
    return optimizer(settings, steps)

  monkeypatch.setattr(trainer, "make_optimizer", of)
  ends = []
  for kind, rate in (("hard", 0.01), ("prob", 0.5)):
    rates.clear()
    remember(monkeypatch, kind, student_lr=rate)
    folder = tmp_path / f"{kind}-{rate}"
    continual(config, folder)
    # In a rehearsal most of what is learned are new images, at the scenario's own rate.
    assert set(rates) == (set() if scenario == "rehearsal" else {rate})
    if scenario != "gdumb":  # which leaves nothing to the next stage
      with np.load(folder / "stages" / "seed0-stage2-mlp.npz") as file:
        ends.append(np.concatenate([file[name].ravel() for name in file.files]))
  if scenario != "gdumb":
    assert (ends[0] != ends[1]).any()


@pytest.mark.parametrize(
  ("kind", "metadata", "message"),
  [
    ("centred", {}, "learned by the squared error"),
    ("prob", {"temperature": 20.0}, "of temperature 20"),
  ],
)
def test_labels_that_a_growing_network_does_not_learn(
  kind, metadata, message, tmp_path, monkeypatch
):
  remember(monkeypatch, kind, **metadata)
  with pytest.raises(UserError, match=f"memory in .*step1: its labels are {message}"):
    continual(tiny("growing"), tmp_path / "growing")
  assert list(continual(tiny("gdumb"), tmp_path / "gdumb")["accuracy"])


# --- Mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("scenario", "changes", "message"),
  [
    ("gdumb", {"continual__steps": 6}, "continual.steps: 6 steps of the 10 classes of digits"),
    ("gdumb", {"ipc": 500}, "ipc: a memory of 500 is more than the 1"),
    ("gdumb", {"dataset__zca": True}, "dataset.zca: True, but"),
    ("gdumb", {"continual__runs": 0}, "continual.runs: 0 is too small"),
    ("growing", {"evaluation__networks": 2}, "evaluation.networks: 2, but a run has one"),
    ("growing", {"continual__temperature": 0.0}, "continual.temperature: 0.0 is too small"),
    (
      "growing",
      {"evaluation__architectures": ("convnet:depth=1:norm=batch",)},
      "evaluation.architectures: 'convnet:depth=1:norm=batch' has batch norm",
    ),
    ("rehearsal", {"continual__sequence": ","}, "continual.sequence: empty"),
    ("rehearsal", {"continual__training__lr": 0.0}, "continual.training.lr: 0.0 is not a positive"),
  ],
)
def test_what_cannot_be_run_is_refused_before_any_work(scenario, changes, message, tmp_path):
  with pytest.raises(UserError) as caught:
    continual(tiny(scenario, **changes), tmp_path)
  assert str(caught.value).startswith(message)
  assert not (tmp_path / "config.json").exists() and not (tmp_path / "memories").exists()


@pytest.mark.parametrize("scenario", ["rehearsal", "gdumb", "growing"])
def test_a_transform_that_does_not_fit_is_refused_before_any_work(scenario, tmp_path):
  (tmp_path / "mine.py").write_text("def cut(key, image):\n  return image[1:]\n")
  config = tiny(scenario, evaluation__augmentation=f"{tmp_path}/mine.py:cut")
  if scenario == "rehearsal":
    config.continual.sequence = "digits"
  with pytest.raises(UserError, match=r"^evaluation.augmentation: /.*:cut makes float32 \["):
    continual(config, tmp_path / "run")
  assert not (tmp_path / "run" / "memories").exists()


def test_data_sets_that_do_not_fit_each_other(sequence, tmp_path):
  config = tiny("rehearsal", dataset__rgb_side=0, continual__sequence=sequence)
  with pytest.raises(UserError, match=r"^dataset.rgb_side: digits has images of \[8, 8, 1\]"):
    continual(config, tmp_path / "w")
  with np.load(sequence.split(",")[1]) as file:
    arrays = dict(file, class_names=np.array(list("abcdefghij")))
  np.savez(tmp_path / "letters.npz", **arrays)
  config = tiny("rehearsal", continual__sequence=f"digits,{tmp_path}/letters.npz")
  with pytest.raises(UserError, match=r"^continual.sequence: digits has the classes 0, .*one lab"):
    continual(config, tmp_path / "w")


def test_a_folder_would_be_normalised_anew_at_each_step(tmp_path):
  for split in ("train", "val"):
    for number, name in enumerate("abcd"):
      (tmp_path / split / name).mkdir(parents=True)
      Image.new("RGB", (4, 4), (50 * number, 0, 0)).save(tmp_path / split / name / "0.png")
  config = tiny("gdumb", dataset__name="folder", dataset__data_dir=str(tmp_path), ipc=1)
  with pytest.raises(UserError, match=r"^dataset.name: mean and deviation of a folder"):
    continual(config, tmp_path / "w")


def test_damaged_stages(gdumb, rehearsal, tmp_path):
  folder, config, _ = rehearsal
  (tmp_path / "stages").mkdir()
  (tmp_path / "config.json").write_text((folder / "config.json").read_text())
  record = tmp_path / "stages" / "seed0-stage1-mlp.json"
  record.write_text("{}")
  with pytest.raises(UserError, match=r"is damaged, .*; delete it to have its stage run again"):
    continual(config, tmp_path, folder / "memories")
  record.write_text((folder / "stages" / record.name).read_text())
  with pytest.raises(UserError, match=r"mlp.npz is missing or damaged; delete .*stage1-mlp.json"):
    continual(config, tmp_path, folder / "memories")


# --- Command line --------------------------------------------------------------------------


def test_presets_have_the_papers_values():
  config = preset.get_config("digits,memory=dsa")
  fields = config.continual
  assert (config.method, config.ipc, config.dataset.rgb_side) == ("dsa", 10, 32)
  assert (fields.training.iterations, fields.training.lr) == (5000, 0.01)
  assert (fields.finetuning.iterations, fields.finetuning.lr) == (500, 0.001)
  assert (fields.distillation, fields.temperature, fields.test_images) == (1.0, 2.0, 2000)
  assert fields.runs == 5 and "flip" not in config.dsa.strategy
  config = preset.get_config("gdumb,memory=idm,steps=10")
  assert (config.dataset.name, config.ipc, config.continual.steps) == ("cifar100", 20, 10)
  assert (config.formation.factor, config.queue.steps, config.regularisation) == (1, 50, 0.1)
  resolved = continual_config.memory(config, seed=0).evaluation
  assert resolved.epochs == 1000 and "flip" in resolved.augmentation and resolved.cutmix == 0
  config = preset.get_config("growing,memory=idc,cifar10,ipc=5")
  assert (config.dataset.name, config.ipc, config.formation.factor) == ("cifar10", 5, 2)
  assert config.evaluation.architectures == ("convnet", "resnet10:init=fan_out")
  assert continual_config.memory(config, seed=0).evaluation.epochs == 1000


def test_the_command_line(gdumb, tmp_path, capsys, monkeypatch):
  folder, _, summary = gdumb
  preset = tmp_path / "mine.py"
  preset.write_text(
    "from tests.applications.test_continual import tiny\n"
    "def get_config():\n"
    "  return tiny('gdumb', evaluation__networks=2)\n"
  )
  main.run(["continual", f"--config={preset}", f"--workdir={folder}", "--config.continual.runs=2"])
  mean, std = (100 * summary["accuracy"]["mlp"][part][1] for part in ("mean", "std"))
  assert f"{mean:.1f} ± {std:.1f} |" in capsys.readouterr().out
  message = mistake(
    monkeypatch, capsys, "continual", "--config=configs/continual.py:digits,smoke",
    f"--workdir={tmp_path / 'w'}", "--config.continual.step=2",
  )  # fmt: skip
  assert "no field 'continual.step'; did you mean 'continual.steps'?" in message
  message = mistake(
    monkeypatch, capsys, "continual", "--config=configs/continual.py:gdum", "--workdir=w"
  )
  assert "config argument: unknown 'gdum'; did you mean 'gdumb'?" in message
  message = mistake(
    monkeypatch, capsys, "continual", "--config=configs/continual.py:digits",
    f"--workdir={tmp_path / 'w'}", "--config.continual.sequence=/no/usps.npz,mnist",
  )  # fmt: skip
  assert "no file /no/usps.npz" in message


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("digits,steps=3", "digits has neither a dataset nor steps"),
    ("digits,cifar10", "digits has neither a dataset nor steps"),
    ("gdumb,growing", "'growing' comes second; name one scenario"),
    ("memory=", "unknown 'memory='; did you mean 'memory=dsa'?"),
    ("steps=two", "unknown 'steps=two'; did you mean"),
  ],
)
def test_arguments_of_the_preset_that_are_none(argument, message):
  with pytest.raises(UserError, match=f"^config argument: {message}".replace("?", r"\?")):
    preset.get_config(argument)
