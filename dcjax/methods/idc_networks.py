"""IDC's networks, which real images train, and of which gradients are taken."""

from typing import Any, NamedTuple

import jax
import optax

from dcjax import data
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.methods import slots
from dcjax.methods.definition import by_rule
from dcjax.methods.setup import Setup
from dcjax.nn import training
from dcjax.sets.formation import Stored

MOMENTUM_NETWORK = 0.9


class TrainingSettings(NamedTuple):
  """How the networks are trained that gradients are taken of."""

  data: str = "real"  # on which they are trained: 'real', or 'synthetic' as in DSA (Table 5)
  steps: int = by_rule(int)  # of SGD between two matchings; None: 32 for CIFAR, else 8
  batch: int = 64  # images of a step
  lr: float = 0.01  # eta, of networks
  weight_decay: float = 5e-4  # share of the weights that is added to the gradient
  # 'none', or transforms as in dsa.strategy, drawn for each image (Appendix C.1)
  augmentation: str = "color_crop"
  draw: str = "sequence"  # as dsa.draw, for these transforms
  cutmix: float = by_rule(float)  # its probability for each batch; None: as at evaluation
  # Passes over the real images before a network's first matching (10 for ImageNet-10). The
  # arithmetic counts it in steps
  pretraining: int = 0
  networks: int = 0  # how many pretrained networks to choose from; 0: each is pretrained anew


class NetworkTraining(NamedTuple):
  """The networks of a run: how each begins, and is trained."""

  setup: Setup
  settings: TrainingSettings

  def optimizer(self) -> optax.GradientTransformation:
    """What a network is trained by."""
    settings = self.settings
    return training.sgd(settings.lr, momentum=MOMENTUM_NETWORK, weight_decay=settings.weight_decay)

  def fresh(self, key: Key) -> tuple[Params, Any]:
    """A network with random weights, and its optimiser's state."""
    params = self.setup.network.init(key)
    return params, self.optimizer().init(params)

  def draw(self, dataset: Dataset, key: Key, start: Array | int, steps: int) -> Array | None:
    """Draws real images of so many steps, int32 `[steps, batch]` indices; None if S is used."""
    if self.settings.data == "synthetic":
      return None
    draw = training.anywhere(len(dataset.labels), self.settings.batch)
    return training.step_indices(draw, key, start=start, steps=steps)

  def train(
    self,
    carry: tuple[Params, Any],
    stored: Stored,
    dataset: Dataset,
    indices: Array | None,
    key: Key,
    start: Array | int,
    stop: Array | int,
  ) -> tuple[Params, Any]:
    """Steps `start` to `stop` of SGD on the real images that `draw` has drawn, or on f(S)."""
    batch, augmentation = self.settings.batch, self.setup.augmentations.network
    images, labels, decode = dataset.images, dataset.labels, dataset.normalise
    if self.settings.data == "synthetic":  # (Table 5)
      images, labels = data.as_batch(self.setup.formation.decode_classes(stored, dataset.whitening))
      decode = training.identity
    block = self.setup.strategy.blocks(batch)
    batching = training.Batching(batch, block, decode, augmentation, self.settings.cutmix)
    return training.random_steps(
      training.Learner(self.setup.network, self.optimizer(), batching),
      carry, images, labels, key, start=start, stop=stop, indices=indices,
    )[0]  # fmt: skip

  @property
  def chunks(self) -> int:
    """In how many chunks of steps a network is pretrained."""
    return training.chunks(self.settings.pretraining)

  def draw_chunk(self, dataset: Dataset, key: Key, chunk: Array) -> Array | None:
    """Draws the real images of a chunk, as `draw`; the key is that of `pretrain`."""
    start, _ = training.chunk_bounds(chunk, self.settings.pretraining)
    return self.draw(dataset, jax.random.split(key)[1], start, training.CHUNK)

  def pretrain(
    self,
    carry: tuple[Params, Any],
    stored: Stored,
    dataset: Dataset,
    indices: Array | None,
    key: Key,
    chunk: Array,
  ) -> tuple[Params, Any]:
    """A chunk of the few epochs before a network's first matching (section 4.3).

    The optimiser's momentum goes on into the steps between matchings (authors' code).
    """
    bounds = training.chunk_bounds(chunk, self.settings.pretraining)
    return self.train(carry, stored, dataset, indices, jax.random.split(key)[1], *bounds)

  def empty_pool(self) -> Params:
    """A pool of zeros, or empty if there is to be none."""
    if not self.settings.networks:
      return {}
    one = jax.eval_shape(self.setup.network.init, jax.random.key(0))
    return slots.zeros(one, self.settings.networks)

  def choose(self, pool: Params, key: Key) -> tuple[Params, Any]:
    """A network of the pool, or a new one; with an optimiser that has seen nothing.

    The authors' code keeps the parameters of pretrained networks, and no optimiser's momentum.
    """
    if not self.settings.networks:
      return self.fresh(jax.random.split(key)[0])
    params = slots.at(pool, jax.random.randint(key, (), 0, self.settings.networks))
    return params, self.optimizer().init(params)
