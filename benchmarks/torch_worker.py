"""The worker of PyTorch's side: the same methods as `jax_worker.Worker`."""

import math
import time
from typing import Any

import numpy as np
import torch

from benchmarks import problem, process, torch_dc
from benchmarks.problem import Setting


class Worker:
  """One framework at one setting."""

  def __init__(self, setting: Setting, block: int):
    """Makes the data; the memory in use then is the baseline."""
    self._on_gpu = torch.cuda.is_available()
    self._device = torch.device("cuda" if self._on_gpu else "cpu")
    self._block = block
    torch.manual_seed(problem.SEED)
    torch.backends.cudnn.benchmark = True
    network = torch_dc.convnet(setting.image_shape).to(self._device)
    self._step = torch_dc.Step(network, setting, self._device, block)
    self._baseline = self._in_use()

  def about(self) -> dict[str, Any]:
    """Version and hardware."""
    return {
      "version": torch.__version__,
      "backend": "gpu" if self._on_gpu else "cpu",
      "device": torch.cuda.get_device_name() if self._on_gpu else "cpu",
      "threads": torch.get_num_threads(),
    }

  def load(self, params: dict[str, Any]) -> None:
    """Takes over dcjax's parameters."""
    torch_dc.load(self._step.network, params)

  def match(self, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """What another setting's first step finds: distances `[classes]`, image gradients."""
    _set_precision(exact=True)
    step = torch_dc.Step(self._step.network, setting, self._device, self._block)
    distances = step.match()
    gradients = step.images.grad.permute(0, 1, 3, 4, 2)
    return distances.cpu().numpy(), gradients.cpu().numpy()

  def prepare(self) -> float:
    """Takes one step, in the precision that JAX has by default; nothing to compile: 0 seconds."""
    _set_precision(exact=False)
    self.step()
    return 0.0

  def step(self) -> float:
    """Takes one image step; returns its seconds."""
    self._wait()
    start = time.perf_counter()
    loss = self._step()
    self._wait()
    seconds = time.perf_counter() - start
    if not math.isfinite(loss):
      raise FloatingPointError(f"PyTorch: the distance is {loss}")
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
  """On a GPU, full float32 to compare numbers; TF32, as JAX has it by default, to time."""
  torch.backends.cuda.matmul.allow_tf32 = not exact
  torch.backends.cudnn.allow_tf32 = not exact
