"""Folders of image files."""

import logging as std_logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcjax.common.errors import UserError
from dcjax.data import folder, pixels
from dcjax.data.on_disk import Memory
from dcjax.data.split import Split

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


def test_what_is_no_image_by_its_name_is_passed_over(root, caplog):
  for name in (".cache", "__MACOSX", "@eaDir"):
    (root / "train" / name).mkdir()
  for name in (".DS_Store", "Thumbs.db", "desktop.ini", "labels.csv", "README.md"):
    (root / "train" / "red" / name).write_text("")
  write_image(root / "train" / "red" / ".thumbnails" / "a.png", (1, 2, 3))
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    assert len(folder.load(root, side=8).images) == 6
  (message,) = caplog.messages
  assert "passed over 5 files" in message and "Thumbs.db" in message


def test_linked_folders_of_a_class_are_read_and_circles_end(root, tmp_path):
  write_image(tmp_path / "elsewhere" / "2.png", COLOURS["red"])
  (root / "train" / "red" / "more").symlink_to(tmp_path / "elsewhere")
  (tmp_path / "elsewhere" / "back").symlink_to(root / "train" / "red")
  dataset = folder.load(root, side=8)
  assert np.bincount(dataset.labels).tolist() == [2, 2, 3]


def test_images_beside_the_classes_are_said(root, caplog):
  write_image(root / "train" / "stray.png", (1, 2, 3))
  (root / "train" / "LICENSE").write_text("")
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    assert len(folder.load(root, side=8).images) == 6
  (message,) = caplog.messages
  assert "1 image files lie beside the folders of the classes" in message and "stray" in message


def test_images_without_a_suffix_and_in_folders_are_read(root):
  (root / "train" / "red" / "0.png").rename(root / "train" / "red" / "0")
  (root / "train" / "red" / "1.png").rename(root / "train" / "red" / "image.0001")
  write_image(root / "train" / "red" / "more" / "2.png", COLOURS["red"])
  assert np.bincount(folder.load(root, side=8).labels).tolist() == [2, 2, 3]


@pytest.mark.parametrize(
  ("images", "broken", "skipped"),
  [(10, 5, True), (10, 6, False), (2, 1, True), (2, 2, False), (700, 7, True), (700, 8, False)],
)
def test_few_broken_files_are_skipped(root, caplog, images, broken, skipped):
  """Of a class; the other two have three images each."""
  for name in COLOURS:
    write_image(root / "train" / name / "2.png", COLOURS[name])
  whole = (root / "train" / "red" / "0.png").read_bytes()
  for k in range(images):
    content = whole[: len(whole) // 2] if k < broken else whole
    (root / "train" / "red" / f"{k}.png").write_bytes(content)
  if images < 3:
    (root / "train" / "red" / "2.png").unlink()
  if not skipped:
    message = error_of(root)
    assert message.startswith(f"dataset.data_dir: {broken} of {images + 6} files in ")
    assert str(Path("train", "red", "0.png")) in message
    return
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    dataset = folder.load(root, side=8)
  assert np.bincount(dataset.labels).tolist() == [3, 3, images - broken]
  (message,) = caplog.messages
  assert f"skipped {broken} of {images + 6}" in message and "0.png" in message


def test_the_only_test_image_of_a_class_must_be_whole(root):
  whole = (root / "val" / "red" / "0.png").read_bytes()
  (root / "val" / "red" / "0.png").write_bytes(whole[: len(whole) // 2])
  message = error_of(root)
  assert message.startswith("dataset.data_dir: 1 of 3 files in ")
  assert str(Path("val", "red", "0.png")) in message


def test_most_files_must_be_whole(root):
  for name in COLOURS:
    (root / "train" / name / "0.png").write_bytes(b"")
  assert error_of(root).startswith("dataset.data_dir: 3 of 6 files in ")


# --- Layouts -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation", "Testing", "VAL"])
def test_names_of_the_test_split(root, name, caplog):
  expected = folder.load(root, side=8)
  (root / "val").rename(root / name)
  (root / "train").rename(root / ("Training" if name[0].isupper() else "train"))
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    dataset = folder.load(root, side=8)
  np.testing.assert_array_equal(dataset.test_images, expected.test_images)
  assert not [record for record in caplog.records if record.levelno >= std_logging.WARNING]


def test_of_two_test_splits_the_one_with_all_classes_is_taken(root, caplog):
  write_image(root / "test" / "unknown" / "0.png", (9, 9, 9))
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    assert len(folder.load(root, side=8).test_images) == 3
  assert "testing on val; not used: test" in caplog.text
  (root / "test" / "unknown").rename(root / "test" / "red")
  assert len(folder.load(root, side=8).test_images) == 3
  assert len(folder.load(root, side=8, classes=("red", "blue")).test_images) == 2
  for name in COLOURS:
    write_image(root / "test" / name / "0.png", (9, 9, 9))
  assert (np.asarray(folder.load(root, side=8).test_images) == 9).all()


def numbered(root, layout=""):
  """Ten images a class, each of its own grey; returns the folder that a user gives."""
  for label, name in enumerate("abc"):
    for k in range(10):
      write_image(root / "set" / layout / name / f"{k}.png", (10 * k + label,) * 3)
  return root / "set"


def greys(images):
  return set(np.asarray(images)[:, 0, 0, 0].tolist())


@pytest.mark.parametrize("layout", ["", "train"])
def test_without_test_images_a_share_of_each_class_is_for_testing(tmp_path, layout, caplog):
  root = numbered(tmp_path, layout)
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    dataset = folder.load(root, side=8)
  assert "6 of 30 are set apart, 0.2 of each class, by dataset.test_seed=0" in caplog.text
  assert np.bincount(dataset.test_labels).tolist() == [2, 2, 2]
  train, test = greys(dataset.images), greys(dataset.test_images)
  assert len(train) == 24 and len(test) == 6 and not train & test
  assert greys(folder.load(root, side=8).test_images) == test
  others = [folder.load(root, side=8, split=Split(0.2, seed)) for seed in (1, 2, 3)]
  assert any(greys(other.test_images) != test for other in others)
  # Some classes have the same test images as they have among all; so have images on disk.
  some = folder.load(root, side=8, classes=("c", "a"))
  assert greys(some.test_images) == {grey for grey in test if grey % 10 != 1}
  on_disk = folder.load(root, side=8, memory=Memory(True, 10**6, 0), cache_dir=tmp_path)
  assert greys(on_disk.images.read(np.arange(24))) == train
  assert greys(on_disk.test_images) == test


@pytest.mark.parametrize(("share", "count"), [(0.001, 1), (0.5, 5), (0.999, 9)])
def test_a_class_keeps_images_on_both_sides(tmp_path, share, count):
  dataset = folder.load(numbered(tmp_path), side=8, split=Split(share))
  assert np.bincount(dataset.test_labels).tolist() == [count] * 3


def test_a_class_of_one_image_cannot_be_split(tmp_path):
  root = numbered(tmp_path)
  write_image(root / "d" / "0.png", (1, 2, 3))
  assert "class 'd' has one image, and one of each class is for testing" in error_of(root)


@pytest.mark.parametrize("split", [Split(0.0), Split(1.0), Split(float("nan")), Split(0.2, -1)])
def test_a_split_out_of_range(tmp_path, split):
  assert error_of(numbered(tmp_path), split=split).startswith("dataset.test_s")


@pytest.mark.parametrize("given", ["set", "set/train", "set/val", "", "../..//{0}/set/train/"])
def test_a_folder_too_high_or_too_deep(root, given, caplog, monkeypatch):
  expected = folder.load(root, side=8)
  monkeypatch.chdir(root.parent)
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    dataset = folder.load(given.format(root.parent.relative_to(root.parents[2])) or ".", side=8)
  assert dataset.name == "set" and dataset.class_names == expected.class_names
  np.testing.assert_array_equal(dataset.test_images, expected.test_images)
  assert ("reading the data set in" in caplog.text) == (given != "set")


def test_folders_of_folders_are_no_classes(tmp_path):
  for part in ("photos", "drawings"):
    for name in "ab":
      write_image(tmp_path / part / name / "0.png", (1, 2, 3))
  message = error_of(tmp_path)
  assert "drawings holds folders, not images; give the folder whose folders are" in message


def test_a_class_may_be_called_train(tmp_path):
  for name in ("bus", "train"):
    for k in range(3):
      write_image(tmp_path / name / f"{k}.png", (1, 2, 3))
  assert folder.load(tmp_path, side=8).class_names == ("bus", "train")


@pytest.mark.parametrize(
  ("name", "words"), [("a.npz", "dataset.name=npz"), ("a.parquet", "=hf"), ("a.zip", "is a file")]
)
def test_a_file_in_place_of_a_folder(tmp_path, name, words):
  (tmp_path / name).write_bytes(b"")
  assert words in error_of(tmp_path / name)


@pytest.fixture
def tiny_imagenet(tmp_path):
  """Two classes as Tiny ImageNet has them, its test images without labels."""
  root, names = tmp_path / "tiny-imagenet-200", ("n01443537", "n01629819")
  for label, name in enumerate(names):
    for k in range(3):
      write_image(root / "train" / name / "images" / f"{name}_{k}.JPEG", (label, k, 0), (8, 8))
    (root / "train" / name / f"{name}_boxes.txt").write_text("")
  lines = []
  for k in range(4):
    write_image(root / "val" / "images" / f"val_{k}.JPEG", (100, 50 * k, 0), (8, 8))
    lines.append(f"val_{k}.JPEG\t{names[k % 2]}\t0\t0\t62\t62\n")
  (root / "val" / "val_annotations.txt").write_text("".join(lines))
  write_image(root / "test" / "images" / "test_0.JPEG", (9, 9, 9))
  return root


def test_tiny_imagenet_as_it_is_published(tiny_imagenet):
  dataset = folder.load(tiny_imagenet, side=8)
  assert dataset.class_names == ("n01443537", "n01629819") and len(dataset.images) == 6
  assert dataset.test_labels.tolist() == [0, 1, 0, 1]
  expected = [
    pixels.read_image(tiny_imagenet / "val" / "images" / f"val_{k}.JPEG") for k in range(4)
  ]
  np.testing.assert_array_equal(dataset.test_images, expected)
  np.testing.assert_allclose(dataset.mean, [0.485, 0.456, 0.406], rtol=1e-6)
  swapped = folder.load(tiny_imagenet, side=8, classes=("n01629819", "n01443537"))
  assert swapped.test_labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
  ("old", "new", "words"),
  [
    ("n01443537", "n99999999", "no class 'n99999999' for training"),
    ("\t", ",", "line 1: not a file and its class"),
    ("val_0", "../val_0", "line 1: not a file and its class"),
  ],
)
def test_annotations_that_do_not_fit(tiny_imagenet, old, new, words):
  file = tiny_imagenet / "val" / "val_annotations.txt"
  file.write_text(file.read_text().replace(old, new))
  assert words in error_of(tiny_imagenet)


# --- Fields --------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [0, -3])
def test_a_side_below_one(root, side):
  assert error_of(root, side=side).startswith(f"dataset.side: {side} ")


@pytest.mark.parametrize("resize", [0, 8, 10])
def test_test_images_may_be_larger_before_their_centre_is_cut_out(tmp_path, resize):
  pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)
  for split in ("train", "test"):
    for name in ("ant", "bee"):
      (tmp_path / split / name).mkdir(parents=True)
      Image.fromarray(pixels).save(tmp_path / split / name / "0.png")
  dataset = folder.load(tmp_path, side=8, test_resize=resize)

  def centre(short):  # of an image of 24 x 16 pixels
    high = short * 3 // 2
    top, left = (high - 8) // 2, (short - 8) // 2
    resized = Image.fromarray(pixels).resize((short, high), Image.Resampling.BILINEAR)
    return np.asarray(resized)[top : top + 8, left : left + 8]

  np.testing.assert_array_equal(dataset.test_images[1], centre(resize or 8))
  np.testing.assert_array_equal(dataset.images[1], centre(8))


def test_a_size_of_test_images_below_the_side(root):
  message = error_of(root, side=7, test_resize=6)
  assert "dataset.test_resize: 6 is less than dataset.side=7" in message and "give 8" in message


def test_an_unknown_class(root):
  message = error_of(root, classes=("red", "gren"))
  assert message.startswith("dataset.classes: no class 'gren'")
  assert "did you mean 'green'?" in message


def test_a_class_named_twice(root):
  assert error_of(root, classes=("red", "red")).startswith("dataset.classes: 'red' is there")


def test_a_folder_without_train(root):
  (root / "train").rename(root / "elsewhere")
  assert error_of(root) == f"dataset.data_dir: {root} holds val/ and no train/; add it"


def test_a_split_without_classes(root):
  (root / "val").rename(root / "elsewhere")
  (root / "val").mkdir()
  assert f"{root / 'val'} holds no class folders" in error_of(root)


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
