"""`dcjax nas`: the flags of an architecture search."""

from typing import Any

from absl import flags
from dcjax.launch import command_line
from dcjax.launch.field_help import meanings_of, own_fields, section_lines

from dcjax.applications.nas import ranking
from dcjax.applications.nas.driver import search
from dcjax.applications.nas.fields import default_search, meanings
from dcjax.config import flatten


def main(arguments: list[str]) -> None:
  """Runs `dcjax nas` with its arguments, and prints the table of the sets."""
  values = command_line.parse(
    lambda: _flags(arguments),
    arguments,
    required=("config", "workdir"),
    more=_help,
    fields=_fields(),
  )
  summary = search(values.config, values.workdir, values.synthetic)
  print(ranking.table(summary["sets"]))
  print(f"Everything is in {values.workdir}")


def _fields() -> dict[str, Any]:
  return dict(flatten(default_search().to_dict()))


def _help() -> str:
  known, search = meanings_of("herding"), meanings()
  own = {"Coresets": own_fields("herding"), "The search": search}
  return "\n".join(section_lines(_fields(), known | search, own))


def _flags(arguments: list[str]) -> flags.FlagValues:
  values = command_line.preset_flags(arguments, workdir="search")
  flags.DEFINE_list(
    "synthetic",
    [],
    "Saved sets to train on besides search.sets: synthetic.npz of runs, with commas between.",
    flag_values=values,
  )
  return values
