"""`dcjax condense`: the flags of a run."""

from absl import flags
from dcjax.launch import command_line
from ml_collections import config_flags

from dcjax import report
from dcjax.condense import condense


def main(arguments: list[str]) -> None:
  """Runs `dcjax condense` with its arguments, and prints the table of accuracies."""
  fields = command_line.help_on_fields("dc", "dsa", "dm", "idc", "idm")
  values = command_line.parse(
    lambda: _flags(arguments), arguments, required=("config", "workdir"), more=fields
  )
  summary = condense(values.config, values.workdir)
  print(report.table(summary["evaluations"]))
  print(f"Everything is in {values.workdir}")


def _flags(arguments: list[str]) -> flags.FlagValues:
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Preset: a file with get_config(), and its argument after a colon.",
    flag_values=values,
    sys_argv=arguments,
  )
  flags.DEFINE_string("workdir", None, "Folder of the run, made if need be.", flag_values=values)
  return values
