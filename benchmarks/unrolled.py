"""The gradient through a training: its memory by length and images, and its time beside PyTorch.

python -m benchmarks.unrolled [--steps 50] [--rounds 3] [--real 256] [--[no]memory] [--out F.json]
"""

import importlib.util
import statistics
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import errors, report
from benchmarks.process import Process
from benchmarks.unrolled_worker import begin, method, network, program

FRAMEWORKS, KINDS = ("dcjax", "torch"), ("sgd", "adam", "tm")
LENGTHS, IPCS = (10, 50), (1, 10)  # of the table of memory
REAL_THERE = 64  # real images of the loss, in that table
TOLERANCE = 0.03  # of the gradient's norm, which many steps in float32 part

STEPS = flags.DEFINE_integer("steps", 50, "Steps of the training that is timed.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Times that each is timed.", lower_bound=1)
REAL = flags.DEFINE_integer("real", 256, "Real images of the loss.", lower_bound=1)
MEMORY = flags.DEFINE_bool("memory", True, "Also the compiler's table of memory.")
OUT = flags.DEFINE_string("out", None, "JSON file for the figures.")


def timed(steps: int, real: int, rounds: int, kind: str) -> dict[str, Any]:
  """Both in turns, one image a class; seconds of an iteration, ratios within a round, and bytes."""
  workers = {
    name: Process("benchmarks.unrolled_worker", name, steps, real, kind) for name in FRAMEWORKS
  }
  ours, theirs = (worker.call("numbers") for worker in workers.values())
  if not np.allclose(ours, theirs, rtol=TOLERANCE):
    raise errors.BenchmarkError(f"{kind}: {ours} here, {theirs} by PyTorch")
  turns = [{name: worker.call("step") for name, worker in workers.items()} for _ in range(rounds)]
  memory = {name: worker.call("memory") for name, worker in workers.items()}
  for worker in workers.values():
    worker.close()
  return {
    "seconds": {name: statistics.median(turn[name] for turn in turns) for name in FRAMEWORKS},
    "ratios": sorted(turn["torch"] / turn["dcjax"] for turn in turns),
    "memory": memory,
  }


def memory() -> list[dict[str, Any]]:
  """What the compiler says of temporaries, over optimisers, segments, images and steps."""
  leaves = jax.tree.leaves(network().init(jax.random.key(0)))
  size = sum(leaf.nbytes for leaf in leaves)
  rows = []
  for kind, ipc, root in ((o, i, r) for o in KINDS for i in IPCS for r in (False, True)):
    found = []
    for steps in LENGTHS:
      made = method(steps, ipc, REAL_THERE, kind, int(steps**0.5) if root else 1)
      compiled = program(made, begin(made, REAL_THERE))
      found.append(compiled.memory_analysis().temp_size_in_bytes)
    growth = (found[1] - found[0]) / (LENGTHS[1] - LENGTHS[0]) / size
    row = {"kind": kind, "ipc": ipc, "segments": "root" if root else "1"}
    rows.append({**row, "bytes": found, "growth": growth})
  return rows


def main(argv: list[str]) -> None:
  """Measures, prints the tables and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  if importlib.util.find_spec("torch") is None:
    errors.leave("unrolled", "PyTorch is not installed: pip install 'dcjax[bench]'")
  results: dict[str, Any] = {"hardware": report.hardware(), "steps": STEPS.value}
  try:
    results["timed"] = {name: timed(STEPS.value, REAL.value, ROUNDS.value, name) for name in KINDS}
  except errors.BenchmarkError as error:
    errors.leave("unrolled", error)
  print(report.markdown(
    ("training", "s dcjax", "s PyTorch", "PyTorch / dcjax", "MiB dcjax", "MiB PyTorch"),
    [(
      name, *(f"{each:.3g}" for each in row["seconds"].values()),
      f"{statistics.median(row['ratios']):.2f} ({row['ratios'][0]:.2f}..{row['ratios'][-1]:.2f})",
      *(f"{each / 2**20:.0f}" for each in row["memory"].values()),
    ) for name, row in results["timed"].items()],
  ))  # fmt: skip
  if MEMORY.value:
    results["memory"] = memory()
    print(report.markdown(
      ("training", "images per class", "steps of a segment",
       *(f"MiB, {each} steps" for each in LENGTHS), "networks a step"),
      [(
        row["kind"], str(row["ipc"]), row["segments"],
        *(f"{each / 2**20:.0f}" for each in row["bytes"]), f"{row['growth']:.2f}",
      ) for row in results["memory"]],
    ))  # fmt: skip
  report.save(results, OUT.value)


if __name__ == "__main__":
  app.run(main)
