"""Image classification sets that the `datasets` library of Hugging Face reads: files or the hub."""

import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from dcjax.common.errors import UserError, gist, nearest
from dcjax.common.files import expand
from dcjax.data import cache, class_folders, pixels
from dcjax.data.dataset import Dataset, from_arrays
from dcjax.data.on_disk import Memory
from dcjax.data.pixels import Range
from dcjax.data.reach import check_reachable
from dcjax.data.source import Source, required_path
from dcjax.data.split import Split

_TEST = ("test", "validation", "valid", "val")  # the first whose labels are known is taken
_IMAGE_NAMES = ("image", "img", "images", "picture", "jpg", "png")
_LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "y", "category")
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?(:[\w.-]+)?")
FILES = {".parquet": "parquet", ".arrow": "arrow"}
_REACH_SECONDS = 10  # to wait for the hub


class Table(NamedTuple):
  """A split of a data set."""

  split: str
  rows: Any  # a `datasets.Dataset`


class Columns(NamedTuple):
  """Where a table keeps images and labels; fields of `config.dataset`, empty: to be found."""

  image: str = ""
  label: str = ""


def load(
  source: str | os.PathLike[str],
  *,
  side: int,
  columns: Columns = Columns(),  # noqa: B008
  limits: Range | None = None,
  split: Split = Split(),  # noqa: B008
  cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
  """Loads the splits `train` and `test` (or `validation`), or holds out a share of the only one.

  Images that all have one size keep it, and stay grey if all of them are; others are brought to
  `side` as those of a folder are. `pixels.read_image` says what becomes of orientation,
  transparency and grey images of more than 8 bits.

  Args:
    source: a folder of parquet files or of images, one that `save_to_disk` has written, a file, or
      a name on the hub, with a configuration `owner/name:configuration`. Code is never run.
    side: height and width where images differ in size.
    columns: which to take; if not given, the one of images, and the one of class labels or one of
      integers or text that is called so.
    limits: the values of black and white; None: those of each image's type.
    split: which images are for testing where none are set apart.
    cache_dir: where tables made of files are kept; None or empty as `cache.root` says.

  Returns:
    The data set, named as the folder is or as on the hub. Classes without a training image are left
    out. Mean and deviation are measured.

  Raises:
    UserError: the library is not installed, the source cannot be read, or it is not as above.
  """
  library = _library()
  name, tables = _read(library, source, cache_dir)
  train, test = _splits(name, tables)
  columns = _find_columns(library, name, train, columns)
  logging.info("%s: images from column '%s', labels from '%s'", name, *columns)
  parts, names = _labelled(library, name, train, test, columns, split)
  (x_train, y_train), (x_test, y_test) = _decode(name, parts, side, limits)
  try:
    return from_arrays(x_train, y_train, x_test, y_test, name=name, class_names=names)
  except UserError as error:
    raise UserError(f"dataset.data_dir: {name}: {error}") from error


def rows(source: str | os.PathLike[str]) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
  """All images of a table for training: uint8 `[H, W, 3]` each, labels int32 `[N]`, class names.

  Args:
    source: as `load` takes it, on a disk.

  Raises:
    UserError: as `load`.
  """
  library = _library()
  name, tables = _read(library, source, None)
  train, _ = _splits(name, tables)
  columns = _find_columns(library, name, train, Columns())
  if "soft_label" in train.rows.features:
    logging.warning("%s: labels are from '%s'; soft ones are not read", name, columns.label)
  classes = sorted(set(_values(name, train, columns.label).tolist()))
  part = _part(library, name, train, columns, classes)
  names = _class_names(library, name, train.rows.features[columns.label], classes)
  return [pixels.read_image(_open(image)) for image in part.images], part.labels, names


def _library() -> Any:
  try:
    import datasets
  except Exception as error:  # also where other packages do not fit it
    raise UserError(
      f"dataset.name: 'hf' needs the datasets library ({gist(error)}); pip install 'dcjax[hf]'"
    ) from error
  return datasets


# --- Tables --------------------------------------------------------------------------------


def _read(
  library: Any, source: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None
) -> tuple[str, dict[str, Any]]:
  """What the data set is called, and its tables by the names of their splits."""
  path = expand("dataset.data_dir", source)
  try:
    if path.exists():
      path = _whole(path.resolve())
      name, tables = path.name, _read_path(library, path, cache.root(cache_dir) / "hf")
    else:
      name, tables = str(source), _read_hub(library, str(source))
  except UserError:
    raise
  except Exception as error:  # the library raises what its readers raise
    raise UserError(
      f"dataset.data_dir: datasets cannot read '{source}' ({gist(error)}); give a folder of "
      "parquet files or of images, one written by save_to_disk, or a name on the hub"
    ) from error
  return name, tables if isinstance(tables, dict) else {"train": tables}


def _whole(path: Path) -> Path:
  """The folder that `save_to_disk` has written, also for that of one split."""
  if not (path.parent / "dataset_dict.json").exists():
    return path
  logging.warning("%s: reading the data set in %s", path, path.parent)
  return path.parent


def _read_path(library: Any, path: Path, cache_dir: Path) -> Any:
  """Tables from files."""
  if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
    return library.load_from_disk(str(path))
  if path.is_dir():
    return library.load_dataset(str(path), cache_dir=str(cache_dir))
  kind = FILES.get(path.suffix.lower())
  if kind is None:
    raise UserError(f"dataset.data_dir: {path} is no parquet or arrow file; give one, or a folder")
  return library.load_dataset(kind, data_files=str(path), cache_dir=str(cache_dir))


def _read_hub(library: Any, name: str) -> Any:
  """Tables from the hub, or from what the library has kept of it."""
  if not _HUB_NAME.fullmatch(name):
    raise UserError(
      f"dataset.data_dir: no file or folder {name}, and no name on the hub is like that; give one"
    )
  repository, _, configuration = name.partition(":")
  with _reachable_or_offline(library, name):
    return library.load_dataset(repository, configuration or None)


@contextmanager
def _reachable_or_offline(library: Any, name: str) -> Iterator[None]:
  """Where the hub does not answer, has the library look on the disk only: it would try for long."""
  offline, host = library.config.HF_HUB_OFFLINE, library.config.HF_ENDPOINT
  reason = "HF_HUB_OFFLINE is set"
  if not offline:
    try:
      check_reachable(host, _REACH_SECONDS)
      reason = ""
    except OSError as error:
      reason = gist(error)
  try:
    library.config.HF_HUB_OFFLINE = bool(reason)
    yield
  except Exception as error:
    if not reason:
      raise
    raise UserError(
      f"dataset.data_dir: '{name}' is no folder here and no data set that was loaded before, and "
      f"{host} cannot be asked ({reason}); connect, or give a folder"
    ) from error
  finally:
    library.config.HF_HUB_OFFLINE = offline


def _splits(name: str, tables: dict[str, Any]) -> tuple[Table, list[Table]]:
  """The table for training, and those that may serve for testing, the best first."""
  if len(tables) == 1:
    return Table(*next(iter(tables.items()))), []
  if "train" not in tables:
    raise UserError(
      f"dataset.data_dir: {name} has the splits {', '.join(tables)}, of which none is called train;"
      " rename one, or leave one only"
    )
  tests = [Table(split, tables[split]) for split in _TEST if split in tables]
  return Table("train", tables["train"]), tests


# --- Columns -------------------------------------------------------------------------------


def _find_columns(library: Any, name: str, table: Table, given: Columns) -> Columns:
  """The columns of images and of labels; checks those that are given."""
  features = dict(table.rows.features)
  for field, column in zip(("image_column", "label_column"), given, strict=True):
    if column and column not in features:
      raise UserError(
        f"dataset.{field}: {name} has no column '{column}'; {nearest(column, features)}"
      )
  images = [key for key, feature in features.items() if isinstance(feature, library.Image)]
  images = images or [key for key, feature in features.items() if _may_be_images(feature)]
  others = {key: feature for key, feature in features.items() if key not in images}
  labels = [key for key, feature in others.items() if isinstance(feature, library.ClassLabel)]
  labels = labels or [key for key in others if key.lower() in _LABEL_NAMES]
  return Columns(
    given.image or _choose(name, "image", images, _IMAGE_NAMES, features),
    given.label or _choose(name, "label", labels, _LABEL_NAMES, features),
  )


def _may_be_images(feature: Any) -> bool:
  """Whether a column that is not said to hold images may hold their files."""
  as_struct = isinstance(feature, dict) and "bytes" in feature
  return as_struct or getattr(feature, "dtype", "") == "binary"


def _choose(
  name: str, kind: str, found: Sequence[str], usual: Sequence[str], all_names: Any
) -> str:
  """One of the columns found: the only one, or the first that is usually called so."""
  called = [column for word in usual for column in found if column.lower() == word]
  if len(found) == 1 or called:
    return (called or found)[0]
  raise UserError(
    f"dataset.{kind}_column: {name} has {len(found) or 'no'} columns that may be {kind}s (columns: "
    f"{', '.join(all_names)}); name one"
  )


# --- Labels --------------------------------------------------------------------------------


class _Part(NamedTuple):
  """Images for training or testing, each a dict of its `bytes` and its `path`, and their labels."""

  images: list[Any]
  labels: np.ndarray  # int32 [N]
  names: list[str]  # what errors call the images

  def take(self, chosen: np.ndarray) -> "_Part":
    """Some of them, bool `[N]`."""
    rows = np.flatnonzero(chosen)
    return _Part([self.images[k] for k in rows], self.labels[rows], [self.names[k] for k in rows])


def _labelled(
  library: Any, name: str, train: Table, tests: list[Table], columns: Columns, split: Split
) -> tuple[tuple[_Part, _Part], list[str]]:
  """The images for training and for testing, and the names of the classes."""
  classes = sorted(set(_values(name, train, columns.label).tolist()))
  names = _class_names(library, name, train.rows.features[columns.label], classes)
  trained = _part(library, name, train, columns, classes)
  tested = next((table for table in tests if _is_labelled(table, columns)), None)
  if others := ", ".join(table.split for table in tests if table is not tested):
    chosen = tested.split if tested else "a share of train"
    logging.warning("%s: testing on %s; not used: %s", name, chosen, others)
  if tested:
    return (trained, _part(library, name, tested, columns, classes)), names
  test = split.held_out(name, trained.names, trained.labels, names)
  return (trained.take(~test), trained.take(test)), names


def _part(library: Any, name: str, table: Table, columns: Columns, classes: list[Any]) -> _Part:
  values = _values(name, table, columns.label)
  unknown = sorted(set(values.tolist()) - set(classes), key=str)
  if unknown:
    raise UserError(
      f"dataset.data_dir: {name}: label {unknown[0]!r} of column '{columns.label}' is only in the "
      "split for testing; add training images of it, or leave it out"
    )
  images = _files(library, name, table, columns.image)
  labels = np.searchsorted(classes, values).astype(np.int32)
  return _Part(images, labels, [f"{table.split}[{row}]" for row in range(len(images))])


def _class_names(library: Any, name: str, feature: Any, classes: list[Any]) -> list[str]:
  """The names of the labels that occur."""
  if not isinstance(feature, library.ClassLabel):
    return [str(label) for label in classes]
  names = [feature.names[label] for label in classes]
  if empty := [text for text in feature.names if text not in set(names)]:
    logging.warning(
      "%s: left out %d classes without training images, the first is '%s'",
      name, len(empty), empty[0],
    )  # fmt: skip
  return names


def _is_labelled(table: Table, columns: Columns) -> bool:
  """Whether a split has labels: where they are hidden they are -1 or nothing."""
  if columns.label not in table.rows.features:
    return False
  return any(value is not None and value != -1 for value in table.rows[columns.label])


def _values(name: str, table: Table, column: str) -> np.ndarray:
  """The labels as they are in the table, `[N]`; checks that they are integers or text."""
  found, split = list(table.rows[column]), table.split
  kinds = Counter(type(value) for value in found)
  if not kinds:
    raise UserError(f"dataset.data_dir: {name} has no rows in its split {split}; add some")
  if len(kinds) > 1 or next(iter(kinds)) not in (int, str, bool):
    text = ", ".join(f"{count} {kind.__name__}" for kind, count in kinds.items())
    raise UserError(
      f"dataset.label_column: column '{column}' of {name} holds {text} in its split {split}; name "
      "a column that holds one integer or one text for each image"
    )
  if -1 in found:
    raise UserError(
      f"dataset.data_dir: {name}: {found.count(-1)} rows of its split {split} have label -1, which "
      "is none; leave them out"
    )
  return np.array(found)


# --- Images --------------------------------------------------------------------------------


def _files(library: Any, name: str, table: Table, column: str) -> list[Any]:
  """The files of a column of images, not decoded: dicts of `bytes` and `path`."""
  if column not in table.rows.features:
    raise UserError(
      f"dataset.image_column: {name} lacks '{column}' in its split {table.split}; name another"
    )
  try:
    return list(table.rows.cast_column(column, library.Image(decode=False))[column])
  except Exception as error:
    raise UserError(
      f"dataset.image_column: column '{column}' of {name} holds no images ({gist(error)}); name "
      "another"
    ) from error


def _open(image: Any) -> Any:
  """What Pillow opens of an image in a table."""
  return io.BytesIO(image["bytes"]) if image["bytes"] is not None else image["path"]


def _look(image: Any) -> tuple[tuple[int, int], bool] | None:
  try:
    return pixels.look(_open(image))
  except Exception:  # as in `class_folders.decode`
    return None


def _decode(
  name: str, parts: Sequence[_Part], side: int, limits: Range | None
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Images uint8 `[N, H, W, C]` and labels of each part, without those that are broken."""
  with ThreadPoolExecutor() as pool:
    seen = [look for part in parts for look in pool.map(_look, part.images) if look]
  sizes, grey = Counter(size for size, _ in seen), all(is_grey for _, is_grey in seen)
  if len(sizes) > 1:
    if side < 1:
      raise UserError(f"dataset.side: {side} is no image size; give 1 or more, such as 224")
    logging.warning(
      "%s: has images of %d sizes; all are brought to %d pixels", name, len(sizes), side
    )
  height, width = next(iter(sizes), (1, 1)) if len(sizes) < 2 else (side, side)
  read = partial(_read_one, side=side if len(sizes) > 1 else 0, channels=1 if grey else 3,
                 limits=limits)  # fmt: skip
  decoded = []
  for part in parts:
    images, good = class_folders.decode(part.images, read, (height, width, 1 if grey else 3))
    class_folders.report_broken(name, part.names, part.labels, good, "image")
    decoded.append((images, part.labels) if good.all() else (images[good], part.labels[good]))
  return decoded


def _read_one(image: Any, *, side: int, channels: int, limits: Range | None) -> np.ndarray:
  return pixels.read_image(_open(image), side=side, limits=limits)[..., :channels]


def _load(fields: Any, _: Memory) -> Dataset:
  return load(
    required_path(fields, "a folder of parquet files or images, or a name on the hub"),
    side=fields.side,
    columns=Columns(fields.image_column, fields.label_column),
    limits=pixels.as_range(fields.range),
    split=Split(fields.test_share, fields.test_seed),
    cache_dir=fields.cache_dir,
  )


SOURCE = Source(_load, ranged=True, sided=True, columns=True)
