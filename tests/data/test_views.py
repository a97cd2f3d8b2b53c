"""Classes chosen from a data set, and images brought to another form."""

import numpy as np
import pytest
from PIL import Image

from dcjax import data
from dcjax.common.errors import UserError
from dcjax.data import digits, from_arrays, views
from tests.data.test_digits import config


@pytest.fixture(scope="module")
def dataset():
  """Three classes of three, one and two grey images, in no order."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (6, 4, 6, 1), dtype=np.uint8)
  tests = rng.integers(0, 256, (4, 4, 6, 1), dtype=np.uint8)
  labels, test_labels = np.array([0, 2, 0, 1, 2, 0]), np.array([2, 1, 0, 2])
  return from_arrays(images, labels, tests, test_labels, name="abc", class_names=["a", "b", "c"])


def test_classes_are_labelled_in_the_order_given(dataset):
  seen = views.of_classes(dataset, ("c", "a"))
  assert seen.class_names == ("c", "a") and seen.largest_class == 3
  np.testing.assert_array_equal(seen.labels, [0, 0, 1, 1, 1])
  np.testing.assert_array_equal(seen.offsets, [0, 2, 5])
  np.testing.assert_array_equal(seen.source, [1, 4, 0, 2, 5])
  np.testing.assert_array_equal(seen.images, np.asarray(dataset.images)[[4, 5, 0, 1, 2]])
  np.testing.assert_array_equal(seen.test_labels, [0, 1, 0])
  np.testing.assert_array_equal(seen.test_images, np.asarray(dataset.test_images)[[0, 2, 3]])
  np.testing.assert_array_equal(seen.mean, dataset.mean)
  assert [leaf.dtype for leaf in (seen.labels, seen.offsets, seen.source)] == ["int32"] * 3


@pytest.mark.parametrize(
  ("names", "message"),
  [
    (("a",), "dataset.classes: 1 class; at least 2 are needed"),
    (("a", "d"), "dataset.classes: no class 'd' in abc; "),
    (("a", "b", "a"), "dataset.classes: 'a' is there twice; name each class once"),
  ],
)
def test_classes_that_cannot_be_taken(dataset, names, message):
  with pytest.raises(UserError) as caught:
    views.of_classes(dataset, names)
  assert str(caught.value).startswith(message)


def test_images_in_rgb(dataset):
  seen = views.in_rgb(dataset, 8)
  assert seen.image_shape == seen.test_images.shape[1:] == (8, 8, 3)
  image = Image.fromarray(np.asarray(dataset.images)[3, ..., 0])
  expected = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR))
  for channel in range(3):
    np.testing.assert_array_equal(seen.images[3, ..., channel], expected)
  np.testing.assert_array_equal(seen.source, dataset.source)
  np.testing.assert_array_equal(seen.labels, dataset.labels)
  pixels = np.asarray(seen.images) / 255
  np.testing.assert_allclose(seen.mean, pixels.mean((0, 1, 2)), rtol=1e-5)
  assert views.in_rgb(seen, 8) is seen
  with pytest.raises(UserError, match=r"^dataset.rgb_side: -1 is no image size"):
    views.in_rgb(dataset, -1)


def test_a_config_asks_for_both():
  seen = data.load(config(classes=("7", "1"), rgb_side=10))
  whole = digits.load()
  assert seen.class_names == ("7", "1") and seen.image_shape == (10, 10, 3)
  assert len(seen.images) == (np.isin(whole.labels, (1, 7))).sum()
  np.testing.assert_array_equal(seen.mean, views.in_rgb(whole, 10).mean)
