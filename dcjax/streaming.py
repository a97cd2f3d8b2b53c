"""The outer loop where the training images stay on disk: stage by stage, each given its images."""

import concurrent.futures
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from dcjax import processes, sharding
from dcjax.data import Dataset, OnDisk
from dcjax.data.on_disk import Drawn
from dcjax.data.stream import Stream
from dcjax.errors import UserError
from dcjax.loop import CHUNK_SECONDS, abstract_state, put_key
from dcjax.methods import Method, Stage, Stages
from dcjax.strategy import Strategy
from dcjax.types import Array, Key

PLANNED = 32  # steps whose draws are computed together
READY = 2  # draws that are on the device, or on the way, before they are needed


class Step(NamedTuple):
  """One run of a stage."""

  stage: Stage
  iteration: int
  number: int  # among the runs of the stage


class StreamingLoop:
  """Does what `loop.Loop` does, with training images on disk; a chunk is one iteration.

  What an iteration draws follows from its number, hence reading begins at any of them.

  Attributes:
    seconds_per_iteration: of the last one.
    waited: seconds in which the device had nothing to do, since its images had not come.
  """

  def __init__(self, method: Method, dataset: Dataset, key: Key, layout: Strategy, total: int):
    """Checks that all can be read; reads and compiles nothing yet.

    Args:
      method: to run.
      dataset: whose images are `OnDisk`.
      key: iteration t draws from `fold_in(key, t)`.
      layout: over which devices.
      total: iterations of the run; beyond them nothing is read.

    Raises:
      UserError: the images of a stage do not fit in memory, or the method needs all of them there.
    """
    self._method, self._layout, self._total = method, layout, total
    self._images = cast(OnDisk, dataset.images)
    self._stages = _stages(method)
    # Draws are computed by this process for itself, while all share the work of an iteration.
    self._sizes = replace(
      dataset,
      images=jnp.zeros((0, *dataset.image_shape), jnp.uint8),
      test_images=dataset.test_images[:0],
      test_labels=dataset.test_labels[:0],
    )
    self._dataset = sharding.put(self._sizes, sharding.whole(layout))
    self._key, self._placed_key = key, put_key(layout, key)
    self._programs: dict[Stage, Any] = {}
    self._planners: dict[Stage, Any] = {}
    self._feed: _Feed | None = None
    self.seconds_per_iteration = CHUNK_SECONDS  # until the first is done, a guess
    self.waited = 0.0
    for stage in (*self._stages.start, *self._of_iterations()):
      if stage.times:
        self._images.check_fits(self._rows(stage))

  def start(self, key: Key, wait: Callable[[Any], Any] = jax.block_until_ready) -> Any:
    """The initial state; `wait` returns arrays once they are computed."""
    steps = list(_steps(self._stages.start, 0))
    feed = self._reading(key, steps)
    try:
      state = None
      for step in steps:
        state = self._take(step, state, put_key(self._layout, key), feed, wait)
      return state
    finally:
      feed.close()

  def abstract(self, key: Key) -> Any:
    """The shapes and the layout of a state."""
    return abstract_state(self._method, self._layout, key, self._with_rows(self._sizes, 1))

  def compile(self, state: Any, start: int) -> float:
    """As `Loop.compile`, for all stages; meanwhile the images of iteration `start` are read."""
    began = time.monotonic()
    self._read_from(start)
    for stage in self._of_iterations():
      dataset = self._with_rows(self._dataset, self._rows(stage))
      arguments = self._place(state), dataset, self._placed_key, *_numbers(0, 0)
      self._programs[stage] = self._program(stage, arguments).lower(*arguments).compile()
    return time.monotonic() - began

  def run(
    self, state: Any, start: int, limit: int, wait: Callable[[Any], Any] = jax.block_until_ready
  ) -> tuple[Any, int, dict[str, np.ndarray]]:
    """Runs iteration `start`, the one after that of the last call; as `Loop.run`."""
    del limit
    feed = self._read_from(start)
    began = time.monotonic()
    state = self._place(state)
    for step in _steps(self._stages.iteration(start), start):
      state = self._take(step, state, self._placed_key, feed, wait)
    state, metrics = state
    self.seconds_per_iteration = processes.highest(time.monotonic() - began)
    return state, start + 1, {name: np.asarray(value)[None] for name, value in metrics.items()}

  def _read_from(self, start: int) -> "_Feed":
    """What reads the images of an iteration and of all after it; begun once."""
    if self._feed is None:
      left = range(start, self._total)
      steps = (step for t in left for step in _steps(self._stages.iteration(t), t))
      self._feed = self._reading(self._key, steps)
    return self._feed

  def close(self) -> None:
    """Ends the reading."""
    if self._feed is not None:
      self._feed.close()
      self._feed = None

  def _of_iterations(self) -> tuple[Stage, ...]:
    return tuple(dict.fromkeys(self._stages.iteration(0) + self._stages.iteration(1)))

  def _take(
    self, step: Step, state: Any, key: Key, feed: "_Feed", wait: Callable[[Any], Any]
  ) -> Any:
    """Takes one step, as soon as its images are there."""
    began = time.monotonic()
    images = feed.next(wait)
    self.waited += time.monotonic() - began
    dataset = replace(self._dataset, images=cast(Array, images))
    arguments = state, dataset, key, *_numbers(step.iteration, step.number)
    if step.stage not in self._programs:
      self._programs[step.stage] = self._program(step.stage, arguments)
    return wait(self._programs[step.stage](*arguments))

  def _program(self, stage: Stage, arguments: tuple[Any, ...]) -> Any:
    """A stage as a program that is compiled for these arguments, or others of the same shapes."""

    def run(state, dataset, key, iteration, number):
      return stage.run(state, dataset, self._key_of(stage, key, iteration), number)

    results = jax.eval_shape(run, *arguments)
    ends = not hasattr(results, "stored")  # an iteration, with metrics beside the state
    shardings = sharding.state_shardings(self._layout, results[0] if ends else results)
    if ends:
      shardings = shardings, sharding.whole(self._layout)
    return jax.jit(run, out_shardings=shardings)

  def _reading(self, key: Key, steps: Iterable[Step]) -> "_Feed":
    return _Feed(self._images, self._draws(key, iter(steps)), self._layout)

  def _draws(self, key: Key, steps: Iterator[Step]) -> Iterator[np.ndarray]:
    """The places that each step draws, int32 `[n]`."""
    while window := list(islice(steps, PLANNED)):
      planned = {
        stage: iter(self._plan(stage, key, [step for step in window if step.stage == stage]))
        for stage in {step.stage for step in window}
      }
      yield from (next(planned[step.stage]) for step in window)

  def _plan(self, stage: Stage, key: Key, steps: list[Step]) -> np.ndarray:
    """What steps of one stage draw, `[steps, n]`; always compiled for `PLANNED` steps."""
    if stage not in self._planners:

      def places(dataset, key, iteration, number):
        return stage.places(dataset, self._key_of(stage, key, iteration), number)

      self._planners[stage] = jax.jit(jax.vmap(places, (None, None, 0, 0)))
    iterations, numbers = (
      np.resize(np.asarray(column, np.int32), PLANNED)
      for column in ([step.iteration for step in steps], [step.number for step in steps])
    )
    return np.asarray(self._planners[stage](self._sizes, key, iterations, numbers))[: len(steps)]

  def _key_of(self, stage: Stage, key: Key, iteration: Array) -> Key:
    return key if stage in self._stages.start else jax.random.fold_in(key, iteration)

  def _rows(self, stage: Stage) -> int:
    """How many images a stage is given."""
    places = jax.eval_shape(stage.places, self._sizes, self._key, *_numbers(0))
    return min(places.shape[0], self._images.shape[0])

  def _with_rows(self, dataset: Dataset, rows: int) -> Dataset:
    """A dataset with black images, for programs that are not run."""
    black = np.zeros((rows, *dataset.image_shape), np.uint8)
    drawn = Drawn(black, np.zeros(rows, np.int32), self._images.shape[0])
    return replace(dataset, images=cast(Array, sharding.put(drawn, sharding.whole(self._layout))))

  def _place(self, state: Any) -> Any:
    return sharding.put(state, sharding.state_shardings(self._layout, state))


class _Feed:
  """The images of one step after another, put on the devices while earlier steps run."""

  def __init__(self, images: OnDisk, draws: Iterator[np.ndarray], layout: Strategy):
    self._images, self._draws, self._layout = images, draws, layout
    self._stream: Stream | None = None
    self._thread = concurrent.futures.ThreadPoolExecutor(1)
    self._coming = deque(self._thread.submit(self._load) for _ in range(READY))

  def next(self, wait: Callable[[Any], Any]) -> Drawn:
    """The images of the next step; `wait` returns when they have come."""
    coming = self._coming.popleft()
    wait(_Pending(coming))
    self._coming.append(self._thread.submit(self._load))
    return cast(Drawn, coming.result())

  def _load(self) -> Drawn | None:
    if self._stream is None:
      self._stream = Stream(self._images, self._draws)
    drawn = next(self._stream, None)
    return None if drawn is None else sharding.put(drawn, sharding.whole(self._layout))

  def close(self) -> None:
    """Ends the reading."""
    self._thread.shutdown(cancel_futures=True)
    if self._stream is not None:
      self._stream.close()


class _Pending:
  """What is being loaded, which can be waited for as an array can."""

  def __init__(self, future: concurrent.futures.Future[Any]):
    self._future = future

  def is_ready(self) -> bool:
    return self._future.done()

  def block_until_ready(self) -> "_Pending":
    concurrent.futures.wait([self._future])
    return self


def _stages(method: Method) -> Stages:
  if method.stages is None:
    raise UserError(
      "compute.streaming: networks that begin with an accuracy (trained.low), or that some classes "
      "have trained (queue.classes), need all images in memory; leave these fields out, or raise "
      "compute.memory_limit"
    )
  return method.stages


def _steps(stages: tuple[Stage, ...], iteration: int) -> Iterator[Step]:
  """Stages with each of their runs."""
  for stage in stages:
    for number in range(stage.times):
      yield Step(stage, iteration, number)


def _numbers(*numbers: int) -> tuple[np.ndarray, ...]:
  return tuple(np.asarray(number, np.int32) for number in numbers)
