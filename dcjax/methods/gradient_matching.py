"""Gradients of real and of synthetic images, class by class: DC, DSA and IDC."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcjax import data
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.sharding import map_classes, share_batch, sum_batch
from dcjax.methods.setup import Setup
from dcjax.nn import training
from dcjax.nn.layers import initial_statistics, running_statistics
from dcjax.sets.formation import Stored, over_classes

STATISTICS_BATCH = 16  # real images a class that freeze batch norm's statistics
# From the moments of the batch, and the running averages before it.
STATISTICS: dict[str, Callable[[Params, Params], Params]] = {
  "running": running_statistics,
  "batch": lambda stats, before: stats,
}


class Batches(NamedTuple):
  """The real images of one matching, as indices into those of the dataset."""

  matched: Array  # [classes, batch_real] int32
  statistics: Array | None  # [classes, STATISTICS_BATCH] int32, with batch norm; else None


class GradientMatching(NamedTuple):
  """What is compared, and how.

  Attributes:
    setup: network, layout, augmentations and formation.
    distance: D, of two gradients of the network; an entry of `distances.DISTANCES`.
    batch_real: real images of each class.
    batch_synthetic: most synthetic images of a class, drawn at random; None: all.
    statistics: what batch norm is frozen with, an entry of `STATISTICS`: the moments of a batch of
      real images, or the running averages that PyTorch's has after a pass of it.
  """

  setup: Setup
  distance: Callable[[Params, Params], Array]
  batch_real: int
  batch_synthetic: int | None = None
  statistics: str = "batch"

  def draw(self, dataset: Dataset, key: Key) -> Batches:
    """Draws the real images of a matching; each class draws its own."""
    batch_key, statistics_key, _ = jax.random.split(key, 3)
    draw = partial(data.subset_indices, dataset)
    frozen = self.setup.network.batch_norm
    of_all = draw(statistics_key, ipc=STATISTICS_BATCH) if frozen else None
    return Batches(draw(batch_key, ipc=self.batch_real), of_all)

  def match(
    self,
    params: Params,
    stored: Stored,
    dataset: Dataset,
    batches: Batches,
    key: Key,
    *,
    stats: Params | None = None,
    compare: Callable[[Stored, Callable[[Stored], Params], Params], Any] | None = None,
  ) -> Any:
    """The distances of all classes and the gradient of their sum to what is stored.

    Args:
      params: theta.
      stored: S, images `[classes, ipc, H, W, C]`.
      dataset: the real images T.
      batches: those that `draw` has drawn, with the same key.
      key: of their augmentation; each class draws its own.
      stats: what batch norm is frozen with; None: what `freeze` returns of a new network.
      compare: `compare(stored, ours, target)`, what is computed of a class in place of that, from
        what is stored of it, `ours(stored)`, which is the gradient of its synthetic images after
        augmentation, and the gradient of its real batch.

    Returns:
      D of each class `[classes]`, and the gradient of their sum, shaped as `stored`; or what
      `compare` returns, with a leading class axis.
    """
    network, strategy, augmentations, formation = self.setup
    augment_key = jax.random.split(key, 3)[2]
    if stats is None:
      stats = self.freeze(params, dataset, batches, self.averages(params, dataset))

    def one_class(shared, each):
      params, stats, weights, dataset, augment_key = shared
      label, indices, images = each
      gradient = partial(training.gradient, network, params, stats=stats)
      # Line 6 of DC's and DSA's Algorithm 1: one omega for both batches.
      omega = jax.random.fold_in(augment_key, label)
      # Line 7: the gradient of the loss of real images, which is a constant ...
      real = augmentations.real(omega, dataset.normalise(dataset.images[indices]))
      real, of_mean = share_batch(strategy, real)
      labels, block = jnp.full(len(real), label), strategy.blocks(len(real))
      target = sum_batch(strategy, gradient(real, labels, of_mean, block=block))

      # ... and that of synthetic ones, which line 8 differentiates once more.
      def ours(stored):
        synthetic = self._draw_synthetic(formation.decode(stored, dataset.whitening), omega)
        synthetic = augmentations.synthetic(omega, synthetic)
        count = len(synthetic)
        of_mean, block = jnp.full(count, 1 / count, jnp.float32), strategy.synthetic_blocks(count)
        return gradient(synthetic, jnp.full(count, label), of_mean, block=block)

      return (compare or self._compare)(Stored(images, weights), ours, target)

    labels = jnp.arange(dataset.num_classes)
    shared = (params, stats, stored.weights, dataset, augment_key)
    found = map_classes(strategy, one_class, shared, (labels, batches.matched, stored.images))
    return found if compare else (found[0], over_classes(found[1]))

  def _compare(self, stored: Stored, ours: Callable[[Stored], Params], target: Params) -> Any:
    """Line 8, up to the step of SGD: D, and its gradient to S_c."""
    return jax.value_and_grad(lambda stored: self.distance(ours(stored), target))(stored)

  def _draw_synthetic(self, images: Array, key: Key) -> Array:
    """No more than `batch_synthetic` of the images."""
    if self.batch_synthetic is None or len(images) <= self.batch_synthetic:
      return images
    order = jax.random.permutation(jax.random.fold_in(key, 1), len(images))
    return images[order[: self.batch_synthetic]]

  def freeze(self, params: Params, dataset: Dataset, batches: Batches, before: Params) -> Params:
    """Statistics of batch norm from real images of all classes, frozen while gradients match.

    Args:
      params: theta.
      dataset: the real images.
      batches: those that `draw` has drawn.
      before: running averages before this pass, as `averages` has them.

    Returns:
      The statistics; empty without batch norm.
    """
    if batches.statistics is None:
      return {}
    images = dataset.normalise(dataset.images[batches.statistics])
    seen = self.setup.network.statistics(params, images.reshape(-1, *dataset.image_shape))
    return STATISTICS[self.statistics](seen, before)

  def averages(self, params: Params, dataset: Dataset) -> Params:
    """Running averages of batch norm before any pass; empty where nothing is frozen with them."""
    network = self.setup.network
    if not (network.batch_norm and self.statistics == "running"):
      return {}
    image = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    return initial_statistics(jax.eval_shape(network.statistics, params, image))
