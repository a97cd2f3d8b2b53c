"""Reads flags and presets; every mistake becomes a `UserError`."""

import re
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from absl import flags
from dcjax.launch.field_help import fields_of
from ml_collections import config_flags

from dcjax.common.errors import UserError, nearest
from dcjax.common.registry import METHODS

_LONGEST = 250  # characters of another's message


def parse(
  define: Callable[[], flags.FlagValues],
  arguments: list[str],
  required: tuple[str, ...],
  more: Callable[[], str] = lambda: "",
  fields: Iterable[str] = (),
  words: list[str] | None = None,
) -> flags.FlagValues:
  """Parses the arguments of a command into its flags.

  Args:
    define: makes the flags of the command.
    arguments: the command's name and what follows it.
    required: flags that must be given.
    more: makes what `--help` shows below the flags.
    fields: that a config may have beside those of a method.
    words: takes the arguments that are no flags; None: there must be none.

  Returns:
    The flags, with their values.

  Raises:
    UserError: a flag or a config field is unknown, missing or has no such value.
    SystemExit: after `--help`.
  """
  command = arguments[0]
  if {"--help", "-h", "-help"} & set(arguments):
    print(f"dcjax {command}\n{define().get_help()}\n{more()}")
    raise SystemExit(0)
  found = _find_presets(arguments)
  try:
    values = define()
    extra = values(found)[1:]
    if "config" in values and values["config"].present:
      getattr(values.config, "keys", None)  # an OSError of the preset is raised only now
  except Exception as error:  # a preset of the user's own may raise anything
    _check_preset(error, found)
    _check_field(error, arguments, fields)
    raise UserError(f"{_line(error)}; see dcjax {command} --help") from None
  if words is not None:
    words.extend(extra)
  elif extra:
    raise UserError(f"{command}: '{extra[0]}' is not a flag; write --name=value")
  for name in required:
    if not values[name].present:
      raise UserError(f"--{name}: missing; see dcjax {command} --help")
    if values[name].value == "":
      raise UserError(f"--{name}: empty; see dcjax {command} --help")
  return values


def preset_flags(arguments: list[str], *, workdir: str = "", default: str = "") -> flags.FlagValues:
  """The flags `--config` and `--workdir`, for a command to add its own to.

  Args:
    arguments: the command's name and what follows it.
    workdir: what is made in the folder; empty: the command has none.
    default: what `--help` calls the preset that is taken when none is given.
  """
  values = flags.FlagValues()
  otherwise = f"; by default {default}" if default else ""
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Preset: a Python file with get_config(), which is run, and its argument after a colon"
    f"{otherwise}.",
    flag_values=values,
    sys_argv=arguments,
  )
  if workdir:
    meaning = f"Folder of the {workdir}, made if need be."
    flags.DEFINE_string("workdir", None, meaning, flag_values=values)
  return values


def _check_preset(error: BaseException | None, arguments: list[str]) -> None:
  """Raises `UserError` if a preset has failed, with the line of its file."""
  file = next((value.partition(":")[0] for _, value in _presets(arguments)), "")
  while error is not None:  # ml_collections wraps some errors into others
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
      lines = [error.lineno]
    if lines and isinstance(error, UserError):
      raise error from None
    if lines:
      reason = error.msg if isinstance(error, SyntaxError) else _line(error)
      raise UserError(
        f"--config: the preset fails in {file}, line {lines[-1]}, with {type(error).__name__}: "
        f"{reason}; mend it"
      ) from None
    error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
  """The message of an error in one line of some length."""
  return textwrap.shorten(str(error), _LONGEST, placeholder=" ...")


def _check_field(error: Exception, arguments: list[str], more: Iterable[str]) -> None:
  """Raises `UserError` if the error is about a field that the preset does not have.

  Args:
    error: what reading the flags has raised.
    arguments: of the command.
    more: fields that a config may have beside those of a method.
  """
  words = re.findall(r"[\w.]+", str(error))  # the first is a part of the field, or it is all there
  if not words or not isinstance(error, AttributeError | KeyError):
    return
  known = {name for method in METHODS for name in fields_of(method)}.union(more)
  known.update(re.findall(r'mean "(\w+)"', str(error)))
  for field in _given_fields(arguments):
    if field not in words and words[0] not in field.split("."):
      continue
    if field not in known:
      raise UserError(f"--config: no field '{field}'; {nearest(field, known)}") from None
    raise UserError(
      f"--config: the preset has no field '{field}', only those of its method; leave it out"
    ) from None


def _given_fields(arguments: list[str]) -> list[str]:
  """The fields that `--config.field=value` sets, by their dotted names."""
  flags_given = [a.lstrip("-").partition("=")[0] for a in arguments if a.startswith("-")]
  return [name.removeprefix("config.") for name in flags_given if name.startswith("config.")]


def _find_presets(arguments: list[str]) -> list[str]:
  """Lets `--config configs/X.py` mean the package's own preset where there is no such file."""
  found = list(arguments)
  for position, value in _presets(arguments):
    flag = "--config=" if arguments[position].startswith("-") else ""
    found[position] = flag + _find_preset(value)
  return found


def _presets(arguments: list[str]) -> Iterator[tuple[int, str]]:
  """The positions of arguments that name a preset, and the presets."""
  for position, argument in enumerate(arguments):
    flag, equals, value = argument.lstrip("-").partition("=")
    if not argument.startswith("-") or flag != "config":
      continue
    if equals:
      yield position, value
    elif position + 1 < len(arguments):
      yield position + 1, arguments[position + 1]


def _find_preset(value: str) -> str:
  path, colon, argument = value.partition(":")
  presets = Path(str(resources.files("dcjax.configs")))
  packaged = presets / Path(path).name
  if Path(path).is_file():
    return value
  if Path(path).parent == Path("configs") and packaged.is_file():
    return f"{packaged}{colon}{argument}"
  known = sorted(f"configs/{file.name}" for file in presets.glob("[a-z]*.py"))
  raise UserError(f"--config: no file '{path}'; {nearest(path, known)}")


def optional(kinds: Mapping[Callable[..., Any], Mapping[str, str]]) -> flags.FlagValues:
  """Flags that are None where they are not given.

  Args:
    kinds: by the function of absl that defines them, what each means, by its name.
  """
  values = flags.FlagValues()
  for define, meanings in kinds.items():
    for name, meaning in meanings.items():
      define(name, None, meaning, flag_values=values)
  return values


def given(values: flags.FlagValues) -> dict[str, Any]:
  """The values of the flags that are not None, by their names."""
  return {name: value for name, value in values.flag_values_dict().items() if value is not None}


def numbers(name: str, texts: list[str], remedy: str) -> tuple[float, ...]:
  """The numbers of a flag that is a list; raises `UserError` if one is none."""
  try:
    return tuple(map(float, texts))
  except ValueError:
    raise UserError(f"--{name}: {','.join(texts)} are not numbers; {remedy}") from None
