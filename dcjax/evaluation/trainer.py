"""The training of one network on a set, by the protocol of an evaluation."""

import operator
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcjax import augment
from dcjax.common.types import Array, Key, Params
from dcjax.devices.strategy import Strategy
from dcjax.evaluation.protocols import PROTOCOLS
from dcjax.evaluation.settings import EvaluationSettings
from dcjax.nn import Network, training

WARM_UP = 500  # steps in which the rate of `adam_cosine` rises, half of all at most
STATISTICS_BATCHES = 10  # over which batch norm's statistics are averaged before a test


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


def make_optimizer(settings: EvaluationSettings, steps: int) -> optax.GradientTransformation:
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
  optimizer = make_optimizer(settings, steps)
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
