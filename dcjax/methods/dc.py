"""DC: dataset condensation with gradient matching (Zhao, Mopuri and Bilen, ICLR 2021).

And DSA, which is DC with differentiable siamese augmentation (Zhao and Bilen, ICML 2021): its
Algorithm 1 differs from DC's in the augmentations A_omega of line 7 and A of line 9 alone.

Algorithm 1, in the names of this file:

  1  S: `ipc` images of each class
  2  for k = 0 .. K-1:                             an iteration, see `dcjax.run.loop`
  3    theta_0: network parameters, drawn anew
  4    for t = 0 .. T-1:                           `inner_loop`
  5      for each class c:
  6        draw real images of c, all synthetic ones
  7        their mean losses at theta_t            under A_omega
  8        move S_c against the gradient of D      one step of SGD, rate eta_S: `lr_image`
  9      theta_{t+1}: train theta_t on S           `network_epochs` passes, rate eta_theta:
                                                   `lr_network`
D is the distance of two gradients (`dcjax.methods.distances`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import augment, data
from dcjax.augment import Augmentations
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.strategy import Strategy
from dcjax.methods import Method, State, Step, image_optimizer, initialiser, step_images
from dcjax.methods.distances import DISTANCES
from dcjax.methods.gradient_matching import Batches, GradientMatching
from dcjax.nn import Network, training
from dcjax.sets.formation import IDENTITY, Formation, Stored

# (inner_loop, network_epochs) by images per class.
SCHEDULE = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
BATCH_SYNTHETIC = 256  # images of one network step


class Settings(NamedTuple):
  """DC's hyper-parameters.

  Attributes:
    ipc: images per class.
    init: an entry of `methods.INITS`.
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
  formation: Formation = IDENTITY,
) -> Method:
  """Dataset condensation with gradient matching (DC and DSA, Algorithm 1 of each).

  Args:
    network: phi; its parameters are drawn anew in every outer iteration.
    settings: hyper-parameters.
    strategy: how the work is laid out on the machine.
    augmentations: of what is matched and trained on; nothing for DC.
    formation: from stored images to synthetic ones.

  Returns:
    The method; its metrics are `loss`, the distance D averaged over classes and inner steps.
  """
  optimizer = image_optimizer(settings.lr_image)
  start = initialiser(optimizer, ipc=settings.ipc, init=settings.init, formation=formation)
  matching = gradient_matching(network, settings, strategy, augmentations, formation)
  train = _network_training(network, settings, strategy, augmentations.network, formation)

  # Line 6: what all inner steps match is known before the first of them.
  def draw(dataset: Dataset, key: Key, number: Array) -> Batches:
    return _draw(matching, settings.inner_loop, dataset, key)

  def match_and_train(state: State, dataset: Dataset, batches: Batches, key: Key, number: Array):
    # Lines 5 to 8: the classes do not depend on each other, so that all of S takes one step.
    def match(state, params, batches, key):
      losses, gradients = matching.match(params, state.stored, dataset, batches, key)
      return step_images(optimizer, state, gradients), losses.mean()

    state, losses = _inner_loop(network, partial(train, dataset), match, state, batches, key)
    return state, {"loss": losses.mean()}

  return Method(
    start=(start,),  # line 1
    iteration=(Step(match_and_train, draw),),  # lines 3 to 9
  )


def gradient_matching(
  network: Network,
  settings: Settings,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
  formation: Formation = IDENTITY,
) -> GradientMatching:
  """Lines 5 to 8 of Algorithm 1, with the arguments of `dc`."""
  distance = DISTANCES[settings.distance]
  return GradientMatching(
    network, distance, settings.batch_real, strategy, augmentations, formation
  )


def gradient_norms(
  network: Network,
  stored: Stored,
  dataset: Dataset,
  key: Key,
  settings: Settings,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
  formation: Formation = IDENTITY,
) -> tuple[Array, Array]:
  """The magnitudes of the gradients that one outer iteration compares (DSA, Figure 5).

  The inner loop is that of `update` with the same key, except that the images stay as they are.

  Args:
    network: phi; its parameters are drawn from the key and trained on S between the steps.
    stored: of S, images `[classes, ipc, H, W, C]`.
    dataset: the real images T.
    key: of one outer iteration.
    settings: hyper-parameters.
    strategy: how the classes are mapped.
    augmentations: of what is matched and trained on.
    formation: from stored images to synthetic ones.

  Returns:
    For real and for synthetic images `[inner_loop, classes]`: l2 norms, over all parameters, of
    the gradient of one class' mean loss.
  """
  matching = gradient_matching(network, settings, strategy, augmentations, formation)

  def norms(stored, ours, target):
    return optax.tree.norm(target), optax.tree.norm(ours(stored))

  # As lines 5 to 8, but norms in place of D, and no step.
  def match(state, params, batches, key):
    return state, matching.map(norms, params, state.stored, dataset, batches, key)

  train = _network_training(network, settings, strategy, augmentations.network, formation)
  state = State(stored, optimizer=())
  batches = _draw(matching, settings.inner_loop, dataset, key)
  return _inner_loop(network, partial(train, dataset), match, state, batches, key)[1]


def _draw(matching: GradientMatching, inner_loop: int, dataset: Dataset, key: Key) -> Batches:
  """Line 6 for all inner steps, which are a leading axis of the indices."""
  steps_key = jax.random.split(key)[1]
  draw = jax.vmap(lambda t: matching.draw(dataset, _step_keys(steps_key, t)[0]))
  return draw(jnp.arange(inner_loop))


def _inner_loop(
  network: Network,
  train: Callable[[Params, Stored, Key], Params],
  match: Callable[[State, Params, Batches, Key], tuple[State, Any]],
  state: State,
  batches: Batches,
  key: Key,
) -> tuple[State, Any]:
  """Lines 3 to 9 of Algorithm 1: a network is drawn, and trained after each step but the last.

  Args:
    network: phi.
    train: `train(params, stored, key) -> params`, line 9.
    match: `match(state, params, batches, key) -> (state, results)`, lines 5 to 8.
    state: with S.
    batches: of `_draw` with the same key.
    key: of one outer iteration.

  Returns:
    The last state, and the results of all steps along a leading axis.
  """
  network_key, steps_key = jax.random.split(key)
  params = network.init(network_key)  # line 3: theta_0 ~ P
  inner_loop = len(batches.matched)

  def step(carry, each):
    (state, params), (t, batches) = carry, each
    match_key, train_key = _step_keys(steps_key, t)
    # Lines 5 to 8.
    state, results = match(state, params, batches, match_key)
    # Line 9. The last network would not be used: line 3 draws a new one (DC, Appendix A).
    params = jax.lax.cond(
      t < inner_loop - 1,
      lambda: train(params, state.stored, train_key),
      lambda: params,
    )
    return (state, params), results

  # Line 4.
  (state, _), results = jax.lax.scan(step, (state, params), (jnp.arange(inner_loop), batches))
  return state, results


def _step_keys(key: Key, t: Array) -> tuple[Key, Key]:
  """The keys of matching and of training in inner step t."""
  match_key, train_key = jax.random.split(jax.random.fold_in(key, t))
  return match_key, train_key


def _network_training(
  network: Network,
  settings: Settings,
  strategy: Strategy,
  augmentation: augment.Augmentation,
  formation: Formation,
) -> Callable[[Dataset, Params, Stored, Key], Params]:
  """Line 9 of Algorithm 1: `train(dataset, params, stored, key) -> params`, on all of S."""
  optimizer = optax.sgd(settings.lr_network)

  def train(dataset: Dataset, params: Params, stored: Stored, key: Key) -> Params:
    # All classes in one set, in batches of at most 256 (DSA, hyper-parameters).
    images, labels = data.as_batch(formation.decode_classes(stored, dataset.whitening))
    batch = min(BATCH_SYNTHETIC, len(labels))
    batching = training.Batching(batch, strategy.blocks(batch), augment=augmentation)
    carry, _ = training.epochs(
      training.Learner(network, optimizer, batching),
      (params, optimizer.init(params)),
      images,
      labels,
      key,
      start=0,
      stop=settings.network_epochs,
    )
    return carry

  return train
