"""Real data: where it comes from, how it is kept, how it is drawn.

`load(config)` finds the source; one file holds each kind. What is drawn from a
`Dataset` is a pure function of a key.
"""

import difflib
import os
from pathlib import Path
from typing import Any

from dcjax.common.activity import working
from dcjax.common.environment import check_backend
from dcjax.common.errors import UserError, nearest
from dcjax.data import digits, folder, hf, npz, originals, pixels, speech, tfds
from dcjax.data.dataset import (
  Dataset,
  as_batch,
  check_varied,
  from_arrays,
  random_subset,
  sample,
  sample_of_classes,
  subset_indices,
  take,
  warn_small_classes,
)
from dcjax.data.on_disk import IN_MEMORY, Memory, OnDisk
from dcjax.data.split import Split
from dcjax.data.tfds import base_name
from dcjax.data.views import in_rgb, of_classes
from dcjax.data.whitened import whiten
from dcjax.data.zca import check_size

__all__ = [
  "IN_MEMORY",
  "Dataset",
  "Memory",
  "OnDisk",
  "as_batch",
  "base_name",
  "from_arrays",
  "load",
  "of_classes",
  "random_subset",
  "sample",
  "sample_of_classes",
  "subset_indices",
  "take",
  "warn_small_classes",
]

_OWN = ("digits", "folder", "hf", "npz", "speech")  # sources that are not data sets of TFDS
_RANGED = ("folder", "hf", "npz")  # whose images may be of any type
_IN_FOLDERS = ("folder", "speech", originals.SPEECH)  # a folder for each class
_PATH_STARTS = ("/", ".", "~")  # no name in TFDS begins so
_COMMON = (*_OWN, *originals.NAMES, originals.SPEECH)


def load(config: Any, memory: Memory = IN_MEMORY) -> Dataset:
  """Loads the data set that a config names.

  Args:
    config: has the fields
      `name`: "digits", "npz", "folder", "hf", "speech", one of `originals.NAMES`, or another name
        in TensorFlow Datasets;
      `data_dir`: the `.npz` file, the folder of images or of words, what Hugging Face's library
        reads, the folder of original files (empty: they are downloaded), or TFDS' data folder
        (empty for its default); not looked at for "digits";
      `mirror`: another host for downloads (`originals.fetch.fetch`);
      `cache_dir`: where downloads, decoded images and whitenings are kept (empty for the default);
      `side`: height and width that images of a folder are brought to, and those of "hf" that differ
        in size;
      `range`: the values of black and white (empty: those of the images' type);
      `test_share`, `test_seed`: which images of a folder or of "hf" are for testing, if none are
        set apart;
      `image_column`, `label_column`: of "hf" (empty: to be found);
      `classes`: names of those to take, in the order of labels (empty for all); of folders
        only their folders are read;
      `rgb_side`: height and width that images of any source are brought to, in RGB (0: as they
        are);
      `zca`: whether images are whitened (`dcjax.data.zca`).
    memory: whether training images stay on disk, which those of a folder and of TFDS can.

  Raises:
    UserError: the data cannot be had as asked; the message begins with the field. Or jax finds no
      device to hold them.
  """
  check_backend()
  if memory.streaming:
    _check_streams(config)
  if config.zca and config.name == "folder":  # whose files may take long to decode
    check_size((config.side, config.side, 3))
  check_fields(config)
  try:
    with working(f"reading {config.name}"):
      dataset = _load(config, IN_MEMORY if _changed(config) else memory)
  except OSError as error:
    raise UserError(
      f"dataset.data_dir: cannot read {error.filename or config.data_dir} ({error.strerror}); "
      "see to its permissions, or give another"
    ) from error
  check_varied(dataset)
  if config.rgb_side:
    dataset = in_rgb(dataset, config.rgb_side)
  if config.classes and config.name not in _IN_FOLDERS:
    dataset = of_classes(dataset, config.classes)
  return whiten(dataset, config.cache_dir) if config.zca else dataset


def check_fields(config: Any) -> None:
  """Checks the fields that say how images are read, as far as that goes without data.

  Raises:
    UserError: one is out of range, or not for this source.
  """
  Split(config.test_share, config.test_seed).check()
  if pixels.as_range(config.range) and config.name not in _RANGED:
    raise UserError(
      f"dataset.range: dataset.name={config.name} says itself what its values mean; leave range out"
    )
  for field in ("image_column", "label_column"):
    if config[field] and config.name != "hf":
      raise UserError(
        f"dataset.{field}: dataset.name={config.name} has no columns; leave it out, or set "
        "dataset.name=hf"
      )


def _check_streams(config: Any) -> None:
  """Raises `UserError` for a dataset whose images must be in memory."""
  if config.name in ("digits", "hf", "npz", "speech", originals.SPEECH):
    raise _in_memory(f"dataset.name={config.name}")
  if changed := _changed(config):
    raise UserError(f"compute.streaming: {changed} needs all images in memory; leave one out")


def _in_memory(what: str) -> UserError:
  return UserError(
    f"compute.streaming: {what} is in memory whole; leave it out, or save the images as files and "
    "use dataset.name=folder"
  )


def _changed(config: Any) -> str:
  """The field by which all training images are changed once they are loaded; empty: none."""
  if config.zca:
    return "dataset.zca"
  if config.rgb_side:
    return "dataset.rgb_side"
  return "dataset.classes" if config.classes and config.name not in _IN_FOLDERS else ""


def _load(config: Any, memory: Memory) -> Dataset:
  if config.name == "digits":
    return digits.load()
  limits = pixels.as_range(config.range)
  split = Split(config.test_share, config.test_seed)
  if config.name == "npz":
    return npz.load(_required_path(config, "the .npz file"), limits=limits)
  if config.name == "folder":
    return folder.load(
      _required_path(config, "the folder that holds train/ and test/"),
      side=config.side,
      classes=config.classes,
      limits=limits,
      split=split,
      memory=memory,
      cache_dir=config.cache_dir,
    )
  if config.name == "hf":
    return hf.load(
      _required_path(config, "a folder of parquet files or images, or a name on the hub"),
      side=config.side,
      columns=hf.Columns(config.image_column, config.label_column),
      limits=limits,
      split=split,
      cache_dir=config.cache_dir,
    )
  kept = {"data_dir": config.data_dir, "cache_dir": config.cache_dir, "mirror": config.mirror}
  if config.name in ("speech", originals.SPEECH):
    return speech.load(originals.speech_folder(**kept), classes=config.classes)
  if not config.name or config.name.startswith(_PATH_STARTS) or config.name.endswith(".npz"):
    raise _unknown(config.name, ())
  prepared = tfds.prepared(config.name, config.data_dir)
  if config.name in originals.NAMES and prepared is None:
    if memory.streaming:
      raise _in_memory(f"{config.name}, from its original files,")
    return originals.load(config.name, **kept)
  try:
    return tfds.load(
      config.name,
      data_dir=prepared or config.data_dir,
      cache_dir=config.cache_dir,
      memory=memory,
    )
  except tfds.UnknownDatasetError as error:
    raise _unknown(config.name, error.known) from error


def _required_path(config: Any, what: str) -> str | os.PathLike[str]:
  """Returns `data_dir`; checks that it is given."""
  if not config.data_dir:
    raise UserError(
      f"dataset.data_dir: empty, but dataset.name={config.name} needs it; give {what}"
    )
  return config.data_dir


def _unknown(name: str, known: tuple[str, ...] | list[str]) -> UserError:
  """Says what a name that is no data set may have meant: a path, or another name."""
  if name.endswith(".npz") or (name and Path(name).expanduser().exists()):
    source = {".npz": "npz", ".parquet": "hf"}.get(Path(name).suffix, "folder")
    return UserError(
      f"dataset.name: '{name}' is a path; set dataset.name={source} and dataset.data_dir={name}"
    )
  base = base_name(name)
  close = difflib.get_close_matches(base, [*_OWN, *known], n=1, cutoff=0.5)
  hint = nearest(base, close or _COMMON)
  return UserError(f"dataset.name: unknown dataset '{name}'; {hint}")
