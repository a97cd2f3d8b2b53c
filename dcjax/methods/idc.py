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
from ml_collections import ConfigDict

from dcjax import augment
from dcjax.common.errors import UserError, check_least, check_name, check_probability
from dcjax.common.types import Array, Key, Params
from dcjax.config.datasets import hundred_classes, warn_of_flips
from dcjax.data import Dataset, base_name
from dcjax.devices.strategy import Strategy
from dcjax.evaluation.protocols import cutmix_of_idc, is_imagenet
from dcjax.methods import Method, Step, first_half, image_optimizer, initialiser, slots, step_images
from dcjax.methods.definition import (
  SMOKE,
  Augmenting,
  Definition,
  Forming,
  by_rule,
  check_condensation,
  check_rate,
  condensation,
  from_fields,
  names_file,
)
from dcjax.methods.distances import DISTANCES, note_new, on_convolutions
from dcjax.methods.gradient_matching import Batches, GradientMatching
from dcjax.methods.idc_networks import NetworkTraining, TrainingSettings
from dcjax.methods.setup import Setup, in_steps, network_augmentation, setup
from dcjax.nn import Network
from dcjax.sets.formation import Stored

# By dataset, as `fnmatch` has patterns: lambda for ten images per class (Appendix C.1, authors'
# code), and the side of the images that it is for, if they come in others.
RATES = {
  "fashion_mnist": (1e-4 * (28 / 32) ** 2, None),
  "cifar*": (5e-3, None),
  "svhn*": (5e-3, None),
  "folder": (3e-3, 224),
  "imagenet*": (3e-3, 224),
  "speech": (3e-3, None),
  "*": (1e-4, None),
}
RATE_HUNDRED_CLASSES = 1e-3  # of ImageNet-100
MANY = 20  # images a class of ImageNet, from which on too many tiles would be matched
# By dataset, matchings of all classes: 100 with each of 500, 1000 or 2000 networks (authors' code).
ITERATIONS = {"folder": 50_000, "imagenet*": 50_000, "speech": 100_000, "*": 200_000}
SQUARED = ("cifar10", "cifar100", "svhn_cropped")  # matched by squared distances
CHUNK = 1000  # images whose values are looked at together
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


class IDCSettings(NamedTuple):
  """IDC's hyper-parameters."""

  ipc: int = 1  # stored images per class
  # Start: 'mix', each part of a stored image is another real image made smaller, 'real', 'noise',
  # or FILE.npz of a saved set
  init: str = "mix"
  # D of the gradients of convolutions: 'mse', 'l1', 'ours' or 'cos'; None: 'mse' for CIFAR and
  # SVHN, else 'l1' (Appendix C.1)
  distance: str = by_rule(str)
  inner_loop: int = 100  # M, matchings with one network (Appendix C.1)
  batch_real: int = 64  # real images of each class in one matching (authors' code)
  batch_synthetic: int = 128  # most decoded images of each class in one (authors' code)
  lr_image: float = by_rule(float)  # lambda, of images; None: by dataset, side and ipc
  # Whether stored values are brought back to where real ones are whenever a network begins: pixels
  # into [0, 1], those of a spectrogram up to the least of the training data (authors' code); the
  # text does not
  clamp: bool = True
  training: TrainingSettings = TrainingSettings()  # of the networks that gradients are taken of


class IDCState(NamedTuple):
  """What IDC carries from one matching to the next."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images
  network: tuple[Params, Any]  # theta_i, and its optimiser's state: momentum shaped as theta
  pool: Params  # pretrained networks, each leaf with a leading axis [networks]; or empty


def idc(setup: Setup, settings: IDCSettings, *, least: float | None = None) -> Method:
  """IDC (Algorithm 1); IDC-I with a formation that leaves images as they are.

  Args:
    setup: the network theta, which has convolutions; layout, augmentations a_omega of what is
      matched and a_omega' of what networks are trained on, and the formation f.
    settings: hyper-parameters; the pretraining of networks is in steps.
    least: that stored values can be, where they are not pixels in [0, 1]; None: any.

  Returns:
    The method; its metrics are `loss`, the distance averaged over classes.
  """
  optimizer, formation = image_optimizer(settings.lr_image), setup.formation
  images = initialiser(
    optimizer, ipc=settings.ipc, init=settings.init, formation=formation, key_of=first_half
  )
  distance = on_convolutions(DISTANCES[settings.distance])
  matching = GradientMatching(setup, distance, settings.batch_real, settings.batch_synthetic)
  networks = NetworkTraining(setup, settings.training)

  # The start. If line 3 chooses from a pool of networks, these are pretrained now.

  def begin(state: Any, dataset: Dataset, indices: Any, key: Key, number: Array):
    network_key = jax.random.split(key)[1]
    network, pool = networks.fresh(network_key), networks.empty_pool()
    return IDCState(state.stored, state.optimizer, network, pool), {}

  def of_pool(key: Key, number: Array) -> tuple[Array, Array, Key]:
    """Which network run `number` pretrains, which chunk of its steps, and the network's key."""
    which, chunk = jnp.divmod(number, networks.chunks)
    keys = jax.random.split(jax.random.split(key)[1], settings.training.networks)
    return which, chunk, keys[which]

  def draw_for_pool(dataset: Dataset, key: Key, number: Array) -> Array | None:
    _, chunk, network_key = of_pool(key, number)
    return networks.draw_chunk(dataset, network_key, chunk)

  def fill_pool(state: IDCState, dataset: Dataset, indices: Array | None, key: Key, number: Array):
    which, chunk, network_key = of_pool(key, number)
    # A network's first chunk begins with random weights.
    network = jax.lax.cond(
      chunk == 0, lambda: networks.fresh(first_half(network_key)), lambda: state.network
    )
    network = networks.pretrain(network, state.stored, dataset, indices, network_key, chunk)
    return state._replace(network=network, pool=slots.put(state.pool, which, network[0])), {}

  # Line 3, every M iterations: a network of the pool, or a new one that is then pretrained.

  def renew(state: IDCState, dataset: Dataset, indices: Any, key: Key, number: Array):
    stored = state.stored
    if settings.clamp:  # here alone
      bounds = (0.0, 1.0) if formation.unit else (least, None)
      stored = stored._replace(images=jnp.clip(stored.images, *bounds))
    network = networks.choose(state.pool, jax.random.split(key, 3)[0])
    return state._replace(stored=stored, network=network), {}

  def draw_to_pretrain(dataset: Dataset, key: Key, number: Array) -> Array | None:
    return networks.draw_chunk(dataset, jax.random.split(key, 3)[0], number)

  def pretrain(state: IDCState, dataset: Dataset, indices: Array | None, key: Key, number: Array):
    network_key = jax.random.split(key, 3)[0]
    network = networks.pretrain(state.network, state.stored, dataset, indices, network_key, number)
    return state._replace(network=network), {}

  # Lines 5 to 10, every iteration.

  def draw(dataset: Dataset, key: Key, number: Array) -> tuple[Batches, Array | None]:
    _, match_key, train_key = jax.random.split(key, 3)
    batches = matching.draw(dataset, match_key)  # line 6
    return batches, networks.draw(dataset, train_key, 0, settings.training.steps)  # line 9

  def match_and_train(state: IDCState, dataset: Dataset, indices: Any, key: Key, number: Array):
    _, match_key, train_key = jax.random.split(key, 3)
    batches, of_training = indices
    theta = state.network[0]
    losses, gradients = matching.match(theta, state.stored, dataset, batches, match_key)
    state = step_images(optimizer, state, gradients)  # line 7, of all classes
    network = networks.train(  # line 10
      state.network, state.stored, dataset, of_training, train_key, 0, settings.training.steps
    )
    return state._replace(network=network), {"loss": losses.mean()}

  every, chunks, pooled = settings.inner_loop, networks.chunks, settings.training.networks
  return Method(
    start=(images, Step(begin), Step(fill_pool, draw_for_pool, times=pooled * chunks)),
    iteration=(
      Step(renew, every=every),
      Step(pretrain, draw_to_pretrain, times=0 if pooled else chunks, every=every),
      Step(match_and_train, draw),
    ),
  )


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  bound = setup(config, dataset, layout, first_block=layout.first_block)
  _check_convolutions(config, bound.network)
  network = network_augmentation(
    "training.augmentation", config.training.augmentation, dataset, config.training.draw
  )
  bound = bound._replace(augmentations=bound.augmentations._replace(network=network))
  settings = from_fields(IDCSettings(), config)
  settings = settings._replace(training=in_steps(settings.training, dataset))
  return idc(bound, settings, least=None if bound.formation.unit else _least(dataset))


def _least(dataset: Dataset) -> float:
  """The least value of the training images, as networks see them."""
  chunks = range(0, len(dataset.images), CHUNK)
  return min(float(dataset.normalise(dataset.images[k : k + CHUNK]).min()) for k in chunks)


def _check_convolutions(config: ConfigDict, phi: Network) -> None:
  """Refuses a network that has none of what IDC matches."""
  shapes = jax.tree.leaves(jax.eval_shape(phi.init, jax.random.key(0)))
  if all(leaf.ndim != 4 for leaf in shapes):
    raise UserError(
      f"network.name: {config.network.name} has no convolutions, whose gradients idc matches; "
      "use convnet"
    )


def _resolve(config: ConfigDict) -> None:
  dataset = base_name(config.dataset.name)
  if config.iterations is None:
    config.iterations = of_dataset(dataset, ITERATIONS)
  if config.distance is None:
    config.distance = "mse" if dataset in SQUARED else "l1"
  check_name("distance", config.distance, DISTANCES)
  if config.lr_image is None:
    config.lr_image = rate(
      dataset, config.dataset.side, config.ipc, hundred_classes=hundred_classes(config.dataset)
    )
  tiles = config.formation.factor > 1
  if config.formation.name is None:
    many = is_imagenet(dataset) and config.formation.factor >= 3 and config.ipc >= MANY
    config.formation.name = "bounded" if many else "uniform"
  if config.dsa.strategy is None:
    config.dsa.strategy = "color_crop" if dataset == "mnist" and tiles else "color_crop_cutout"
  _resolve_training(config.training, dataset, tiles=tiles)
  for field in ("inner_loop", "batch_synthetic"):
    check_least(field, config[field], 1)
  check_condensation(config, lr_image="0.005 for CIFAR-10 and 10 images")
  note_new(config, ("mse", "l1") if config.formation.factor > 1 else ("mse", "l1", "ours"))
  kept, data = config.training.networks, config.training.data
  if names_file(config.init) and kept and data == "synthetic":
    raise UserError(
      "init: networks that are pretrained on the images (training.networks with training.data="
      "synthetic) cannot start from a saved set; set training.networks=0"
    )


def _resolve_training(fields: ConfigDict, dataset: str, *, tiles: bool) -> None:
  if fields.steps is None:
    fields.steps = 32 if dataset.startswith("cifar") else 8
  if fields.cutmix is None:
    fields.cutmix = cutmix_of_idc(dataset, tiles=tiles)
  check_name("training.data", fields.data, DATA)
  check_name("training.draw", fields.draw, augment.DRAWS)
  if fields.augmentation != "none":
    augment.check_strategy("training.augmentation", fields.augmentation)
  warn_of_flips("training.augmentation", fields.augmentation, dataset)
  check_probability("training.cutmix", fields.cutmix)
  check_rate("training.lr", fields.lr, "0.01")
  least = {"batch": 1, "steps": 0, "weight_decay": 0, "pretraining": 0, "networks": 0}
  for field, value in least.items():
    check_least(f"training.{field}", fields[field], value)
  if fields.networks and not fields.pretraining:
    raise UserError(
      f"training.networks: {fields.networks} networks are to be kept that nothing has trained; "
      "set training.pretraining, or leave training.networks at 0"
    )


_SPOKEN = ("speech", "mini_speech_commands")  # datasets

IDC = Definition(
  fields=lambda: condensation(
    IDCSettings(),
    iterations=None,  # `ITERATIONS`
    checkpoint_every=100,
    # Colours, crop and cutout (Appendix C.1); no cutout on MNIST with tiles (authors' code)
    dsa=Augmenting(draw="sequence"),
    # (section 5); the name by a rule, which `Forming` states (authors' code)
    forming=Forming(name=by_rule(str), factor=2),
  ),
  build=_build,
  resolve=_resolve,
  smoke=SMOKE | {"inner_loop": 2, "training.steps": 1, "training.batch": 8},
  protocol="idc",
  settings=IDCSettings,
  # The authors' code optimises normalised spectrograms.
  unit=lambda config: config.dataset.name != "speech",
  earlier=lambda fields: {"clamp": False} if fields.get("dataset.name") in _SPOKEN else {},
)
