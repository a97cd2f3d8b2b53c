"""`SyntheticSet`: what is saved comes back, and what is not a set is refused in one line."""

import io
import json
import pickle

import numpy as np
import pytest

from dcjax.errors import UserError
from dcjax.synthetic import SyntheticSet

MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.125)
SHAPE = (2, 3, 4, 5, 3)


def metadata(**fields):
  return {
    "method": "dc",
    "dataset": "toy",
    "class_names": ["ant", "bée"],
    "range": "normalised",
    "mean": list(MEAN),
    "std": list(STD),
    "formation": {"name": "identity", "factor": 1},
    "ipc": 3,
    "config": {"seed": 0, "rate": 0.1},
    "seed": 0,
    "version": "0.0",
    **fields,
  }


def synthetic_set(**fields):
  images = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
  labels = np.repeat(np.arange(2, dtype=np.int32)[:, None], 3, axis=1)
  return SyntheticSet(images, labels, metadata(**fields))


def raw(**arrays):
  """The bytes of a file with some of its arrays replaced; None leaves one out."""
  good = synthetic_set()
  content = {
    "images": good.images,
    "labels": good.labels,
    "metadata": np.array(json.dumps(good.metadata)),
    **arrays,
  }
  file = io.BytesIO()
  np.savez(file, **{key: value for key, value in content.items() if value is not None})
  return file.getvalue()


def error_of(path):
  """The message of the `UserError` that loading a file raises: one line that names the file."""
  with pytest.raises(UserError) as caught:
    SyntheticSet.load(path)
  message = str(caught.value)
  assert message.startswith("synthetic set") and str(path) in message and "\n" not in message
  return message


@pytest.fixture
def path(tmp_path):
  return tmp_path / "synthetic.npz"


@pytest.fixture
def refused(path):
  """`refused(content) -> message` for a file with that content."""

  def refuse(content):
    path.write_bytes(content)
    return error_of(path)

  return refuse


# --- Round trip ----------------------------------------------------------------------------


def test_what_is_saved_comes_back_bit_for_bit(path):
  saved = synthetic_set()
  saved.images[0, 0, 0, 0] = [np.float32(1e-45), -0.0, np.finfo(np.float32).max]
  saved.save(path)
  loaded = SyntheticSet.load(str(path))
  assert loaded.images.dtype == np.float32 and loaded.labels.dtype == np.int32
  assert loaded.images.tobytes() == saved.images.tobytes()
  np.testing.assert_array_equal(loaded.labels, saved.labels)
  assert loaded.metadata == saved.metadata


def test_a_file_is_an_npz_that_anyone_can_read(path):
  synthetic_set().save(path)
  with np.load(path, allow_pickle=False) as file:
    assert set(file.files) == {"images", "labels", "metadata"}
    assert json.loads(str(file["metadata"]))["class_names"] == ["ant", "bée"]


def test_saving_leaves_one_file_under_the_name_that_was_given(tmp_path):
  for name in ("set.npz", "set"):
    synthetic_set().save(tmp_path / name)
  assert sorted(file.name for file in tmp_path.iterdir()) == ["set", "set.npz"]


def test_a_crash_while_saving_leaves_the_old_file(path, monkeypatch):
  old = synthetic_set()
  old.save(path)

  def crash(file, **arrays):
    file.write(b"half of a fi")
    raise OSError("no space left on device")

  monkeypatch.setattr(np, "savez", crash)
  with pytest.raises(OSError, match="no space left"):
    old._replace(images=old.images + 1).save(path)
  np.testing.assert_array_equal(SyntheticSet.load(path).images, old.images)


def test_metadata_that_json_cannot_hold_leave_the_old_file(path):
  old = synthetic_set()
  old.save(path)
  with pytest.raises(TypeError):
    synthetic_set(seed=object()).save(path)
  assert SyntheticSet.load(path).metadata == old.metadata


# --- Pixels --------------------------------------------------------------------------------


def known_set(image_range):
  """Images whose pixels are 0, 51, 255 and beyond both ends, in each channel."""
  pixels = np.float32([0, 51, 255, -40, 400])
  images = np.broadcast_to(pixels[None, None, None, :, None] / 255, SHAPE)
  if image_range == "normalised":
    images = (images - np.float32(MEAN)) / np.float32(STD)
  return synthetic_set(range=image_range)._replace(images=images.astype(np.float32))


@pytest.mark.parametrize("image_range", ["normalised", "unit"])
def test_pixels_are_what_a_person_sees(image_range):
  pixels = known_set(image_range).pixels()
  assert pixels.dtype == np.uint8 and pixels.shape == SHAPE
  np.testing.assert_array_equal(pixels[..., 0], np.broadcast_to([0, 51, 255, 0, 255], SHAPE[:-1]))
  assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("image_range", ["normalised", "unit"])
def test_flat_is_normalised_whatever_the_range(image_range):
  images, labels = known_set(image_range).flat()
  expected = (np.float32([0, 51, 255, -40, 400])[:, None] / 255 - MEAN) / STD
  assert images.dtype == np.float32 and images.shape == (6, 4, 5, 3)
  np.testing.assert_allclose(images, np.broadcast_to(expected, images.shape), atol=1e-5)
  np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1])


def test_flat_keeps_images_beside_their_labels():
  given = synthetic_set()
  images, labels = given.flat()
  for image, label, place in zip(images, labels, np.ndindex(2, 3), strict=True):
    np.testing.assert_array_equal(image, given.images[place])
    assert label == given.labels[place]


# --- Files that are not a set --------------------------------------------------------------


def test_a_file_that_is_missing(path, tmp_path):
  assert "no file" in error_of(path)
  assert "no file" in error_of(tmp_path)  # a folder


def test_a_file_cut_short_anywhere(refused):
  content = raw()
  for length in range(0, len(content), 97):
    refused(content[:length])


@pytest.mark.parametrize("content", [b"", b"hello\nworld\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04"])
def test_a_file_of_another_kind(refused, content):
  refused(content)


def test_a_single_array_is_not_a_set(refused):
  file = io.BytesIO()
  np.save(file, synthetic_set().images)
  refused(file.getvalue())


def test_a_flipped_bit_is_an_error_or_changes_nothing(path):
  # The archive's checksums cover the arrays; the rest is names and padding.
  content, good = bytearray(raw()), synthetic_set()
  for place in range(0, len(content), 7):
    content[place] ^= 0x80
    path.write_bytes(content)
    content[place] ^= 0x80
    try:
      loaded = SyntheticSet.load(path)
    except UserError as error:
      assert "\n" not in str(error)
    else:
      assert loaded.images.tobytes() == good.images.tobytes()


@pytest.mark.parametrize(
  ("field", "value"), [("encrypted", 1), ("patched", 1 << 5), ("compression", 99), ("version", 173)]
)
def test_an_archive_that_python_cannot_read(refused, field, value):
  content = bytearray(raw())
  offset = {"version": 6, "encrypted": 8, "patched": 8, "compression": 10}[field]
  content[content.index(b"PK\x01\x02") + offset] = value  # in the archive's directory
  refused(bytes(content))


class Trap:
  """Leaves a mark when it is unpickled."""

  sprung = False

  def __reduce__(self):
    return spring, ()


def spring():
  Trap.sprung = True


def test_nothing_is_ever_unpickled(refused):
  trap = np.array([Trap()], dtype=object)
  for key in ("images", "labels", "metadata", "extra"):
    refused(raw(**{key: trap}))
  refused(pickle.dumps(Trap()))
  assert not Trap.sprung


@pytest.mark.parametrize("key", ["images", "labels", "metadata"])
def test_an_array_that_is_missing(refused, key):
  assert f"has no '{key}'" in refused(raw(**{key: None}))


@pytest.mark.parametrize(
  ("arrays", "problem"),
  [
    ({"images": np.zeros(SHAPE)}, "images are float64"),
    ({"images": np.zeros(SHAPE, np.uint8)}, "images are uint8"),
    ({"images": np.zeros(SHAPE[1:], np.float32)}, r"images are float32 (3, 4, 5, 3)"),
    ({"images": np.full(SHAPE, np.nan, np.float32)}, "not finite"),
    ({"images": np.full(SHAPE, np.inf, np.float32)}, "not finite"),
    ({"images": np.zeros((3, 3, 4, 5, 3), np.float32)}, "labels are int32 (2, 3)"),
    ({"labels": np.zeros((2, 3), np.int64)}, "labels are int64"),
    ({"labels": np.zeros(6, np.int32)}, "labels are int32 (6,)"),
    ({"labels": np.full((2, 3), 2, np.int32)}, "labels are not the numbers of the rows"),
    ({"labels": np.full((2, 3), -1, np.int32)}, "labels are not the numbers of the rows"),
    ({"metadata": np.array("{")}, ""),
    ({"metadata": np.array("[1, 2]")}, "not a JSON object"),
    ({"metadata": np.zeros(3)}, ""),
    ({"metadata": np.array(b"\xff\xfe")}, ""),
  ],
)
def test_arrays_that_do_not_fit(refused, arrays, problem):
  assert problem in refused(raw(**arrays))


@pytest.mark.parametrize("field", list(metadata()))
def test_a_metadata_field_that_is_missing(refused, field):
  fields = {key: value for key, value in metadata().items() if key != field}
  assert f"no '{field}'" in refused(raw(metadata=np.array(json.dumps(fields))))


@pytest.mark.parametrize(
  ("fields", "problem"),
  [
    ({"config": [1]}, "config is not a JSON object"),
    ({"config": None}, "config is not a JSON object"),
    ({"range": "0..255"}, "range is '0..255', not one of normalised, unit"),
    ({"range": ["unit"]}, "range"),
    ({"range": None}, "range"),
    ({"class_names": ["ant"]}, "class_names are not 2 names"),
    ({"mean": [0.5]}, "not 3 numbers"),
    ({"std": [0.5] * 4}, "not 3 numbers"),
    ({"class_names": 2}, "class_names are not 2 names"),
    ({"mean": 0.5}, "mean is not 3 numbers"),
    ({"std": None}, "std is not 3 numbers"),
    ({"mean": ["a", "b", "c"]}, "mean is not 3 numbers"),
    ({"std": [0.0, 1.0, 1.0]}, "std is not 3 numbers"),
    ({"mean": [float("nan")] * 3}, "mean is not 3 numbers"),
  ],
  ids=str,
)
def test_metadata_that_mean_nothing(refused, fields, problem):
  assert problem in refused(raw(metadata=np.array(json.dumps(metadata(**fields)))))


def test_a_set_of_no_classes(refused):
  nothing = {
    "images": np.zeros((0, *SHAPE[1:]), np.float32),
    "labels": np.zeros((0, 3), np.int32),
    "metadata": np.array(json.dumps(metadata(class_names=[]))),
  }
  refused(raw(**nothing))
