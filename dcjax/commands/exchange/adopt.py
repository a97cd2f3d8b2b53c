"""Sets of other programs as `SyntheticSet`s; what contradicts their meaning is refused."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging

from dcjax.commands.exchange.meaning import Meaning, rows
from dcjax.commands.exchange.readers import Found
from dcjax.common.errors import UserError
from dcjax.data import Dataset
from dcjax.data.zca import Whitening
from dcjax.run import experiment
from dcjax.sets import formation, labels
from dcjax.sets.formation import Stored
from dcjax.sets.synthetic import SyntheticSet

_CHANNELS_FIRST = ("results", "pair", "parts", "h5")  # whose images in one row are so
_SLACK = 0.01  # of pixels beyond [0, 1], which rounding may bring
# IDC's program stores pixels that it has not clipped since the last change of networks.
_BEYOND, _FEW = 0.5, 0.2  # how far those are from [0, 1] at most, and how many
_FARTHEST = 50.0  # of a normalised or whitened number
_LARGEST = 1e6  # of a soft label, and of a step size


def adopt(
  found: Found,
  meaning: Meaning,
  dataset: Dataset,
  whitening: Whitening | None,
  about: dict[str, Any],
) -> SyntheticSet:
  """The set that a file holds.

  Args:
    found: its arrays.
    meaning: what they are, as `settle` returns it.
    dataset: that it was made of; its class names, mean and deviation become the set's.
    whitening: of 'whitened' images.
    about: metadata: `method`, `config`, `seed`, and what else is to be kept.

  Raises:
    UserError: the arrays do not fit the dataset, or contradict what they are said to be.
  """
  images = _as_images(found, dataset.image_shape)
  _check_values(images, meaning.range)
  classes, soft = _classes(found, len(images), dataset)
  order = np.argsort(classes, kind="stable")
  ipc = len(images) // dataset.num_classes
  mean, std = np.asarray(dataset.mean), np.asarray(dataset.std)
  forming = formation.create(
    meaning.formation if meaning.factor > 1 else "identity", meaning.factor,
    shape=dataset.image_shape, ipc=ipc, mean=tuple(mean.tolist()), std=tuple(std.tolist()),
    unit=meaning.range == "unit",
  )  # fmt: skip
  if meaning.range == "normalised":
    pixels = images * np.asarray(meaning.std) + np.asarray(meaning.mean)
    images = (pixels - mean) / std
  if soft is not None:
    about = {**about, "label_kind": meaning.labels}
    if problem := labels.problem(soft, meaning.labels):
      raise UserError(f"--labels: {meaning.labels}, but {problem.removeprefix('its ')}")
  if found.rate is not None:
    about = {**about, "student_lr": _step_size(found.rate)}
  shape = dataset.num_classes, ipc
  stored = Stored(jnp.asarray(images[order].reshape(*shape, *dataset.image_shape), jnp.float32), {})
  learned = None if soft is None else soft[order].reshape(*shape, -1)
  whitened = dataset.whitened(whitening)
  return experiment.set_of(whitened, forming, stored, meaning.whitening, learned, **about)


def _as_images(found: Found, shape: tuple[int, int, int]) -> np.ndarray:
  """Images `[N, H, W, C]` float32; of bytes pixels in [0, 1]."""
  height, width, channels = shape
  array = found.images
  if array.ndim == 2 and found.layout in _CHANNELS_FIRST and array.shape[1] == math.prod(shape):
    array = array.reshape(-1, channels, height, width)
  images, count = array, len(array) if array.ndim else 0
  if count and images.shape[1:] == (channels, height, width):
    images = images.transpose(0, 2, 3, 1)
  elif count and images.shape[1:] in ((height * width * channels,), (height, width)):
    images = images.reshape(count, *shape) if images.ndim == 2 or channels == 1 else images
  elif count and channels == 1 and images.shape[1:] == (height, width, 3):
    if (images != images[..., :1]).any():
      raise UserError("import: the images are in colour, but the dataset is grey; name another")
    images = images[..., :1]  # a grey image in a file of three channels
  if not count or images.shape[1:] != shape:
    raise UserError(
      f"import: images are {list(found.images.shape)}, which are not those of the dataset, "
      f"{list(shape)} each; name its dataset with --dataset"
    )
  if images.dtype == np.uint8:
    return images.astype(np.float32) / 255
  images = images.astype(np.float32)
  if not np.isfinite(images).all():
    raise UserError("import: images hold numbers that are not finite; use another file")
  return images


def _check_values(images: np.ndarray, kind: str) -> None:
  """Raises `UserError` for numbers that cannot be what they are said to be."""
  least, most = float(images.min()), float(images.max())
  values = f"--range: {kind}, but the images are in [{least:.3g}, {most:.3g}]"
  if kind == "unit" and (least < -_SLACK or most > 1 + _SLACK):
    share = float(((images < -_SLACK) | (images > 1 + _SLACK)).mean())
    if least < -_BEYOND or most > 1 + _BEYOND or share > _FEW:
      raise UserError(f"{values}; give normalised, or --whitening, or bring them to [0, 1]")
    logging.warning(
      "import: the images are in [%.3g, %.3g], %.2g %% of the numbers beyond black and white; "
      "taking them for pixels that were not clipped",
      least, most, 100 * share,
    )  # fmt: skip
  if kind != "unit" and least >= 0:
    raise UserError(f"{values}, without a number below 0; give unit if they are pixels in [0, 1]")
  if kind != "unit" and max(-least, most) > _FARTHEST:
    raise UserError(f"{values}, which no normalised pixels are; give a file of others")
  if least == most:
    raise UserError(f"import: all numbers of the images are {least:.3g}; use another file")


def _classes(found: Found, count: int, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
  """The class of each image, int `[N]`, and soft labels `[N, classes]` if there are any."""
  number = dataset.num_classes
  given, soft = rows(found.labels), None
  if count % number:
    raise UserError(
      f"import: {count} images are not as many of each of {number} classes; name the dataset with "
      "--dataset, or give a file with as many of each"
    )
  if given is not None and len(given) != count:
    raise UserError(f"import: {count} images, but {len(given)} labels; use another file")
  if given is not None and given.ndim == 2:
    if given.shape[1] != number:
      raise UserError(f"import: labels of {given.shape[1]} classes, but the dataset has {number}")
    if not np.isfinite(given).all():
      raise UserError("import: labels hold numbers that are not finite; use another file")
    if np.abs(given.astype(np.float64)).max() > _LARGEST:
      raise UserError(f"import: labels are up to {given.max():.3g} in size; use another file")
    soft = given.astype(np.float32)
    return _of_soft(soft, count // number), soft
  in_order = np.repeat(np.arange(number), count // number)
  if given is None:
    logging.warning("import: no labels; taking the images to be sorted by class")
    return in_order, None
  if found.names:
    return _by_name(given, found.names, dataset.class_names), None
  values = given.astype(np.float64)
  classes = np.where((values >= 0) & (values < number), values, 0).astype(np.int64)
  if (classes != values).any() or (np.bincount(classes, minlength=number) != count // number).any():
    raise UserError(
      f"import: labels are not {count // number} of each of {number} classes, counted from 0; give "
      "a file with as many of each"
    )
  return classes, None


def _of_soft(soft: np.ndarray, ipc: int) -> np.ndarray:
  """The class of each image: the likeliest, where that gives all classes as many images."""
  likeliest = soft.argmax(-1)
  if (np.bincount(likeliest, minlength=soft.shape[1]) == ipc).all():
    return likeliest
  in_order = np.repeat(np.arange(soft.shape[1]), ipc)
  logging.warning(
    "import: taking the images to be sorted by class; %.0f %% of the soft labels say the same",
    100 * (likeliest == in_order).mean(),
  )
  return in_order


def _by_name(given: np.ndarray, names: tuple[str, ...], classes: tuple[str, ...]) -> np.ndarray:
  """Classes by the names of folders: those of the dataset, or its numbers."""
  numbers = [name for name in names if name.isdecimal()]
  if set(names) <= set(classes):
    of = [classes.index(name) for name in names]
  elif len(numbers) == len(names) and set(map(int, names)) == set(range(len(classes))):
    of = [int(name) for name in names]
  else:
    other = next(name for name in names if name not in classes)
    raise UserError(
      f"import: '{other}' is no class of the dataset; call folders as its classes, "
      f"such as {classes[0]}, or by their numbers"
    )
  found = np.array(of)[given]
  sizes = np.bincount(found, minlength=len(classes))
  if len(set(sizes.tolist())) > 1:
    least, most = int(sizes.argmin()), int(sizes.argmax())
    raise UserError(
      f"import: {sizes[most]} images of {classes[most]}, but {sizes[least]} of {classes[least]}; "
      "give as many of each"
    )
  return found


def _step_size(rate: float) -> float:
  if not 1 / _LARGEST < rate < _LARGEST:
    raise UserError(f"import: its learned step size is {rate}; use another file")
  return rate
