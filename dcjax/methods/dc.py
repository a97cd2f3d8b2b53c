"""DC: dataset condensation with gradient matching (Zhao, Mopuri and Bilen, ICLR 2021).

And DSA, which is DC with differentiable siamese augmentation (Zhao and Bilen, ICML 2021): its
Algorithm 1 differs from DC's in the augmentations A_omega of line 7 and A of line 9 alone.

The papers' symbols: synthetic images S `[classes, ipc, H, W, C]`, network parameters theta,
`inner_loop` T, `network_epochs` (opt-alg_theta's steps, as passes over S), `lr_image` eta_S,
`lr_network` eta_theta, and D, the distance of two gradients (`dcjax.matching`). The outer loop
of K iterations belongs to the caller.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import augment, data, training
from dcjax.augment import Augmentations
from dcjax.data import Dataset
from dcjax.matching import DISTANCES
from dcjax.methods import Method, State, image_optimizer, initialiser, step_images
from dcjax.nn import Network
from dcjax.strategy import Strategy, map_classes
from dcjax.types import Array, Key, Params

# (inner_loop, network_epochs) by images per class.
SCHEDULE = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
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


def dc(
  network: Network,
  settings: Settings,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
) -> Method:
  """Dataset condensation with gradient matching (DC and DSA, Algorithm 1 of each).

  Args:
    network: phi; its parameters are drawn anew in every outer iteration.
    settings: hyper-parameters.
    strategy: how the work is laid out on the machine.
    augmentations: of what is matched and trained on; nothing for DC.

  Returns:
    The method; its metrics are `loss`, the distance D averaged over classes and inner steps.
  """
  optimizer = image_optimizer(settings.lr_image)
  train = _network_training(network, settings, strategy, augmentations.network)

  def update(state: State, dataset: Dataset, key: Key) -> tuple[State, dict[str, Array]]:
    def step(state, params, key):
      losses, gradients = match(
        network, params, state.images, dataset, key, settings, strategy, augmentations
      )
      return step_images(optimizer, state, gradients), losses.mean()

    state, losses = _inner_loop(network, settings.inner_loop, train, step, state, key)
    return state, {"loss": losses.mean()}

  return Method(initialiser(optimizer, ipc=settings.ipc, init=settings.init), update)


def gradient_norms(
  network: Network,
  images: Array,
  dataset: Dataset,
  key: Key,
  settings: Settings,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
) -> tuple[Array, Array]:
  """The magnitudes of the gradients that one outer iteration compares (DSA, Figure 5).

  The inner loop is that of `update` with the same key, except that the images stay as they are.

  Args:
    network: phi; its parameters are drawn from the key and trained on S between the steps.
    images: S, `[classes, ipc, H, W, C]`.
    dataset: the real images T.
    key: of one outer iteration.
    settings: hyper-parameters.
    strategy: how the classes are mapped.
    augmentations: of what is matched and trained on.

  Returns:
    For real and for synthetic images `[inner_loop, classes]`: l2 norms, over all parameters, of
    the gradient of one class' mean loss.
  """

  def norms(synthetic, ours, target):
    return optax.tree.norm(target), optax.tree.norm(ours(synthetic))

  def step(state, params, key):
    return state, _map_gradients(
      norms, network, params, state.images, dataset, key, settings, strategy, augmentations
    )

  train = _network_training(network, settings, strategy, augmentations.network)
  state = State(images, optimizer=())
  return _inner_loop(network, settings.inner_loop, train, step, state, key)[1]


def _inner_loop(
  network: Network,
  inner_loop: int,
  train: Callable[[Params, Array, Key], Params],
  step: Callable[[State, Params, Key], tuple[State, Any]],
  state: State,
  key: Key,
) -> tuple[State, Any]:
  """Lines 3 to 9 of Algorithm 1: a network is drawn, and trained after each step but the last.

  Args:
    network: phi.
    inner_loop: T.
    train: as `_network_training` makes it.
    step: `step(state, params, key) -> (state, results)`, lines 5 to 8.
    state: with S.
    key: of one outer iteration.

  Returns:
    The last state, and the results of all steps along a leading axis.
  """
  network_key, steps_key = jax.random.split(key)
  params = network.init(network_key)  # theta_0 ~ P

  def step_and_train(carry, t):
    state, params = carry
    match_key, train_key = jax.random.split(jax.random.fold_in(steps_key, t))
    state, results = step(state, params, match_key)
    # The last inner step needs no trained network: the next iteration draws a new one.
    params = jax.lax.cond(
      t < inner_loop - 1,
      lambda: train(params, state.images, train_key),
      lambda: params,
    )
    return (state, params), results

  (state, _), results = jax.lax.scan(step_and_train, (state, params), jnp.arange(inner_loop))
  return state, results


def match(
  network: Network,
  params: Params,
  images: Array,
  dataset: Dataset,
  key: Key,
  settings: Settings,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
) -> tuple[Array, Array]:
  """Steps 5 to 8 of Algorithm 1 for all classes: the distances and their image gradients.

  Args:
    network: phi.
    params: theta_t.
    images: S, `[classes, ipc, H, W, C]`.
    dataset: the real images T.
    key: of the real batches and their augmentation; each class draws its own.
    settings: hyper-parameters.
    strategy: how the classes are mapped.
    augmentations: of the real and the synthetic images.

  Returns:
    D of each class `[classes]`, and the gradient of D to S, shaped as S.
  """

  def compare(synthetic, ours, target):
    def distance(synthetic):
      return DISTANCES[settings.distance](ours(synthetic), target)

    return jax.value_and_grad(distance)(synthetic)

  return _map_gradients(
    compare, network, params, images, dataset, key, settings, strategy, augmentations
  )


def _map_gradients(
  compare: Callable[[Array, Callable[[Array], Params], Params], Any],
  network: Network,
  params: Params,
  images: Array,
  dataset: Dataset,
  key: Key,
  settings: Settings,
  strategy: Strategy,
  augmentations: Augmentations,
) -> Any:
  """Calls `compare(synthetic, ours, target)` for every class, with arguments as `match` has them.

  Args:
    compare: takes the synthetic images of a class, `ours(synthetic)`, which is their gradient
      after augmentation, and the gradient of the class' real batch.

  Returns:
    The results, stacked along a leading class axis.
  """
  batch_key, statistics_key, augment_key = jax.random.split(key, 3)
  stats = _frozen_statistics(network, params, dataset, statistics_key)

  def one_class(shared, label, synthetic):
    params, stats, dataset, batch_key, augment_key = shared
    batch_key, omega = (jax.random.fold_in(key, label) for key in (batch_key, augment_key))
    index = data.sample(dataset, batch_key, label, n=settings.batch_real)
    real = augmentations.real(omega, dataset.normalise(dataset.images[index]))
    target = _class_gradient(network, params, real, label, stats, strategy)

    def ours(synthetic):
      augmented = augmentations.synthetic(omega, synthetic)
      return _class_gradient(network, params, augmented, label, stats)

    return compare(synthetic, ours, target)

  labels = jnp.arange(dataset.num_classes)
  shared = (params, stats, dataset, batch_key, augment_key)
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
  network: Network, settings: Settings, strategy: Strategy, augmentation: augment.Augmentation
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
      training.Settings(batch=batch, block=strategy.blocks(batch), augment=augmentation),
      start=0,
      stop=settings.network_epochs,
    )
    return carry

  return train
