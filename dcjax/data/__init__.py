"""Real data: where it comes from, how it is kept, how it is drawn.

`load(config)` finds the source; one file holds each kind. What is drawn from a
`Dataset` is a pure function of a key.
"""

import difflib
import os
from pathlib import Path
from typing import Any

from dcjax.data import digits, folder, npz, speech, tfds
from dcjax.data.dataset import (
  Dataset,
  as_batch,
  from_arrays,
  random_subset,
  sample,
  sample_of_classes,
  subset_indices,
  take,
  warn_small_classes,
)
from dcjax.data.on_disk import IN_MEMORY, Memory, OnDisk
from dcjax.data.tfds import base_name
from dcjax.data.views import in_rgb, of_classes
from dcjax.data.whitened import whiten
from dcjax.errors import UserError, nearest
from dcjax.whitening import check_size

__all__ = [
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

_OWN = ("digits", "folder", "npz", "speech")  # sources that are not data sets of TFDS
_IN_FOLDERS = ("folder", "speech")  # a folder for each class
_PATH_STARTS = ("/", ".", "~")  # no name in TFDS begins so
_COMMON = (*_OWN, "mnist", "fashion_mnist", "svhn_cropped", "cifar10", "cifar100")


def load(config: Any, memory: Memory = IN_MEMORY) -> Dataset:
  """Loads the data set that a config names.

  Args:
    config: has the fields
      `name`: "digits", "npz", "folder", "speech", or a name in TensorFlow Datasets;
      `data_dir`: the `.npz` file, the folder of images or of words, or TFDS' data folder
        (empty for its default); not looked at for "digits";
      `cache_dir`: where images decoded from TFDS, and whitenings, are kept (empty for the
        default);
      `side`: height and width that images of a folder are brought to;
      `classes`: names of those to take, in the order of labels (empty for all); of folders
        only their folders are read;
      `rgb_side`: height and width that images of any source are brought to, in RGB (0: as they
        are);
      `zca`: whether images are whitened (`dcjax.whitening`).
    memory: whether training images stay on disk, which those of a folder and of TFDS can.

  Raises:
    UserError: the data cannot be had as asked; the message begins with the field.
  """
  if memory.streaming:
    _check_streams(config)
  if config.zca and config.name == "folder":  # whose files may take long to decode
    check_size((config.side, config.side, 3))
  try:
    dataset = _load(config, IN_MEMORY if _changed(config) else memory)
  except OSError as error:
    raise UserError(
      f"dataset.data_dir: cannot read {error.filename or config.data_dir} ({error.strerror}); "
      "see to its permissions, or give another"
    ) from error
  if config.rgb_side:
    dataset = in_rgb(dataset, config.rgb_side)
  if config.classes and config.name not in _IN_FOLDERS:
    dataset = of_classes(dataset, config.classes)
  return whiten(dataset, config.cache_dir) if config.zca else dataset


def _check_streams(config: Any) -> None:
  """Raises `UserError` for a dataset whose images must be in memory."""
  if config.name in ("digits", "npz", "speech"):
    raise UserError(
      f"compute.streaming: dataset.name={config.name} is in memory whole; leave it out, or save "
      "the images as files and use dataset.name=folder"
    )
  if changed := _changed(config):
    raise UserError(f"compute.streaming: {changed} needs all images in memory; leave one out")


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
  if config.name == "npz":
    return npz.load(_required_path(config, "the .npz file"))
  if config.name == "folder":
    path = _required_path(config, "the folder that holds train/ and val/")
    return folder.load(
      path,
      side=config.side,
      classes=config.classes,
      memory=memory,
      cache_dir=config.cache_dir,
    )
  if config.name == "speech":
    path = _required_path(config, "the folder that holds <word>/*.wav")
    return speech.load(path, classes=config.classes)
  if not config.name or config.name.startswith(_PATH_STARTS) or config.name.endswith(".npz"):
    raise _unknown(config.name, ())
  try:
    return tfds.load(
      config.name, data_dir=config.data_dir, cache_dir=config.cache_dir, memory=memory
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
    source = "npz" if name.endswith(".npz") else "folder"
    return UserError(
      f"dataset.name: '{name}' is a path; set dataset.name={source} and dataset.data_dir={name}"
    )
  base = base_name(name)
  close = difflib.get_close_matches(base, [*_OWN, *known], n=1, cutoff=0.5)
  hint = nearest(base, close or _COMMON)
  return UserError(f"dataset.name: unknown dataset '{name}'; {hint}")
