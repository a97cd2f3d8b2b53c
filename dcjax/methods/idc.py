"""IDC: condensation by efficient synthetic-data parameterization (Kim et al., ICML 2022).

The gradients of synthetic images f(S), which a formation f makes of the stored S, and of real
ones are matched class by class as in DSA, with three differences (Algorithm 1): the networks are
trained on real images between the matchings, with strong augmentation and CutMix; the distance is
the L1 norm or the squared L2 norm of the gradients of convolutions; and S holds pixels in [0, 1],
but of speech normalised spectrograms (authors' code).

An iteration here is one pass of the inner loop: all classes are matched, S takes one step, and
the network is trained. After `inner_loop` (M) of them a new network begins.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcjax import augment
from dcjax.augment import Augmentations
from dcjax.data import Dataset
from dcjax.formation import IDENTITY, Formation, Stored
from dcjax.matching import DISTANCES, on_convolutions
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
from dcjax.methods.gradient_matching import GradientMatching
from dcjax.methods.idc_networks import Networks, Training
from dcjax.nn import Network
from dcjax.strategy import Strategy
from dcjax.types import Array, Key, Params

# By dataset, as `fnmatch` has patterns: lambda for ten images per class (Appendix C.1, authors'
# code), and the side of the images that it is for, if they come in others.
RATES = {
  "cifar*": (5e-3, None),
  "svhn*": (5e-3, None),
  "folder": (3e-3, 224),
  "imagenet*": (3e-3, 224),
  "speech": (3e-3, None),
  "*": (1e-4, None),
}
RATE_HUNDRED_CLASSES = 1e-3  # of ImageNet-100
# By dataset, matchings of all classes: 100 with each of 500, 1000 or 2000 networks (authors' code).
ITERATIONS = {"folder": 50_000, "imagenet*": 50_000, "speech": 100_000, "*": 200_000}
DATA = ("real", "synthetic")  # what networks are trained on (Table 5)


def of_dataset(dataset: str, values: Mapping[str, Any]) -> Any:
  """The first value whose name, a pattern of `fnmatch`, is that of a dataset."""
  return next(value for name, value in values.items() if fnmatchcase(dataset, name))


def rate(dataset: str, side: int, ipc: int, *, hundred_classes: bool) -> float:
  """The learning rate of the images, lambda, that belongs to a dataset.

  A pixel's gradient shrinks with the number of images and of pixels that share a loss.

  Args:
    dataset: its name.
    side: of the images, in pixels, if the dataset comes in any size.
    ipc: stored images per class.
    hundred_classes: whether there are that many classes or more.
  """
  found, base = of_dataset(dataset, RATES)
  if base is None:
    return found * ipc / 10
  return (RATE_HUNDRED_CLASSES if hundred_classes else found) * ipc / 10 * (side / base) ** 2


class Settings(NamedTuple):
  """IDC's hyper-parameters.

  Attributes:
    ipc: stored images per class.
    init: an entry of `methods.INITS`.
    distance: an entry of `matching.DISTANCES`, of the gradients of convolutions.
    inner_loop: M, matchings with one network.
    batch_real: real images of each class in one matching.
    batch_synthetic: most synthetic images of each class in one matching.
    lr_image: lambda.
  """

  ipc: int
  init: str
  distance: str
  inner_loop: int
  batch_real: int
  batch_synthetic: int
  lr_image: float


class State(NamedTuple):
  """What IDC carries from one matching to the next."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images
  network: tuple[Params, Any]  # theta_i, and its optimiser's state: momentum shaped as theta
  matchings: Array  # int32, done with this network
  pool: Params  # pretrained networks, each leaf with a leading axis [networks]; or empty


def idc(
  network: Network,
  settings: Settings,
  training_settings: Training,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
  formation: Formation = IDENTITY,
) -> Method:
  """IDC (Algorithm 1); IDC-I with a formation that leaves images whole.

  Args:
    network: theta, a network with convolutions.
    settings: hyper-parameters of the matching.
    training_settings: hyper-parameters of the networks.
    strategy: how the work is laid out on the machine.
    augmentations: a_omega of what is matched, and a_omega' of what networks are trained on.
    formation: f.

  Returns:
    The method; its metrics are `loss`, the distance averaged over classes.
  """
  optimizer = image_optimizer(settings.lr_image)
  initialise, initial_places = initialiser(
    optimizer, ipc=settings.ipc, init=settings.init, formation=formation
  )
  matching = GradientMatching(
    network,
    on_convolutions(DISTANCES[settings.distance]),
    settings.batch_real,
    strategy,
    augmentations,
    formation,
    settings.batch_synthetic,
  )
  networks = Networks(network, training_settings, strategy, augmentations.network, formation)

  def start(state: None, dataset: Dataset, key: Key, number: Array) -> State:
    images_key, pool_key = jax.random.split(key)
    stored, state = initialise(images_key, dataset)
    network, pool = networks.fresh(pool_key), networks.empty_pool()
    return State(stored, state, network, jnp.int32(0), pool)

  def start_places(dataset: Dataset, key: Key, number: Array) -> Array:
    return initial_places(dataset, jax.random.split(key)[0])

  def fill_pool(state: State, dataset: Dataset, key: Key, number: Array) -> State:
    which, part = jnp.divmod(number, networks.parts)
    network_key = networks.pool_keys(jax.random.split(key)[1])[which]
    network = networks.pretrain_part(state.network, state.stored, dataset, network_key, part)
    return state._replace(network=network, pool=slots.put(state.pool, which, network[0]))

  def pool_places(dataset: Dataset, key: Key, number: Array) -> Array:
    which, part = jnp.divmod(number, networks.parts)
    return networks.part_places(dataset, networks.pool_keys(jax.random.split(key)[1])[which], part)

  def clipped(stored: Stored) -> Stored:
    return stored._replace(images=jnp.clip(stored.images, 0, 1)) if formation.unit else stored

  def begin(state: State, dataset: Dataset, key: Key) -> State:
    stored = clipped(state.stored)
    network = networks.start(state.pool, stored, dataset, jax.random.split(key, 3)[0])
    return state._replace(stored=stored, network=network)

  def go_on(state: State, dataset: Dataset, key: Key) -> tuple[State, dict[str, Array]]:
    _, match_key, train_key = jax.random.split(key, 3)
    losses, gradients = matching.match(state.network[0], state.stored, dataset, match_key)
    state = step_images(optimizer, state, gradients)
    steps = training_settings.steps
    network = networks.train(state.network, state.stored, dataset, train_key, 0, steps)
    matchings = (state.matchings + 1) % settings.inner_loop
    return state._replace(network=network, matchings=matchings), {"loss": losses.mean()}

  def update(state: State, dataset: Dataset, key: Key) -> tuple[State, dict[str, Array]]:
    state = jax.lax.cond(
      state.matchings == 0, lambda state: begin(state, dataset, key), lambda state: state, state
    )
    return go_on(state, dataset, key)

  def places(dataset: Dataset, key: Key, number: Array) -> Array:
    _, match_key, train_key = jax.random.split(key, 3)
    of_training = networks.places(dataset, train_key, 0, training_settings.steps)
    return jnp.concatenate([matching.places(dataset, match_key), of_training])

  def pretrain(state: State, dataset: Dataset, key: Key, number: Array) -> State:
    stored, start_key = clipped(state.stored), jax.random.split(key, 3)[0]
    network = networks.pretrain_part(state.network, stored, dataset, start_key, number)
    return state._replace(stored=stored, network=network)

  def pretrain_places(dataset: Dataset, key: Key, number: Array) -> Array:
    return networks.part_places(dataset, jax.random.split(key, 3)[0], number)

  starting = (
    Stage(start, start_places),
    Stage(fill_pool, pool_places, times=training_settings.networks * networks.parts),
  )
  whole = (Stage(lambda state, dataset, key, number: update(state, dataset, key), places),)
  later = (Stage(lambda state, dataset, key, number: go_on(state, dataset, key), places),)
  first = (Stage(pretrain, pretrain_places, times=networks.parts), *later)

  def iteration(t: int) -> tuple[Stage, ...]:
    if training_settings.networks or not networks.parts:
      return whole
    return later if t % settings.inner_loop else first

  return Method(at_once(starting), update, stages=Stages(starting, iteration))
