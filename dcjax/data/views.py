"""A data set seen otherwise: some of its classes only, or its images in another form."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from PIL import Image

from dcjax.common.errors import UserError, nearest
from dcjax.data.dataset import Dataset, from_arrays, take

_RGB = 3  # channels


def of_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
  """Some classes of a data set, labelled in the order given.

  Args:
    dataset: any.
    names: of the classes, at least two.

  Returns:
    Their images of both splits. Mean and deviation stay those of all classes, so that the images
    of different classes can be trained on together.

  Raises:
    UserError: a name is unknown or there twice, or is the only one.
  """
  names = tuple(names)
  _check_names(dataset, names)
  chosen = [dataset.class_names.index(name) for name in names]
  offsets = np.asarray(dataset.offsets)
  sizes = np.diff(offsets)[chosen]
  places = np.concatenate([np.arange(offsets[k], offsets[k + 1]) for k in chosen])
  new_labels = np.full(dataset.num_classes, -1, np.int32)
  new_labels[chosen] = np.arange(len(names))
  test_labels = new_labels[np.asarray(dataset.test_labels)]
  tested = np.flatnonzero(test_labels >= 0)
  if not tested.size:
    raise UserError(
      f"dataset.classes: {', '.join(names)} have no test images in {dataset.name}; choose others"
    )
  return dataclasses.replace(
    take(dataset, places, np.repeat(np.arange(len(names)), sizes), len(names)),
    test_images=dataset.test_images[tested],
    test_labels=jnp.array(test_labels[tested]),
    class_names=names,
  )


def _check_names(dataset: Dataset, names: tuple[str, ...]) -> None:
  if len(names) < 2:
    raise UserError(f"dataset.classes: {len(names)} class; at least 2 are needed")
  for name in names:
    if name not in dataset.class_names:
      hint = nearest(name, dataset.class_names)
      raise UserError(f"dataset.classes: no class '{name}' in {dataset.name}; {hint}")
    if names.count(name) > 1:
      raise UserError(f"dataset.classes: '{name}' is there twice; name each class once")


def in_rgb(dataset: Dataset, side: int) -> Dataset:
  """The images as squares of one size in RGB, so that data sets can be mixed (DC, Appendix A).

  Args:
    dataset: any.
    side: height and width that images are brought to, bilinearly, antialiased where they shrink.

  Returns:
    The data set itself if its images are like that; else one whose mean and deviation are
    measured anew.

  Raises:
    UserError: `side` is below 1.
  """
  if side < 1:
    raise UserError(f"dataset.rgb_side: {side} is no image size; give 1 or more, such as 32")
  if dataset.image_shape == (side, side, _RGB):
    return dataset
  seen = from_arrays(
    _rgb(np.asarray(dataset.images), side),
    np.asarray(dataset.labels),
    _rgb(np.asarray(dataset.test_images), side),
    np.asarray(dataset.test_labels),
    name=dataset.name,
    class_names=dataset.class_names,
  )
  return dataclasses.replace(seen, source=dataset.source)


def _rgb(images: np.ndarray, side: int) -> np.ndarray:
  """Images uint8 `[N, H, W, C]` as uint8 `[N, side, side, 3]`."""
  result = np.empty((len(images), side, side, _RGB), np.uint8)
  for number, image in enumerate(images):
    # Pillow has no images of one channel with an axis for it.
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    resized = picture.resize((side, side), Image.Resampling.BILINEAR)
    result[number] = np.asarray(resized.convert("RGB"))
  return result
