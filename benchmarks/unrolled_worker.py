"""One iteration of RaT-BPTT by one framework, in a process of its own."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import layout, problem, process
from dcjax import nn
from dcjax.data import Dataset, from_arrays
from dcjax.devices.strategy import choose
from dcjax.methods.bptt import BPTTSettings, Inner, Window, bptt
from dcjax.methods.setup import Setup
from dcjax.nn import Network

SHAPE, CLASSES = (32, 32, 3), 10  # as CIFAR-10 has them
RATES = {"sgd": 0.01, "adam": 1e-3}
UNDER_ROOT = 1e-8  # with less, what is rounded decides the norm


class Worker:
  """A framework, at an iteration of some steps with one image of each class."""

  def __init__(self, framework: str, steps: int, real: int, optimizer: str):
    """Compiles: `framework` is 'dcjax' or 'torch'."""
    made = method(steps, 1, real, optimizer)
    arguments = begin(made, real)
    if framework == "torch":
      self._run = in_torch(steps, 1, optimizer, arguments)
    else:
      self._run = in_dcjax(made, arguments)
    self._before = process.resident()

  def numbers(self) -> tuple[float, float]:
    """The loss, and the norm of the set's gradient."""
    return self._run()

  def step(self) -> float:
    """Seconds of an iteration."""
    start = time.perf_counter()
    self._run()
    return time.perf_counter() - start

  def memory(self) -> int:
    """Bytes that iterations took at most, beside what was there before the first."""
    return process.peak() - self._before


def noise(count: int) -> Dataset:
  """Images of noise."""
  rng = np.random.default_rng(problem.SEED)
  images = rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
  labels = np.arange(count) % CLASSES
  return from_arrays(images, labels, images, labels, name="noise")


def network() -> Network:
  """The default ConvNet, with the same parameters in every iteration."""
  strategy = choose(jax.default_backend(), CLASSES, SHAPE[0])
  made = nn.create("convnet", SHAPE, CLASSES, convolution=strategy.convolution)
  params = made.init(jax.random.key(problem.SEED))
  return made._replace(init=lambda key: params)


def method(steps: int, ipc: int, real: int, optimizer: str, segment: int = 1) -> Any:
  """RaT-BPTT whose window is a whole training, on all images at once, without augmentation."""
  inner = Inner(optimizer, RATES[optimizer], ipc, under_root=UNDER_ROOT)
  window = Window(steps, steps, renew=1, segment=segment)
  settings = BPTTSettings(ipc, "noise", real, lr_label=1e-3, inner=inner, window=window)
  return bptt(Setup(network(), choose(jax.default_backend(), CLASSES, SHAPE[0])), settings)


def begin(made: Any, real: int) -> tuple[Any, ...]:
  """What an iteration is called with: a state, images, a key, and its number."""
  dataset, key = noise(real), jax.random.key(1)
  return jax.jit(made.init)(key, dataset), dataset, key, 0


def program(made: Any, arguments: tuple[Any, ...]) -> Any:
  """An iteration, compiled."""
  return jax.jit(made.update).lower(*arguments).compile()


def in_dcjax(made: Any, arguments: tuple[Any, ...]) -> Callable[[], tuple[float, float]]:
  """What runs an iteration, and returns its loss and the norm of the gradient."""
  compiled = program(made, arguments)

  def run() -> tuple[float, float]:
    metrics = jax.block_until_ready(compiled(*arguments)[1])
    return float(metrics["loss"]), float(metrics["norm"])

  return run


def in_torch(
  steps: int, ipc: int, optimizer: str, arguments: tuple[Any, ...]
) -> Callable[[], tuple[float, float]]:
  """The same by PyTorch, whose graph is of the whole training."""
  import torch
  from torch.func import functional_call

  from benchmarks.torch_network import convnet, load

  state, dataset, _, _ = arguments
  setting = problem.Setting("dm", "", SHAPE, ipc, 0, 0, False)
  made = convnet(setting, torch.device("cpu"))
  load(made, layout.to_torch(network().init(jax.random.key(0))))
  names = [name for name, _ in made.named_parameters()]

  def tensor(array):
    return torch.tensor(np.array(array)).reshape(-1, *SHAPE).permute(0, 3, 1, 2)

  stored, real = tensor(state.stored.images), tensor(dataset.normalise(dataset.images))
  real_labels = torch.tensor(np.array(dataset.labels)).long()
  labels = torch.arange(CLASSES).repeat_interleave(ipc)
  rate = RATES[optimizer]

  def loss(params, images, labels):
    logits = functional_call(made, dict(zip(names, params, strict=True)), (images,))
    return torch.nn.functional.cross_entropy(logits, labels)

  def run() -> tuple[float, float]:
    images = stored.clone().requires_grad_()
    params = [p.detach().requires_grad_() for p in made.parameters()]
    first, second = [[torch.zeros_like(p) for p in params] for _ in range(2)]
    for step in range(1, steps + 1):
      gradients = torch.autograd.grad(loss(params, images, labels), params, create_graph=True)
      if optimizer == "sgd":
        params = [p - rate * g for p, g in zip(params, gradients, strict=True)]
        continue
      first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
      second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
      powers = 1 - 0.9**step, 1 - 0.999**step
      params = [
        p - rate * (m / powers[0]) / ((v / powers[1] + UNDER_ROOT).sqrt() + 1e-8)
        for p, m, v in zip(params, first, second, strict=True)
      ]
    value = loss(params, real, real_labels)
    (gradient,) = torch.autograd.grad(value, images)
    return value.item(), gradient.norm().item()

  return run
