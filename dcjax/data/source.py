"""A kind of source of datasets: how it is loaded, and what is true of all that it loads."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dcjax.common.errors import UserError
from dcjax.common.registry import guarded, label
from dcjax.data.dataset import Dataset, from_arrays
from dcjax.data.on_disk import Memory
from dcjax.data.pixels import Range, as_range, as_uint8


class Source(NamedTuple):
  """A kind of source. `common.registry.DATASETS` finds it by `dataset.name`.

  Attributes:
    load: `load(fields, memory) -> Dataset`, for the section `dataset` of a config.
    ranged: whether pixels may be of any type, so that `range` says what black and white are.
    sided: whether images are brought to `side`.
    resized: whether test images may be larger than `side` at first, as `test_resize` says.
    columns: whether it has the columns that `image_column` and `label_column` name.
    classes: whether `load` takes `classes` alone; otherwise they are chosen from what it returns.
    streams: whether training images can stay on disk, as `memory` says.
    field: what an error blames for its images.
  """

  load: Callable[[Any, Memory], Dataset]
  ranged: bool = False
  sided: bool = False
  resized: bool = False
  columns: bool = False
  classes: bool = False
  streams: bool = False
  field: str = "dataset.data_dir"


def required_path(fields: Any, what: str) -> str | os.PathLike[str]:
  """Returns `data_dir`; raises `UserError` if it is empty, which asks for `what`."""
  if not fields.data_dir:
    raise UserError(
      f"dataset.data_dir: empty, but dataset.name={fields.name} needs it; give {what}"
    )
  return fields.data_dir


def in_memory(what: str) -> UserError:
  """The error of a dataset whose training images cannot stay on disk."""
  return UserError(
    f"compute.streaming: {what} is in memory whole; leave it out, or save the images as files and "
    "use dataset.name=folder"
  )


def from_any(
  arrays: Sequence[np.ndarray],
  *,
  name: str,
  class_names: Sequence[str] | None,
  limits: Range | None,
) -> Dataset:
  """`from_arrays`, for pixels of any type and labels that may stand in a column.

  Args:
    arrays: `x_train`, `y_train`, `x_test` and `y_test`.
    name: see `from_arrays`.
    class_names: see `from_arrays`.
    limits: the values of black and white; None: those of the images' type (`dcjax.data.pixels`).

  Raises:
    UserError: see `from_arrays`.
  """
  x_train, y_train, x_test, y_test = arrays
  return from_arrays(
    as_uint8("x_train", x_train, limits),
    _labels("y_train", y_train),
    as_uint8("x_test", x_test, limits),
    _labels("y_test", y_test),
    name=name,
    class_names=class_names,
  )


def _labels(key: str, labels: np.ndarray) -> np.ndarray:
  """Labels `[N]`, also from a column of them; checks that an image has one."""
  if labels.ndim == 2 and labels.shape[1] > 1:
    raise UserError(
      f"{key}: {labels.shape[1]} labels an image; choose a data set of one label an image, or save "
      "one of these columns alone"
    )
  return labels[:, 0] if labels.ndim == 2 and labels.shape[1] else labels


def of_user(name: str, found: Any) -> Source:
  """A user's object as a source.

  Args:
    name: of the object, as `dataset.name` has it.
    found: a `Source`, or `load(fields)`. Both may return, in place of a `Dataset`, arrays
      `(x_train, y_train, x_test, y_test)` and perhaps class names, as `from_any` takes them.

  Raises:
    UserError: it is neither.
  """
  source = found
  if not isinstance(found, Source):
    if not callable(found):
      raise UserError(
        f"dataset.name: {name} is of type {type(found).__name__}; name a function load(fields)"
      )
    source = Source(lambda fields, memory: found(fields), ranged=True, sided=True)

  def load(fields, memory):
    made, limits = source.load(fields, memory), as_range(fields.range)
    if not isinstance(made, Dataset):
      return _of_arrays(name, made, limits)
    if limits and source is not found:
      raise UserError(
        f"dataset.range: {name} returns a Dataset, whose pixels are levels already; leave range out"
      )
    return made

  return source._replace(load=guarded("dataset.name", name, load), field="dataset.name")


def _of_arrays(name: str, made: Any, limits: Range | None) -> Dataset:
  """The dataset of the arrays that a user's function has returned."""
  if not isinstance(made, tuple | list) or len(made) not in (4, 5):
    size = f" of {len(made)}" if isinstance(made, tuple | list) else ""
    raise UserError(
      f"dataset.name: {name} returns a {type(made).__name__}{size}; return a dcjax.data.Dataset, "
      "or (x_train, y_train, x_test, y_test) and, if wanted, class names"
    )
  arrays, names = [np.asarray(array) for array in made[:4]], (*made[4:], None)[0]
  try:
    return from_any(arrays, name=label(name), class_names=names, limits=limits)
  except UserError as error:
    raise UserError(f"dataset.name: {name}: {error}") from error
