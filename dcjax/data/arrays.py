"""Checks on arrays that come from outside: images, labels, names, statistics.

Every error names the argument of `dataset.from_arrays` that it is about, the value
seen and what to do. Sources put the config field and the file in front.
"""

from collections.abc import Sequence

import numpy as np

from dcjax.common.errors import UserError

Shape = tuple[int, ...]


def as_images(field: str, images: np.ndarray) -> np.ndarray:
  """Returns `images` as uint8 `[N, H, W, C]`, or says why they are no images.

  Args:
    field: what to call the array in an error.
    images: uint8 `[N, H, W, C]` with C of 1 or 3, or `[N, H, W]`.

  Raises:
    UserError: other type, other shape, or nothing in it.
  """
  images = np.asanyarray(images)
  if images.dtype != np.uint8:
    raise UserError(f"{field}: expected uint8 pixels in 0..255, got {images.dtype}; convert them")
  if images.ndim == 3:
    images = images[..., np.newaxis]
  if images.ndim != 4 or images.shape[-1] not in (1, 3):
    raise UserError(
      f"{field}: expected shape [N, H, W, C] with C of 1 or 3, got"
      f" {list(images.shape)}; channels come last"
    )
  if not images.size:
    raise UserError(f"{field}: holds no pixels, shape {list(images.shape)}; add images")
  return images


def as_labels(field: str, labels: np.ndarray, count: int) -> np.ndarray:
  """Returns `labels` as integers `[count]`, or says what is wrong with them.

  Args:
    field: what to call the array in an error.
    labels: integers `[count]`, none negative.
    count: how many images there are.

  Raises:
    UserError: other type, other shape, or a negative label.
  """
  labels = np.asarray(labels)
  if labels.dtype.kind not in "iu":
    raise UserError(f"{field}: expected integer labels, got {labels.dtype}; convert them")
  if labels.shape != (count,):
    raise UserError(
      f"{field}: expected shape [{count}], one label an image, got {list(labels.shape)}"
    )
  if labels.min() < 0:
    raise UserError(f"{field}: found label {labels.min()}; labels are 0..classes-1")
  return labels


def as_class_names(names: Sequence[str] | None, y_train: np.ndarray) -> tuple[str, ...]:
  """Returns the class names, in the order of the labels; numbers if none are given.

  Args:
    names: one name a class, or None.
    y_train: integers `[N]`, none negative.

  Raises:
    UserError: a class without a training image, a label beyond the last class, fewer
      than two classes, or a name used twice.
  """
  given = None if names is None else tuple(str(name) for name in names)
  classes = int(y_train.max()) + 1 if given is None else len(given)
  if classes < 2:
    raise UserError(f"y_train: found {classes} class; at least 2 are needed")
  check_in_range("y_train", y_train, classes)
  _check_no_empty_class(y_train, classes, given)
  if given is None:
    return tuple(str(label) for label in range(classes))
  repeated = next((name for k, name in enumerate(given) if name in given[:k]), None)
  if repeated is not None:
    raise UserError(f"class_names: '{repeated}' is there twice; give each class its own")
  return given


def check_in_range(field: str, labels: np.ndarray, classes: int) -> None:
  """Checks that no label is beyond the last class.

  Raises:
    UserError: there is one.
  """
  if labels.max() >= classes:
    raise UserError(
      f"{field}: found label {labels.max()}, but there are {classes} classes;"
      f" labels are 0..{classes - 1}"
    )


def _check_no_empty_class(y_train: np.ndarray, classes: int, names: tuple[str, ...] | None) -> None:
  """Checks that each of `classes` has a training image; names the first that has none."""
  present = np.unique(y_train)
  if len(present) < classes:
    gaps = np.flatnonzero(present != np.arange(len(present)))
    label = int(gaps[0]) if gaps.size else len(present)
    called = f" ('{names[label]}')" if names else ""
    raise UserError(
      f"y_train: class {label}{called} has no training image;"
      " add some, or leave the class out and renumber"
    )


def check_statistics(mean: np.ndarray, std: np.ndarray, channels: int) -> None:
  """Checks that a given mean and standard deviation can normalise images.

  Raises:
    UserError: not one finite number a channel, or a deviation that is not positive.
  """
  for field, value in (("mean", mean), ("std", std)):
    if value.shape != (channels,) or not np.isfinite(value).all():
      raise UserError(
        f"{field}: expected {channels} finite numbers, one a channel, got {value.tolist()}"
      )
  if (std <= 0).any():
    raise UserError(f"std: expected positive numbers, got {std.tolist()}")
