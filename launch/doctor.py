"""`dcjax doctor`: what it prints."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from absl import flags

from dcjax.commands import doctor
from dcjax.common import quantities

BROKEN = 1  # exit code, where a run would fail
HELP = """Nothing is downloaded. The exit code is 0 where runs work, perhaps with remarks, and 1
where a run would fail; a line says why.
"""


def main(arguments: list[str]) -> None:
  """Runs `dcjax doctor` with its arguments, prints what it finds, and exits."""
  options = {} if doctor.installation_problems() else _options(arguments)
  as_json = options.pop("json", "--json" in arguments)
  report = doctor.examine(**options)
  print(json.dumps(report, indent=2) if as_json else "\n".join(lines(report)))
  if any(each["broken"] for each in report["problems"]):
    raise SystemExit(BROKEN)


def _options(arguments: list[str]) -> dict[str, Any]:
  from dcjax.launch import command_line  # which takes jax

  values = command_line.parse(_flags, arguments, required=(), more=lambda: HELP)
  return command_line.given(values)


def _flags() -> flags.FlagValues:
  values = flags.FlagValues()
  text = {
    "data_dir": "Where datasets may be, beside the cache.",
    "cache_dir": "Where datasets are kept; by default ~/.cache/dcjax.",
    "runs": "Folder in which runs are; by default runs.",
  }
  for name, meaning in text.items():
    flags.DEFINE_string(name, None, meaning, flag_values=values)
  flags.DEFINE_bool("json", False, "Prints the same as JSON.", flag_values=values)
  return values


def lines(report: dict[str, Any]) -> Iterator[str]:
  """The report as aligned text; what was not looked at is left out."""
  yield from _section(
    "Versions", [(name, each or "not installed") for name, each in report["versions"].items()]
  )
  yield from _section("Devices", map(_device, report["devices"]))
  yield from _section("Folders", [_folder(*each) for each in report["folders"].items()])
  yield from _section("Datasets", [_dataset(*each) for each in report["datasets"].items()])
  if report["product"]:
    yield from _section("Matrix product, as measured, which is no bound", [_product(report)])
  yield "Problems" if report["problems"] else "No problems"
  for each in report["problems"]:
    yield f"  {'broken' if each['broken'] else 'remark'}: {each['what']}; {each['remedy']}"


def _section(title: str, rows: Iterable[Sequence[str]]) -> Iterator[str]:
  rows = list(rows)
  if rows:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield title
    for row in rows:
      yield f"  {'  '.join(map(str.ljust, row, widths))}".rstrip()
    yield ""


def _device(each: dict[str, Any]) -> tuple[str, ...]:
  memory = each["memory_bytes"]
  shown = "memory unknown" if memory is None else f"{quantities.size(memory)} of memory"
  return each["platform"], each["kind"], f"x {each['number']}", shown


def _folder(name: str, each: dict[str, Any]) -> tuple[str, ...]:
  free = quantities.size(each["free_bytes"])
  state = f"{free} free" if each["writable"] else "cannot be written to"
  return name, each["path"], quantities.size(each["bytes"]), state


def _dataset(name: str, each: dict[str, Any]) -> tuple[str, ...]:
  return name, each["path"] or f"not here; {quantities.size(each['download_bytes'])} to download"


def _product(report: dict[str, Any]) -> tuple[str, ...]:
  side, seconds, gflops, dtype = (
    report["product"][name] for name in ("side", "seconds", "gflops", "dtype")
  )
  return f"{side} x {side}", dtype, f"{seconds:.3g} s", f"{gflops:,.0f} GFLOP/s"
