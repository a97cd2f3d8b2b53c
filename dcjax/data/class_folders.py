"""Files in folders, one folder a class: how those of images and of recordings are read alike."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from dcjax.common.activity import counted
from dcjax.common.errors import UserError, nearest

HIDDEN = (".", "__MACOSX", "@eaDir")  # how folders begin that systems make for themselves
_NAMED = 5  # files that a warning names before it says "and more"
_FEW = 5  # files that may be broken in a small folder


def class_names(
  roots: Sequence[Path], classes: Sequence[str], layout: str, hidden: tuple[str, ...] = HIDDEN
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
  found_in = {root: _class_folders(root, layout, hidden) for root in roots}
  if not classes:
    return _common(found_in)
  if len(set(classes)) < len(classes):
    twice = next(name for name in classes if classes.count(name) > 1)
    raise UserError(f"dataset.classes: '{twice}' is there twice; name each class once")
  for root, found in found_in.items():
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


def _class_folders(root: Path, layout: str, hidden: tuple[str, ...]) -> list[str]:
  """Returns the names of the folders in `root`, without those that are hidden."""
  names = [folder.name for folder in folders(root, layout, hidden)]
  if not names:
    raise UserError(
      f"dataset.data_dir: {root} holds no class folders; give the folder that holds {layout}"
    )
  return names


def folders(root: Path, layout: str, hidden: tuple[str, ...] = HIDDEN) -> list[Path]:
  """Returns the folders in `root`, sorted by name, without those that are hidden.

  Args:
    root: a folder.
    layout: what lies in the folder that a user has to give, for an error.
    hidden: how the names of others begin.

  Raises:
    UserError: there is no folder `root`.
  """
  if not root.is_dir():
    raise UserError(f"dataset.data_dir: no folder {root}; give the folder that holds {layout}")
  found = [entry for entry in root.iterdir() if entry.is_dir()]
  return sorted(entry for entry in found if not entry.name.startswith(hidden))


def is_image(file: Path) -> bool:
  """Whether a file may be an image by its name: Pillow reads its kind, or it has no kind."""
  kind = file.suffix.lower()
  if not kind or kind[1:].isdigit():
    return True
  return Image.registered_extensions().get(kind) in Image.OPEN


def is_recording(file: Path) -> bool:
  """Whether a file is a WAV file by its name."""
  return file.suffix.lower() == ".wav"


def list_files(
  root: Path, names: Sequence[str], kind: str, accepts: Callable[[Path], bool]
) -> tuple[list[Path], np.ndarray]:
  """Lists the files of each class, also in folders of its folder, sorted by name.

  Hidden files and those whose names are of another kind are passed over, with a warning.

  Args:
    root: the folder of the class folders.
    names: the classes.
    kind: of files, for errors.
    accepts: whether a file is of that kind by its name.

  Returns:
    The files, and their labels int32 `[N]`.

  Raises:
    UserError: a class has no file.
  """
  files: list[Path] = []
  labels: list[int] = []
  passed_over: list[Path] = []
  for label, name in enumerate(names):
    entries = sorted(_files_below(root / name))
    of_class = [file for file in entries if not file.name.startswith(".") and accepts(file)]
    if not of_class:
      others = f" among its {len(entries)} files" if entries else ""
      raise UserError(
        f"dataset.data_dir: {root / name} holds no {kind} files{others}; add some, or leave the"
        " class out of dataset.classes"
      )
    passed_over += sorted(set(entries) - set(of_class))
    files += of_class
    labels += [label] * len(of_class)
  beside = [entry for entry in sorted(root.iterdir()) if entry.suffix and accepts(entry)]
  beside = [entry for entry in beside if entry.is_file() and not entry.name.startswith(".")]
  if beside:
    logging.warning(
      "%s: %d %s files lie beside the folders of the classes, and are not used: %s",
      root, len(beside), kind, _some(beside),
    )  # fmt: skip
  if passed_over:
    logging.warning(
      "%s: passed over %d files that are no %s files by their names: %s",
      root, len(passed_over), kind, _some(passed_over),
    )  # fmt: skip
  return files, np.asarray(labels, np.int32)


def _files_below(folder: Path) -> Iterable[Path]:
  """All files in a folder and in its folders, also linked ones, but for those in hidden ones."""
  seen = {os.path.realpath(folder)}  # so that links in a circle come to an end
  for where, inside, files in os.walk(folder, followlinks=True):
    inside[:] = [name for name in inside if not name.startswith(HIDDEN)]
    inside[:] = [name for name in inside if os.path.realpath(Path(where, name)) not in seen]
    seen.update(os.path.realpath(Path(where, name)) for name in inside)
    found = (Path(where, name) for name in files)
    yield from (file for file in found if file.is_file() or file.is_symlink())


def _some(files: Sequence[Any]) -> str:
  """The first of some files, for a warning."""
  more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
  return ", ".join(map(str, files[:_NAMED])) + more


def decode(
  files: Sequence[Any], decode_one: Callable[[Any], np.ndarray], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Decodes files, several at a time.

  Args:
    files: N of them.
    decode_one: makes uint8 `shape` of a file; whatever it raises but `UserError`, the file is
      broken.
    shape: of each.

  Returns:
    uint8 `[N, *shape]`, and which of them could be decoded, bool `[N]`; the others are zero.

  Raises:
    UserError: what is in a file is not as the config says.
  """
  images = np.zeros((len(files), *shape), np.uint8)

  def decode_into(k: int) -> bool:
    try:
      images[k] = decode_one(files[k])
    except UserError:
      raise
    except Exception:  # a broken file can make a decoder raise anything
      return False
    return True

  with ThreadPoolExecutor() as pool:
    done = counted(pool.map(decode_into, range(len(files))), "decoding", len(files))
    return images, np.fromiter(done, bool, len(files))


def report_broken(
  root: object, files: Sequence[Any], groups: np.ndarray, good: np.ndarray, kind: str
) -> None:
  """Logs a warning if files were skipped.

  Args:
    root: where they are.
    files: all N files.
    groups: integers `[N]`, such as labels: of each group a file has to be left.
    good: which of them could be decoded, bool `[N]`.
    kind: of files.

  Raises:
    UserError: more than one in a hundred are broken and more than a few, half of them, or all of a
      group: something is wrong with the folder.
  """
  broken = [file for file, fine in zip(files, good, strict=True) if not fine]
  most = min(max(_FEW, len(files) // 100), (len(files) - 1) // 2)
  if len(broken) > most or set(groups) - set(groups[good]):
    raise UserError(
      f"dataset.data_dir: {len(broken)} of {len(files)} files in {root} are no readable"
      f" {kind} files, the first is {broken[0]}; mend or remove them"
    )
  if broken:
    logging.warning(
      "%s: skipped %d of %d files, which are no readable %s files: %s",
      root, len(broken), len(files), kind, _some(broken),
    )  # fmt: skip
