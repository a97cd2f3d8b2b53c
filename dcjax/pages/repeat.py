"""The command that repeats a run, from its config: a preset, and the fields that differ from it."""

import importlib
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import resources
from itertools import product
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax.common.errors import UserError
from dcjax.config.presets import DATASETS

_ABSENT = object()  # in place of a field that there is not
_OTHERS = ("continual", "nas")  # presets of other commands
_CLOSE = 3  # changes more than the fewest, some of which may not be needed
_ROUNDS = 4  # a field that is set may change what others are filled in with


class Command(NamedTuple):
  """How a run is repeated.

  Attributes:
    words: what follows `dcjax`, but for the workdir.
    missing: fields that no flag can set so, with their values.
  """

  words: tuple[str, ...]
  missing: dict[str, Any]

  def text(self, workdir: str) -> str:
    """The command for a shell, a flag a line."""
    words = [*self.words, f"--workdir={workdir}"]
    first = shlex.join(["dcjax", *words[:2]])
    return " \\\n  ".join([first, *map(shlex.quote, words[2:])])


def resolved(fields: dict[str, Any]) -> ConfigDict:
  """The config of a run's file, with what newer fields were then; runs nobody's code.

  Raises:
    UserError: it cannot be followed.
  """
  fields = config_lib.of_earlier(fields)
  config = config_lib.of_file(fields)
  known = dict(config_lib.flatten(config.to_dict()))
  local = {
    name: value
    for name, value in config_lib.flatten(fields)
    if name.startswith(config_lib.LOCAL) and name in known
  }
  return config_lib.resolve(config_lib.replace_fields(config, local, "config"))


class _Candidate(NamedTuple):
  """A preset with its argument, the fields to set in it, and those that differ all the same."""

  preset: str
  argument: str
  changes: dict[str, Any]
  missing: dict[str, Any]

  @property
  def length(self) -> tuple[int, int]:
    """How far it is from the config."""
    return len(self.missing), len(self.changes)


def command(config: ConfigDict) -> Command:
  """The shortest command whose run has the same config.

  Args:
    config: of the run, resolved.
  """
  target = _flat(config)
  presets = _presets(config.method, config.dataset.name, config.ipc)
  found = [_candidate(*preset, target) for preset in presets]
  missing, changes = min(each.length for each in found)
  close = [each for each in found if each.length <= (missing, changes + _CLOSE)]
  best = min(
    (_pruned(each, target) for each in close),
    key=lambda each: (each.length, each.preset == "method", len(each.argument)),
  )
  name = "select" if config_lib.selects(config.method) else "condense"
  file = f"configs/{best.preset}.py{best.argument and ':'}{best.argument}"
  flags = [f"--config.{field}={_text(value)}" for field, value in best.changes.items()]
  return Command((name, f"--config={file}", *flags), best.missing)


def _candidate(preset: str, argument: str, target: dict[str, Any]) -> _Candidate:
  """Sets what differs from a config, until nothing does that can be set."""
  changes: dict[str, Any] = {}
  apart = target
  config = _config(preset, argument)
  for _ in range(_ROUNDS):
    have = _with(preset, argument, changes)
    if have is None:
      return _Candidate(preset, argument, changes, target)
    apart = {name: target[name] for name in target if have.get(name, _ABSENT) != target[name]}
    settable = {name: value for name, value in apart.items() if _is_settable(config, name, value)}
    if not settable.keys() - changes.keys():
      break
    changes |= settable
  return _Candidate(preset, argument, changes, apart)


def _pruned(candidate: _Candidate, target: dict[str, Any]) -> _Candidate:
  """The same without the fields that follow from others."""
  changes = candidate.changes
  for name in () if candidate.missing else list(changes):
    fewer = {other: value for other, value in changes.items() if other != name}
    if _with(candidate.preset, candidate.argument, fewer) == target:
      changes = fewer
  return candidate._replace(changes=changes)


def _with(preset: str, argument: str, changes: dict[str, Any]) -> dict[str, Any] | None:
  """The fields of a preset with changes, resolved; None where they do not fit together."""
  config = _config(preset, argument)
  assert config is not None  # as it is one of `_presets`
  config = config.copy_and_resolve_references()
  try:
    config.update_from_flattened_dict(changes)
    return _flat(config_lib.resolve(config))
  except (UserError, TypeError, ValueError, KeyError):
    return None


def _is_settable(config: ConfigDict | None, name: str, value: Any) -> bool:
  """Whether a flag of the command line can give a field a value."""
  *groups, field = name.split(".")
  section: Any = config
  for group in groups:
    section = section.get(group, {})
  return field in section and isinstance(value, bool | int | float | str | tuple)


def _text(value: Any) -> str:
  """A value as a flag takes it."""
  if isinstance(value, tuple):
    return ",".join(map(str, value)) if all(isinstance(each, str) for each in value) else str(value)
  return str(value)


def _flat(config: ConfigDict) -> dict[str, Any]:
  return dict(config_lib.flatten(config.to_dict()))


def _presets(method: str, dataset: str, ipc: int) -> Iterator[tuple[str, str]]:
  """Presets of a method with their arguments, of the dataset and the images where they have it."""
  papers = [ours for ours, theirs in DATASETS.items() if theirs == dataset]
  starts = ["", *papers, method, *(f"{method}{classes}" for classes in (10, 100))]
  for preset in _files():
    named = [method, *(f"{method},{name}" for name in papers)] if preset == "method" else starts
    for start, smoke in product(named, ("", "smoke")):
      words = [start, f"ipc={ipc}" if ipc != 1 else "", smoke]
      argument = ",".join(filter(None, words))
      config = _config(preset, argument)
      if config is not None and config.method == method:
        yield preset, argument


@cache
def _files() -> tuple[str, ...]:
  """The names of the presets."""
  folder = resources.files("dcjax.configs")
  names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".py"))
  return tuple(n[:-3] for n in names if not n.startswith("_") and n[:-3] not in _OTHERS)


@cache
def _config(preset: str, argument: str) -> ConfigDict | None:
  """What a preset makes of an argument; None where it takes no such one."""
  try:
    return importlib.import_module(f"dcjax.configs.{preset}").get_config(argument)
  except UserError:
    return None
