"""IDM: improved distribution matching (Zhao, Li, Qin and Yu, CVPR 2023).

Algorithm 1, in the names of this file; what is new beside DM is a formation, which makes more
images of those stored (section 4.1), and what stands behind the bars:

  1  Q: N random networks                          | `queue.initial` (section 4.2)
  2  for m = 0 .. M-1:
  3    phi: one of Q, and its accuracy             | on real images, when last trained
  4    loss of DM with phi
  5    cross-entropy of S at phi                   | (section 4.3, Eq. 4)
  6    move S against the gradient of both         | lambda_reg * accuracy * line 5 (Eq. 5)
  7    train phi for K steps, put it back          | `queue.steps`
  8    push a new network                          | lines 7 to 9 every `queue.interval` iterations
  9    pop the oldest if there are more than N_max | `queue.size`
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dcjax.common.errors import UserError, check_least
from dcjax.common.types import Array, Key
from dcjax.data import Dataset, base_name
from dcjax.devices.strategy import Strategy
from dcjax.methods import (
  Method,
  Step,
  first_half,
  image_optimizer,
  initialiser,
  slots,
  step_images,
  unknown,
)
from dcjax.methods.definition import (
  SMOKE,
  Definition,
  Forming,
  by_rule,
  check_condensation,
  check_rate,
  condensation,
  from_fields,
)
from dcjax.methods.feature_matching import FeatureMatching
from dcjax.methods.idm_queue import NetworkQueue, Queue, QueueSettings, Trained
from dcjax.methods.setup import Setup, in_steps, setup
from dcjax.sets.formation import Stored


class IDMSettings(NamedTuple):
  """IDM's hyper-parameters."""

  ipc: int = 1  # stored images per class
  init: str = "real"
  # Real images of each class in one iteration; None: 5000 at one image per class, else 256
  batch_real: int = by_rule(int)
  lr_image: float = 0.2  # (supplement, section 1)
  # lambda_reg of Eq. 5; None: 0.5 up to 10 images per class, else 0.1; 0: none
  regularisation: float = by_rule(float)
  queue: QueueSettings = QueueSettings()


class IDMState(NamedTuple):
  """What IDM carries from one iteration to the next."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images
  queue: Queue
  sampled: Array  # int32, the slot of phi


def idm(setup: Setup, settings: IDMSettings) -> Method:
  """IDM (Algorithm 1).

  Args:
    setup: the network phi, whose features are matched and whose logits regularise; layout,
      augmentations of what is matched and of what networks are trained on, and formation:
      partition and expansion.
    settings: hyper-parameters; the queue's pretraining is in steps.

  Returns:
    The method; its metrics are `loss`, Eq. 5 averaged over classes, and `accuracy`, that of the
    network that was sampled.
  """
  optimizer = image_optimizer(settings.lr_image)
  images = initialiser(
    optimizer, ipc=settings.ipc, init=settings.init, formation=setup.formation, key_of=first_half
  )
  matching = FeatureMatching(setup, settings.batch_real)
  networks = NetworkQueue(setup, settings.queue)

  # The start, line 1. If networks are copies of pretrained ones, these come first.

  def begin(state: Any, dataset: Dataset, indices: Any, key: Key, number: Array):
    queue = networks.empty(dataset.num_classes)
    return IDMState(state.stored, state.optimizer, queue, jnp.int32(0)), {}

  def draw_to_pretrain(dataset: Dataset, key: Key, number: Array) -> Array:
    return networks.draw_chunk(dataset, jax.random.split(key)[1], number)

  def pretrain(state: IDMState, dataset: Dataset, indices: Array, key: Key, number: Array):
    queue_key = jax.random.split(key)[1]
    queue = networks.pretrain(state.queue, dataset, indices, queue_key, number)
    return state._replace(queue=queue), {}

  def oldest(state: IDMState, key: Key) -> tuple[Queue, Callable[[Queue], IDMState]]:
    """The queue with but one slot, the next to be filled; and how that is put back."""
    queue, slot = state.queue, state.queue.pushed % settings.queue.size
    return queue._replace(slots=slots.at(queue.slots, slot)), lambda new: state._replace(
      queue=new._replace(slots=slots.put(queue.slots, slot, new.slots))
    )

  def fill_key(key: Key, number: Array) -> Key:
    return jax.random.fold_in(jax.random.split(jax.random.split(key)[1])[1], number)

  def draw_to_fill(dataset: Dataset, key: Key, number: Array) -> Array:
    return networks.draw_to_test(dataset, fill_key(key, number))

  def fill(state: IDMState, dataset: Dataset, indices: Array, key: Key, number: Array):
    old, put = oldest(state, key)
    return put(networks.new(old, dataset, indices, fill_key(key, number))), {}

  # Lines 3 to 6, every iteration.

  def draw(dataset: Dataset, key: Key, number: Array) -> Array:
    return matching.draw(dataset, jax.random.split(key, 4)[1])

  def match(state: IDMState, dataset: Dataset, indices: Array, key: Key, number: Array):
    sample_key, match_key, _, _ = jax.random.split(key, 4)
    slot = networks.sample(state.queue, sample_key)  # line 3
    phi = slots.at(state.queue.slots, slot)
    # The accuracy is that of the last training, not of this iteration.
    weight = settings.regularisation * phi.accuracy if settings.regularisation else None
    losses, gradients = matching.match(  # lines 4 and 5
      phi.params, state.stored, dataset, indices, match_key, weight
    )
    state = step_images(optimizer, state, gradients)  # line 6
    return state._replace(sampled=slot), {"loss": losses.mean(), "accuracy": phi.accuracy}

  # Every `interval` iterations, line 7 ...

  def phi(state: IDMState, key: Key) -> tuple[Trained, Callable[[Trained], IDMState]]:
    queue, slot = state.queue, state.sampled
    return slots.at(queue.slots, slot), lambda phi: state._replace(
      queue=queue._replace(slots=slots.put(queue.slots, slot, phi))
    )

  def draw_to_train(dataset: Dataset, key: Key, number: Array) -> tuple[Array, Array]:
    classes = jnp.ones(dataset.num_classes, bool)
    return networks.draw_to_train(dataset, jax.random.split(key, 4)[2], classes)

  def train(phi: Trained, dataset: Dataset, indices: Any, key: Key, number: Array):
    train_key = jax.random.split(key, 4)[2]
    if indices is None:  # phi knows which classes it is trained on
      indices = networks.draw_to_train(dataset, train_key, phi.classes)
    return networks.train(phi, dataset, indices, train_key), {}

  # ... and lines 8 and 9: the new network is in the place of the oldest, if the queue is full.

  def draw_to_push(dataset: Dataset, key: Key, number: Array) -> Array:
    return networks.draw_to_test(dataset, jax.random.split(key, 4)[3])

  def push(old: Queue, dataset: Dataset, indices: Array, key: Key, number: Array):
    return networks.new(old, dataset, indices, jax.random.split(key, 4)[3]), {}

  every, all_classes = settings.queue.interval, settings.queue.classes == 1
  return Method(
    start=(
      images,
      Step(begin),
      Step(pretrain, draw_to_pretrain, times=settings.queue.pretrained * networks.chunks),
      Step(fill, draw_to_fill, times=settings.queue.initial),
    ),
    iteration=(
      Step(match, draw),
      Step(train, draw_to_train if all_classes else unknown, every=every, view=phi),
      Step(push, draw_to_push, every=every, view=oldest),
    ),
  )


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  settings = from_fields(IDMSettings(), config)
  settings = settings._replace(queue=in_steps(settings.queue, dataset))
  return idm(setup(config, dataset, layout), settings)


def _resolve(config: ConfigDict) -> None:
  queue, one = config.queue, config.ipc == 1
  if config.batch_real is None:
    config.batch_real = 5000 if one else 256
  if config.regularisation is None:
    config.regularisation = 0.5 if config.ipc <= 10 else 0.1
  if queue.interval is None:
    queue.interval = 5 if one else 30
  if queue.steps is None:
    hard = base_name(config.dataset.name) == "cifar100" and config.ipc == 10
    queue.steps = 50 if hard else 10
  check_least("regularisation", config.regularisation, 0)
  _check_queue(queue)
  check_condensation(config, lr_image="0.2")


def _check_queue(queue: ConfigDict) -> None:
  check_rate("queue.lr", queue.lr, "0.01")
  least = {"initial": 1, "size": 1, "interval": 1, "steps": 1, "batch": 1, "pretrained": 0}
  for field, value in least.items():
    check_least(f"queue.{field}", queue[field], value)
  if queue.initial > queue.size:
    raise UserError(
      f"queue.initial: {queue.initial} networks do not fit a queue.size of {queue.size}; lower it"
    )
  if not 0 < queue.classes <= 1:
    raise UserError(f"queue.classes: {queue.classes} is no share; give one above 0, 1 at most")
  if queue.pretrained:
    check_least("queue.pretraining", queue.pretraining, 1)
  elif queue.classes < 1:
    raise UserError(
      f"queue.classes: {queue.classes} is for networks that are pretrained; set queue.pretrained"
    )


IDM = Definition(
  # (authors' code; section 5.1)
  fields=lambda: condensation(
    IDMSettings(), iterations=20_000, checkpoint_every=500, forming=Forming(factor=2)
  ),
  build=_build,
  resolve=_resolve,
  smoke=SMOKE | {"queue.size": 3, "queue.interval": 1, "queue.steps": 1, "queue.batch": 8},
  protocol="idm",
)
