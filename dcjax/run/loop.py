"""The outer loop: iterations of a method in compiled chunks of any length."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcjax.common.types import Key
from dcjax.data import Dataset
from dcjax.devices import processes, sharding
from dcjax.devices.strategy import LONGEST_CHUNK, Strategy
from dcjax.methods import Method, run_steps

CHUNK_SECONDS = 1.0  # what a chunk should last when its length is not given


class Loop:
  """Runs a method's iterations on the devices of a strategy.

  One program serves chunks of every length: the bounds are its arguments. Iteration t draws from
  `fold_in(key, t)`, so the numbers do not depend on how iterations fall into chunks.
  """

  waited: float | None = None  # seconds, for images, which are all on the devices here
  waiting = 0  # bytes of images on the devices before they are needed, likewise

  def __init__(
    self, method: Method, dataset: Dataset, key: Key, layout: Strategy, chunk: int | None = None
  ):
    """Places the data; compiles nothing yet. `chunk` iterations make one, if it is given."""
    self._method, self._layout, self._chunk = method, layout, chunk
    self.dataset = sharding.spread(layout, dataset)
    self._key = put_key(layout, key)
    self.seconds_per_iteration = CHUNK_SECONDS  # of the last chunk; until then, a guess

    self._update = partial(run_steps, method.iteration)
    self.programs: list[jax.stages.Compiled] = []  # of the iterations

  def start(self, key: Key, wait: Callable[[Any], Any] = jax.block_until_ready) -> Any:
    """The initial state; `wait` returns arrays once they are computed."""
    arguments = put_key(self._layout, key), self.dataset
    return wait(self.start_programs(key)[0](*arguments))

  def start_programs(self, key: Key) -> list[jax.stages.Compiled]:
    """What makes the initial state, of a key and the dataset."""
    arguments = put_key(self._layout, key), self.dataset
    shapes = jax.eval_shape(self._method.init, *arguments)
    shardings = sharding.state_shardings(self._layout, shapes)
    return [jax.jit(self._method.init, out_shardings=shardings).lower(*arguments).compile()]

  def abstract(self, key: Key) -> Any:
    """The shapes and the layout of a state."""
    return abstract_state(self._method, self._layout, key, self.dataset)

  def compile(self, state: Any, start: int) -> float:
    """Compiles for states of this shape, after `start` iterations; returns the seconds it took."""
    began = time.monotonic()
    arguments = (self._place(state), self.dataset, self._key)
    metrics = jax.eval_shape(self._update, *arguments, start)[1]

    def iterations(state, dataset, key, start, stop):
      def body(t, carry):
        state, buffers = carry
        state, found = self._update(state, dataset, jax.random.fold_in(key, t), t)
        return state, jax.tree.map(lambda b, m: b.at[t - start].set(m), buffers, found)

      buffers = jax.tree.map(lambda m: jnp.zeros((LONGEST_CHUNK,), m.dtype), metrics)
      return jax.lax.fori_loop(start, stop, body, (state, buffers))

    shardings = sharding.state_shardings(self._layout, state), sharding.replicated(self._layout)
    program = jax.jit(iterations, out_shardings=shardings)
    self.programs = [program.lower(*arguments, *_bounds(0, 0)).compile()]
    return time.monotonic() - began

  def run(
    self, state: Any, start: int, limit: int, wait: Callable[[Any], Any] = jax.block_until_ready
  ) -> tuple[Any, int, dict[str, np.ndarray]]:
    """Runs one chunk from iteration `start`, going no further than `limit`.

    Args:
      state: after `start` iterations; still valid afterwards.
      start: iterations done.
      limit: more than `start`.
      wait: returns arrays once they are computed.

    Returns:
      The new state, the iterations done, and the metrics, `[iterations of this chunk]` each.
    """
    if not self.programs:
      self.compile(state, start)
    stop = min(limit, start + self._length())
    began = time.monotonic()
    arguments = (self._place(state), self.dataset, self._key, *_bounds(start, stop))
    state, buffers = wait(self.programs[0](*arguments))
    # Agreed on, since it decides how long the next chunk is.
    self.seconds_per_iteration = processes.highest((time.monotonic() - began) / (stop - start))
    metrics = {name: np.asarray(buffer)[: stop - start] for name, buffer in buffers.items()}
    return state, stop, metrics

  def close(self) -> None:
    """Ends what runs beside: nothing."""

  def _place(self, state: Any) -> Any:
    return sharding.put(state, sharding.state_shardings(self._layout, state))

  def _length(self) -> int:
    """Iterations of the next chunk."""
    paced = int(CHUNK_SECONDS / max(self.seconds_per_iteration, 1e-9))
    return max(1, min(self._chunk or paced, LONGEST_CHUNK))


def abstract_state(method: Method, layout: Strategy, key: Key, dataset: Dataset) -> Any:
  """The shapes of a method's state, and how it lies on the devices."""
  shapes = jax.eval_shape(method.init, key, dataset)
  return jax.tree.map(
    lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
    shapes,
    sharding.state_shardings(layout, shapes),
  )


def put_key(layout: Strategy, key: Key) -> Key:
  """A key on all devices."""
  if layout.described:
    return sharding.put(key, sharding.replicated(layout))
  data = sharding.put(jax.random.key_data(key), sharding.replicated(layout))
  return jax.random.wrap_key_data(data)


def _bounds(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
  return np.asarray(start, np.int32), np.asarray(stop, np.int32)
