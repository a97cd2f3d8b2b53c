"""The command that repeats a run, from its config: a preset, and the fields that differ from it."""

import importlib
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import resources
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


def command(config: ConfigDict) -> Command:
  """The shortest command whose run has the same config.

  Args:
    config: of the run, resolved.
  """
  name = "select" if config_lib.selects(config.method) else "condense"
  target = _flat(config)
  presets = list(_presets(config.method, config.dataset.name, config.ipc))
  found = [(*_changes(*preset, target), *preset) for preset in presets]
  least = min(len(missing) for _, missing, *_ in found)
  found = [each for each in found if len(each[1]) == least]
  fewest = min(len(changes) for changes, *_ in found)
  close = [each for each in found if len(each[0]) <= fewest + _CLOSE]
  pruned = [(_pruned(each[0], *each[2:], target) if not least else each[0], each) for each in close]
  changes, (_, missing, preset, argument) = min(
    pruned, key=lambda each: (len(each[0]), each[1][2] == "method", len(each[1][3]))
  )
  file = f"configs/{preset}.py{argument and ':'}{argument}"
  flags = [f"--config.{field}={_text(value)}" for field, value in changes.items()]
  return Command((name, f"--config={file}", *flags), missing)


def _changes(
  preset: str, argument: str, target: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """The fields to set in a preset so that it is resolved to a config; and those that stay apart."""
  changes: dict[str, Any] = {}
  for _ in range(_ROUNDS):
    have = _with(preset, argument, changes)
    if have is None:
      return changes, target
    apart = {name: target[name] for name in target if have.get(name, _ABSENT) != target[name]}
    config = _config(preset, argument)
    settable = {name: value for name, value in apart.items() if _is_settable(config, name, value)}
    if not settable.keys() - changes.keys():
      return changes, apart
    changes |= settable
  return changes, apart


def _pruned(
  changes: dict[str, Any], preset: str, argument: str, target: dict[str, Any]
) -> dict[str, Any]:
  """The changes without those that follow from others."""
  for name in list(changes):
    fewer = {other: value for other, value in changes.items() if other != name}
    if _with(preset, argument, fewer) == target:
      changes = fewer
  return changes


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
  """Presets with their arguments, of the method, and as far as may be of dataset and images."""
  yield "method", method
  names = {theirs: ours for ours, theirs in DATASETS.items()}
  first = [names[dataset]] if dataset in names else []
  first += [f"{method}{classes}" for classes in (10, 100)]
  for preset in _files():
    starts = ["", *first, method]
    if preset == "method":
      starts = [method, *(f"{method},{name}" for name in [*first[:-2], "digits"])]
    for start in starts:
      for smoke in ("", "smoke"):
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
