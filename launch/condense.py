"""`dcjax condense`: the flags of a run."""

import logging

from absl import flags
from dcjax.launch import command_line
from dcjax.launch.field_help import CONDENSING, help_on_fields

from dcjax.commands.condense import condense
from dcjax.devices import processes
from dcjax.figures import accuracies
from dcjax.run.progress import logger


def main(arguments: list[str]) -> None:
  """Runs `dcjax condense` with its arguments, and prints the table of accuracies."""
  values = command_line.parse(
    lambda: _flags(arguments),
    arguments,
    required=("config", "workdir"),
    more=lambda: help_on_fields(*CONDENSING),
  )
  processes.join(values.coordinator, values.processes, values.process)
  if not processes.is_first():
    logger.setLevel(logging.WARNING)
  summary = condense(values.config, values.workdir, wandb=values.wandb)
  if processes.is_first():
    print(accuracies.table(summary["evaluations"]))
    print(accuracies.of_best(summary["evaluations"]), end="")
    print(f"Everything is in {values.workdir}")


def _flags(arguments: list[str]) -> flags.FlagValues:
  values = command_line.preset_flags(arguments, workdir="run")
  flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of the first of several processes that work as one run, each started by this "
    "command; 'auto' under SLURM, Open MPI or on a TPU pod, which also know the other two flags.",
    flag_values=values,
  )
  flags.DEFINE_integer("processes", None, "Number of processes.", flag_values=values)
  flags.DEFINE_integer("process", None, "Index of this process, from 0.", flag_values=values)
  flags.DEFINE_string(
    "wandb",
    "",
    "Project in Weights & Biases that the run is shown in, beside TensorBoard; needs "
    "'dcjax[wandb]', and WANDB_MODE=offline where there is no network.",
    flag_values=values,
  )
  return values
