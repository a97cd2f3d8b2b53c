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
from ml_collections import ConfigDict

from dcjax.common.errors import UserError, check_least, check_name
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset, base_name
from dcjax.devices.strategy import Strategy
from dcjax.methods import (
  Method,
  State,
  Step,
  feature_distances,
  first_half,
  image_optimizer,
  initialiser,
  slots,
  step_images,
  trained_networks,
  unknown,
)
from dcjax.methods.definition import (
  Definition,
  by_rule,
  check_condensation,
  condensation,
  from_fields,
)
from dcjax.methods.feature_matching import EMBEDDINGS, FeatureMatching, bytes_together
from dcjax.methods.setup import Setup, setup
from dcjax.methods.trained_networks import TrainedSettings
from dcjax.sets.formation import Stored


class DMSettings(NamedTuple):
  """DM's hyper-parameters."""

  ipc: int = 1  # images per class
  init: str = "real"  # Start: 'real' images, 'noise', 'mix', or FILE.npz of a saved set
  # What is compared: features of a 'network', or 'pixels' for the MMD baseline with a linear kernel
  # (supplement, section 2.2)
  embedding: str = "network"
  batch_real: int = 256  # real images of each class in one iteration (authors' code)
  # Of images; None: 1, or 10 above 50 images per class but of CIFAR-100
  lr_image: float = by_rule(float)
  # Networks in place of random ones (supplement, section 3)
  trained: TrainedSettings = TrainedSettings()
  # D of features: 'mean', line 3; 'layerwise' (CAFE), of all blocks of a ConvNet; 'rbf_mmd' (M3D);
  # or 'cf' (NCFM), which is experimental
  distance: str = "mean"


class TrainedState(NamedTuple):
  """What DM carries on where its networks are trained ones."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a learnable formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images
  networks: Params  # each leaf with a leading axis [networks], float32
  accuracies: Array  # [networks] float32, on real images


def dm(setup: Setup, settings: DMSettings) -> Method:
  """Dataset condensation with distribution matching.

  Args:
    setup: the network psi with a last layer that is not used, drawn anew in every iteration;
      layout, augmentations of what is matched, and formation (IDC, Table 13).
    settings: hyper-parameters.

  Returns:
    The method; its metrics are `loss`, the distance averaged over classes.
  """
  optimizer = image_optimizer(settings.lr_image)
  initial = partial(
    initialiser, optimizer, ipc=settings.ipc, init=settings.init, formation=setup.formation
  )
  matching = FeatureMatching(setup, settings.batch_real, settings.embedding, settings.distance)
  trained = None if settings.trained.low is None else settings.trained

  def draw(dataset: Dataset, key: Key, number: Array) -> Array:
    return matching.draw(dataset, jax.random.split(key)[1])

  def match(state: Any, dataset: Dataset, indices: Array, key: Key, number: Array):
    network_key, match_key = jax.random.split(key)
    params = choose(state, network_key)  # 1
    losses, gradients = matching.match(params, state.stored, dataset, indices, match_key)  # 2, 3
    return step_images(optimizer, state, gradients), {"loss": losses.mean()}  # 4

  def choose(state: Any, key: Key) -> Params:
    if trained is None:
      return setup.network.init(key)
    return slots.at(state.networks, jax.random.randint(key, (), 0, trained.networks))

  iteration = (Step(match, draw),)
  if trained is None:
    return Method((initial(),), iteration)

  # Networks up to an accuracy: what they draw depends on when they reach it, hence is unknown.
  def train(state: State, dataset: Dataset, indices: None, key: Key, number: Array):
    networks_key = jax.random.split(key)[1]
    return TrainedState(*state, *trained_networks.train(setup, trained, dataset, networks_key)), {}

  return Method(
    start=(initial(key_of=first_half), Step(train, unknown)),
    iteration=iteration,
    check=lambda state: trained_networks.check(state.accuracies, trained),
  )


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  bound = setup(config, dataset, layout)
  feature_distances.check_blocks(config.distance, bound.network)
  return dm(bound, from_fields(DMSettings(), config))


def _resolve(config: ConfigDict) -> None:
  check_name("embedding", config.embedding, EMBEDDINGS)
  feature_distances.check(config)
  if config.embedding == "pixels" and config.distance == "layerwise":
    raise UserError("distance: 'layerwise' is of a network's blocks; set embedding=network")
  _check_trained(config)
  if config.lr_image is None:
    faster = config.ipc > 50 and base_name(config.dataset.name) != "cifar100"
    config.lr_image = 10.0 if faster else 1.0  # (authors' code)
  check_condensation(config, lr_image="1")


def _check_trained(config: ConfigDict) -> None:
  low, high = config.trained.low, config.trained.high
  if low is None:
    return
  if not 0 <= low < high <= 1:
    raise UserError(f"trained: {low} to {high} is no range of accuracies in [0, 1]; mend it")
  check_least("trained.networks", config.trained.networks, 1)
  if config.embedding == "pixels":
    raise UserError("embedding: 'pixels' has no networks; leave trained.low out")


DM = Definition(
  # (authors' code)
  fields=lambda: condensation(DMSettings(), iterations=20_000, checkpoint_every=500),
  build=_build,
  resolve=_resolve,
  protocol="dm",
  together=bytes_together,
  settings=DMSettings,
)
