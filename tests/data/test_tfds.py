"""Data sets of TensorFlow Datasets: real files where there are some, else a stand-in."""

import logging as std_logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets

from dcjax.common.errors import UserError
from dcjax.data import cache, tfds

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "tfds"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/tfds")


class Source:
  """Records as TFDS' data sources give them."""

  def __init__(self, records):
    self.records = records

  def __len__(self):
    return len(self.records)

  def __getitem__(self, k):
    return self.records[k]

  def __getitems__(self, ks):
    return [self.records[k] for k in ks]


class Builder:
  """Stands in for a TFDS builder of three classes; counts how often it is read."""

  name = "toy"
  url_infos = None

  def __init__(self, folder):
    features = tensorflow_datasets.features
    rng = np.random.default_rng(0)
    self.data_path = folder
    self.reads = 0
    self.prepared = True
    self.sources = {
      split: [
        {"image": rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), "label": k % 3}
        for k in range(count)
      ]
      for split, count in (("train", 600), ("test", 6))
    }
    self.info = SimpleNamespace(
      supervised_keys=("image", "label"),
      features={
        "image": features.Image(shape=(None, None, 3)),
        "label": features.ClassLabel(names=["ant", "bee", "cat"]),
        "text": features.Text(),
      },
      full_name="toy/small/1.0.0",
      splits=self.sources,
    )
    folder.mkdir(exist_ok=True)
    (folder / "dataset_info.json").write_text("{}")

  def is_prepared(self):
    return self.prepared

  def as_data_source(self, split):
    self.reads += 1
    return Source(self.sources[split])


@pytest.fixture
def builder(tmp_path, monkeypatch):
  stand_in = Builder(tmp_path / "source")
  monkeypatch.setattr(tensorflow_datasets, "builder", lambda name, data_dir: stand_in)
  return stand_in


@pytest.fixture
def cache_dir(tmp_path):
  return tmp_path / "cache"


def error_of(name="toy", **arguments):
  with pytest.raises(UserError) as caught:
    tfds.load(name, **arguments)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_reads_both_splits(builder, cache_dir):
  dataset = tfds.load("toy/small", cache_dir=cache_dir)
  assert dataset.name == "toy/small" and dataset.class_names == ("ant", "bee", "cat")
  assert dataset.images.shape == (600, 4, 4, 3) and len(dataset.test_images) == 6
  of_class = [record["image"] for record in builder.sources["train"][1::3]]
  np.testing.assert_array_equal(dataset.images[200:400], of_class)
  np.testing.assert_array_equal(dataset.test_labels, [0, 1, 2, 0, 1, 2])


def test_validation_stands_in_for_test(builder, cache_dir):
  builder.sources["validation"] = builder.sources.pop("test")
  assert len(tfds.load("toy", cache_dir=cache_dir).test_images) == 6


def test_decodes_once(builder, cache_dir):
  first = tfds.load("toy", cache_dir=cache_dir)
  second = tfds.load("toy", cache_dir=cache_dir)
  assert builder.reads == 2  # one for each split
  np.testing.assert_array_equal(first.images, second.images)
  (entry,) = cache_dir.iterdir()
  assert entry.name.startswith("toy-small-1.0.0-")


def test_another_source_is_another_entry(builder, cache_dir, tmp_path):
  tfds.load("toy", cache_dir=cache_dir)
  builder.data_path = (tmp_path / "source").rename(tmp_path / "elsewhere")
  tfds.load("toy", cache_dir=cache_dir)
  (builder.data_path / "dataset_info.json").write_text('{"version": 2}')
  tfds.load("toy", cache_dir=cache_dir)
  assert builder.reads == 6 and len(list(cache_dir.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "other"])
def test_a_damaged_cache_is_decoded_anew(builder, cache_dir, damage):
  expected = tfds.load("toy", cache_dir=cache_dir)
  (entry,) = cache_dir.iterdir()
  file = entry / "x_train.npy"
  content = file.read_bytes()
  damaged = {"cut": content[:1000], "empty": b"", "other": b"hello" * 50}
  file.unlink() if damage == "missing" else file.write_bytes(damaged[damage])
  again = tfds.load("toy", cache_dir=cache_dir)
  np.testing.assert_array_equal(again.images, expected.images)
  assert builder.reads == 4 and file.read_bytes() == content
  assert list(cache_dir.iterdir()) == [entry]


def test_a_write_that_is_cut_short_leaves_no_entry(builder, cache_dir, monkeypatch, caplog):
  def fail(file, array, **_):
    file.write(b"begun")
    raise OSError("no space left on device")

  monkeypatch.setattr(np, "save", fail)
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    assert len(tfds.load("toy", cache_dir=cache_dir).images) == 600
  assert not list(cache_dir.iterdir()) and "no space left" in caplog.text


def test_a_cache_that_cannot_be_written_is_only_a_warning(builder, cache_dir, caplog):
  cache_dir.write_text("a file, not a folder")
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    assert len(tfds.load("toy", cache_dir=cache_dir).images) == 600
  assert "cannot be written" in caplog.text


def test_where_the_cache_lies(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  assert cache.root() == tmp_path / ".cache" / "dcjax"
  assert cache.root("~/mine") == tmp_path / "mine"
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
  assert cache.root("") == tmp_path / "xdg" / "dcjax"


def test_usual_statistics_are_used(builder, cache_dir):
  builder.name = "cifar100"
  dataset = tfds.load("toy", cache_dir=cache_dir)
  np.testing.assert_allclose(dataset.mean, [0.5071, 0.4866, 0.4409], rtol=1e-6)


@pytest.mark.parametrize("keys", [None, ("image", "text"), ("image", "label", "text")])
def test_a_set_that_is_no_image_classification(builder, cache_dir, keys):
  builder.info.supervised_keys = keys
  message = error_of(cache_dir=cache_dir)
  assert message.startswith("dataset.name: 'toy' is no image classification set")


def test_images_of_different_sizes(builder, cache_dir):
  builder.sources["train"][7]["image"] = np.zeros((5, 4, 3), np.uint8)
  message = error_of(cache_dir=cache_dir)
  assert message.startswith("dataset.name: images of 'toy' differ in size")
  assert "dataset.name=folder" in message and not cache_dir.exists()


def test_hidden_test_labels(builder, cache_dir):
  builder.sources["test"][2]["label"] = -1
  message = error_of(cache_dir=cache_dir)
  assert message.startswith("dataset.name: 'toy': y_test: found label -1")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split(builder, cache_dir, split):
  del builder.sources[split]
  assert error_of(cache_dir=cache_dir).startswith("dataset.name: 'toy' has splits ")


def test_unreadable_files(builder, cache_dir):
  def fail(split):
    raise NotImplementedError("no random access\nfor tfrecord")

  builder.as_data_source = fail
  message = error_of(cache_dir=cache_dir)
  assert message.startswith("dataset.data_dir: cannot read 'toy'")
  assert "no random access for tfrecord" in message and "array_record" in message


def test_a_failed_download_says_how_to_get_the_data(builder, cache_dir):
  def fail(**_):
    raise ConnectionError("no route\nto host " + "x" * 1000)

  builder.prepared, builder.download_and_prepare = False, fail
  message = error_of(cache_dir=cache_dir)
  assert message.startswith("dataset.data_dir: 'toy' is not in ")
  assert "no route to host" in message and "download_and_prepare" in message
  assert len(message) < 700


def test_without_a_network_nothing_is_tried(builder, cache_dir):
  builder.prepared, builder.download_and_prepare = False, pytest.fail
  builder.url_infos = {"http://127.0.0.1:9/toy.zip": None}  # where nothing listens
  assert "Connection refused" in error_of(cache_dir=cache_dir)


def test_a_download_is_prepared_for_random_access(builder, cache_dir):
  asked = {}
  builder.prepared, builder.download_and_prepare = False, asked.update
  tfds.load("toy", cache_dir=cache_dir)
  assert asked["file_format"] == "array_record"


@pytest.mark.parametrize(
  ("error", "words"),
  [
    (ModuleNotFoundError("No module named 'tensorflow'"), "pip install 'dcjax[tensorflow]'"),
    (ImportError("No module named 'apache_beam'"), "'apache_beam'); install what is missing"),
    (OSError("no space left"), "run tfds.builder('toy').download_and_prepare"),
  ],
)
def test_what_preparing_lacks_is_named(builder, cache_dir, error, words):
  def fail(**_):
    raise error

  builder.prepared, builder.download_and_prepare = False, fail
  assert words in error_of(cache_dir=cache_dir)


def test_a_module_that_tfds_lacks_is_named(monkeypatch, tmp_path):
  def fail(*_, **__):
    raise ModuleNotFoundError("No module named 'importlib_resources'")

  monkeypatch.setattr(tensorflow_datasets, "builder", fail)
  message = error_of("kmnist", data_dir=tmp_path)
  assert "does not work here (No module named 'importlib_resources'); install" in message
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  message = error_of("kmnist", data_dir=tmp_path)
  assert message.startswith("dataset.name: TensorFlow Datasets does not work here (")


@pytest.fixture
def prepared(tmp_path):
  """TFDS' data folder with a data set without and one with configurations."""
  for place in ("mnist/3.0.1", "mnist/3.0.0", "imagenet_resized/8x8/0.1.0"):
    (tmp_path / "tfds" / place).mkdir(parents=True)
    (tmp_path / "tfds" / place / "dataset_info.json").write_text("{}")
  return tmp_path / "tfds"


@pytest.mark.parametrize(
  ("name", "given", "found"),
  [
    ("mnist", "", ""),
    ("mnist", "mnist", ""),
    ("mnist:3.0.0", "mnist", ""),
    ("mnist", "mnist/3.0.0", "mnist/3.0.0"),
    ("imagenet_resized/8x8", "", ""),
    ("imagenet_resized/8x8", "imagenet_resized", ""),
    ("imagenet_resized/8x8", "imagenet_resized/8x8", ""),
    ("imagenet_resized/8x8:0.1.0", "imagenet_resized/8x8/0.1.0", "imagenet_resized/8x8/0.1.0"),
    ("cifar10", "", None),
    ("cifar10", "mnist", None),
  ],
)
def test_a_data_dir_that_is_too_deep(prepared, monkeypatch, name, given, found):
  expected = None if found is None else str(prepared / found)
  assert tfds.prepared(name, prepared / given) == expected
  monkeypatch.chdir(prepared.parent)
  assert tfds.prepared(name, f"tfds/{given}") == expected
  monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
  assert (tfds.prepared(name) is None) == (found is None)


def test_a_folder_named_as_the_data_set_may_be_tfds_own(tmp_path):
  (tmp_path / "mnist").mkdir()  # nothing is prepared above it
  assert tfds.prepared("mnist", tmp_path / "mnist") is None


def test_the_folder_of_a_version_is_read_itself(monkeypatch, prepared):
  opened, folder = [], str(prepared / "mnist" / "3.0.0")

  def builder_of(path):
    opened.append(path)
    return SimpleNamespace(name="mnist")

  monkeypatch.setattr(tensorflow_datasets, "builder_from_directory", builder_of)
  assert tfds._find("mnist", folder).name == "mnist" and opened == [folder]
  message = error_of("cifar10", data_dir=folder)
  assert message.startswith(f"dataset.data_dir: {folder} holds 'mnist', not 'cifar10'; ")


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("given", ["mnist", "mnist/3.0.1"])
def test_mnist_from_a_folder_too_deep(tmp_path, given):
  folder = tfds.prepared("mnist", DATA / given)
  builder = tfds._find("mnist", folder)
  assert builder.is_prepared() and builder.info.splits["train"].num_examples == 60_000


def test_a_missing_data_dir(tmp_path):
  message = error_of("mnist", data_dir=tmp_path / "none")
  assert message.startswith(f"dataset.data_dir: no folder {tmp_path / 'none'};")


def test_an_unknown_name(tmp_path):
  message = error_of("minst", data_dir=tmp_path)
  assert message == "dataset.name: unknown dataset 'minst'; did you mean 'mnist'?"


@pytest.mark.parametrize("name", ["mnist/odd", "mnist:9.9.9", "two words"])
def test_a_bad_configuration_version_or_spelling(name, tmp_path):
  message = error_of(name, data_dir=tmp_path)
  assert message.startswith(f"dataset.name: TFDS cannot find '{name}'")


@pytest.mark.slow
@pytest.mark.data
@needs_data
def test_mnist_without_tensorflow(tmp_path):
  program = f"""
import sys
from dcjax.data import tfds
dataset = tfds.load("mnist", data_dir={str(DATA)!r}, cache_dir={str(tmp_path)!r})
assert dataset.images.shape == (60000, 28, 28, 1), dataset.images.shape
assert dataset.test_images.shape == (10000, 28, 28, 1)
assert dataset.num_classes == 10 and abs(float(dataset.mean[0]) - 0.1307) < 1e-6
assert "tensorflow" not in sys.modules
"""
  root = Path(__file__).parents[2]
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, "-c", program]
  subprocess.run(command, check=True, timeout=300, cwd=root, env=environment)
  reread = tfds.load("mnist:3.0.1", data_dir=DATA, cache_dir=tmp_path)
  assert len(reread.images) == 60000 and len(list(tmp_path.iterdir())) == 1
