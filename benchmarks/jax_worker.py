"""The worker of dcjax's side."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import jax_parts, problem, process
from benchmarks.jax_matching import Dc, Dm, Idc, Idm, Matching
from benchmarks.jax_training import Training
from benchmarks.problem import Setting

STEPS: dict[str, type[Matching] | type[Training]] = {
  "dc": Dc,
  "dsa": Dc,
  "dm": Dm,
  "idc": Idc,
  "idm": Idm,
  "training": Training,
}


class Worker:
  """One framework at one setting; `torch_worker.Worker` has the same methods."""

  def __init__(self, setting: Setting):
    """Makes the data; the memory in use then is the baseline."""
    self._setting = setting
    self._step = STEPS[setting.problem](setting)
    self._key, self._steps = jax.random.key(problem.SEED), 0
    self._baseline = self._prepared = _in_use()
    self._compile_peak = 0

  def about(self) -> dict[str, Any]:
    """Version and hardware."""
    device = jax.devices()[0]
    return {
      "version": jax.__version__,
      "backend": jax.default_backend(),
      "device": device.device_kind,
      "strategy": jax_parts.strategy(self._setting)._asdict(),
    }

  def parameters(self) -> list[np.ndarray]:
    """The parameters that `numbers` starts from, as PyTorch keeps them."""
    return self._step.parameters()

  def numbers(self) -> dict[str, list[np.ndarray]]:
    """What both frameworks must find from `parameters`: by name, in parts."""
    with jax.default_matmul_precision("highest"):
      return self._step.numbers()

  def prepare(self) -> float:
    """Compiles the step and takes one; returns the seconds of compilation."""
    seconds = self._step.compile()
    self._compile_peak = _peak()
    self._prepared = _in_use()
    self.step()
    return seconds

  def step(self) -> float:
    """Takes one step, which draws anew; returns its seconds."""
    start = time.perf_counter()
    self._steps += 1
    loss = self._step(jax.random.fold_in(self._key, self._steps))
    seconds = time.perf_counter() - start
    if not np.isfinite(loss):
      raise FloatingPointError(f"dcjax: {loss} in step {self._steps}")
    return seconds

  def product(self, rows: int, inner: int, columns: int) -> float:
    """Floating-point operations a second of a product of matrices."""
    a, b = jnp.ones((rows, inner)), jnp.ones((inner, columns))
    multiply = jax.jit(jnp.matmul).lower(a, b).compile()
    multiply(a, b).block_until_ready()
    start = time.perf_counter()
    jax.block_until_ready([multiply(a, b) for _ in range(problem.PRODUCT_REPEATS)])
    seconds = time.perf_counter() - start
    return 2.0 * rows * inner * columns * problem.PRODUCT_REPEATS / seconds

  def copy(self) -> float:
    """Bytes a second, read and written, of the negation of a large array in its place."""
    negate = jax.jit(jnp.negative, donate_argnums=0)
    array = negate(jnp.ones(problem.COPY_FLOATS)).block_until_ready()
    start = time.perf_counter()
    for _ in range(problem.COPY_REPEATS):
      array = negate(array)
    array.block_until_ready()
    seconds = time.perf_counter() - start
    return 8.0 * problem.COPY_FLOATS * problem.COPY_REPEATS / seconds

  def memory(self) -> dict[str, int]:
    """Bytes with the data in place, after compilation, and at most."""
    peak = max(self._compile_peak, _peak())
    return {"data": self._baseline, "prepared": self._prepared, "peak": peak}


def _in_use() -> int:
  device = jax.devices()[0]
  if device.platform == "cpu":
    return process.resident()
  return device.memory_stats()["bytes_in_use"]


def _peak() -> int:
  device = jax.devices()[0]
  if device.platform == "cpu":
    return process.peak()
  return device.memory_stats()["peak_bytes_in_use"]
