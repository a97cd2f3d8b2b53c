"""Reads flags and presets; every mistake becomes a `UserError`."""

from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from dcjax.config import METHODS, default, flatten
from dcjax.errors import UserError, nearest

FIELDS_HEADING = "Fields of the config with their defaults, explained in dcjax/config/defaults.py:"


def parse(
  define: Callable[[], flags.FlagValues],
  arguments: list[str],
  required: tuple[str, ...],
  more: str = "",
  fields: Iterable[str] = (),
) -> flags.FlagValues:
  """Parses the arguments of a command into its flags.

  Args:
    define: makes the flags of the command.
    arguments: the command's name and what follows it.
    required: flags that must be given.
    more: what `--help` shows below the flags.
    fields: that a config may have beside those of a method.

  Returns:
    The flags, with their values.

  Raises:
    UserError: a flag or a config field is unknown, missing or has no such value.
    SystemExit: after `--help`.
  """
  command = arguments[0]
  if {"--help", "-h", "-help"} & set(arguments):
    print(f"dcjax {command}\n{define().get_help()}\n{more}")
    raise SystemExit(0)
  _check_fields(arguments, fields)
  try:
    values = define()
    extra = values(_find_presets(arguments))[1:]
  except UserError:
    raise
  except flags.Error as error:
    # ml_collections wraps what a preset raises into a traceback.
    _, wrapped, message = str(error).rpartition("UserError: ")
    raise UserError(message if wrapped else f"{error}; see dcjax {command} --help") from None
  except Exception as error:  # a preset of the user's own may raise anything
    _check_missing(error, arguments)
    raise UserError(f"--config: the preset fails with {type(error).__name__}: {error}") from None
  if extra:
    raise UserError(f"{command}: '{extra[0]}' is not a flag; write --name=value")
  for name in required:
    if not values[name].present:
      raise UserError(f"--{name}: missing; see dcjax {command} --help")
    if values[name].value == "":
      raise UserError(f"--{name}: empty; see dcjax {command} --help")
  return values


def preset_flags(arguments: list[str], *, workdir: str, default: str = "") -> flags.FlagValues:
  """The flags `--config` and `--workdir`, for a command to add its own to.

  Args:
    arguments: the command's name and what follows it.
    workdir: what is made in the folder.
    default: what `--help` calls the preset that is taken when none is given.
  """
  values = flags.FlagValues()
  otherwise = f"; by default {default}" if default else ""
  config_flags.DEFINE_config_file(
    "config",
    None,
    f"Preset: a file with get_config(), and its argument after a colon{otherwise}.",
    flag_values=values,
    sys_argv=arguments,
  )
  meaning = f"Folder of the {workdir}, made if need be."
  flags.DEFINE_string("workdir", None, meaning, flag_values=values)
  return values


def help_on_fields(method: str, *others: str) -> str:
  """All fields of a method's config, for `--help`, then what differs for other methods."""
  fields = _fields(method)
  lines = [FIELDS_HEADING, *field_lines(fields)]
  for other in others:
    differing = dict(sorted(_fields(other).items() - fields.items(), key=str))
    del differing["method"]
    lines += [f"For {other.upper()}:", *field_lines(differing)]
  return "\n".join(lines)


def _fields(method: str) -> dict[str, Any]:
  """The fields of a method's config with their defaults, by their dotted names."""
  return dict(flatten(default(method).to_dict()))


def field_lines(fields: Mapping[str, Any]) -> list[str]:
  """A line of `--help` for each field of a config, from its dotted name and its default."""
  return [f"  --config.{name}={value}" for name, value in fields.items()]


def _check_fields(arguments: list[str], more: Iterable[str]) -> None:
  """Raises `UserError` for `--config.field=value` with a field that no config has."""
  known = {name for method in METHODS for name in _fields(method)}.union(more)
  for field in _given_fields(arguments):
    if field not in known:
      raise UserError(f"--config: no field '{field}'; {nearest(field, known)}")


def _check_missing(error: Exception, arguments: list[str]) -> None:
  """Raises `UserError` if what failed is a field that other methods have."""
  missing = str(error).strip("\"'")
  for field in _given_fields(arguments):
    if isinstance(error, AttributeError | KeyError) and missing in field.split("."):
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
  presets = Path(str(resources.files("dcjax.configs")))
  packaged = presets / Path(path).name
  if Path(path).is_file():
    return value
  if Path(path).parent == Path("configs") and packaged.is_file():
    return f"{packaged}{colon}{argument}"
  known = sorted(f"configs/{file.name}" for file in presets.glob("[a-z]*.py"))
  raise UserError(f"--config: no file '{path}'; presets are {', '.join(known)}")
