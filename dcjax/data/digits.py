"""Scikit-learn's handwritten digits: real images that need no download."""

import numpy as np

from dcjax.data.dataset import Dataset, from_arrays
from dcjax.data.source import Source

_TEST_EVERY = 5  # of each class, every fifth image is a test image
_LEVELS = 16  # pixels are whole numbers in 0..16


def load() -> Dataset:
  """Loads the 1797 digits of 8x8 pixels, ten classes, with a split of our own.

  The set comes without a split. Ours is fixed: of each class, in the order of the
  file, every fifth image is for testing (1442 for training, 355 for testing).

  Returns:
    The data set; pixels are scaled from 0..16 to 0..255 and rounded.

  Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI
  Machine Learning Repository, as `sklearn.datasets.load_digits` holds it.
  """
  from sklearn.datasets import load_digits

  digits = load_digits()
  images = np.rint(digits.images * (255 / _LEVELS)).astype(np.uint8)
  labels = digits.target
  test = _every_nth_of_class(labels, _TEST_EVERY)
  return from_arrays(
    images[~test],
    labels[~test],
    images[test],
    labels[test],
    name="digits",
    class_names=[str(name) for name in digits.target_names],
  )


def _every_nth_of_class(labels: np.ndarray, n: int) -> np.ndarray:
  """Marks every n-th element of each class: bool `[N]`."""
  chosen = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    chosen[np.flatnonzero(labels == label)[n - 1 :: n]] = True
  return chosen


SOURCE = Source(lambda fields, memory: load())
