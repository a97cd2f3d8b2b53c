"""The config of a run: every field with its default, and the checks that need no data."""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from dcjax import evaluation
from dcjax.common.errors import UserError, check_least, check_name, nearest
from dcjax.common.registry import METHODS, NETWORKS
from dcjax.config import numbers
from dcjax.config.datasets import class_names, names
from dcjax.config.defaults import default, definition, selects
from dcjax.config.evaluation_fields import (
  check_steps,
  check_untaught,
  evaluation_settings,
  fewer_epochs,
  fill_evaluation,
)
from dcjax.data import check_fields, originals
from dcjax.data.pixels import as_range
from dcjax.devices.strategy import LONGEST_CHUNK
from dcjax.evaluation.protocols import PROTOCOLS
from dcjax.nn import architectures
from dcjax.nn.definition import find

__all__ = [
  "INDIFFERENT",
  "check_steps",
  "check_untaught",
  "complete",
  "default",
  "definition",
  "evaluation_settings",
  "fewer_epochs",
  "flatten",
  "names",
  "of_any_method",
  "of_earlier",
  "own_code",
  "replace_fields",
  "resolve",
  "selects",
]

SEEDS = 2**32
# Not one of a namespace, whose code TensorFlow Datasets would download and run.
_DATASET = re.compile(r"\w+(/[\w.+-]+)?(:[\d.*]+)?")
# Fields, or beginnings of them, of one machine: where things lie, and how the work is laid out.
LOCAL = (
  "compute.",
  "dataset.cache_dir",
  "dataset.data_dir",
  "dataset.mirror",
  "experts.folder",
)
# Those that change no figure of a run.
INDIFFERENT = (
  *LOCAL,
  "checkpoint_every",
  "evaluate_every",
  "picture_every",
)


def complete(fields: dict[str, Any]) -> ConfigDict:
  """The default config of a method with some fields replaced.

  Args:
    fields: a config as nested dicts; it need not have all fields. `method` says which default;
      without it that is DC's.

  Raises:
    UserError: a field is unknown, or its value is of the wrong type.
  """
  method = fields.get("method", "dc")
  return replace_fields(default(method), fields, method)


def replace_fields(config: ConfigDict, fields: dict[str, Any], owner: str) -> ConfigDict:
  """Sets some fields of a config, and returns it.

  Args:
    config: with all its fields.
    fields: those to set, as nested dicts.
    owner: whose config it is, for an error.

  Raises:
    UserError: a field is unknown, or its value is of the wrong type.
  """
  known = dict(flatten(config.to_dict()))
  for name, value in flatten(fields):
    if name not in known:
      raise UserError(f"config: {owner} has no field '{name}'; {nearest(name, known)}")
    try:
      if value is None and known[name] is not None:
        raise TypeError
      config.update_from_flattened_dict({name: value})
    except (TypeError, ValueError, OverflowError):
      raise UserError(
        f"{name}: {value!r} is not of the right type; its default is {known[name]!r}"
      ) from None
  return config


def of_file(fields: dict[str, Any], given: Mapping[str, Any] = MappingProxyType({})) -> ConfigDict:
  """The config of a run from its files, but for `LOCAL`.

  The files may be anybody's: they do not decide where something is read or written, nor what code
  is run.

  Args:
    fields: what the files have.
    given: what the user gives in place of some of it, by dotted names.

  Raises:
    UserError: a field is unknown, or its value is of the wrong type, or names what is no dataset,
      or something in a Python file.
  """
  fields = of_earlier(fields)
  kept = {name: value for name, value in flatten(fields) if not name.startswith(LOCAL)}
  kept = {name: value for name, value in kept.items() if name not in given}
  if code := own_code(kept):
    name, value = code.popitem()
    raise UserError(
      f"config: {name!r:.99} is {value!r:.99}, in a Python file, and the file of a run does not "
      "decide that one is run; give one without"
    )
  config = complete(kept)
  teacher = config.evaluation.get("teacher")
  if architectures.is_trained(teacher):
    raise UserError(
      f"evaluation.teacher: {teacher!r:.99} is another file, and the file of a run does not decide "
      "what is read; give --teacher"
    )
  if any(name.endswith(".txt") for name in names(config.dataset.classes)):
    raise UserError("dataset.classes: the file of a run names another file; it must name classes")
  if not _DATASET.fullmatch(config.dataset.name):
    raise UserError(f"dataset.name: {config.dataset.name!r} is no dataset that a file may name")
  return replace_fields(config, dict(given), "config")


def of_earlier(fields: dict[str, Any]) -> dict[str, Any]:
  """A config with what an earlier version did, where the default of a newer field is another.

  Args:
    fields: of a run's file, which lacks the fields that its version did not have.

  Returns:
    The same with those fields, where they tell what the run is.
  """
  flat = dict(flatten(fields))
  older: dict[str, Any] = {}
  for name in _networks(flat) & NETWORKS.own.keys():  # no file of code is run
    sizes = find("network.name", name).earlier.items()
    older |= {f"network.{field}": value for field, value in sizes}
  method = str(flat.get("method"))  # a damaged file may hold anything
  if method in METHODS.own:
    older |= definition(method).earlier(flat)
  elif method == "nas":  # whose coresets are no method of its config
    older |= {"selection.herding": "greedy"}
  completed = dict(fields)
  for name, value in older.items():
    section, _, field = name.rpartition(".")
    if name not in flat and section not in flat:  # which would be no section
      completed |= {section: fields.get(section, {}) | {field: value}} if section else {name: value}
  return completed


def _networks(flat: dict[str, Any]) -> set[str]:
  """The names of all networks in a config, by dotted names, that may hold anything."""
  texts = flat.get("evaluation.architectures")
  texts = names(texts) if isinstance(texts, str | list | tuple) else ()
  return {str(text).partition(":")[0] for text in (flat.get("network.name"), *texts)}


def of_any_method(fields: dict[str, Any]) -> dict[str, Any]:
  """What a config has of the fields that all configs have, as one of a method that selects.

  So a set of a method that is not installed here can be evaluated.
  """
  shared = dict(flatten(default("random").to_dict()))
  kept = {name: value for name, value in flatten(fields) if name in shared}
  return kept | {"method": "random"}


def own_code(fields: dict[str, Any]) -> dict[str, Any]:
  """The fields that name something in a user's Python file, by their dotted names."""
  return {name: value for name, value in flatten(fields) if ".py:" in str(value)}


def resolve(config: ConfigDict) -> ConfigDict:
  """Checks a config as far as that goes without data, and fills in what is None.

  `compute` is left as it is: it may differ from machine to machine, and from one start of a run
  to the next.

  Raises:
    UserError: names the field, the value and the remedy.
  """
  if not isinstance(config, ConfigDict):
    raise UserError(
      f"config: {type(config).__name__} is not a ConfigDict; let get_config() return what "
      "dcjax.config.default() makes, changed as need be"
    )
  config = complete(config.to_dict())
  if not 0 <= config.seed < SEEDS:
    shown = str(config.seed)[:20]
    raise UserError(f"seed: {shown} is not within 0..{SEEDS - 1}; give one that is")
  numbers.check_large(config)
  check_name("evaluation.protocol", config.evaluation.protocol, PROTOCOLS)
  check_least("ipc", config.ipc, 1)
  with config.unlocked():
    if config.dataset.name == originals.SPEECH:
      config.dataset.name = "speech"  # whose settings hold for it
    config.dataset.classes = class_names(config.dataset.classes)
    config.evaluation.architectures = names(config.evaluation.architectures)
    config.dataset.range = as_range(config.dataset.range) or ()
  check_fields(config.dataset)
  _check_architectures(config.evaluation.architectures)
  definition(config.method).resolve(config)
  with config.unlocked():
    fill_evaluation(config)
  evaluation.check_settings(evaluation_settings(config.evaluation))
  check_least("compute.memory_limit", config.compute.memory_limit, 0)
  if config.compute.workers is not None:
    check_least("compute.workers", config.compute.workers, 0)
  if config.compute.chunk is not None:
    check_least("compute.chunk", config.compute.chunk, 1)
    if config.compute.chunk > LONGEST_CHUNK:
      raise UserError(f"compute.chunk: {config.compute.chunk} is too long; {LONGEST_CHUNK} at most")
  numbers.check_negative(config)
  return config


def _check_architectures(names: tuple[str, ...]) -> None:
  """Raises `UserError` for a network that there is not; whether it takes the images comes later."""
  for text in architectures.expand(names):
    try:
      architectures.parse(text)
    except UserError as error:
      raise UserError(f"evaluation.architectures: '{text}': {error}") from None


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """The fields of a nested config, by their dotted names."""
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from flatten(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value
