"""Times one image step of DC in dcjax and in eager PyTorch, in turns: see `README.md` here.

python -m benchmarks.dc_step [--real 256] [--rounds 5] [--torch_block 0] [--out FILE.json]
"""

import importlib.util
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import problem, report, timing
from benchmarks.errors import BenchmarkError
from benchmarks.problem import Setting
from benchmarks.process import Process

REAL = flags.DEFINE_integer("real", 256, "Real images of each class in one step.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Pairs of steps that are timed.", lower_bound=1)
TORCH_BLOCK = flags.DEFINE_integer(
  "torch_block", 0, "Real images that PyTorch takes together; 0: the whole batch.", lower_bound=0
)
OUT = flags.DEFINE_string("out", None, "JSON file for the figures.")
TOLERANCES = (1e-3, 1e-3, 1e-2)  # relative: see `_check`


def run(real: int, rounds: int, torch_block: int) -> dict[str, Any]:
  """Runs the benchmark at all settings.

  Args:
    real: real images of each class.
    rounds: pairs of steps.
    torch_block: real images that PyTorch takes together; 0 for the whole batch.

  Returns:
    `hardware`, `arguments` and `rows`, one for each setting.

  Raises:
    BenchmarkError: the frameworks find different numbers or use different devices.
  """
  rows = [_row(setting, rounds, torch_block) for setting in problem.settings(real)]
  arguments = {"real": real, "rounds": rounds, "torch_block": torch_block}
  return {"hardware": report.hardware(), "arguments": arguments, "rows": rows}


def _row(setting: Setting, rounds: int, torch_block: int) -> dict[str, Any]:
  dcjax = Process("benchmarks.jax_worker", setting)
  torch = Process("benchmarks.torch_worker", setting, torch_block)
  try:
    about = {"dcjax": dcjax.call("about"), "torch": torch.call("about")}
    if about["dcjax"]["backend"] != about["torch"]["backend"]:
      raise BenchmarkError(
        f"JAX runs on {about['dcjax']['backend']}, PyTorch on {about['torch']['backend']}; "
        "install the same kind of both, or hide the GPU with JAX_PLATFORMS=cpu "
        "CUDA_VISIBLE_DEVICES="
      )
    differences = _check(dcjax, torch, setting)
    times = timing.in_turns({"dcjax": dcjax, "torch": torch}, rounds)
    memory = {"dcjax": dcjax.call("memory"), "torch": torch.call("memory")}
  finally:
    dcjax.close()
    torch.close()
  row = {"setting": setting._asdict(), "differences": differences, "memory": memory}
  return row | times | _summary(setting, times) | {"about": about}


def _check(dcjax: Process, torch: Process, setting: Setting) -> dict[str, float]:
  """Gives both the same parameters, and refuses to time what does not agree.

  A ReLU whose input rounds to the other side of zero changes the gradient of its class by up to
  some thousandths, in either framework as against float64. Hence the bound on the median class.
  """
  torch.call("load", dcjax.call("parameters"))
  small = problem.small(setting)
  ours, theirs = (worker.call("match", small) for worker in (dcjax, torch))
  by_class = [_difference(a, b) for a, b in zip(ours[1], theirs[1], strict=True)]
  differences = {
    "distances": _difference(ours[0], theirs[0]),
    "image gradients, median class": statistics.median(by_class),
    "image gradients, worst class": max(by_class),
  }
  for (what, found), bound in zip(differences.items(), TOLERANCES, strict=True):
    if not found < bound:
      raise BenchmarkError(f"{setting.name}: {what}: a relative difference of {found:.1e}")
  return differences


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
  return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def _summary(setting: Setting, times: dict[str, Any]) -> dict[str, Any]:
  """The ratio pair by pair, and the arithmetic a second beside the fastest product."""
  ratios = [
    theirs / ours
    for ours, theirs in zip(times["seconds"]["dcjax"], times["seconds"]["torch"], strict=True)
  ]
  median = {name: statistics.median(values) for name, values in times["seconds"].items()}
  arithmetic = problem.arithmetic(setting)
  flops = {name: arithmetic / value for name, value in median.items()}
  peak = max(times["product_flops"].values())
  return {
    "ratios": ratios,
    "ratio": statistics.median(ratios),
    "median_seconds": median,
    "arithmetic": arithmetic,
    "flops": flops,
    "share_of_peak": {name: value / peak for name, value in flops.items()},
  }


def main(argv: list[str]) -> None:
  """Runs the benchmark, prints its table and writes its file."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  if importlib.util.find_spec("torch") is None:
    sys.exit(_failed("PyTorch is not installed: pip install 'dcjax[bench]'"))
  try:
    results = run(REAL.value, ROUNDS.value, TORCH_BLOCK.value)
  except BenchmarkError as error:
    sys.exit(_failed(error))
  print(report.table(results))
  if OUT.value:
    Path(OUT.value).write_text(json.dumps(results, indent=2) + "\n")


def _failed(message: object) -> int:
  print(f"benchmarks.dc_step: {message}", file=sys.stderr)
  return 2


if __name__ == "__main__":
  app.run(main)
