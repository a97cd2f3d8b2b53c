"""IDC's networks, which real images train, and of which gradients are taken."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import augment, data, training
from dcjax.data import Dataset
from dcjax.formation import Formation, Stored
from dcjax.methods import slots
from dcjax.nn import Network
from dcjax.strategy import Strategy
from dcjax.types import Array, Key, Params

MOMENTUM_NETWORK = 0.9


class Training(NamedTuple):
  """How the networks are trained that gradients are taken of.

  Attributes:
    data: an entry of `DATA`.
    steps: of SGD between two matchings.
    batch: images of a step.
    lr: eta.
    weight_decay: added to the gradient.
    cutmix: the probability with which a batch is mixed; 0: never.
    pretraining: steps of SGD before a network's first matching.
    networks: how many of those pretrained are kept to choose from; 0: each is pretrained anew.
  """

  data: str
  steps: int
  batch: int
  lr: float
  weight_decay: float
  cutmix: float
  pretraining: int
  networks: int


class Networks(NamedTuple):
  """The networks of a run: how each begins, and is trained."""

  network: Network
  settings: Training
  strategy: Strategy
  augmentation: augment.Augmentation
  formation: Formation

  def optimizer(self) -> optax.GradientTransformation:
    """What a network is trained by."""
    settings = self.settings
    return training.sgd(settings.lr, momentum=MOMENTUM_NETWORK, weight_decay=settings.weight_decay)

  def fresh(self, key: Key) -> tuple[Params, Any]:
    """A network with random weights, and its optimiser's state."""
    params = self.network.init(key)
    return params, self.optimizer().init(params)

  def train(
    self,
    carry: tuple[Params, Any],
    stored: Stored,
    dataset: Dataset,
    key: Key,
    start: Array | int,
    stop: Array | int,
  ) -> tuple[Params, Any]:
    """Steps `start` to `stop` of SGD on real images, or on f(S)."""
    batch = self.settings.batch
    images, labels, decode = dataset.images, dataset.labels, dataset.normalise
    if self.settings.data == "synthetic":
      images, labels = data.as_batch(self.formation.decode_classes(stored, dataset.whitening))
      decode = training.as_it_is
    batches = training.Settings(
      batch, self.strategy.blocks(batch), decode, self.augmentation, self.settings.cutmix
    )
    return training.random_steps(
      self.network, self.optimizer(), carry, images, labels, key, batches, start=start, stop=stop
    )

  def places(self, dataset: Dataset, key: Key, start: Array | int, steps: int) -> Array:
    """Which training images `train` takes in so many steps, int32 `[n]`."""
    if self.settings.data == "synthetic":
      return jnp.zeros(0, jnp.int32)
    draw = training.anywhere(len(dataset.labels), self.settings.batch)
    return training.step_places(draw, key, start=start, steps=steps)

  def pretrained(self, stored: Stored, dataset: Dataset, key: Key) -> Params:
    """A network that has been trained for a few epochs (section 4.3)."""
    init_key, train_key = jax.random.split(key)
    steps = self.settings.pretraining
    return self.train(self.fresh(init_key), stored, dataset, train_key, 0, steps)[0]

  @property
  def parts(self) -> int:
    """In how many parts a network is pretrained where all its images do not fit in memory."""
    return training.parts(self.settings.pretraining)

  def pretrain_part(
    self, carry: tuple[Params, Any], stored: Stored, dataset: Dataset, key: Key, part: Array
  ) -> tuple[Params, Any]:
    """A part of `pretrained`: the first begins with new weights, the last ends as `start` does."""
    init_key, train_key = jax.random.split(key)
    carry = jax.lax.cond(part == 0, lambda _: self.fresh(init_key), lambda carry: carry, carry)
    bounds = training.part_bounds(part, self.settings.pretraining)
    params, state = self.train(carry, stored, dataset, train_key, *bounds)
    unused = self.optimizer().init(params)
    last = part == self.parts - 1
    return params, jax.tree.map(lambda new, old: jnp.where(last, new, old), unused, state)

  def part_places(self, dataset: Dataset, key: Key, part: Array) -> Array:
    """Which training images `pretrain_part` takes, int32 `[n]`."""
    train_key = jax.random.split(key)[1]
    return self.places(dataset, train_key, part * training.PART, training.PART)

  def pool_keys(self, key: Key) -> Key:
    """A key for each network of the pool."""
    return jax.random.split(key, self.settings.networks)

  def empty_pool(self) -> Params:
    """A pool of zeros, or empty if there is to be none."""
    if not self.settings.networks:
      return {}
    one = jax.eval_shape(self.network.init, jax.random.key(0))
    return slots.zeros(one, self.settings.networks)

  def start(self, pool: Params, stored: Stored, dataset: Dataset, key: Key) -> tuple[Params, Any]:
    """The network of the next matchings, with an optimiser that has seen nothing."""
    if self.settings.networks:
      choice = jax.random.randint(key, (), 0, self.settings.networks)
      params = slots.at(pool, choice)
    else:
      params = self.pretrained(stored, dataset, key)
    return params, self.optimizer().init(params)
