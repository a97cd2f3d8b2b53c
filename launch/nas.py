"""`dcjax nas`: the flags of an architecture search."""

from absl import flags
from dcjax.launch import command_line

from dcjax.applications.nas import ranking
from dcjax.applications.nas.driver import search
from dcjax.applications.nas.fields import default_search
from dcjax.config import flatten

HEADING = (
  "Fields of the config with their defaults, explained in dcjax/applications/nas/fields.py and\n"
  "dcjax/config/defaults.py:"
)


def main(arguments: list[str]) -> None:
  """Runs `dcjax nas` with its arguments, and prints the table of the sets."""
  fields = dict(flatten(default_search().to_dict()))
  lines = [HEADING, *command_line.field_lines(fields)]
  values = command_line.parse(
    lambda: _flags(arguments),
    arguments,
    required=("config", "workdir"),
    more="\n".join(lines),
    fields=fields,
  )
  summary = search(values.config, values.workdir, values.synthetic)
  print(ranking.table(summary["sets"]))
  print(f"Everything is in {values.workdir}")


def _flags(arguments: list[str]) -> flags.FlagValues:
  values = command_line.preset_flags(arguments, workdir="search")
  flags.DEFINE_list(
    "synthetic",
    [],
    "Saved sets to train on besides search.sets: synthetic.npz of runs, with commas between.",
    flag_values=values,
  )
  return values
