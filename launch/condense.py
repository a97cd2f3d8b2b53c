"""`dcjax condense`: the flags of a run."""

from typing import Any

from absl import flags
from dcjax.launch import command_line
from ml_collections import config_flags

import dcjax.config
from dcjax import report
from dcjax.condense import condense

FIELDS_HEADING = "Fields of the config with their defaults, explained in dcjax/config.py:"


def main(arguments: list[str]) -> None:
  """Runs `dcjax condense` with its arguments, and prints the table of accuracies."""
  values = command_line.parse(
    lambda: _flags(arguments), arguments, required=("config", "workdir"), more=_help_on_fields()
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


def _help_on_fields() -> str:
  """All fields of the config, for `--help`: DC's, then what differs for the other methods."""
  fields = {method: _fields(method) for method in ("dc", "dsa", "dm")}
  lines = [FIELDS_HEADING, *_lines(fields["dc"])]
  for method in ("dsa", "dm"):
    differing = dict(sorted(fields[method].items() - fields["dc"].items(), key=str))
    lines += [f"For {method.upper()}:", *_lines(differing)]
  return "\n".join(lines)


def _fields(method: str) -> dict[str, Any]:
  return dict(dcjax.config.flatten(dcjax.config.default(method).to_dict()))


def _lines(fields: dict[str, Any]) -> list[str]:
  return [f"  --config.{name}={value}" for name, value in fields.items() if name != "method"]
