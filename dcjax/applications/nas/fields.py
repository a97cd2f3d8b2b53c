"""The config of an architecture search: its fields with their defaults, and their checks."""

from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from dcjax import augment
from dcjax import config as config_lib
from dcjax.common.errors import UserError, check_least, check_name, nearest
from dcjax.config import numbers
from dcjax.config.meanings import of_function
from dcjax.methods import coreset
from dcjax.nn import layers

EARLY_STOPPING, WHOLE = "early_stopping", "whole"
SETS = (*coreset.SELECTIONS, EARLY_STOPPING, WHOLE)  # that a search makes itself
# By the axes of the space, what a network may have there; None: any number from 1 on.
AXES: dict[str, Collection[str] | None] = {
  "width": None,
  "depth": None,
  "norm": layers.NORMS,
  "activation": layers.ACTIVATIONS,
  "pooling": layers.POOLINGS,
}


def default_search() -> ConfigDict:
  """The search of DC, section 3.2 and Appendix A: the fields of a coreset, and `search`.

  `ipc` is of the coresets; `network` and `training` are those of the network that herding looks
  with, and all networks have `network.init`; `evaluation` is the training on the small sets.
  """
  config = config_lib.default("herding")
  del config.method
  for field in ("architectures", "checks", "same_steps", "whole"):
    del config.evaluation[field]
  config.dataset.name = "cifar10"
  config.ipc = 10
  config.evaluation.networks = 5  # of each architecture on each set (Appendix A)
  config.evaluation.epochs = 100  # (section 3.2; DSA has 300, section 4.6)
  config.search = _search()
  return config


def _search() -> ConfigDict:
  """The fields of a search alone."""
  fields = ConfigDict()
  # What networks are trained on. Coresets by their methods; 'early_stopping': as many steps on all
  # training images as a coreset takes; 'whole': all training images in full. Without 'whole' only
  # networks that are among the best on another set are trained so. Saved sets come beside them
  fields.sets = ("random", "herding", EARLY_STOPPING, WHOLE)
  # Share of the training images that networks are chosen by and not trained on: 5,000 of CIFAR-10
  # (DC, Appendix A), 10 % (DM, supplement, section 1.3)
  fields.validation = 0.1
  fields.whole_epochs = 100  # passes over all training images (DSA, section 4.6)
  # As evaluation.augmentation, on all training images: the papers augment the others only
  # (DM, supplement, section 1.3)
  fields.whole_augmentation = "none"
  fields.width = (32, 64, 128, 256)  # as network.width; the axes are those of DC, Appendix A
  fields.depth = (1, 2, 3, 4)  # as network.depth
  fields.norm = ("none", "batch", "layer", "instance", "group")  # as network.norm
  fields.activation = ("sigmoid", "relu", "leaky_relu")  # as network.activation
  fields.pooling = ("none", "max", "average")  # as network.pooling
  return fields


def meanings() -> dict[str, str]:
  """What the fields of `search` mean, by their dotted names."""
  return of_function(_search, "fields", "search.")


def resolve_search(config: ConfigDict) -> ConfigDict:
  """Checks a config as far as that goes without data, and fills in what is None.

  Returns:
    The config of a coreset whose method is 'nas', with `search`.

  Raises:
    UserError: names the field, the value and the remedy.
  """
  if not isinstance(config, ConfigDict) or "search" not in config:
    raise UserError(
      "config: it has no search; let get_config() return what "
      "dcjax.applications.nas.fields.default_search() makes, changed as need be"
    )
  fields = config.to_dict()
  numbers.check_large(config)
  search = _resolve_fields(fields.pop("search"))
  resolved = config_lib.resolve(config_lib.complete({**fields, "method": "herding"}))
  config_lib.check_untaught(resolved, "a search")
  check_least("evaluation.networks", resolved.evaluation.networks, 1)
  with resolved.unlocked():
    resolved.method = "nas"
    resolved.search = search
  return resolved


def _resolve_fields(given: dict[str, Any]) -> ConfigDict:
  search = _search()
  for name, value in given.items():
    if name not in search:
      raise UserError(f"config: no field 'search.{name}'; {nearest(name, search)}")
    try:
      search[name] = value
    except TypeError:
      raise UserError(
        f"search.{name}: {value!r} is not of the right type; its default is {search[name]!r}"
      ) from None
  for axis, known in AXES.items():
    search[axis] = _choices(f"search.{axis}", search[axis], known)
  search.sets = tuple(dict.fromkeys(config_lib.names(search.sets)))
  for name in search.sets:
    check_name("search.sets", name, SETS)
  if not 0 < search.validation < 1:
    raise UserError(
      f"search.validation: {search.validation} is no share of the training images; give one "
      "between 0 and 1"
    )
  check_least("search.whole_epochs", search.whole_epochs, 1)
  augment.check_name("search.whole_augmentation", search.whole_augmentation)
  return search


def _choices(field: str, values: tuple[Any, ...], known: Collection[str] | None) -> tuple[Any, ...]:
  """The values along one axis, each once."""
  if known is not None:
    values = config_lib.names(values)
    for value in values:
      check_name(field, value, known)
  if not values or values == ("",):
    raise UserError(f"{field}: empty, so that there is no network to choose; give some values")
  for value in values if known is None else ():
    if not isinstance(value, int):
      raise UserError(f"{field}: '{value}' is not a whole number; give some, such as 1,2")
    check_least(field, value, 1)
  return tuple(dict.fromkeys(values))
