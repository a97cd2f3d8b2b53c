"""RCIG: implicit gradients of linearised networks (Loo, Hasani, Lechner and Rus, ICML 2023).

Synthetic images X, `[classes, ipc, H, W, C]`, and labels Y of them, one-hot less 1/classes at
first, are moved along the gradient of the loss that a network has on real images once it was
trained on X and Y. The network is linear in what is trained: its last layer is solved for, and the
rest moves along the tangent w of a network theta that was drawn from a pool. So the training has
one optimum w*, whose dependence on the set follows from the implicit function theorem. In each
iteration (numbers of our own), with F the features of theta, J its Jacobian, and r n the ridge:

  1  theta: a network, drawn from a pool
  2  w: some steps of Adam from zero along the gradient of the loss of the set,
     g(w) = r n / (2 n C) ((Y - J w)' (F F' + r n)^-1 (Y - J w) + |w|^2)
  3  P = J_t w + F_t F' (F F' + r n)^-1 (Y - J w), what that network says of real images
  4  L = cross-entropy of a learned number times P, less the mean margin of Y, up to 1/(2 C)
  5  h: some steps of Adam towards the solution of g''(w) h = dL/dw
  6  the gradient to X and Y is dL/d(X, Y) - d(h g'(w))/d(X, Y); of each, the second part is
     shortened to the length of the first
  7  move X and Y by AdaBelief; a moving average of them is what is saved
  8  train theta on X and Y for a random number of steps; an old one is replaced

The rates of lines 2 and 5 are found at the start, as high as the losses fall at each step; that of
line 2 follows. What a linearised network makes of a set is in `linearised`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dcjax import data
from dcjax.common.errors import UserError, check_least
from dcjax.common.products import product
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset, base_name
from dcjax.devices.strategy import Strategy
from dcjax.methods import Method, State, Step, images_alone, slots
from dcjax.methods.definition import (
  SMOKE,
  Definition,
  by_rule,
  check_condensation,
  check_rate,
  condensation,
  from_fields,
)
from dcjax.methods.frepo import Learned, is_mirrored, of_learned
from dcjax.methods.frepo_pool import Networks, Pool, Trainer
from dcjax.methods.kernels import check_definite, decoded, initial_labels, margin
from dcjax.methods.linearised import (
  Problem,
  check_network,
  falls,
  highest,
  linearised,
  pose,
  solve,
  train,
)
from dcjax.methods.setup import Setup, setup, warn_all_taken
from dcjax.nn import training
from dcjax.sets.formation import Stored

LEAST_RATES = 1e-5, 5e-5  # of lines 2 and 5, where the search for them begins (authors' code)
# Of the rate of line 2 later on: by what it is multiplied where so large a share of trainings ends
# with a higher loss than it began with, or falls at each step
FAILED, LOWERED = 0.29, 0.9
FELL, RAISED = 0.7, 1.05


class Inner(NamedTuple):
  """How w and h are found."""

  steps: int = 20  # of Adam, for each of the two
  adapt: int = 50  # iterations after which the rate of w follows how its losses fell; 0: it stays


class RCIGPool(NamedTuple):
  """Networks that are trained on the set, each at another point of its training."""

  networks: int = 30  # how many
  steps: int = 15  # in which a network is trained after it was used, at most: their number is drawn
  oldest: int = 100  # steps after which a network is replaced
  lr: float = 5e-5  # of Adam, for networks
  batch: int = 10_000  # synthetic images of a step, at random


class RCIGSettings(NamedTuple):
  """RCIG's hyper-parameters."""

  ipc: int = 1  # images per class
  init: str = "real"  # Start: 'real' images, 'noise', 'mix', or FILE.npz of a saved set
  batch_real: int = 1024  # real images of the loss, of all classes together
  lr_image: float = 3e-3  # of AdaBelief, for images and labels
  lr_scale: float = 0.03  # of the logarithm of the number that P is multiplied by
  regularisation: float = 5e-4  # r; the ridge is r times as many images as the set has
  average: float = 0.99  # weight of the past in the moving average that is saved; 0: none
  # Whether each image also counts mirrored; None: on CIFAR-10, and of CIFAR-100 with ten images a
  # class at most, of Tiny ImageNet with one (authors' code)
  flip: bool = by_rule(bool)
  inner: Inner = Inner()
  pool: RCIGPool = RCIGPool()


class Rates(NamedTuple):
  """Of Adam, where w and h are found."""

  inner: Array  # float32
  inverse: Array  # float32
  # float32 `[3]`: since the rate of w was looked at, trainings that failed, that fell at each step,
  # and all
  seen: Array


class RCIGState(NamedTuple):
  """What RCIG carries from one iteration to the next."""

  stored: Stored  # as it is saved: the average, as are the labels
  labels: Array
  scale: Array  # likewise
  learned: Learned
  average: Any  # of what is learned, with its count
  optimizer: Any
  pool: Networks
  rates: Rates


def problem_of(
  setup: Setup, settings: RCIGSettings, learned: Learned, params: Params, dataset: Dataset
) -> Problem:
  """What a set is to the network at some parameters."""
  ridge = settings.regularisation * learned.labels[..., 0].size
  return pose(setup.network, params, *_examples(setup, settings, learned, dataset), ridge)


def _examples(
  setup: Setup, settings: RCIGSettings, learned: Learned, dataset: Dataset
) -> tuple[Array, Array]:
  """Images as networks see them, `[n, H, W, C]`, and their labels `[n, classes]`."""
  return decoded(setup.formation, learned.stored, learned.labels, dataset, flip=settings.flip)


def rcig(setup: Setup, settings: RCIGSettings) -> Method:
  """Implicit gradients of linearised networks.

  Args:
    setup: the network of the pool, without batch norm; layout and formation; nothing is augmented.
    settings: hyper-parameters, all of them numbers.

  Returns:
    The method; its metrics are `loss`, `accuracy`, that of P on the real batch, and `rate`, that of
    w.
  """
  pool, inner = settings.pool, settings.inner
  problem = partial(problem_of, setup, settings)
  optimizer = of_learned(optax.adabelief(settings.lr_image), optax.adabelief(settings.lr_scale))
  average = training.promoting(optax.ema(settings.average))
  trainer = Trainer(setup, Pool(**pool._asdict()))

  def begin(state: State, dataset: Dataset, indices: Any, key: Key, number: Array):
    classes, ipc = state.stored.images.shape[:2]
    learned = Learned(state.stored, initial_labels(classes, ipc), jnp.float32(0))
    one = jax.eval_shape(trainer.fresh, key)
    networks = Networks(slots.zeros(one, pool.networks), jnp.zeros(pool.networks, jnp.int32))
    inner_rate, inverse_rate = map(jnp.float32, LEAST_RATES)
    rates = Rates(inner_rate, inverse_rate, jnp.zeros(3, jnp.float32))
    moments = optimizer.init(learned)
    averaged = average.init(learned)
    return RCIGState(*learned, learned, averaged, moments, networks, rates), {}

  def fill(state: RCIGState, dataset: Dataset, indices: Any, key: Key, number: Array):
    carry = trainer.fresh(jax.random.fold_in(key, number + 1))
    return state._replace(pool=state.pool.put(number, carry, jnp.int32(0))), {}

  def draw(dataset: Dataset, key: Key, number: Array) -> Array:
    return data.any_indices(dataset, _keys(key)[0], n=settings.batch_real)

  def outer(tangent: Params, learned: Learned, params: Params, dataset: Dataset, real: Batch):
    """L (line 4), and the share of the real images that is right."""
    images, labels = real
    posed = problem(learned, params, dataset)
    last_layer = product(posed.features.T, posed.weights(posed.left(tangent)))

    def predict(images):  # 3
      features, move = linearised(setup.network, params, images)
      return move(tangent) + product(features, last_layer)

    block = setup.strategy.blocks(len(images))
    predicted = training.in_blocks(predict, images, block=block)
    right = (predicted.argmax(-1) == labels).mean(dtype=jnp.float32)
    wrong = training.cross_entropy(jnp.exp(learned.scale) * predicted, labels).mean()
    return wrong - margin(learned.labels, 0.5 / predicted.shape[-1]), right

  def batch(dataset: Dataset, indices: Array) -> Batch:
    return dataset.normalise(dataset.images[indices]), dataset.labels[indices]

  def tune(state: RCIGState, dataset: Dataset, indices: Array, key: Key, number: Array):
    params = slots.at(state.pool.carry, 0)[0]
    posed = problem(state.learned, params, dataset)
    rate = highest(lambda rate: train(posed, params, rate, inner.steps)[1], LEAST_RATES[0])
    tangent, _ = train(posed, params, rate, inner.steps)
    real = batch(dataset, indices)
    slope = jax.grad(lambda w: outer(w, state.learned, params, dataset, real)[0])(tangent)
    inverse = highest(lambda rate: solve(posed, slope, rate, inner.steps)[1], LEAST_RATES[1])
    return state._replace(rates=state.rates._replace(inner=rate, inverse=inverse)), {}

  def adapt(rates: Rates, dataset: Dataset, indices: Any, key: Key, number: Array):
    failed, fell, count = rates.seen
    often = [count == 0, failed >= FAILED * count, fell >= FELL * count]
    times = jnp.select(often, list(jnp.float32([1, LOWERED, RAISED])), jnp.float32(1))
    return rates._replace(inner=rates.inner * times, seen=jnp.zeros_like(rates.seen)), {}

  def of_rates(state: RCIGState, key: Key):
    return state.rates, lambda rates: state._replace(rates=rates)

  def learn(state: RCIGState, dataset: Dataset, indices: Array, key: Key, number: Array):
    _, slot_key, steps_key, fresh_key, train_key = _keys(key)
    slot = jax.random.randint(slot_key, (), 0, pool.networks)
    carry, age = slots.at(state.pool.carry, slot), state.pool.age[slot]  # 1
    params, learned, rates, real = carry[0], state.learned, state.rates, batch(dataset, indices)
    posed = problem(learned, params, dataset)
    tangent, losses = train(posed, params, rates.inner, inner.steps)  # 2
    (value, right), (slope, direct) = jax.value_and_grad(outer, (0, 1), has_aux=True)(  # 3, 4
      tangent, learned, params, dataset, real
    )
    h, _ = solve(posed, slope, rates.inverse, inner.steps)  # 5

    def along(learned):
      gradient = jax.grad(problem(learned, params, dataset).loss)(tangent)
      return -optax.tree.vdot(jax.lax.stop_gradient(h), gradient)

    implicit = jax.tree.map(shortened, jax.grad(along)(learned), direct)  # 6
    gradients = optax.tree.add(direct, implicit)
    updates, moments = optimizer.update(gradients, state.optimizer, learned)  # 7
    learned = optax.apply_updates(learned, updates)
    saved: Learned
    saved, averaged = average.update(learned, state.average)
    steps = jax.random.randint(steps_key, (), 1, pool.steps + 1, jnp.int32)
    examples = _examples(setup, settings, learned, dataset)
    carry, age = trainer.train(carry, examples, train_key, steps), age + steps  # 8
    carry, age = jax.lax.cond(
      age >= pool.oldest, lambda: (trainer.fresh(fresh_key), jnp.int32(0)), lambda: (carry, age)
    )
    failed, fell = losses[-1] > losses[0], falls(losses)
    seen = rates.seen + jnp.stack([failed, fell, jnp.bool_(True)]).astype(jnp.float32)
    metrics = {"loss": value, "accuracy": right, "rate": rates.inner}
    networks, rates = state.pool.put(slot, carry, age), rates._replace(seen=seen)
    return RCIGState(*saved, learned, averaged, moments, networks, rates), metrics

  return Method(
    start=(
      images_alone(ipc=settings.ipc, init=settings.init, formation=setup.formation),
      Step(begin),
      Step(fill, times=pool.networks),
      Step(tune, draw),
    ),
    iteration=(
      *((Step(adapt, every=inner.adapt, view=of_rates),) if inner.adapt else ()),
      Step(learn, draw),
    ),
    labels=lambda state: state.labels,
    about=lambda state: {"kernel_scale": float(jnp.exp(state.scale))},
  )


Batch = tuple[Array, Array]  # images `[N, H, W, C]`, normalised, and their labels `[N]`


def _keys(key: Key) -> Key:
  """Of the real batch, the slot, the steps of its network, a new one, and its training."""
  return jax.random.split(key, 5)


def shortened(gradient: Array, other: Array) -> Array:
  """A gradient that is no longer than another one; zero where it is not finite."""
  norm, most = jnp.linalg.norm(gradient), jnp.linalg.norm(other)
  scale = jnp.minimum(1, most / jnp.maximum(norm, jnp.finfo(jnp.float32).tiny))
  return jnp.where(jnp.isfinite(norm), gradient * scale, 0)


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  settings, bound = from_fields(RCIGSettings(), config), setup(config, dataset, layout)
  check_network(bound.network, dataset.image_shape)
  warn_all_taken(settings.batch_real, dataset)
  method = rcig(bound, settings)

  def check(state: RCIGState) -> None:
    params = slots.at(state.pool.carry, 0)[0]
    problem = problem_of(bound, settings, state.learned, params, dataset)
    weights = problem.weights(problem.targets)
    check_definite(weights, len(weights), settings.regularisation)

  return method._replace(check=check)


def _resolve(config: ConfigDict) -> None:
  if config.flip is None:
    large = base_name(config.dataset.name) == "tiny_imagenet"
    config.flip = is_mirrored(config, most_of_hundred=1 if large else 10)
  check_rate("lr_scale", config.lr_scale, "0.03")
  check_rate("pool.lr", config.pool.lr, "0.00005")
  check_rate("regularisation", config.regularisation, "0.0005")
  if not 0 <= config.average < 1:
    raise UserError(f"average: {config.average} is not in [0, 1); give 0.99")
  check_least("inner.steps", config.inner.steps, 2)
  check_least("inner.adapt", config.inner.adapt, 0)
  for field in ("networks", "steps", "oldest", "batch"):
    check_least(f"pool.{field}", config.pool[field], 1)
  check_condensation(config, lr_image="0.003")


RCIG = Definition(
  fields=lambda: condensation(RCIGSettings(), iterations=10_000, checkpoint_every=100, dsa=None),
  build=_build,
  resolve=_resolve,
  smoke=SMOKE | {"pool.networks": 2, "pool.steps": 2, "inner.steps": 2, "network.norm": "none"},
  protocol="rcig",
  settings=RCIGSettings,
  label_kind="centred",
  per_class=False,
)
