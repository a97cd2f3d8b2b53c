"""How dcjax's steps grow with classes, images, their side and real batches: see `README.md` here.

python -m benchmarks.scaling [--only dc --only dm ...] [--rounds 3] [--out FILE.json]
"""

import statistics
from typing import Any

from absl import app, flags

from benchmarks import problem, report, timing
from benchmarks.errors import BenchmarkError, leave
from benchmarks.problem import Setting
from benchmarks.process import Process

ONLY = flags.DEFINE_multi_enum("only", problem.METHODS, problem.METHODS, "What to time.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "Steps that are timed.", lower_bound=1)
OUT = flags.DEFINE_string("out", None, "JSON file for the figures.")


def run(methods: list[str], rounds: int) -> dict[str, Any]:
  """Times dcjax at all settings; the base once for each method.

  Raises:
    BenchmarkError: the machine is too busy.
  """
  rows, done = [], dict[Setting, dict[str, Any]]()
  for method in methods:
    for axis, setting in problem.along_axes(method):
      if setting not in done:
        done[setting] = _measured(setting, rounds)
      rows.append({"axis": axis, "label": setting.label(), **done[setting]})
  return {"hardware": report.hardware(), "arguments": {"rounds": rounds}, "rows": rows}


def _measured(setting: Setting, rounds: int) -> dict[str, Any]:
  worker = Process("benchmarks.jax_worker", setting)
  try:
    about = worker.call("about")
    times = timing.in_turns({"dcjax": worker}, rounds)
  finally:
    worker.close()
  seconds = statistics.median(times["seconds"]["dcjax"])
  return {
    "setting": setting._asdict(),
    "seconds": seconds,
    "flops": problem.arithmetic(setting) / seconds,
    "compile": times["prepare_seconds"]["dcjax"],
    "memory": times["memory"]["dcjax"],
    "disturbed": times["disturbed"],
    "about": {"dcjax": about},
  }


def main(argv: list[str]) -> None:
  """Times, prints the table and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  try:
    results = run(ONLY.value, ROUNDS.value)
  except BenchmarkError as error:
    leave("scaling", error)
  report.publish(results, OUT.value)


if __name__ == "__main__":
  app.run(main)
