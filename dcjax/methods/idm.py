"""IDM: improved distribution matching (Zhao, Li, Qin and Yu, CVPR 2023).

Algorithm 1, in the names of this file; what is new beside DM is a formation, which makes more
images of those stored (section 4.1), and what stands behind the bars:

  1  Q: N random networks                          | `queue.initial` (section 4.2)
  2  for m = 0 .. M-1:
  3    phi: one of Q, and its accuracy             | (section 4.2)
  4    loss of DM with phi
  5    cross-entropy of S at phi                   | (section 4.3, Eq. 4)
  6    move S against the gradient of both         | lambda_reg * accuracy * line 5 (Eq. 5)
  7    train phi for K steps, put it back          | two of Q that are drawn for it, `queue.steps`
  8    push a new network                          | lines 8 and 9 every `queue.interval` iterations
  9    pop the oldest if there are more than N_max | `queue.size`

The accuracy is in per cent: as a fraction, line 5 would have a gradient of no weight beside line 4.
`queue.schedule=paper` is line 7 as it is printed (see `idm_queue`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dcjax import augment
from dcjax.common.errors import UserError, check_least, check_name
from dcjax.common.types import Array, Key
from dcjax.config.datasets import warn_of_flips
from dcjax.data import Dataset, base_name
from dcjax.devices.strategy import Strategy
from dcjax.methods import (
  Method,
  Step,
  feature_distances,
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
from dcjax.methods.feature_matching import FeatureMatching, bytes_together
from dcjax.methods.idm_queue import (
  ACCURACIES,
  SCHEDULES,
  NetworkQueue,
  Queue,
  QueueSettings,
  Trained,
)
from dcjax.methods.setup import Setup, in_steps, network_augmentation, setup
from dcjax.sets.formation import Stored

# By dataset and images per class, what is not as for the others (authors' code).
REGULARISATION = {("cifar100", 10): 0.1, ("tiny_imagenet", 50): 0.8}
STEPS = {("cifar100", 10): 50, ("tiny_imagenet", 50): 50}
PER_CENT = 100
_LOTS = 10**6  # the stream of keys by which networks are drawn to be trained


class IDMSettings(NamedTuple):
  """IDM's hyper-parameters."""

  ipc: int = 1  # stored images per class
  # Start: 'mix', each part of a stored image is another real image made smaller (authors' code);
  # 'real', the parts are of one real image (section 5.1); 'noise'; or FILE.npz of a saved set
  init: str = "mix"
  # Real images of each class in one iteration; None: 5000 at one image per class, else 256
  batch_real: int = by_rule(int)
  lr_image: float = 0.2  # of images (supplement, section 1)
  # lambda_reg of Eq. 5, of an accuracy in per cent; None: by dataset and ipc
  # (REGULARISATION); 0: none
  regularisation: float = by_rule(float)
  queue: QueueSettings = QueueSettings()
  distance: str = "mean"  # D of features: 'mean' (Eq. 2), or another that DM has


class IDMState(NamedTuple):
  """What IDM carries from one iteration to the next."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images
  queue: Queue
  serving: Array  # int32 [networks], the slots of phi


def idm(setup: Setup, settings: IDMSettings) -> Method:
  """IDM (Algorithm 1).

  Args:
    setup: the network phi, whose features are matched and whose logits regularise; layout,
      augmentations of what is matched and of what networks are trained on, and formation:
      partition and expansion.
    settings: hyper-parameters; the queue's pretraining is in steps.

  Returns:
    The method; its metrics are `loss`, Eq. 5 summed over networks and averaged over classes; and of
    the networks that served, the mean `accuracy` in [0, 1] and the mean `steps` of their training.
  """
  optimizer = image_optimizer(settings.lr_image)
  images = initialiser(
    optimizer, ipc=settings.ipc, init=settings.init, formation=setup.formation, key_of=first_half
  )
  matching = FeatureMatching(setup, settings.batch_real, distance=settings.distance)
  networks = NetworkQueue(setup, settings.queue)

  # The start, line 1. If networks are copies of pretrained ones, these come first.

  def begin(state: Any, dataset: Dataset, indices: Any, key: Key, number: Array):
    queue = networks.empty(dataset.num_classes)
    serving = jnp.zeros(settings.queue.networks, jnp.int32)
    return IDMState(state.stored, state.optimizer, queue, serving), {}

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

  def draw_to_fill(dataset: Dataset, key: Key, number: Array) -> Array | None:
    return networks.draw_to_test(dataset, fill_key(key, number))

  def fill(state: IDMState, dataset: Dataset, indices: Array, key: Key, number: Array):
    old, put = oldest(state, key)
    return put(networks.new(old, dataset, indices, fill_key(key, number))), {}

  # Lines 3 to 6, every iteration.

  def draw(dataset: Dataset, key: Key, number: Array) -> Array:
    return matching.draw(dataset, jax.random.split(key, 4)[1])

  def match(state: IDMState, dataset: Dataset, indices: Array, key: Key, number: Array):
    sample_key, match_key, _, _ = jax.random.split(key, 4)
    serving = networks.sample(state.queue, sample_key, settings.queue.networks)  # line 3
    phis = slots.at(state.queue.slots, serving)

    def one(phi):  # lines 4 and 5; all see the same real images under the same augmentation
      weight = settings.regularisation * PER_CENT * phi.accuracy
      return matching.match(
        phi.params, state.stored, dataset, indices, match_key,
        weight if settings.regularisation else None,
      )  # fmt: skip

    losses, gradients = jax.tree.map(lambda leaf: leaf.sum(0), jax.lax.map(one, phis))
    state = step_images(optimizer, state, gradients)  # line 6
    metrics = {"accuracy": phis.accuracy.mean(), "steps": phis.steps.mean()}
    return state._replace(serving=serving), {"loss": losses.mean(), **metrics}

  # Line 7 ...

  def phis(state: IDMState, key: Key) -> tuple[Trained, Callable[[Trained], IDMState]]:
    queue, which = state.queue, state.serving
    if settings.queue.trained:
      lot_key = jax.random.fold_in(jax.random.split(key, 4)[2], _LOTS)
      which = networks.sample(queue, lot_key, settings.queue.trained)
    return slots.at(queue.slots, which), lambda phis: state._replace(
      queue=queue._replace(slots=slots.put(queue.slots, which, phis))
    )

  def train_keys(key: Key) -> Key:
    """One for each network."""
    count = settings.queue.trained or settings.queue.networks
    return jax.random.split(jax.random.split(key, 4)[2], count)

  def draw_to_train(dataset: Dataset, key: Key, number: Array) -> tuple[Array, Array | None]:
    classes = jnp.ones(dataset.num_classes, bool)
    draw = jax.vmap(networks.draw_to_train, (None, 0, None))
    return draw(dataset, train_keys(key), classes)

  def train(phis: Trained, dataset: Dataset, indices: Any, key: Key, number: Array):
    def one(each):
      phi, indices, key = each
      if indices is None:  # phi knows which classes it is trained on
        indices = networks.draw_to_train(dataset, key, phi.classes)
      return networks.train(phi, dataset, indices, key)

    return jax.lax.map(one, (phis, indices, train_keys(key))), {}

  # ... and lines 8 and 9: the new network is in the place of the oldest, if the queue is full.

  def draw_to_push(dataset: Dataset, key: Key, number: Array) -> Array | None:
    return networks.draw_to_test(dataset, jax.random.split(key, 4)[3])

  def push(old: Queue, dataset: Dataset, indices: Array, key: Key, number: Array):
    return networks.new(old, dataset, indices, jax.random.split(key, 4)[3]), {}

  queue = settings.queue
  return Method(
    start=(
      images,
      Step(begin),
      Step(pretrain, draw_to_pretrain, times=queue.pretrained * networks.chunks),
      Step(fill, draw_to_fill, times=queue.initial),
    ),
    iteration=(
      Step(match, draw),
      Step(
        train, draw_to_train if queue.classes == 1 else unknown, every=queue.train_every, view=phis
      ),
      Step(push, draw_to_push, every=queue.interval, view=oldest),
    ),
  )


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  bound = setup(config, dataset, layout)
  feature_distances.check_blocks(config.distance, bound.network)
  network = network_augmentation("queue.augmentation", config.queue.augmentation, dataset)
  bound = bound._replace(augmentations=bound.augmentations._replace(network=network))
  settings = from_fields(IDMSettings(), config)
  return idm(bound, settings._replace(queue=in_steps(settings.queue, dataset)))


def _resolve(config: ConfigDict) -> None:
  feature_distances.check(config)
  case = base_name(config.dataset.name), config.ipc
  if config.batch_real is None:
    config.batch_real = 5000 if config.ipc == 1 else 256
  if config.regularisation is None:
    config.regularisation = REGULARISATION.get(case, 0.5 if config.ipc <= 10 else 0.1)
  if config.queue.interval is None:
    config.queue.interval = 5 if config.ipc == 1 else 30
  if config.queue.steps is None:
    config.queue.steps = STEPS.get(case, 10)
  check_least("regularisation", config.regularisation, 0)
  _resolve_queue(config.queue, case[0])
  check_condensation(config, lr_image="0.2")


def _resolve_queue(queue: ConfigDict, dataset: str) -> None:
  check_name("queue.schedule", queue.schedule, SCHEDULES)
  trained, train_every, accuracy = SCHEDULES[queue.schedule]
  by_schedule = {
    "trained": trained, "train_every": train_every or queue.interval, "accuracy": accuracy
  }  # fmt: skip
  for field, value in by_schedule.items():
    if queue[field] is None:
      queue[field] = value
  check_rate("queue.lr", queue.lr, "0.01")
  check_name("queue.accuracy", queue.accuracy, ACCURACIES)
  least = dict.fromkeys(("initial", "size", "interval", "train_every", "steps", "batch"), 1)
  for field, value in (least | {"networks": 1, "trained": 0, "pretrained": 0}).items():
    check_least(f"queue.{field}", queue[field], value)
  if queue.augmentation != "none":
    augment.check_strategy("queue.augmentation", queue.augmentation)
    warn_of_flips("queue.augmentation", queue.augmentation, dataset)
  if queue.initial > queue.size:
    raise UserError(
      f"queue.initial: {queue.initial} networks do not fit a queue.size of {queue.size}; lower it"
    )
  for field, use in (("networks", "serve"), ("trained", "be trained")):
    if queue[field] > queue.initial:
      raise UserError(
        f"queue.{field}: {queue[field]} cannot {use} where there are queue.initial="
        f"{queue.initial} at first; lower it, or raise queue.initial"
      )
  if queue.schedule == "paper" and queue.train_every != queue.interval:
    raise UserError(
      f"queue.train_every: {queue.train_every}, but queue.schedule=paper trains when it pushes, "
      f"every queue.interval={queue.interval}; leave one out, or set queue.schedule=program"
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
    IDMSettings(),
    iterations=20_000,
    checkpoint_every=500,
    forming=Forming(name="partition", factor=2),
  ),
  build=_build,
  resolve=_resolve,
  smoke=SMOKE | {"queue.size": 3, "queue.interval": 1, "queue.steps": 1, "queue.batch": 8},
  protocol="idm",
  together=bytes_together,
  settings=IDMSettings,
)
