"""RaT-BPTT: truncated backpropagation through training (Feng, Vedantam and Kempe, ICLR 2024).

Synthetic images S, `[classes, ipc, H, W, C]`, and perhaps soft labels Y of them, are moved against
the gradient of the loss that a network has on real images once it was trained on S. The gradient
goes through the last W steps of that training alone, whose place is drawn at random. In each
iteration (numbers of our own):

  1  now and then: draw how many steps come before the window
  2  theta: a network, drawn anew, and the state of its optimiser
  3  train theta on S so many steps, which are constants then
  4  train it W more steps, each on images of S drawn anew and augmented
  5  loss: the cross-entropy of a batch of real images, augmented, at the last theta
  6  shorten the gradient of S (of Y, where S stays) to at most twice the average of its norm
  7  move S and Y by Adam; labels stay at least zero

W steps out of W are backpropagation through all of a training; then nothing is truncated. Of the
window only theta and the optimiser's state are kept, all else is computed again when the gradient
needs it (see `unroll`).

Dataset distillation (DD: Wang et al. 2018) is `inner.turns` and `inner.learn_lr`: each step of the
training has its own images and its own step size, learned with them, and all of it is the window.
Label distillation (LD: Bohdal et al. 2020) is `learn=labels` of real images.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from dcjax import data
from dcjax.common.errors import UserError, check_least, check_name
from dcjax.common.types import Array, Key, Params
from dcjax.config.datasets import default_strategy
from dcjax.data import Dataset, base_name
from dcjax.devices.strategy import Strategy
from dcjax.evaluation.protocols import flip_rotate
from dcjax.methods import RATE_WEIGHTS, Method, Step, images_alone
from dcjax.methods.definition import (
  SMOKE,
  Augmenting,
  Definition,
  by_rule,
  check_condensation,
  check_rate,
  condensation,
  from_fields,
)
from dcjax.methods.setup import Setup, setup, warn_all_taken
from dcjax.methods.unroll import segment_that_fits, unroll
from dcjax.nn.training import adam, cross_entropy, in_blocks
from dcjax.sets.formation import Stored

# Images as networks see them `[classes, n, H, W, C]`; soft labels `[classes, n, classes]`, if any;
# step sizes `[steps]`, if they are learned
Examples = tuple[Array, Array | None, Array | None]
LEARN = ("images", "labels", "both")
OPTIMIZERS = ("adam", "sgd")
MOST = 2.0  # of a gradient's norm, beside its moving average (line 6)
DECAY = 0.9  # of that average


class Inner(NamedTuple):
  """How networks are trained on the set (authors' code)."""

  optimizer: str = "adam"  # of networks: 'adam', or 'sgd' without momentum
  lr: float = 1e-3  # of networks; where `learn_lr` is set, at first
  per_class: int = 10  # images of each class in a step, at random; all if there are fewer
  classes: int = 0  # how many a step takes images of, at random; 0: all
  turns: bool = False  # each step takes the next images of each class, in place of random ones (DD)
  learn_lr: bool = False  # each step's rate is learned, from `lr` on; for 'sgd' (DD)
  # Added to Adam's second moment before its root is taken, whose derivative is not finite at zero
  # else. Where a weight's gradient is no larger than the root of this, its step follows what is
  # rounded: with 1e-8 the set's gradient is exact to a thousandth in float32, with 1e-16, which
  # leaves the steps as the authors have them, a few such weights decide its length
  under_root: float = 1e-16


class Window(NamedTuple):
  """The part of a training that the gradient goes through."""

  length: int = 60  # W, steps that the gradient goes through
  steps: int = 200  # how many the longest training has, the window being its end
  least: int = 0  # steps before the window at least, where that is drawn
  moving: bool = True  # whether its place is drawn; else it is the end of the longest training
  # Iterations from one draw to the next; None: those that take as many real images as there are
  # (authors' code)
  renew: int = by_rule(int)
  # Steps between two networks that are kept for the gradient; more need less memory, and compute
  # each step once more. None: 1 where all take a GiB at most, else the root of the length
  segment: int = by_rule(int)


class BPTTSettings(NamedTuple):
  """RaT-BPTT's hyper-parameters."""

  ipc: int = 1  # images per class
  # Start: 'noise', each image brought to norm one (authors' code), 'real', 'mix', or FILE.npz
  init: str = "noise"
  batch_real: int = 5000  # real images of the loss, of all classes together
  lr_image: float = 1e-3  # of Adam, for images
  learn: str = "images"  # what is learned: 'images', 'labels' of images that stay, or 'both'
  lr_label: float = by_rule(float)  # of Adam, for labels and step sizes; None: that of images
  inner: Inner = Inner()
  window: Window = Window()


class Learned(NamedTuple):
  """What is learned."""

  stored: Stored
  labels: Array | None
  rates: Array | None


class BPTTState(NamedTuple):
  """What RaT-BPTT carries from one iteration to the next."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a learnable formation's weights
  labels: Array | None  # [classes, ipc, classes] float32; None: they are not learned
  optimizer: Any  # Adam's moments of all that is learned
  before: Array  # int32, steps before the window
  norm: Array  # float32, the moving average of the gradient's norm; below zero: none yet
  # [steps] float32, of which the softplus are the rates of inner steps; None: they are not learned
  rates: Array | None = None


class Seen(NamedTuple):
  """What the place of a window may depend on."""

  number: Array  # int32, of the iteration, from zero
  before: Array  # int32, steps before the last window
  norm: Array  # float32, the moving average of the gradient's norm; below zero: none yet


# `policy(key, window, seen)`, how many steps come before the next window, int32: from
# `window.least` to `window.steps - window.length`, to which it is brought
WindowPolicy = Callable[[Key, Window, Seen], Array]


def anywhere(key: Key, window: Window, seen: Seen) -> Array:
  """Any place is as likely as another (RaT-BPTT)."""
  del seen
  longest = window.steps - window.length
  return jax.random.randint(key, (), window.least, longest + 1).astype(jnp.int32)


def bptt(setup: Setup, settings: BPTTSettings, policy: WindowPolicy = anywhere) -> Method:
  """Truncated backpropagation through training.

  Args:
    setup: the network, drawn anew in every iteration; layout, augmentations and formation.
    settings: hyper-parameters, all of them numbers.
    policy: where windows lie that move, as those of AT-BPTT do by the stage of the training.

  Returns:
    The method; its metrics are `loss`, the cross-entropy of the real batch, `accuracy` on it,
    `before`, the steps before the window, and `norm`, that of the gradient which is shortened.
  """
  network, strategy, augmentations, formation = setup
  inner, window = settings.inner, settings.window
  optimizer, network_optimizer = _outer(settings), _inner(inner)

  def begin(state: Any, dataset: Dataset, indices: Any, key: Key, number: Array):
    stored = state.stored
    if settings.init == "noise":
      norms = jnp.sqrt(jnp.square(stored.images).sum((2, 3, 4), keepdims=True))
      stored = stored._replace(images=stored.images / norms)
    labels = None
    if settings.learn != "images":
      classes, ipc = stored.images.shape[:2]
      labels = jnp.repeat(jnp.eye(classes, dtype=jnp.float32)[:, None], ipc, axis=1)
    rates = None
    if inner.learn_lr:
      rates = jnp.full(window.steps, np.log(np.expm1(inner.lr)), jnp.float32)
    moments = optimizer.init(Learned(stored, labels, rates))
    before = jnp.int32(window.steps - window.length)
    return BPTTState(stored, labels, moments, before, jnp.float32(-1), rates), {}

  def place(seen: Seen, dataset: Dataset, indices: Any, key: Key, number: Array):
    if not window.moving:
      return seen, {}
    before = jnp.asarray(policy(_keys(key)[0], window, seen), jnp.int32)  # 1
    return seen._replace(before=jnp.clip(before, window.least, window.steps - window.length)), {}

  def view(state: BPTTState, key: Key):
    counts = optax.tree.get_all_with_path(state.optimizer, "count")  # one of each that is learned
    seen = Seen(counts[0][1], state.before, state.norm)
    return seen, lambda seen: state._replace(before=seen.before)

  def draw(dataset: Dataset, key: Key, number: Array) -> Array:
    return data.any_indices(dataset, _keys(key)[1], n=settings.batch_real)

  def examples(learned: Learned, dataset: Dataset) -> Examples:
    """What networks are trained on, with soft labels and step sizes of it."""
    stored, labels, rates = learned
    if settings.learn == "labels":
      stored = jax.lax.stop_gradient(stored)
    images, labels = formation.decode_labelled(stored, labels, dataset.whitening)
    return images, labels, None if rates is None else jax.nn.softplus(rates)

  def descend(state: BPTTState, dataset: Dataset, indices: Array, key: Key, number: Array):
    _, _, init_key, train_key, omega = _keys(key)
    train = partial(_train, setup, inner, network_optimizer, train_key)
    params = network.init(init_key)  # 2
    theta = params, network_optimizer.init(params)
    learned = Learned(state.stored, state.labels, state.rates)
    constant = examples(learned, dataset)
    theta = jax.lax.fori_loop(  # 3
      0, state.before, lambda number, theta: train(constant, theta, number), theta
    )
    real = augmentations.real(omega, dataset.normalise(dataset.images[indices]))
    labels = dataset.labels[indices]
    block = len(real) if network.batch_norm else strategy.blocks(len(real))

    def loss(learned):
      decoded = examples(learned, dataset)

      def step(theta, number):
        return train(decoded, theta, state.before + number)

      params, _ = unroll(step, theta, window.length, window.segment)  # 4
      logits = in_blocks(lambda images: network.apply(params, images)[0], real, block=block)
      right = (logits.argmax(-1) == labels).mean(dtype=jnp.float32)
      return cross_entropy(logits, labels).mean(), right  # 5

    (value, right), gradients = jax.value_and_grad(loss, has_aux=True)(learned)
    part = "labels" if settings.learn == "labels" else "stored"
    shortened, norm, average = shorten(getattr(gradients, part), state.norm)  # 6
    gradients = gradients._replace(**{part: shortened})
    updates, moments = optimizer.update(gradients, state.optimizer, learned)  # 7
    stored, labels, rates = optax.apply_updates(learned, updates)
    if labels is not None:
      labels = jnp.maximum(labels, 0)
    metrics = {"loss": value, "accuracy": right, "before": state.before, "norm": norm}
    return BPTTState(stored, labels, moments, state.before, average, rates), metrics

  def about(state: BPTTState) -> dict[str, Any]:
    if state.rates is None:
      return {}
    rates = np.asarray(jax.nn.softplus(state.rates))
    return {"student_lr": float(rates.mean()), "step_lrs": rates.tolist()}

  return Method(
    start=(images_alone(ipc=settings.ipc, init=settings.init, formation=formation), Step(begin)),
    iteration=(Step(place, every=window.renew, view=view), Step(descend, draw)),
    labels=lambda state: state.labels,
    about=about,
  )


def _keys(key: Key) -> Key:
  """Of the window's place, the real batch, the network, its training, and omega of real images."""
  return jax.random.split(key, 5)


def _train(
  setup: Setup,
  inner: Inner,
  optimizer: optax.GradientTransformation,
  key: Key,
  examples: Examples,
  theta: tuple[Params, Any],
  number: Array,
) -> tuple[Params, Any]:
  """One step of a network, `(params, optimizer state)`, on a set."""
  (images, soft, rates), (params, state) = examples, theta
  batch_key, omega = jax.random.split(jax.random.fold_in(key, number))
  classes, count = images.shape[:2]
  chosen, of = choose(batch_key, classes, count, inner, number)
  batch = setup.augmentations.synthetic(omega, images[chosen, of])
  labels = chosen if soft is None else soft[chosen, of]

  def loss(params):
    return cross_entropy(setup.network.apply(params, batch)[0], labels).mean()

  gradient = jax.grad(loss)(params)
  if rates is not None:
    return jax.tree.map(lambda leaf, slope: leaf - rates[number] * slope, params, gradient), state
  updates, state = optimizer.update(gradient, state, params)
  return optax.apply_updates(params, updates), state


def choose(
  key: Key, classes: int, count: int, inner: Inner, number: Array | int = 0
) -> tuple[Array, Array]:
  """Which images of a set a step takes: as many of each of some classes, none twice.

  Args:
    key: of the draw.
    classes: of the set.
    count: images of a class, as networks see them.
    inner: says how many of what.
    number: of the step, where images are taken in turns.

  Returns:
    The class and the number in the class of each, int32 `[N]` both.
  """
  some, each = min(inner.classes or classes, classes), min(inner.per_class, count)
  class_key, image_key = jax.random.split(key)
  chosen = jnp.arange(classes, dtype=jnp.int32)
  if some < classes:
    chosen = jax.random.permutation(class_key, chosen)[:some]
  of = jnp.tile(jnp.arange(count, dtype=jnp.int32), (some, 1))
  if inner.turns:
    first = jnp.asarray(number * each, jnp.int32)
    of = (first + of[:, :each]) % count
  elif each < count:
    of = jax.random.permutation(image_key, of, axis=1, independent=True)[:, :each]
  return jnp.repeat(chosen, each), of.reshape(-1)


def shorten(gradients: Any, average: Array) -> tuple[Any, Array, Array]:
  """A gradient that is not much longer than those before it (line 6).

  Args:
    gradients: a tree.
    average: of the norms before; below zero: there are none.

  Returns:
    The gradient, of norm at most `MOST` times the new average; its norm before; and that average.
  """
  norm = optax.tree.norm(gradients)
  average = jnp.where(average < 0, norm, DECAY * average + (1 - DECAY) * norm)
  scale = jnp.minimum(1, MOST * average / jnp.maximum(norm, jnp.finfo(jnp.float32).tiny))
  return jax.tree.map(lambda leaf: leaf * scale, gradients), norm, average


def _outer(settings: BPTTSettings) -> optax.GradientTransformation:
  """Adam for what is learned; all else stays."""
  still = optax.set_to_zero()
  rules = {
    "images": still if settings.learn == "labels" else adam(settings.lr_image),
    "weights": optax.rmsprop(RATE_WEIGHTS),
    "labels": still if settings.learn == "images" else adam(settings.lr_label),
    "rates": adam(settings.lr_label),
  }
  of_learned: Any = Learned(Stored("images", "weights"), "labels", "rates")  # type: ignore[arg-type]
  return optax.partition(rules, of_learned)


def _inner(inner: Inner) -> optax.GradientTransformation:
  if inner.optimizer == "sgd":
    return optax.sgd(inner.lr)
  return adam(inner.lr, under_root=inner.under_root)


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  settings, bound = from_fields(BPTTSettings(), config), setup(config, dataset, layout)
  warn_all_taken(settings.batch_real, dataset)
  renew = settings.window.renew or max(1, -(-len(dataset.labels) // settings.batch_real))
  window = settings.window._replace(renew=renew, segment=_segment(settings, bound))
  return bptt(bound, settings._replace(window=window))


def _segment(settings: BPTTSettings, bound: Setup) -> int:
  """Steps of a segment; raises `UserError` if the networks alone take more memory than there is."""

  def theta(key):
    params = bound.network.init(key)
    return params, _inner(settings.inner).init(params)

  leaves = jax.tree.leaves(jax.eval_shape(theta, jax.random.key(0)))
  size, window = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves), settings.window
  numbers = window.length, window.segment, size
  return segment_that_fits(bound.strategy, *numbers, "window.length", "window")


def _resolve(config: ConfigDict) -> None:
  check_name("learn", config.learn, LEARN)
  if config.lr_label is None:
    config.lr_label = config.lr_image
  check_rate("lr_label", config.lr_label, "0.0003 or 0.001")
  if config.learn == "labels" and config.init == "noise":
    raise UserError("learn: 'labels' of noise; set init=real, or learn=both")
  _resolve_training(config.inner, config.window)
  if config.dsa.strategy is None:
    config.dsa.strategy = flip_rotate(default_strategy(base_name(config.dataset.name)))
  check_condensation(config, lr_image="0.0003 or 0.001")


def _resolve_training(inner: ConfigDict, window: ConfigDict) -> None:
  check_name("inner.optimizer", inner.optimizer, OPTIMIZERS)
  check_rate("inner.lr", inner.lr, "0.001")
  if inner.learn_lr and inner.optimizer != "sgd":
    raise UserError(
      f"inner.learn_lr: the rates of '{inner.optimizer}' are not learned; set inner.optimizer=sgd"
    )
  if not 0 < inner.under_root <= 1:
    raise UserError(f"inner.under_root: {inner.under_root} is not in (0, 1]; give 1e-16, or 1e-8")
  check_least("inner.per_class", inner.per_class, 1)
  check_least("inner.classes", inner.classes, 0)
  check_least("window.length", window.length, 1)
  if window.length > window.steps:
    raise UserError(
      f"window.length: {window.length} is more than the window.steps={window.steps} of a training; "
      "lower it"
    )
  if not 0 <= window.least <= window.steps - window.length:
    raise UserError(
      f"window.least: {window.least} is not within the {window.steps - window.length} steps that a "
      "window may come after; lower it"
    )
  for field in ("renew", "segment"):
    if window[field] is not None:
      check_least(f"window.{field}", window[field], 1)


BPTT = Definition(
  fields=lambda: condensation(
    BPTTSettings(),
    iterations=20_000,
    checkpoint_every=100,
    dsa=Augmenting(scheme="independent"),
  ),
  build=_build,
  resolve=_resolve,
  smoke=SMOKE | {"window.length": 2, "window.steps": 4},
  protocol="bptt",
  settings=BPTTSettings,
  label_kind="weight",
  per_class=False,
)
