"""DM: dataset condensation with distribution matching (Zhao and Bilen, WACV 2023).

In every iteration a network is drawn, and the synthetic images S `[classes, ipc, H, W, C]` move
so that the mean of their features comes closer to that of real images, class by class:

  loss = sum over classes c of || mean psi(A_omega(T_c)) - mean psi(A_omega(S_c)) ||^2

with the features before the last layer as the embedding psi, and DSA's siamese augmentation
A_omega (restated in IDM, section 3; the connection to gradient matching is in the supplement).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcjax import augment, data, training
from dcjax.augment import Augmentations
from dcjax.data import Dataset
from dcjax.methods import Method, State, image_optimizer, initialiser, pool, step_images
from dcjax.nn import Network
from dcjax.strategy import Strategy, map_classes
from dcjax.types import Array, Key, Params

EMBEDDINGS = ("network", "pixels")


class Settings(NamedTuple):
  """DM's hyper-parameters.

  Attributes:
    ipc: images per class.
    init: an entry of `methods.INITS`.
    embedding: 'network', or 'pixels' for the MMD baseline with a linear kernel (supplement,
      section 2.2).
    batch_real: real images of each class in one iteration.
    lr_image: learning rate of the images.
  """

  ipc: int
  init: str
  embedding: str
  batch_real: int
  lr_image: float


class PoolState(NamedTuple):
  """What DM carries on where its networks are trained ones."""

  images: Array  # [classes, ipc, H, W, C] float32, normalised
  optimizer: Any  # the image optimiser's state: momentum shaped as the images
  networks: Params  # each leaf with a leading axis [networks], float32
  accuracies: Array  # [networks] float32, on real images


def dm(
  network: Network,
  settings: Settings,
  strategy: Strategy,
  augmentations: Augmentations = augment.NOTHING,
  trained: pool.Settings | None = None,
) -> Method:
  """Dataset condensation with distribution matching.

  Args:
    network: psi and a last layer that is not used; drawn anew in every iteration.
    settings: hyper-parameters.
    strategy: how the work is laid out on the machine.
    augmentations: of what is matched.
    trained: of networks trained on the real images, from which each iteration draws, in place of
      random ones (supplement, section 3).

  Returns:
    The method; its metrics are `loss`, the squared distance of the means averaged over classes.
  """
  optimizer = image_optimizer(settings.lr_image)
  initialise = initialiser(optimizer, ipc=settings.ipc, init=settings.init)

  def step(state, params, dataset, key):
    losses, gradients = match(
      network, params, state.images, dataset, key, settings, strategy, augmentations
    )
    return step_images(optimizer, state, gradients), {"loss": losses.mean()}

  def update(state: State, dataset: Dataset, key: Key) -> tuple[State, dict[str, Array]]:
    network_key, match_key = jax.random.split(key)
    return step(state, network.init(network_key), dataset, match_key)

  if trained is None:
    return Method(initialise, update)

  def initialise_pool(key: Key, dataset: Dataset) -> PoolState:
    images_key, networks_key = jax.random.split(key)
    networks, accuracies = pool.train(network, dataset, networks_key, trained, strategy)
    return PoolState(*initialise(images_key, dataset), networks, accuracies)

  def update_by_pool(state: PoolState, dataset: Dataset, key: Key):
    network_key, match_key = jax.random.split(key)
    choice = jax.random.randint(network_key, (), 0, trained.networks)
    params = jax.tree.map(lambda leaf: leaf[choice], state.networks)
    return step(state, params, dataset, match_key)

  return Method(
    initialise_pool, update_by_pool, lambda state: pool.check(state.accuracies, trained)
  )


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
  """The loss of one iteration and its gradient.

  With batch norm the images of all classes go through the network in one batch, hence see each
  other; else each class goes for itself.

  Args:
    network: psi and a last layer that is not used.
    params: theta.
    images: S, `[classes, ipc, H, W, C]`.
    dataset: the real images T.
    key: of the real batches and their augmentation; each class draws its own.
    settings: hyper-parameters.
    strategy: how the classes are mapped.
    augmentations: of the real and the synthetic images.

  Returns:
    The squared distance of each class `[classes]`, and the gradient of their sum to S.
  """

  functions = _Functions(network, settings, augmentations)
  labels = jnp.arange(dataset.num_classes)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, labels)
  if network.batch_norm and settings.embedding == "network":
    return functions.together(params, dataset, labels, keys, images)
  block = strategy.blocks(settings.batch_real)
  one_class = partial(functions.one_class, block)
  return map_classes(strategy, one_class, (params, dataset), (labels, keys, images))


class _Functions(NamedTuple):
  """What one iteration is made of, bound to its settings."""

  network: Network
  settings: Settings
  augmentations: Augmentations

  def embed(self, params: Params, images: Array) -> Array:
    """psi: features `[N, D]` of images `[N, H, W, C]`."""
    if self.settings.embedding == "pixels":
      return images.reshape(images.shape[0], -1)
    return self.network.apply(params, images)[1]

  def draw(self, dataset: Dataset, label: Array, key: Key) -> tuple[Array, Key]:
    """A batch of real images of a class under A_omega, and the key that stands for omega."""
    batch_key, omega = jax.random.split(key)
    index = data.sample(dataset, batch_key, label, n=self.settings.batch_real)
    return self.augmentations.real(omega, dataset.normalise(dataset.images[index])), omega

  def one_class(
    self, block: int, shared: tuple[Params, Dataset], label: Array, key: Key, synthetic: Array
  ) -> tuple[Array, Array]:
    """The squared distance of one class, and its gradient to the class' images."""
    params, dataset = shared
    real, omega = self.draw(dataset, label, key)
    target = training.in_blocks(partial(self.embed, params), real, block=block).mean(0)

    def distance(synthetic):
      features = self.embed(params, self.augmentations.synthetic(omega, synthetic))
      return ((features.mean(0) - target) ** 2).sum()

    return jax.value_and_grad(distance)(synthetic)

  def together(
    self, params: Params, dataset: Dataset, labels: Array, keys: Key, images: Array
  ) -> tuple[Array, Array]:
    """The squared distances of all classes in one batch, and the gradient of their sum."""

    def means(batches):
      features = self.embed(params, batches.reshape(-1, *batches.shape[2:]))
      return features.reshape(*batches.shape[:2], -1).mean(1)

    real, omegas = jax.vmap(self.draw, (None, 0, 0))(dataset, labels, keys)
    target = means(real)

    def total(images):
      augmented = jax.vmap(self.augmentations.synthetic)(omegas, images)
      distances = ((means(augmented) - target) ** 2).sum(1)
      return distances.sum(), distances

    gradients, distances = jax.grad(total, has_aux=True)(images)
    return distances, gradients
