"""The worker of PyTorch's side: the same methods as `jax_worker.Worker`."""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import problem, process
from benchmarks.problem import Setting
from benchmarks.torch_idc import Idc, Idm
from benchmarks.torch_matching import Dc, Dm, Matching
from benchmarks.torch_training import Training

STEPS: dict[str, type[Matching] | type[Training]] = {
  "dc": Dc,
  "dsa": Dc,
  "dm": Dm,
  "idc": Idc,
  "idm": Idm,
  "training": Training,
}


class Worker:
  """One framework at one setting."""

  def __init__(self, setting: Setting, block: int, compiled: bool = False):
    """Makes the data; the memory in use then is the baseline."""
    self._compiled, self._exact = compiled, setting.precision != "tf32"
    self._on_gpu = torch.cuda.is_available()
    self._device = torch.device("cuda" if self._on_gpu else "cpu")
    torch.manual_seed(problem.SEED)
    torch.backends.cudnn.benchmark = True
    self._step = STEPS[setting.problem](setting, self._device, block, compiled)
    self._baseline = self._in_use()

  def about(self) -> dict[str, Any]:
    """Version and hardware."""
    return {
      "version": torch.__version__,
      "backend": "gpu" if self._on_gpu else "cpu",
      "device": torch.cuda.get_device_name() if self._on_gpu else "cpu",
      "threads": torch.get_num_threads(),
    }

  def numbers(self, params: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """What both frameworks must find from dcjax's parameters: by name, in parts."""
    _set_precision(exact=True)
    return self._step.numbers(params)

  def prepare(self) -> float:
    """Takes a step, in the precision of dcjax's side; two if it is compiled.

    Returns:
      What the first took longer than the second, in seconds: compilation.
    """
    _set_precision(self._exact)
    first = self.step()
    return max(first - self.step(), 0.0) if self._compiled else 0.0

  def step(self) -> float:
    """Takes one step; returns its seconds."""
    self._wait()
    start = time.perf_counter()
    loss = self._step()
    self._wait()
    seconds = time.perf_counter() - start
    if not math.isfinite(loss):
      raise FloatingPointError(f"PyTorch: the loss is {loss}")
    return seconds

  def product(self, rows: int, inner: int, columns: int) -> float:
    """Floating-point operations a second of a product of matrices."""
    a = torch.ones((rows, inner), device=self._device)
    b = torch.ones((inner, columns), device=self._device)
    a @ b
    self._wait()
    start = time.perf_counter()
    for _ in range(problem.PRODUCT_REPEATS):
      a @ b
    self._wait()
    seconds = time.perf_counter() - start
    return 2.0 * rows * inner * columns * problem.PRODUCT_REPEATS / seconds

  def copy(self) -> float:
    """Bytes a second, read and written, of the negation of a large array in its place."""
    array = torch.ones(problem.COPY_FLOATS, device=self._device)
    array.neg_()
    self._wait()
    start = time.perf_counter()
    for _ in range(problem.COPY_REPEATS):
      array.neg_()
    self._wait()
    seconds = time.perf_counter() - start
    return 8.0 * problem.COPY_FLOATS * problem.COPY_REPEATS / seconds

  def memory(self) -> dict[str, int]:
    """Bytes with the data in place, before the first step, and at most."""
    peak = torch.cuda.max_memory_allocated() if self._on_gpu else process.peak()
    return {"data": self._baseline, "prepared": self._baseline, "peak": peak}

  def _in_use(self) -> int:
    if not self._on_gpu:
      return process.resident()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()

  def _wait(self) -> None:
    if self._on_gpu:
      torch.cuda.synchronize()


def _set_precision(exact: bool) -> None:
  """On a GPU, float32 proper, or TF32."""
  torch.backends.cuda.matmul.allow_tf32 = not exact
  torch.backends.cudnn.allow_tf32 = not exact
