"""`dcjax experts`: the flags of the training of experts."""

import numpy as np
from dcjax.launch import command_line
from dcjax.launch.field_help import help_on_fields

from dcjax.commands.experts import experts


def main(arguments: list[str]) -> None:
  """Runs `dcjax experts` with its arguments, and says how good they are."""
  values = command_line.parse(
    lambda: command_line.preset_flags(arguments, workdir="experts"),
    arguments,
    required=("config", "workdir"),
    more=lambda: help_on_fields("tm"),
  )
  trained = experts(values.config, values.workdir)["experts"]
  accuracies = [100 * expert["accuracy"] for expert in trained]
  print(
    f"{len(trained)} experts, {np.mean(accuracies):.2f} +- {np.std(accuracies):.2f} % of the test "
    f"images right\nTo use them: --config.experts.folder={values.workdir} "
    f"--config.experts.networks={len(trained)}"
  )
