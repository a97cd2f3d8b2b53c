"""ZCA whitening of images, as KIP (Nguyen et al. 2021) has it and IDC tests it (Appendix E.6).

Images that are normalised channel by channel are taken as vectors and multiplied by the inverse
square root of their regularised covariance: pixels lose their correlation and keep their places.
KIP's code brings each single image to mean zero and norm one before; that has no inverse, and is
left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcjax.common.errors import UserError
from dcjax.common.types import Array

REGULARISATION = 0.1  # times the mean eigenvalue, is added to all of them (KIP's code)
LARGEST = 64 * 64 * 3  # numbers in an image; as many squared are in a matrix, here 600 MB
BLOCK = 1 << 24  # numbers that are summed at a time, which bounds the memory used


class Whitening(NamedTuple):
  """A whitening and its way back, for images `[H, W, C]` of D = H * W * C numbers."""

  mean: Array | np.ndarray  # [D] float32, of the normalised training images
  matrix: Array | np.ndarray  # [D, D] float32, symmetric
  inverse: Array | np.ndarray  # [D, D] float32, of the matrix

  def whiten(self, images: Array) -> Array:
    """What networks see of normalised images `[..., H, W, C]`: (images - mean) @ matrix."""
    rows = images.reshape(-1, len(self.mean)) - self.mean[None]
    return _multiply(rows, self.matrix).reshape(images.shape)

  def unwhiten(self, images: Array) -> Array:
    """Normalised images from whitened ones, `[..., H, W, C]`: images @ inverse + mean."""
    rows = _multiply(images.reshape(-1, len(self.mean)), self.inverse)
    return (rows + self.mean[None]).reshape(images.shape)


def _multiply(rows: Array, matrix: Array | np.ndarray) -> Array:
  """The product in float32, also on backends that would take less by default."""
  return jnp.matmul(rows, matrix, precision=jax.lax.Precision.HIGHEST)


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
  regularisation: float = REGULARISATION,
) -> Whitening:
  """The whitening of training images; not for use inside jit.

  With the eigenvalues S and eigenvectors U of the covariance X^T X / N of normalised images X
  about their mean, the matrix is U diag(1 / sqrt(S + regularisation * mean(S))) U^T, in float64.

  Args:
    images: uint8 `[N, H, W, C]`; N may be less than D.
    mean: `[C]`, that images are normalised with, of pixels in [0, 1].
    std: `[C]`, likewise.
    regularisation: see above; positive, unless N is well above D.

  Raises:
    UserError: the images are too large, or all the same.
  """
  check_size(images.shape[1:])
  centre, covariance = _moments(images, mean.astype(np.float64), std.astype(np.float64))
  eigenvalues, vectors = np.linalg.eigh(covariance)
  average = eigenvalues.mean()
  if average < 1e-6:  # it is about 1 for normalised images that differ
    raise UserError(
      "dataset.zca: the training images are all the same, which cannot be whitened; leave it at "
      "False"
    )
  scales = np.sqrt(np.maximum(eigenvalues, 0) + regularisation * average)
  matrix, inverse = (vectors / scales) @ vectors.T, (vectors * scales) @ vectors.T
  centre, matrix, inverse = (part.astype(np.float32) for part in (centre, matrix, inverse))
  return Whitening(centre, matrix, inverse)


def _moments(
  images: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Mean `[D]` and covariance `[D, D]` of normalised images, both float64."""
  count, size = len(images), images[0].size
  total, squares = np.zeros(size), np.zeros((size, size))
  block = max(1, BLOCK // size)
  for start in range(0, count, block):
    rows = ((images[start : start + block] / 255 - mean) / std).reshape(-1, size)
    total += rows.sum(0)
    squares += rows.T @ rows
  centre = total / count
  return centre, squares / count - np.outer(centre, centre)
