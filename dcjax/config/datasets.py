"""What a config says of its dataset without a look at the data."""

from absl import logging
from ml_collections import ConfigDict

from dcjax import augment
from dcjax.data import base_name

# Datasets whose images mean something else mirrored.
SIGNS = ("mnist", "svhn_cropped", "digits", "speech")


def default_strategy(dataset: str) -> str:
  """The transforms of DSA for a dataset: all six, without flip for signs (section 4.4)."""
  names = augment.STRATEGY.split("_")
  return "_".join(name for name in names if name != "flip" or dataset not in SIGNS)


def warn_of_flips(field: str, strategy: str, dataset: str) -> None:
  """Logs a warning if a field mirrors images of signs."""
  if dataset in SIGNS and "flip" in strategy.split("_"):
    logging.warning(
      "%s: '%s' flips images of %s, but mirrored they mean something else; leave flip out",
      field, strategy, dataset,
    )  # fmt: skip


def hundred_classes(fields: ConfigDict) -> bool:
  """Whether a dataset has a hundred classes or more, as far as its config tells without data.

  That is so of CIFAR-100, and where `dataset.classes` names so many.
  """
  return base_name(fields.name) == "cifar100" or len(fields.classes) >= 100
