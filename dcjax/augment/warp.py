"""Affine maps of an image, bilinearly sampled."""

from functools import partial

import jax
import jax.numpy as jnp

from dcjax.common.products import product
from dcjax.common.types import Array


def warp(image: Array, matrix: Array, shift: Array, fill: Array | None) -> Array:
  """Samples an image `[H, W, C]` bilinearly at mapped places.

  What is outside it is `fill` `[C]`; None: as the nearest pixel of its edge.

  The map from output to input places is about the centre: matrix `[2, 2]`, shift `[2]`, both for
  (row, column). Pixel centres are at half-integers, which is PyTorch's `align_corners=False`.
  """
  height, width, _ = image.shape
  centre = jnp.array([height - 1, width - 1], matrix.dtype) / 2
  grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)
  offsets = grid.astype(matrix.dtype) - centre[None, None]
  rows, cols = jnp.moveaxis(product(offsets, matrix.T) + (centre + shift)[None, None], -1, 0)

  def channel(plane, value=None):
    sample = partial(jax.scipy.ndimage.map_coordinates, coordinates=[rows, cols], order=1)
    return sample(plane, mode="nearest") if value is None else sample(plane - value) + value

  of_fill = () if fill is None else (fill,)
  return jax.vmap(channel, in_axes=-1, out_axes=-1)(image, *of_fill)


def rotation(degrees: Array) -> Array:
  """The matrix `[2, 2]` of a rotation of places (row, column)."""
  sine, cosine = jnp.sin(jnp.deg2rad(degrees)), jnp.cos(jnp.deg2rad(degrees))
  return jnp.array([[cosine, -sine], [sine, cosine]])
