"""Kernel ridge regression: what a set says of other images, in closed form, and how wrong it is."""

import math
from typing import cast

import jax
import jax.numpy as jnp

from dcjax import data
from dcjax.common.errors import UserError
from dcjax.common.products import product
from dcjax.common.types import Array
from dcjax.data import Dataset
from dcjax.sets.formation import Formation, Stored

LEAST = 1e-6  # that cosines stay off one, where the derivatives of a kernel are not finite


def regularised(kernel: Array, regularisation: float) -> Array:
  """A kernel `[n, n]` with some of its mean diagonal added to the diagonal."""
  count = kernel.shape[0]
  added = regularisation * jnp.trace(kernel) / count
  return kernel + added * jnp.eye(count, dtype=kernel.dtype)


def predict(of_set: Array, of_others: Array, targets: Array, regularisation: float) -> Array:
  """What a set predicts of other images, `[m, classes]`.

  Not finite where the regularised kernel is not positive definite.

  Args:
    of_set: the kernel among the set's images, `[n, n]`.
    of_others: the kernel of other images and those of the set, `[m, n]`.
    targets: of the set's images, `[n, classes]`.
    regularisation: in units of the kernel's mean diagonal.
  """
  factor = jax.scipy.linalg.cho_factor(regularised(of_set, regularisation))
  return product(of_others, jax.scipy.linalg.cho_solve(factor, targets))


def centred(labels: Array, classes: int) -> Array:
  """One-hot labels less 1/classes, float32 `[..., classes]`."""
  return jax.nn.one_hot(labels, classes, dtype=jnp.float32) - jnp.float32(1 / classes)


def initial_labels(classes: int, ipc: int) -> Array:
  """Those of a set's images, centred, before they are learned, `[classes, ipc, classes]`."""
  return jnp.repeat(centred(jnp.arange(classes), classes)[:, None], ipc, axis=1)


def decoded(
  formation: Formation, stored: Stored, labels: Array, dataset: Dataset, *, flip: bool = False
) -> tuple[Array, Array]:
  """A set as a regression takes it: images `[n, H, W, C]` and labels `[n, classes]`.

  With `flip` mirrored images follow, with the same labels.
  """
  decoded_images, decoded_labels = formation.decode_labelled(stored, labels, dataset.whitening)
  images, _ = data.as_batch(decoded_images)
  targets = cast(Array, decoded_labels).reshape(len(images), -1)
  if not flip:
    return images, targets
  return jnp.concatenate([images, images[:, :, ::-1]]), jnp.concatenate([targets, targets])


def margin(labels: Array, most: float) -> Array:
  """By how much the highest number of a label is above the next, up to `most`; the mean."""
  highest = jax.lax.top_k(labels, 2)[0]
  return jnp.minimum(highest[..., 0] - highest[..., 1], most).mean()


def check_definite(predicted: Array, count: int, regularisation: float) -> None:
  """Raises `UserError` if what the kernel of a set's images predicts is not finite; not for jit.

  Args:
    predicted: by `predict`.
    count: of the set's images.
    regularisation: that it was predicted with.
  """
  if not jnp.isfinite(predicted).all():
    raise UserError(
      f"regularisation: with {regularisation} the kernel of the {count} initial images is not "
      "positive definite in float32; raise it tenfold"
    )


def half_squares(predicted: Array, targets: Array) -> Array:
  """Half the squared distance, the mean over images; both `[m, classes]`."""
  return 0.5 * jnp.square(predicted - targets).sum(-1).mean()


def ntk(ours: Array, theirs: Array, *, depth: int, weight: float, bias: float) -> Array:
  """The neural tangent kernel of an infinitely wide fully connected ReLU network.

  Jacot et al. 2018, with the arc-cosine kernels of Cho and Saul 2009; layers are parametrised as in
  neural_tangents ('ntk').

  Args:
    ours: images `[n, H, W, C]`.
    theirs: images `[m, H, W, C]`.
    depth: hidden layers.
    weight: the deviation of weights, in units of 1 / sqrt(inputs).
    bias: the deviation of biases.

  Returns:
    `[n, m]`.
  """
  ours, theirs = (each.reshape(len(each), -1) for each in (ours, theirs))
  size = ours.shape[1]

  def dense(covariance):
    return weight**2 * covariance + bias**2

  def inner(a, b):
    return product(a, b) / size

  covariance = dense(inner(ours, theirs.T))
  mine, others = (dense(jnp.square(each).sum(1) / size) for each in (ours, theirs))
  kernel = covariance
  for _ in range(depth):
    scale = jnp.sqrt(mine[:, None] * others[None])
    cosine = jnp.clip(covariance / scale, -1 + LEAST, 1 - LEAST)
    angle = jnp.pi - jnp.arccos(cosine)
    slope = angle / (2 * math.pi)
    covariance = dense(scale * (jnp.sqrt(1 - cosine**2) + cosine * angle) / (2 * math.pi))
    mine, others = dense(mine / 2), dense(others / 2)
    kernel = weight**2 * slope * kernel + covariance
  return kernel
