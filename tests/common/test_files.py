"""Files: whole or not at all, and never through a link that somebody has left."""

import errno
import os
import threading

import pytest

from dcjax.common import files
from dcjax.common.errors import UserError
from dcjax.run.workdir import Workdir, write_text


@pytest.fixture
def file(tmp_path):
  return tmp_path / "summary.json"


@pytest.fixture
def precious(tmp_path):
  """A file of the user's, elsewhere."""
  (tmp_path / "home").mkdir()
  path = tmp_path / "home" / "precious"
  path.write_text("mine")
  return path


def test_the_name_and_the_folder_reach_the_disk(file, monkeypatch):
  events = []
  fsync, replace = os.fsync, os.replace
  monkeypatch.setattr(os, "fsync", lambda d: (events.append(os.fstat(d).st_ino), fsync(d)))
  monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b)))
  write_text(file, "new")
  assert events == [file.stat().st_ino, "replace", file.parent.stat().st_ino]
  assert file.read_text() == "new" and os.listdir(file.parent) == [file.name]


def test_what_a_killed_run_has_left_is_overwritten(file):
  file.with_name(f"{file.name}.partial").write_text("a longer text that was left")
  write_text(file, "new")
  assert file.read_text() == "new" and os.listdir(file.parent) == [file.name]


def test_a_write_that_fails_leaves_what_was_there(file):
  write_text(file, "old")
  with pytest.raises(OSError, match="full"), files.writing(file) as stream:
    stream.write("half of")
    raise OSError(errno.ENOSPC, "full")
  assert file.read_text() == "old" and os.listdir(file.parent) == [file.name]


def test_writers_at_once_do_not_mix(file):
  texts = [letter * 200_000 for letter in "abcdefgh"]
  both = threading.Barrier(len(texts))

  def write(text):
    both.wait()
    for _ in range(3):
      with files.writing(file) as stream:
        for start in range(0, len(text), 50_000):
          stream.write(text[start : start + 50_000])
          stream.flush()
      assert file.read_text() in texts

  writers = [threading.Thread(target=write, args=(text,)) for text in texts]
  for writer in writers:
    writer.start()
  for writer in writers:
    writer.join()
  assert file.read_text() in texts and os.listdir(file.parent) == [file.name]


def symbolic(link, precious):
  link.symlink_to(precious)


def hard(link, precious):
  link.hardlink_to(precious)


def pipe(link, precious):
  os.mkfifo(link)


def folder(link, precious):
  link.mkdir()


@pytest.mark.parametrize("plant", [symbolic, hard, pipe, folder])
def test_no_file_is_written_through_what_bears_its_other_name(file, precious, plant):
  partial = file.with_name(f"{file.name}.partial")
  plant(partial, precious)
  with pytest.raises(OSError, match=r"remove it|directory") as caught:
    write_text(file, "new")
  assert caught.value.filename == str(partial)
  assert precious.read_text() == "mine" and not file.exists() and os.path.lexists(partial)


@pytest.mark.parametrize("plant", [symbolic, hard, pipe, folder])
def test_a_lock_is_not_taken_through_a_link(tmp_path, precious, plant):
  plant(tmp_path / files.LOCK, precious)
  with pytest.raises(UserError, match="workdir: cannot write to") as caught:
    Workdir(tmp_path)
  assert "\n" not in str(caught.value) and precious.read_text() == "mine"
  assert not files.is_taken(tmp_path)


def test_a_dangling_link_makes_no_file(tmp_path):
  (tmp_path / files.LOCK).symlink_to(tmp_path / "elsewhere")
  with pytest.raises(UserError, match="it is a link"):
    Workdir(tmp_path)
  assert not (tmp_path / "elsewhere").exists()


def test_a_lock_is_held_and_given_back(tmp_path):
  first = Workdir(tmp_path)
  assert files.is_taken(tmp_path)
  with pytest.raises(UserError, match="another run is using"):
    Workdir(tmp_path)
  first.close()
  assert not files.is_taken(tmp_path)
  Workdir(tmp_path).close()
