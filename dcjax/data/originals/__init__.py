"""The papers' data sets from the files that their authors published.

They are taken from a folder that has them, in the originals' form or in torchvision's, or they are
downloaded. Nothing here needs TensorFlow.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dcjax.common.activity import logger
from dcjax.common.errors import UserError
from dcjax.common.files import expand
from dcjax.data import cache, statistics, tfds
from dcjax.data.dataset import Dataset, from_arrays
from dcjax.data.on_disk import Memory
from dcjax.data.originals import disk, fetch
from dcjax.data.originals.catalogue import MINI_SPEECH_COMMANDS, ORIGINALS, File
from dcjax.data.originals.formats import Arrays
from dcjax.data.source import Source, in_memory

NAMES = tuple(ORIGINALS)
SPEECH = "mini_speech_commands"
_DTYPES = dict(zip(Arrays._fields, ("u1", "i4", "u1", "i4", "u1"), strict=True))  # in the cache
_CACHE_FORMAT = 1  # to be raised when what is cached changes


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  cache_dir: str | os.PathLike[str] | None = None,
  mirror: str = "",
) -> Dataset:
  """Loads a data set of `NAMES`.

  Images stand in the order in which TensorFlow Datasets has them, where it has the data set: the
  same seed draws the same images from either.

  Args:
    name: such as "cifar10".
    data_dir: a folder that has the files, packed or not, or torchvision's root; nothing is written
      there. None, empty, or without the files: they are downloaded into the cache.
    cache_dir: where downloads and decoded arrays are kept; None or empty as `cache.root` says.
    mirror: see `fetch.fetch`.

  Returns:
    The data set, called `name`. Mean and deviation are the papers', where they give them.

  Raises:
    UserError: the data cannot be had, or they are damaged.
  """
  original, downloads = ORIGINALS[name], cache.root(cache_dir) / "downloads" / name
  users = _users(name, data_dir, downloads)
  found = users or disk.find(original, downloads, name)
  cached = found and cache.read(_entry(name, found, cache_dir), _DTYPES)
  if cached:
    *splits, names = cached.values()
    return _dataset(name, Arrays._make([*splits, json.loads(names.tobytes())]), downloads)
  if users is None:
    fetch.fetch(name, original.files, downloads, mirror)  # what is there already is checked
    found = disk.find(original, downloads, name)
  else:
    _warn_of_changes(users, original.files)
  assert found is not None  # what was fetched is of the first layout
  arrays = _decode(name, found)
  dataset = _dataset(name, arrays, found.path)
  encoded = np.frombuffer(json.dumps(arrays.class_names).encode(), np.uint8)
  cache.write(_entry(name, found, cache_dir), {**arrays._asdict(), "class_names": encoded})
  return dataset


def here(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  cache_dir: str | os.PathLike[str] | None = None,
) -> Path | None:
  """Where a data set is on this machine, by the names of its files; None: it would be downloaded.

  Args:
    name: of `NAMES`, or `SPEECH`.
    data_dir: see `load`; also that of TensorFlow Datasets.
    cache_dir: see `load`.
  """
  downloads = cache.root(cache_dir) / "downloads" / name
  folder = expand("dataset.data_dir", data_dir) if data_dir else None
  if name == SPEECH:
    places = [downloads / SPEECH, *([folder / SPEECH] if folder else [])]
    return next(filter(Path.is_dir, places), None)
  if root := tfds.prepared(name, data_dir):
    return Path(root) / name
  if folder and (found := disk.find(ORIGINALS[name], folder, name)):
    return found.path
  files = [downloads / file.name for file in ORIGINALS[name].files]
  return downloads if all(file.is_file() for file in files) else None


def published_size(name: str) -> int:
  """Bytes that a data set of `NAMES`, or `SPEECH`, is downloaded as."""
  files = (MINI_SPEECH_COMMANDS,) if name == SPEECH else ORIGINALS[name].files
  return sum(file.size for file in files)


def _users(
  name: str, data_dir: str | os.PathLike[str] | None, downloads: Path
) -> disk.Found | None:
  """What a user's folder has of a data set."""
  if not data_dir:
    return None
  folder = expand("dataset.data_dir", data_dir)
  if not folder.exists():
    raise UserError(
      f"dataset.data_dir: no folder {folder}; give one that is there, or leave the field empty to "
      f"have {name} downloaded into {downloads}"
    )
  found = disk.find(ORIGINALS[name], folder, name)
  if found:
    logger.info("%s: reading %s", name, found.path)
  else:
    logger.warning("%s: nothing of it is in %s; using %s", name, folder, downloads)
  return found


def _warn_of_changes(found: disk.Found, files: Iterable[File]) -> None:
  """Logs a warning if a user's file is called as a published one and is another."""
  published = {file.name: file for file in files}
  for path in found.sources():
    if path.name in published and not fetch.is_published(path, published[path.name]):
      logger.warning("%s: is not the file that was published; using it as it is", path)


def _dataset(name: str, arrays: Arrays, path: Path) -> Dataset:
  """Makes the data set, with the usual statistics, if there are such."""
  mean, std = statistics.usual(name) or (None, None)
  try:
    return from_arrays(*arrays[:4], name=name, class_names=arrays.class_names, mean=mean, std=std)
  except UserError as error:
    raise UserError(f"dataset.data_dir: {path}: {error}") from error


def _entry(name: str, found: disk.Found, cache_dir: str | os.PathLike[str] | None) -> Path:
  """Where the decoded arrays are kept."""
  return cache.root(cache_dir) / f"{name}-original-{_digest(found.sources())}"


def _digest(files: Iterable[Path]) -> str:
  """A name for all that the decoded arrays depend on."""
  digest = hashlib.sha256(f"{_CACHE_FORMAT}".encode())
  for file in files:
    status = file.stat()
    line = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}\n"
    digest.update(line.encode(errors="surrogateescape"))
  return digest.hexdigest()[:16]


def _decode(name: str, found: disk.Found) -> Arrays:
  """Reads the files, and brings the images into order."""
  logger.info("%s: decoding %s", name, found.path)
  try:
    arrays = found.layout.parse(found.contents())
  except UserError:
    raise
  except ValueError as error:
    raise UserError(
      f"dataset.data_dir: {found.path}: {error}; it is damaged or another data set, get it again"
    ) from None
  if not ORIGINALS[name].hashed_order:
    return arrays
  train, test = (_order(split, len(labels)) for split, labels in (
    ("train", arrays.y_train), ("test", arrays.y_test)
  ))  # fmt: skip
  return Arrays(
    arrays.x_train[train],
    arrays.y_train[train],
    arrays.x_test[test],
    arrays.y_test[test],
    arrays.class_names,
  )


def _order(split: str, count: int) -> np.ndarray:
  """The order of TensorFlow Datasets: by the MD5 of the split's name and the image's number."""
  keys = [hashlib.md5(f"{split}{n}".encode(), usedforsecurity=False).digest() for n in range(count)]
  return np.array(sorted(range(count), key=keys.__getitem__), np.intp)


def speech_folder(
  *,
  data_dir: str | os.PathLike[str] | None = None,
  cache_dir: str | os.PathLike[str] | None = None,
  mirror: str = "",
) -> Path:
  """The folder of Mini Speech Commands' words, downloaded and unpacked if need be.

  Args:
    data_dir: the folder of the words, or the one that holds it; else see `load`.
    cache_dir: see `load`.
    mirror: see `fetch.fetch`.

  Raises:
    UserError: the data cannot be had.
  """
  if data_dir:
    folder = expand("dataset.data_dir", data_dir)
    return folder / SPEECH if (folder / SPEECH).is_dir() else folder
  folder = cache.root(cache_dir) / "downloads" / SPEECH
  if not (folder / SPEECH).is_dir():
    fetch.fetch(SPEECH, [MINI_SPEECH_COMMANDS], folder, mirror)
    _unpack(folder / MINI_SPEECH_COMMANDS.name, folder)
  return folder / SPEECH


def _unpack(archive: Path, folder: Path) -> None:
  """Unpacks the folder of the words, whole or not at all."""
  logger.info("unpacking %s", archive)
  partial = folder / f"{SPEECH}.{os.getpid()}.partial"
  try:
    with zipfile.ZipFile(archive) as file:
      wanted = [name for name in file.namelist() if name.startswith(f"{SPEECH}/")]
      file.extractall(partial, wanted)  # which keeps to the folder, whatever names say
    os.rename(partial / SPEECH, folder / SPEECH)
  except Exception as error:  # of the disk; or another process was faster
    if not (folder / SPEECH).is_dir():
      raise UserError(
        f"dataset.cache_dir: cannot unpack {archive} ({error}); see to the room and the "
        "permissions there"
      ) from None
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _load(fields: Any, memory: Memory) -> Dataset:
  if tfds.prepared(fields.name, fields.data_dir):
    return tfds.SOURCE.load(fields, memory)
  if memory.streaming:
    raise in_memory(f"{fields.name}, from its original files,")
  return load(
    fields.name, data_dir=fields.data_dir, cache_dir=fields.cache_dir, mirror=fields.mirror
  )


SOURCE = Source(_load, streams=True)  # where TensorFlow Datasets has prepared it
