"""The benchmark's figures as a Markdown table, and the hardware that gave them."""

import datetime
import os
import platform
from typing import Any

from dcjax import environment

HEADER = (
  "problem",
  "PyTorch / dcjax (min..max)",
  "s dcjax",
  "s PyTorch",
  "s compile",
  "GFLOP/s dcjax (share of peak)",
  "GFLOP/s PyTorch (share)",
  "product GFLOP/s dcjax, PyTorch",
  "peak MiB dcjax (data + compile + step)",
  "peak MiB PyTorch (the same)",
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


def table(results: dict[str, Any]) -> str:
  """One Markdown table of all settings, and a line on what it was measured with."""
  rows = [HEADER, ("---",) * len(HEADER), *map(_cells, results["rows"])]
  lines = ["| " + " | ".join(cells) + " |" for cells in rows]
  return "\n".join([*lines, "", _measured_with(results)])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
  ratios, memory = row["ratios"], row["memory"]
  return (
    row["label"],
    f"{row['ratio']:.2f} ({min(ratios):.2f}..{max(ratios):.2f})",
    f"{row['median_seconds']['dcjax']:.3g}",
    f"{row['median_seconds']['torch']:.3g}",
    f"{row['prepare_seconds']['dcjax']:.1f}",
    *(f"{row['flops'][k] / 1e9:.0f} ({row['share_of_peak'][k]:.0%})" for k in ("dcjax", "torch")),
    ", ".join(f"{row['product_flops'][k] / 1e9:.0f}" for k in ("dcjax", "torch")),
    *(_memory(memory[k]) for k in ("dcjax", "torch")),
  )


def _memory(memory: dict[str, int]) -> str:
  data, prepared, peak = (memory[key] / 2**20 for key in ("data", "prepared", "peak"))
  return f"{peak:.0f} ({data:.0f} + {prepared - data:.0f} + {peak - prepared:.0f})"


def _measured_with(results: dict[str, Any]) -> str:
  hardware, about = results["hardware"], results["rows"][0]["about"]
  on = f"{hardware['cpu']}, {hardware['cores']} cores"
  if about["dcjax"]["backend"] != "cpu":
    on = f"{about['dcjax']['device']}; {on}"
  block = results["arguments"]["torch_block"] or "all"
  environment = "".join(f"; {key}={value}" for key, value in hardware["environment"].items())
  disturbed = sum(len(row["disturbed"]) for row in results["rows"])
  return (
    f"{on}; JAX {about['dcjax']['version']}, PyTorch {about['torch']['version']}; "
    f"{hardware['date']}; {results['arguments']['rounds']} rounds ({disturbed} disturbed ones left "
    f"out); PyTorch takes {block} images of a batch at a time{environment}."
  )
