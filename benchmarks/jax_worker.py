"""The image step as `dcjax` does it: `dc.match` with the default strategy, and optax's SGD."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import problem, process
from benchmarks.problem import Setting
from dcjax import data, nn, strategy
from dcjax.methods import dc


class Worker:
  """One framework at one setting; `torch_worker.Worker` has the same methods."""

  def __init__(self, setting: Setting):
    """Makes the data; the memory in use then is the baseline."""
    # PyTorch takes one device, and so does this.
    self._strategy = strategy.choose(jax.default_backend(), problem.CLASSES, devices=1)
    self._network = nn.create(
      "convnet", setting.image_shape, problem.CLASSES, convolution=self._strategy.convolution
    )
    self._settings, self._dataset = _settings(setting), _dataset(setting)
    self._optimizer = optax.sgd(problem.LR_IMAGE, momentum=problem.MOMENTUM_IMAGE)
    images = jnp.asarray(problem.synthetic_images(setting))
    self._state = dc.State(images, self._optimizer.init(images))
    self._params = self._network.init(jax.random.key(problem.SEED))
    self._key, self._steps = jax.random.key(problem.SEED), 0
    jax.block_until_ready((self._state, self._params))
    self._baseline = self._prepared = _in_use()
    self._compile_peak = 0

  def about(self) -> dict[str, Any]:
    """Version and hardware."""
    device = jax.devices()[0]
    return {
      "version": jax.__version__,
      "backend": jax.default_backend(),
      "device": device.device_kind,
      "strategy": self._strategy._asdict(),
    }

  def parameters(self) -> dict[str, Any]:
    """The network's parameters, in flax's layout, as NumPy arrays."""
    return jax.tree.map(np.asarray, self._params)

  def match(self, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """What another setting's first step finds: distances `[classes]`, image gradients."""
    images = jnp.asarray(problem.synthetic_images(setting))
    settings, dataset = _settings(setting), _dataset(setting)

    @jax.jit
    def match(params, images, dataset, key):
      return dc.match(self._network, params, images, dataset, key, settings, self._strategy)

    with jax.default_matmul_precision("highest"):
      distances, gradients = match(self._params, images, dataset, self._key)
    return np.asarray(distances), np.asarray(gradients)

  def prepare(self) -> float:
    """Compiles the step and takes one; returns the seconds of compilation."""

    @jax.jit
    def step(params, state, dataset, key):
      losses, gradients = dc.match(
        self._network, params, state.images, dataset, key, self._settings, self._strategy
      )
      updates, optimizer = self._optimizer.update(gradients, state.optimizer)
      return dc.State(optax.apply_updates(state.images, updates), optimizer), losses.mean()

    start = time.perf_counter()
    self._step = step.lower(self._params, self._state, self._dataset, self._key).compile()
    seconds = time.perf_counter() - start
    self._compile_peak = _peak()
    self._prepared = _in_use()
    self.step()
    return seconds

  def step(self) -> float:
    """Takes one image step; returns its seconds."""
    start = time.perf_counter()
    self._steps += 1
    key = jax.random.fold_in(self._key, self._steps)
    self._state, loss = jax.block_until_ready(
      self._step(self._params, self._state, self._dataset, key)
    )
    seconds = time.perf_counter() - start
    if not np.isfinite(loss):
      raise FloatingPointError(f"dcjax: the distance is {loss} in step {self._steps}")
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

  def memory(self) -> dict[str, int]:
    """Bytes with the data in place, after compilation, and at most."""
    peak = max(self._compile_peak, _peak())
    return {"data": self._baseline, "prepared": self._prepared, "peak": peak}


def _settings(setting: Setting) -> dc.Settings:
  return dc.Settings(
    ipc=setting.ipc,
    init="noise",
    distance="ours",
    inner_loop=1,
    network_epochs=1,
    batch_real=setting.real,
    lr_image=problem.LR_IMAGE,
    lr_network=0.01,
  )


def _dataset(setting: Setting) -> data.Dataset:
  images, labels = problem.real_images(setting)
  mean, std = (np.full(images.shape[-1], x, np.float32) for x in (problem.MEAN, problem.STD))
  return data.from_arrays(
    images, labels, images[:1], labels[:1], name=setting.name, mean=mean, std=std
  )


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
