"""Reads flags and presets; every mistake becomes a `UserError`."""

import re
from importlib import resources
from pathlib import Path

from absl import flags

from dcjax.errors import UserError


def parse(
  values: flags.FlagValues, arguments: list[str], required: tuple[str, ...], more: str = ""
) -> flags.FlagValues:
  """Parses the arguments of a command into its flags.

  Args:
    values: the flags of the command.
    arguments: the command's name and what follows it.
    required: flags that must be given.
    more: what `--help` shows below the flags.

  Returns:
    The flags, with their values.

  Raises:
    UserError: a flag or a config field is unknown, missing or has no such value.
    SystemExit: after `--help`.
  """
  command = arguments[0]
  if {"--help", "-h", "-help"} & set(arguments):
    print(f"dcjax {command}\n{values.get_help()}\n{more}")
    raise SystemExit(0)
  try:
    extra = values(_find_presets(arguments))[1:]
  except AttributeError as error:
    raise UserError(f"--config: {_unknown_field(str(error))}") from None
  except flags.Error as error:
    # ml_collections wraps what a preset raises into a traceback.
    raise UserError(str(error).rpartition("UserError: ")[2]) from None
  if extra:
    raise UserError(f"{command}: '{extra[0]}' is not a flag; write --name=value")
  for name in required:
    if values[name].value is None:
      raise UserError(f"--{name}: missing; see dcjax {command} --help")
  return values


def _unknown_field(text: str) -> str:
  """What ml_collections says of an unknown field, in our words."""
  field, *meant = re.findall(r"\w+", text.replace("\\n", " "))[:1] + re.findall(
    r'mean "(\w+)"', text
  )
  return f"no field '{field}'" + (f"; did you mean '{meant[0]}'?" if meant else "")


def _find_presets(arguments: list[str]) -> list[str]:
  """Lets `--config configs/X.py` mean the package's own preset where there is no such file."""
  found = list(arguments)
  for place, argument in enumerate(arguments):
    flag, equals, value = argument.lstrip("-").partition("=")
    if not argument.startswith("-") or flag != "config":
      continue
    if equals:
      found[place] = f"--config={_find_preset(value)}"
    elif place + 1 < len(arguments):
      found[place + 1] = _find_preset(arguments[place + 1])
  return found


def _find_preset(value: str) -> str:
  path, colon, argument = value.partition(":")
  packaged = Path(str(resources.files("dcjax.configs"))) / Path(path).name
  if Path(path).is_file():
    return value
  if packaged.is_file():
    return f"{packaged}{colon}{argument}"
  known = sorted(f"configs/{file.name}" for file in packaged.parent.glob("[a-z]*.py"))
  raise UserError(f"--config: no file {path}; presets are {', '.join(known)}")
