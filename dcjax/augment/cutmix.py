"""CutMix (Yun et al., ICCV 2019): part of each image, and of its target, becomes another's."""

import jax
import jax.numpy as jnp

from dcjax.augment.transforms import box
from dcjax.common.types import Array, Key


def cutmix(
  key: Key, images: Array, targets: Array, probability: float | Array
) -> tuple[Array, Array]:
  """Pastes a box of another image of the batch into each image, and mixes their targets.

  Box and partners are drawn once for the batch (Algorithm A1): the share lambda of an image that
  is kept from Beta(1, 1), the box with sides sqrt(1 - lambda) of the image's and its centre
  anywhere, clipped at the border. Targets are mixed by the share that is really kept.

  Args:
    key: of all draws.
    images: `[N, H, W, C]`.
    targets: probabilities `[N, classes]`.
    probability: with which the batch is mixed at all.

  Returns:
    Images and targets, of the same shapes.
  """
  count, height, width, _ = images.shape
  mix_key, share_key, centre_key, order_key = jax.random.split(key, 4)
  mixed = jax.random.bernoulli(mix_key, probability)
  # Beta(1, 1) is uniform, and so is 1 - lambda. A batch that is not mixed has an empty box.
  root = jnp.where(mixed, jnp.sqrt(jax.random.uniform(share_key, dtype=jnp.float32)), 0)
  sides = [(root * side).astype(jnp.int32) for side in (height, width)]
  centre = jax.random.randint(centre_key, (2,), 0, jnp.array([height, width]))
  order = jax.random.permutation(order_key, count)
  inside = box(height, width, centre, sides)
  kept = 1 - inside.mean(dtype=targets.dtype)
  images = jnp.where(inside[None, :, :, None], images[order], images)
  return images, kept * targets + (1 - kept) * targets[order]
