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

from dcjax import augment
from dcjax.augment import Augmentations
from dcjax.common.types import Array, Key
from dcjax.data import Dataset
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
from dcjax.methods.feature_matching import FeatureMatching
from dcjax.methods.idm_queue import Networks, Queue, QueueSettings, Trained
from dcjax.nn import Network
from dcjax.sets.formation import IDENTITY, Formation, Stored


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


class State(NamedTuple):
  """What IDM carries from one iteration to the next."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images
  queue: Queue
  sampled: Array  # int32, the slot of phi


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
  images = initialiser(
    optimizer, ipc=settings.ipc, init=settings.init, formation=formation, key_of=first_half
  )
  matching = FeatureMatching(network, settings.batch_real, strategy, augmentations, formation)
  networks = Networks(network, queue_settings, strategy, augmentations.network)

  # The start, line 1. If networks are copies of pretrained ones, these come first.

  def begin(state: Any, dataset: Dataset, indices: Any, key: Key, number: Array):
    queue = networks.empty(dataset.num_classes)
    return State(state.stored, state.optimizer, queue, jnp.int32(0)), {}

  def draw_to_pretrain(dataset: Dataset, key: Key, number: Array) -> Array:
    return networks.draw_chunk(dataset, jax.random.split(key)[1], number)

  def pretrain(state: State, dataset: Dataset, indices: Array, key: Key, number: Array):
    queue_key = jax.random.split(key)[1]
    queue = networks.pretrain(state.queue, dataset, indices, queue_key, number)
    return state._replace(queue=queue), {}

  def oldest(state: State, key: Key) -> tuple[Queue, Callable[[Queue], State]]:
    """The queue with but one slot, the next to be filled; and how that is put back."""
    queue, slot = state.queue, state.queue.pushed % queue_settings.size
    return queue._replace(slots=slots.at(queue.slots, slot)), lambda new: state._replace(
      queue=new._replace(slots=slots.put(queue.slots, slot, new.slots))
    )

  def fill_key(key: Key, number: Array) -> Key:
    return jax.random.fold_in(jax.random.split(jax.random.split(key)[1])[1], number)

  def draw_to_fill(dataset: Dataset, key: Key, number: Array) -> Array:
    return networks.draw_to_test(dataset, fill_key(key, number))

  def fill(state: State, dataset: Dataset, indices: Array, key: Key, number: Array):
    old, put = oldest(state, key)
    return put(networks.new(old, dataset, indices, fill_key(key, number))), {}

  # Lines 3 to 6, every iteration.

  def draw(dataset: Dataset, key: Key, number: Array) -> Array:
    return matching.draw(dataset, jax.random.split(key, 4)[1])

  def match(state: State, dataset: Dataset, indices: Array, key: Key, number: Array):
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

  def phi(state: State, key: Key) -> tuple[Trained, Callable[[Trained], State]]:
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

  every, all_classes = queue_settings.interval, queue_settings.classes == 1
  return Method(
    start=(
      images,
      Step(begin),
      Step(pretrain, draw_to_pretrain, times=queue_settings.pretrained * networks.chunks),
      Step(fill, draw_to_fill, times=queue_settings.initial),
    ),
    iteration=(
      Step(match, draw),
      Step(train, draw_to_train if all_classes else unknown, every=every, view=phi),
      Step(push, draw_to_push, every=every, view=oldest),
    ),
  )
