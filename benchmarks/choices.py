"""What each choice of `dcjax.devices.strategy` costs: see `README.md` here.

python -m benchmarks.choices [--only dc --only dm ...] [--real 64] [--rounds 3] [--out FILE.json]
"""

import statistics
from typing import Any

from absl import app, flags

from benchmarks import problem, report, timing
from benchmarks.errors import BenchmarkError, leave
from benchmarks.problem import Setting
from benchmarks.process import Process

DEFAULT = "the default"

ONLY = flags.DEFINE_multi_enum("only", ["dc", "dm"], problem.METHODS, "What to time.")
REAL = flags.DEFINE_integer("real", 64, "Real images of each class in one step.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Steps of each that are timed.", lower_bound=1)
OUT = flags.DEFINE_string("out", None, "JSON file for the figures.")


def run(methods: list[str], real: int, rounds: int) -> dict[str, Any]:
  """Times the default and every other choice in turns.

  Raises:
    BenchmarkError: the machine is too busy.
  """
  settings = [s for s in problem.settings(methods, real) if s.name == "CIFAR-10"]
  rows = [row for setting in settings for row in _rows(setting, rounds)]
  return {"hardware": report.hardware(), "arguments": {"rounds": rounds}, "rows": rows}


def _rows(setting: Setting, rounds: int) -> list[dict[str, Any]]:
  default = Process("benchmarks.jax_worker", setting)
  workers = {DEFAULT: default}
  try:
    about = default.call("about")
    for name, variant in problem.choices(setting, about["strategy"]).items():
      workers[name] = Process("benchmarks.jax_worker", variant)
    times = timing.in_turns(workers, rounds)
  finally:
    for worker in workers.values():
      worker.close()
  seconds = times["seconds"]
  return [
    {
      "label": setting.label(),
      "choice": name,
      "seconds": statistics.median(seconds[name]),
      "ratios": [own / other for own, other in zip(seconds[name], seconds[DEFAULT], strict=True)],
      "compile": times["prepare_seconds"][name],
      "memory": times["memory"][name],
      "disturbed": times["disturbed"] if name == DEFAULT else [],
      "about": {"dcjax": about},
    }
    for name in workers
  ]


def main(argv: list[str]) -> None:
  """Times, prints the table and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  try:
    results = run(ONLY.value, REAL.value, ROUNDS.value)
  except BenchmarkError as error:
    leave("choices", error)
  report.publish(results, OUT.value)


if __name__ == "__main__":
  app.run(main)
