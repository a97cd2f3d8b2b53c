"""Evaluation: train fresh networks from scratch on a set, test them on real images."""

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcjax import augment
from dcjax.common.errors import check_least, check_name, check_positive, check_probability
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.strategy import Strategy, choose
from dcjax.evaluation import attacks
from dcjax.evaluation.attacks import EPSILON
from dcjax.evaluation.protocols import PROTOCOLS
from dcjax.nn import Network, training

TEST_BLOCK = 256  # most test images that go through a network together
WARM_UP = 500  # steps in which the rate of `adam_cosine` rises, half of all at most
STATISTICS_BATCHES = 10  # over which batch norm's statistics are averaged before a test


class EvaluationSettings(NamedTuple):
  """What one evaluation does.

  Attributes:
    protocol: an entry of `protocols.PROTOCOLS`.
    epochs: passes over the set.
    augmentation: as `augment.by_name` takes it.
    networks: how many networks are trained.
    checks: how often each is tested, evenly over the epochs, the last one at the end.
    cutmix: the probability with which a batch is mixed, see `augment.cutmix`; 0: never.
    lr: the learning rate at first; None: the protocol's.
    temperature: what logits are divided by in the cross-entropy; None: the protocol's.
    loss: an entry of `LOSSES`.
    batch: images of a step; None: the protocol's.
    attacks: entries of `attacks.ATTACKS` that each network is tested under besides, at the end.
    epsilon: most that an attack changes a pixel in [0, 1] by.
  """

  protocol: str
  epochs: int
  augmentation: str
  networks: int
  checks: int
  cutmix: float = 0.0
  lr: float | None = None
  temperature: float | None = None
  loss: str = "cross_entropy"
  batch: int | None = None
  attacks: tuple[str, ...] = ()
  epsilon: float = EPSILON

  @property
  def learning_rate(self) -> float:
    """That of the first step."""
    return PROTOCOLS[self.protocol].learning_rate if self.lr is None else self.lr

  @property
  def division(self) -> float:
    """The temperature."""
    return self.temperature or PROTOCOLS[self.protocol].temperature

  def asked(self, more: Mapping[str, Any]) -> "EvaluationSettings":
    """The settings with what a set asks of a training, where they do not say it themselves.

    A step size that a set has learned is one of SGD, and no other optimiser's.
    """
    given = {name for name in ("lr", "temperature") if getattr(self, name) is not None}
    if PROTOCOLS[self.protocol].optimizer != "sgd":
      given.add("lr")
    return self._replace(**{name: more[name] for name in more.keys() - given})


LOSSES = ("cross_entropy", "squared_error")


def targets(labels: Array, num_classes: int, loss: str) -> Array:
  """Labels int32 `[N]` as a loss takes them; for the squared error centred, one-hot - 1/classes."""
  if loss != "squared_error":
    return labels
  return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32) - np.float32(1 / num_classes)


def _loss(settings: EvaluationSettings) -> training.Loss:
  if settings.loss == "squared_error":
    return training.squared_error
  if settings.division == 1:
    return training.cross_entropy
  return lambda logits, targets: training.cross_entropy(logits / settings.division, targets)


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


def check_settings(settings: EvaluationSettings) -> None:
  """Raises `UserError` for a setting that no evaluation can have."""
  check_name("evaluation.protocol", settings.protocol, PROTOCOLS)
  augment.check_name("evaluation.augmentation", settings.augmentation)
  for field, least in (("epochs", 1), ("networks", 0), ("checks", 1)):
    check_least(f"evaluation.{field}", getattr(settings, field), least)
  for field in ("lr", "temperature", "batch"):
    if (value := getattr(settings, field)) is not None:
      check_positive(f"evaluation.{field}", value)
  check_probability("evaluation.cutmix", settings.cutmix)


Evaluator = Callable[..., Iterator[Any]]


def evaluator(
  network: Network,
  settings: EvaluationSettings,
  strategy: Strategy,
  dataset: Dataset,
  teacher: Network | None = None,
  *,
  confusion: bool = False,
) -> Evaluator:
  """Binds what all evaluations of a run share; compiles once for each shape of a set.

  Args:
    network: what is trained, from scratch each time.
    settings: how.
    strategy: how many networks and images go together.
    dataset: whose test split is used.
    teacher: the network that labels each batch; None: labels are the set's own.
    confusion: whether pairs are yielded: the accuracies, and for each of these networks how many
      test images of each class it takes for which, after the last epoch, int32
      `[n, classes, classes]`.

  Returns:
    `evaluate(images, labels, key, own_sets=False, first=0, taught=())` for images `[N, H, W, C]`,
    float32 normalised or uint8 of the dataset, and labels int32 `[N]`, or soft ones `[N, classes]`.
    With `own_sets` each network has a set of its own: images `[networks, N, H, W, C]`. From network
    `first` on, it yields test accuracies `[n, checks]` of the n networks trained together, perhaps
    not computed yet, until all are done; behind them those under attacks, if there are any.
    `taught` are the teacher's parameters and its statistics of batch norm. Network i is drawn and
    trained from `fold_in(key, i)`.
  """
  vmapped = min(strategy.network_block, settings.networks)

  @jax.jit
  def train_and_test(dataset, images, labels, keys, taught):
    teach = training.no_teacher if teacher is None else _teaching(teacher, settings, *taught)
    one = partial(
      _train_and_test, network=network, settings=settings, strategy=strategy, teach=teach
    )
    if vmapped == 1:
      # Under `vmap` every branch of an augmentation would be taken.
      found = one(dataset, images, labels, keys[0])
      return jax.tree.map(lambda leaf: leaf[None], found)
    axes = None, 0 if images.ndim == 5 else None, None, 0
    return jax.vmap(one, axes)(dataset, images, labels, keys)

  def evaluate(
    images: Array,
    labels: Array,
    key: Key,
    own_sets: bool = False,
    first: int = 0,
    taught: tuple[Params, ...] = (),
  ) -> Iterator[Any]:
    for start in range(first, settings.networks, vmapped):
      # A last block that is not full trains copies and drops them, rather than compile again.
      numbers = np.minimum(np.arange(start, start + vmapped), settings.networks - 1)
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
      # What is one network's own looks like what is for all, so that the same program serves both.
      sets = images[numbers if vmapped > 1 else start] if own_sets else images
      tested = train_and_test(dataset, sets, labels, keys, taught)
      left = settings.networks - start
      accuracies, counts = (part[:left] for part in tested)
      yield (accuracies, counts) if confusion else accuracies

  return evaluate


def _teaching(
  teacher: Network, settings: EvaluationSettings, params: Params, stats: Params
) -> Callable[[Array, Array], Array]:
  """What a teacher says of images, at the temperature of the loss, in place of their targets."""

  def teach(images, targets):
    del targets
    return jax.nn.softmax(teacher.apply(params, images, stats)[0] / settings.division)

  return teach


def _optimizer(settings: EvaluationSettings, steps: int) -> optax.GradientTransformation:
  """SGD with weight decay, its rate cut as the protocol says; or a kind of Adam."""
  protocol = PROTOCOLS[settings.protocol]
  if protocol.optimizer == "adam":
    return training.adam(settings.learning_rate)
  if protocol.optimizer == "adamw":
    return _adamw(settings, steps)
  if protocol.optimizer == "adam_cosine":
    return _adam_cosine(settings, steps)
  fractions, factors = zip(*protocol.cuts, strict=True)
  rates = accumulate(factors, operator.mul, initial=settings.learning_rate)
  rate = optax.join_schedules(
    [optax.constant_schedule(rate) for rate in rates],
    [int(settings.epochs * fraction) * steps for fraction in fractions],
  )
  return training.sgd(rate, momentum=protocol.momentum, weight_decay=protocol.weight_decay)


def _adamw(settings: EvaluationSettings, steps: int) -> optax.GradientTransformation:
  """AdamW (RDED's code): no decay of biases and norms, and a rate that ends at half of its start.

  In epoch e of E it is lr (1 + cos(pi e / 2E)) / 2.
  """

  def rate(step):
    epoch = (step // steps).astype(jnp.float32)
    return settings.learning_rate * (1 + jnp.cos(jnp.pi * epoch / (2 * settings.epochs))) / 2

  decay = PROTOCOLS[settings.protocol].weight_decay
  kernels = partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
  return training.promoting(optax.adamw(rate, weight_decay=decay, mask=kernels))


def _adam_cosine(settings: EvaluationSettings, steps: int) -> optax.GradientTransformation:
  """Adam whose rate rises in the first steps, and falls to a hundredth (FRePo's code)."""
  total = settings.epochs * steps
  rate = optax.warmup_cosine_decay_schedule(
    0.0,
    settings.learning_rate,
    warmup_steps=min(WARM_UP, total // 2),
    decay_steps=total,
    end_value=settings.learning_rate / 100,
  )
  return training.promoting(optax.adam(rate))


def batches(settings: EvaluationSettings, count: int) -> tuple[int, int]:
  """Images of a step, and steps of an epoch, for an epoch of `count` images."""
  batch = min(settings.batch or PROTOCOLS[settings.protocol].batch, count)
  return batch, training.steps_per_epoch(count, batch)


class Trainer(NamedTuple):
  """The training of one network.

  Attributes:
    start: `start() -> carry`, which holds the parameters and the optimiser's state.
    advance: `advance(carry, start, stop) -> carry`, in epochs.
    statistics: `statistics(params) -> stats` to test with: what batch norm sees of augmented (and
      mixed) batches on average (in place of PyTorch's running averages); empty without batch norm.
  """

  start: Callable[[], tuple[Params, Any]]
  advance: Callable[..., tuple[Params, Any]]
  statistics: Callable[[Params], Params]


def make_trainer(
  network: Network,
  settings: EvaluationSettings,
  strategy: Strategy,
  images: Array,
  labels: Array,
  *,
  key: Key,
  decode: Callable[[Array], Array] = training.identity,
  teach: Callable[[Array, Array], Array] = training.no_teacher,
  drawn: int | None = None,
) -> Trainer:
  """Binds one training by the protocol; nothing is computed yet. For use inside jit.

  Args:
    network: what is trained.
    settings: how; `networks` and `checks` do not matter.
    strategy: how many images go together.
    images: `[N, H, W, C]` as `decode` takes them.
    labels: int32 `[N]`, or soft ones `[N, classes]` as the loss takes them.
    key: of the initial parameters, the order, the augmentation and CutMix.
    decode: `decode(images) -> images`, normalised.
    teach: `teach(images, targets) -> targets`, see `training.Batching`.
    drawn: images of an epoch, each batch drawn at random from all; None: an epoch is all images.
  """
  init_key, train_key = jax.random.split(key)
  batch, steps = batches(settings, images.shape[0] if drawn is None else drawn)
  optimizer = _optimizer(settings, steps)
  change = augment.by_name(settings.augmentation)
  batching = training.Batching(
    batch, strategy.blocks(batch), decode, change, settings.cutmix, teach
  )
  learner = training.Learner(network, optimizer, batching, _loss(settings))

  def start():
    params = network.init(init_key)
    return params, optimizer.init(params)

  def advance(carry, start, stop):
    bound = learner, carry, images, labels, train_key
    if drawn is None:
      return training.epochs(*bound, start=start, stop=stop)
    return training.random_steps(*bound, start=start * steps, stop=stop * steps)[0]

  def statistics(params):
    if not network.batch_norm:
      return {}

    def of_one_batch(key):
      order_key, augment_key = jax.random.split(key)
      index = jax.random.permutation(order_key, images.shape[0])[:batch]
      inputs = batching.augment(augment_key, decode(images[index]))
      if batching.cutmix:
        no_targets = jnp.zeros((batch, 1), jnp.float32)
        inputs, _ = augment.cutmix(jax.random.fold_in(key, 2), inputs, no_targets, batching.cutmix)
      return network.statistics(params, inputs)

    keys = jax.random.split(jax.random.fold_in(train_key, settings.epochs), STATISTICS_BATCHES)
    return jax.tree.map(lambda moments: moments.mean(0), jax.lax.map(of_one_batch, keys))

  return Trainer(start, advance, statistics)


def _train_and_test(
  dataset: Dataset,
  images: Array,
  labels: Array,
  key: Key,
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
  stops = jnp.round(jnp.linspace(0, settings.epochs, settings.checks + 1)).astype(jnp.int32)
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
    UserError: for a setting that no evaluation can have.
  """
  settings = EvaluationSettings(
    protocol, epochs, augmentation, networks=1, checks=1,
    cutmix=cutmix, lr=lr, temperature=temperature, loss=loss,
  )  # fmt: skip
  check_settings(settings)
  layout = choose(jax.default_backend(), num_classes=1, side=images.shape[1])

  @jax.jit
  def run(images, labels, key):
    trainer = make_trainer(network, settings, layout, images, labels, key=key)
    return trainer.advance(trainer.start(), 0, epochs)[0]

  return run(jnp.asarray(images), jnp.asarray(labels), key)


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
