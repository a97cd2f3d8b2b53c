"""What a config says of its dataset without a look at the data."""

from typing import Any

from absl import logging
from ml_collections import ConfigDict

from dcjax import augment
from dcjax.common.errors import UserError
from dcjax.common.files import expand
from dcjax.data import base_name

# Datasets whose images mean something else mirrored.
SIGNS = ("mnist", "svhn_cropped", "usps", "digits", "speech")


def default_strategy(dataset: str) -> str:
  """The transforms of DSA for a dataset: all six, without flip for signs (section 4.4)."""
  names = augment.STRATEGY.split("_")
  return "_".join(name for name in names if name != "flip" or dataset not in SIGNS)


def warn_of_flips(field: str, strategy: str, dataset: str) -> None:
  """Logs a warning if a field mirrors images of signs."""
  if dataset in SIGNS and "flip" in augment.names_in(strategy):
    logging.warning(
      "%s: '%s' flips images of %s, but mirrored they mean something else; leave flip out",
      field, strategy, dataset,
    )  # fmt: skip


def names(value: Any) -> tuple[str, ...]:
  """A tuple of names, also from `a,b` as the command line gives it: one text, or a tuple of one."""
  parts = (value,) if isinstance(value, str) else tuple(map(str, value))
  return tuple(filter(None, parts[0].split(",") if len(parts) == 1 else parts))


def class_names(value: Any) -> tuple[str, ...]:
  """The names in `dataset.classes`, or in the text file that it gives instead.

  In the file each class has a line; what follows a `#` is a remark.

  Raises:
    UserError: there is no such file, or it names no class.
  """
  given = names(value)
  if len(given) != 1 or not given[0].endswith(".txt"):
    return given
  file = expand("dataset.classes", given[0])
  try:
    lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
  except (OSError, UnicodeDecodeError):
    raise UserError(
      f"dataset.classes: cannot read {file}; give a text file with a class a line"
    ) from None
  found = tuple(filter(None, lines))
  if not found:
    raise UserError(f"dataset.classes: {file} names no class; write one a line")
  return found


def hundred_classes(fields: ConfigDict) -> bool:
  """Whether a dataset has a hundred classes or more, as far as its config tells without data.

  That is so of CIFAR-100 and Tiny ImageNet, and where `dataset.classes` names so many.
  """
  return base_name(fields.name) in ("cifar100", "tiny_imagenet") or len(fields.classes) >= 100
