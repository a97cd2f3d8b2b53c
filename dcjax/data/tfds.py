"""Image classification sets of TensorFlow Datasets, read without TensorFlow."""

import difflib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from dcjax.common.activity import counted
from dcjax.common.errors import UserError, gist, nearest
from dcjax.common.files import expand
from dcjax.common.registry import DATASETS, names_object
from dcjax.data import cache, statistics
from dcjax.data.dataset import Dataset, from_arrays
from dcjax.data.on_disk import IN_MEMORY, Memory, OnDisk
from dcjax.data.reach import check_reachable
from dcjax.data.source import Source

_TEST = {"x_test": np.uint8, "y_test": np.int32}
_ARRAYS = {"x_train": np.uint8, "y_train": np.int32, **_TEST}
# What is kept where training images are streamed.
_EXAMINED = {"y_train": np.int32, "levels": np.int64, **_TEST}
_INFO = "dataset_info.json"  # in the folder of a version
_BATCH = 256  # records read at a time
_CACHE_FORMAT = 1  # to be raised when what is cached changes
REACH_SECONDS = 20  # to wait for the host of a download
_PATH_STARTS = ("/", ".", "~")  # no name in TFDS begins so


class UnknownDatasetError(UserError):
  """No data set of that name: neither known to TFDS nor in the data folder."""

  def __init__(self, name: str, known: list[str]):
    hint = nearest(base_name(name), known)
    super().__init__(f"dataset.name: unknown dataset '{name}'; {hint}")
    self.known = known


def base_name(name: str) -> str:
  """Returns a TFDS name without its configuration and version; empty for a `FILE.py:NAME`."""
  return "" if names_object(name) else re.split("[/:]", name)[0]


def prepared(name: str, data_dir: str | os.PathLike[str] | None = None) -> str | None:
  """The folder to read a prepared data set from, found by its files, without TFDS.

  Args:
    name: in TFDS; configuration and version are not looked at.
    data_dir: TFDS' data folder, or a folder of this data set there, which may be a level or more
      too deep; None or empty for TFDS' default.

  Returns:
    TFDS' data folder, or `data_dir` itself if it is that of one version; None: it is not there.
  """
  if data_dir and "://" in os.fspath(data_dir):
    return os.fspath(data_dir)  # in the cloud, where TFDS looks for itself
  given = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  folder = expand("dataset.data_dir", given).absolute()
  if data_dir and (folder / _INFO).is_file():
    return str(folder)
  inside = [home.parent for home in (folder, *folder.parents[:1]) if home.name == base_name(name)]
  for root in (folder, *inside):
    versions = (root / base_name(name)).glob
    if any(versions(f"*/{_INFO}")) or any(versions(f"*/*/{_INFO}")):  # with a configuration
      return str(root)
  return None


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  cache_dir: str | os.PathLike[str] | None = None,
  memory: Memory = IN_MEMORY,
) -> Dataset:
  """Loads a data set by its name in TFDS: the splits train and test (or validation).

  Prepared files are read from `data_dir`; what is not there is downloaded and prepared
  by TFDS if that can be done. Images are decoded once and cached as arrays.

  Args:
    name: "mnist", or with configuration and version "imagenet_resized/32x32:0.1.0".
    data_dir: the folder that TFDS keeps its data in; None or empty for its default.
    cache_dir: where decoded arrays are kept; None or empty as `cache.root` says.
    memory: whether training images stay in the prepared files, and are decoded as they are drawn.
      All are decoded once even then, for their labels and statistics.

  Returns:
    The data set, called `name`. Mean and deviation are those of the papers where they
    give them (`statistics.usual`), otherwise measured.

  Raises:
    UnknownDatasetError: there is no data set of that name.
    UserError: `data_dir` is missing, the data cannot be had, or they are not images of
      one size with one label each.
  """
  builder = _find(name, _existing(data_dir))
  _check_classification(name, builder)
  _prepare(name, builder)
  entry = cache.root(cache_dir) / _entry_name(builder)
  if memory.streams(_size(name, builder, memory)):
    return _on_disk(name, builder, entry, memory)
  cached = cache.read(entry, _ARRAYS)
  arrays = _decode(name, builder) if cached is None else cached
  dataset = _from_arrays(name, builder, arrays)
  if cached is None:
    cache.write(entry, arrays)
  return dataset


class Records:
  """Images of a prepared split, sorted by class, each decoded when it is asked for.

  It goes to other processes, which open the files for themselves.
  """

  def __init__(self, path: str, image_key: str, order: np.ndarray):
    """Opens nothing yet; `order` are the places in the split, `[N]`."""
    self._path, self._image_key, self._order = path, image_key, order
    self._source: Any = None

  def __len__(self) -> int:
    """How many there are."""
    return len(self._order)

  def __getitem__(self, place: int) -> np.ndarray:
    """An image by its place, uint8 `[H, W, C]`.

    Raises:
      UserError: it could be read once, and cannot any more.
    """
    import tensorflow_datasets as tfds

    try:
      if self._source is None:
        self._source = tfds.builder_from_directory(self._path).as_data_source("train")
      return self._source[int(self._order[place])][self._image_key]
    except Exception as error:
      raise UserError(
        f"dataset.data_dir: cannot read {self._path} any more ({gist(error)}); put it back and "
        "start the same command again"
      ) from None

  def __getstate__(self) -> dict[str, Any]:
    """All but the open files."""
    return {**self.__dict__, "_source": None}


def _size(name: str, builder: Any, memory: Memory) -> int:
  """Bytes of the training images; 0 if it does not follow from the description of the data."""
  shape = builder.info.features[_keys(builder)[0]].shape
  if None not in shape:
    return builder.info.splits["train"].num_examples * int(np.prod(shape))
  if memory.streaming:
    raise UserError(
      f"compute.streaming: images of '{name}' may differ in size; save them as files and use "
      "dataset.name=folder with dataset.side"
    )
  return 0


def _on_disk(name: str, builder: Any, entry: Path, memory: Memory) -> Dataset:
  """The data set without its training images."""
  entry = entry.with_name(f"{entry.name}-streamed")
  found = cache.read(entry, _EXAMINED)
  if found is None:
    logging.warning("%s: looking once at all of its images, which can take minutes", name)
    x_test, y_test = _decode_split(name, builder, _test_split(name, builder))
    y_train, levels = _decode_split(name, builder, "train", _examine)
    found = dict(zip(_EXAMINED, (y_train, levels, x_test, y_test), strict=True))
    cache.write(entry, found)
  y_train, levels, x_test, y_test = (np.asarray(found[key]) for key in _EXAMINED)
  order = np.argsort(y_train, kind="stable")
  reader = Records(str(builder.data_path), _keys(builder)[0], order)
  arrays: dict[str, Any] = {
    "x_train": OnDisk(reader, x_test.shape[1:], memory),
    "y_train": y_train[order],
    "x_test": x_test,
    "y_test": y_test,
  }
  return _from_arrays(name, builder, arrays, *statistics.of_levels(levels))


def _from_arrays(
  name: str,
  builder: Any,
  arrays: dict[str, Any],
  mean: np.ndarray | None = None,
  std: np.ndarray | None = None,
) -> Dataset:
  """Makes the data set, with its class names and the usual statistics, if there are such."""
  names = builder.info.features[_keys(builder)[1]].names
  mean, std = statistics.usual(builder.name) or (mean, std)
  try:
    return from_arrays(**arrays, name=name, class_names=names, mean=mean, std=std)
  except UserError as error:
    raise UserError(f"dataset.name: '{name}': {error}") from error


def _existing(data_dir: str | os.PathLike[str] | None) -> str | None:
  """Returns the data folder, or None for the default; checks that it is there."""
  if not data_dir:
    return None
  if "://" in os.fspath(data_dir):
    return os.fspath(data_dir)
  path = expand("dataset.data_dir", data_dir)
  if not path.is_dir():
    raise UserError(
      f"dataset.data_dir: no folder {path}; create it, or leave the field empty for"
      " TFDS' own default"
    )
  return str(path.absolute())


def _find(name: str, data_dir: str | None) -> Any:
  """Returns the TFDS builder of that name."""
  tfds = _library()
  try:
    if data_dir and (Path(data_dir) / _INFO).is_file():
      return _of_version(name, data_dir, tfds.builder_from_directory(data_dir))
    return tfds.builder(name, data_dir=data_dir)
  except UserError:
    raise
  except tfds.core.DatasetNotFoundError as error:
    # Listing the community's data sets as well would ask the network.
    known = tfds.list_builders(with_community_datasets=False)
    raise UnknownDatasetError(name, known) from error
  except ImportError as error:
    raise _incomplete(error) from error
  except Exception as error:  # TFDS raises many kinds: bad config, bad version, bad name
    raise UserError(
      f"dataset.name: TFDS cannot find '{name}' ({gist(error)}); write it as name/config:version"
    ) from error


def _library() -> Any:
  """TensorFlow Datasets."""
  try:
    import tensorflow_datasets as tfds
  except Exception as error:  # also where other packages do not fit it
    raise _incomplete(error) from error
  return tfds


def _incomplete(error: Exception) -> UserError:
  return UserError(
    f"dataset.name: TensorFlow Datasets does not work here ({gist(error)}); install what is "
    "missing, or save the images as files and use dataset.name=folder"
  )


def _of_version(name: str, folder: str, builder: Any) -> Any:
  """The builder of what is in a folder; checks that it is what the name says."""
  if builder.name != base_name(name):
    raise UserError(
      f"dataset.data_dir: {folder} holds '{builder.name}', not '{name}'; give TFDS' data folder, "
      "or the other dataset.name"
    )
  return builder


def _keys(builder: Any) -> tuple[str, str]:
  """Returns what the data set calls its images and its labels."""
  image_key, label_key = builder.info.supervised_keys
  return image_key, label_key


def _check_classification(name: str, builder: Any) -> None:
  """Checks that the data set pairs an image with a class label."""
  import tensorflow_datasets as tfds

  keys = builder.info.supervised_keys or ()
  features = builder.info.features
  kinds = [type(features[key]) for key in keys if isinstance(key, str)]
  wanted = (tfds.features.Image, tfds.features.ClassLabel)
  if len(kinds) != 2 or not all(map(issubclass, kinds, wanted)):
    raise UserError(
      f"dataset.name: '{name}' is no image classification set (its supervised keys are"
      f" {keys or 'not given'}); choose one that pairs an image with a class label"
    )


def _prepare(name: str, builder: Any) -> None:
  """Downloads and prepares the data, unless that has been done."""
  import tensorflow_datasets as tfds

  if builder.is_prepared():
    return
  logging.warning("%s: not in %s; downloading it, which can take minutes", name, builder.data_path)
  config = tfds.download.DownloadConfig(try_download_gcs=False)
  try:
    _check_reachable(builder)
    builder.download_and_prepare(file_format="array_record", download_config=config)
  except Exception as error:  # no network, no space, no TensorFlow where a set needs it
    raise UserError(
      f"dataset.data_dir: '{name}' is not in {builder.data_path} and cannot be downloaded"
      f" ({gist(error)}); {_remedy(name, error)}"
    ) from error


def _remedy(name: str, error: Exception) -> str:
  """What to do where TFDS cannot prepare a data set."""
  if isinstance(error, ImportError) and "'tensorflow" in str(error):
    return "TFDS prepares it with TensorFlow: pip install 'dcjax[tensorflow]'"
  if isinstance(error, ImportError):
    return "install what is missing"
  return (
    f"where there is a network and TensorFlow (pip install 'dcjax[tensorflow]'), run"
    f" tfds.builder('{name}').download_and_prepare(file_format='array_record') and copy the result"
  )


def _check_reachable(builder: Any) -> None:
  """Raises an error at once where TFDS would try for minutes: without a network."""
  for url in list(builder.url_infos or ())[:1]:
    check_reachable(url, REACH_SECONDS)


def _entry_name(builder: Any) -> str:
  """Names the cache entry: data set, version, and a hash of where the data come from."""
  info = (builder.data_path / _INFO).read_text()
  source = f"{_CACHE_FORMAT} {builder.data_path} {info}"
  digest = hashlib.sha256(source.encode()).hexdigest()[:8]
  return re.sub(r"[^\w.-]+", "-", builder.info.full_name) + f"-{digest}"


def _decode(name: str, builder: Any) -> dict[str, np.ndarray]:
  """Reads both splits into arrays, named as the arguments of `from_arrays`."""
  test = _test_split(name, builder)
  x_train, y_train = _decode_split(name, builder, "train")
  x_test, y_test = _decode_split(name, builder, test)
  return dict(zip(_ARRAYS, (x_train, y_train, x_test, y_test), strict=True))


def _test_split(name: str, builder: Any) -> str:
  """What the test split is called; checks that there is one, and one to train on."""
  splits = builder.info.splits
  test = next((split for split in ("test", "validation") if split in splits), None)
  if "train" not in splits or test is None:
    raise UserError(
      f"dataset.name: '{name}' has splits {', '.join(splits)}; train and test (or"
      " validation) are needed: choose another data set"
    )
  return test


def _decode_split(
  name: str, builder: Any, split: str, read: Callable[..., Any] | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Reads a split by `_read`, or by another function with its arguments."""
  try:
    return (read or _read)(name, builder.as_data_source(split), *_keys(builder))
  except UserError:
    raise
  except Exception as error:  # another file format, missing or damaged shards
    raise UserError(
      f"dataset.data_dir: cannot read '{name}' in {builder.data_path} ({gist(error)});"
      " prepare it anew with download_and_prepare(file_format='array_record')"
    ) from error


def _read(name: str, source: Any, image_key: str, label_key: str) -> tuple[np.ndarray, np.ndarray]:
  """Reads all records: images `[N, H, W, C]`, labels int32 `[N]`, in the files' order."""
  first = source[0][image_key]
  images = np.empty((len(source), *first.shape), first.dtype)
  labels = np.empty(len(source), np.int32)
  for index, record in _records(source):
    image = record[image_key]
    if image.shape != first.shape:
      raise UserError(
        f"dataset.name: images of '{name}' differ in size ({list(first.shape)},"
        f" {list(image.shape)}); save them as files and use dataset.name=folder with"
        " dataset.side"
      )
    images[index], labels[index] = image, record[label_key]
  return images, labels


def _examine(
  name: str, source: Any, image_key: str, label_key: str
) -> tuple[np.ndarray, np.ndarray]:
  """Reads all records: labels int32 `[N]`, and the `statistics.levels` of the images."""
  del name
  channels = source[0][image_key].shape[-1]
  labels, levels = np.empty(len(source), np.int32), np.zeros((channels, 256), np.int64)
  for index, record in _records(source):
    labels[index] = record[label_key]
    levels += statistics.levels(record[image_key][np.newaxis])
  return labels, levels


def _records(source: Any) -> Iterator[tuple[int, Any]]:
  """All records with their places, read some at a time, which is shown."""

  def read() -> Iterator[tuple[int, Any]]:
    for start in range(0, len(source), _BATCH):
      indices = range(start, min(start + _BATCH, len(source)))
      yield from zip(indices, source.__getitems__(indices), strict=True)

  return counted(read(), "decoding images", len(source))


def _load(fields: Any, memory: Memory) -> Dataset:
  name = fields.name
  if not name or name.startswith(_PATH_STARTS) or name.endswith((".npz", ".py")):
    raise _unknown(name, [])
  found = prepared(name, fields.data_dir) or fields.data_dir
  try:
    return load(name, data_dir=found, cache_dir=fields.cache_dir, memory=memory)
  except UnknownDatasetError as error:
    raise _unknown(name, error.known) from error


def _unknown(name: str, known: list[str]) -> UserError:
  """Says what a name that is no data set may have meant: a path, or another name."""
  if name.endswith(".py"):
    return UserError(f"dataset.name: '{name}' is a file; name a function in it, as {name}:load")
  if name.endswith(".npz") or (name and Path(name).expanduser().exists()):
    source = {".npz": "npz", ".parquet": "hf"}.get(Path(name).suffix, "folder")
    return UserError(
      f"dataset.name: '{name}' is a path; set dataset.name={source} and dataset.data_dir={name}"
    )
  base, ours = base_name(name), DATASETS
  close = difflib.get_close_matches(base, [*ours, *known], n=1, cutoff=0.5)
  return UserError(f"dataset.name: unknown dataset '{name}'; {nearest(base, close or ours)}")


SOURCE = Source(_load, streams=True)
