"""Data sets in `.npz` files."""

import logging as std_logging
from pathlib import Path

import numpy as np
import pytest

from dcjax.common.errors import UserError
from dcjax.data import npz

USPS = Path(__file__).parents[2].parent / "shared" / "data" / "usps.npz"


def arrays():
  rng = np.random.default_rng(0)
  return {
    "x_train": rng.integers(0, 256, (9, 4, 4, 3), dtype=np.uint8),
    "y_train": np.arange(9) % 3,
    "x_test": rng.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8),
    "y_test": np.arange(3),
  }


def save(path, **changes):
  np.savez(path, **{k: v for k, v in {**arrays(), **changes}.items() if v is not None})
  return path


def error_of(path):
  with pytest.raises(UserError) as caught:
    npz.load(path)
  message = str(caught.value)
  assert message.startswith("dataset.data_dir: ") and "\n" not in message
  assert str(path) in message
  return message


def test_loads_what_was_saved(tmp_path):
  dataset = npz.load(str(save(tmp_path / "mine.npz")))
  assert dataset.name == "mine" and dataset.class_names == ("0", "1", "2")
  np.testing.assert_array_equal(dataset.images[:3], arrays()["x_train"][::3])
  np.testing.assert_array_equal(dataset.test_images, arrays()["x_test"])


def test_class_names_are_read(tmp_path):
  path = save(tmp_path / "mine.npz", class_names=np.array(["ant", "bee", "cat"]))
  assert npz.load(path).class_names == ("ant", "bee", "cat")


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  save(tmp_path / "mine.npz")
  assert npz.load("~/mine.npz").num_classes == 3


def test_a_missing_file(tmp_path):
  assert "no file" in error_of(tmp_path / "none.npz")


def test_files_that_are_no_npz(tmp_path):
  whole = save(tmp_path / "whole.npz").read_bytes()
  np.save(tmp_path / "single.npy", np.zeros(3))
  (tmp_path / "text.npz").write_text("hello")
  (tmp_path / "empty.npz").write_bytes(b"")
  (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
  (tmp_path / "folder.npz").mkdir()
  for name in ("single.npy", "text.npz", "empty.npz", "cut.npz", "folder.npz"):
    assert "not a readable .npz file" in error_of(tmp_path / name)


def test_a_damaged_array_is_named(tmp_path):
  path = save(tmp_path / "mine.npz")
  content = bytearray(path.read_bytes())
  content[content.index(b"NUMPY") + 300] ^= 255
  path.write_bytes(content)
  assert "x_train: cannot be read" in error_of(path)


def test_missing_keys_are_named_and_so_are_those_found(tmp_path):
  message = error_of(save(tmp_path / "mine.npz", x_test=None, y_test=None, extra=np.zeros(1)))
  assert "lacks x_test, y_test" in message and "x_train, y_train, extra" in message


def test_objects_are_not_unpickled(tmp_path):
  path = save(tmp_path / "mine.npz", y_train=np.array([None] * 9))
  assert "y_train: cannot be read" in error_of(path)


@pytest.mark.parametrize(
  ("key", "value", "words"),
  [
    ("x_train", np.full((9, 4, 4, 3), 7.0), "x_train: float64 pixels from 7 to 7 are not"),
    ("x_test", np.full((3, 4, 4, 3), np.nan), "x_test: pixel [0, 0, 0, 0] is nan"),
    ("x_train", np.zeros((9, 4, 4, 3), int), "x_train: int64 pixels from 0 to 0; give"),
    ("x_train", np.zeros((9, 4, 4, 4), np.uint8), "x_train: expected shape [N, H, W, C]"),
    ("x_train", np.float32(0), "x_train: expected shape"),
    ("x_train", np.zeros((0, 4, 4, 3)), "x_train: holds no pixels"),
    ("y_train", np.zeros(9), "y_train: expected integer labels, got float64"),
    ("y_train", np.zeros((9, 14), int), "y_train: 14 labels an image"),
    ("y_train", np.zeros((9, 0), int), "y_train: expected shape [9]"),
    ("x_test", np.zeros((3, 5, 4, 3), np.uint8), "x_test: images are [5, 4, 3]"),
    ("y_train", np.zeros(8, int), "y_train: expected shape [9]"),
    ("y_test", np.full(3, 9), "y_test: found label 9"),
    ("class_names", np.arange(3), "class_names: expected strings"),
    ("class_names", np.array(["a", "b", "c", "d"]), "class 3 ('d') has no training image"),
  ],
)
def test_wrong_arrays_are_named(tmp_path, key, value, words):
  assert words in error_of(save(tmp_path / "mine.npz", **{key: value}))


def test_numbers_of_other_types_are_the_same_images(tmp_path):
  expected = npz.load(save(tmp_path / "a.npz"))
  images = {key: arrays()[key] for key in ("x_train", "x_test")}
  for convert, limits in (
    (lambda x: x.astype(np.uint16) * 257, None),
    (lambda x: x / np.float32(255), None),
    (lambda x: x.astype(np.int64), (0, 255)),
  ):
    file = save(tmp_path / "b.npz", **{key: convert(image) for key, image in images.items()})
    dataset = npz.load(file, limits=limits)
    np.testing.assert_array_equal(dataset.images, expected.images)
    np.testing.assert_array_equal(dataset.test_images, expected.test_images)
    np.testing.assert_array_equal(dataset.mean, expected.mean)


def test_labels_in_a_column(tmp_path):
  dataset = npz.load(save(tmp_path / "a.npz", y_train=arrays()["y_train"][:, None]))
  assert np.bincount(dataset.labels).tolist() == [3, 3, 3]


def save_medmnist(path, **changes):
  """A file as MedMNIST has them."""
  given = arrays()
  content = {
    "train_images": given["x_train"],
    "val_images": given["x_test"][::-1],
    "test_images": given["x_test"],
    "train_labels": given["y_train"][:, None].astype(np.uint8),
    "val_labels": given["y_test"][::-1, None].astype(np.uint8),
    "test_labels": given["y_test"][:, None].astype(np.uint8),
    **changes,
  }
  np.savez_compressed(path, **{key: value for key, value in content.items() if value is not None})
  return path


def test_medmnist(tmp_path, caplog):
  expected = npz.load(save(tmp_path / "ours.npz"))
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    dataset = npz.load(save_medmnist(tmp_path / "bloodmnist.npz"))
  assert dataset.name == "bloodmnist" and "not used: val_images" in caplog.text
  for field in ("images", "labels", "test_images", "test_labels"):
    np.testing.assert_array_equal(getattr(dataset, field), getattr(expected, field))


@pytest.mark.parametrize(
  ("key", "value", "words"),
  [
    ("train_labels", np.zeros((9, 14), np.uint8), "train_labels: 14 labels an image; choose"),
    ("train_images", np.zeros((9, 28, 28, 28), np.uint8), "train_images: expected shape"),
    ("test_images", None, "lacks test_images (found: train_images"),
    ("test_labels", np.full((3, 1), 9, np.uint8), "test_labels: found label 9"),
    ("train_labels", np.zeros((8, 1), np.uint8), "train_labels: expected shape [9]"),
  ],
)
def test_medmnist_files_that_do_not_fit(tmp_path, key, value, words):
  message = error_of(save_medmnist(tmp_path / "a.npz", **{key: value}))
  assert words in message and "x_t" not in message and "y_t" not in message


@pytest.mark.data
@pytest.mark.skipif(not USPS.exists(), reason="needs ../shared/data/usps.npz")
def test_usps():
  dataset = npz.load(USPS)
  assert dataset.images.shape == (7291, 16, 16, 1) and len(dataset.test_images) == 2007
  assert dataset.num_classes == 10
