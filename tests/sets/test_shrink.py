"""Sets that are stored smaller, against means of pixels taken by hand."""

import numpy as np
import pytest

from dcjax.common.errors import UserError
from dcjax.sets.shrink import shrunk
from dcjax.sets.synthetic import SyntheticSet


def synthetic(images, kind="normalised", factor=1):
  """A set of two classes."""
  metadata = {
    "method": "idc", "dataset": "x", "class_names": ["a", "b"], "range": kind, "mean": [0.5],
    "std": [0.25], "formation": {"name": "uniform", "factor": factor, "bound": 128},
    "ipc": images.shape[1], "config": {}, "seed": 0, "version": "0",
  }  # fmt: skip
  labels = np.repeat(np.arange(2, dtype=np.int32)[:, None], images.shape[1], axis=1)
  return SyntheticSet(images.astype(np.float32), labels, metadata)


def test_constant_images_come_back_from_a_quarter_of_the_pixels(tmp_path):
  values = np.linspace(-1, 1, 2 * 8, dtype=np.float32).reshape(2, 8, 1, 1, 1)
  before = synthetic(np.broadcast_to(values, (2, 8, 4, 4, 1)))
  after = shrunk(before, 2)
  assert after.images.shape == (2, 2, 4, 4, 1) and after.labels.shape == (2, 2)
  np.testing.assert_allclose(after.decoded(), before.images, atol=1e-6)
  # Four images side by side in one that is stored.
  np.testing.assert_allclose(
    after.images[0, 0, ::2, ::2, 0].ravel(), values[0, :4].ravel(), atol=1e-6
  )
  after.save(tmp_path / "set.npz")
  assert SyntheticSet.load(tmp_path / "set.npz").formation().factor == 2


def test_the_middle_of_a_shrunk_slope_is_the_mean_of_its_pixels():
  slope = np.broadcast_to(np.arange(8.0).reshape(1, 1, 1, 8, 1), (2, 4, 8, 8, 1))
  small = shrunk(synthetic(slope), 2).images[0, 0, 0, :4, 0]
  # A triangle of twice the width of a pixel: weights 1, 3, 3, 1 of 8 on pixels 1 to 4 and 3 to 6.
  expected = [np.dot([1, 3, 3, 1], [a, a + 1, a + 2, a + 3]) / 8 for a in (1, 3)]
  np.testing.assert_allclose(small[1:3], expected, atol=1e-5)


def test_pixels_stay_within_their_range():
  images = np.random.default_rng(0).random((2, 4, 6, 6, 1))
  before = synthetic(images, "unit")
  after = shrunk(before, 2)
  assert after.images.min() >= 0 and after.images.max() <= 1
  assert after.decoded().shape == before.decoded().shape


def test_what_cannot_shrink():
  images = np.zeros((2, 6, 4, 4, 1))
  before = synthetic(images)
  assert shrunk(before, 1) is before
  with pytest.raises(UserError, match="6 images per class are no multiple of the 4"):
    shrunk(before, 2)
  with pytest.raises(UserError, match="it has a formation already; give one"):
    shrunk(synthetic(np.zeros((2, 4, 4, 4, 1)), factor=2), 2)
