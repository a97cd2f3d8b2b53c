"""Memories of several tasks as one set, by hand."""

import numpy as np
import pytest

from dcjax import UserError
from dcjax.applications.continual.memories import Memory, check_alike, join


def memory(classes, labels=None, **asked):
  """Two images a class, all of one value each."""
  images = np.arange(2 * classes, dtype=np.float32).reshape(classes, 2, 1, 1, 1)
  if labels is None:
    labels = np.repeat(np.arange(classes, dtype=np.int32)[:, None], 2, 1)
  return Memory(images, labels, asked)


def test_classes_are_counted_on():
  images, labels, asked = join([memory(2), memory(3)])
  assert images.ravel().tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]
  assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4] and labels.dtype == np.int32
  assert asked == {}


def test_soft_labels_say_nothing_of_other_tasks():
  soft = np.float32([[[0.9, 0.1], [0.8, 0.2]], [[0.3, 0.7], [0.4, 0.6]]])
  _, labels, asked = join([memory(2, soft, lr=0.1), memory(2, 1 - soft, lr=0.3)])
  assert labels.dtype == np.float32
  np.testing.assert_allclose(labels[1], [0.8, 0.2, 0, 0], rtol=1e-6)
  np.testing.assert_allclose(labels[4 + 2], [0, 0, 0.7, 0.3], rtol=1e-6)
  assert asked == {"lr": 0.2}


def test_centred_labels_are_centred_on_all_classes():
  one_hot = np.eye(2, dtype=np.float32)[:, None].repeat(2, 1)
  given = memory(2, one_hot - np.float32(0.5), loss="squared_error")
  _, labels, asked = join([given, given])
  np.testing.assert_allclose(labels, np.eye(4, dtype=np.float32).repeat(2, 0) - 0.25, atol=1e-7)
  assert asked == {"loss": "squared_error"}


def test_memories_that_do_not_go_together():
  soft = np.full((2, 2, 2), 0.5, np.float32)
  check_alike([memory(2), memory(3)])
  check_alike([memory(2, soft, lr=0.1), memory(2, soft, lr=0.2)])
  for others in (memory(2), memory(2, soft), memory(2, lr=0.1)):
    with pytest.raises(UserError, match="some have soft labels or a step size and others have not"):
      check_alike([memory(2, soft, lr=0.1), others])
