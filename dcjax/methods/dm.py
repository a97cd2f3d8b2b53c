"""DM: dataset condensation with distribution matching (Zhao and Bilen, WACV 2023).

In every iteration a network is drawn, and the synthetic images S `[classes, ipc, H, W, C]` move
so that the mean of their features comes closer to that of real images, class by class:

  loss = sum over classes c of || mean psi(A_omega(T_c)) - mean psi(A_omega(S_c)) ||^2

with the features before the last layer as the embedding psi, and DSA's siamese augmentation
A_omega (restated in IDM, section 3; the connection to gradient matching is in the supplement).
"""

from typing import Any, NamedTuple

import jax

from dcjax import augment
from dcjax.augment import Augmentations
from dcjax.data import Dataset
from dcjax.formation import IDENTITY, Formation, Stored
from dcjax.methods import (
  Method,
  State,
  image_optimizer,
  in_one_stage,
  initialiser,
  pool,
  slots,
  step_images,
)
from dcjax.methods.feature_matching import FeatureMatching
from dcjax.nn import Network
from dcjax.strategy import Strategy
from dcjax.types import Array, Key, Params


class Settings(NamedTuple):
  """DM's hyper-parameters.

  Attributes:
    ipc: images per class.
    init: an entry of `methods.INITS`.
    embedding: 'network', or 'pixels' for the MMD baseline with a linear kernel (supplement,
      section 2.2).
    batch_real: real images of each class in one iteration.
    lr_image: learning rate of the images.
  """

  ipc: int
  init: str
  embedding: str
  batch_real: int
  lr_image: float


class PoolState(NamedTuple):
  """What DM carries on where its networks are trained ones."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a learnable formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images
  networks: Params  # each leaf with a leading axis [networks], float32
  accuracies: Array  # [networks] float32, on real images


def dm(
  network: Network,
  settings: Settings,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
  formation: Formation = IDENTITY,
  trained: pool.Settings | None = None,
) -> Method:
  """Dataset condensation with distribution matching.

  Args:
    network: psi and a last layer that is not used; drawn anew in every iteration.
    settings: hyper-parameters.
    strategy: how the work is laid out on the machine.
    augmentations: of what is matched.
    formation: from stored images to synthetic ones (IDC, Table 13).
    trained: of networks trained on the real images, from which each iteration draws, in place of
      random ones (supplement, section 3).

  Returns:
    The method; its metrics are `loss`, the squared distance of the means averaged over classes.
  """
  optimizer = image_optimizer(settings.lr_image)
  initialise, initial_places = initialiser(
    optimizer, ipc=settings.ipc, init=settings.init, formation=formation
  )
  matching = FeatureMatching(
    network, settings.batch_real, strategy, augmentations, formation, settings.embedding
  )

  def step(state, params, dataset, key):
    losses, gradients = matching.match(params, state.stored, dataset, key)
    return step_images(optimizer, state, gradients), {"loss": losses.mean()}

  def update(state: State, dataset: Dataset, key: Key) -> tuple[State, dict[str, Array]]:
    network_key, match_key = jax.random.split(key)
    return step(state, network.init(network_key), dataset, match_key)

  def places(dataset: Dataset, key: Key) -> Array:
    return matching.places(dataset, jax.random.split(key)[1])

  if trained is None:
    return in_one_stage(Method(initialise, update), initial_places, places)

  def initialise_pool(key: Key, dataset: Dataset) -> PoolState:
    images_key, networks_key = jax.random.split(key)
    networks, accuracies = pool.train(network, dataset, networks_key, trained, strategy)
    return PoolState(*initialise(images_key, dataset), networks, accuracies)

  def update_by_pool(state: PoolState, dataset: Dataset, key: Key):
    network_key, match_key = jax.random.split(key)
    choice = jax.random.randint(network_key, (), 0, trained.networks)
    params = slots.at(state.networks, choice)
    return step(state, params, dataset, match_key)

  return Method(
    initialise_pool, update_by_pool, lambda state: pool.check(state.accuracies, trained)
  )
