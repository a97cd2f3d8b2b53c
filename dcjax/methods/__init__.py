"""Methods of dataset condensation: each a tuple of steps over one state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import data
from dcjax.common.types import Array, Key
from dcjax.data import Dataset
from dcjax.sets.formation import IDENTITY, Formation, Stored

INITS = ("noise", "real", "mix")
MOMENTUM_IMAGE = 0.5  # of every method's image optimiser
RATE_WEIGHTS = 1e-3  # of RMSprop, which a learnable formation's weights move by


Result = tuple[Any, dict[str, Array]]  # a state and metrics


class State(NamedTuple):
  """What a method carries from one outer iteration to the next: arrays, and nothing else."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a learnable formation's weights
  optimizer: Any  # the image optimiser's state: momentum shaped as the images


def nothing(dataset: Dataset, key: Key, number: Array) -> Any:
  """The `draw` of a step that uses no real images."""
  return ()


def unknown(dataset: Dataset, key: Key, number: Array) -> None:
  """The `draw` of a step whose images depend on the state: `run` draws, from the full dataset."""


def entire(state: Any, key: Key) -> tuple[Any, Callable[[Any], Any]]:
  """The `view` of a step that may change all of the state."""
  return state, lambda state: state


class Step(NamedTuple):
  """A part of an iteration, or of the start: it draws real images, and computes with these.

  Attributes:
    run: `run(state, dataset, indices, key, number) -> (state, metrics)`; the images are
      `dataset.images[indices]`, and `dataset.labels[indices]` their labels.
    draw: `draw(dataset, key, number) -> indices`, an int32 array or a tree of them, from the sizes
      of the classes and the key alone. So images on disk are read before `run` needs them: it is
      then given a dataset that holds nothing else, and indices into that. After `unknown` this
      cannot be, and all images must be in memory.
    times: how often it runs in a row, with the numbers 0, 1, ...
    every: it runs in the iterations 0, `every`, 2 `every`, ...
    view: `view(state, key) -> (some, put)`, if `run` changes little of the state: it is given this
      and returns it anew, and `put(new)` is the full state. Else an iteration in which the step
      does not run would copy everything, as branches of XLA do. For steps with `times` 1.
  """

  run: Callable[..., Result]
  draw: Callable[[Dataset, Key, Array], Any] = nothing
  times: int = 1
  every: int = 1
  view: Callable[[Any, Key], tuple[Any, Callable[[Any], Any]]] = entire


class Method(NamedTuple):
  """A method of dataset condensation: its steps, one after another.

  Attributes:
    start: the steps that make the initial state; the first is given None.
    iteration: the steps of one outer iteration. Together their metrics are a dict of scalars that
      holds `loss`; a step that runs more or less than once in each iteration has none.
    check: `check(state)` raises `UserError` for an initial state that is of no use; not for jit.
    labels: `labels(state)`, the soft labels that it learns, float32 `[classes, ipc, classes]`, of
      the kind that its definition names; None: labels are hard.
    about: `about(state)`, further metadata of the set, as JSON holds it: `student_lr` if it learns
      a step size; not for jit.
  """

  start: tuple[Step, ...]
  iteration: tuple[Step, ...]
  check: Callable[[Any], None] = lambda state: None
  labels: Callable[[Any], Array | None] = lambda state: None
  about: Callable[[Any], dict[str, Any]] = lambda state: {}

  def init(self, key: Key, dataset: Dataset) -> Any:
    """The initial state; all steps have this key."""
    return run_steps(self.start, None, dataset, key, 0)[0]

  def update(self, state: Any, dataset: Dataset, key: Key, t: Array | int) -> Result:
    """The state after outer iteration t, all of whose steps have this key, and the metrics."""
    return run_steps(self.iteration, state, dataset, key, t)


def run_steps(
  steps: tuple[Step, ...], state: Any, dataset: Dataset, key: Key, t: Array | int
) -> Result:
  """Runs the steps of iteration t, all images being in memory.

  Args:
    steps: of a method.
    state: before them.
    dataset: the real images.
    key: of the iteration, which all steps have.
    t: the iteration's number; may be traced.

  Returns:
    The state after them, and their metrics.
  """
  metrics: dict[str, Array] = {}
  for step in filter(lambda step: step.times, steps):
    some, put = step.view(state, key)
    if step.times == step.every == 1:
      indices = step.draw(dataset, key, jnp.int32(0))
      some, found = step.run(some, dataset, indices, key, jnp.int32(0))
      metrics |= found
    else:
      some = _now_and_then(step, some, dataset, key, t)
    state = put(some)
  return state, metrics


def _now_and_then(step: Step, state: Any, dataset: Dataset, key: Key, t: Array | int) -> Any:
  """What a step changes, if it runs more or less than once in each iteration."""

  def once(number, carry):
    return step.run(carry[0], dataset, step.draw(dataset, key, number), key, number)

  def run():
    before: Result = state, {}  # with metrics the result would differ, which is an error
    if step.times == 1:
      return once(jnp.int32(0), before)
    return jax.lax.fori_loop(0, step.times, once, before)

  if step.every == 1:
    return run()[0]
  return jax.lax.cond(t % step.every == 0, run, lambda: (state, {}))[0]


def initialiser(
  optimizer: optax.GradientTransformation,
  *,
  ipc: int,
  init: str,
  formation: Formation = IDENTITY,
  key_of: Callable[[Key], Key] = lambda key: key,
) -> Step:
  """The step that a run starts with: synthetic images, in the range of the set, and an optimiser.

  Args:
    optimizer: of the images.
    ipc: images per class.
    init: 'noise' (standard normal, in normalised or whitened space), 'real' (random training
      images) or 'mix' (random training images made smaller, one for each tile of the formation).
    formation: of the set.
    key_of: the key of this step, from that of the start.

  Returns:
    The step, after which the state is a `State`.
  """

  def draw(dataset: Dataset, key: Key, number: Array) -> Any:
    if init == "noise":
      return nothing(dataset, key, number)
    count = formation.sources(ipc) if init == "mix" else ipc
    return data.subset_indices(dataset, key_of(key), ipc=count)

  def run(state: None, dataset: Dataset, indices: Any, key: Key, number: Array):
    if formation.unit:  # pixels, which are whitened when they are decoded
      dataset = dataset.whitened(None)
    if init == "noise":
      shape = dataset.num_classes, ipc, *dataset.image_shape
      images = formation.store(jax.random.normal(key_of(key), shape, jnp.float32))
    else:
      images = dataset.normalise(dataset.images[indices])
      tiles = jax.vmap(lambda sources: formation.mosaic(sources, ipc))
      images = tiles(images) if init == "mix" else formation.store(images)
    stored = Stored(images, formation.init(key_of(key)))
    return State(stored, optimizer.init(stored)), {}

  return Step(run, draw)


def images_alone(*, ipc: int, init: str, formation: Formation) -> Step:
  """`initialiser` for a method whose next step makes an optimiser of more than images.

  The images are of half of the key, of which the other is for what is made then.
  """
  return initialiser(optax.identity(), ipc=ipc, init=init, formation=formation, key_of=first_half)


def first_half(key: Key) -> Key:
  """The first of two keys: that of the images, where a method starts with more than images."""
  return jax.random.split(key)[0]


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
