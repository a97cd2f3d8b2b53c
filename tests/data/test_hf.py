"""Data sets that Hugging Face's library reads: from files, and what is said without a network."""

import json
import logging as std_logging
import sys

import numpy as np
import pytest
from PIL import Image

import dcjax.config
from dcjax import data
from dcjax.common.errors import UserError
from dcjax.data import hf
from dcjax.data.split import Split
from tests.data.test_folder import write_image

datasets = pytest.importorskip("datasets")

CLASSES = ["ant", "bee", "cat"]


@pytest.fixture(scope="module", autouse=True)
def _quiet():
  datasets.disable_progress_bars()
  yield
  datasets.enable_progress_bars()


def images(count, shape=(6, 8, 3), seed=0):
  rng = np.random.default_rng(seed)
  return [rng.integers(0, 256, shape, np.uint8) for _ in range(count)]


def table(pixels, labels=None, feature=None, **columns):
  """Images and labels, as `datasets` keeps them."""
  labels = [k % 3 for k in range(len(pixels))] if labels is None else labels
  features = {"img": datasets.Image(), "label": feature or datasets.ClassLabel(names=CLASSES)}
  content = {"img": [Image.fromarray(p) for p in pixels], "label": labels, **columns}
  features |= {name: datasets.Value("string") for name in columns}
  return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def save(path, **splits):
  datasets.DatasetDict(splits).save_to_disk(str(path))
  return path


def with_copy(split, column, name):
  files = split.cast_column(column, datasets.Image(decode=False))[column]
  return split.add_column(name, list(files)).cast_column(name, datasets.Image())


def load(source, tmp_path, side=8, **arguments):
  return hf.load(source, side=side, cache_dir=tmp_path / "cache", **arguments)


def error_of(source, tmp_path, **arguments):
  with pytest.raises(UserError) as caught:
    load(source, tmp_path, **arguments)
  assert "\n" not in str(caught.value)
  return str(caught.value)


# --- Files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["saved", "parquet", "one split deep"])
def test_tables_of_all_kinds(tmp_path, kind):
  train, test = images(9), images(3, seed=1)
  root = tmp_path / "mine"
  if kind == "parquet":
    (root / "data").mkdir(parents=True)
    table(train).to_parquet(root / "data" / "train-00000-of-00001.parquet")
    table(test).to_parquet(root / "data" / "test-00000-of-00001.parquet")
  else:
    save(root, train=table(train), test=table(test))
  dataset = load(root / "train" if kind == "one split deep" else root, tmp_path)
  assert dataset.name == "mine" and dataset.class_names == tuple(CLASSES)
  np.testing.assert_array_equal(dataset.images, np.array(train)[[0, 3, 6, 1, 4, 7, 2, 5, 8]])
  np.testing.assert_array_equal(dataset.test_images, test)
  assert dataset.test_labels.tolist() == [0, 1, 2]


def test_a_folder_of_images(tmp_path):
  for split in ("train", "validation"):
    for k, name in enumerate(CLASSES):
      for number in range(2):
        write_image(tmp_path / "set" / split / name / f"{number}.png", (k, 0, 0), (8, 6))
  dataset = load(tmp_path / "set", tmp_path)
  assert dataset.class_names == tuple(CLASSES) and dataset.image_shape == (6, 8, 3)
  assert np.asarray(dataset.images)[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2]
  assert dataset.test_labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_one_parquet_file_is_split(tmp_path, caplog):
  table(images(30)).to_parquet(tmp_path / "a.parquet")
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    dataset = load(tmp_path / "a.parquet", tmp_path)
  assert np.bincount(dataset.labels).tolist() == [8] * 3 and len(dataset.test_images) == 6
  assert "a.parquet: has no test images; 6 of 30 are set apart" in caplog.text
  more = load(tmp_path / "a.parquet", tmp_path, split=Split(0.5))
  both = np.concatenate([more.images, more.test_images])
  assert len(more.test_images) == 15 and len(np.unique(both, axis=0)) == 30


def test_files_of_images_that_are_not_said_to_be_such(tmp_path):
  """As other libraries write parquet."""
  pixels = images(9)
  encoded = table(pixels).cast_column("img", datasets.Image(decode=False))["img"]
  for column in ([dict(item) for item in encoded], [item["bytes"] for item in encoded]):
    plain = datasets.Dataset.from_dict({"picture": column, "y": [k % 3 for k in range(9)]})
    plain.to_parquet(tmp_path / "plain.parquet")
    dataset = load(tmp_path / "plain.parquet", tmp_path, split=Split(0.3))
    assert dataset.class_names == ("0", "1", "2") and len(dataset.images) == 6
    found = np.concatenate([dataset.images, dataset.test_images])
    assert {image.tobytes() for image in found} == {image.tobytes() for image in pixels}


@pytest.mark.parametrize("content", [{}, {"a.txt": b"hello"}, {"a.parquet": b"PAR1"}])
def test_files_that_cannot_be_read(tmp_path, content):
  (tmp_path / "set").mkdir()
  for name, text in content.items():
    (tmp_path / "set" / name).write_bytes(text)
  error_of(tmp_path / "set", tmp_path)
  (tmp_path / "a.zip").write_bytes(b"")
  assert "is no parquet or arrow file" in error_of(tmp_path / "a.zip", tmp_path)


def test_code_in_a_folder_is_not_run(tmp_path):
  root = tmp_path / "set"
  root.mkdir()
  (root / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
  error_of(root, tmp_path)
  assert not (tmp_path / "ran").exists()


# --- Images --------------------------------------------------------------------------------


def test_grey_images_stay_grey(tmp_path):
  shapes = [(6, 8), (6, 8, 3)]
  for grey, other in zip(shapes, reversed(shapes), strict=True):
    root = save(tmp_path / str(grey), train=table(images(6, grey)), test=table(images(3, grey)))
    assert load(root, tmp_path).image_shape == (6, 8, len(grey) if len(grey) == 3 else 1)
    mixed = save(
      tmp_path / f"mixed {grey}", train=table(images(6, grey)), test=table(images(3, other))
    )
    assert load(mixed, tmp_path).image_shape == (6, 8, 3)


def test_images_of_16_bits(tmp_path):
  values = [image.astype(np.uint16) * 16 for image in images(6, (4, 4))]
  root = save(tmp_path / "set", train=table(values), test=table(values[:3]))
  assert np.asarray(load(root, tmp_path).images).max() <= 16
  dataset = load(root, tmp_path, limits=(0, 4080))
  np.testing.assert_array_equal(np.asarray(dataset.test_images)[..., 0] * np.uint16(16), values[:3])
  assert "not within 0..3000" in error_of(root, tmp_path, limits=(0, 3000))


def test_images_of_several_sizes_are_brought_to_one(tmp_path, caplog):
  root = save(tmp_path / "set", train=table(images(6)), test=table(images(3, (9, 5, 3))))
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    assert load(root, tmp_path, side=7).image_shape == (7, 7, 3)
  assert "has images of 2 sizes; all are brought to 7 pixels" in caplog.text
  assert error_of(root, tmp_path, side=0).startswith("dataset.side: 0 is no image size")


def test_broken_images_are_named(tmp_path, caplog):
  encoded = table(images(12)).cast_column("img", datasets.Image(decode=False))

  def break_some(row, k):
    broken = {"bytes": b"no image", "path": None} if k < many else row["img"]
    return {"img": None if k == 0 else broken}

  for many in (2, 6):
    damaged = encoded.map(break_some, with_indices=True).cast_column("img", datasets.Image())
    root = save(tmp_path / str(many), train=damaged, test=table(images(3)))
    if many == 6:
      assert "6 of 12 files in 6 are no readable image files, the first is train[0]" in error_of(
        root, tmp_path
      )
      return
    with caplog.at_level(std_logging.WARNING, logger="absl"):
      dataset = load(root, tmp_path)
    assert len(dataset.images) == 10 and "train[0], train[1]" in caplog.text


# --- Columns and labels --------------------------------------------------------------------


def test_columns_that_are_given(tmp_path):
  pixels = images(6)
  train = table(pixels).add_column("kind", ["b", "a"] * 3)
  train = with_copy(train, "img", "mask")
  root = save(tmp_path / "set", train=train, test=train)
  dataset = load(root, tmp_path, columns=hf.Columns("mask", "kind"))
  assert dataset.class_names == ("a", "b") and dataset.test_labels.tolist() == [1, 0] * 3
  np.testing.assert_array_equal(dataset.test_images, pixels)
  assert load(root, tmp_path).class_names == tuple(CLASSES)
  message = error_of(root, tmp_path, columns=hf.Columns("imj", ""))
  assert message.endswith("set has no column 'imj'; did you mean 'img'?")
  message = error_of(root, tmp_path, columns=hf.Columns("", "img"))
  assert message.startswith("dataset.label_column: column 'img' of set holds 6 PngImageFile")
  message = error_of(root, tmp_path, columns=hf.Columns("label", ""))
  assert message.startswith("dataset.image_column: column 'label' of set holds no images")


def test_columns_that_cannot_be_told(tmp_path):
  train = table(images(6)).rename_column("img", "first").rename_column("label", "answer")
  assert load(save(tmp_path / "a", train=train), tmp_path).num_classes == 3
  two = with_copy(train, "first", "second")
  message = error_of(save(tmp_path / "b", train=two), tmp_path)
  assert message.startswith("dataset.image_column: b has 2 columns that may be images (columns: ")
  message = error_of(save(tmp_path / "c", train=train.remove_columns("answer")), tmp_path)
  assert message == (
    "dataset.label_column: c has no columns that may be labels (columns: first); name one"
  )


@pytest.mark.parametrize(
  ("labels", "feature", "names"),
  [
    ([7, 3, 7, 3], datasets.Value("int64"), ("3", "7")),
    (["z", "é", "z", "é"], datasets.Value("string"), ("z", "é")),
    ([True, False] * 2, datasets.Value("bool"), ("False", "True")),
    ([2, 0, 2, 0], None, ("ant", "cat")),  # no bee: a part of a larger data set
  ],
)
def test_labels_of_all_kinds(tmp_path, labels, feature, names):
  split = table(images(4), labels, feature)
  dataset = load(save(tmp_path / "set", train=split, test=split), tmp_path)
  assert dataset.class_names == names
  expected = [sorted(set(labels)).index(label) for label in labels]
  assert dataset.test_labels.tolist() == expected


@pytest.mark.parametrize(
  ("labels", "feature", "words"),
  [
    ([0.5, 1.5, 0.5, 1.5], datasets.Value("float32"), "holds 4 float in its split train"),
    ([0, None, 1, 0], datasets.Value("int64"), "3 int, 1 NoneType"),
    ([0, -1, 1, 0], None, "1 rows of its split train have label -1"),
    ([[0], [1], [0, 1], []], datasets.List(datasets.Value("int64")), "holds 4 list"),
    ([1, 1, 1, 1], None, "found 1 class; at least 2 are needed"),
  ],
)
def test_labels_that_are_none(tmp_path, labels, feature, words):
  split = table(images(4), labels, feature)
  assert words in error_of(save(tmp_path / "set", train=split, test=split), tmp_path)


def test_a_test_split_whose_labels_are_hidden_is_not_used(tmp_path, caplog):
  hidden, seen = table(images(3, seed=1), [-1] * 3), table(images(3, seed=2))
  root = save(tmp_path / "set", train=table(images(6)), test=hidden, validation=seen)
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    np.testing.assert_array_equal(load(root, tmp_path).test_images, images(3, seed=2))
  assert "set: testing on validation; not used: test" in caplog.text
  root = save(tmp_path / "two", train=table(images(6)), test=hidden)
  assert len(load(root, tmp_path).test_images) == 3


def test_a_label_that_is_only_for_testing(tmp_path):
  train, test = table(images(4), [0, 1] * 2), table(images(3))
  message = error_of(save(tmp_path / "set", train=train, test=test), tmp_path)
  assert "label 2 of column 'label' is only in the split for testing" in message


def test_splits_without_train(tmp_path):
  root = save(tmp_path / "set", a=table(images(3)), b=table(images(3)))
  assert "has the splits a, b, of which none is called train" in error_of(root, tmp_path)


# --- The hub, the library and the config ---------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch):
  """A hub on a port where nothing listens; whoever waits for it is at fault."""
  monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
  monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
  monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits"))


@pytest.mark.parametrize("name", ["owner/cifar10", "mnist", "owner/set:small"])
def test_the_hub_without_a_network(tmp_path, nowhere, name):
  message = error_of(name, tmp_path)
  assert message.startswith(f"dataset.data_dir: '{name}' is no folder here and no data set")
  assert "http://127.0.0.1:9 cannot be asked (" in message and "refused" in message
  assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("name", ["./gone", "/gone/away", "a/b/c", "gone folder"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path, nowhere, name):
  assert f"no file or folder {name}, and" in error_of(name, tmp_path)


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "datasets", None)
  message = error_of("mnist", tmp_path)
  assert message.startswith("dataset.name: 'hf' needs the datasets library")
  assert message.endswith("pip install 'dcjax[hf]'")


def test_the_config_leads_to_it(tmp_path):
  train = table(images(9)).add_column("kind", ["x", "y", "x"] * 3)
  root = save(tmp_path / "set", train=train)
  config = dcjax.config.default()
  config.dataset.update({"name": "hf", "data_dir": str(root), "test_share": 0.4})
  config.dataset.update({"label_column": "kind", "image_column": "img", "classes": ("y", "x")})
  config = dcjax.config.complete(json.loads(json.dumps(config.to_dict())))
  dataset = data.load(dcjax.config.resolve(config).dataset)
  assert dataset.class_names == ("y", "x") and np.bincount(dataset.test_labels).tolist() == [1, 2]
