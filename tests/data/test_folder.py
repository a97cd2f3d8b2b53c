"""Folders of image files."""

import logging as std_logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcjax.data import folder
from dcjax.errors import UserError

IMAGENETTE = Path(__file__).parents[2].parent / "shared" / "data" / "imagenette_small"
COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}


def write_image(path, colour, size=(24, 16)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", size, colour).save(path)


@pytest.fixture
def root(tmp_path):
  """Three classes of one colour each: two images for training, one for validation."""
  for name, colour in COLOURS.items():
    write_image(tmp_path / "set" / "train" / name / "0.png", colour)
    write_image(tmp_path / "set" / "train" / name / "1.png", colour, size=(9, 30))
    write_image(tmp_path / "set" / "val" / name / "0.png", colour)
  return tmp_path / "set"


def error_of(root, **arguments):
  with pytest.raises(UserError) as caught:
    folder.load(root, **{"side": 8, **arguments})
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_loads_all_classes_by_name(root):
  dataset = folder.load(str(root), side=8)
  assert dataset.name == "set" and dataset.class_names == ("blue", "green", "red")
  assert dataset.images.shape == (6, 8, 8, 3) and dataset.test_images.shape == (3, 8, 8, 3)
  for label, colour in enumerate(COLOURS.values()):
    assert (np.asarray(dataset.images)[2 * label : 2 * label + 2] == colour).all()
    assert (np.asarray(dataset.test_images)[label] == colour).all()


def test_chosen_classes_are_labelled_in_the_order_given(root):
  dataset = folder.load(root, side=8, classes=("red", "blue"))
  assert dataset.class_names == ("red", "blue")
  assert (np.asarray(dataset.images)[:2] == COLOURS["red"]).all()
  assert (np.asarray(dataset.test_images)[1] == COLOURS["blue"]).all()


@pytest.mark.parametrize("size", [(30, 10), (10, 30), (10, 10), (31, 10)])
def test_the_centre_of_the_image_is_kept(tmp_path, size):
  width, height = size
  pixels = np.zeros((height, width, 3), np.uint8)
  top, left = (height - 10) // 2, (width - 10) // 2
  pixels[top : top + 10, left : left + 10] = 255
  Image.fromarray(pixels).save(tmp_path / "a.png")
  assert (folder._decode(tmp_path / "a.png", 10) == 255).all()


@pytest.mark.parametrize("size", [(333, 500), (500, 375), (3, 2), (1, 50)])
@pytest.mark.parametrize("side", [1, 7, 64])
def test_every_size_becomes_a_square(tmp_path, size, side):
  write_image(tmp_path / "a.png", (10, 20, 30), size)
  image = folder._decode(tmp_path / "a.png", side)
  assert image.shape == (side, side, 3) and (image == (10, 20, 30)).all()


def test_shrinking_is_antialiased(tmp_path):
  stripes = np.zeros((64, 64), np.uint8)
  stripes[:, ::2] = 255
  Image.fromarray(stripes).save(tmp_path / "a.png")
  image = folder._decode(tmp_path / "a.png", 8)
  assert image[:, 1:-1].min() > 120 and image[:, 1:-1].max() < 136


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
  suffix = "jpg" if mode == "CMYK" else "png"
  Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(tmp_path / f"a.{suffix}")
  image = folder._decode(tmp_path / f"a.{suffix}", 4)
  assert image.shape == (4, 4, 3) and image.min() > 250


def test_statistics_are_measured(root):
  dataset = folder.load(root, side=8)
  np.testing.assert_allclose(dataset.mean, [200 / 255 / 3] * 3, rtol=1e-5)


def test_statistics_of_imagenet_for_imagenet_names(root):
  names = ("n01440764", "n02102040", "n02979186")
  for split in ("train", "val"):
    for old, new in zip(COLOURS, names, strict=True):
      (root / split / old).rename(root / split / new)
  dataset = folder.load(root, side=8)
  np.testing.assert_allclose(dataset.mean, [0.485, 0.456, 0.406], rtol=1e-6)
  np.testing.assert_allclose(dataset.std, [0.229, 0.224, 0.225], rtol=1e-6)


def test_hidden_files_and_folders_are_passed_over(root):
  (root / "train" / ".cache").mkdir()
  (root / "train" / "red" / ".DS_Store").write_text("")
  assert len(folder.load(root, side=8).images) == 6


def test_few_broken_files_are_skipped_with_one_warning(root, caplog):
  for k in range(100):
    write_image(root / "train" / "red" / f"x{k}.png", COLOURS["red"], (8, 8))
  (root / "train" / "green" / "00.png").write_bytes(b"not an image")
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    dataset = folder.load(root, side=8)
  np.testing.assert_array_equal(np.bincount(dataset.labels), [2, 2, 102])
  assert len(caplog.records) == 1
  assert "skipped 1 of 107" in caplog.text and "00.png" in caplog.text


def test_many_broken_files_are_an_error(root):
  whole = (root / "val" / "red" / "0.png").read_bytes()
  (root / "val" / "red" / "0.png").write_bytes(whole[: len(whole) // 2])
  message = error_of(root)
  assert message.startswith("dataset.data_dir: 1 of 3 files in ")
  assert str(Path("val", "red", "0.png")) in message


@pytest.mark.parametrize("side", [0, -3])
def test_a_side_below_one(root, side):
  assert error_of(root, side=side).startswith(f"dataset.side: {side} ")


def test_an_unknown_class(root):
  message = error_of(root, classes=("red", "gren"))
  assert message.startswith("dataset.classes: no class 'gren'")
  assert "did you mean 'green'?" in message


def test_a_class_named_twice(root):
  assert error_of(root, classes=("red", "red")).startswith("dataset.classes: 'red' is there")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split(root, split):
  (root / split).rename(root / "elsewhere")
  assert error_of(root).startswith(f"dataset.data_dir: no folder {root / split};")


def test_a_split_without_classes(root):
  (root / "val").rename(root / "elsewhere")
  (root / "val").mkdir()
  assert "holds no class folders" in error_of(root)


@pytest.mark.parametrize(("lacking", "other"), [("train", "val"), ("val", "train")])
def test_a_class_that_one_split_lacks(root, lacking, other):
  write_image(root / other / "pink" / "0.png", (200, 100, 100))
  message = error_of(root)
  assert message.startswith(f"dataset.data_dir: {root / lacking} lacks class 'pink'")
  assert folder.load(root, side=8, classes=("red", "blue")).num_classes == 2


def test_a_class_without_images(root):
  for split in ("train", "val"):
    (root / split / "pink").mkdir()
  message = error_of(root)
  assert message.startswith("dataset.data_dir: ") and "pink holds no image files" in message


def test_a_single_class(root):
  assert "at least 2 are needed" in error_of(root, classes=("red",))


@pytest.mark.data
@pytest.mark.skipif(not IMAGENETTE.is_dir(), reason="needs ../shared/data/imagenette_small")
def test_imagenette():
  dataset = folder.load(IMAGENETTE, side=32, classes=("n03888257", "n01440764"))
  assert dataset.images.shape == (120, 32, 32, 3) and len(dataset.test_images) == 40
  np.testing.assert_allclose(dataset.mean, [0.485, 0.456, 0.406], rtol=1e-6)
