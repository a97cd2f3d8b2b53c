"""KIP: kernel inducing points (Nguyen, Chen and Lee, ICLR 2021), with the kernel of an MLP.

Synthetic images X, `[classes, ipc, H, W, C]`, and labels Y of them, one-hot less 1/classes at
first, are moved so that ridge regression on them predicts the labels of real images. The kernel is
that of an infinitely wide fully connected ReLU network. In each iteration (numbers of our own):

  1  X_t, y_t: a batch of real images, as many of each class
  2  P = K(X_t, X) (K(X, X) + r tr K(X, X) / n)^-1 Y
  3  move X, Y or both by Adam along the gradient of the mean of |P - y_t|^2 / 2

No network is trained, hence X may mean little to those that are.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dcjax import data
from dcjax.common.errors import UserError, check_least, check_most, check_name
from dcjax.common.types import Array, Key
from dcjax.data import Dataset
from dcjax.devices.strategy import Strategy
from dcjax.methods import RATE_WEIGHTS, Method, State, Step, images_alone
from dcjax.methods.definition import (
  Definition,
  check_condensation,
  check_rate,
  condensation,
  from_fields,
)
from dcjax.methods.kernels import (
  centred,
  check_definite,
  decoded,
  half_squares,
  initial_labels,
  ntk,
  predict,
)
from dcjax.methods.setup import Setup, setup
from dcjax.nn import training
from dcjax.nn.convnet import DEEPEST
from dcjax.sets.formation import Stored

LEARN = ("images", "labels", "both")


class Kernel(NamedTuple):
  """The network whose kernel it is (authors' notebook)."""

  depth: int = 1  # hidden layers
  weight: float = 2**0.5  # deviation of weights, in units of 1 / sqrt(inputs)
  bias: float = 0.1  # deviation of biases


class KIPSettings(NamedTuple):
  """KIP's hyper-parameters."""

  ipc: int = 1  # images per class
  init: str = "real"  # Start: 'real' images, 'noise', 'mix', or FILE.npz of a saved set
  batch_real: int = 500  # real images of each class in the loss (authors: 5000 of ten classes)
  lr_image: float = 0.04  # of Adam, for images and labels
  learn: str = "both"  # what is learned: 'images', 'labels' or 'both'
  regularisation: float = 1e-6  # r, of the regression
  kernel: Kernel = Kernel()


class KIPState(NamedTuple):
  """What KIP carries from one iteration to the next."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a learnable formation's weights
  labels: Array  # [classes, ipc, classes] float32, centred
  optimizer: Any  # Adam's moments of both


def kip(setup: Setup, settings: KIPSettings) -> Method:
  """Kernel inducing points.

  Args:
    setup: the formation; its network plays no part, and nothing is augmented.
    settings: hyper-parameters.

  Returns:
    The method; its metrics are `loss`, and `accuracy`, that of P on the real batch.
  """
  optimizer = _optimizer(settings)

  def begin(state: State, dataset: Dataset, indices: Any, key: Key, number: Array):
    classes, ipc = state.stored.images.shape[:2]
    labels = initial_labels(classes, ipc)
    return KIPState(state.stored, labels, optimizer.init((state.stored, labels))), {}

  def draw(dataset: Dataset, key: Key, number: Array) -> Array:
    return data.subset_indices(dataset, key, ipc=settings.batch_real)  # 1

  def learn(state: KIPState, dataset: Dataset, indices: Array, key: Key, number: Array):
    images = dataset.normalise(dataset.images[indices.reshape(-1)])
    labels = dataset.labels[indices.reshape(-1)]

    def loss(learned):
      predicted = _predicted(setup, settings, learned, images, dataset)  # 2
      right = (predicted.argmax(-1) == labels).mean(dtype=jnp.float32)
      return half_squares(predicted, centred(labels, predicted.shape[-1])), right

    before = state.stored, state.labels
    (value, right), gradients = jax.value_and_grad(loss, has_aux=True)(before)
    updates, moments = optimizer.update(gradients, state.optimizer, before)  # 3
    stored, soft = optax.apply_updates(before, updates)
    return KIPState(stored, soft, moments), {"loss": value, "accuracy": right}

  return Method(
    start=(
      images_alone(ipc=settings.ipc, init=settings.init, formation=setup.formation),
      Step(begin),
    ),
    iteration=(Step(learn, draw),),
    labels=lambda state: state.labels,
  )


def _predicted(
  setup: Setup,
  settings: KIPSettings,
  learned: tuple[Stored, Array],
  images: Array,
  dataset: Dataset,
) -> Array:
  """What a set predicts of images as networks see them, `[N, classes]`."""
  ours, targets = decoded(setup.formation, *learned, dataset)
  fields = settings.kernel._asdict()
  of_set, of_others = ntk(ours, ours, **fields), ntk(images, ours, **fields)
  return predict(of_set, of_others, targets, settings.regularisation)


def _optimizer(settings: KIPSettings) -> optax.GradientTransformation:
  still = optax.set_to_zero()
  rules = {
    "images": still if settings.learn == "labels" else training.adam(settings.lr_image),
    "weights": optax.rmsprop(RATE_WEIGHTS),
    "labels": still if settings.learn == "images" else training.adam(settings.lr_image),
  }
  of_learned: Any = (Stored("images", "weights"), "labels")  # type: ignore[arg-type]
  return optax.partition(rules, of_learned)


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  settings, bound = from_fields(KIPSettings(), config), setup(config, dataset, layout)

  def check(state: KIPState) -> None:
    learned = state.stored, state.labels
    images, _ = decoded(bound.formation, *learned, dataset)
    predicted = _predicted(bound, settings, learned, images[:1], dataset)
    check_definite(predicted, len(images), settings.regularisation)

  return kip(bound, settings)._replace(check=check)


def _resolve(config: ConfigDict) -> None:
  check_name("learn", config.learn, LEARN)
  check_rate("regularisation", config.regularisation, "1e-6")
  check_least("kernel.depth", config.kernel.depth, 1)
  check_most("kernel.depth", config.kernel.depth, DEEPEST)
  check_rate("kernel.weight", config.kernel.weight, "1.414")
  if config.learn == "labels" and config.init == "noise":
    raise UserError("learn: 'labels' of noise; set init=real, or learn=both")
  check_condensation(config, lr_image="0.04")


KIP = Definition(
  fields=lambda: condensation(KIPSettings(), iterations=1000, checkpoint_every=100, dsa=None),
  build=_build,
  resolve=_resolve,
  protocol="dsa",
  settings=KIPSettings,
  label_kind="centred",
)
