"""The outer loop where the training images stay on disk: each step is given what it has drawn."""

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
from ml_collections import ConfigDict

from dcjax.common.errors import UserError
from dcjax.common.types import Array, Key
from dcjax.data import Dataset, OnDisk
from dcjax.data.on_disk import Drawn
from dcjax.data.stream import Stream
from dcjax.devices import processes, sharding
from dcjax.devices.strategy import Strategy
from dcjax.methods import Method, Step, unknown
from dcjax.run.loop import CHUNK_SECONDS, Loop, abstract_state, put_key

PLANNED = 32  # runs of steps whose draws are computed together
READY = 2  # draws that are on the device, or on the way, before they are needed


class Run(NamedTuple):
  """One run of a step."""

  step: Step
  iteration: int
  number: int  # among the runs of the step in a row


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
      UserError: what a step draws does not fit in memory, or the method needs all images there.
    """
    self._method, self._layout, self._total = method, layout, total
    self._images = cast(OnDisk, dataset.images)
    _check_draws(method)
    # Draws are computed by this process for itself, while all share the work of an iteration.
    self._sizes = replace(
      dataset,
      images=jnp.zeros((1, *dataset.image_shape), jnp.uint8),  # for the shape alone
      test_images=dataset.test_images[:0],
      test_labels=dataset.test_labels[:0],
    )
    self.dataset = sharding.put(self._sizes, sharding.replicated(layout))
    self._key, self._placed_key = key, put_key(layout, key)
    self._programs: dict[Step, Any] = {}
    self._planners: dict[Step, Any] = {}
    self._feed: _Feed | None = None
    self.seconds_per_iteration = CHUNK_SECONDS  # until the first is done, a guess
    self.waited = 0.0
    for step in (*method.start, *method.iteration):
      if step.times:
        self._black(step)

  def start(self, key: Key, wait: Callable[[Any], Any] = jax.block_until_ready) -> Any:
    """The initial state; `wait` returns arrays once they are computed."""
    runs, placed_key = list(_runs(self._method.start, 0)), put_key(self._layout, key)
    feed = self._reading(key, runs)
    try:
      state = None
      for run in runs:
        state, _ = self._take(run, state, placed_key, feed, wait)
      return state
    finally:
      feed.close()

  def abstract(self, key: Key) -> Any:
    """The shapes and the layout of a state."""
    return abstract_state(self._method, self._layout, key, self._sizes)

  def compile(self, state: Any, start: int) -> float:
    """As `Loop.compile`, for all steps; meanwhile the images of iteration `start` are read."""
    began = time.monotonic()
    self._read_from(start)
    for step in self._method.iteration:
      if step.times:
        self._programs[step] = self._compiled(step, self._place(state), self._placed_key)
    return time.monotonic() - began

  @property
  def waiting(self) -> int:
    """Bytes of the images that are on a device before they are needed, and while they are used."""
    steps = filter(lambda step: step.times, self._method.iteration)
    return (READY + 1) * max(self._black(step).images.nbytes for step in steps)

  @property
  def programs(self) -> list[jax.stages.Compiled]:
    """Those of the iterations, one for each step, once they are compiled."""
    return [self._programs[step] for step in self._method.iteration if step in self._programs]

  def start_programs(self, key: Key) -> list[jax.stages.Compiled]:
    """What makes the initial state, one for each step."""
    state, key, programs = None, put_key(self._layout, key), []
    for step in filter(lambda step: step.times, self._method.start):
      programs.append(self._compiled(step, state, key))
      state = programs[-1].out_info[0]
    return programs

  def _compiled(self, step: Step, state: Any, key: Key) -> jax.stages.Compiled:
    drawn = sharding.put(self._black(step), sharding.replicated(self._layout))
    arguments = state, drawn, self.dataset, key, *_numbers(0, 0)
    return self._program(step, arguments).lower(*arguments).compile()

  def run(
    self, state: Any, start: int, limit: int, wait: Callable[[Any], Any] = jax.block_until_ready
  ) -> tuple[Any, int, dict[str, np.ndarray]]:
    """Runs iteration `start`, the one after that of the last call; as `Loop.run`."""
    del limit
    feed = self._read_from(start)
    began = time.monotonic()
    state, metrics = self._place(state), dict[str, Array]()
    for run in _runs(self._method.iteration, start):
      state, found = self._take(run, state, self._placed_key, feed, wait)
      metrics |= found
    self.seconds_per_iteration = processes.highest(time.monotonic() - began)
    return state, start + 1, {name: np.asarray(value)[None] for name, value in metrics.items()}

  def _read_from(self, start: int) -> "_Feed":
    """What reads the images of an iteration and of all after it; begun once."""
    if self._feed is None:
      left = range(start, self._total)
      runs = (run for t in left for run in _runs(self._method.iteration, t))
      self._feed = self._reading(self._key, runs)
    return self._feed

  def close(self) -> None:
    """Ends the reading."""
    if self._feed is not None:
      self._feed.close()
      self._feed = None

  def _take(
    self, run: Run, state: Any, key: Key, feed: "_Feed", wait: Callable[[Any], Any]
  ) -> tuple[Any, dict[str, Array]]:
    """The state after a run, and its metrics; begins as soon as its images are there."""
    began = time.monotonic()
    drawn = feed.next(wait)
    self.waited += time.monotonic() - began
    arguments = state, drawn, self.dataset, key, *_numbers(run.iteration, run.number)
    if run.step not in self._programs:
      self._programs[run.step] = self._program(run.step, arguments)
    return cast(tuple[Any, dict[str, Array]], wait(self._programs[run.step](*arguments)))

  def _program(self, step: Step, arguments: tuple[Any, ...]) -> Any:
    """A step as a program that is compiled for these arguments, or others of the same shapes."""
    like = self._drawn(step)

    def run(state, drawn, dataset, key, iteration, number):
      key = self._key_of(step, key, iteration)
      indices, (old, put) = _shaped(drawn.indices, like), step.view(state, key)
      new, metrics = step.run(old, _only(dataset, drawn), indices, key, number)
      return put(new), metrics

    state, _ = jax.eval_shape(run, *arguments)
    shardings = sharding.state_shardings(self._layout, state), sharding.replicated(self._layout)
    return jax.jit(run, out_shardings=shardings)

  def _reading(self, key: Key, runs: Iterable[Run]) -> "_Feed":
    return _Feed(self._images, self._draws(key, iter(runs)), self._layout)

  def _draws(self, key: Key, runs: Iterator[Run]) -> Iterator[np.ndarray]:
    """What each run draws, int32 `[m]`."""
    while window := list(islice(runs, PLANNED)):
      planned = {
        step: iter(self._plan(step, key, [run for run in window if run.step == step]))
        for step in {run.step for run in window}
      }
      yield from (next(planned[run.step]) for run in window)

  def _plan(self, step: Step, key: Key, runs: list[Run]) -> np.ndarray:
    """What runs of one step draw, `[runs, m]`; always compiled for `PLANNED` runs."""
    if step not in self._planners:

      def draw(dataset, key, iteration, number):
        return _flat(step.draw(dataset, self._key_of(step, key, iteration), number))

      self._planners[step] = jax.jit(jax.vmap(draw, (None, None, 0, 0)))
    iterations, numbers = (
      np.resize(np.asarray(column, np.int32), PLANNED)
      for column in ([run.iteration for run in runs], [run.number for run in runs])
    )
    return np.asarray(self._planners[step](self._sizes, key, iterations, numbers))[: len(runs)]

  def _key_of(self, step: Step, key: Key, iteration: Array) -> Key:
    return key if step in self._method.start else jax.random.fold_in(key, iteration)

  def _drawn(self, step: Step) -> Any:
    """The shapes of what a step draws."""
    return jax.eval_shape(step.draw, self._sizes, self._key, *_numbers(0))

  def _black(self, step: Step) -> Drawn:
    """Images as a step is given them, for programs that are not run; `UserError` if too many."""
    drawn = sum(leaf.size for leaf in jax.tree.leaves(self._drawn(step)))
    rows = min(drawn, self._images.shape[0])
    self._images.check_fits(rows)
    images = np.zeros((rows, *self._images.image_shape), np.uint8)
    return Drawn(images, np.zeros(rows, np.int32), np.zeros(drawn, np.int32))

  def _place(self, state: Any) -> Any:
    return sharding.put(state, sharding.state_shardings(self._layout, state))


def loop_for(
  config: ConfigDict, method: Method, dataset: Dataset, key: Key, layout: Strategy
) -> Loop | StreamingLoop:
  """What runs the iterations of a config, with all images in memory or those on disk."""
  if isinstance(dataset.images, OnDisk):
    return StreamingLoop(method, dataset, key, layout, config.iterations)
  return Loop(method, dataset, key, layout, config.compute.chunk)


class _Feed:
  """The images of one run after another, put on the devices while earlier ones run."""

  def __init__(self, images: OnDisk, draws: Iterator[np.ndarray], layout: Strategy):
    self._images, self._draws, self._layout = images, draws, layout
    self._stream: Stream | None = None
    self._thread = concurrent.futures.ThreadPoolExecutor(1)
    self._coming = deque(self._thread.submit(self._load) for _ in range(READY))

  def next(self, wait: Callable[[Any], Any]) -> Drawn:
    """The images of the next run; `wait` returns when they have come."""
    coming = self._coming.popleft()
    wait(_Pending(coming))
    self._coming.append(self._thread.submit(self._load))
    return cast(Drawn, coming.result())

  def _load(self) -> Drawn | None:
    if self._stream is None:
      self._stream = Stream(self._images, self._draws)
    drawn = next(self._stream, None)
    return None if drawn is None else sharding.put(drawn, sharding.replicated(self._layout))

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


def _check_draws(method: Method) -> None:
  if any(step.draw is unknown for step in (*method.start, *method.iteration)):
    raise UserError(
      "compute.streaming: networks that begin with an accuracy (trained.low), or that some classes "
      "have trained (queue.classes), need all images in memory; leave these fields out, or raise "
      "compute.memory_limit"
    )


def _runs(steps: tuple[Step, ...], iteration: int) -> Iterator[Run]:
  """The runs of an iteration, in their order."""
  for step in steps:
    if iteration % step.every == 0:
      yield from (Run(step, iteration, number) for number in range(step.times))


def _only(dataset: Dataset, drawn: Drawn) -> Dataset:
  """A dataset of the images that were drawn; without classes, so that no others can be drawn."""
  images, labels = cast(Array, drawn.images), dataset.labels[cast(Array, drawn.source)]
  return replace(dataset, images=images, labels=labels, offsets=dataset.offsets[:0])


def _flat(indices: Any) -> Array:
  """A tree of indices as one array, int32 `[m]`."""
  leaves = [leaf.ravel() for leaf in jax.tree.leaves(indices)]
  return jnp.concatenate([jnp.zeros(0, jnp.int32), *leaves])


def _shaped(flat: Array, like: Any) -> Any:
  """The tree, shaped like another one, of which `_flat` has made an array."""
  leaves, tree = jax.tree.flatten(like)
  ends = np.cumsum([leaf.size for leaf in leaves], dtype=int)
  each = zip(leaves, ends, strict=True)
  return jax.tree.unflatten(tree, [flat[e - x.size : e].reshape(x.shape) for x, e in each])


def _numbers(*numbers: int) -> tuple[np.ndarray, ...]:
  return tuple(np.asarray(number, np.int32) for number in numbers)
