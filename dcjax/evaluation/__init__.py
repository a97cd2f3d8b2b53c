"""Evaluation: train fresh networks from scratch on a set, test them on real images."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcjax.common.errors import UserError
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.sharding import put, replicated
from dcjax.devices.strategy import Strategy, choose
from dcjax.evaluation import attacks
from dcjax.evaluation.settings import LOSSES, EvaluationSettings, check_settings
from dcjax.evaluation.trainer import Trainer, batches, make_trainer, targets
from dcjax.nn import Network, training

__all__ = [
  "LOSSES",
  "EvaluationSettings",
  "Evaluator",
  "Trainer",
  "accuracy",
  "batches",
  "check_settings",
  "confusion_of",
  "make_trainer",
  "summarise",
  "targets",
  "train",
]

TEST_BLOCK = 256  # most test images that go through a network together


class Evaluator:
  """What all evaluations of a run share; one program serves each shape of a set."""

  def __init__(
    self,
    network: Network,
    settings: EvaluationSettings,
    strategy: Strategy,
    dataset: Dataset,
    teacher: Network | None = None,
    *,
    confusion: bool = False,
  ):
    """Binds it; nothing is computed yet.

    Args:
      network: what is trained, from scratch each time.
      settings: how.
      strategy: how many networks and images go together.
      dataset: whose test split is used.
      teacher: the network that labels each batch; None: labels are the set's own.
      confusion: whether pairs are yielded: the accuracies, and for each of these networks how many
        test images of each class it takes for which, after the last epoch, int32
        `[n, classes, classes]`.
    """
    self._settings, self._strategy, self._dataset = settings, strategy, dataset
    self._confusion = confusion
    self.together = min(strategy.network_block, settings.networks)  # networks

    def train_and_test(dataset, images, labels, keys, taught, stops):
      teach = training.no_teacher if teacher is None else teaching(teacher, settings, *taught)
      one = partial(
        _train_and_test, network=network, settings=settings, strategy=strategy, teach=teach
      )
      if self.together == 1:
        # Under `vmap` every branch of an augmentation would be taken.
        found = one(dataset, images, labels, keys[0], stops)
        return jax.tree.map(lambda leaf: leaf[None], found)
      axes = None, 0 if images.ndim == 5 else None, None, 0, None
      return jax.vmap(one, axes)(dataset, images, labels, keys, stops)

    self._program = jax.jit(train_and_test)

  def __call__(
    self,
    images: Any,
    labels: Any,
    key: Key,
    own_sets: bool = False,
    first: int = 0,
    taught: tuple[Params, ...] = (),
  ) -> Iterator[Any]:
    """Trains and tests network after network, as many together as the strategy says.

    Args:
      images: `[N, H, W, C]`, float32 normalised or uint8 of the dataset; with `own_sets`, one for
        each network, `[networks, N, H, W, C]`.
      labels: int32 `[N]`, or soft ones `[N, classes]`.
      key: network i is drawn and trained from `fold_in(key, i)`.
      own_sets: whether each network has a set of its own.
      first: the network to begin with.
      taught: the teacher's parameters and its statistics of batch norm.

    Yields:
      Test accuracies `[n, checks]` of the n networks trained together, perhaps not computed yet;
      behind them those under attacks, if there are any.
    """
    networks, together = self._settings.networks, self.together
    for start in range(first, networks, together):
      # A last block that is not full trains copies and drops them, rather than compile again.
      numbers = np.minimum(np.arange(start, start + together), networks - 1)
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
      # What is one network's own looks like what is for all, so that the same program serves both.
      sets = images[numbers if together > 1 else start] if own_sets else images
      tested = self._program(self._dataset, sets, labels, keys, taught, self._stops())
      accuracies, counts = (part[: networks - start] for part in tested)
      yield (accuracies, counts) if self._confusion else accuracies

  def bound(
    self, images: Any, labels: Any, key: Key, taught: Any = ()
  ) -> tuple[jax.stages.Compiled, tuple[Any, ...]]:
    """The program that trains the first networks, for the devices of the strategy.

    Args:
      images: as above, of one set.
      labels: as above.
      key: as above.
      taught: as above.

    Returns:
      The program, and its arguments but the last: the epochs between which networks are tested,
      int32 `[checks + 1]`.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(self.together))
    one = replicated(self._strategy._replace(mesh=(1, 1)))
    arguments = put((self._dataset, images, labels, keys, taught), one)
    return self._program.lower(*arguments, self._stops()).compile(), arguments

  def _stops(self) -> np.ndarray:
    """Epochs between which networks are tested, int32 `[checks + 1]`."""
    stops = np.linspace(0, self._settings.epochs, self._settings.checks + 1)
    return np.round(stops).astype(np.int32)


def teaching(
  teacher: Network, settings: EvaluationSettings, params: Params, stats: Params
) -> Callable[[Array, Array], Array]:
  """What a teacher says of images, at the temperature of the loss, in place of their targets."""

  def teach(images, targets):
    del targets
    return jax.nn.softmax(teacher.apply(params, images, stats)[0] / settings.division)

  return teach


def _train_and_test(
  dataset: Dataset,
  images: Array,
  labels: Array,
  key: Key,
  stops: Array,
  *,
  network: Network,
  settings: EvaluationSettings,
  strategy: Strategy,
  teach: Callable[[Array, Array], Array],
) -> tuple[Array, Array]:
  """One network's test accuracies, `[checks]`, and those under attacks; and its confusion."""
  decode = dataset.normalise if images.dtype == jnp.uint8 else training.identity
  trainer = make_trainer(
    network, settings, strategy, images, labels, key=key, decode=decode, teach=teach
  )
  block = strategy.blocks(TEST_BLOCK)
  real, classes = dataset.test_labels, dataset.num_classes

  def piece(carry, limits):
    learner, _ = carry
    learner = trainer.advance(learner, *limits)
    given = training.predicted(
      network, learner[0], dataset.test_images,
      block=block, decode=dataset.normalise, stats=trainer.statistics(learner[0]),
    )  # fmt: skip
    return (learner, confusion_of(real, given, classes)), (given == real).mean()

  start = trainer.start(), jnp.zeros((classes, classes), jnp.int32)
  ((params, _), counts), found = jax.lax.scan(piece, start, (stops[:-1], stops[1:]))
  if not settings.attacks:
    return found, counts
  stats = trainer.statistics(params)
  attacked = [
    attacks.accuracy(
      name, network, params, dataset, jax.random.fold_in(key, 1),
      epsilon=settings.epsilon, block=block, stats=stats,
    )
    for name in settings.attacks
  ]  # fmt: skip
  return jnp.concatenate([found, jnp.stack(attacked)]), counts


def confusion_of(labels: Array, predicted: Array, classes: int) -> Array:
  """How many images of each class are taken for which: int32 `[classes, classes]`, true first.

  Args:
    labels: int32 `[N]`.
    predicted: likewise.
    classes: static.
  """
  return jnp.zeros((classes, classes), jnp.int32).at[labels, predicted].add(1)


def train(
  network: Network,
  images: Array,
  labels: Array,
  key: Key,
  *,
  protocol: str = "dc",
  epochs: int = 300,
  augmentation: str = "none",
  cutmix: float = 0.0,
  lr: float | None = None,
  temperature: float | None = None,
  loss: str = "cross_entropy",
) -> Params:
  """Trains one network from scratch on a set, as an evaluation does.

  Args:
    network: as `nn.create` makes it.
    images: normalised `[N, H, W, C]`.
    labels: integers `[N]`, or soft ones `[N, classes]`.
    key: of the initial parameters, the order, the augmentation and CutMix.
    protocol: an entry of `protocols.PROTOCOLS`.
    epochs: passes over the set.
    augmentation: as `augment.by_name` takes it.
    cutmix: the probability with which a batch is mixed.
    lr: the learning rate at first; None: the protocol's.
    temperature: what logits are divided by in the cross-entropy; None: the protocol's.
    loss: an entry of `LOSSES`.

  Returns:
    The parameters, for `network.apply(params, images)`.

  Raises:
    UserError: for a setting that no evaluation can have, or not as many labels as images.
  """
  settings = EvaluationSettings(
    protocol, epochs, augmentation, networks=1, checks=1,
    cutmix=cutmix, lr=lr, temperature=temperature, loss=loss,
  )  # fmt: skip
  check_settings(settings)
  images, labels = jnp.asarray(images), jnp.asarray(labels)
  if len(images) != len(labels):
    raise UserError(f"labels: {len(labels)} for {len(images)} images; give one for each")
  if labels.ndim == 1:
    outputs = jax.eval_shape(lambda: network.apply(network.init(key), images[:1])[0])
    labels = targets(labels, outputs.shape[-1], loss)
  layout = choose(jax.default_backend(), num_classes=1, side=images.shape[1])

  @jax.jit
  def run(images, labels, key):
    trainer = make_trainer(network, settings, layout, images, labels, key=key)
    return trainer.advance(trainer.start(), 0, epochs)[0]

  return run(images, labels, key)


def accuracy(
  network: Network, params: Params, dataset: Dataset, *, block: int, stats: Params | None = None
) -> Array:
  """Fraction of the test images that a network classifies right, a scalar in [0, 1].

  Args:
    network: any.
    params: its parameters.
    dataset: whose test split is used.
    block: test images that go through together.
    stats: frozen statistics for batch norm.
  """
  images, labels = dataset.test_images, dataset.test_labels
  return training.correct(
    network, params, images, labels, block=block, decode=dataset.normalise, stats=stats
  ).mean()


def summarise(accuracies: np.ndarray) -> dict[str, float]:
  """Mean and deviation over networks, of the last check and of each network's best one.

  Args:
    accuracies: `[networks, checks]` in [0, 1].
  """
  last, best = accuracies[:, -1], accuracies.max(axis=1)
  return {
    "last_mean": float(last.mean()),
    "last_std": float(last.std()),
    "best_mean": float(best.mean()),
    "best_std": float(best.std()),
  }
