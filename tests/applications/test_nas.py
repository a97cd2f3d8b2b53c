"""An architecture search: what it trains, keeps and refuses."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dcjax.configs import nas as preset
from dcjax.launch import main

from dcjax import SyntheticSet, UserError, data, evaluation, nn
from dcjax.applications.nas import driver, ranking
from dcjax.applications.nas.fields import default_search
from dcjax.applications.nas.sources import Source, split
from dcjax.devices.strategy import Strategy
from dcjax.run import experiment
from dcjax.run.experiment import Keys
from dcjax.run.interrupt import Interrupted, Interrupts
from dcjax.sets.formation import Stored
from tests.runs import killed_again_and_again, tiny

NAME = "convnet:width=4:depth=1:norm=batch:activation=relu:pooling=average"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  """A file of three classes of 8x8 pixels that are easily told apart, 40 images each."""
  rng = np.random.default_rng(0)
  prototypes = rng.integers(60, 196, (3, 8, 8))

  def draw(count):
    labels = rng.permutation(np.repeat(np.arange(3), count))
    return (prototypes[labels] + rng.integers(-60, 60, (3 * count, 8, 8))).astype(np.uint8), labels

  (x_train, y_train), (x_test, y_test) = draw(40), draw(10)
  file = tmp_path_factory.mktemp("data") / "toy.npz"
  np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
  return file


@pytest.fixture(scope="module")
def condensed(dataset):
  """A set beside that file: real images as DM would store them."""
  config = tiny("dm", dataset__name="npz", dataset__data_dir=str(dataset), ipc=2)
  loaded = data.load(config.dataset)
  images = data.random_subset(loaded, jax.random.key(5), ipc=2)
  file = dataset.parent / "synthetic.npz"
  experiment.synthetic_set(config, loaded, Stored(images, weights={})).save(file)
  return file


def small(dataset, **changes):
  """A config whose search takes a moment beyond its compilation; `changes` name fields by path."""
  config = preset.get_config("smoke,ipc=2")
  config.dataset.name, config.dataset.data_dir = "npz", str(dataset)
  config.dataset.cache_dir = str(dataset.parent / "cache")
  config.evaluation.networks = 2
  config.search.sets = ("random", "early_stopping", "whole")
  config.search.width, config.search.norm = (4,), ("batch",)
  config.compute.convolution = "lax"  # which compiles quickest
  for path, value in changes.items():
    config.update_from_flattened_dict({path.replace("__", "."): value})
  return config


@pytest.fixture(scope="module")
def finished(dataset, condensed, tmp_path_factory):
  """A search that nothing stood in for: its folder and its summary."""
  folder = tmp_path_factory.mktemp("finished")
  return folder, driver.search(small(dataset), folder, [condensed])


@pytest.fixture
def linear(monkeypatch):
  """Puts networks in place of the ConvNets that compile in no time and differ by their width."""

  def network(config, dataset, layout, *, width, **fields):
    scale = width / 4

    def apply(params, images, stats=None):
      features = scale * images.reshape(-1, 64)
      return features @ params, features

    def init(key):
      return 0.1 * jax.random.normal(key, (64, 3))

    return nn.Network(init, apply, lambda params, images: {}, batch_norm=False)

  monkeypatch.setattr(experiment, "network", network)


def records(folder):
  """The accuracies of all networks, by their files."""
  found = {}
  for file in sorted((folder / "networks").rglob("*.json")):
    content = json.loads(file.read_text())
    found[str(file.relative_to(folder))] = np.array([content["validation"], content["test"]])
  return found


def file_of(name):
  """The file name of an architecture's record."""
  return f"{name.replace(':', ',')}.json"


# --- What it finds -------------------------------------------------------------------------


def test_a_search(finished):
  folder, summary = finished
  assert json.loads((folder / "summary.json").read_text()) == summary
  assert {file.name for file in folder.iterdir()} == {
    ".lock", "config.json", "correlation.pdf", "correlation.png", "networks", "ranking.csv",
    "sets", "summary.json", "table.md",
  }  # fmt: skip
  assert (summary["training_images"], summary["validation_images"]) == (108, 12)
  # Two epochs of 6 images, as one step each, and one epoch of all.
  found = [(entry["set"], entry["images"], entry["steps"]) for entry in summary["sets"]]
  assert found == [("random", 6, 2), ("DM", 6, 2), ("early stopping", 12, 2), ("whole", 108, 1)]
  assert all(entry["seconds"] > 0 < entry["compile_seconds"] for entry in summary["sets"])
  kept = records(folder)
  assert len(kept) == 4 and all(values.shape == (2, 2) for values in kept.values())


def test_accuracies_are_those_of_an_evaluation(finished, dataset, condensed):
  folder, summary = finished
  config = driver.resolve_search(small(dataset))
  search = driver.Search(config, data.load(config.dataset), {}, folder)
  evaluate = evaluation.Evaluator(
    search.trainings.networks[NAME], search.sources.settings, Strategy("winograd"),
    search.sources.split.train,
  )  # fmt: skip
  images, labels = map(jnp.asarray, SyntheticSet.load(condensed).flat())
  blocks = evaluate(images, labels, Keys.from_seed(0).evaluation)
  file = f"{summary['sets'][1]['records']}/{file_of(NAME)}"
  expected = [float(block[0, -1]) for block in blocks]
  np.testing.assert_allclose(records(folder)[file][1], expected, atol=1e-5)


def test_coresets_leave_what_is_held_out_alone(finished, dataset):
  loaded = data.load(small(dataset).dataset)
  parts = split(loaded, jax.random.fold_in(Keys.from_seed(0).loop, 2), 0.1)
  chosen = SyntheticSet.load(finished[0] / "sets" / "random" / "synthetic.npz")
  assert set(np.ravel(chosen.metadata["indices"])) <= set(np.asarray(parts.train.source).tolist())


def test_a_split(dataset):
  loaded = data.load(small(dataset).dataset)
  train, scored, held = split(loaded, jax.random.key(3), 0.25)
  assert (held, len(train.labels), len(scored.test_labels)) == (30, 90, 60)
  labels = np.asarray(train.labels)
  np.testing.assert_array_equal(np.searchsorted(labels, np.arange(4)), train.offsets)
  assert train.largest_class == np.bincount(labels).max()
  originals = np.load(dataset)
  np.testing.assert_array_equal(originals["x_train"][train.source], train.images[..., 0])
  np.testing.assert_array_equal(originals["y_train"][train.source], labels)
  out = np.setdiff1d(np.arange(120), train.source)
  images = np.asarray(scored.test_images[..., 0])
  assert {image.tobytes() for image in images[:30]} == {
    image.tobytes() for image in originals["x_train"][out]
  }
  np.testing.assert_array_equal(images[30:], originals["x_test"])
  np.testing.assert_array_equal(scored.test_labels[30:], originals["y_test"])


def test_the_papers_search():
  config = driver.resolve_search(default_search())
  assert len(driver.candidates(config.search)) == 720
  assert (config.evaluation.networks, config.evaluation.augmentation) == (5, "none")
  settings = evaluation.EvaluationSettings("dc", 300, "none", networks=5, checks=1)
  images, labels = jnp.zeros((45000, 1, 1, 1), jnp.uint8), jnp.zeros(45000, jnp.int32)
  early = Source("", "", images, labels, settings, 30000, drawn=100)
  assert early.steps == 300  # (DSA, section 4.6)
  assert early._replace(drawn=500).steps == 600  # (DM, supplement, section 1.3)
  assert early._replace(drawn=None).steps == 300 * 176


# --- What it keeps -------------------------------------------------------------------------


def test_what_is_finished_is_not_trained_again(finished, dataset, condensed, tmp_path, monkeypatch):
  folder = shutil.copytree(finished[0], tmp_path / "copy")
  monkeypatch.setattr(evaluation, "make_trainer", None)
  assert driver.search(small(dataset), folder, [condensed]) == finished[1]
  fewer = driver.search(small(dataset, evaluation__networks=1), folder)
  assert (fewer["networks"], len(fewer["sets"])) == (1, 3)
  with pytest.raises(UserError, match=r"evaluation\.epochs is 2 there and 3 here"):
    driver.search(small(dataset, evaluation__epochs=3), folder)


def test_a_stop_loses_nothing_that_was_finished(linear, dataset, tmp_path, monkeypatch):
  config = small(dataset, search__sets=("whole",), search__width=(2, 4))
  driver.search(config, tmp_path / "whole")
  waited, wait = [], Interrupts.wait

  def stopping(self, arrays):
    waited.append(None)
    if len(waited) == 4:
      raise Interrupted(15)
    return wait(self, arrays)

  with monkeypatch.context() as patch:
    patch.setattr(Interrupts, "wait", stopping)
    with pytest.raises(Interrupted):
      driver.search(config, tmp_path / "parts")
  assert [values.shape[1] for values in records(tmp_path / "parts").values()] == [2, 1]
  driver.search(config, tmp_path / "parts")
  expected, found = records(tmp_path / "whole"), records(tmp_path / "parts")
  assert found.keys() == expected.keys() and len(expected) == 2
  for file, values in expected.items():
    np.testing.assert_array_equal(found[file], values)


def test_kills_lose_no_more_than_a_file(linear, dataset, tmp_path, monkeypatch):
  monkeypatch.setattr(driver.style, "save", lambda figure, file: None)
  config = small(dataset, search__sets=("random", "whole"), search__width=(2, 4))
  whole = driver.search(config, tmp_path / "whole")
  found = killed_again_and_again(monkeypatch, lambda: driver.search(config, tmp_path / "parts"))
  for summary in (whole, found):
    for entry in summary["sets"]:
      del entry["seconds"], entry["compile_seconds"]
  assert found == whole
  expected, parts = records(tmp_path / "whole"), records(tmp_path / "parts")
  assert parts.keys() == expected.keys()
  for file, values in expected.items():
    np.testing.assert_array_equal(parts[file], values)


def test_a_search_grows(linear, dataset, condensed, tmp_path):
  first = {"search__sets": ("whole",), "evaluation__networks": 1}
  driver.search(small(dataset, **first), tmp_path)
  (old,) = records(tmp_path).values()
  grown = {"search__sets": ("random", "whole"), "search__width": (2, 4)}
  summary = driver.search(small(dataset, **grown), tmp_path, [condensed])
  found = records(tmp_path)
  file = f"networks/whole/{file_of(NAME)}"
  np.testing.assert_array_equal(found[file][:, :1], old)
  names = NAME, NAME.replace("width=4", "width=2")
  for entry in summary["sets"]:
    means = {name: found[f"{entry['records']}/{file_of(name)}"][0].mean() for name in names}
    assert means[entry["chosen"]] == max(means.values())
    expected = found[f"networks/whole/{file_of(entry['chosen'])}"][1]
    assert entry["accuracy_mean"] == pytest.approx(expected.mean())
    assert entry["accuracy_std"] == pytest.approx(expected.std())


def test_networks_that_are_trained_together(linear, dataset, condensed, tmp_path):
  """Two sets of one size with three networks each: one by one, and four and two at a time."""
  config = driver.resolve_search(small(dataset, search__sets=("random",), evaluation__networks=3))
  files = {"condensed": SyntheticSet.load(condensed)}
  found = []
  for block in (1, 4):
    config.compute.network_block = block
    search = driver.Search(config, data.load(config.dataset), files, tmp_path / str(block))
    search.trainings.run(search.names, list(search.sources.proxies(lambda x: x)), lambda x: x)
    found.append(records(tmp_path / str(block)))
  alone, together = found
  assert len(alone) == 2
  for file, values in alone.items():
    np.testing.assert_allclose(together[file], values, atol=0.09)  # one image of 12


def test_a_folder_of_somebody_else_is_refused(dataset, tmp_path):
  (tmp_path / "table.md").write_text("mine")
  with pytest.raises(UserError, match=r"holds table\.md but no search"):
    driver.search(small(dataset), tmp_path)
  assert (tmp_path / "table.md").read_text() == "mine"


def test_each_set_teaches_its_own_soft_labels(linear, dataset, condensed, tmp_path):
  """Two sets of one size that differ in their labels alone, trained together."""
  config = driver.resolve_search(small(dataset, search__sets=(), evaluation__epochs=40))
  given = SyntheticSet.load(condensed)
  soft = np.repeat(np.eye(3, dtype=np.float32)[:, None], 2, axis=1)
  sets = {
    name: given._replace(metadata=given.metadata | {"label_kind": "prob"}, soft_labels=labels)
    for name, labels in (("same", soft), ("next", np.roll(soft, 1, axis=-1)))
  }
  search = driver.Search(config, data.load(config.dataset), sets, tmp_path)
  sources = list(search.sources.proxies(lambda x: x))
  search.trainings.run(search.names, sources, lambda x: x)
  same, other = (records(tmp_path)[f"networks/{s.folder}/{file_of(NAME)}"] for s in sources)
  assert same.mean() > other.mean() + 0.2


def test_without_the_whole_set_only_the_best_are_trained_in_full(
  linear, dataset, tmp_path, monkeypatch
):
  monkeypatch.setattr(ranking, "BEST", 1)
  changes = {"search__sets": ("random",), "search__width": (1, 4)}
  summary = driver.search(small(dataset, **changes), tmp_path)
  assert [entry["set"] for entry in summary["sets"]] == ["random"]
  (file,) = (tmp_path / "networks" / "whole").iterdir()
  assert file.name == file_of(summary["sets"][0]["chosen"])


# --- What it refuses -----------------------------------------------------------------------


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"search__width": ()}, "search.width: empty, so that there is no network"),
    ({"search__pooling": ("",)}, "search.pooling: empty"),
    ({"search__sets": ()}, "search.sets: empty, and no saved set"),
    ({"search__sets": ("randm",)}, "search.sets: unknown 'randm'; did you mean 'random'?"),
    ({"search__norm": ("none,instanc",)}, "unknown 'instanc'; did you mean 'instance'?"),
    ({"search__width": (8, "x")}, "search.width: 'x' is not a whole number"),
    ({"search__depth": (0,)}, "search.depth: 0 is too small"),
    ({"search__depth": (1, 4)}, "norm=batch:activation=relu:pooling=average: network.depth: 4 is"),
    ({"search__norm": ("group",), "search__width": (6,)}, "6 is not a multiple of the 4 groups"),
    ({"search__validation": 1.0}, "search.validation: 1.0 is no share"),
    ({"search__validation": 0.001}, "search.validation: 0.001 of 120 training images are 0"),
    ({"search__whole_augmentation": "crap"}, "whole_augmentation: unknown 'crap'; did you mean"),
    ({"search__whole_epochs": 0}, "search.whole_epochs: 0 is too small"),
    ({"evaluation__networks": 0}, "evaluation.networks: 0 is too small; give 1 or more"),
    ({"evaluation__epochs": 0}, "evaluation.epochs: 0 is too small"),
    ({"ipc": 41}, "ipc: 41 is more than"),
  ],
)
def test_mistakes_are_found_before_any_work(dataset, tmp_path, changes, message):
  with pytest.raises(UserError) as caught:
    driver.search(small(dataset, **changes), tmp_path / "w")
  assert message in str(caught.value)
  assert {file.name for file in tmp_path.glob("w/*")} <= {".lock"}


@pytest.mark.parametrize("field", ["evaluation.augmentation", "search.whole_augmentation"])
def test_a_transform_that_does_not_fit(dataset, tmp_path, field):
  (tmp_path / "mine.py").write_text("def cut(key, image):\n  return image[1:]\n")
  config = small(dataset, **{field.replace(".", "__"): f"{tmp_path}/mine.py:cut"})
  with pytest.raises(UserError, match=rf"^{field}: /.*:cut makes float32 \["):
    driver.search(config, tmp_path / "run")


def test_a_set_of_other_data(dataset, condensed, tmp_path):
  synthetic = SyntheticSet.load(condensed)
  other = tmp_path / "other.npz"
  synthetic._replace(images=synthetic.images[..., :4, :]).save(other)
  with pytest.raises(UserError, match=r"other\.npz: synthetic set: .* do not fit dataset 'toy'"):
    driver.search(small(dataset), tmp_path / "w", [other])


@pytest.mark.parametrize(
  "text",
  [
    "[1", "{}", '{"validation": [0.1], "test": []}', "[1]", pytest.param("[" * 100_000, id="deep"),
    '{"validation": ["0.1"], "test": ["0.1"], "seconds": ["1"], "compile_seconds": 1}',
    '{"validation": [0.1], "test": [0.1], "seconds": [1, 2], "compile_seconds": 1}',
    '{"validation": [NaN], "test": [0.1], "seconds": [1], "compile_seconds": 1}',
    '{"validation": [0.1], "test": [0.1], "seconds": [1], "compile_seconds": null}',
  ],
)  # fmt: skip
def test_a_damaged_record_is_named(finished, dataset, tmp_path, text):
  folder = shutil.copytree(finished[0], tmp_path / "copy")
  file = next((folder / "networks" / "whole").iterdir())
  file.write_text(text)
  with pytest.raises(UserError, match=r"is damaged, .*; delete it"):
    driver.search(small(dataset), folder)


def test_a_config_of_something_else(tmp_path):
  with pytest.raises(UserError, match="config: it has no search"):
    driver.search(tiny(), tmp_path / "w")


# --- The command line ----------------------------------------------------------------------


def test_the_command_line(finished, dataset, condensed, tmp_path, monkeypatch, capsys):
  folder = shutil.copytree(finished[0], tmp_path / "copy")
  monkeypatch.setattr(evaluation, "make_trainer", None)
  main.run([
    "nas", "--config=configs/nas.py:smoke,ipc=2", f"--workdir={folder}",
    f"--synthetic={condensed}", "--config.dataset.name=npz",
    f"--config.dataset.data_dir={dataset}",
    f"--config.dataset.cache_dir={dataset.parent / 'cache'}", "--config.evaluation.networks=2",
    "--config.search.width=4", "--config.search.norm=batch",
    "--config.search.sets=random,early_stopping,whole",
  ])  # fmt: skip
  printed = capsys.readouterr().out
  assert printed.startswith((folder / "table.md").read_text())
  assert "|             DM |" in printed and "| early stopping |" in printed


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--workdir=x"], "--config: missing"),
    (["--config=configs/nas.py", "--config.search.withs=3"], "did you mean 'search.width'?"),
    (["--config=configs/nas.py", "--workdir=x", "--config.evaluation.checks=3"],
     "the preset has no field 'evaluation.checks'"),
    (["--config=configs/nas.py", "--workdir=x", "--config.search.width="], "search.width: empty"),
    (["--config=configs/nas.py", "--workdir=x", "--synthetic=gone.npz"], "no file gone.npz"),
    (["--config=configs/dm.py", "--workdir=x"], "config: it has no search"),
  ],
)  # fmt: skip
def test_mistakes_on_the_command_line(monkeypatch, tmp_path, arguments, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError) as caught:
    main.run(["nas", *arguments])
  assert message in str(caught.value) and not list(tmp_path.iterdir())
