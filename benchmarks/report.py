"""The benchmark's figures as Markdown tables, and the hardware that gave them.

python -m benchmarks.report [--short] FILE.json   prints the table of a file of theirs again.
"""

import datetime
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from dcjax.common import environment

SHORT = flags.DEFINE_bool("short", False, "Ratios and seconds of `run` alone.")

FRAMEWORKS = ("dcjax", "torch")
COMPILED = "torch.compile"
_TWO = 2  # ways of PyTorch that are told apart without a table of the best

HEADER = (
  "problem",
  "PyTorch / dcjax (min..max)",
  "s dcjax, PyTorch",
  "s compile",
  "GFLOP/s dcjax, PyTorch (shares of the product's)",
  "GB/s dcjax, PyTorch (shares of the copy's)",
  "peak MiB dcjax (data + compile + step)",
  "peak MiB PyTorch (the same)",
)
COMPILED_HEADER = (
  "problem",
  "compiled PyTorch / dcjax (min..max)",
  "s compiled PyTorch",
  "s compile",
  "peak MiB (data + compile + step)",
)
BEST_HEADER = ("problem", "fastest PyTorch", "PyTorch / dcjax (min..max)", "medians of all")
SCALING_HEADER = (
  "step",
  "along",
  "s",
  "s for the same arithmetic, beside the first",
  "GFLOP/s",
  "s compile",
  "peak MiB (data + compile + step)",
)

CHOICES_HEADER = (
  "step",
  "choice",
  "s",
  "times the default's (min..max)",
  "s compile",
  "peak MiB (data + compile + step)",
)

# Environment variables that change speed; the workers inherit them.
TUNING = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "OMP_", "KMP_", "MKL_", "XLA_FLAGS")


def hardware() -> dict[str, Any]:
  """Processor, cores that this process may use, system, tuning by the environment, and date."""
  return {
    "cpu": environment.processor(),
    "cores": environment.cores(),
    "system": platform.system(),
    "python": platform.python_version(),
    "environment": {k: v for k, v in os.environ.items() if k.startswith(TUNING)},
    "date": datetime.date.today().isoformat(),
  }


def render(results: dict[str, Any]) -> str:
  """The Markdown table of results of `run`, `scaling` or `choices`, and what measured them."""
  first = results["rows"][0]
  if "choice" in first:
    return choices_table(results)
  return scaling_table(results) if "axis" in first else table(results)


def table(results: dict[str, Any]) -> str:
  """Those of `run`: a row for each problem, and again where PyTorch was compiled."""
  found = markdown(HEADER, map(_cells, results["rows"]))
  compiled = [_compiled_cells(row) for row in results["rows"] if row.get("ratios_compiled")]
  if compiled:
    found += f"\n\n{markdown(COMPILED_HEADER, compiled)}"
  best = [_best_cells(row) for row in results["rows"] if len(row.get("ratios_of", ())) > _TWO]
  if best:
    found += f"\n\n{markdown(BEST_HEADER, best)}"
  return f"{found}\n\n{_measured_with(results)}"


def short_table(results: dict[str, Any]) -> str:
  """The first columns of that of `run`, for docs/results.md."""
  return markdown(HEADER[:3], (_cells(row)[:3] for row in results["rows"]))


def scaling_table(results: dict[str, Any]) -> str:
  """That of `scaling`: how steps grow along each axis."""
  cells, first = [], None
  for row in results["rows"]:
    if first is None or (row["axis"], row["setting"]["problem"]) != first[0]:
      first = (row["axis"], row["setting"]["problem"]), row["flops"]
    cells.append(
      (
        row["label"],
        row["axis"],
        f"{row['seconds']:.3g}",
        f"{first[1] / row['flops']:.2f}",
        f"{row['flops'] / 1e9:.0f}",
        f"{row['compile']:.1f}",
        _memory(row["memory"]),
      )
    )
  return markdown(SCALING_HEADER, cells) + f"\n\n{_measured_on(results)}."


def choices_table(results: dict[str, Any]) -> str:
  """That of `choices`: a row for each way to take a step."""
  cells = (
    (
      row["label"],
      row["choice"],
      f"{row['seconds']:.3g}",
      _spread(row["ratios"]),
      f"{row['compile']:.1f}",
      _memory(row["memory"]),
    )
    for row in results["rows"]
  )
  return markdown(CHOICES_HEADER, cells) + f"\n\n{_measured_on(results)}."


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A table of cells."""
  return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
  memory = row["memory"]
  return (
    row["label"],
    _spread(row["ratios"]),
    ", ".join(f"{row['median_seconds'][k]:.3g}" for k in FRAMEWORKS),
    f"{row['prepare_seconds']['dcjax']:.1f}",
    _rates(row, "flops", "share_of_product", "product_flops"),
    _rates(row, "bytes", "share_of_copy", "copy_bytes"),
    *(_memory(memory[k]) for k in FRAMEWORKS),
  )


def _compiled_cells(row: dict[str, Any]) -> tuple[str, ...]:
  return (
    row["label"],
    _spread(row["ratios_compiled"]),
    f"{row['median_seconds'][COMPILED]:.3g}",
    f"{row['prepare_seconds'][COMPILED]:.1f}",
    _memory(row["memory"][COMPILED]),
  )


def _best_cells(row: dict[str, Any]) -> tuple[str, ...]:
  medians = {name: statistics.median(ratios) for name, ratios in row["ratios_of"].items()}
  fastest = min(medians, key=lambda name: medians[name])
  names = {"torch": "eager"}
  return (
    row["label"],
    names.get(fastest, fastest),
    _spread(row["ratios_of"][fastest]),
    ", ".join(f"{names.get(name, name)} {value:.2f}" for name, value in medians.items()),
  )


def _spread(ratios: Sequence[float]) -> str:
  return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"


def _rates(row: dict[str, Any], rate: str, share: str, peak: str) -> str:
  rates = ", ".join(f"{row[rate][k] / 1e9:.0f}" for k in FRAMEWORKS)
  shares = ", ".join(f"{row[share][k]:.0%}" for k in FRAMEWORKS)
  return f"{rates} ({shares} of {row[peak] / 1e9:.0f})"


def _memory(memory: dict[str, int]) -> str:
  data, prepared, peak = (memory[key] / 2**20 for key in ("data", "prepared", "peak"))
  return f"{peak:.0f} ({data:.0f} + {prepared - data:.0f} + {peak - prepared:.0f})"


def _measured_with(results: dict[str, Any]) -> str:
  version = results["rows"][0]["about"]["torch"]["version"]
  block = results["arguments"]["torch_block"] or "all"
  return f"{_measured_on(results)}; PyTorch {version} takes {block} images of a batch at a time."


def _measured_on(results: dict[str, Any]) -> str:
  hardware, about = results["hardware"], results["rows"][0]["about"]["dcjax"]
  device = "" if about["backend"] == "cpu" else f"{about['device']}; "
  environment = "".join(f"; {key}={value}" for key, value in hardware["environment"].items())
  disturbed = sum(len(row["disturbed"]) for row in results["rows"])
  return (
    f"{device}{hardware['cpu']}, {hardware['cores']} cores; JAX {about['version']}; "
    f"{hardware['date']}; {results['arguments']['rounds']} rounds ({disturbed} disturbed ones left "
    f"out){environment}"
  )


def publish(results: dict[str, Any], out: str | None) -> None:
  """Prints the table of results, and writes these into a JSON file if one is given."""
  print(render(results))
  save(results, out)


def save(results: dict[str, Any], out: str | None) -> None:
  """Writes results into a JSON file, if one is given."""
  if out:
    Path(out).write_text(json.dumps(results, indent=2) + "\n")


def main(argv: list[str]) -> None:
  """Prints a file's table."""
  if len(argv) != 2:
    raise app.UsageError("give one FILE.json")
  results = json.loads(Path(argv[1]).read_text())
  print(short_table(results) if SHORT.value else render(results))


if __name__ == "__main__":
  app.run(main)
