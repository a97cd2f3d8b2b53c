"""The pool of networks of FRePo: new ones, their training on the set, and their features."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcjax.common.types import Array, Key, Params
from dcjax.methods import slots
from dcjax.methods.setup import Setup
from dcjax.nn import training
from dcjax.nn.layers import initial_statistics

Features = Callable[[Array], Array]  # images `[N, H, W, C]` to `[N, d]`


class Pool(NamedTuple):
  """Networks that are trained on the set, each at another point of its training."""

  networks: int = 10  # how many
  steps: int = 1  # in which a network is trained after it was used; 0: all are drawn anew each time
  oldest: int = 100  # steps after which a network is replaced
  lr: float = 3e-4  # of Adam, for networks
  batch: int = 1000  # synthetic images of a step, at random


class Networks(NamedTuple):
  """The pool; each array has a leading axis of networks, and without one there is none."""

  carry: Any  # parameters, and the optimiser's state, with running averages of batch norm if any
  age: Array  # int32 [networks], steps of their training

  def put(self, slot: Array, carry: Any, age: Array) -> "Networks":
    """The pool with one network replaced."""
    return Networks(slots.put(self.carry, slot, carry), self.age.at[slot].set(age))


class Trainer:
  """What is done with a network of the pool."""

  def __init__(self, setup: Setup, pool: Pool):
    """Computes nothing."""
    self._setup, self._pool = setup, pool
    network = setup.network
    self._optimizer = training.adam(pool.lr)
    self._learned_by = self._optimizer
    if network.batch_norm:  # which keeps running averages, as features are frozen with them
      self._learned_by = training.with_averages(self._optimizer, network.statistics)

  def fresh(self, key: Key) -> Any:
    """A new network: its parameters, and the state of its optimiser."""
    network = self._setup.network
    params = network.init(key)
    state = self._optimizer.init(params)
    return params, (state, self._averages(params)) if network.batch_norm else state

  def _averages(self, params: Params) -> Params:
    formation = self._setup.formation
    image = jax.ShapeDtypeStruct((1, *formation.shape), jnp.float32)
    shapes = jax.eval_shape(self._setup.network.statistics, params, image)
    return initial_statistics(shapes)

  def train(self, carry: Any, examples: tuple[Array, Array], key: Key, steps: Array | int) -> Any:
    """A network after so many steps, each on some of the images."""
    images, labels = examples
    count = min(self._pool.batch, len(images))
    batching = training.Batching(count, self._setup.strategy.blocks(count))
    learner = training.Learner(
      self._setup.network, self._learned_by, batching, training.squared_error
    )

    def step(number, carry):
      step_key = jax.random.fold_in(key, number)
      some = jax.random.permutation(step_key, len(images))[:count]
      return training.epoch(learner, carry, images[some], labels[some], step_key)

    return jax.lax.fori_loop(0, steps, step, carry)

  def features(self, carry: Any) -> Features:
    """Those of a network."""
    network, (params, state) = self._setup.network, carry
    stats = state[1] if network.batch_norm else None
    return self._in_blocks(lambda images: network.apply(params, images, stats)[1])

  def random_features(self, key: Key) -> Features:
    """The same of networks that have just been drawn, side by side."""
    keys, count = jax.random.split(key, self._pool.networks), self._pool.networks
    made = [self.features(self.fresh(each)) for each in keys]
    return lambda images: jnp.concatenate([one(images) for one in made], axis=1) / count**0.5

  def _in_blocks(self, function: Features) -> Features:
    strategy = self._setup.strategy
    return lambda images: training.in_blocks(function, images, block=strategy.blocks(len(images)))
