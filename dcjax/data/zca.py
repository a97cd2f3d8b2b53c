"""ZCA whitening of images, as those who condense images have it.

Images that are normalised channel by channel are taken as vectors and multiplied by the inverse
square root of their regularised covariance: pixels lose their correlation and keep their places.
Three variants have been published. A set that was optimised for one may teach nothing about real
images of another, though real images look much alike under all three:

- `frepo` (FRePo, RCIG): images about their mean; a tenth of the mean eigenvalue is added to all of
  the covariance X^T X / N. The default, and what IDC is tested with here (Appendix E.6).
- `kip` (KIP, Nguyen et al. 2021; RaT-BPTT): each image is brought to mean zero and norm one before,
  in place of all images to their mean; the rest as `frepo`.
- `kornia` (MTT, TESLA, FTD, DATM): of pixels in [0, 1], not normalised by channel; 0.1 is added to
  the eigenvalues of X^T X / (N - 1).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dcjax.common.errors import UserError
from dcjax.common.products import product
from dcjax.common.types import Array

VARIANTS = ("frepo", "kip", "kornia")
REGULARISATION = 0.1  # what is added to eigenvalues, in units of their mean but for `kornia`
LARGEST = 64 * 64 * 3  # numbers in an image; as many squared are in a matrix, here 600 MB
BLOCK = 1 << 24  # numbers that are summed at a time, which bounds the memory used


class Whitening(NamedTuple):
  """A whitening and its way back, for images `[H, W, C]` of D = H * W * C numbers."""

  mean: Array | np.ndarray  # [D] float32, of the normalised training images
  matrix: Array | np.ndarray  # [D, D] float32
  inverse: Array | np.ndarray  # [D, D] float32, of the matrix
  # bool, whether each image is brought to mean zero and norm one first
  unit: Array | np.ndarray = np.zeros((), bool)

  def whiten(self, images: Array) -> Array:
    """What networks see of normalised images `[..., H, W, C]`: (images - mean) @ matrix."""
    rows = images.reshape(-1, len(self.mean))
    rows = jnp.where(self.unit, _to_unit(rows), rows) - self.mean[None]
    return product(rows, self.matrix).reshape(images.shape)

  def unwhiten(self, images: Array) -> Array:
    """Normalised images from whitened ones, `[..., H, W, C]`: images @ inverse + mean.

    Where single images were brought to mean zero and norm one, these are of mean zero and deviation
    one.
    """
    rows = product(images.reshape(-1, len(self.mean)), self.inverse) + self.mean[None]
    scale = np.sqrt(np.float32(len(self.mean)))
    return jnp.where(self.unit, rows * scale, rows).reshape(images.shape)


def _to_unit(rows: Array) -> Array:
  """Each row with mean zero and norm one; zeros where all its numbers are the same."""
  centred = rows - rows.mean(-1, keepdims=True)
  norm = jnp.linalg.norm(centred, axis=-1, keepdims=True)
  return centred / jnp.where(norm > 0, norm, 1)


def check_size(shape: tuple[int, ...]) -> None:
  """Raises `UserError` if images `[H, W, C]` are too large to be whitened."""
  size = int(np.prod(shape))
  if size > LARGEST:
    raise UserError(
      f"dataset.zca: images of {list(shape)} are {size} numbers, which is too many for a matrix of "
      f"{size} x {size}; {LARGEST} at most: take smaller images, or leave dataset.zca at False"
    )


def fit(
  images: np.ndarray,
  mean: np.ndarray,
  std: np.ndarray,
  variant: str = "frepo",
  regularisation: float = REGULARISATION,
) -> Whitening:
  """The whitening of training images; not for use inside jit.

  With the eigenvalues S and eigenvectors U of the covariance, the matrix is
  U diag(1 / sqrt(S + r)) U^T, in float64, where r is the regularisation times the mean of S. That
  of `kornia` is for pixels, and r the regularisation itself; what is returned takes normalised
  images all the same.

  Args:
    images: uint8 `[N, H, W, C]`; N may be less than D.
    mean: `[C]`, that images are normalised with, of pixels in [0, 1].
    std: `[C]`, likewise.
    variant: an entry of `VARIANTS`.
    regularisation: see above; positive, unless N is well above D.

  Raises:
    UserError: the images are too large, or all the same.
  """
  check_size(images.shape[1:])
  unit, pixels = variant == "kip", variant == "kornia"
  mean, std = mean.astype(np.float64), std.astype(np.float64)
  centre, covariance = _moments(images, mean, std, unit)
  average = np.trace(covariance) / len(covariance)
  if average < 1e-6 / (len(covariance) if unit else 1):  # about 1 for normalised ones that differ
    raise UserError(
      "dataset.zca: the training images are all the same, which cannot be whitened; leave it at "
      "False"
    )
  scale = np.tile(std, len(covariance) // len(std)) if pixels else np.ones(len(covariance))
  if pixels:
    covariance = covariance * np.outer(scale, scale) * (len(images) / max(1, len(images) - 1))
  eigenvalues, vectors = np.linalg.eigh(covariance)
  added = regularisation * (1 if pixels else average)
  scales = np.sqrt(np.maximum(eigenvalues, 0) + added)
  matrix = scale[:, None] * ((vectors / scales) @ vectors.T)
  inverse = ((vectors * scales) @ vectors.T) / scale
  centre, matrix, inverse = (part.astype(np.float32) for part in (centre, matrix, inverse))
  return Whitening(centre, matrix, inverse, np.array(unit))


def _moments(
  images: np.ndarray, mean: np.ndarray, std: np.ndarray, unit: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Mean `[D]` and covariance `[D, D]` of normalised images, both float64.

  With `unit`, images are brought to mean zero and norm one, and what is returned is about zero.
  """
  count, size = len(images), images[0].size
  total, squares = np.zeros(size), np.zeros((size, size))
  block = max(1, BLOCK // size)
  for start in range(0, count, block):
    rows = ((images[start : start + block] / 255 - mean) / std).reshape(-1, size)
    if unit:
      rows = rows - rows.mean(1, keepdims=True)
      rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    total += rows.sum(0)
    squares += rows.T @ rows
  centre = np.zeros(size) if unit else total / count
  return centre, squares / count - np.outer(centre, centre)
