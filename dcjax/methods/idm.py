"""IDM: improved distribution matching (Zhao, Li, Qin and Yu, CVPR 2023).

DM with three changes (Algorithm 1): a formation makes more images of those stored (section 4.1);
the embedding is a network from a queue of networks that real images have trained for various
lengths (section 4.2); and the cross-entropy of the synthetic images, weighted by the accuracy of
that network on real ones, is added to the loss (section 4.3, Eq. 5).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcjax import augment
from dcjax.augment import Augmentations
from dcjax.data import Dataset
from dcjax.formation import IDENTITY, Formation, Stored
from dcjax.methods import (
  Method,
  Stage,
  Stages,
  at_once,
  image_optimizer,
  initialiser,
  slots,
  step_images,
)
from dcjax.methods.feature_matching import FeatureMatching
from dcjax.methods.idm_queue import Networks, Queue, QueueSettings
from dcjax.nn import Network
from dcjax.strategy import Strategy
from dcjax.types import Array, Key


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
  initialise, initial_places = initialiser(
    optimizer, ipc=settings.ipc, init=settings.init, formation=formation
  )
  matching = FeatureMatching(network, settings.batch_real, strategy, augmentations, formation)
  networks = Networks(network, queue_settings, strategy, augmentations.network)

  def start(state: None, dataset: Dataset, key: Key, number: Array) -> State:
    images_key, _ = jax.random.split(key)
    queue = networks.empty(dataset.num_classes)
    return State(*initialise(images_key, dataset), queue, jnp.int32(0))

  def start_places(dataset: Dataset, key: Key, number: Array) -> Array:
    return initial_places(dataset, jax.random.split(key)[0])

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

  def update(state: State, dataset: Dataset, key: Key) -> tuple[State, dict[str, Array]]:
    sample_key, match_key, train_key, push_key = jax.random.split(key, 4)
    slot = networks.sample(state.queue, sample_key)
    phi = slots.at(state.queue.slots, slot)
    weight = settings.regularisation * phi.accuracy if settings.regularisation else None
    losses, gradients = matching.match(phi.params, state.stored, dataset, match_key, weight)
    state = step_images(optimizer, state, gradients)
    due = state.iterations % queue_settings.interval == 0
    queue = networks.train(state.queue, slot, dataset, train_key, due)
    queue = networks.push(queue, dataset, push_key, due)
    state = state._replace(queue=queue, iterations=state.iterations + 1)
    return state, {"loss": losses.mean(), "accuracy": phi.accuracy}

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
  return Method(at_once(starting), update, stages=stages if queue_settings.classes == 1 else None)
