"""One iteration of RaT-BPTT or of trajectory matching by one framework, in a process of its own."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks import layout, problem, process
from dcjax import nn
from dcjax.data import Dataset, from_arrays
from dcjax.devices.strategy import choose
from dcjax.methods.bptt import BPTTSettings, Inner, Window, bptt
from dcjax.methods.setup import Setup
from dcjax.methods.tm import Start, Student, TMSettings, tm
from dcjax.methods.trajectories import Trajectories
from dcjax.nn import Network

SHAPE, CLASSES = (32, 32, 3), 10  # as CIFAR-10 has them
# By what is timed: RaT-BPTT with an inner optimiser, or trajectory matching (MTT)
RATES = {"sgd": 0.01, "adam": 1e-3, "tm": 0.01}
LR_IMAGE = 100.0  # of trajectory matching
UNDER_ROOT = 1e-8  # with less, what is rounded decides the norm


class Worker:
  """A framework, at an iteration of some steps with one image of each class."""

  def __init__(self, framework: str, steps: int, real: int, kind: str):
    """Compiles: `framework` is 'dcjax' or 'torch', `kind` one of `RATES`."""
    made = method(steps, 1, real, kind)
    arguments = begin(made, real)
    if framework == "torch":
      self._run = in_torch(steps, 1, kind, arguments)
    else:
      self._run = in_dcjax(made, arguments, kind)
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


def ends() -> tuple[Any, Any]:
  """Parameters that a student begins with, and those that it should end with."""
  params = network().init(jax.random.key(0))
  moved = jax.tree.map(lambda leaf: leaf + 0.01 * jax.numpy.sin(100 * leaf), params)
  return params, moved


def method(steps: int, ipc: int, real: int, kind: str, segment: int = 1) -> Any:
  """A method whose training is on all images at once, without augmentation.

  RaT-BPTT's window is all of it; a student of trajectory matching has one expert to follow.
  """
  setup = Setup(network(), choose(jax.default_backend(), CLASSES, SHAPE[0]))
  if kind == "tm":
    rows = np.stack([np.asarray(ravel_pytree(each)[0]) for each in ends()])
    student = Student(steps, 0, RATES[kind], segment)
    start = Start(least=0, most=1, first=1)
    of = TMSettings(ipc, lr_image=LR_IMAGE, expert_epochs=1, student=student, start=start)
    return tm(setup, of, Trajectories([rows], [0, 1], {}))
  inner = Inner(kind, RATES[kind], ipc, under_root=UNDER_ROOT)
  window = Window(steps, steps, renew=1, segment=segment)
  settings = BPTTSettings(ipc, "noise", real, lr_label=1e-3, inner=inner, window=window)
  return bptt(setup, settings)


def begin(made: Any, real: int) -> tuple[Any, ...]:
  """What an iteration is called with: a state, images, a key, and its number."""
  dataset, key = noise(real), jax.random.key(1)
  return jax.jit(made.init)(key, dataset), dataset, key, 0


def program(made: Any, arguments: tuple[Any, ...]) -> Any:
  """An iteration, compiled."""
  return jax.jit(made.update).lower(*arguments).compile()


def in_dcjax(made: Any, arguments: tuple[Any, ...], kind: str) -> Callable[[], tuple[float, float]]:
  """What runs an iteration, and returns its loss and the norm of the images' gradient."""
  compiled = program(made, arguments)

  def run() -> tuple[float, float]:
    state, metrics = jax.block_until_ready(compiled(*arguments))
    if kind != "tm":
      return float(metrics["loss"]), float(metrics["norm"])
    moved = np.asarray(arguments[0].stored.images - state.stored.images)
    return float(metrics["loss"]), float(np.linalg.norm(moved)) / LR_IMAGE

  return run


def in_torch(
  steps: int, ipc: int, kind: str, arguments: tuple[Any, ...]
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
  rate = torch.tensor(RATES[kind], requires_grad=kind == "tm")  # which is learned there
  aim = [torch.tensor(each) for each in layout.to_torch(ends()[1])]

  def loss(params, images, labels):
    logits = functional_call(made, dict(zip(names, params, strict=True)), (images,))
    return torch.nn.functional.cross_entropy(logits, labels)

  def run() -> tuple[float, float]:
    images = stored.clone().requires_grad_()
    params = [p.detach().requires_grad_() for p in made.parameters()]
    first, second = [[torch.zeros_like(p) for p in params] for _ in range(2)]
    for step in range(1, steps + 1):
      gradients = torch.autograd.grad(loss(params, images, labels), params, create_graph=True)
      if kind != "adam":
        params = [p - rate * g for p, g in zip(params, gradients, strict=True)]
        continue
      first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
      second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
      powers = 1 - 0.9**step, 1 - 0.999**step
      params = [
        p - rate * (m / powers[0]) / ((v / powers[1] + UNDER_ROOT).sqrt() + 1e-8)
        for p, m, v in zip(params, first, second, strict=True)
      ]
    if kind == "tm":
      begun = made.parameters()
      far = sum((p.detach() - a).square().sum() for p, a in zip(begun, aim, strict=True))
      value = sum((p - a).square().sum() for p, a in zip(params, aim, strict=True)) / far
    else:
      value = loss(params, real, real_labels)
    learned = (images, rate) if kind == "tm" else (images,)
    gradient = torch.autograd.grad(value, learned)[0]
    return value.item(), gradient.norm().item()

  return run
