"""Whether both frameworks find the same numbers; what does not agree is not timed."""

import statistics

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.problem import Setting
from benchmarks.process import Process

# A ReLU whose input rounds to the other side of zero changes the gradient of its class by up to
# some thousandths, in either framework as against float64. Hence a bound on the median part, too.
MEDIAN, WORST = 1e-3, 1e-2  # relative


def check(dcjax: Process, torch: Process, setting: Setting) -> dict[str, float]:
  """Gives both frameworks dcjax's parameters, and compares what they find from them.

  Args:
    dcjax: a worker.
    torch: the other.
    setting: the row of the table, for the message.

  Returns:
    Relative differences by what was compared: of the median part and of the worst.

  Raises:
    BenchmarkError: a difference is too large.
  """
  theirs = torch.call("numbers", dcjax.call("parameters"))
  differences = {}
  for what, parts in dcjax.call("numbers").items():
    found = [_difference(a, b) for a, b in zip(parts, theirs[what], strict=True)]
    differences[f"{what}, median part"] = statistics.median(found)
    differences[f"{what}, worst part"] = max(found)
    if not (statistics.median(found) < MEDIAN and max(found) < WORST):
      raise BenchmarkError(
        f"{setting.label()}: {what}: relative differences of {statistics.median(found):.1e} "
        f"(median part) and {max(found):.1e} (worst)"
      )
  return differences


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
  return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
