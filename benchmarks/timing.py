"""Times workers in turns, in rounds that no other process disturbs.

A busy machine does not slow all programs alike: PyTorch's threads wait for each other after each
operation, and one core taken by others made its step four to five times slower, dcjax's twice.
"""

import time
from typing import Any

from benchmarks import problem, process
from benchmarks.errors import BenchmarkError
from benchmarks.process import Process

DISTURBED = 0.1  # a round counts if other processes took no more cores than this, on average
ATTEMPTS = 3  # rounds tried for each that is asked for
PATIENCE = 600  # seconds to wait for the machine to fall quiet before a round


def in_turns(workers: dict[str, Process], rounds: int) -> dict[str, Any]:
  """Prepares all workers, then takes their steps in turns, products of matrices, and copies.

  Args:
    workers: by name; a round goes through them in this order.
    rounds: how many rounds must count.

  Returns:
    `prepare_seconds` of each worker, `seconds` of its steps, `memory` (after the steps), the
    fastest product of matrices and the fastest copy of either (`product_flops`, `copy_bytes`, a
    second), `cores_taken_by_others` in each round, and the `disturbed` rounds, which do not count.

  Raises:
    BenchmarkError: the machine is too busy.
  """
  prepare_seconds = {name: worker.call("prepare") for name, worker in workers.items()}
  counted: list[dict[str, Any]] = []
  disturbed: list[dict[str, Any]] = []
  products: list[float] = []
  while len(counted) < rounds:
    if len(counted) + len(disturbed) == ATTEMPTS * rounds:
      raise BenchmarkError(
        f"other processes disturbed {len(disturbed)} rounds; time on a quieter machine"
      )
    _wait_for_quiet(workers)
    result = _round(workers)
    (counted if result["others"] <= DISTURBED else disturbed).append(result)
    products += [w.call("product", *shape) for w in workers.values() for shape in problem.PRODUCTS]
  memory = {name: worker.call("memory") for name, worker in workers.items()}
  copies = [worker.call("copy") for _ in range(rounds) for worker in workers.values()]
  return {
    "prepare_seconds": prepare_seconds,
    "seconds": {name: [result[name] for result in counted] for name in workers},
    "memory": memory,
    "product_flops": max(products),
    "copy_bytes": max(copies),
    "cores_taken_by_others": [result["others"] for result in counted],
    "disturbed": disturbed,
  }


def _round(workers: dict[str, Process]) -> dict[str, float]:
  """Seconds of one step of each, and the cores that `others` took meanwhile."""
  before, start = _cpu_of_others(workers), time.perf_counter()
  seconds = {name: worker.call("step") for name, worker in workers.items()}
  others = (_cpu_of_others(workers) - before) / (time.perf_counter() - start)
  return seconds | {"others": others}


def _wait_for_quiet(workers: dict[str, Process]) -> None:
  for _ in range(PATIENCE):
    before = _cpu_of_others(workers)
    time.sleep(1)
    if _cpu_of_others(workers) - before <= DISTURBED:
      return
  raise BenchmarkError(f"other processes kept the machine busy for {PATIENCE} s; try again later")


def _cpu_of_others(workers: dict[str, Process]) -> float:
  """Seconds of processor time that went to anything but the workers."""
  return process.machine_cpu_seconds() - sum(w.cpu_seconds() for w in workers.values())
