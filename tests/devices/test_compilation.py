"""Compiled programs on disk: where they are kept, that they are used, and that they never fail."""

import hashlib
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from dcjax import UserError
from dcjax.devices import compilation, processes


@pytest.fixture
def unset(monkeypatch):
  """Takes the tests' own folder from jax; keeps what takes any time to compile."""
  former = jax.config.jax_compilation_cache_dir
  monkeypatch.setattr(compilation, "COMPILE_SECONDS", 0.0)
  jax.config.update("jax_compilation_cache_dir", None)
  compilation_cache.reset_cache()
  yield
  jax.config.update("jax_compilation_cache_dir", former)
  compilation_cache.reset_cache()


@pytest.fixture
def hits():
  """Counts the programs that jax has read in place of compiling them."""
  counted = []

  def count(event, **kwargs):
    if event == "/jax/compilation_cache/cache_hits":
      counted.append(event)

  jax.monitoring.register_event_listener(count)
  yield counted
  jax.monitoring.unregister_event_listener(count)


def settings():
  return [getattr(jax.config, name) for name in compilation._SETTINGS]


def compile_anew():
  """Has jax compile a program, or read it."""
  shape = jax.ShapeDtypeStruct((4,), jnp.float32)
  return jax.jit(lambda x: jnp.cumsum(x) * 3).lower(shape).compile()


def entries(folder):
  return sorted(folder.glob("*-cache"))


def test_programs_are_kept_beside_the_workdir_and_read_again(unset, hits, tmp_path):
  former = settings()
  for run in ("one", "other"):
    with compilation.kept(None, tmp_path / run):
      compile_anew()
  folder = tmp_path / ".jax_cache"
  assert len(entries(folder)) == 1 and len(hits) == 1
  assert folder.stat().st_mode & 0o777 == 0o700
  assert settings() == former
  compile_anew()
  assert len(hits) == 1


def test_a_relative_workdir_has_a_parent(unset, tmp_path, monkeypatch):
  (tmp_path / "run").mkdir()
  monkeypatch.chdir(tmp_path / "run")
  with compilation.kept(None, Path(".")):
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".jax_cache")


def test_a_folder_of_ones_own(tmp_path):
  with compilation.kept(str(tmp_path / "a" / "b"), tmp_path / "runs" / "one"):
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "a" / "b")
  assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("cache_dir", [None, ""])
def test_what_jax_has_been_told_holds(tmp_path, cache_dir):
  former = settings()
  with compilation.kept(cache_dir, tmp_path / "run"):
    assert settings() == former
  assert list(tmp_path.iterdir()) == []


def test_none_are_kept_if_so_wished(unset, tmp_path):
  with compilation.kept("", tmp_path / "run"):
    compile_anew()
  assert list(tmp_path.iterdir()) == []


def a_file(folder, monkeypatch):
  folder.write_text("no folder")


def a_full_disk(folder, monkeypatch):
  monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))


def another_user(folder, monkeypatch):
  monkeypatch.setattr(os, "geteuid", lambda: -1)


@pytest.mark.parametrize(
  ("obstacle", "reason"),
  [(a_file, "File exists"), (a_full_disk, "disk is full"), (another_user, "another user's")],
)
def test_a_folder_that_cannot_be_used_is_a_warning(
  unset, tmp_path, monkeypatch, caplog, obstacle, reason
):
  obstacle(tmp_path / ".jax_cache", monkeypatch)
  with compilation.kept(None, tmp_path / "run"):
    compile_anew()
  assert f"{tmp_path / '.jax_cache'} (" in caplog.text and reason in caplog.text
  assert entries(tmp_path / ".jax_cache") == []


def test_a_damaged_program_is_compiled_again(unset, tmp_path):
  with compilation.kept(None, tmp_path / "run"):
    compile_anew()
  (entry,) = entries(tmp_path / ".jax_cache")
  os.truncate(entry, entry.stat().st_size // 2)
  with (
    pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"),
    compilation.kept(None, tmp_path / "run"),
  ):
    program = compile_anew()
  assert program(jnp.arange(4.0)).tolist() == [0, 3, 9, 18]


def program(name):
  """What jax may call a program's file."""
  return f"jit_{name}-{hashlib.sha256(name.encode()).hexdigest()}-cache"


def test_jax_names_its_files_as_we_think(unset, tmp_path):
  with compilation.kept(None, tmp_path / "run"):
    compile_anew()
  (entry,) = entries(tmp_path / ".jax_cache")
  assert compilation._PROGRAM.fullmatch(entry.name)


def test_what_is_empty_or_was_read_longest_ago_is_deleted(unset, tmp_path, monkeypatch):
  monkeypatch.setattr(compilation, "MOST_BYTES", 25)
  folder = tmp_path / ".jax_cache"
  folder.mkdir()
  for age, (name, size) in enumerate({"new": 10, "empty": 0, "used": 10, "old": 10}.items()):
    (folder / program(name)).write_bytes(b"x" * size)
    os.utime(folder / program(name), (1000 - age, 1000))
  with compilation.kept(None, tmp_path / "run"):
    assert [file.name for file in entries(folder)] == [program("new"), program("used")]


def test_nothing_but_programs_of_jax_is_deleted(unset, tmp_path, monkeypatch):
  monkeypatch.setattr(compilation, "MOST_BYTES", 0)
  folder, mine = tmp_path / "mine", ["backup-cache", "jit_mine-cache", "-cache", "empty-cache"]
  (folder / "x-cache").mkdir(parents=True)
  (folder / program("folder")).mkdir()
  (folder / program("folder") / "precious").write_text("mine")
  (folder / program("link")).symlink_to(folder / "backup-cache")
  (folder / program("dangling")).symlink_to("nowhere")
  for name in (*mine, program("other") + ".bak", program("other").upper(), "a" * 64 + "-cache"):
    (folder / name).write_text("" if name == "empty-cache" else "mine")
  before = sorted(folder.rglob("*"))
  (folder / program("of_jax")).write_text("old")
  with compilation.kept(str(folder), tmp_path / "run"):
    assert sorted(folder.rglob("*")) == before
  assert (folder / "backup-cache").read_text() == "mine"


def test_several_processes_delete_nothing(unset, tmp_path, monkeypatch):
  (tmp_path / ".jax_cache").mkdir()
  (tmp_path / ".jax_cache" / program("empty")).touch()
  monkeypatch.setattr(processes, "several", lambda: True)
  with compilation.kept(None, tmp_path / "run"):
    assert [file.name for file in entries(tmp_path / ".jax_cache")] == [program("empty")]


def test_a_user_who_does_not_exist(tmp_path):
  with (
    pytest.raises(UserError, match=r"compute\.cache_dir: ~nosuchuser/x: there is no such user"),
    compilation.kept("~nosuchuser/x", tmp_path),
  ):
    pass
