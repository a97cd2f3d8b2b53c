"""Methods of dataset condensation: each a pair of pure functions over one state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from dcjax import data
from dcjax.data import Dataset
from dcjax.types import Array, Key

INITS = ("noise", "real")
MOMENTUM_IMAGE = 0.5  # of every method's image optimiser


class State(NamedTuple):
  """What a method carries from one outer iteration to the next: arrays, and nothing else."""

  images: Array  # [classes, ipc, H, W, C] float32, normalised
  optimizer: Any  # the image optimiser's state: momentum shaped as the images


class Method(NamedTuple):
  """A method of dataset condensation.

  Attributes:
    init: `init(key, dataset) -> state`.
    update: `update(state, dataset, key) -> (state, metrics)`, one outer iteration; `metrics` is
      a dict of scalars that holds `loss`.
    check: `check(state)` raises `UserError` for an initial state that is of no use; not for jit.
  """

  init: Callable[[Key, Dataset], Any]
  update: Callable[[Any, Dataset, Key], tuple[Any, dict[str, Array]]]
  check: Callable[[Any], None] = lambda state: None


def initial_images(key: Key, dataset: Dataset, *, ipc: int, init: str) -> Array:
  """The synthetic images before the first iteration, normalised.

  Args:
    key: of the noise or of the draw.
    dataset: the real images.
    ipc: images per class.
    init: 'noise' (standard normal, in normalised space) or 'real' (random training images).

  Returns:
    float32 `[classes, ipc, H, W, C]`.
  """
  if init == "real":
    return data.random_subset(dataset, key, ipc=ipc)
  return jax.random.normal(key, (dataset.num_classes, ipc, *dataset.image_shape))


def initialiser(
  optimizer: optax.GradientTransformation, *, ipc: int, init: str
) -> Callable[[Key, Dataset], State]:
  """`init(key, dataset) -> state` with `initial_images` and a fresh optimiser."""

  def initial_state(key: Key, dataset: Dataset) -> State:
    images = initial_images(key, dataset, ipc=ipc, init=init)
    return State(images, optimizer.init(images))

  return initial_state


def image_optimizer(learning_rate: float) -> optax.GradientTransformation:
  """SGD with momentum, which every method moves its images by."""
  return optax.sgd(learning_rate, momentum=MOMENTUM_IMAGE)


def step_images(optimizer: optax.GradientTransformation, state: Any, gradients: Array) -> Any:
  """One step of the images along `[classes, ipc, H, W, C]` gradients."""
  updates, optimizer_state = optimizer.update(gradients, state.optimizer)
  images = optax.apply_updates(state.images, updates)
  return state._replace(images=images, optimizer=optimizer_state)
