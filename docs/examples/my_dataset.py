"""Handwritten digits in two classes, even and odd."""

from sklearn.datasets import load_digits


def load(fields):
  """Returns x_train, y_train, x_test, y_test and the names of the classes."""
  digits = load_digits()
  images, labels = digits.images[..., None] / 16, digits.target % 2  # [N, H, W, C] in [0, 1]
  return images[300:], labels[300:], images[:300], labels[:300], ("even", "odd")
