"""FRePo: regression on the features of a pool of networks (Zhou, Nezhadarya and Ba, NeurIPS 2022).

Synthetic images X, `[classes, ipc, H, W, C]`, and labels Y of them, one-hot less 1/classes at
first, are moved so that ridge regression on a network's features of them predicts the labels of
real images. The last layer of a network is thus trained in closed form. In each iteration (numbers
of our own):

  1  theta: a network, drawn from a pool
  2  F_s, F_t: its features of X and of a batch of real images
  3  P = F_t F_s' (F_s F_s' + r tr(F_s F_s') / n)^-1 Y
  4  L = mean of |P - y_t|^2 / 2, less the mean over X of the margin of Y, counted up to 1/classes
  5  move X and Y by LAMB along the gradient of L; theta stays
  6  train theta one step on the new X and Y; after so many steps a new network takes its place

With `pool.steps=0` networks are drawn anew in each iteration, and their features are joined: these
are random features as in RFAD (Loo et al., NeurIPS 2022), whose loss is `loss=platt`.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dcjax import data
from dcjax.common.errors import check_least, check_most, check_name
from dcjax.common.products import product
from dcjax.common.types import Array, Key
from dcjax.config.datasets import hundred_classes
from dcjax.data import Dataset, base_name
from dcjax.devices.strategy import Strategy
from dcjax.methods import RATE_WEIGHTS, Method, State, Step, images_alone, slots
from dcjax.methods.definition import (
  SMOKE,
  Definition,
  by_rule,
  check_condensation,
  check_rate,
  condensation,
  from_fields,
)
from dcjax.methods.frepo_pool import Networks, Pool, Trainer
from dcjax.methods.kernels import (
  centred,
  check_definite,
  decoded,
  half_squares,
  initial_labels,
  margin,
  predict,
)
from dcjax.methods.setup import Setup, setup, warn_all_taken
from dcjax.nn import training
from dcjax.sets.formation import Stored

LOSSES = ("squares", "platt")
OPTIMIZERS = ("lamb", "adabelief")
MOST_RANDOM = 100  # networks whose random features are side by side
LR_END = 0.1  # of the rate of images and labels, at the end of its fall
ADABELIEF_EPS = 1e-16  # (RFAD, authors' code)


class FRePoSettings(NamedTuple):
  """FRePo's hyper-parameters."""

  ipc: int = 1  # images per class
  init: str = "real"  # Start: 'real' images, 'noise', 'mix', or FILE.npz of a saved set
  batch_real: int = 1024  # real images of the loss, of all classes together
  optimizer: str = "lamb"  # of images and labels: 'lamb', or 'adabelief' (RFAD)
  lr_image: float = 3e-4  # of images and labels; along a cosine it falls to a tenth of that
  lr_decay: int = 500_000  # iterations in which `lr_image` falls; 0: it stays
  regularisation: float = 1e-6  # r, of the regression
  # Whether each image also counts mirrored; None: on CIFAR-10, and of CIFAR-100 and Tiny ImageNet
  # with one image a class (authors' code)
  flip: bool = by_rule(bool)
  # 'squares', lines 3 and 4; or 'platt': the cross-entropy of P times a learned number, without the
  # margin (RFAD)
  loss: str = "squares"
  lr_scale: float = 1e-2  # of the logarithm of the number that 'platt' learns
  pool: Pool = Pool()


class Learned(NamedTuple):
  """What is learned."""

  stored: Stored  # images [classes, ipc, H, W, C] float32, and a learnable formation's weights
  labels: Array  # [classes, ipc, classes] float32, centred
  scale: Array  # float32, the logarithm of what P is multiplied by in `platt`


class FRePoState(NamedTuple):
  """What FRePo carries from one iteration to the next."""

  stored: Stored  # the images of what is learned
  labels: Array
  scale: Array
  optimizer: Any
  pool: Networks | None

  @property
  def learned(self) -> Learned:
    """What is learned."""
    return Learned(self.stored, self.labels, self.scale)


def frepo(setup: Setup, settings: FRePoSettings) -> Method:
  """Regression on the features of a pool of networks.

  Args:
    setup: the network of the pool, layout and formation; nothing is augmented.
    settings: hyper-parameters, all of them numbers.

  Returns:
    The method; its metrics are `loss`, and `accuracy`, that of P on the real batch.
  """
  pool, optimizer = settings.pool, _optimizer(settings)
  trainer = Trainer(setup, pool)

  def begin(state: State, dataset: Dataset, indices: Any, key: Key, number: Array):
    classes, ipc = state.stored.images.shape[:2]
    labels = initial_labels(classes, ipc) / (classes / 10) ** 0.5
    learned = Learned(state.stored, labels, jnp.float32(0))
    networks = None
    if pool.steps:
      one = jax.eval_shape(trainer.fresh, key)
      networks = Networks(slots.zeros(one, pool.networks), jnp.zeros(pool.networks, jnp.int32))
    return FRePoState(*learned, optimizer.init(learned), networks), {}

  def fill(state: FRePoState, dataset: Dataset, indices: Any, key: Key, number: Array):
    fresh_key, train_key = jax.random.split(jax.random.fold_in(key, number + 1))
    examples = _examples(setup, settings, state.learned, dataset)
    age = number * (pool.oldest // pool.networks)
    carry = trainer.train(trainer.fresh(fresh_key), examples, train_key, age)
    return state._replace(pool=cast(Networks, state.pool).put(number, carry, age)), {}

  def draw(dataset: Dataset, key: Key, number: Array) -> Array:
    return data.any_indices(dataset, _keys(key)[0], n=settings.batch_real)

  def learn(state: FRePoState, dataset: Dataset, indices: Array, key: Key, number: Array):
    _, slot_key, fresh_key, train_key = _keys(key)
    slot = jax.random.randint(slot_key, (), 0, pool.networks)
    if state.pool is not None:
      carry, age = slots.at(state.pool.carry, slot), state.pool.age[slot]  # 1
      features = trainer.features(carry)
    else:
      features = trainer.random_features(fresh_key)
    real = jax.lax.stop_gradient(features(dataset.normalise(dataset.images[indices])))  # 2
    labels = dataset.labels[indices]

    def loss(learned):
      images, targets = _examples(setup, settings, learned, dataset)
      ours = features(images)
      kernels = product(ours, ours.T), product(real, ours.T)
      predicted = predict(*kernels, targets, settings.regularisation)  # 3
      right = (predicted.argmax(-1) == labels).mean(dtype=jnp.float32)
      if settings.loss == "platt":
        scaled = jnp.exp(learned.scale) * predicted
        return training.cross_entropy(scaled, labels).mean(), right
      wrong = half_squares(predicted, centred(labels, targets.shape[-1]))
      return wrong - margin(learned.labels, 1 / targets.shape[-1]), right  # 4

    (value, right), gradients = jax.value_and_grad(loss, has_aux=True)(state.learned)
    updates, moments = optimizer.update(gradients, state.optimizer, state.learned)  # 5
    learned = cast(Learned, optax.apply_updates(state.learned, updates))
    networks = state.pool
    if networks is not None:
      examples = _examples(setup, settings, learned, dataset)
      carry = trainer.train(carry, examples, train_key, pool.steps)  # 6
      carry, age = jax.lax.cond(
        age + pool.steps > pool.oldest,
        lambda: (trainer.fresh(fresh_key), jnp.int32(0)),
        lambda: (carry, age + pool.steps),
      )
      networks = networks.put(slot, carry, age)
    metrics = {"loss": value, "accuracy": right}
    return FRePoState(*learned, moments, networks), metrics

  def about(state: FRePoState) -> dict[str, Any]:
    return {"kernel_scale": float(jnp.exp(state.scale))} if settings.loss == "platt" else {}

  return Method(
    start=(
      images_alone(ipc=settings.ipc, init=settings.init, formation=setup.formation),
      Step(begin),
      Step(fill, times=pool.networks if pool.steps else 0),
    ),
    iteration=(Step(learn, draw),),
    labels=lambda state: state.labels,
    about=about,
  )


def _keys(key: Key) -> Key:
  """Of the real batch, the slot, a new network, and the training of one."""
  return jax.random.split(key, 4)


def _examples(
  setup: Setup, settings: FRePoSettings, learned: Learned, dataset: Dataset
) -> tuple[Array, Array]:
  """Images as networks see them, `[n, H, W, C]`, and their labels `[n, classes]`."""
  return decoded(setup.formation, learned.stored, learned.labels, dataset, flip=settings.flip)


def _optimizer(settings: FRePoSettings) -> optax.GradientTransformation:
  rate: optax.ScalarOrSchedule = settings.lr_image
  if settings.lr_decay:
    rate = optax.cosine_decay_schedule(settings.lr_image, settings.lr_decay, LR_END)
  if settings.optimizer == "lamb":
    of_set = optax.lamb(rate)
  else:
    of_set = optax.adabelief(rate, eps=ADABELIEF_EPS, eps_root=ADABELIEF_EPS)
  return of_learned(of_set, optax.adam(settings.lr_scale))


def of_learned(
  of_set: optax.GradientTransformation, of_scale: optax.GradientTransformation
) -> optax.GradientTransformation:
  """The optimiser of what is learned, from those of images and labels, and of the scale."""
  rules = {
    "set": training.promoting(of_set),
    "weights": optax.rmsprop(RATE_WEIGHTS),
    "scale": training.promoting(of_scale),
  }
  labels: Any = Learned(Stored("set", "weights"), "set", "scale")  # type: ignore[arg-type]
  return optax.partition(rules, labels)


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  settings, bound = from_fields(FRePoSettings(), config), setup(config, dataset, layout)
  warn_all_taken(settings.batch_real, dataset)
  method = frepo(bound, settings)

  def check(state: FRePoState) -> None:
    images, targets = _examples(bound, settings, state.learned, dataset)
    trainer = Trainer(bound, settings.pool)
    carry = slots.at(state.pool.carry, 0) if state.pool else trainer.fresh(jax.random.key(0))
    features = trainer.features(carry)(images)
    kernel = product(features, features.T)
    predicted = predict(kernel, kernel, targets, settings.regularisation)
    check_definite(predicted, len(images), settings.regularisation)

  return method._replace(check=check)


def _resolve(config: ConfigDict) -> None:
  check_name("loss", config.loss, LOSSES)
  check_name("optimizer", config.optimizer, OPTIMIZERS)
  if config.flip is None:
    config.flip = is_mirrored(config, most_of_hundred=1)
  check_rate("lr_scale", config.lr_scale, "0.01 (RFAD)")
  check_rate("pool.lr", config.pool.lr, "0.0003")
  check_rate("regularisation", config.regularisation, "1e-6 (FRePo) and 5e-3 (RFAD)")
  check_least("lr_decay", config.lr_decay, 0)
  for field, least in (("networks", 1), ("steps", 0), ("oldest", 1), ("batch", 1)):
    check_least(f"pool.{field}", config.pool[field], least)
  if not config.pool.steps:  # then all of them are in one program
    check_most("pool.networks", config.pool.networks, MOST_RANDOM)
  check_condensation(config, lr_image="0.0003")


def is_mirrored(config: ConfigDict, *, most_of_hundred: int) -> bool:
  """Whether images of a dataset count mirrored, too: of a hundred classes where they are so few."""
  if hundred_classes(config.dataset):
    return config.ipc <= most_of_hundred
  return base_name(config.dataset.name) == "cifar10"


FREPO = Definition(
  fields=lambda: condensation(FRePoSettings(), iterations=500_000, checkpoint_every=1000, dsa=None),
  build=_build,
  resolve=_resolve,
  smoke=SMOKE | {"pool.networks": 2, "pool.oldest": 4},
  protocol="frepo",
  settings=FRePoSettings,
  label_kind="centred",
  per_class=False,
)
