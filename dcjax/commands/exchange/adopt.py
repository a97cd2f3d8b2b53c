"""Sets of other programs as `SyntheticSet`s: what their numbers mean, and checks that they may.

A file seldom says what its numbers are. `Meaning` does; where the user leaves something out, it is
what the layout's programs write, and where values contradict it the file is refused.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import logging

from dcjax.commands.exchange.readers import Found
from dcjax.common.errors import UserError, check_least, check_name
from dcjax.common.version import __version__
from dcjax.data import Dataset, base_name
from dcjax.data.zca import VARIANTS, Whitening
from dcjax.sets import formation, labels
from dcjax.sets.synthetic import RANGES, SyntheticSet

# Means and deviations by which the programs of DC's line normalise pixels, one for each channel.
STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
  "mnist": ((0.1307,), (0.3081,)),
  "fashion_mnist": ((0.2861,), (0.3530,)),
  "svhn_cropped": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
  "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
  "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
  "tiny_imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of all other datasets in colour
# What layouts hold, where their programs agree.
_RANGES = {"results": "normalised", "pair": "unit"}
_OF_DC = ("results", "parts")  # layouts of programs that normalise by `STATISTICS`
_CHANNELS_FIRST = ("results", "pair", "parts", "h5")  # whose images in one row are so
_FORMATIONS = tuple(name for name in formation.NAMES if name not in ("identity", "learnable"))
_SLACK = 0.01  # of pixels beyond [0, 1], which rounding may bring
# IDC's program stores pixels that it has not clipped since the last change of networks.
_BEYOND, _FEW = 0.5, 0.2  # how far those are from [0, 1] at most, and how many
_FARTHEST = 50.0  # of a normalised or whitened number
_LARGEST = 1e6  # of a soft label, and of a step size


class Meaning(NamedTuple):
  """What the numbers of a file are; empty: what is usual for its layout.

  Attributes:
    range: 'unit', pixels in [0, 1]; 'normalised', (pixel - mean) / std; or 'whitened'.
    mean: of 'normalised', one for each channel; empty: those of the programs of DC's line, or of an
      .npz or .h5 file those of the dataset.
    std: likewise.
    whitening: an entry of `zca.VARIANTS`; only with 'whitened'.
    labels: an entry of `labels.KINDS`, of labels that are not integers.
    formation: how an image is cut into more, an entry of `formation.NAMES`.
    factor: of the formation.
  """

  range: str = ""
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  whitening: str = ""
  labels: str = ""
  formation: str = "uniform"
  factor: int = 1


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
  ipc, mean, std = len(images) // dataset.num_classes, _floats(dataset.mean), _floats(dataset.std)
  forming = formation.create(
    meaning.formation if meaning.factor > 1 else "identity", meaning.factor,
    shape=dataset.image_shape, ipc=ipc, mean=tuple(mean), std=tuple(std),
    unit=meaning.range == "unit",
  )  # fmt: skip
  if meaning.range == "normalised":
    pixels = images * np.asarray(meaning.std) + np.asarray(meaning.mean)
    images = (pixels - np.array(mean)) / np.array(std)
  metadata = {
    "dataset": dataset.name,
    "class_names": list(dataset.class_names),
    "range": meaning.range,
    "zca": whitening is not None,
    **({"zca_variant": meaning.whitening} if whitening is not None else {}),
    "mean": mean,
    "std": std,
    "formation": forming.metadata(),
    "ipc": ipc,
    "version": __version__,
    **about,
  }
  if soft is not None:
    metadata["label_kind"] = meaning.labels
    if problem := labels.problem(soft, meaning.labels):
      raise UserError(f"--labels: {meaning.labels}, but {problem.removeprefix('its ')}")
  if found.rate is not None:
    metadata["student_lr"] = _rate(found.rate)
  shape = (dataset.num_classes, ipc)
  return SyntheticSet(
    images[order].reshape(*shape, *dataset.image_shape).astype(np.float32),
    np.repeat(np.arange(dataset.num_classes, dtype=np.int32)[:, None], ipc, axis=1),
    metadata,
    whitening=whitening,
    soft_labels=None if soft is None else soft[order].reshape(*shape, -1),
  )


def settle(meaning: Meaning, found: Found, dataset: Dataset) -> Meaning:
  """The meaning with what its user left out; checks what was given.

  Raises:
    UserError: a value is unknown, contradicts another one, or cannot be guessed.
  """
  is_bytes = found.images.dtype == np.uint8
  kind = meaning.range or ("unit" if is_bytes else _RANGES.get(found.layout, ""))
  if meaning.whitening:
    check_name("--whitening", meaning.whitening, VARIANTS)
    kind = meaning.range or "whitened"
  if not kind:
    raise UserError(
      f"--range: nothing in the file says what its numbers are; give unit for pixels in [0, 1], "
      f"normalised, or --whitening with one of {', '.join(VARIANTS)}"
    )
  check_name("--range", kind, RANGES)
  if (kind == "whitened") != bool(meaning.whitening):
    raise UserError(
      f"--range: {kind}, and --whitening is {meaning.whitening or 'not given'}; give whitened "
      f"together with one of {', '.join(VARIANTS)}"
    )
  if is_bytes and kind != "unit":
    raise UserError(f"--range: {kind}, but the file holds whole pixels of 0 to 255; give unit")
  check_least("--factor", meaning.factor, 1)
  check_name("--formation", meaning.formation, _FORMATIONS)
  if meaning.formation != "uniform" and meaning.factor == 1:
    raise UserError(
      f"--formation: {meaning.formation}, but --factor is 1; give a factor of 2 or more"
    )
  if found.layout == "pair" and meaning.factor == 1:
    logging.warning("import: no image is cut into more; those of IDC and NCFM are, by --factor 2")
  mean, std = _statistics(meaning, found.layout, dataset)
  if kind != "normalised" and (meaning.mean or meaning.std):
    raise UserError(f"--mean: the range is {kind}; leave --mean and --std out, or give normalised")
  return meaning._replace(range=kind, mean=mean, std=std, labels=_label_kind(meaning, found))


def _statistics(
  meaning: Meaning, layout: str, dataset: Dataset
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  channels = dataset.image_shape[-1]
  for field, values in (("--mean", meaning.mean), ("--std", meaning.std)):
    if values and (len(values) != channels or not all(map(math.isfinite, values))):
      raise UserError(f"{field}: {values} are not {channels} numbers, one for each channel")
  if not all(0 <= value <= 1 for value in meaning.mean + meaning.std):
    raise UserError(
      f"--mean: {meaning.mean} and --std: {meaning.std} are not of pixels in [0, 1]; divide those "
      "of 0 to 255 by 255"
    )
  if any(value <= 0 for value in meaning.std):
    raise UserError(f"--std: {meaning.std} are not all above 0; give positive numbers")
  if bool(meaning.mean) != bool(meaning.std):
    raise UserError("--mean: --std belongs to it; give both or neither")
  name = base_name(dataset.name)
  if (name, layout) == ("cifar100", "parts"):  # MTT and DATM have one pair for both
    name = "cifar10"
  known = STATISTICS.get(name, _IMAGENET if channels == 3 else None)
  if layout not in _OF_DC or known is None:
    known = tuple(_floats(dataset.mean)), tuple(_floats(dataset.std))
  return meaning.mean or known[0], meaning.std or known[1]


def _label_kind(meaning: Meaning, found: Found) -> str:
  """What soft labels are: as given, or as their values tell."""
  if meaning.labels:
    check_name("--labels", meaning.labels, labels.KINDS)
  values = _rows(found.labels)
  if values is None or values.ndim < 2:
    if meaning.labels not in ("", "hard"):
      raise UserError(f"--labels: {meaning.labels}, but the file has hard labels; leave it out")
    return "hard"
  if meaning.labels == "hard":
    raise UserError("--labels: hard, but the file has soft ones; give prob, logit or centred")
  values = values.astype(np.float64)
  are_prob = not labels.problem(values, "prob")
  if meaning.labels in ("logit", "centred") and are_prob:
    raise UserError(
      f"--labels: {meaning.labels}, but none is below 0 and their sums are 1; give prob"
    )
  if meaning.labels or are_prob:
    return meaning.labels or "prob"
  raise UserError(
    f"--labels: the file has soft labels in [{values.min():.3g}, {values.max():.3g}], which may be "
    "logits or centred; give logit (DATM) or centred (KIP, FRePo); those that RaT-BPTT learns are "
    "neither, and cannot be imported"
  )


def _rows(given: np.ndarray | None) -> np.ndarray | None:
  """Labels `[N]`, or soft ones `[N, classes]`, of any shape that ends so."""
  if given is None or given.ndim < 2 or not given.size:
    return None if given is None else given.reshape(-1)
  rows = given.reshape(-1, given.shape[-1])
  return rows[:, 0] if rows.shape[1] == 1 else rows


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
  given, soft = _rows(found.labels), None
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


def _rate(rate: float) -> float:
  if not 1 / _LARGEST < rate < _LARGEST:
    raise UserError(f"import: its learned step size is {rate}; use another file")
  return rate


def _floats(values: Any) -> list[float]:
  return np.asarray(jnp.asarray(values), np.float32).tolist()
