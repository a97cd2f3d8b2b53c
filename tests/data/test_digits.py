"""The embedded digits, and how a config leads to a source."""

import numpy as np
import pytest

import dcjax.config
from dcjax import data
from dcjax.common.errors import UserError
from dcjax.data import digits


def config(**fields):
  found = dcjax.config.default().dataset
  found.update({"name": "digits", "side": 0, **fields})
  return found


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


def test_all_digits_are_there_once(dataset):
  assert dataset.name == "digits" and dataset.image_shape == (8, 8, 1)
  assert dataset.class_names == tuple("0123456789")
  assert (len(dataset.images), len(dataset.test_images)) == (1442, 355)
  test_counts = np.bincount(dataset.test_labels)
  totals = np.bincount(dataset.labels) + test_counts
  np.testing.assert_array_equal(test_counts, totals // 5)


def test_pixels_fill_the_range(dataset):
  images = np.asarray(dataset.images)
  assert images.dtype == np.uint8 and (images.min(), images.max()) == (0, 255)
  levels = np.rint(np.arange(17) * 255 / 16)
  np.testing.assert_array_equal(np.unique(images), levels)


def test_the_split_is_fixed(dataset):
  again = digits.load()
  np.testing.assert_array_equal(dataset.images, again.images)
  np.testing.assert_array_equal(dataset.test_labels, again.test_labels)


def test_the_config_leads_to_the_digits_whatever_data_dir_says(dataset):
  loaded = data.load(config(data_dir="nowhere"))
  np.testing.assert_array_equal(loaded.images, dataset.images)


@pytest.mark.parametrize("name", ["npz", "folder"])
def test_an_empty_data_dir_is_an_error(name):
  with pytest.raises(UserError, match=rf"^dataset\.data_dir: empty.*dataset\.name={name}"):
    data.load(config(name=name))


def test_an_npz_file_as_name_is_an_error():
  with pytest.raises(UserError, match=r"^dataset\.name.*=npz and dataset\.data_dir=a/b\.npz"):
    data.load(config(name="a/b.npz"))


def test_a_folder_as_name_is_an_error(tmp_path, monkeypatch):
  (tmp_path / "photographs").mkdir()
  monkeypatch.chdir(tmp_path)
  for name in ("photographs", "./photographs", str(tmp_path / "photographs")):
    with pytest.raises(UserError, match=r"^dataset\.name.*is a path; set dataset\.name=folder"):
      data.load(config(name=name))


@pytest.mark.parametrize(
  ("name", "hint"),
  [
    ("minst", "did you mean 'mnist'"),
    ("minst:3.0.1", "did you mean 'mnist'"),
    ("digit", "did you mean 'digits'"),
    ("qqqqqqqqq", "choose one of: cifar10, "),
    ("", "choose one of: cifar10, "),
    ("/no/such/folder", "unknown dataset '/no/such/folder'"),
  ],
)
def test_an_unknown_name_is_an_error_with_the_nearest(name, hint, tmp_path):
  with pytest.raises(UserError, match=r"^dataset\.name: unknown dataset") as caught:
    data.load(config(name=name, data_dir=str(tmp_path)))
  assert hint in str(caught.value) and "\n" not in str(caught.value)


def test_the_config_leads_to_npz_and_folder(tmp_path):
  with pytest.raises(UserError, match=r"x\.npz"):
    data.load(config(name="npz", data_dir=str(tmp_path / "x.npz")))
  with pytest.raises(UserError, match=r"dataset\.side: 0"):
    data.load(config(name="folder", data_dir=str(tmp_path)))
