"""`dcjax continual`: the flags of continual learning."""

from absl import flags
from dcjax.launch import command_line
from ml_collections import config_flags

from dcjax.applications import figure
from dcjax.applications.continual import continual
from dcjax.config import flatten
from dcjax.config.continual import SCENARIOS, default


def main(arguments: list[str]) -> None:
  """Runs `dcjax continual` with its arguments, and prints the accuracies."""
  values = command_line.parse(
    lambda: _flags(arguments),
    arguments,
    required=("config", "workdir"),
    more=_help(),
    fields=[name for scenario in SCENARIOS for name, _ in _fields(scenario)],
  )
  summary = continual(values.config, values.workdir, values.memories)
  print(figure.table(summary))
  print(f"Everything is in {values.workdir}")


def _fields(scenario: str) -> list[tuple[str, object]]:
  """The fields that a scenario adds to those of a method, with their defaults."""
  return list(flatten({"continual": default(scenario).continual.to_dict()}))


def _help() -> str:
  lines = [
    "Fields of the config, explained in dcjax/config/continual.py, beside those of a method:"
  ]
  for scenario in SCENARIOS:
    lines.append(f"For {scenario}:")
    lines += [f"  --config.{name}={value}" for name, value in _fields(scenario)]
  return "\n".join([*lines, "dcjax condense --help and dcjax select --help show the others."])


def _flags(arguments: list[str]) -> flags.FlagValues:
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Preset: a file with get_config(), and its argument after a colon.",
    flag_values=values,
    sys_argv=arguments,
  )
  text = {
    "workdir": "Folder of the runs, made if need be.",
    "memories": "Folder of the memories, which runs that train networks otherwise can share; by "
    "default the workdir's own.",
  }
  for name, meaning in text.items():
    flags.DEFINE_string(name, None, meaning, flag_values=values)
  return values
