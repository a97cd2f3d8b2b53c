"""`dcjax select`: the flags of a selection of real images."""

from absl import flags
from dcjax.launch import command_line
from dcjax.launch.field_help import help_on_fields

from dcjax.commands.select import SELECTIONS, select
from dcjax.figures import accuracies
from dcjax.methods import coreset

PRESET = "configs/coreset.py"


def main(arguments: list[str]) -> None:
  """Runs `dcjax select` with its arguments, and prints the table of accuracies."""
  arguments = _with_preset(arguments)
  values = command_line.parse(
    lambda: _flags(arguments),
    arguments,
    required=("workdir",),
    more=lambda: help_on_fields("herding", "rded"),
  )
  if values.method is not None:
    values.config.method = values.method
  coreset.check_used(values.config)
  summary = select(values.config, values.workdir)
  if summary["evaluations"]:
    print(accuracies.table(summary["evaluations"]))
  print(f"Everything is in {values.workdir}")


def _with_preset(arguments: list[str]) -> list[str]:
  """The arguments with `--config`, if they have none."""
  names = {argument.lstrip("-").partition("=")[0] for argument in arguments[1:]}
  preset = [] if "config" in names else [f"--config={PRESET}"]
  return [arguments[0], *preset, *arguments[1:]]


def _flags(arguments: list[str]) -> flags.FlagValues:
  values = command_line.preset_flags(arguments, workdir="selection", default=PRESET)
  methods = ", ".join(SELECTIONS)
  meaning = f"How to choose: {methods}; by default what the preset says."
  flags.DEFINE_string("method", None, meaning, flag_values=values)
  return values
