"""Files in folders, one folder a class: how those of images and of recordings are read alike."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging

from dcjax.activity import counted
from dcjax.errors import UserError, nearest

_NAMED = 5  # broken files that a warning names before it says "and more"


def class_names(
  roots: Sequence[Path], classes: Sequence[str], layout: str, hidden: tuple[str, ...] = (".",)
) -> tuple[str, ...]:
  """Returns the classes to load; checks that every root has a folder of each.

  Args:
    roots: folders of class folders: one for each split.
    classes: those to load, in the order of their labels; all, sorted by name, if there are none.
    layout: what lies in the folder that a user has to give, for errors.
    hidden: how the names of folders begin that are no classes.

  Raises:
    UserError: a folder or a class missing, or a class named twice.
  """
  folders = {root: _folders(root, layout, hidden) for root in roots}
  if not classes:
    return _common(folders)
  if len(set(classes)) < len(classes):
    twice = next(name for name in classes if classes.count(name) > 1)
    raise UserError(f"dataset.classes: '{twice}' is there twice; name each class once")
  for root, found in folders.items():
    for name in classes:
      if name not in found:
        raise UserError(f"dataset.classes: no class '{name}' in {root}; {nearest(name, found)}")
  return tuple(classes)


def _common(folders: dict[Path, list[str]]) -> tuple[str, ...]:
  """The classes that are in all roots, or says which is not."""
  names = sorted(set().union(*folders.values()))
  for name in names:
    having = [root for root, found in folders.items() if name in found]
    for root in folders:
      if root not in having:
        raise UserError(
          f"dataset.data_dir: {root} lacks class '{name}', which {having[0].name} has;"
          " add its files, or name the classes to load in dataset.classes"
        )
  return tuple(names)


def _folders(root: Path, layout: str, hidden: tuple[str, ...]) -> list[str]:
  """Returns the names of the folders in `root`, sorted, without those that are hidden."""
  if not root.is_dir():
    raise UserError(f"dataset.data_dir: no folder {root}; give the folder that holds {layout}")
  folders = [entry.name for entry in root.iterdir() if entry.is_dir()]
  names = sorted(name for name in folders if not name.startswith(hidden))
  if not names:
    raise UserError(
      f"dataset.data_dir: {root} holds no class folders; give the folder that holds {layout}"
    )
  return names


def list_files(
  root: Path, names: Sequence[str], kind: str, suffix: str = ""
) -> tuple[list[Path], np.ndarray]:
  """Lists the files of each class, sorted by name, without those that are hidden.

  Args:
    root: the folder of the class folders.
    names: the classes.
    kind: of files, for errors.
    suffix: that all of them have, in lower case; others are passed over.

  Returns:
    The files, and their labels int32 `[N]`.

  Raises:
    UserError: a class has no file.
  """
  files: list[Path] = []
  labels: list[int] = []
  for label, name in enumerate(names):
    entries = [entry for entry in (root / name).iterdir() if entry.is_file()]
    of_class = sorted(
      entry
      for entry in entries
      if not entry.name.startswith(".") and entry.name.lower().endswith(suffix)
    )
    if not of_class:
      raise UserError(
        f"dataset.data_dir: {root / name} holds no {kind} files; add some, or leave the"
        " class out of dataset.classes"
      )
    files += of_class
    labels += [label] * len(of_class)
  return files, np.asarray(labels, np.int32)


def decode(
  files: Sequence[Path], decode_one: Callable[[Path], np.ndarray], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Decodes files, several at a time.

  Args:
    files: N of them.
    decode_one: makes uint8 `shape` of a file; whatever it raises, the file is broken.
    shape: of each.

  Returns:
    uint8 `[N, *shape]`, and which of them could be decoded, bool `[N]`; the others are zero.
  """
  images = np.zeros((len(files), *shape), np.uint8)

  def decode_into(k: int) -> bool:
    try:
      images[k] = decode_one(files[k])
    except Exception:  # a broken file can make a decoder raise anything
      return False
    return True

  with ThreadPoolExecutor() as pool:
    done = counted(pool.map(decode_into, range(len(files))), "decoding", len(files))
    return images, np.fromiter(done, bool, len(files))


def report_broken(
  root: Path, files: Sequence[Path], good: np.ndarray, kind: str, *, most: int
) -> None:
  """Logs a warning if files were skipped.

  Args:
    root: the folder of their class folders.
    files: all N files.
    good: which of them could be decoded, bool `[N]`.
    kind: of files.
    most: how many may be broken; beyond it something is wrong with the folder.

  Raises:
    UserError: more are.
  """
  broken = [file for file, fine in zip(files, good, strict=True) if not fine]
  if len(broken) > most:
    raise UserError(
      f"dataset.data_dir: {len(broken)} of {len(files)} files in {root} are no readable"
      f" {kind} files, the first is {broken[0]}; mend or remove them"
    )
  if broken:
    more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    logging.warning(
      "%s: skipped %d of %d files, which are no readable %s files: %s%s",
      root, len(broken), len(files), kind, ", ".join(map(str, broken[:_NAMED])), more,
    )  # fmt: skip
