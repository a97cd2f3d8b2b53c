"""`dcjax status`: which runs to look at."""

from dcjax.commands.status import status
from dcjax.common.errors import UserError

HELP = """dcjax status W [W2 ...]
  W is the folder of a run or a selection, in use or not, or a folder of such folders, such as that
  of a table. Of one run it shows iterations, speed, accuracies and how it goes on; of several runs
  a line each.
"""


def main(arguments: list[str]) -> None:
  """Runs `dcjax status` with its arguments, and prints what it finds."""
  workdirs = arguments[1:]
  if {"--help", "-help", "-h"} & set(workdirs):
    print(HELP)
    return
  for argument in workdirs:
    if argument.startswith("-"):
      raise UserError(f"status: no flag '{argument}'; write dcjax status W, or several")
  print(status(workdirs))
