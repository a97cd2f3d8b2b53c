"""What a run will take, from its compiled programs: memory, work, and where it can run, time."""

import dataclasses
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcjax.common import environment, quantities
from dcjax.common.types import Array
from dcjax.data import Dataset
from dcjax.devices.program import Program, Work
from dcjax.devices.strategy import Strategy
from dcjax.devices.target import Target
from dcjax.methods.setup import decoder
from dcjax.run import experiment
from dcjax.run.experiment import Evaluation, Keys
from dcjax.run.loop import Loop
from dcjax.run.progress import logger, working
from dcjax.run.streaming import StreamingLoop, loop_for

START, ITERATION = "start", "iteration"
_REPEATS = 2  # of a training that is timed
_FEW = 8  # test images


class Part(NamedTuple):
  """A part of a run: programs that run one after another, of which the largest counts.

  Attributes:
    seconds: to compile them.
    data: bytes of the dataset, on the device that holds most.
    state: bytes of the method's state, likewise.
    results: bytes of what is made.
    temporaries: bytes of what is made on the way.
    work: the least that they do, and the most.
  """

  seconds: float
  data: int
  state: int
  results: int
  temporaries: int
  work: tuple[Work, Work]

  @property
  def bytes(self) -> int:
    """All together."""
    return self.data + self.state + self.results + self.temporaries


class Seconds(NamedTuple):
  """A time: as it is expected, and between what limits."""

  mean: float
  low: float
  high: float


class Plan:
  """A run that is compiled, and not run but to be timed."""

  def __init__(self, config: ConfigDict, dataset: Dataset, target: Target):
    """Builds what `commands.condense` builds; compiles nothing yet.

    Args:
      config: resolved.
      dataset: as it is loaded, or one of the same shape.
      target: the devices.

    Raises:
      UserError: the config does not fit the data.
    """
    self.config, self.dataset, self.target = config, dataset, target
    self.keys = Keys.from_seed(config.seed)
    self.layout = experiment.condensing(config, dataset, target)
    self.method = experiment.method(config, dataset, self.layout)
    self.loop = loop_for(config, self.method, dataset, self.keys.loop, self.layout)
    self.evaluation = Evaluation(config, dataset, self.layout, self.keys)
    self._bound: dict[str, tuple[jax.stages.Compiled, tuple[Any, ...]]] = {}  # by architecture
    self.architectures: list[str] = []  # of the evaluation
    if config.evaluation.networks:
      self.architectures = list(dict.fromkeys(name for _, name in self.evaluation.tasks()))

  # --- Programs ------------------------------------------------------------------------------

  def start(self) -> Part:
    """What makes the initial state."""
    with working("compiling the start"):
      began = time.monotonic()
      return self._part(began, 0, self.loop.start_programs(self.keys.init))

  def iteration(self) -> Part:
    """One iteration."""
    state = self.loop.abstract(self.keys.init)
    with working("compiling an iteration"):
      began = time.monotonic()
      self.loop.compile(state, 0)
      return self._part(began, held(state), self.loop.programs)

  def trained(self, architecture: str) -> Part:
    """The training and the tests of the networks that are evaluated together, for one epoch."""
    state = held(self.loop.abstract(self.keys.init))
    with working(f"compiling the evaluation on {architecture}"):
      began = time.monotonic()
      bound = self.evaluation.bound(architecture, self._examples())
      program, arguments = self._bound[architecture] = bound
      return self._part(began, state + held(arguments[1:]), [program])

  def _part(self, began: float, state: int, programs: list[jax.stages.Compiled]) -> Part:
    data = _data(self.dataset, self.layout, self.loop)
    results, temporaries = max(map(made, programs), key=sum)
    seconds = time.monotonic() - began
    least, most = Work(), Work()
    for program in programs:
      text, peak = program.as_text() or "", self.target.peak
      low, high = Program(text).work(peak.cache if peak else 0)
      least, most = least.plus(low), most.plus(high)
    return Part(seconds, data, state, results, temporaries, (least, most))

  def _examples(self) -> tuple[Array, Array]:
    """Images and labels in the shape of the set that is made."""
    classes = self.dataset.num_classes
    count = classes * decoder(self.config, self.dataset).decoded(self.config.ipc)
    images = np.random.default_rng(0).standard_normal((count, *self.dataset.image_shape))
    labels = jnp.arange(count, dtype=jnp.int32) % classes
    learned = jax.eval_shape(self.method.labels, self.loop.abstract(self.keys.init))
    if learned is not None:
      labels = jax.nn.one_hot(labels, classes, dtype=jnp.float32)
    return jnp.asarray(images, jnp.float32), labels

  # --- Time, on this process's own devices -----------------------------------------------------

  def time_iterations(self, seconds: float) -> Seconds:
    """The time of all iterations, from some that are run.

    Those in which rare steps are due count by themselves.

    Args:
      seconds: in which they run, or a little longer; the start is not counted.
    """
    total = self.config.iterations
    often = Counter(map(self._due, range(total)))
    first = {self._due(t): t for t in reversed(range(total))}
    samples: dict[Any, list[float]] = defaultdict(list)
    with working("the start, to time iterations"):
      state, t = self.loop.start(self.keys.init), 0
    with working(f"timing iterations for {seconds:g} s"):
      began = time.monotonic()
      while t < total and (time.monotonic() - began < seconds or not samples):
        kind = self._due(t)
        stop = next((u for u in range(t + 1, total) if self._due(u) != kind), total)
        state, t, _ = self.loop.run(state, t, stop)
        samples[kind].append(self.loop.seconds_per_iteration)
      if isinstance(self.loop, Loop):  # images on disk are read in the order of iterations
        for kind in often.keys() - samples.keys():
          self.loop.run(state, first[kind], first[kind] + 1)
          samples[kind].append(self.loop.seconds_per_iteration)
    self.loop.close()
    unseen = [value for found in samples.values() for value in found]
    found = [(often[kind], samples.get(kind, unseen)) for kind in often]

    def together(of: Callable[[list[float]], Any]) -> float:
      return float(sum(count * of(values) for count, values in found))

    return Seconds(together(np.mean), together(min), together(max))

  def _due(self, t: int) -> tuple[bool, ...]:
    """Which of the rare steps run in iteration t."""
    return tuple(t % step.every == 0 for step in self.method.iteration if step.every > 1)

  def time_training(self, architecture: str, seconds: float) -> Seconds:
    """The time in which all networks of one architecture are trained on one set and tested.

    Args:
      architecture: of `architectures`, for which `trained` has compiled.
      seconds: about, in which epochs are run.
    """
    fields, examples = self.config.evaluation, self._examples()
    with working(f"timing the evaluation on {architecture}"):
      program, arguments = self._bound[architecture]
      tested = [_run(program, arguments, 1, fields.checks) for _ in range(_REPEATS)]
      # Epochs alone, with next to no tests, for these may take most of the time
      few = dataclasses.replace(
        self.dataset,
        test_images=self.dataset.test_images[:_FEW],
        test_labels=self.dataset.test_labels[:_FEW],
      )
      of_few = Evaluation(self.config, few, self.layout, self.keys)
      program, arguments = of_few.bound(architecture, examples)
      short = min(_run(program, arguments, 1, fields.checks) for _ in range(_REPEATS))
      epochs = min(fields.epochs, 2 + int(seconds / _REPEATS / short))
      long = [_run(program, arguments, epochs, fields.checks) for _ in range(_REPEATS)]
    blocks = -(-fields.networks // min(fields.networks, self.layout.network_block))

    def all_of(tested: float, long: float) -> float:
      epoch = max(0.0, (long - short) / max(1, epochs - 1))
      return blocks * (tested + epoch * (fields.epochs - 1))

    low, high = all_of(min(tested), min(long)), all_of(max(tested), max(long))
    return Seconds((low + high) / 2, low, high)


def _run(
  program: jax.stages.Compiled, arguments: tuple[Any, ...], epochs: int, checks: int
) -> float:
  """The seconds in which networks are trained for some epochs, and tested as often as they are."""
  stops = np.zeros(checks + 1, np.int32)
  stops[-1] = epochs
  began = time.monotonic()
  jax.block_until_ready(program(*arguments, stops))
  return time.monotonic() - began


def _data(dataset: Dataset, layout: Strategy, loop: Loop | StreamingLoop) -> int:
  """Bytes of images and labels on the device that holds most: all of them, and its share."""
  return held(dataset) + loop.waiting + (held(loop.dataset) if layout.devices > 1 else 0)


def warn_if_too_large(
  dataset: Dataset, layout: Strategy, state: Any, loop: Loop | StreamingLoop
) -> None:
  """Logs a warning if the iterations of a run, once compiled, take more memory than there is."""
  memory = environment.memory()
  largest = max(sum(made(program)) for program in loop.programs)
  taken = _data(dataset, layout, loop) + held(state) + largest
  if memory is not None and taken > memory:
    logger.warning(
      "an iteration takes %s of memory, and there are %s: it may end without a word; dcjax plan "
      "with the same --config finds the fields to lower",
      quantities.size(taken), quantities.size(memory),
    )  # fmt: skip


def held(tree: Any) -> int:
  """Bytes of arrays, or of what their shapes will be, on the device that holds most of them."""
  return sum(_held(leaf) for leaf in jax.tree.leaves(tree))


def _held(leaf: Any) -> int:
  place = getattr(leaf, "sharding", None)
  shape = place.shard_shape(leaf.shape) if place else leaf.shape
  return int(np.prod(shape)) * leaf.dtype.itemsize


def made(program: jax.stages.Compiled) -> tuple[int, int]:
  """Bytes of a program's results and of its temporaries, on each device; 0 where it is not told."""
  found = program.memory_analysis()
  return (found.output_size_in_bytes, found.temp_size_in_bytes) if found else (0, 0)
