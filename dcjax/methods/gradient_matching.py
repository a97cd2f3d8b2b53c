"""Gradients of one network to real and to synthetic images, class by class: DC, DSA and IDC."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcjax import augment, data
from dcjax.augment import Augmentations
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.sharding import map_classes, over_batch
from dcjax.devices.strategy import Strategy
from dcjax.nn import Network, training
from dcjax.sets.formation import IDENTITY, Formation, Stored, over_classes

STATISTICS_BATCH = 16  # real images a class that freeze batch norm's statistics


class Batches(NamedTuple):
  """The real images of one matching, as indices into those of the dataset."""

  matched: Array  # [classes, batch_real] int32
  statistics: Array | None  # [classes, STATISTICS_BATCH] int32, with batch norm; else None


class GradientMatching(NamedTuple):
  """What is compared, and how.

  Attributes:
    network: phi.
    distance: D, of two gradients of the network; an entry of `matching`.
    batch_real: real images of each class.
    strategy: how the classes are mapped.
    augmentations: of the real and the synthetic images.
    formation: from stored images to synthetic ones.
    batch_synthetic: most synthetic images of a class, drawn at random; None: all.
  """

  network: Network
  distance: Callable[[Params, Params], Array]
  batch_real: int
  strategy: Strategy
  augmentations: Augmentations = augment.NOTHING
  formation: Formation = IDENTITY
  batch_synthetic: int | None = None

  def draw(self, dataset: Dataset, key: Key) -> Batches:
    """Draws the real images of a matching; each class draws its own."""
    batch_key, statistics_key, _ = jax.random.split(key, 3)
    draw = partial(data.subset_indices, dataset)
    of_all = draw(statistics_key, ipc=STATISTICS_BATCH) if self.network.batch_norm else None
    return Batches(draw(batch_key, ipc=self.batch_real), of_all)

  def match(
    self, params: Params, stored: Stored, dataset: Dataset, batches: Batches, key: Key
  ) -> tuple[Array, Stored]:
    """The distances of all classes and the gradient of their sum to what is stored.

    Args:
      params: theta.
      stored: S, images `[classes, ipc, H, W, C]`.
      dataset: the real images T.
      batches: those that `draw` has drawn, with the same key.
      key: of their augmentation; each class draws its own.

    Returns:
      D of each class `[classes]`, and the gradient of their sum, shaped as `stored`.
    """

    # Line 8, up to the step of SGD: D and its gradient to S_c.
    def compare(stored, ours, target):
      return jax.value_and_grad(lambda stored: self.distance(ours(stored), target))(stored)

    distances, gradients = self.map(compare, params, stored, dataset, batches, key)
    return distances, over_classes(gradients)

  def map(
    self,
    compare: Callable[[Stored, Callable[[Stored], Params], Params], Any],
    params: Params,
    stored: Stored,
    dataset: Dataset,
    batches: Batches,
    key: Key,
  ) -> Any:
    """Calls `compare(stored, ours, target)` for every class; the arguments are those of `match`.

    Args:
      compare: takes what is stored of a class, `ours(stored)`, which is the gradient of its
        synthetic images after augmentation, and the gradient of the class' real batch.

    Returns:
      The results, stacked along a leading class axis.
    """
    augment_key = jax.random.split(key, 3)[2]
    stats = self._frozen_statistics(params, dataset, batches.statistics)

    def one_class(shared, label, indices, images):
      params, stats, weights, dataset, augment_key = shared
      # Line 6 of DC's and DSA's Algorithm 1: one omega for both batches.
      omega = jax.random.fold_in(augment_key, label)
      # Line 7: the gradient of the loss of real images, which is a constant ...
      real = self.augmentations.real(omega, dataset.normalise(dataset.images[indices]))
      gradient = partial(self._gradient, params, label, stats)
      target = over_batch(self.strategy, partial(gradient, self.strategy.blocks), real)

      # ... and that of synthetic ones, which line 8 differentiates once more.
      def ours(stored):
        synthetic = self._draw_synthetic(self.formation.decode(stored, dataset.whitening), omega)
        synthetic = self.augmentations.synthetic(omega, synthetic)
        weights = jnp.full(len(synthetic), 1 / len(synthetic), jnp.float32)
        return gradient(self.strategy.synthetic_blocks, synthetic, weights)

      return compare(Stored(images, weights), ours, target)

    labels = jnp.arange(dataset.num_classes)
    shared = (params, stats, stored.weights, dataset, augment_key)
    each = (labels, batches.matched, stored.images)
    return map_classes(self.strategy, one_class, shared, each)

  def _draw_synthetic(self, images: Array, key: Key) -> Array:
    """No more than `batch_synthetic` of the images."""
    if self.batch_synthetic is None or len(images) <= self.batch_synthetic:
      return images
    order = jax.random.permutation(jax.random.fold_in(key, 1), len(images))
    return images[order[: self.batch_synthetic]]

  def _gradient(
    self,
    params: Params,
    label: Array,
    stats: Params,
    blocks: Callable[[int], int],
    images: Array,
    weights: Array,
  ) -> Params:
    """Gradient of the weighted loss of images of one class, taken in `blocks(count)` together."""
    labels, block = jnp.full(len(images), label), blocks(len(images))
    return training.gradient(
      self.network, params, images, labels, weights, block=block, stats=stats
    )

  def _frozen_statistics(self, params: Params, dataset: Dataset, indices: Array | None) -> Params:
    """Statistics of batch norm from real images of all classes, frozen while gradients match."""
    if indices is None:
      return {}
    images = dataset.normalise(dataset.images[indices])
    return self.network.statistics(params, images.reshape(-1, *dataset.image_shape))
