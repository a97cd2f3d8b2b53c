"""`dcjax continual`: the flags of continual learning."""

from typing import Any

from absl import flags
from dcjax.launch import command_line
from dcjax.launch.field_help import field_lines

from dcjax.applications.continual.driver import continual
from dcjax.applications.continual.fields import SCENARIOS, default, meanings
from dcjax.config import flatten
from dcjax.figures import forgetting


def main(arguments: list[str]) -> None:
  """Runs `dcjax continual` with its arguments, and prints the accuracies."""
  values = command_line.parse(
    lambda: _flags(arguments),
    arguments,
    required=("config", "workdir"),
    more=_help,
    fields=[name for scenario in SCENARIOS for name in _fields(scenario)],
  )
  summary = continual(values.config, values.workdir, values.memories)
  print(forgetting.table(summary))
  print(f"Everything is in {values.workdir}")


def _fields(scenario: str) -> dict[str, Any]:
  """The fields that a scenario adds to those of a method, with their defaults."""
  return dict(flatten({"continual": default(scenario).continual.to_dict()}))


def _help() -> str:
  lines = ["Fields of the config with their defaults, beside those of a method"]
  for scenario in SCENARIOS:
    lines += ["", f"For {scenario}:", *field_lines(_fields(scenario), meanings(scenario))]
  return "\n".join([*lines, "", "dcjax condense --help and dcjax select --help show the others."])


def _flags(arguments: list[str]) -> flags.FlagValues:
  values = command_line.preset_flags(arguments, workdir="runs")
  flags.DEFINE_string(
    "memories",
    None,
    "Folder of the memories, which runs that train networks otherwise can share; by default the "
    "workdir's own.",
    flag_values=values,
  )
  return values
