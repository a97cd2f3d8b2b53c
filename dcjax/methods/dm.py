"""DM: dataset condensation with distribution matching (Zhao and Bilen, WACV 2023).

In each iteration (restated in IDM, section 3; the connection to gradient matching is in the
supplement), with numbers of our own:

  1  psi: a network, drawn anew, without its last layer
  2  for each class c: draw real images T_c, and the parameters omega of an augmentation
  3    loss_c = || mean psi(A_omega(T_c)) - mean psi(A_omega(S_c)) ||^2
  4  move the synthetic images S, `[classes, ipc, H, W, C]`, against the gradient of the sum
"""

from functools import partial
from typing import Any, NamedTuple

import jax

from dcjax import augment
from dcjax.augment import Augmentations
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.strategy import Strategy
from dcjax.methods import (
  Method,
  State,
  Step,
  first_half,
  image_optimizer,
  initialiser,
  slots,
  step_images,
  trained_networks,
  unknown,
)
from dcjax.methods.feature_matching import FeatureMatching
from dcjax.nn import Network
from dcjax.sets.formation import IDENTITY, Formation, Stored


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
  trained: trained_networks.Settings | None = None,
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
  initial = partial(
    initialiser, optimizer, ipc=settings.ipc, init=settings.init, formation=formation
  )
  matching = FeatureMatching(
    network, settings.batch_real, strategy, augmentations, formation, settings.embedding
  )

  def draw(dataset: Dataset, key: Key, number: Array) -> Array:
    return matching.draw(dataset, jax.random.split(key)[1])

  def match(state: Any, dataset: Dataset, indices: Array, key: Key, number: Array):
    network_key, match_key = jax.random.split(key)
    params = choose(state, network_key)  # 1
    losses, gradients = matching.match(params, state.stored, dataset, indices, match_key)  # 2, 3
    return step_images(optimizer, state, gradients), {"loss": losses.mean()}  # 4

  def choose(state: Any, key: Key) -> Params:
    if trained is None:
      return network.init(key)
    return slots.at(state.networks, jax.random.randint(key, (), 0, trained.networks))

  iteration = (Step(match, draw),)
  if trained is None:
    return Method((initial(),), iteration)

  # Networks up to an accuracy: what they draw depends on when they reach it, hence is unknown.
  def train(state: State, dataset: Dataset, indices: None, key: Key, number: Array):
    networks_key = jax.random.split(key)[1]
    return PoolState(
      *state, *trained_networks.train(network, dataset, networks_key, trained, strategy)
    ), {}

  return Method(
    start=(initial(key_of=first_half), Step(train, unknown)),
    iteration=iteration,
    check=lambda state: trained_networks.check(state.accuracies, trained),
  )
