"""DC: dataset condensation with gradient matching (Zhao, Mopuri and Bilen, ICLR 2021).

The paper's symbols: synthetic images S `[classes, ipc, H, W, C]`, network parameters theta,
`inner_loop` T, `network_epochs` (opt-alg_theta's steps, as passes over S), `lr_image` eta_S,
`lr_network` eta_theta, and D, the distance of two gradients (`dcjax.matching`). The outer loop
of K iterations belongs to the caller.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import data, training
from dcjax.data import Dataset
from dcjax.matching import DISTANCES
from dcjax.methods import Method
from dcjax.nn import Network
from dcjax.strategy import Strategy, map_classes
from dcjax.types import Array, Key, Params

# (inner_loop, network_epochs) by images per class.
SCHEDULE = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
INITS = ("noise", "real")
MOMENTUM_IMAGE = 0.5
BATCH_SYNTHETIC = 256  # images of one network step
STATISTICS_BATCH = 16  # real images a class that freeze batch norm's statistics


class Settings(NamedTuple):
  """DC's hyper-parameters.

  Attributes:
    ipc: images per class.
    init: 'noise' (standard normal, normalised space) or 'real' (random training images).
    distance: an entry of `matching.DISTANCES`.
    inner_loop: T, matching steps for each network.
    network_epochs: passes over S that train the network between two matching steps.
    batch_real: real images of each class in one matching step.
    lr_image: eta_S.
    lr_network: eta_theta.
  """

  ipc: int
  init: str
  distance: str
  inner_loop: int
  network_epochs: int
  batch_real: int
  lr_image: float
  lr_network: float


class State(NamedTuple):
  """What DC carries from one outer iteration to the next."""

  images: Array  # [classes, ipc, H, W, C] float32, normalised
  optimizer: Any  # the image optimiser's state: momentum shaped as the images


def dc(network: Network, settings: Settings, strategy: Strategy) -> Method:
  """Dataset condensation with gradient matching (DC, Algorithm 1).

  Args:
    network: phi; its parameters are drawn anew in every outer iteration.
    settings: hyper-parameters.
    strategy: how the work is laid out on the machine.

  Returns:
    The method; its metrics are `loss`, the distance D averaged over classes and inner steps.
  """
  image_optimizer = optax.sgd(settings.lr_image, momentum=MOMENTUM_IMAGE)
  train = _network_training(network, settings, strategy)

  def init(key: Key, dataset: Dataset) -> State:
    images = initial_images(key, dataset, ipc=settings.ipc, init=settings.init)
    return State(images, image_optimizer.init(images))

  def update(state: State, dataset: Dataset, key: Key) -> tuple[State, dict[str, Array]]:
    network_key, steps_key = jax.random.split(key)
    params = network.init(network_key)  # theta_0 ~ P

    def inner_step(carry, t):
      state, params = carry
      match_key, train_key = jax.random.split(jax.random.fold_in(steps_key, t))
      losses, gradients = match(
        network, params, state.images, dataset, match_key, settings, strategy
      )
      updates, optimizer = image_optimizer.update(gradients, state.optimizer)
      state = State(optax.apply_updates(state.images, updates), optimizer)
      # The last inner step needs no trained network: the next iteration draws a new one.
      params = jax.lax.cond(
        t < settings.inner_loop - 1,
        lambda: train(params, state.images, train_key),
        lambda: params,
      )
      return (state, params), losses.mean()

    steps = jnp.arange(settings.inner_loop)
    (state, _), losses = jax.lax.scan(inner_step, (state, params), steps)
    return state, {"loss": losses.mean()}

  return Method(init, update)


def initial_images(key: Key, dataset: Dataset, *, ipc: int, init: str) -> Array:
  """S before the first iteration: `[classes, ipc, H, W, C]` float32, normalised."""
  if init == "real":
    return data.random_subset(dataset, key, ipc=ipc)
  return jax.random.normal(key, (dataset.num_classes, ipc, *dataset.image_shape))


def match(
  network: Network,
  params: Params,
  images: Array,
  dataset: Dataset,
  key: Key,
  settings: Settings,
  strategy: Strategy,
) -> tuple[Array, Array]:
  """Steps 5 to 8 of Algorithm 1 for all classes: the distances and their image gradients.

  Args:
    network: phi.
    params: theta_t.
    images: S, `[classes, ipc, H, W, C]`.
    dataset: the real images T.
    key: of the real batches; each class draws its own.
    settings: hyper-parameters.
    strategy: how the classes are mapped.

  Returns:
    D of each class `[classes]`, and the gradient of D to S, shaped as S.
  """
  batch_key, statistics_key = jax.random.split(key)
  stats = _frozen_statistics(network, params, dataset, statistics_key)

  def one_class(shared, label, synthetic):
    params, stats, dataset, key = shared
    index = data.sample(dataset, jax.random.fold_in(key, label), label, n=settings.batch_real)
    real = dataset.normalise(dataset.images[index])
    target = _class_gradient(network, params, real, label, stats, strategy)

    def distance(synthetic):
      ours = _class_gradient(network, params, synthetic, label, stats)
      return DISTANCES[settings.distance](ours, target)

    return jax.value_and_grad(distance)(synthetic)

  labels = jnp.arange(dataset.num_classes)
  shared = (params, stats, dataset, batch_key)
  return map_classes(strategy, one_class, shared, (labels, images))


def _class_gradient(
  network: Network,
  params: Params,
  images: Array,
  label: Array,
  stats: Params,
  strategy: Strategy | None = None,
) -> Params:
  """Gradient of one class' mean loss L_c (step 7); in blocks if a strategy is given."""
  count = images.shape[0]
  labels, weights = jnp.full(count, label), jnp.full(count, 1 / count)
  block = strategy.blocks(count) if strategy else count
  return training.gradient(network, params, images, labels, weights, block=block, stats=stats)


def _frozen_statistics(network: Network, params: Params, dataset: Dataset, key: Key) -> Params:
  """Statistics of batch norm from real images of all classes, frozen while gradients match."""
  if not network.batch_norm:
    return {}
  images = data.random_subset(dataset, key, ipc=STATISTICS_BATCH)
  return network.statistics(params, images.reshape(-1, *dataset.image_shape))


def _network_training(
  network: Network, settings: Settings, strategy: Strategy
) -> Callable[[Params, Array, Key], Params]:
  """Step 9 of Algorithm 1: `train(params, images, key) -> params`, on the whole of S."""
  optimizer = optax.sgd(settings.lr_network)

  def train(params: Params, images: Array, key: Key) -> Params:
    classes, ipc = images.shape[:2]
    batch = min(BATCH_SYNTHETIC, classes * ipc)
    carry, _ = training.epochs(
      network,
      optimizer,
      (params, optimizer.init(params)),
      images.reshape(-1, *images.shape[2:]),
      jnp.repeat(jnp.arange(classes), ipc),
      key,
      training.Settings(batch=batch, block=strategy.blocks(batch)),
      start=0,
      stop=settings.network_epochs,
    )
    return carry

  return train
