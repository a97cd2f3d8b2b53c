"""IDC: condensation by efficient synthetic-data parameterization (Kim et al., ICML 2022).

Algorithm 1, with its lines counted, since the paper does not number them:

   1  S: stored images of each class             pixels in [0, 1], but of speech normalised
   2  repeat                                     spectrograms (authors' code)
   3    theta_1: a new or a pretrained network
   4    for i = 1 .. M:                          `inner_loop`; one pass is an iteration here
   5      for each class c:
   6        draw real images T_c, and some of S_c
   7        S_c -= lambda * gradient of D(a_omega(f(S_c)), a_omega(T_c); theta_i)
   8      (next class)
   9      draw real images T
  10      theta_{i+1} = theta_i - eta * gradient of loss(theta_i; h(a_omega'(T)))
  11    (next i)
  12  until convergence

A formation f makes synthetic images of those stored. D is the L1 norm or the squared L2 norm of a
difference of gradients, here of convolutions alone. a_omega is DSA's siamese augmentation;
a_omega' is a strong one and h is CutMix. Lines 9 and 10 take `training.steps` steps.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcjax import augment
from dcjax.augment import Augmentations
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.strategy import Strategy
from dcjax.methods import Method, Step, first_half, image_optimizer, initialiser, slots, step_images
from dcjax.methods.distances import DISTANCES, on_convolutions
from dcjax.methods.gradient_matching import Batches, GradientMatching
from dcjax.methods.idc_networks import Networks, Training
from dcjax.nn import Network
from dcjax.sets.formation import IDENTITY, Formation, Stored

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
  pool: Params  # pretrained networks, each leaf with a leading axis [networks]; or empty


def idc(
  network: Network,
  settings: Settings,
  training_settings: Training,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
  formation: Formation = IDENTITY,
) -> Method:
  """IDC (Algorithm 1); IDC-I with a formation that leaves images as they are.

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
  images = initialiser(
    optimizer, ipc=settings.ipc, init=settings.init, formation=formation, key_of=first_half
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

  # The start. If there is a pool of networks for line 3, they are pretrained now.

  def begin(state: Any, dataset: Dataset, indices: Any, key: Key, number: Array):
    network_key = jax.random.split(key)[1]
    network, pool = networks.fresh(network_key), networks.empty_pool()
    return State(state.stored, state.optimizer, network, pool), {}

  def of_pool(key: Key, number: Array) -> tuple[Array, Array, Key]:
    """Which network run `number` pretrains, which chunk of its steps, and the network's key."""
    which, chunk = jnp.divmod(number, networks.chunks)
    keys = jax.random.split(jax.random.split(key)[1], training_settings.networks)
    return which, chunk, keys[which]

  def draw_for_pool(dataset: Dataset, key: Key, number: Array) -> Array | None:
    _, chunk, network_key = of_pool(key, number)
    return networks.draw_chunk(dataset, network_key, chunk)

  def fill_pool(state: State, dataset: Dataset, indices: Array | None, key: Key, number: Array):
    which, chunk, network_key = of_pool(key, number)
    # A network's first chunk begins with random weights.
    network = jax.lax.cond(
      chunk == 0, lambda: networks.fresh(first_half(network_key)), lambda: state.network
    )
    network = networks.pretrain(network, state.stored, dataset, indices, network_key, chunk)
    return state._replace(network=network, pool=slots.put(state.pool, which, network[0])), {}

  # Line 3, every M iterations: a network of the pool, or a new one that is then pretrained.

  def renew(state: State, dataset: Dataset, indices: Any, key: Key, number: Array):
    stored = state.stored
    if formation.unit:  # only here are pixels brought back into [0, 1]
      stored = stored._replace(images=jnp.clip(stored.images, 0, 1))
    network = networks.choose(state.pool, jax.random.split(key, 3)[0])
    return state._replace(stored=stored, network=network), {}

  def draw_to_pretrain(dataset: Dataset, key: Key, number: Array) -> Array | None:
    return networks.draw_chunk(dataset, jax.random.split(key, 3)[0], number)

  def pretrain(state: State, dataset: Dataset, indices: Array | None, key: Key, number: Array):
    network_key = jax.random.split(key, 3)[0]
    network = networks.pretrain(state.network, state.stored, dataset, indices, network_key, number)
    return state._replace(network=network), {}

  # Lines 5 to 10, every iteration.

  def draw(dataset: Dataset, key: Key, number: Array) -> tuple[Batches, Array | None]:
    _, match_key, train_key = jax.random.split(key, 3)
    batches = matching.draw(dataset, match_key)  # line 6
    return batches, networks.draw(dataset, train_key, 0, training_settings.steps)  # line 9

  def match_and_train(state: State, dataset: Dataset, indices: Any, key: Key, number: Array):
    _, match_key, train_key = jax.random.split(key, 3)
    batches, of_training = indices
    theta = state.network[0]
    losses, gradients = matching.match(theta, state.stored, dataset, batches, match_key)
    state = step_images(optimizer, state, gradients)  # line 7, of all classes
    network = networks.train(  # line 10
      state.network, state.stored, dataset, of_training, train_key, 0, training_settings.steps
    )
    return state._replace(network=network), {"loss": losses.mean()}

  every, chunks, pooled = settings.inner_loop, networks.chunks, training_settings.networks
  return Method(
    start=(images, Step(begin), Step(fill_pool, draw_for_pool, times=pooled * chunks)),
    iteration=(
      Step(renew, every=every),
      Step(pretrain, draw_to_pretrain, times=0 if pooled else chunks, every=every),
      Step(match_and_train, draw),
    ),
  )
