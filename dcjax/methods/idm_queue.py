"""IDM's queue of networks (section 4.2), which real images train for various lengths."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import augment, data, training
from dcjax.data import Dataset
from dcjax.methods import pool, slots
from dcjax.nn import Network
from dcjax.strategy import Strategy
from dcjax.types import Array, Key, Params

RATE_NOISE = 0.1  # of pretrained networks: how far their rates differ (supplement, Eq. 6)


class QueueSettings(NamedTuple):
  """IDM's hyper-parameters of the queue of networks.

  Attributes:
    initial: N, networks that it starts with.
    size: N_max, most networks in it.
    interval: iterations from one training and one new network to the next.
    steps: K, of SGD in one training.
    batch: real images of a step.
    lr: learning rate of SGD.
    pretrained: networks to start from in place of random ones (supplement, section 3); 0: none.
    pretraining: steps of SGD that each of them has been trained for.
    classes: share of the classes that each of their copies is trained on, in (0, 1].
  """

  initial: int
  size: int
  interval: int
  steps: int
  batch: int
  lr: float
  pretrained: int
  pretraining: int
  classes: float


class Trained(NamedTuple):
  """A network, and how it goes on being trained."""

  params: Params
  optimizer: Any  # its optimiser's state: momentum shaped as the network
  accuracy: Array  # float32, on real images, when last trained
  rate: Array  # float32, of SGD
  classes: Array  # [classes] bool, on which it is trained


class Queue(NamedTuple):
  """Networks in a ring: number n, counted from the first that was pushed, is in slot n % size."""

  slots: Trained  # each leaf with a leading axis [size]
  pushed: Array  # int32, networks so far; the latest `size` of them are in the queue
  pretrained: Params  # each leaf with a leading axis [pretrained]; or empty


class Networks(NamedTuple):
  """The operations of the queue (section 4.2); pushing into a full one pops the oldest."""

  network: Network
  settings: QueueSettings
  strategy: Strategy
  augmentation: augment.Augmentation

  def empty(self, classes: int) -> Queue:
    """A queue without networks, and with zeros for those pretrained."""
    one, settings = jax.eval_shape(lambda: self._random(classes, jax.random.key(0))), self.settings
    pretrained = slots.zeros(one.params, settings.pretrained) if settings.pretrained else {}
    return Queue(slots.zeros(one, settings.size), jnp.int32(0), pretrained)

  def push_key(self, key: Key, number: Array) -> Key:
    """The key of one of the first networks, from that of the queue."""
    return jax.random.fold_in(jax.random.split(key)[1], number)

  def push_places(self, dataset: Dataset, key: Key) -> Array:
    """Which training images `push` takes, int32 `[n]`."""
    return _sample(dataset, jax.random.split(key, 4)[1])

  def train_places(self, dataset: Dataset, key: Key) -> Array:
    """Which training images `train` takes, int32 `[n]`, of networks trained on all classes."""
    steps_key, sample_key = jax.random.split(key)
    of_steps = self._places(dataset, steps_key, 0, self.settings.steps)
    return jnp.concatenate([of_steps, _sample(dataset, sample_key)])

  def sample(self, queue: Queue, key: Key) -> Array:
    """The slot of a network, each as likely as the others."""
    return jax.random.randint(key, (), 0, jnp.minimum(queue.pushed, self.settings.size))

  def train(self, queue: Queue, slot: Array, dataset: Dataset, key: Key, due: Array) -> Queue:
    """Trains a network for K steps, if that is due, and puts it back."""

    def train(before):
      steps_key, sample_key = jax.random.split(key)
      params, state = self._steps(before, dataset, steps_key, 0, self.settings.steps)
      accuracy = self._accuracy(params, dataset, sample_key)
      return before._replace(params=params, optimizer=state, accuracy=accuracy)

    after = jax.lax.cond(due, train, lambda before: before, slots.at(queue.slots, slot))
    return queue._replace(slots=slots.put(queue.slots, slot, after))

  def push(self, queue: Queue, dataset: Dataset, key: Key, due: Array | bool) -> Queue:
    """Adds a network, if that is due, in the place of the oldest one if the queue is full."""
    slot = queue.pushed % self.settings.size
    after = jax.lax.cond(
      due,
      lambda _: self._fresh(queue.pretrained, dataset, key),
      lambda before: before,
      slots.at(queue.slots, slot),
    )
    return queue._replace(
      slots=slots.put(queue.slots, slot, after), pushed=queue.pushed + jnp.int32(due)
    )

  def _fresh(self, pretrained: Params, dataset: Dataset, key: Key) -> Trained:
    """A new network."""
    new = self._untested(pretrained, dataset.num_classes, key)
    sample_key = jax.random.split(key, 4)[1]
    return new._replace(accuracy=self._accuracy(new.params, dataset, sample_key))

  def _untested(self, pretrained: Params, classes: int, key: Key) -> Trained:
    """A new network whose accuracy has not been measured."""
    init_key, _, rate_key, classes_key = jax.random.split(key, 4)
    rate = jnp.float32(self.settings.lr)
    if self.settings.pretrained:
      params = slots.at(pretrained, jax.random.randint(init_key, (), 0, self.settings.pretrained))
      noise = jax.random.uniform(rate_key, (), jnp.float32, minval=-RATE_NOISE, maxval=RATE_NOISE)
      rate = rate * (1 + noise)
      some = max(1, round(self.settings.classes * classes))
      chosen = jax.random.permutation(classes_key, classes) < some
    else:
      params, chosen = self.network.init(init_key), jnp.ones(classes, bool)
    return Trained(params, self._optimizer(rate).init(params), jnp.float32(0), rate, chosen)

  @property
  def parts(self) -> int:
    """In how many parts a network is pretrained where all its images do not fit in memory."""
    return training.parts(self.settings.pretraining)

  def pretrain_part(self, queue: Queue, dataset: Dataset, key: Key, number: Array) -> Queue:
    """A part of the training of a network to start from (supplement, section 3).

    Slot 0 holds the network meanwhile.

    Args:
      key: of the queue.
      number: of the part, among those of all networks.
    """
    which, part, init_key, steps_key = self._part(key, number)
    first = self._random(dataset.num_classes, init_key)
    before = jax.tree.map(
      lambda new, old: jnp.where(part == 0, new, old), first, slots.at(queue.slots, 0)
    )
    bounds = training.part_bounds(part, self.settings.pretraining)
    params, state = self._steps(before, dataset, steps_key, *bounds)
    kept = slots.put(queue.slots, 0, before._replace(params=params, optimizer=state))
    return queue._replace(slots=kept, pretrained=slots.put(queue.pretrained, which, params))

  def part_places(self, dataset: Dataset, key: Key, number: Array) -> Array:
    """Which training images `pretrain_part` takes, int32 `[n]`."""
    _, part, _, steps_key = self._part(key, number)
    return self._places(dataset, steps_key, part * training.PART, training.PART)

  def _part(self, key: Key, number: Array) -> tuple[Array, Array, Key, Key]:
    """Which network a part is of, which part it is, and the network's two keys."""
    which, part = jnp.divmod(number, self.parts)
    keys = jax.random.split(jax.random.split(key)[0], self.settings.pretrained)
    init_key, steps_key = jax.random.split(keys[which])
    return which, part, init_key, steps_key

  def _random(self, classes: int, key: Key) -> Trained:
    """A network of random weights to pretrain."""
    random = self._replace(settings=self.settings._replace(pretrained=0))
    return random._untested({}, classes, key)

  def _steps(
    self, before: Trained, dataset: Dataset, key: Key, start: Array | int, stop: Array | int
  ) -> tuple[Params, Any]:
    """The parameters and the optimiser's state after steps `start` to `stop` on real images."""
    batch = self.settings.batch
    batches = training.Settings(
      batch, self.strategy.blocks(batch), dataset.normalise, self.augmentation
    )
    return training.random_steps(
      self.network,
      self._optimizer(before.rate),
      (before.params, before.optimizer),
      dataset.images,
      dataset.labels,
      key,
      batches,
      start=start,
      stop=stop,
      draw=lambda key: data.sample_of_classes(dataset, key, before.classes, n=batch),
    )

  def _places(self, dataset: Dataset, key: Key, start: Array | int, steps: int) -> Array:
    """What so many `_steps` take of all classes, int32 `[n]`."""
    every = jnp.ones(dataset.num_classes, bool)

    def draw(key):
      return data.sample_of_classes(dataset, key, every, n=self.settings.batch)

    return training.step_places(draw, key, start=start, steps=steps)

  def _accuracy(self, params: Params, dataset: Dataset, key: Key) -> Array:
    """The share of a sample of training images that a network classifies right."""
    index = _sample(dataset, key)
    block = self.strategy.blocks(len(index))
    return pool.accuracy(self.network, params, dataset, index, block=block)

  def _optimizer(self, rate: Array) -> optax.GradientTransformation:
    return training.sgd(rate, momentum=pool.MOMENTUM, weight_decay=pool.WEIGHT_DECAY)


def _sample(dataset: Dataset, key: Key) -> Array:
  """The training images that an accuracy is measured on, int32 `[n]`."""
  return jax.random.permutation(key, len(dataset.labels))[: pool.SAMPLE]
