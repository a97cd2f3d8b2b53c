"""Features of real and of synthetic images, class by class: DM and IDM."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax import data
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.sharding import map_classes, share_batch
from dcjax.methods.feature_distances import FEATURE_DISTANCES
from dcjax.methods.setup import Setup
from dcjax.nn.training import in_blocks
from dcjax.sets.formation import Stored, over_classes

EMBEDDINGS = ("network", "pixels")


class FeatureMatching(NamedTuple):
  """What is compared, and how.

  Attributes:
    setup: the network psi, of which only the regularisation uses the last layer; layout,
      augmentations and formation.
    batch_real: real images of each class.
    embedding: an entry of `EMBEDDINGS`.
    distance: an entry of `FEATURE_DISTANCES`.
  """

  setup: Setup
  batch_real: int
  embedding: str = "network"
  distance: str = "mean"

  def draw(self, dataset: Dataset, key: Key) -> Array:
    """Draws the real images of a matching, int32 `[classes, batch_real]` indices."""
    labels = jnp.arange(dataset.num_classes)
    draw = jax.vmap(partial(data.sample, n=self.batch_real), (None, 0, 0))
    return draw(dataset, _class_keys(key, labels)[0], labels)

  def match(
    self,
    params: Params,
    stored: Stored,
    dataset: Dataset,
    indices: Array,
    key: Key,
    regularisation: Array | None = None,
  ) -> tuple[Array, Stored]:
    """The losses of all classes and the gradient of their sum to what is stored.

    With batch norm the images of all classes go through the network in one batch, hence see each
    other; else each class goes for itself.

    Args:
      params: theta.
      stored: S, images `[classes, ipc, H, W, C]`.
      dataset: the real images T.
      indices: of the real batches, `[classes, batch_real]`, from `draw` with the same key.
      key: of their augmentation; each class draws its own.
      regularisation: weight of the mean cross-entropy of a class' synthetic images (IDM, Eq. 5);
        None: without.

    Returns:
      The distance of each class, regularised, `[classes]`; and the gradient of their sum, shaped
      as `stored`.
    """
    labels = jnp.arange(dataset.num_classes)
    each = labels, indices, _class_keys(key, labels)[1]
    distance_key = jax.random.fold_in(key, dataset.num_classes)  # the same for all classes
    if self.setup.network.batch_norm and self.embedding == "network":
      return self._all_classes(params, stored, dataset, each, distance_key, regularisation)
    shared = params, stored.weights, dataset, distance_key, regularisation
    losses, gradients = map_classes(
      self.setup.strategy, self._one_class, shared, (*each, stored.images)
    )
    return losses, over_classes(gradients)

  def _embedding(self, params: Params) -> Callable[[Array], tuple[Array, Array]]:
    """From images `[N, H, W, C]` to logits and features, `[N, classes]` and `[N, D]`."""
    return partial(_pixels if self.embedding == "pixels" else self.setup.network.apply, params)

  def _real(self, dataset: Dataset, indices: Array, omega: Key) -> Array:
    """A batch of real images of a class under A_omega."""
    return self.setup.augmentations.real(omega, dataset.normalise(dataset.images[indices]))

  def _one_class(
    self,
    shared: tuple[Params, Params, Dataset, Key, Array | None],
    each: tuple[Array, Array, Key, Array],
  ) -> tuple[Array, Stored]:
    """The loss of one class, and its gradient to what is stored of it."""
    params, weights, dataset, distance_key, regularisation = shared
    label, indices, omega, images = each
    _, strategy, augmentations, formation = self.setup
    embed, distance = self._embedding(params), FEATURE_DISTANCES[self.distance]
    # The embeddings of real images, whose mean is a constant ...
    real, of_mean = share_batch(strategy, self._real(dataset, indices, omega))
    features = in_blocks(lambda x: embed(x)[1], real, block=strategy.blocks(len(real)))
    target = distance.target(features, of_mean, strategy, distance_key)

    # ... and of synthetic ones, which the distance is differentiated to (IDM, Eq. 2 and 5).
    def loss(stored):
      synthetic = augmentations.synthetic(omega, formation.decode(stored, dataset.whitening))
      block = strategy.synthetic_blocks(len(synthetic))
      logits, features = in_blocks(embed, synthetic, block=block)
      far = distance.compare(features, target, distance_key)
      return far + _regulariser(logits, label, regularisation)

    return jax.value_and_grad(loss)(Stored(images, weights))

  def _all_classes(
    self,
    params: Params,
    stored: Stored,
    dataset: Dataset,
    each: tuple[Array, Array, Key],
    distance_key: Key,
    regularisation: Array | None,
  ) -> tuple[Array, Stored]:
    """The losses of all classes in one batch, and the gradient of their sum."""
    (labels, indices, omegas), distance = each, FEATURE_DISTANCES[self.distance]

    def embed(batches):
      outputs = self._embedding(params)(batches.reshape(-1, *batches.shape[2:]))
      return jax.tree.map(lambda x: x.reshape(*batches.shape[:2], -1), outputs)

    real = jax.vmap(self._real, (None, 0, 0))(dataset, indices, omegas)
    features, whole = embed(real)[1], self.setup.strategy._replace(mesh=(1, 1))
    of_mean = jnp.full(self.batch_real, 1 / self.batch_real, jnp.float32)
    targets = jax.vmap(lambda of_class: distance.target(of_class, of_mean, whole, distance_key))(
      features
    )

    def total(stored):
      synthetic = self.setup.formation.decode_classes(stored, dataset.whitening)
      logits, features = embed(jax.vmap(self.setup.augmentations.synthetic)(omegas, synthetic))
      distances = jax.vmap(distance.compare, (0, 0, None))(features, targets, distance_key)
      regularisers = jax.vmap(_regulariser, (0, 0, None))(logits, labels, regularisation)
      losses = distances + regularisers
      return losses.sum(), losses

    gradients, losses = jax.grad(total, has_aux=True)(stored)
    return losses, gradients


def _pixels(params: Params, images: Array) -> tuple[Array, Array]:
  """The pixels as features, without logits."""
  return jnp.zeros((len(images), 1), jnp.float32), images.reshape(len(images), -1)


def _class_keys(key: Key, labels: Array) -> tuple[Key, Key]:
  """Two keys for each class: of its real batch, and omega, that of both augmentations."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, labels)
  pairs = jax.vmap(jax.random.split)(keys)
  return pairs[:, 0], pairs[:, 1]


def _regulariser(logits: Array, label: Array, weight: Array | None) -> Array | float:
  """The weighted mean cross-entropy of logits `[N, classes]` of one class."""
  if weight is None:
    return 0.0
  labels = jnp.full(len(logits), label)
  return weight * optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
