"""Trajectory matching: MTT (Cazenavette et al., CVPR 2022), and TESLA, FTD and DATM as its fields.

Networks that are trained on real images, the experts, leave their parameters after each epoch
(`methods/trajectories.py`). A student begins as an expert was after some epoch, and is trained on
the synthetic images S, `[classes, ipc, H, W, C]`, for a few steps. Then it should be where the
expert was some epochs later. In each iteration (numbers of our own):

  1  theta_0: an expert, drawn, after an epoch, drawn; theta_*: the same expert M epochs later
  2  for i = 0, ..., N - 1: theta_i+1 = theta_i - a grad CE(theta_i; some of S, augmented)
  3  L = |theta_N - theta_*|^2 / |theta_0 - theta_*|^2
  4  move S, the step size a, and perhaps soft labels, by SGD along the gradient of L

The gradient goes through all of line 2; only the parameters before each step are kept, all else is
computed again (`methods/unroll.py`). TESLA's takes each theta_i for a constant (Cui et al., ICML
2023): less work, and another gradient, though its paper has both for the same. FTD (Du et al., CVPR
2023) has experts that end where the loss is flat, and an average of the images over iterations;
DATM (Guo et al., ICLR 2024) has learned labels, and epochs that become later.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from dcjax import data
from dcjax.common.errors import UserError, check_least, check_name
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.strategy import Strategy
from dcjax.methods import (
  INITS,
  MOMENTUM_IMAGE,
  RATE_WEIGHTS,
  Method,
  State,
  Step,
  images_alone,
)
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
from dcjax.methods.setup import Setup, setup
from dcjax.methods.trajectories import Experts, Trajectories, find, resolve, unraveller
from dcjax.methods.unroll import segment_that_fits, unroll
from dcjax.nn import training
from dcjax.sets.formation import Stored

CORRECT = "correct"  # of `init`: random training images that an expert classifies right
CANDIDATES, LEAST_CANDIDATES = 4, 64  # from which it chooses: for each image, and for a class
# Images as networks see them `[classes, n, H, W, C]`; logits `[classes, n, classes]`, if learned
Examples = tuple[Array, Array | None]
LEARN = ("images", "both")
GRADIENTS = ("exact", "tesla")
MOMENTUM_LABEL = 0.9  # of labels' SGD (DATM, authors' code)
LEAST_LR = 1e-8  # of a learned step size; ours, as nothing keeps it positive in the authors' code


class Student(NamedTuple):
  """How students are trained on the set."""

  steps: int = 50  # N, of a student's training
  batch: int = 0  # synthetic images of a step, in turn from all of a permutation; 0: all
  lr: float = 0.01  # a, at first; it is learned by SGD of the rate `lr_lr`
  # Steps between two networks that are kept for the gradient; more need less memory, and compute
  # each step once more. None: 1 where all take a GiB at most, else the root of their number
  segment: int = by_rule(int)


class Start(NamedTuple):
  """After which epochs of an expert students begin: `least` and all below an upper end."""

  least: int = 0  # the first epoch after which students begin
  most: int = 2  # the upper end, exclusive (MTT's code: max_start_epoch)
  first: int = by_rule(int)  # the upper end in the first iteration (DATM); None: `most`
  grow: int = 0  # iterations in which that grows from `first` to `most`, in proportion (DATM)


class TMSettings(NamedTuple):
  """The hyper-parameters of trajectory matching."""

  ipc: int = 1  # images per class
  # Start: 'real' images, 'noise', 'mix', FILE.npz, or 'correct': random images that an expert
  # classifies right (DATM)
  init: str = "real"
  lr_image: float = 100.0  # of SGD with momentum 0.5, for images
  lr_lr: float = 1e-7  # of the same, for the step size of students; 0: it stays
  # What is learned: 'images', or 'both': soft labels, too, which begin as what experts say (DATM)
  learn: str = "images"
  lr_label: float = 5.0  # of SGD with momentum 0.9, for the logits of labels
  gradient: str = "exact"  # 'exact', or 'tesla', an approximation
  expert_epochs: int = 2  # M, epochs of an expert that a student is to take
  # Weight of the past in the images' moving average, which is what is saved (FTD); 0: no average
  average: float = 0.0
  skip_above: float = 0.0  # a loss with which an iteration changes nothing (DATM); 0: none
  student: Student = Student()
  start: Start = Start()
  experts: Experts = Experts()


class Learned(NamedTuple):
  """What is learned."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a learnable formation's weights
  labels: Array | None  # logits [classes, ipc, classes] float32; None: labels are hard
  lr: Array  # float32, a


class TMState(NamedTuple):
  """What trajectory matching carries from one iteration to the next."""

  stored: Stored  # as it is saved: the average, if there is one
  learned: Learned  # as it moves
  optimizer: Any  # momenta
  done: Array  # int32, iterations


def tm(setup: Setup, settings: TMSettings, experts: Trajectories, candidates: int = 0) -> Method:
  """Trajectory matching.

  Args:
    setup: the network that experts and students are; layout, augmentations and formation.
    settings: hyper-parameters, all of them numbers.
    experts: the trajectories.
    candidates: images of each class that `init=correct` chooses from; at least `ipc`.

  Returns:
    The method; its metrics are `loss`, `lr`, the step size of students, and `start`, the epoch
    after which the student began.
  """
  optimizer, unravel = _optimizer(settings), unraveller(setup.network)
  matching = gradient_tesla if settings.gradient == "tesla" else gradient_exact

  def begin(state: State, dataset: Dataset, indices: Any, key: Key, number: Array):
    stored, labels = state.stored, None
    if settings.init == CORRECT:
      stored = _right_ones(setup, experts, key, stored, settings.ipc)
    if settings.learn == "both":
      labels = _mean_logits(setup, experts, stored)
    learned = Learned(stored, labels, jnp.float32(settings.student.lr))
    return TMState(stored, learned, optimizer.init(learned), jnp.int32(0)), {}

  def match(state: TMState, dataset: Dataset, indices: Any, key: Key, number: Array):
    expert_key, start_key, train_key = jax.random.split(key, 3)
    expert = jax.random.randint(expert_key, (), 0, experts.count)
    start = jax.random.randint(
      start_key, (), settings.start.least, upper_end(settings.start, state.done)
    )
    theta = unravel(experts.at(expert, start))  # 1
    target = unravel(experts.at(expert, start + settings.expert_epochs))
    before = state.learned
    student = _Student(setup, settings, dataset, train_key)
    loss, gradients = matching(student, before, theta, target)  # 2, 3
    updates, momenta = optimizer.update(gradients, state.optimizer, before)  # 4
    learned = cast(Learned, optax.apply_updates(before, updates))
    learned = learned._replace(lr=jnp.maximum(learned.lr, LEAST_LR))
    stored = _averaged(settings.average, state.stored, learned.stored)
    new, old = (stored, learned, momenta), (state.stored, before, state.optimizer)
    if settings.skip_above:
      new = optax.tree.where(loss <= settings.skip_above, new, old)
    metrics = {"loss": loss, "lr": before.lr, "start": start}
    return TMState(*new, done=state.done + 1), metrics

  def about(state: TMState) -> dict[str, Any]:
    return {"student_lr": float(np.asarray(state.learned.lr)), **experts.about}

  return Method(
    start=(
      images_alone(
        ipc=candidates if settings.init == CORRECT else settings.ipc,
        init="real" if settings.init == CORRECT else settings.init,
        formation=setup.formation,
      ),
      Step(begin),
    ),
    iteration=(Step(match),),
    labels=lambda state: state.learned.labels,
    about=about,
  )


class _Student:
  """The training of a student, line 2, as a function of what is learned."""

  def __init__(self, setup: Setup, settings: TMSettings, dataset: Dataset, key: Key):
    """Binds what stays the same; `key` is of the batches' order and augmentation."""
    self.setup, self.settings, self._whitening = setup, settings.student, dataset.whitening
    self._order_key, self._omega = jax.random.split(key)

  def examples(self, learned: Learned) -> Examples:
    """What students are trained on."""
    return self.setup.formation.decode_labelled(learned.stored, learned.labels, self._whitening)

  def gradient(self, examples: Examples, theta: Params, number: Array) -> Params:
    """Of the cross-entropy of the batch of step `number`."""
    images, labels = data.as_batch(examples[0])
    if examples[1] is not None:
      labels = jax.nn.softmax(examples[1]).reshape(len(images), -1)
    count = len(images)
    batch = min(self.settings.batch or count, count)
    rounds = training.steps_per_epoch(count, batch)
    order = jax.random.permutation(jax.random.fold_in(self._order_key, number // rounds), count)
    first = number % rounds * batch
    # The last batch of a permutation is filled up with images of weight zero.
    chosen = jax.lax.dynamic_slice(jnp.resize(order, (rounds * batch,)), (first,), (batch,))
    real = (first + jnp.arange(batch, dtype=jnp.int32) < count).astype(images.dtype)
    omega = jax.random.fold_in(self._omega, number)
    some = self.setup.augmentations.synthetic(omega, images[chosen])
    block = self.setup.strategy.blocks(batch)
    return training.gradient(
      self.setup.network, theta, some, labels[chosen], real / real.sum(), block=block
    )


def gradient_exact(
  student: _Student, learned: Learned, theta: Params, target: Params
) -> tuple[Array, Learned]:
  """The loss, and its gradient through all of the student's training (MTT)."""
  settings = student.settings

  def loss(learned):
    examples = student.examples(learned)

    def step(theta, number):
      return _descend(theta, student.gradient(examples, theta, number), learned.lr)

    end = unroll(step, theta, settings.steps, settings.segment)
    return _distance(end, target) / _distance(theta, target)

  return jax.value_and_grad(loss)(learned)


def gradient_tesla(
  student: _Student, learned: Learned, theta: Params, target: Params
) -> tuple[Array, Learned]:
  """The loss, and its gradient as if all theta_i, and with them the others' gradients, stayed.

  The student is trained twice: to know theta_N, and to gather what each step's images do to it.
  """
  steps, lr = student.settings.steps, learned.lr
  examples, decoded_by = jax.vjp(student.examples, learned)
  end = jax.lax.fori_loop(
    0, steps, lambda number, at: _descend(at, student.gradient(examples, at, number), lr), theta
  )
  left, scale = optax.tree.sub(end, target), _distance(theta, target)
  cotangent = jax.tree.map(lambda leaf: -2 * lr / scale * leaf, left)

  def gather(number, carry):
    at, total = carry
    gradient, pull = jax.vjp(lambda some: student.gradient(some, at, number), examples)
    return _descend(at, gradient, lr), jax.tree.map(jnp.add, total, pull(cotangent)[0])

  nothing = jax.tree.map(jnp.zeros_like, examples)
  _, total = jax.lax.fori_loop(0, steps, gather, (theta, nothing))
  gradients = decoded_by(total)[0]
  # theta_N = theta_0 - a G, of which the sum of gradients G stays
  of_lr = 2 / scale * optax.tree.vdot(left, optax.tree.sub(end, theta)) / lr
  return _distance(end, target) / scale, gradients._replace(lr=of_lr)


def upper_end(start: Start, done: Array) -> Array:
  """The epoch that students begin before, after so many iterations; int32."""
  if not start.grow:
    return jnp.int32(start.most)
  grown = start.first + (start.most - start.first) * done // start.grow
  return jnp.minimum(start.most, grown).astype(jnp.int32)


def _right_ones(setup: Setup, experts: Trajectories, key: Key, stored: Stored, ipc: int) -> Stored:
  """Of each class' images `[classes, n, H, W, C]` the first that an expert classifies right.

  Where these are fewer than wanted, others fill up.
  """
  params = unraveller(setup.network)(experts.last(jax.random.randint(key, (), 0, experts.count)))
  flat, labels = data.as_batch(stored.images)
  wrong = _logits(setup, params, flat).argmax(-1) != labels
  order = jnp.argsort(wrong.reshape(stored.images.shape[:2]), axis=1, stable=True)[:, :ipc]
  return stored._replace(images=jax.vmap(lambda images, some: images[some])(stored.images, order))


def _mean_logits(setup: Setup, experts: Trajectories, stored: Stored) -> Array:
  """What the experts that classify an image right say of it, on average (DATM).

  Of all experts, where none does. Float32 `[classes, ipc, classes]`.
  """
  flat, labels = data.as_batch(stored.images)
  unravel, classes = unraveller(setup.network), stored.images.shape[0]

  def add(number, sums):
    logits = _logits(setup, unravel(experts.last(number)), flat)
    right = (logits.argmax(-1) == labels).astype(jnp.float32)[:, None]
    return jax.tree.map(jnp.add, sums, (logits, right * logits, right))

  zeros = jnp.zeros((len(flat), classes), jnp.float32)
  every, some, count = jax.lax.fori_loop(0, experts.count, add, (zeros, zeros, zeros[:, :1]))
  mean = jnp.where(count > 0, some / jnp.maximum(count, 1), every / experts.count)
  return mean.reshape(classes, -1, classes)


def _logits(setup: Setup, params: Params, images: Array) -> Array:
  def logits(images):
    return setup.network.apply(params, images)[0]

  return training.in_blocks(logits, images, block=setup.strategy.blocks(len(images)))


def _optimizer(settings: TMSettings) -> optax.GradientTransformation:
  rules = {
    "images": optax.sgd(settings.lr_image, momentum=MOMENTUM_IMAGE),
    "weights": optax.rmsprop(RATE_WEIGHTS),
    "labels": optax.sgd(settings.lr_label, momentum=MOMENTUM_LABEL),
    "lr": optax.sgd(settings.lr_lr, momentum=MOMENTUM_IMAGE),
  }
  of_learned: Any = Learned(Stored("images", "weights"), "labels", "lr")  # type: ignore[arg-type]
  return optax.partition(rules, of_learned)


def _averaged(decay: float, average: Stored, new: Stored) -> Stored:
  """The moving average after an iteration; without one, what is new."""
  if not decay:
    return new
  return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, new)


def _descend(theta: Params, gradient: Params, lr: Array) -> Params:
  return jax.tree.map(lambda leaf, slope: leaf - lr * slope, theta, gradient)


def _distance(theta: Params, other: Params) -> Array:
  return optax.tree.norm(optax.tree.sub(theta, other), squared=True)


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  settings, bound = from_fields(TMSettings(), config), setup(config, dataset, layout)
  student = settings.student
  last = settings.start.most - 1 + settings.expert_epochs
  experts = find(config, dataset, bound.network, last)
  size = 4 * experts.size
  numbers = student.steps, student.segment, size
  segment = segment_that_fits(layout, *numbers, "student.steps", "student")
  smallest = int(np.diff(np.asarray(dataset.offsets)).min())
  candidates = min(max(CANDIDATES * settings.ipc, LEAST_CANDIDATES), smallest)
  settings = settings._replace(student=student._replace(segment=segment))
  return tm(bound, settings, experts, max(settings.ipc, candidates))


def _resolve(config: ConfigDict) -> None:
  check_name("learn", config.learn, LEARN)
  check_name("gradient", config.gradient, GRADIENTS)
  check_rate("lr_label", config.lr_label, "2 to 10 (DATM)")
  check_rate("student.lr", config.student.lr, "0.01 or 0.001")
  check_least("expert_epochs", config.expert_epochs, 1)
  check_least("student.steps", config.student.steps, 1)
  if config.student.segment is not None:
    check_least("student.segment", config.student.segment, 1)
  if not 0 <= config.average < 1:
    raise UserError(f"average: {config.average} is not in [0, 1); FTD has 0.999 to 0.9999")
  _resolve_start(config.start)
  resolve(config.experts)
  if (last := config.start.most - 1 + config.expert_epochs) > config.experts.epochs:
    raise UserError(
      f"experts.epochs: {config.experts.epochs}, but students end at epoch {last} (start.most + "
      "expert_epochs - 1); give as many, or lower start.most"
    )
  check_condensation(config, lr_image="100 to 10,000", inits=(*INITS, CORRECT))


def _resolve_start(start: ConfigDict) -> None:
  check_least("start.most", start.most, 1)
  if start.first is None:
    start.first = start.most
  if not 0 <= start.least < start.first <= start.most:
    raise UserError(
      f"start: least={start.least}, first={start.first}, most={start.most} are not in this order, "
      "the first below the others; mend one of them"
    )
  if start.first < start.most and not start.grow:
    raise UserError(
      f"start.grow: 0 iterations to grow from start.first={start.first} to start.most={start.most}"
      "; give some, or leave start.first out"
    )


TM = Definition(
  fields=lambda: condensation(
    TMSettings(),
    iterations=5000,
    checkpoint_every=100,
    dsa=Augmenting(scheme="synthetic"),
  ),
  build=_build,
  resolve=_resolve,
  smoke={name: value for name, value in SMOKE.items() if name != "batch_real"}
  | {"student.steps": 2, "expert_epochs": 1, "start.most": 1, "start.first": None, "start.grow": 0}
  | {"start.least": 0, "experts.networks": 1, "experts.epochs": 1},
  protocol="tm",
  settings=TMSettings,
  label_kind="logit",
  per_class=False,
)
