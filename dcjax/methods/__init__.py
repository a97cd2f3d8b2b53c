"""Methods of dataset condensation: each a pair of pure functions over one state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import data
from dcjax.data import Dataset
from dcjax.formation import IDENTITY, Formation, Stored
from dcjax.types import Array, Key

INITS = ("noise", "real", "mix")
MOMENTUM_IMAGE = 0.5  # of every method's image optimiser
RATE_WEIGHTS = 1e-3  # of RMSprop, which a learnable formation's weights move by


class State(NamedTuple):
  """What a method carries from one outer iteration to the next: arrays, and nothing else."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a learnable formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images


class Stage(NamedTuple):
  """A part of an iteration, or of the start, that takes real images which are known beforehand.

  Attributes:
    run: `run(state, dataset, key, number) -> state`.
    places: `places(dataset, key, number) -> int32 [n]`, which training images it may take; a
      function of the class sizes and the key alone.
    times: how often it runs in a row, with the numbers 0, 1, ...
  """

  run: Callable[[Any, Dataset, Key, Array], Any]
  places: Callable[[Dataset, Key, Array], Array]
  times: int = 1


class Stages(NamedTuple):
  """A method cut into stages whose real images fit in memory, where the training set does not.

  Attributes:
    start: those of the initial state, all with the key of `Method.init`; the first is given None.
    iteration: `iteration(t)`, those of iteration t, all with its key; the last returns
      `(state, metrics)`. Iterations 0 and 1 have all stages that there are.
  """

  start: tuple[Stage, ...]
  iteration: Callable[[int], tuple[Stage, ...]]


class Method(NamedTuple):
  """A method of dataset condensation.

  Attributes:
    init: `init(key, dataset) -> state`.
    update: `update(state, dataset, key) -> (state, metrics)`, one outer iteration; `metrics` is
      a dict of scalars that holds `loss`.
    check: `check(state)` raises `UserError` for an initial state that is of no use; not for jit.
    stages: the same in stages; None for a method that needs all images in memory.
  """

  init: Callable[[Key, Dataset], Any]
  update: Callable[[Any, Dataset, Key], tuple[Any, dict[str, Array]]]
  check: Callable[[Any], None] = lambda state: None
  stages: Stages | None = None


def at_once(start: tuple[Stage, ...]) -> Callable[[Key, Dataset], Any]:
  """`init(key, dataset) -> state` of a method, from the stages of its start."""

  def init(key: Key, dataset: Dataset) -> Any:
    first, *others = start
    state = first.run(None, dataset, key, jnp.int32(0))
    for stage in others:
      state = _repeated(stage, state, dataset, key)
    return state

  return init


def _repeated(stage: Stage, state: Any, dataset: Dataset, key: Key) -> Any:
  """The state after all the times that a stage runs in a row."""
  if not stage.times:
    return state
  return jax.lax.fori_loop(
    0, stage.times, lambda number, state: stage.run(state, dataset, key, number), state
  )


def in_one_stage(
  method: Method,
  of_start: Callable[[Dataset, Key], Array],
  of_iteration: Callable[[Dataset, Key], Array],
) -> Method:
  """A method whose start, and each of whose iterations, is a stage of its own.

  Args:
    method: without stages.
    of_start: `of_start(dataset, key)`, the places of the images that `init` takes.
    of_iteration: `of_iteration(dataset, key)`, of those that `update` takes.
  """
  start = Stage(
    lambda state, dataset, key, number: method.init(key, dataset),
    lambda dataset, key, number: of_start(dataset, key),
  )
  iteration = Stage(
    lambda state, dataset, key, number: method.update(state, dataset, key),
    lambda dataset, key, number: of_iteration(dataset, key),
  )
  return method._replace(stages=Stages((start,), lambda t: (iteration,)))


def initial_images(
  key: Key, dataset: Dataset, *, ipc: int, init: str, formation: Formation = IDENTITY
) -> Array:
  """The synthetic images before the first iteration, in the range of the set.

  Args:
    key: of the noise or of the draw.
    dataset: the real images.
    ipc: images per class.
    init: 'noise' (standard normal, in normalised or whitened space), 'real' (random training
      images) or 'mix' (random training images made smaller, one for each tile of the formation).
    formation: of the set.

  Returns:
    float32 `[classes, ipc, H, W, C]`.
  """
  if formation.unit:  # pixels, which are whitened when they are decoded
    dataset = dataset.whitened(None)
  if init == "mix":
    images = data.random_subset(dataset, key, ipc=formation.sources(ipc))
    return jax.vmap(lambda images: formation.mosaic(images, ipc))(images)
  if init == "real":
    return formation.store(data.random_subset(dataset, key, ipc=ipc))
  noise = jax.random.normal(key, (dataset.num_classes, ipc, *dataset.image_shape), jnp.float32)
  return formation.store(noise)


def initialiser(
  optimizer: optax.GradientTransformation, *, ipc: int, init: str, formation: Formation
) -> tuple[Callable[[Key, Dataset], State], Callable[[Dataset, Key], Array]]:
  """How a run starts: with `initial_images` and a fresh optimiser.

  Returns:
    `initialise(key, dataset) -> state`, and `places(dataset, key) -> int32 [n]`, which training
    images it draws.
  """

  def initialise(key: Key, dataset: Dataset) -> State:
    images = initial_images(key, dataset, ipc=ipc, init=init, formation=formation)
    stored = Stored(images, formation.init(key))
    return State(stored, optimizer.init(stored))

  def places(dataset: Dataset, key: Key) -> Array:
    if init == "noise":
      return jnp.zeros(0, jnp.int32)
    count = formation.sources(ipc) if init == "mix" else ipc
    return data.subset_places(dataset, key, ipc=count).ravel()

  return initialise, places


def image_optimizer(learning_rate: float) -> optax.GradientTransformation:
  """SGD with momentum, which every method moves its images by.

  A learnable formation's weights move by RMSprop, whose steps do not depend on how a method scales
  its loss; the paper does not say.
  """
  rules = {
    "images": optax.sgd(learning_rate, momentum=MOMENTUM_IMAGE),
    "weights": optax.rmsprop(RATE_WEIGHTS),
  }
  return optax.partition(rules, Stored._make(rules))


def step_images(optimizer: optax.GradientTransformation, state: Any, gradients: Stored) -> Any:
  """One step of what is stored along its gradients."""
  updates, optimizer_state = optimizer.update(gradients, state.optimizer)
  stored = optax.apply_updates(state.stored, updates)
  return state._replace(stored=stored, optimizer=optimizer_state)
