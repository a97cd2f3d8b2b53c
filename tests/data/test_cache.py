"""The cache: what is read is what was written, and whatever is wrong with it is a warning."""

import json
import logging as std_logging
import threading

import numpy as np
import pytest

from dcjax.data import cache

DTYPES = {"images": np.uint8, "labels": np.int32, "good": bool, "names": "U3"}


@pytest.fixture(autouse=True)
def warnings(caplog):
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    yield


def arrays():
  rng = np.random.default_rng(0)
  return {
    "images": rng.integers(0, 256, (40, 6, 6, 3), np.uint8),
    "labels": rng.integers(0, 10, 40, np.int32),
    "good": rng.random(40) > 0.5,
    "names": np.array(["ant", "bée"]),
  }


@pytest.fixture
def entry(tmp_path):
  folder = tmp_path / "cache" / "toy"
  cache.write(folder, arrays())
  return folder


def test_what_is_written_is_read(entry, caplog):
  found = cache.read(entry, DTYPES)
  assert list(found) == list(DTYPES) and isinstance(found["images"], np.memmap)
  for key, array in arrays().items():
    np.testing.assert_array_equal(found[key], array)
  assert [path.name for path in entry.parent.iterdir()] == ["toy"]
  assert sorted(path.name for path in entry.iterdir()) == [
    "digests.json", "good.npy", "images.npy", "labels.npy", "names.npy",
  ]  # fmt: skip
  assert cache.read(entry.with_name("other"), DTYPES) is None and not caplog.text


def flip_a_bit(entry):
  content = bytearray((entry / "images.npy").read_bytes())
  content[-1] ^= 1
  (entry / "images.npy").write_bytes(content)


def zero_the_middle(entry):
  content = (entry / "images.npy").read_bytes()
  (entry / "images.npy").write_bytes(content[:1000] + bytes(1000) + content[2000:])


def cut(entry):
  content = (entry / "images.npy").read_bytes()
  (entry / "images.npy").write_bytes(content[:-1])


def overwrite_labels(entry):
  np.save(entry / "labels.npy", arrays()["labels"][::-1])


def another_type(entry):
  np.save(entry / "images.npy", arrays()["images"] / 255)


def another_shape(entry):
  np.save(entry / "images.npy", arrays()["images"].reshape(40, 3, 6, 6))


def an_object(entry):
  np.save(entry / "images.npy", np.array([{}], object), allow_pickle=True)


def one_missing(entry):
  (entry / "labels.npy").unlink()


def one_too_many(entry):
  (entry / "notes.txt").write_text("mine")


def no_digests(entry):
  (entry / cache.DIGESTS).unlink()


def digests_cut(entry):
  content = (entry / cache.DIGESTS).read_bytes()
  (entry / cache.DIGESTS).write_bytes(content[:30])


def digests_of_another(entry):
  digests = json.loads((entry / cache.DIGESTS).read_bytes())
  (entry / cache.DIGESTS).write_text(json.dumps(digests | {"labels": digests["images"]}))


def digests_nested(entry):
  (entry / cache.DIGESTS).write_text("[" * 100_000)


def an_array_is_a_folder(entry):
  (entry / "labels.npy").unlink()
  (entry / "labels.npy").mkdir()


@pytest.mark.parametrize(
  "damage",
  [
    flip_a_bit, zero_the_middle, cut, overwrite_labels, another_type, another_shape, an_object,
    one_missing, one_too_many, no_digests, digests_cut, digests_of_another, digests_nested,
    an_array_is_a_folder,
  ],
)  # fmt: skip
def test_what_is_not_what_was_written_is_not_used(entry, caplog, damage):
  damage(entry)
  assert cache.read(entry, DTYPES) is None
  assert f"{entry}: not used (" in caplog.text and len(caplog.records) == 1
  assert "\n" not in caplog.records[0].getMessage()


def test_an_array_of_another_type_than_is_wanted_is_not_used(entry, caplog):
  assert cache.read(entry, {**DTYPES, "labels": np.int64}) is None
  assert "labels is int32, not int64" in caplog.text


def test_an_entry_of_an_earlier_version_is_made_anew_once(entry, caplog):
  no_digests(entry)
  assert cache.read(entry, DTYPES) is None
  assert "an earlier version wrote it" in caplog.text
  cache.write(entry, arrays())
  assert cache.read(entry, DTYPES) is not None and len(caplog.records) == 1


def test_nothing_of_a_users_is_deleted(entry, tmp_path, caplog):
  one_too_many(entry)
  before = {path: path.read_bytes() for path in entry.iterdir()}
  cache.write(entry, arrays())
  assert "cannot be written (it holds notes.txt" in caplog.text
  assert {path: path.read_bytes() for path in entry.iterdir()} == before
  link = entry.with_name("link")
  link.symlink_to(entry)
  cache.write(link, {"images": np.zeros(3)})
  assert f"{link}: cannot be written (it is a link)" in caplog.text
  assert {path: path.read_bytes() for path in entry.iterdir()} == before
  assert sorted(path.name for path in entry.parent.iterdir()) == ["link", "toy"]


def test_writers_at_once_leave_a_whole_entry(tmp_path):
  writers = [threading.Thread(target=cache.write, args=(tmp_path / "e", arrays())) for _ in "1234"]
  for writer in writers:
    writer.start()
  for writer in writers:
    writer.join()
  assert cache.read(tmp_path / "e", DTYPES) is not None
  assert [path.name for path in tmp_path.iterdir()] == ["e"]
