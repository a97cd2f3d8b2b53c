"""IDM's queue of networks (section 4.2), which real images train for various lengths.

Two schedules have been published, in both of which one network of the queue serves in an iteration.
In the authors' program, which made the numbers, two are then drawn to be trained, in every
iteration; only a new network is pushed every `interval` iterations. In the paper, the one that has
served is trained, and by the supplement (section 1) only when a new one is pushed, so that most
that serve have never been.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import data
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.methods import slots, trained_networks
from dcjax.methods.definition import by_rule
from dcjax.methods.setup import Setup
from dcjax.nn import training

RATE_NOISE = 0.1  # of pretrained networks: how far their rates differ (supplement, Eq. 6)


# What a schedule says of `trained`, `train_every` (None: the `interval`) and `accuracy`.
SCHEDULES: dict[str, tuple[int, int | None, str]] = {
  "program": (2, 1, "running"),
  "paper": (0, None, "measured"),
}
ACCURACIES = ("running", "measured")


class QueueSettings(NamedTuple):
  """IDM's hyper-parameters of the queue of networks (section 4.2)."""

  # 'program' (authors' code) or 'paper' (section 4.2): what None stands for in the next fields
  schedule: str = "program"
  initial: int = 3  # N, networks that the queue starts with (authors' code)
  size: int = 100  # N_max, most networks in the queue
  networks: int = 1  # how many of the queue serve in one iteration, no two the same (line 3)
  # How many are drawn to be trained, no two the same; 0: those that serve; None: the schedule's
  trained: int = by_rule(int)
  # Iterations from one new network to the next; None: 5 at one image per class, else 30
  interval: int = by_rule(int)
  train_every: int = by_rule(int)  # iterations between two trainings; None: the schedule's
  # K, steps of SGD in one training; None: 10, but 50 for CIFAR-100 with ten images per class and
  # for Tiny ImageNet with fifty (authors' code)
  steps: int = by_rule(int)
  batch: int = 256  # real images of a step
  lr: float = 0.01  # of SGD
  # 'none', or transforms as in dsa.strategy, drawn for each batch, of the images that train; the
  # paper does not say
  augmentation: str = "none"
  # Acc of Eq. 5: 'running', the mean over all batches that have trained a network, 0 for a new one
  # (authors' code); or 'measured' on real images after each training, and of a new one; None: the
  # schedule's
  accuracy: str = by_rule(str)
  pretrained: int = 0  # networks to start from in place of random ones (supplement, section 3)
  # Passes over the real images that each of them is trained for. The arithmetic counts it in steps
  pretraining: int = 10
  classes: float = 1.0  # share of the classes that each copy is trained on, in (0, 1]


class Trained(NamedTuple):
  """A network, and how it goes on being trained."""

  params: Params
  optimizer: Any  # its optimiser's state: momentum shaped as the network
  accuracy: Array  # float32, in [0, 1]
  steps: Array  # float32, of its training so far
  rate: Array  # float32, of SGD
  classes: Array  # [classes] bool, on which it is trained


class Queue(NamedTuple):
  """Networks in a ring: number n, counted from the first that was pushed, is in slot n % size."""

  slots: Trained  # each leaf with a leading axis [size]
  pushed: Array  # int32, networks so far; the latest `size` of them are in the queue
  pretrained: Params  # each leaf with a leading axis [pretrained]; or empty


class NetworkQueue(NamedTuple):
  """The operations of the queue (section 4.2); pushing into a full one pops the oldest."""

  setup: Setup
  settings: QueueSettings

  def empty(self, classes: int) -> Queue:
    """A queue without networks, and with zeros for those pretrained."""
    one, settings = jax.eval_shape(lambda: self._random(classes, jax.random.key(0))), self.settings
    pretrained = slots.zeros(one.params, settings.pretrained) if settings.pretrained else {}
    return Queue(slots.zeros(one, settings.size), jnp.int32(0), pretrained)

  def sample(self, queue: Queue, key: Key, count: int) -> Array:
    """The slots of some networks, int32 `[count]`: any of them, no two the same."""
    size = self.settings.size
    lots = jnp.where(jnp.arange(size) < queue.pushed, jax.random.uniform(key, (size,)), -1)
    return jax.lax.top_k(lots, count)[1]

  def draw_to_train(self, dataset: Dataset, key: Key, classes: Array) -> tuple[Array, Array | None]:
    """Draws the real images of K steps on some classes, and those that measure the accuracy.

    Returns:
      Indices, int32 `[steps, batch]` and `[sample]`; None if nothing is measured.
    """
    steps_key, sample_key = jax.random.split(key)
    of_steps = self._draw_steps(dataset, steps_key, classes, 0, self.settings.steps)
    return of_steps, self._sample(dataset, sample_key)

  def train(
    self, before: Trained, dataset: Dataset, indices: tuple[Array, Array | None], key: Key
  ) -> Trained:
    """Trains a network for K steps, on what `draw_to_train` has drawn with the same key."""
    steps_key, steps = jax.random.split(key)[0], before.steps + self.settings.steps
    (params, state), right = self._steps(
      before, dataset, indices[0], steps_key, 0, self.settings.steps
    )
    # The mean over all batches so far, unless it is measured.
    running = (before.accuracy * before.steps + right) / steps
    accuracy = self._accuracy(params, dataset, indices[1], running)
    return before._replace(params=params, optimizer=state, accuracy=accuracy, steps=steps)

  def draw_to_test(self, dataset: Dataset, key: Key) -> Array | None:
    """Draws the real images that measure the accuracy of a new network, as `draw_to_train`."""
    return self._sample(dataset, jax.random.split(key, 4)[1])

  def new(self, queue: Queue, dataset: Dataset, indices: Array | None, key: Key) -> Queue:
    """A queue of one slot with a new network in it, tested on what `draw_to_test` has drawn."""
    new = self._untested(queue.pretrained, dataset.num_classes, key)
    accuracy = self._accuracy(new.params, dataset, indices, new.accuracy)
    return queue._replace(slots=new._replace(accuracy=accuracy), pushed=queue.pushed + 1)

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
      params, chosen = self.setup.network.init(init_key), jnp.ones(classes, bool)
    optimizer, nothing = self._optimizer(rate).init(params), jnp.float32(0)
    return Trained(params, optimizer, nothing, nothing, rate, chosen)

  @property
  def chunks(self) -> int:
    """In how many chunks of steps a network is pretrained."""
    return training.chunks(self.settings.pretraining)

  def draw_chunk(self, dataset: Dataset, key: Key, number: Array) -> Array:
    """Draws the real images of `pretrain`, int32 `[steps, batch]`."""
    _, chunk, _, steps_key = self._chunk(key, number)
    start, _ = training.chunk_bounds(chunk, self.settings.pretraining)
    classes = jnp.ones(dataset.num_classes, bool)
    return self._draw_steps(dataset, steps_key, classes, start, training.CHUNK)

  def pretrain(
    self, queue: Queue, dataset: Dataset, indices: Array, key: Key, number: Array
  ) -> Queue:
    """A chunk of the training of a network to start from (supplement, section 3).

    Slot 0 holds the network meanwhile.

    Args:
      queue: without networks.
      dataset: the real images.
      indices: of `draw_chunk` with the same key and number.
      key: of the queue.
      number: of the chunk, among those of all networks.
    """
    which, chunk, init_key, steps_key = self._chunk(key, number)
    first = self._random(dataset.num_classes, init_key)
    before = jax.tree.map(
      lambda new, old: jnp.where(chunk == 0, new, old), first, slots.at(queue.slots, 0)
    )
    bounds = training.chunk_bounds(chunk, self.settings.pretraining)
    (params, state), _ = self._steps(before, dataset, indices, steps_key, *bounds)
    kept = slots.put(queue.slots, 0, before._replace(params=params, optimizer=state))
    return queue._replace(slots=kept, pretrained=slots.put(queue.pretrained, which, params))

  def _chunk(self, key: Key, number: Array) -> tuple[Array, Array, Key, Key]:
    """Which network a chunk is of, which chunk it is, and the network's two keys."""
    which, chunk = jnp.divmod(number, self.chunks)
    keys = jax.random.split(jax.random.split(key)[0], self.settings.pretrained)
    init_key, steps_key = jax.random.split(keys[which])
    return which, chunk, init_key, steps_key

  def _random(self, classes: int, key: Key) -> Trained:
    """A network of random weights to pretrain."""
    random = self._replace(settings=self.settings._replace(pretrained=0))
    return random._untested({}, classes, key)

  def _draw_steps(
    self, dataset: Dataset, key: Key, classes: Array, start: Array | int, steps: int
  ) -> Array:
    """Draws the real images of so many `_steps` on some classes, int32 `[steps, batch]`."""

    def draw(key):
      return data.sample_of_classes(dataset, key, classes, n=self.settings.batch)

    return training.step_indices(draw, key, start=start, steps=steps)

  def _steps(
    self,
    before: Trained,
    dataset: Dataset,
    indices: Array,
    key: Key,
    start: Array | int,
    stop: Array | int,
  ) -> tuple[tuple[Params, Any], Array]:
    """Steps `start` to `stop` on real images, see `training.random_steps`."""
    batch = self.settings.batch
    block = self.setup.strategy.blocks(batch)
    batching = training.Batching(batch, block, dataset.normalise, self.setup.augmentations.network)
    carry, optimizer = (before.params, before.optimizer), self._optimizer(before.rate)
    return training.random_steps(
      training.Learner(self.setup.network, optimizer, batching),
      carry, dataset.images, dataset.labels, key, start=start, stop=stop, indices=indices,
    )  # fmt: skip

  def _sample(self, dataset: Dataset, key: Key) -> Array | None:
    """The training images that an accuracy is measured on, int32 `[sample]`, if it is."""
    if self.settings.accuracy == "running":
      return None
    return jax.random.permutation(key, len(dataset.labels))[: trained_networks.SAMPLE]

  def _accuracy(
    self, params: Params, dataset: Dataset, indices: Array | None, running: Array
  ) -> Array:
    """The share of some training images that a network classifies right, or else `running`."""
    if indices is None:
      return running
    block = self.setup.strategy.blocks(len(indices))
    return trained_networks.accuracy(self.setup.network, params, dataset, indices, block=block)

  def _optimizer(self, rate: Array) -> optax.GradientTransformation:
    return training.sgd(
      rate, momentum=trained_networks.MOMENTUM, weight_decay=trained_networks.WEIGHT_DECAY
    )
