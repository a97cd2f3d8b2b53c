"""`dcjax table`: the flags of a table."""

from absl import flags
from dcjax.launch import command_line

from dcjax.commands import table
from dcjax.common.errors import UserError
from dcjax.tables import TABLES

HELP = """Also --config.field=value, for all cells whose method has the field: the budget
(iterations, batch_real, evaluation.networks, evaluation.epochs) and dataset.data_dir, say.
Without --table it lists the tables, with the names of their rows and columns.
"""


def main(arguments: list[str]) -> None:
  """Runs `dcjax table` with its arguments, and prints the table."""
  flags_given, changes = _split(arguments)
  values = command_line.parse(_flags, flags_given, required=(), more=lambda: HELP)
  if values.list or values.table is None:
    print(_listing())
    return
  chosen = table.find(values.table)
  if not values.workdir:
    raise UserError("--workdir: missing; see dcjax table --help")
  text = table.fill(
    chosen,
    values.workdir,
    rows=values.rows,
    columns=values.columns,
    seeds=None if values.seeds is None else _numbers(values.seeds),
    collect=values.collect,
    condense=values.condense,
    changes=changes,
  )
  print(text)
  print(f"Everything is in {values.workdir}")


def _split(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
  """The arguments without `--config.field=value`, and the values by field."""
  changes: dict[str, str] = {}
  rest = []
  for argument in arguments:
    name, equals, value = argument.lstrip("-").partition("=")
    if not argument.startswith("-") or not name.startswith("config."):
      rest.append(argument)
    elif not equals:
      raise UserError(f"--{name}: without a value; write --{name}=VALUE")
    else:
      changes[name.removeprefix("config.")] = value
  return rest, changes


def _numbers(texts: list[str]) -> list[int]:
  try:
    return [int(text) for text in texts]
  except ValueError:
    raise UserError(f"--seeds: '{','.join(texts)}' are not whole numbers; write 0,1,2") from None


def _listing() -> str:
  """All tables, and the names of their rows and columns."""
  lines = []
  for each in TABLES.values():
    rows, columns = (", ".join(line.name for line in part) for part in (each.rows, each.columns))
    lines += [f"{each.name}  {each.title}", f"  rows: {rows}", f"  columns: {columns}"]
  return "\n".join(lines)


def _flags() -> flags.FlagValues:
  text = {
    "table": f"Which: {', '.join(TABLES)}.",
    "workdir": "Folder of the table, its sets and its cells, made if need be.",
  }
  several = {
    "rows": "Rows to run, by name; all if not given.",
    "columns": "Columns to run, by name; all if not given.",
    "collect": "Folders to search for sets that were made with the same config.",
    "seeds": "One for each set; 0,1,... for as many as the paper has, if not given.",
  }
  values = command_line.optional({flags.DEFINE_string: text})
  for name, meaning in several.items():
    default = [] if name == "collect" else None
    flags.DEFINE_list(name, default, meaning, flag_values=values)
  made = "Whether to make the sets that are not found; otherwise their cells are not run."
  flags.DEFINE_bool("condense", True, made, flag_values=values)
  flags.DEFINE_bool("list", False, "Shows which tables there are.", flag_values=values)
  return values
