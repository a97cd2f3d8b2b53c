"""Where the time of a step goes, by kind of XLA operation: see `README.md` here.

python -m benchmarks.profile [--only dc --only dm ...] [--real N] [--steps 3]
"""

import collections
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from benchmarks import problem, report
from benchmarks.jax_worker import Worker
from benchmarks.problem import Setting

ONLY = flags.DEFINE_multi_enum("only", ["dc"], problem.PROBLEMS, "Whose steps to profile.")
REAL = flags.DEFINE_integer(
  "real", None, "Real images of each class in one step; by default the papers'.", lower_bound=1
)
STEPS = flags.DEFINE_integer("steps", 3, "Steps to look at.", lower_bound=1)

ROWS = 12  # kinds of operations in a table; the others are summed up
# Operations that only wait for those in them.
CONTAINERS = ("while", "call", "conditional")


def profile(setting: Setting, steps: int) -> dict[str, tuple[float, int]]:
  """Seconds, over all threads, and operations of each kind in one step, by name."""
  worker = Worker(setting)
  worker.prepare()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(steps):
        worker.step()
    (file,) = Path(folder).rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
  return summed(events, steps)


def summed(events: list[dict[str, Any]], steps: int) -> dict[str, tuple[float, int]]:
  """Seconds and operations of each kind in a step, the most first, from the events of a trace."""
  micros, counts = collections.Counter[str](), collections.Counter[str]()
  for event in events:
    kind = event.get("args", {}).get("hlo_op", "").partition(".")[0]
    if event.get("ph") == "X" and kind and kind not in CONTAINERS:
      micros[kind] += event["dur"]
      counts[kind] += 1
  return {kind: (time / 1e6 / steps, counts[kind] // steps) for kind, time in micros.most_common()}


def table(kinds: dict[str, tuple[float, int]]) -> str:
  """The kinds in Markdown, with their shares."""
  total = sum(seconds for seconds, _ in kinds.values())
  shown = [(kind, *found) for kind, found in kinds.items()]
  rest = shown[ROWS:]
  if rest:
    shown[ROWS:] = [(f"{len(rest)} others", sum(r[1] for r in rest), sum(r[2] for r in rest))]
  rows = [
    (kind, f"{seconds / total:.0%}", f"{seconds:.2f}", str(count)) for kind, seconds, count in shown
  ]
  return report.markdown(("operations", "share", "s of all threads", "number"), rows)


def main(argv: list[str]) -> None:
  """Prints a table for each row of `run`."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  for setting in problem.settings(ONLY.value, REAL.value):
    print(f"{setting.label()}\n\n{table(profile(setting, STEPS.value))}\n", flush=True)


if __name__ == "__main__":
  app.run(main)
