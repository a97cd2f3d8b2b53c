"""Sources of datasets are found by name: dcjax' own, a package's, and those in a Python file."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import dcjax.config
from dcjax import UserError, data
from dcjax.commands.condense import condense
from dcjax.commands.evaluate import bind, evaluate
from dcjax.commands.select import select
from dcjax.commands.status import status
from dcjax.common.registry import DATASETS
from dcjax.data import Memory, Source, npz, originals, tfds
from dcjax.run.experiment import SYNTHETIC
from dcjax.sets.synthetic import SyntheticSet
from dcjax.tables import plan
from tests.packages import install
from tests.runs import tiny

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (12, 4, 4, 1), np.uint8)
LABELS = np.arange(12) % 3
ARRAYS = f"""
import numpy as np
images = np.array({LEVELS.tolist()}, np.uint8)
labels = np.arange(12) % 3
"""


@pytest.fixture
def named(tmp_path):
  """`named(code) -> name` of the function `load` in a file of this code after `ARRAYS`."""

  def write(code):
    file = tmp_path / f"file{len(list(tmp_path.iterdir()))}.py"
    file.write_text(f"{ARRAYS}\n{code}")
    return f"{file}:load"

  return write


def fields(name, **changes):
  changes = {f"dataset__{field}": value for field, value in changes.items()}
  return tiny("dm", dataset__name=name, **changes).dataset


def returning(made):
  return f"def load(fields):\n  return {made}"


ALL = "images, labels, images, labels"


# --- What a source is ------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS.own)
def test_each_own_source_is_one_line_of_the_registry_and_one_file(name):
  module, _, attribute = DATASETS.own[name].partition(":")
  assert attribute == "SOURCE" and module.startswith("dcjax.data.")
  source = data.find(name)
  assert isinstance(source, Source) and source.load.__module__ == module
  assert source is not tfds.SOURCE


def test_all_originals_are_found():
  found = {name for name in DATASETS.own if data.find(name) is originals.SOURCE}
  assert found == set(originals.NAMES)
  assert data.find(originals.SPEECH) is data.find("speech")


@pytest.mark.parametrize("name", ["stanford_dogs", "mnist:3.0.1", "cifar10/x", "./folder", ""])
def test_what_is_nothing_else_is_of_tensorflow_datasets(name):
  assert data.find(name) is tfds.SOURCE


# --- What a function may return --------------------------------------------------------------


@pytest.mark.parametrize(
  "made",
  [
    ALL,
    f"[{ALL}]",
    f"{ALL}, ['0', '1', '2']",
    "images / 255, labels[:, None], images.astype(np.float32) / 255, labels",
    "images[..., 0], labels, images[..., 0], labels.astype(np.uint8)",
  ],
)
def test_arrays_are_what_they_are_in_an_npz(named, tmp_path, made):
  np.savez(tmp_path / "set.npz", x_train=LEVELS, y_train=LABELS, x_test=LEVELS, y_test=LABELS)
  expected, dataset = npz.load(tmp_path / "set.npz"), data.load(fields(named(returning(made))))
  for part in ("images", "labels", "source", "test_images", "test_labels", "mean", "std"):
    np.testing.assert_array_equal(getattr(dataset, part), getattr(expected, part), part)
  assert dataset.class_names == expected.class_names
  assert dataset.name.startswith("file") and dataset.name.endswith(".py:load")


def test_a_dataset_stays_as_it_is_and_the_function_sees_the_fields(named):
  name = named(
    "from dcjax.data import from_arrays\n"
    "def load(fields):\n"
    "  return from_arrays(images, labels, images, labels, name=fields.data_dir)"
  )
  assert data.load(fields(name, data_dir="mine")).name == "mine"


def test_all_fields_that_change_images_hold(named, tmp_path):
  name = named(returning("images.astype(int) * 10, labels, images.astype(int) * 10, labels"))
  changes = {"range": (0, 2550), "classes": ("2", "0"), "rgb_side": 5, "zca": True}
  dataset = data.load(fields(name, cache_dir=str(tmp_path / "cache"), **changes))
  assert dataset.image_shape == (5, 5, 3) and dataset.class_names == ("2", "0")
  assert dataset.whitening is not None
  unchanged = data.load(fields(name, range=(0, 2550)))
  np.testing.assert_array_equal(unchanged.test_images, LEVELS)


def test_few_images_of_a_class_are_a_warning(named, caplog):
  dataset = data.load(fields(named(returning(ALL))))
  data.warn_small_classes(dataset, 9)
  assert "fewer than 9 images in 0 (4), 1 (4), 2 (4)" in caplog.text


# --- What is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("code", "problem"),
  [
    ("load = 3", "{name} is of type int; name a function load(fields)"),
    ("other = 3", "{name}: that file has no 'load'"),
    (returning("None"), "{name} returns a NoneType; return a dcjax.data.Dataset, or (x_train"),
    (returning("{'x_train': images}"), "{name} returns a dict; return"),
    (returning("images, labels"), "{name} returns a tuple of 2; return"),
    (returning("images * 1.0, labels, images, labels"), "{name}: x_train: float64 pixels from"),
    (returning("images, labels * 1.0, images, labels"), "{name}: y_train: expected integer"),
    (returning("images, labels, images[:, 1:], labels"), "{name}: x_test: images are [3, 4, 1]"),
    (returning(f"{ALL}, ['a', 'a', 'b']"), "{name}: class_names: 'a' is there twice"),
    (returning(f"{ALL}, 7"), "{name} fails with TypeError"),
    (returning("images * 0, labels, images, labels"), "all pixels of all training images"),
    (returning("fields.data_dirr"), "{name}, line {line}, fails with AttributeError"),
    (returning("open('/no/such\\nfile')"), "{name}, line {line}, fails with FileNotFoundError"),
    ("def load(): pass", "{name} fails with TypeError: load() takes 0"),
  ],
)
def test_what_a_function_must_not_return(named, code, problem):
  name = named(code)
  with pytest.raises(UserError) as caught:
    data.load(fields(name))
  line = 1 + ARRAYS.count("\n") + 2
  assert str(caught.value).startswith("dataset.name: " + problem.format(name=name, line=line))
  assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_name_is_said_before_anything_is_read(named):
  config = tiny("dm", dataset__name=named("other = 3"))
  with pytest.raises(UserError, match=r"^dataset.name: .*that file has no 'load'"):
    dcjax.config.resolve(config)
  with pytest.raises(UserError, match=r"'my.py' is a file; name a function in it, as my.py:load"):
    data.load(fields("my.py"))


def test_fields_of_other_sources_are_refused(named):
  name = named(
    "from dcjax.data import from_arrays\n"
    "def load(fields):\n"
    "  return from_arrays(images, labels, images, labels, name='x')"
  )
  with pytest.raises(UserError, match=r"^dataset.range: .* returns a Dataset"):
    data.load(fields(name, range=(0, 9)))
  with pytest.raises(UserError, match=r"^dataset.image_column: .* has no columns"):
    data.load(fields(name, image_column="img"))
  with pytest.raises(UserError, match=r"^compute.streaming: .* is in memory whole"):
    data.load(fields(name), Memory(True, 10**9, 0))


@pytest.mark.parametrize("path", ["cifar10/my.py", "imagenet.py", "cifar100.py", "speech.py"])
def test_settings_of_a_dataset_are_not_those_of_a_file_called_like_it(tmp_path, monkeypatch, path):
  (tmp_path / path).parent.mkdir(exist_ok=True)
  (tmp_path / path).write_text(ARRAYS + returning(ALL))
  monkeypatch.chdir(tmp_path)
  configs = [
    dcjax.config.resolve(tiny("idc", dataset__name=name, evaluation__epochs=None)).to_dict()
    for name in (f"{path}:load", "unheard_of")
  ]
  assert [config.pop("dataset")["name"] for config in configs] == [f"{path}:load", "unheard_of"]
  assert configs[0] == configs[1]


def test_names_of_files_of_tables_have_no_path(named):
  name = named(returning(ALL))
  config = dcjax.config.resolve(tiny("dm", dataset__name=name))
  trial = plan.Trial(config, plan.condensation(config), SYNTHETIC, top=0, shrink=1)
  stem = Path(name).name.partition(".")[0]
  assert trial.name.startswith(f"{stem}-py-load-dm-convnet-ipc1-seed0-")
  assert trial.set_folder.startswith(f"{stem}-py-load-dm-convnet-ipc1-")


# --- Whole runs ------------------------------------------------------------------------------


def example(folder):
  shutil.copy(EXAMPLES / "my_dataset.py", folder)
  return f"{folder}/my_dataset.py:load"


def test_the_example_condenses_and_its_set_evaluates_where_the_user_names_it(tmp_path):
  name = example(tmp_path)
  quick = {"network__name": "mlp", "dsa__scheme": "none", "evaluation__augmentation": "none"}
  config = tiny("dm", dataset__name=name, iterations=1, evaluation__networks=0, **quick)
  condense(config, tmp_path / "run")
  file = tmp_path / "run" / "synthetic.npz"
  saved = SyntheticSet.load(file)
  assert saved.metadata["dataset"] == "my_dataset.py:load"
  assert saved.metadata["class_names"] == ["even", "odd"]
  assert f"dm on {name}" in status([tmp_path / "run"])
  (found, _) = evaluate(file, dataset=name, networks=1, epochs=1, checks=1)
  assert found["set"] == "synthetic" and found["networks"] == 1
  with pytest.raises(UserError) as caught:
    bind(file)
  assert str(caught.value) == (
    f"synthetic set: its dataset.name is {name!r:.99}, in a Python file, which is run only if you "
    "name it; give --dataset=FILE.py:NAME"
  )
  with pytest.raises(UserError, match=r"^synthetic set: 2 classes .* do not fit dataset 'digits'"):
    bind(file, dataset="digits", networks=1)


def test_a_selection_of_it_is_seen_as_finished(tmp_path):
  name = example(tmp_path)
  config = dcjax.config.default("random")
  config.dataset.name, config.network.name = name, "mlp"
  config.evaluation.update({"networks": 1, "epochs": 1, "checks": 1})
  select(config, tmp_path / "selection")
  text = status([tmp_path / "selection"])
  assert "finished" in text and "damaged" not in text


def test_a_package_brings_one(tmp_path, monkeypatch):
  code = f"{ARRAYS}\n{returning(ALL)}\nbroken = 3\n"
  install(monkeypatch, tmp_path, code, "dcjax.datasets", mine="load", bad="broken", gone="gone")
  config = dcjax.config.resolve(tiny("dm", dataset__name="mine"))
  dataset = data.load(config.dataset)
  assert dataset.name == "mine" and dataset.num_classes == 3
  assert dcjax.config.of_file(config.to_dict()).dataset.name == "mine"  # which is installed
  with pytest.raises(UserError, match=r"^dataset.name: bad is of type int"):
    data.load(fields("bad"))
  with pytest.raises(UserError, match=r"^dataset.name: gone, from .* cannot be loaded: Attribute"):
    data.load(fields("gone"))
  with pytest.raises(UserError, match=r"^dataset.name: unknown dataset './mine'; choose .*mine"):
    data.load(fields("./mine"))


def test_a_package_may_say_how_its_source_is(tmp_path, monkeypatch):
  code = f"""{ARRAYS}
from dcjax.data import OnDisk, Source, from_arrays
def load(fields, memory):
  statistics = {{"mean": [0.5], "std": [0.2]}}
  order = np.argsort(labels, kind="stable")
  ours = OnDisk(images[order], (4, 4, 1), memory) if memory.streaming else images[order]
  return from_arrays(ours, labels[order], images, labels, name="x", **statistics)
SOURCE = Source(load, streams=True)
"""
  install(monkeypatch, tmp_path, code, "dcjax.datasets", large="SOURCE")
  dataset = data.load(fields("large"), Memory(True, 10**9, 0))
  assert isinstance(dataset.images, data.OnDisk)
  np.testing.assert_array_equal(dataset.images.read(range(12)), data.load(fields("large")).images)
  with pytest.raises(UserError, match=r"^dataset.range: dataset.name=large says itself"):
    data.load(fields("large", range=(0, 9)))


# --- Trust -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  "field", ["dataset.name", "dsa.strategy", "evaluation.augmentation", "training.augmentation"]
)
@pytest.mark.parametrize("value", ["{trap}:f", "crop+{trap}:f", "{trap}:f+crop"])
def test_no_file_of_a_run_decides_that_a_python_file_is_run(tmp_path, field, value):
  trap = tmp_path / "trap.py"
  trap.write_text("raise SystemExit('run by a file')")
  config = dcjax.config.default("idc")
  config.update_from_flattened_dict({field: value.format(trap=trap)})
  with pytest.raises(UserError, match=rf"^config: '{field}' is '.*', in a Python file"):
    dcjax.config.of_file(config.to_dict())
  given = dcjax.config.of_file(config.to_dict(), {field: "crop"})
  assert dict(dcjax.config.flatten(given.to_dict()))[field] == "crop"
