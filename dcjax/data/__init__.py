"""Real data: where it comes from, how it is kept, how it is drawn.

`load(config)` finds the source by `common.registry.DATASETS`; one file holds each kind. What is
drawn from a `Dataset` is a pure function of a key.
"""

from typing import Any

from dcjax.common.activity import working
from dcjax.common.environment import check_backend
from dcjax.common.errors import UserError, check_name
from dcjax.common.registry import DATASETS, names_object
from dcjax.data import tfds
from dcjax.data.dataset import (
  Dataset,
  any_indices,
  as_batch,
  check_varied,
  from_arrays,
  images_at,
  random_subset,
  sample,
  sample_of_classes,
  subset_indices,
  take,
  warn_small_classes,
)
from dcjax.data.on_disk import IN_MEMORY, Memory, OnDisk
from dcjax.data.pixels import as_range
from dcjax.data.source import Source, in_memory, of_user
from dcjax.data.split import Split
from dcjax.data.tfds import base_name
from dcjax.data.views import in_rgb, of_classes
from dcjax.data.whitened import whiten
from dcjax.data.zca import VARIANTS

__all__ = [
  "IN_MEMORY",
  "Dataset",
  "Memory",
  "OnDisk",
  "Source",
  "any_indices",
  "as_batch",
  "base_name",
  "check_fields",
  "find",
  "from_arrays",
  "images_at",
  "load",
  "of_classes",
  "random_subset",
  "sample",
  "sample_of_classes",
  "subset_indices",
  "take",
  "warn_small_classes",
]


def load(config: Any, memory: Memory = IN_MEMORY) -> Dataset:
  """Loads the data set that a config names.

  Args:
    config: has the fields
      `name`: one that `DATASETS` knows, a user's `FILE.py:NAME`, or another name in TensorFlow
        Datasets;
      `data_dir`: the `.npz` file, the folder of images or of words, what Hugging Face's library
        reads, the folder of original files (empty: they are downloaded), or TFDS' data folder
        (empty for its default); not looked at for "digits"; a user's function has it too;
      `mirror`: another host for downloads (`originals.fetch.fetch`);
      `cache_dir`: where downloads, decoded images and whitenings are kept (empty for the default);
      `side`: height and width that images of a folder are brought to, and those of "hf" that differ
        in size;
      `test_resize`: what the short side of a folder's test images is brought to first (0: `side`);
      `range`: the values of black and white (empty: those of the images' type);
      `test_share`, `test_seed`: which images of a folder or of "hf" are for testing, if none are
        set apart;
      `image_column`, `label_column`: of "hf" (empty: to be found);
      `classes`: names of those to take, in the order of labels (empty for all); of folders
        only their folders are read;
      `rgb_side`: height and width that images of any source are brought to, in RGB (0: as they
        are);
      `zca`, `zca_variant`: whether images are whitened, and in which way (`dcjax.data.zca`).
    memory: whether training images stay on disk, which those of a folder and of TFDS can.

  Raises:
    UserError: the data cannot be had as asked; the message begins with the field. Or jax finds no
      device to hold them.
  """
  check_backend()
  source = find(config.name)
  if memory.streaming:
    _check_streams(config, source)
  check_fields(config)
  try:
    with working(f"reading {config.name}"):
      dataset = source.load(config, IN_MEMORY if _changed(config, source) else memory)
  except OSError as error:
    raise UserError(
      f"dataset.data_dir: cannot read {error.filename or config.data_dir} ({error.strerror}); "
      "see to its permissions, or give another"
    ) from error
  check_varied(dataset, source.field)
  if config.rgb_side:
    dataset = in_rgb(dataset, config.rgb_side)
  if config.classes and not source.classes:
    dataset = of_classes(dataset, config.classes)
  return whiten(dataset, config.cache_dir, config.zca_variant) if config.zca else dataset


def check_fields(config: Any) -> None:
  """Checks the fields that say how images are read, as far as that goes without data.

  Raises:
    UserError: one is out of range, or not for this source; or a user's source is none.
  """
  Split(config.test_share, config.test_seed).check()
  check_name("dataset.zca_variant", config.zca_variant, VARIANTS)
  source = find(config.name)
  if as_range(config.range) and not source.ranged:
    raise UserError(
      f"dataset.range: dataset.name={config.name} says itself what its values mean; leave range out"
    )
  if config.test_resize and not source.resized:
    raise UserError(
      f"dataset.test_resize: of images in folders, but dataset.name={config.name}; leave it out"
    )
  for field in ("image_column", "label_column"):
    if config[field] and not source.columns:
      raise UserError(
        f"dataset.{field}: dataset.name={config.name} has no columns; leave it out, or set "
        "dataset.name=hf"
      )


def find(name: str) -> Source:
  """The source of a `dataset.name`; names that are no other's are those of TFDS.

  Raises:
    UserError: it is a user's, and cannot be had.
  """
  if name not in DATASETS and not names_object(name):
    return tfds.SOURCE
  found = DATASETS.find("dataset.name", name)
  return found if name in DATASETS.own else of_user(name, found)


def can_stream(config: Any) -> bool:
  """Whether the training images of a dataset can stay on disk; for its fields see `load`."""
  source = find(config.name)
  return source.streams and not _changed(config, source)


def _check_streams(config: Any, source: Source) -> None:
  """Raises `UserError` for a dataset whose images must be in memory."""
  if not source.streams:
    raise in_memory(f"dataset.name={config.name}")
  if changed := _changed(config, source):
    raise UserError(f"compute.streaming: {changed} needs all images in memory; leave one out")


def _changed(config: Any, source: Source) -> str:
  """The field by which all training images are changed once they are loaded; empty: none."""
  if config.zca:
    return "dataset.zca"
  if config.rgb_side:
    return "dataset.rgb_side"
  return "dataset.classes" if config.classes and not source.classes else ""
