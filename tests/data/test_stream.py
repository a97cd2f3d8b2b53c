"""Images on disk: which there are, and how they are read ahead."""

import logging as std_logging
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets

from dcjax.common.errors import UserError
from dcjax.common.registry import DATASETS
from dcjax.data import folder, statistics, stream, tfds
from dcjax.data.on_disk import IN_MEMORY, Memory, OnDisk
from tests.data.test_folder import COLOURS, write_image
from tests.data.test_tfds import Builder

ON_DISK = Memory(streaming=True, memory_limit=0, workers=0)


class Numbers:
  """Images whose pixels are their indices; the last is broken."""

  def __len__(self):
    return 50

  def __getitem__(self, place):
    if place == 49:
      raise UserError("dataset.data_dir: cannot read 49.png any more")
    return np.full((2, 2, 1), place, np.uint8)


def numbers(workers=0):
  return OnDisk(Numbers(), (2, 2, 1), ON_DISK._replace(workers=workers))


def test_a_reader_in_a_file_goes_to_other_processes(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    "import numpy as np\n\n\nclass Reader:\n  def __len__(self):\n    return 9\n\n"
    "  def __getitem__(self, place):\n    return np.full((2, 2, 1), place, np.uint8)\n"
  )
  reader = DATASETS.find("dataset.name", f"{file}:Reader")()
  images = OnDisk(reader, (2, 2, 1), ON_DISK._replace(workers=1))
  streamed = stream.Stream(images, iter([np.array([3, 1, 3], np.int32)]))
  try:
    drawn = next(streamed)
  finally:
    streamed.close()
  assert drawn.images[drawn.indices][:, 0, 0, 0].tolist() == [3, 1, 3]


@pytest.fixture
def root(tmp_path):
  """Three classes with images of one colour each, and one broken file among 102."""
  for name, colour in COLOURS.items():
    for number in range(34):
      write_image(tmp_path / "set" / "train" / name / f"{number:02d}.png", colour, (9, 8))
    write_image(tmp_path / "set" / "val" / name / "0.png", colour)
  (tmp_path / "set" / "train" / "green" / "07.png").write_bytes(b"not an image")
  return tmp_path / "set"


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_draws_come_in_order_from_a_chain_of_pipelines(monkeypatch, workers):
  monkeypatch.setattr(stream, "SEGMENT", 60)
  generator = np.random.default_rng(0)
  draws = [generator.integers(0, 49, count).astype(np.int32) for count in (20, 0, 33, 1, 40, 70)]
  reading = stream.Stream(numbers(workers), iter(draws))
  for indices in draws:
    drawn = next(reading)
    assert len(drawn.images) == len(drawn.source) == min(len(indices), 50)
    assert drawn.images.shape[1:] == (2, 2, 1)
    np.testing.assert_array_equal(drawn.images[drawn.indices][:, 0, 0, 0], indices)
    np.testing.assert_array_equal(drawn.source[drawn.indices], indices)
  with pytest.raises(StopIteration):
    next(reading)
  reading.close()


@pytest.mark.slow
def test_an_image_that_cannot_be_read_any_more_is_named():
  reading = stream.Stream(numbers(workers=1), iter([np.array([3, 49], np.int32)]))
  with pytest.raises(UserError, match=r"cannot read 49.png any more"):
    next(reading)
  reading.close()


def test_images_that_were_drawn_twice_are_there_once():
  reading = stream.Stream(numbers(), iter([np.array([9, 4, 7, 7], np.int32)]))
  drawn = next(reading)
  assert drawn.images[:, 0, 0, 0].tolist() == [4, 7, 9, 0]  # the last one is a filler
  assert drawn.indices.tolist() == [2, 0, 1, 1]
  reading.close()


def test_a_folder_on_disk_is_the_same_dataset(root, tmp_path):
  ours = folder.load(root, side=8, memory=ON_DISK, cache_dir=tmp_path)
  theirs = folder.load(root, side=8, memory=IN_MEMORY)
  assert (ours.images.shape, ours.class_names) == (theirs.images.shape, theirs.class_names)
  for field in ("labels", "offsets", "source", "mean", "std", "test_images", "test_labels"):
    np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
  places = np.array([[0, 100], [41, 40]])
  np.testing.assert_array_equal(ours.images.read(places), np.asarray(theirs.images)[places])


def test_files_are_looked_at_once_until_one_changes(root, tmp_path, caplog, monkeypatch):
  def load():
    return folder.load(root, side=8, memory=ON_DISK, cache_dir=tmp_path / "cache")

  with caplog.at_level(std_logging.WARNING, logger="absl"):
    load()
  assert "looking once at all of its 102 images" in caplog.text
  assert "skipped 1 of 102" in caplog.text and "07.png" in caplog.text
  with monkeypatch.context() as patch:
    patch.setattr(statistics, "levels", lambda images: pytest.fail("looked twice"))
    load()
  write_image(root / "train" / "green" / "07.png", COLOURS["green"])
  assert load().images.shape[0] == 102


def test_many_broken_files_are_an_error_on_disk_too(root, tmp_path):
  for number in range(5):
    (root / "train" / "red" / f"{number + 10}.png").write_bytes(b"not an image either")
  with pytest.raises(UserError, match=r"6 of 102 files .* the first is .*07.png"):
    folder.load(root, side=8, memory=ON_DISK, cache_dir=tmp_path)


def test_a_file_that_has_gone_is_named(root, tmp_path):
  dataset = folder.load(root, side=8, memory=ON_DISK, cache_dir=tmp_path)
  (root / "train" / "blue" / "03.png").unlink()
  with pytest.raises(UserError, match=r"cannot read .*03.png any more .*put it back"):
    dataset.images.read(np.array([3]))


@pytest.mark.parametrize(
  ("streaming", "limit", "on_disk"),
  [(None, 102 * 192, False), (None, 102 * 192 - 1, True), (False, 0, False), (True, 10**9, True)],
)
def test_size_decides_unless_the_user_does(root, tmp_path, streaming, limit, on_disk):
  memory = Memory(streaming, limit, workers=0)
  dataset = folder.load(root, side=8, memory=memory, cache_dir=tmp_path)
  assert isinstance(dataset.images, OnDisk) == on_disk


def test_what_a_step_draws_must_fit():
  images = OnDisk(Numbers(), (2, 2, 1), Memory(True, 40, 0))
  images.check_fits(10)
  with pytest.raises(UserError, match=r"compute.memory_limit: 40 bytes .* 11 real .* 44 bytes"):
    images.check_fits(11)


@pytest.fixture
def records(tmp_path, monkeypatch):
  """A stand-in for TFDS whose images have one size."""
  builder = Builder(tmp_path / "source")
  builder.info.features["image"] = tensorflow_datasets.features.Image(shape=(4, 4, 3))
  builder.info.splits = {"train": SimpleNamespace(num_examples=600), "test": None}
  monkeypatch.setattr(tensorflow_datasets, "builder", lambda name, data_dir: builder)
  monkeypatch.setattr(tensorflow_datasets, "builder_from_directory", lambda path: builder)
  return builder


def test_records_on_disk_are_the_same_dataset(records, tmp_path):
  ours = tfds.load("toy", cache_dir=tmp_path, memory=ON_DISK)
  theirs = tfds.load("toy", cache_dir=tmp_path)
  for field in ("labels", "offsets", "mean", "std", "test_images", "test_labels"):
    np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
  places = np.arange(0, 600, 7)
  np.testing.assert_array_equal(ours.images.read(places), np.asarray(theirs.images)[places])
  assert records.reads == 5  # each split twice, and the records once more
  tfds.load("toy", cache_dir=tmp_path, memory=ON_DISK)
  assert records.reads == 5


def test_records_of_any_size_are_refused(records, tmp_path):
  records.info.features["image"] = tensorflow_datasets.features.Image(shape=(None, None, 3))
  with pytest.raises(UserError, match=r"compute.streaming: images of 'toy' may differ in size"):
    tfds.load("toy", cache_dir=tmp_path, memory=ON_DISK)
  assert not isinstance(tfds.load("toy", cache_dir=tmp_path).images, OnDisk)
