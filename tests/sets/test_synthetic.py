"""`SyntheticSet`: what is saved comes back, and what is not a set is refused in one line."""

import io
import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from dcjax.common.errors import UserError
from dcjax.sets.set_file import FORMAT
from dcjax.sets.synthetic import SyntheticSet

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
    "format": FORMAT,
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
  for key in ("images", "labels", "metadata", "weights/extra", "whitening/extra"):
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


@pytest.mark.parametrize("field", [name for name in metadata() if name != "format"])
def test_a_metadata_field_that_is_missing(refused, field):
  fields = {key: value for key, value in metadata().items() if key != field}
  assert f"no '{field}'" in refused(raw(metadata=np.array(json.dumps(fields))))


@pytest.mark.parametrize(
  ("fields", "problem"),
  [
    ({"config": [1]}, "config is not a JSON object"),
    ({"config": None}, "config is not a JSON object"),
    ({"method": 3}, "method is not a text"),
    ({"version": ["0.0"]}, "version is not a text"),
    ({"ipc": True}, "ipc is not a whole number"),
    ({"ipc": 4}, "its ipc is 4, but it holds 3 images of each class"),
    ({"iteration": "3"}, "iteration is not a whole number"),
    ({"formation": ["identity", 1]}, "formation is not a JSON object"),
    ({"formation": {"name": "uniform", "factor": 1.5}}, "formation is not one"),
    ({"formation": {"name": "uniform", "factor": "2"}}, "formation is not one"),
    ({"formation": {"name": ["uniform"], "factor": 2}}, "formation is not one"),
    ({"formation": {"name": "bounded", "factor": 2, "bound": 1e9}}, "formation is not one"),
    ({"formation": {"name": "uniform", "factor": 2, "shape": [1]}}, "formation is not one"),
    ({"formation": {}}, "formation is not one"),
    ({"class_names": ["ant", 2]}, "class_names are not 2 names"),
    ({"range": "un\nit\x1b[2J" * 1000}, "range is 'un it[2J"),
    ({"mean": [10**400] * 3}, "mean is not 3 numbers"),
    ({"mean": [1e300] * 3}, "mean is not 3 numbers"),
    ({"std": [1e-300] * 3}, "std is not 3 numbers"),
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


# --- Files that take more memory than they may ---------------------------------------------


def header(shape, descr="<f4", version=b"\x01\x00"):
  """The beginning of a `.npy` file of so many zeros."""
  text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
  return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


def bomb(path, member, head, size, compression=zipfile.ZIP_DEFLATED):
  """A set's file with one more member, or another one: zeros, written a part at a time."""
  with np.load(io.BytesIO(raw())) as good, zipfile.ZipFile(path, "w", compression) as file:
    for name in good:
      if f"{name}.npy" != member:
        with file.open(f"{name}.npy", "w") as stream:
          np.lib.format.write_array(stream, good[name])
    with file.open(member, "w", force_zip64=True) as stream:
      stream.write(head)
      for _ in range(size >> 22):
        stream.write(bytes(2**22))


@pytest.fixture
def memory():
  """Most bytes that numpy and Python have taken at once since the test began."""
  tracemalloc.start()
  yield lambda: tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()


def test_unknown_members_are_not_read(path, memory):
  bomb(path, "extra.npy", header((2**25,)), 2**27)
  before = memory()
  np.testing.assert_array_equal(SyntheticSet.load(path).images, synthetic_set().images)
  assert memory() - before < 2**24 and path.stat().st_size < 2**22


@pytest.mark.parametrize(
  ("member", "head"),
  [
    ("images.npy", header((2, 3, 2**14, 2**10, 3))),
    ("labels.npy", header((2**14, 2**14), "<i4")),
    ("metadata.npy", header((), "<U268435456")),
    ("weights/extra.npy", header((2**25,))),
    ("whitening/matrix.npy", header((2**14, 2**14))),
  ],
)
def test_members_that_grow_are_refused(path, memory, member, head):
  bomb(path, member, head, 2**26 + 2**22)
  before = memory()
  assert "bytes of memory" in error_of(path)
  assert memory() - before < 2**24


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_numpy_does_not_write_are_refused(path, compression):
  bomb(path, "images.npy", header((2**20,)), 2**22, compression)
  assert "bytes of memory" in error_of(path)


@pytest.mark.parametrize(
  "head",
  [
    header((2**40, 3, 4, 5, 3)),
    header((-2, -3, 4, 5, 3)),
    header((2, 3, 4, 5, 3), "|O"),
    header((2, 3, 4, 5, 3), version=b"\x02\x00"),
    b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little"),
    header("(" * 3000),
    b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 0xFFFF,
  ],
)
def test_headers_that_do_not_say_what_follows(path, memory, head):
  bomb(path, "images.npy", head, 2**22)
  before = memory()
  error_of(path)
  assert memory() - before < 2**24


def test_a_member_that_claims_more_of_the_file_than_there_is(path):
  bomb(path, "images.npy", header((2, 3, 2**10, 2**10, 3)), 2**26 + 2**22)
  content = bytearray(path.read_bytes())
  place = content.rindex(b"images.npy") - 46 + 20  # in the archive's directory
  content[place : place + 4] = (2**30).to_bytes(4, "little")
  path.write_bytes(content)
  assert "bytes of memory" in error_of(path)


def test_a_set_that_was_compressed_is_read(path):
  good = synthetic_set()
  np.savez_compressed(
    path, images=good.images, labels=good.labels, metadata=json.dumps(good.metadata)
  )
  assert SyntheticSet.load(path).images.tobytes() == good.images.tobytes()


def test_metadata_that_are_too_long(refused):
  assert "not a short text" in refused(raw(metadata=np.array(" " * 2**23 + "{}")))
  refused(raw(metadata=np.array("[" * 100_000)))


def test_a_set_of_no_classes(refused):
  nothing = {
    "images": np.zeros((0, *SHAPE[1:]), np.float32),
    "labels": np.zeros((0, 3), np.int32),
    "metadata": np.array(json.dumps(metadata(class_names=[]))),
  }
  refused(raw(**nothing))
