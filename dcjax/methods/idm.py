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
from dcjax.methods import Method, image_optimizer, initialiser, pool, step_images
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
  initialise = initialiser(optimizer, ipc=settings.ipc, init=settings.init, formation=formation)
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

  return Method(init, update)


class _Networks(NamedTuple):
  """The operations of the queue (section 4.2); pushing into a full one pops the oldest."""

  network: Network
  settings: QueueSettings
  strategy: Strategy
  augmentation: augment.Augmentation

  def start(self, dataset: Dataset, key: Key) -> Queue:
    """A queue of the first `initial` networks."""
    settings = self.settings
    pretrained_key, push_key = jax.random.split(key)
    pretrained = self._pretrain(dataset, pretrained_key)
    one = jax.eval_shape(self._fresh, pretrained, dataset, key)
    slots = jax.tree.map(lambda leaf: jnp.zeros((settings.size, *leaf.shape), leaf.dtype), one)
    queue = Queue(slots, jnp.int32(0), pretrained)

    def body(number, queue):
      return self.push(queue, dataset, jax.random.fold_in(push_key, number), due=True)

    return jax.lax.fori_loop(0, settings.initial, body, queue)

  def sample(self, queue: Queue, key: Key) -> Array:
    """The slot of a network, each as likely as the others."""
    return jax.random.randint(key, (), 0, jnp.minimum(queue.pushed, self.settings.size))

  def train(self, queue: Queue, slot: Array, dataset: Dataset, key: Key, due: Array) -> Queue:
    """Trains a network for K steps, if that is due, and puts it back."""

    def train(before):
      steps_key, sample_key = jax.random.split(key)
      params, state = self._steps(before, dataset, steps_key, self.settings.steps)
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
    init_key, sample_key, rate_key, classes_key = jax.random.split(key, 4)
    rate, classes = jnp.float32(self.settings.lr), dataset.num_classes
    if self.settings.pretrained:
      params = _at(pretrained, jax.random.randint(init_key, (), 0, self.settings.pretrained))
      noise = jax.random.uniform(rate_key, (), minval=-RATE_NOISE, maxval=RATE_NOISE)
      rate = rate * (1 + noise)
      some = max(1, round(self.settings.classes * classes))
      chosen = jax.random.permutation(classes_key, classes) < some
    else:
      params, chosen = self.network.init(init_key), jnp.ones(classes, bool)
    accuracy = self._accuracy(params, dataset, sample_key)
    return Trained(params, self._optimizer(rate).init(params), accuracy, rate, chosen)

  def _pretrain(self, dataset: Dataset, key: Key) -> Params:
    """Networks to start from (supplement, section 3); empty if there are to be none."""
    if not self.settings.pretrained:
      return {}
    random = self._replace(settings=self.settings._replace(pretrained=0))

    def one(key):
      init_key, steps_key = jax.random.split(key)
      start = random._fresh({}, dataset, init_key)
      return self._steps(start, dataset, steps_key, self.settings.pretraining)[0]

    return jax.lax.map(one, jax.random.split(key, self.settings.pretrained))

  def _steps(self, start: Trained, dataset: Dataset, key: Key, steps: int) -> tuple[Params, Any]:
    """The parameters and the optimiser's state after steps of SGD on real images."""
    batch = self.settings.batch
    batches = training.Settings(
      batch, self.strategy.blocks(batch), dataset.normalise, self.augmentation
    )
    return training.random_steps(
      self.network,
      self._optimizer(start.rate),
      (start.params, start.optimizer),
      dataset.images,
      dataset.labels,
      key,
      batches,
      start=0,
      stop=steps,
      draw=lambda key: data.sample_of_classes(dataset, key, start.classes, n=batch),
    )

  def _accuracy(self, params: Params, dataset: Dataset, key: Key) -> Array:
    """The share of a sample of training images that a network classifies right."""
    index = jax.random.permutation(key, len(dataset.labels))[: pool.SAMPLE]
    block = self.strategy.blocks(len(index))
    return pool.accuracy(self.network, params, dataset, index, block=block)

  def _optimizer(self, rate: Array) -> optax.GradientTransformation:
    return training.sgd(rate, momentum=pool.MOMENTUM, weight_decay=pool.WEIGHT_DECAY)


def _at(tree: Any, slot: Array) -> Any:
  """One slot of arrays with a leading axis of slots."""
  return jax.tree.map(lambda leaf: leaf[slot], tree)


def _put(tree: Any, slot: Array, values: Any) -> Any:
  """Arrays with one slot replaced."""
  return jax.tree.map(lambda leaf, value: leaf.at[slot].set(value), tree, values)
