"""`dcjax select`: the flags of a selection of real images."""

import itertools

from absl import flags
from dcjax.launch import command_line
from dcjax.launch.field_help import help_on_fields
from ml_collections import ConfigDict

from dcjax.commands.select import RDED, SELECTIONS, select
from dcjax.common.errors import UserError
from dcjax.figures import accuracies
from dcjax.methods import coreset

PRESET, OWN = "configs/coreset.py", "configs/rded.py"  # of real images whole, of RDED


def main(arguments: list[str]) -> None:
  """Runs `dcjax select` with its arguments, and prints the table of accuracies."""
  arguments = _with_preset(arguments)
  values = command_line.parse(
    lambda: _flags(arguments),
    arguments,
    required=("workdir",),
    more=lambda: help_on_fields("herding", "rded"),
  )
  if isinstance(values.config, ConfigDict):  # else `select` says what is wrong
    _choose(values.config, values.method)
  summary = select(values.config, values.workdir)
  if summary["evaluations"]:
    print(accuracies.table(summary["evaluations"]))
  print(f"Everything is in {values.workdir}")


def _choose(config: ConfigDict, method: str | None) -> None:
  """Puts the method of the flag into a config, which must have its fields."""
  if method is not None:
    if method in SELECTIONS and (method == RDED) != (RDED in config):
      fitting = OWN if method == RDED else PRESET
      raise UserError(f"--method: {method} has other fields than this preset; give {fitting}")
    config.method = method
  coreset.check_used(config)


def _with_preset(arguments: list[str]) -> list[str]:
  """The arguments with `--config`, if they have none."""
  given = [argument.lstrip("-") for argument in arguments[1:]]
  if any(each.partition("=")[0] == "config" for each in given):
    return arguments
  own = f"method={RDED}" in given or ("method", RDED) in itertools.pairwise(given)
  return [arguments[0], f"--config={OWN if own else PRESET}", *arguments[1:]]


def _flags(arguments: list[str]) -> flags.FlagValues:
  values = command_line.preset_flags(arguments, workdir="selection", default=PRESET)
  methods = ", ".join(SELECTIONS)
  meaning = f"How to choose: {methods}; by default what the preset says."
  flags.DEFINE_string("method", None, meaning, flag_values=values)
  return values
