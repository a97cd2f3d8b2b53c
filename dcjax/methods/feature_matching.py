"""Features of real and of synthetic images, class by class: DM and IDM."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dcjax import data, nn
from dcjax.common.products import product
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.sharding import gather_batch, map_classes, share_batch
from dcjax.devices.strategy import Strategy
from dcjax.methods.feature_distances import FEATURE_DISTANCES, last_block, weighted_blocks
from dcjax.methods.setup import Setup, setup
from dcjax.nn.training import in_blocks
from dcjax.sets.formation import Stored, over_classes

EMBEDDINGS = ("network", "pixels")
# What all classes see: theta, weights of a formation, real images, key and regularisation.
Shared = tuple[Params, Params, Dataset, Key, Array | None]


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
    mapped = partial(map_classes, self.setup.strategy)
    pull = None
    if FEATURE_DISTANCES[self.distance].discrimination:
      real, of_mean, centres = mapped(self._centres, shared, (*each, stored.images))
      pull = self._pull(real, of_mean, centres, labels)
    losses, gradients = mapped(self._one_class, shared, (*each, stored.images, pull))
    return losses, over_classes(gradients)

  def _embedding(self, params: Params) -> Callable[[Array], tuple[Array, Array]]:
    """From images `[N, H, W, C]` to logits and features, `[N, classes]` and `[N, D]`."""
    network, weights = self.setup.network, FEATURE_DISTANCES[self.distance].blocks
    if self.embedding == "pixels":
      return partial(_pixels, params)
    if not weights:
      return partial(network.apply, params)

    def of_blocks(images):
      assert network.blocks is not None
      logits, outputs = network.blocks(params, images)
      return logits, weighted_blocks(outputs, weights)

    return of_blocks

  def _real(self, dataset: Dataset, indices: Array, omega: Key) -> Array:
    """A batch of real images of a class under A_omega."""
    return self.setup.augmentations.real(omega, dataset.normalise(dataset.images[indices]))

  def _one_class(self, shared: Shared, each: tuple[Any, ...]) -> tuple[Array, Stored]:
    """The loss of one class, and its gradient to what is stored of it."""
    params, weights, dataset, distance_key, regularisation = shared
    label, indices, omega, images, pull = each
    distance = FEATURE_DISTANCES[self.distance]
    # The embeddings of real images, whose mean is a constant ...
    features, of_mean = self._real_features(params, dataset, indices, omega)
    target = distance.target(features, of_mean, self.setup.strategy, distance_key)

    # ... and of synthetic ones, which the distance is differentiated to (IDM, Eq. 2 and 5).
    def loss(stored):
      logits, features = self._synthetic_features(params, stored, dataset, omega)
      far = distance.compare(features, target, distance_key)
      if pull is not None:
        far += _along(pull, self._last_block(params, dataset)(features))
      return far + _regulariser(logits, label, regularisation)

    return jax.value_and_grad(loss)(Stored(images, weights))

  def _real_features(
    self, params: Params, dataset: Dataset, indices: Array, omega: Key
  ) -> tuple[Array, Array]:
    """Features of real images of a class, those of this device, and their weights in a mean."""
    strategy, embed = self.setup.strategy, self._embedding(params)
    real, of_mean = share_batch(strategy, self._real(dataset, indices, omega))
    return in_blocks(lambda x: embed(x)[1], real, block=strategy.blocks(len(real))), of_mean

  def _synthetic_features(
    self, params: Params, stored: Stored, dataset: Dataset, omega: Key
  ) -> tuple[Array, Array]:
    """Logits and features of the synthetic images of a class."""
    _, strategy, augmentations, formation = self.setup
    synthetic = augmentations.synthetic(omega, formation.decode(stored, dataset.whitening))
    block = strategy.synthetic_blocks(len(synthetic))
    return in_blocks(self._embedding(params), synthetic, block=block)

  def _centres(self, shared: Shared, each: tuple[Any, ...]) -> tuple[Array, Array, Array]:
    """What the last block gives, of one class: of its real images, with their weights in a mean,
    and the centre of its synthetic ones.
    """
    params, weights, dataset, _, _ = shared
    _, indices, omega, images = each
    last = self._last_block(params, dataset)
    found = self._real_features(params, dataset, indices, omega)
    features, of_mean = gather_batch(self.setup.strategy, found)
    ours = self._synthetic_features(params, Stored(images, weights), dataset, omega)[1]
    return last(features), of_mean, last(ours).mean(0)

  def _last_block(self, params: Params, dataset: Dataset) -> Callable[[Array], Array]:
    """From features of all blocks to those of the last one."""
    blocks, one = self.setup.network.blocks, jnp.zeros((1, *dataset.image_shape), jnp.float32)
    assert blocks is not None
    outputs = jax.eval_shape(blocks, params, one)[1]
    return last_block(outputs, FEATURE_DISTANCES[self.distance].blocks)

  def _pull(
    self, real: Array, of_mean: Array, centres: Array, labels: Array
  ) -> tuple[Array, Array]:
    """How well the centres of all classes classify real images (CAFE).

    The cross-entropy sees all classes, the gradient to the images one at a time: that of a sum
    over classes is that of the inner products of centres with the gradients to them.

    Args:
      real: features `[classes, batch_real, D]`.
      of_mean: weights `[classes, batch_real]`.
      centres: `[classes, D]`.
      labels: `[classes]`.

    Returns:
      The share of each class in the weighted mean cross-entropy, `[classes]`, and the gradient of
      that to the centres.
    """
    weight = FEATURE_DISTANCES[self.distance].discrimination

    def crossed(centres):
      logits = jnp.einsum("cbd,kd->cbk", real, centres, precision=jax.lax.Precision.HIGHEST)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[:, None])
      found = weight * (of_mean * losses).sum(1) / len(labels)
      return found.sum(), found

    gradients, losses = jax.grad(crossed, has_aux=True)(centres)
    return losses, gradients

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
    real_features, whole = embed(real)[1], self.setup.strategy._replace(mesh=(1, 1))
    of_mean = jnp.full(self.batch_real, 1 / self.batch_real, jnp.float32)
    targets = jax.vmap(lambda of_class: distance.target(of_class, of_mean, whole, distance_key))(
      real_features
    )

    def total(stored):
      synthetic = self.setup.formation.decode_classes(stored, dataset.whitening)
      logits, features = embed(jax.vmap(self.setup.augmentations.synthetic)(omegas, synthetic))
      distances = jax.vmap(distance.compare, (0, 0, None))(features, targets, distance_key)
      regularisers = jax.vmap(_regulariser, (0, 0, None))(logits, labels, regularisation)
      losses = distances + regularisers
      if distance.discrimination:
        last = self._last_block(params, dataset)
        weights, ours = jnp.tile(of_mean, (len(labels), 1)), last(features)
        pull = self._pull(last(real_features), weights, ours.mean(1), labels)
        losses += jax.vmap(_along)(pull, ours)
      return losses.sum(), losses

    gradients, losses = jax.grad(total, has_aux=True)(stored)
    return losses, gradients


def bytes_together(config: ConfigDict, dataset: Dataset, layout: Strategy) -> int:
  """About how many bytes of a device the activations of all classes take at once.

  Of a real image it is the largest alone, of a synthetic one what its gradient needs: some four
  times as much, in a network that halves the side again and again.
  """
  bound, (classes, batch) = setup(config, dataset, layout), layout.mesh
  images = -(-config.batch_real // batch) + 4 * bound.formation.decoded(config.ipc)
  largest = nn.largest_activation(bound.network, dataset.image_shape)
  return -(-dataset.num_classes // classes) * images * largest


def _along(pull: tuple[Array, Array], features: Array) -> Array:
  """A loss of one class whose gradient goes through the centre of its features `[n, D]`.

  Args:
    pull: the loss, a constant, and its gradient to the centre `[D]`.
    features: of the class.
  """
  loss, slope = jax.lax.stop_gradient(pull)
  along = product(features.mean(0), slope)
  return loss + along - jax.lax.stop_gradient(along)


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
