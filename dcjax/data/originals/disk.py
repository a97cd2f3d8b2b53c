"""What a user has of an original: files in folders and archives, found and read by their names."""

import bz2
import gzip
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dcjax.common.errors import UserError, gist
from dcjax.data.originals.catalogue import Layout, Original
from dcjax.data.originals.formats import Contents

_PACKED: dict[str, Callable[[bytes], bytes]] = {
  "": bytes,
  ".gz": gzip.decompress,
  ".bz2": bz2.decompress,
}

_ARCHIVES = (".tar.gz", ".zip")
_LARGEST = 2**24  # bytes of a file in a zip, where each is one image or a list of names


class Found(NamedTuple):
  """A layout and where it is: a folder or an archive."""

  layout: Layout
  path: Path

  def sources(self) -> list[Path]:
    """The files that will be read."""
    if self.path.is_file():
      return [self.path]
    return [path for _, path in _files(self.layout, self.path)]

  def contents(self) -> Contents:
    """What the files hold, unpacked, by their names and in the layout's order.

    Raises:
      UserError: a file is missing, or cannot be unpacked.
    """
    try:
      if self.path.is_dir():
        found = {name: _unpacked(path) for name, path in _files(self.layout, self.path)}
      else:
        found = dict(_members(self.path, self.layout.wanted))
    except Exception as error:  # a damaged file may raise anything
      raise UserError(
        f"dataset.data_dir: cannot unpack {self.path} ({gist(error)}); it was cut short or "
        "damaged, get it again"
      ) from None
    return {name: found[name] for name in _ordered(self, found)}


def find(original: Original, folder: Path, name: str) -> Found | None:
  """Looks for a data set in a user's folder.

  Args:
    original: the data set.
    folder: the folder, or an archive.
    name: of the data set; a folder of that name is looked into first, downloads are put there.

  Returns:
    The first layout of which there is something.
  """
  if folder.is_file():
    layouts = (each for each in original.layouts if folder.name in each.places)
    return next((Found(layout, folder) for layout in layouts), None)
  for base in (folder / name, folder):
    for layout in original.layouts:
      for place in layout.places:
        if _is_at(layout, base / place):
          return Found(layout, base / place)
  return None


def _is_at(layout: Layout, path: Path) -> bool:
  """Whether an archive, or one of the wanted files, is there; folders alone say too little."""
  if not path.is_dir():
    return path.is_file() and path.name.endswith(_ARCHIVES)
  return any(_on_disk(path, name) for name in layout.wanted if not name.endswith("/"))


def _on_disk(folder: Path, name: str) -> Path | None:
  """The file of that name, packed or not, also as it was called before MNIST's names had dashes."""
  for variant in (name, name.replace("-idx", ".idx")):
    for suffix in _PACKED:
      if (path := folder / f"{variant}{suffix}").is_file():
        return path
  return None


def _files(layout: Layout, folder: Path) -> Iterator[tuple[str, Path]]:
  """The wanted files of a folder that are there, by their names."""
  for name in layout.wanted:
    if name.endswith("/"):
      inside = sorted(path for path in (folder / name).rglob("*") if path.is_file())
      yield from ((path.relative_to(folder).as_posix(), path) for path in inside)
    elif path := _on_disk(folder, name):
      yield name, path


def _unpacked(path: Path) -> bytes:
  return _PACKED.get(path.suffix, bytes)(path.read_bytes())


def _members(archive: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
  """The wanted files of an archive, whose names begin with one folder there."""

  def inner(name: str) -> str:
    """The name below the archive's folder; empty if it is not wanted."""
    name = name.removeprefix("./").partition("/")[2]
    chosen = name in wanted or any(w.endswith("/") and name.startswith(w) for w in wanted)
    return name if chosen and not name.endswith("/") else ""

  if zipfile.is_zipfile(archive):
    with zipfile.ZipFile(archive) as file:
      for entry in file.infolist():
        if name := inner(entry.filename):
          if entry.file_size > _LARGEST:
            raise ValueError(f"{name} would take {entry.file_size} bytes of memory")
          yield name, file.read(entry)
    return
  with gzip.open(archive) as stream:
    with tarfile.open(fileobj=stream) as tar:
      for member in tar:
        if member.isfile() and (name := inner(member.name)):
          yield name, tar.extractfile(member).read()  # type: ignore[union-attr]
    while stream.read(2**20):  # to the end, where the digest is that tells of damage
      pass


def _ordered(found: Found, contents: Contents) -> list[str]:
  """The names in the layout's order, those of a folder sorted; checks that none is missing."""
  names: dict[str, None] = {}
  missing = []
  for wanted in found.layout.wanted:
    below = wanted if wanted.endswith("/") else f"{wanted}/"
    here = sorted(name for name in contents if name == wanted or name.startswith(below))
    names |= dict.fromkeys(here)
    missing += [] if here else [wanted]
  if missing:
    raise UserError(
      f"dataset.data_dir: {found.path} lacks {', '.join(missing)}; add what is missing, or leave "
      "dataset.data_dir empty to download the data set"
    )
  return list(names)
