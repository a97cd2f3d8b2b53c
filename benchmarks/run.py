"""Times dcjax beside PyTorch, in turns: see `README.md` here.

python -m benchmarks.run [--only dc,dsa,dm,idc,idm,training] [--real N] [--rounds 5]
  [--torch_block 0] [--[no]torch_compile] [--best] [--out FILE.json]
"""

import importlib.util
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags

from benchmarks import agreement, problem, report, timing
from benchmarks.errors import BenchmarkError, leave
from benchmarks.problem import Setting
from benchmarks.process import NONE, Process
from benchmarks.report import COMPILED

ONLY = flags.DEFINE_list("only", [*problem.PROBLEMS], "What to time, with commas between.")
REAL = flags.DEFINE_integer(
  "real", None, "Real images of each class in one step; by default the papers'.", lower_bound=1
)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Pairs of steps that are timed.", lower_bound=1)
TORCH_BLOCK = flags.DEFINE_integer(
  "torch_block",
  0,
  "Real images, or images to train on, that PyTorch takes together; 0: the whole batch.",
  lower_bound=0,
)
TORCH_COMPILE = flags.DEFINE_bool(
  "torch_compile", None, "Whether to time compiled PyTorch, too; by default on a GPU."
)
BEST = flags.DEFINE_bool(
  "best", False, "Also beside the fastest of PyTorch's other ways: compiled, in blocks, ..."
)
OUT = flags.DEFINE_string("out", None, "JSON file for the figures.")


# Of each other way that PyTorch may be faster in: images together, if not all that are asked for,
# whether it is compiled, and its environment. An allocator that keeps memory has no pages to clear.
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
WAYS: dict[str, tuple[int | None, bool, Mapping[str, str]]] = {
  COMPILED: (None, True, NONE),
  "blocks of 16": (16, False, NONE),
  "memory kept": (None, False, KEPT),
  "blocks of 16, memory kept": (16, False, KEPT),
}


@flags.validator("only", f"give some of {', '.join(problem.PROBLEMS)}, with commas between")
def _known(names: Sequence[str]) -> bool:
  return bool(names) and set(names) <= set(problem.PROBLEMS)


def run(
  problems: Sequence[str],
  real: int | None,
  rounds: int,
  torch_block: int,
  torch_compile: bool | None,
  best: bool = False,
) -> dict[str, Any]:
  """Runs the benchmark at all settings of some problems.

  Args:
    problems: some of `problem.PROBLEMS`.
    real: real images of each class; None: the papers'.
    rounds: pairs of steps.
    torch_block: images that PyTorch takes together; 0 for the whole batch.
    torch_compile: whether PyTorch is timed compiled, too; None: on a GPU.
    best: whether it is timed in all `WAYS`.

  Returns:
    `hardware`, `arguments` and `rows`, one for each setting.

  Raises:
    BenchmarkError: the frameworks find different numbers or use different devices.
  """
  rows = [
    _row(setting, rounds, torch_block, torch_compile, best)
    for setting in problem.settings(problems, real)
  ]
  arguments = {"only": problems, "real": real, "rounds": rounds, "torch_block": torch_block}
  return {"hardware": report.hardware(), "arguments": arguments, "rows": rows}


def _row(
  setting: Setting, rounds: int, torch_block: int, torch_compile: bool | None, best: bool
) -> dict[str, Any]:
  dcjax = Process("benchmarks.jax_worker", setting)
  torch = Process("benchmarks.torch_worker", setting, torch_block)
  workers = {"dcjax": dcjax, "torch": torch}
  try:
    about = {name: worker.call("about") for name, worker in workers.items()}
    if about["dcjax"]["backend"] != about["torch"]["backend"]:
      raise BenchmarkError(
        f"JAX runs on {about['dcjax']['backend']}, PyTorch on {about['torch']['backend']}; "
        "install the same kind of both, or hide the GPU with JAX_PLATFORMS=cpu "
        "CUDA_VISIBLE_DEVICES="
      )
    differences = agreement.check(dcjax, torch, setting)
    on_gpu = about["torch"]["backend"] == "gpu"
    compiled = torch_compile or (torch_compile is None and on_gpu)
    for name in WAYS if best else [COMPILED] * bool(compiled):
      block, is_compiled, environment = WAYS[name]
      workers[name] = Process(
        "benchmarks.torch_worker", setting, torch_block if block is None else block, is_compiled,
        environment=environment,
      )  # fmt: skip
      agreement.check(dcjax, workers[name], setting)
    times = timing.in_turns(workers, rounds)
  finally:
    for worker in workers.values():
      worker.close()
  row = {"label": setting.label(), "setting": setting._asdict(), "differences": differences}
  return row | times | _summary(setting, times) | {"about": about}


def _summary(setting: Setting, times: dict[str, Any]) -> dict[str, Any]:
  """The ratio pair by pair, and arithmetic and traffic a second beside product and copy."""
  ratios = {
    name: [theirs / ours for ours, theirs in zip(times["seconds"]["dcjax"], seconds, strict=True)]
    for name, seconds in times["seconds"].items()
  }
  median = {name: statistics.median(values) for name, values in times["seconds"].items()}
  flops = {name: problem.arithmetic(setting) / value for name, value in median.items()}
  moved = {name: problem.traffic(setting) / value for name, value in median.items()}
  return {
    "ratios": ratios["torch"],
    "ratio": statistics.median(ratios["torch"]),
    "ratios_compiled": ratios.get(COMPILED),
    "ratios_of": {name: values for name, values in ratios.items() if name != "dcjax"},
    "median_seconds": median,
    "flops": flops,
    "share_of_product": {name: value / times["product_flops"] for name, value in flops.items()},
    "bytes": moved,
    "share_of_copy": {name: value / times["copy_bytes"] for name, value in moved.items()},
  }


def main(argv: list[str]) -> None:
  """Runs the benchmark, prints its table and writes its file."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  if importlib.util.find_spec("torch") is None:
    leave("run", "PyTorch is not installed: pip install 'dcjax[bench]'")
  given = ONLY.value, REAL.value, ROUNDS.value, TORCH_BLOCK.value, TORCH_COMPILE.value
  try:
    results = run(*given, BEST.value)
  except BenchmarkError as error:
    leave("run", error)
  report.publish(results, OUT.value)


if __name__ == "__main__":
  app.run(main)
