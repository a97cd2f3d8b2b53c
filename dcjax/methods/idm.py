"""IDM: improved distribution matching (Zhao, Li, Qin and Yu, CVPR 2023).

DM with three changes (Algorithm 1): a formation makes more images of those stored (section 4.1);
the embedding is a network from a queue of networks that real images have trained for various
lengths (section 4.2); and the cross-entropy of the synthetic images, weighted by the accuracy of
that network on real ones, is added to the loss (section 4.3, Eq. 5).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import augment, data, training
from dcjax.augment import Augmentations
from dcjax.data import Dataset
from dcjax.formation import IDENTITY, Formation, Stored
from dcjax.methods import (
  Method,
  Stage,
  Stages,
  image_optimizer,
  initial_places,
  initialiser,
  pool,
  step_images,
)
from dcjax.methods.feature_matching import FeatureMatching
from dcjax.nn import Network
from dcjax.strategy import Strategy
from dcjax.types import Array, Key, Params

RATE_NOISE = 0.1  # of pretrained networks: how far their rates differ (supplement, Eq. 6)


class Settings(NamedTuple):
  """IDM's hyper-parameters of the matching.

  Attributes:
    ipc: stored images per class.
    init: an entry of `methods.INITS`.
    batch_real: real images of each class in one iteration.
    lr_image: learning rate of the images.
    regularisation: lambda_reg of Eq. 5; 0: none.
  """

  ipc: int
  init: str
  batch_real: int
  lr_image: float
  regularisation: float


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


class State(NamedTuple):
  """What IDM carries from one iteration to the next."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images
  queue: Queue
  iterations: Array  # int32, so far


def idm(
  network: Network,
  settings: Settings,
  queue_settings: QueueSettings,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
  formation: Formation = IDENTITY,
) -> Method:
  """IDM (Algorithm 1).

  Args:
    network: phi; its features are matched, its logits regularise.
    settings: hyper-parameters of the matching.
    queue_settings: hyper-parameters of the queue.
    strategy: how the work is laid out on the machine.
    augmentations: of what is matched, and of what networks are trained on.
    formation: partition and expansion.

  Returns:
    The method; its metrics are `loss`, Eq. 5 averaged over classes, and `accuracy`, that of the
    network that was sampled.
  """
  optimizer = image_optimizer(settings.lr_image)
  images: dict[str, Any] = {"ipc": settings.ipc, "init": settings.init, "formation": formation}
  initialise = initialiser(optimizer, **images)
  matching = FeatureMatching(network, settings.batch_real, strategy, augmentations, formation)
  networks = _Networks(network, queue_settings, strategy, augmentations.network)

  def init(key: Key, dataset: Dataset) -> State:
    images_key, queue_key = jax.random.split(key)
    queue = networks.start(dataset, queue_key)
    return State(*initialise(images_key, dataset), queue, jnp.int32(0))

  def update(state: State, dataset: Dataset, key: Key) -> tuple[State, dict[str, Array]]:
    sample_key, match_key, train_key, push_key = jax.random.split(key, 4)
    slot = networks.sample(state.queue, sample_key)
    phi = _at(state.queue.slots, slot)
    weight = settings.regularisation * phi.accuracy if settings.regularisation else None
    losses, gradients = matching.match(phi.params, state.stored, dataset, match_key, weight)
    state = step_images(optimizer, state, gradients)
    due = state.iterations % queue_settings.interval == 0
    queue = networks.train(state.queue, slot, dataset, train_key, due)
    queue = networks.push(queue, dataset, push_key, due)
    state = state._replace(queue=queue, iterations=state.iterations + 1)
    return state, {"loss": losses.mean(), "accuracy": phi.accuracy}

  # The same in stages.

  def start(state: None, dataset: Dataset, key: Key, number: Array) -> State:
    images_key, _ = jax.random.split(key)
    queue = networks.empty(dataset.num_classes)
    return State(*initialise(images_key, dataset), queue, jnp.int32(0))

  def start_places(dataset: Dataset, key: Key, number: Array) -> Array:
    return initial_places(dataset, jax.random.split(key)[0], **images)

  def pretrain(state: State, dataset: Dataset, key: Key, number: Array) -> State:
    queue_key = jax.random.split(key)[1]
    return state._replace(queue=networks.pretrain_part(state.queue, dataset, queue_key, number))

  def pretrain_places(dataset: Dataset, key: Key, number: Array) -> Array:
    return networks.part_places(dataset, jax.random.split(key)[1], number)

  def fill(state: State, dataset: Dataset, key: Key, number: Array) -> State:
    push_key = networks.push_key(jax.random.split(key)[1], number)
    return state._replace(queue=networks.push(state.queue, dataset, push_key, due=True))

  def fill_places(dataset: Dataset, key: Key, number: Array) -> Array:
    return networks.push_places(dataset, networks.push_key(jax.random.split(key)[1], number))

  def places(dataset: Dataset, key: Key, number: Array) -> Array:
    return matching.places(dataset, jax.random.split(key, 4)[1])

  def places_when_due(dataset: Dataset, key: Key, number: Array) -> Array:
    _, _, train_key, push_key = jax.random.split(key, 4)
    of_networks = networks.train_places(dataset, train_key), networks.push_places(dataset, push_key)
    return jnp.concatenate([places(dataset, key, number), *of_networks])

  def run(state: State, dataset: Dataset, key: Key, number: Array):
    return update(state, dataset, key)

  starting = (
    Stage(start, start_places),
    Stage(pretrain, pretrain_places, times=queue_settings.pretrained * networks.parts),
    Stage(fill, fill_places, times=queue_settings.initial),
  )
  usual, due = (Stage(run, places),), (Stage(run, places_when_due),)
  stages = Stages(starting, lambda t: usual if t % queue_settings.interval else due)
  # Which classes a network is trained on does not follow from a key alone.
  return Method(init, update, stages=stages if queue_settings.classes == 1 else None)


class _Networks(NamedTuple):
  """The operations of the queue (section 4.2); pushing into a full one pops the oldest."""

  network: Network
  settings: QueueSettings
  strategy: Strategy
  augmentation: augment.Augmentation

  def start(self, dataset: Dataset, key: Key) -> Queue:
    """A queue of the first `initial` networks."""
    empty = self.empty(dataset.num_classes)
    queue = empty._replace(pretrained=self._pretrain(dataset, jax.random.split(key)[0]))

    def body(number, queue):
      return self.push(queue, dataset, self.push_key(key, number), due=True)

    return jax.lax.fori_loop(0, self.settings.initial, body, queue)

  def empty(self, classes: int) -> Queue:
    """A queue without networks, and with zeros for those pretrained."""
    one, settings = jax.eval_shape(lambda: self._random(classes, jax.random.key(0))), self.settings
    pretrained = _zeros(one.params, settings.pretrained) if settings.pretrained else {}
    return Queue(_zeros(one, settings.size), jnp.int32(0), pretrained)

  def push_key(self, key: Key, number: Array) -> Key:
    """The key of one of the first networks, from that of `start`."""
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

    after = jax.lax.cond(due, train, lambda before: before, _at(queue.slots, slot))
    return queue._replace(slots=_put(queue.slots, slot, after))

  def push(self, queue: Queue, dataset: Dataset, key: Key, due: Array | bool) -> Queue:
    """Adds a network, if that is due, in the place of the oldest one if the queue is full."""
    slot = queue.pushed % self.settings.size
    after = jax.lax.cond(
      due,
      lambda _: self._fresh(queue.pretrained, dataset, key),
      lambda before: before,
      _at(queue.slots, slot),
    )
    return queue._replace(
      slots=_put(queue.slots, slot, after), pushed=queue.pushed + jnp.int32(due)
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
      params = _at(pretrained, jax.random.randint(init_key, (), 0, self.settings.pretrained))
      noise = jax.random.uniform(rate_key, (), minval=-RATE_NOISE, maxval=RATE_NOISE)
      rate = rate * (1 + noise)
      some = max(1, round(self.settings.classes * classes))
      chosen = jax.random.permutation(classes_key, classes) < some
    else:
      params, chosen = self.network.init(init_key), jnp.ones(classes, bool)
    return Trained(params, self._optimizer(rate).init(params), jnp.float32(0), rate, chosen)

  def _pretrain(self, dataset: Dataset, key: Key) -> Params:
    """Networks to start from (supplement, section 3); empty if there are to be none."""
    if not self.settings.pretrained:
      return {}

    def one(key):
      init_key, steps_key = jax.random.split(key)
      start = self._random(dataset.num_classes, init_key)
      return self._steps(start, dataset, steps_key, 0, self.settings.pretraining)[0]

    return jax.lax.map(one, jax.random.split(key, self.settings.pretrained))

  @property
  def parts(self) -> int:
    """In how many parts a network is pretrained where all its images do not fit in memory."""
    return -(-self.settings.pretraining // training.PART)

  def pretrain_part(self, queue: Queue, dataset: Dataset, key: Key, number: Array) -> Queue:
    """A part of `_pretrain` with the key of `start`; slot 0 holds the network meanwhile."""
    which, part, init_key, steps_key = self._part(key, number)
    first = self._random(dataset.num_classes, init_key)
    before = jax.tree.map(
      lambda new, old: jnp.where(part == 0, new, old), first, _at(queue.slots, 0)
    )
    start = part * training.PART
    stop = jnp.minimum(start + training.PART, self.settings.pretraining)
    params, state = self._steps(before, dataset, steps_key, start, stop)
    slots = _put(queue.slots, 0, before._replace(params=params, optimizer=state))
    return queue._replace(slots=slots, pretrained=_put(queue.pretrained, which, params))

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


def _zeros(tree: Any, slots: int) -> Any:
  """Zeros shaped as a tree's arrays, with a leading axis of slots."""
  return jax.tree.map(lambda leaf: jnp.zeros((slots, *leaf.shape), leaf.dtype), tree)


def _at(tree: Any, slot: Array) -> Any:
  """One slot of arrays with a leading axis of slots."""
  return jax.tree.map(lambda leaf: leaf[slot], tree)


def _put(tree: Any, slot: Array, values: Any) -> Any:
  """Arrays with one slot replaced."""
  return jax.tree.map(lambda leaf, value: leaf.at[slot].set(value), tree, values)
