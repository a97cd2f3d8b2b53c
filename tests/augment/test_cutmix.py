"""CutMix: images of one colour each tell what was pasted where, and what became of targets."""

import jax
import numpy as np
import pytest

from dcjax.augment import cutmix

COUNT, HEIGHT, WIDTH = 6, 12, 8
# Each image has the colour, and the class, of its number.
NUMBERS = np.arange(COUNT, dtype=np.float32)
IMAGES = np.broadcast_to(NUMBERS[:, None, None, None], (COUNT, HEIGHT, WIDTH, 2))
TARGETS = np.eye(COUNT, dtype=np.float32)
KEYS = jax.random.split(jax.random.key(0), 300)
mix = jax.jit(cutmix)
mix_batches = jax.jit(jax.vmap(cutmix, (0, None, None, None)))


@pytest.fixture(scope="module")
def mixed():
  """Batches of images and targets, one for each key."""
  images, targets = mix_batches(KEYS, IMAGES, TARGETS, 1.0)
  return np.asarray(images), np.asarray(targets)


def foreign(images):
  """Which pixels `[..., COUNT, H, W]` are of another image."""
  return (np.asarray(images) != IMAGES)[..., 0]


def test_targets_are_the_shares_of_the_pixels(mixed):
  images, targets = mixed
  shares = [(images[..., 0] == number).mean((2, 3)) for number in range(COUNT)]
  np.testing.assert_allclose(targets, np.stack(shares, -1), atol=1e-6)
  np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)


def test_one_box_is_pasted_into_all_images_of_a_batch(mixed):
  boxes = foreign(mixed[0])
  box = boxes.any(1)  # an image may be its own partner
  rows, cols = box.any(2), box.any(1)
  np.testing.assert_array_equal(box, rows[:, :, None] & cols[:, None])
  for inside in (rows, cols):  # they are contiguous
    assert (np.abs(np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(int), axis=1)).sum(1) <= 2).all()
  pasted = boxes.any((2, 3))
  assert (boxes == box[:, None] & pasted[..., None, None]).all()


def test_partners_are_a_permutation(mixed):
  images, _ = mixed
  box = foreign(images).any(1)
  for batch, inside in zip(images[..., 0], box, strict=True):
    if inside.any():
      partners = batch[:, inside][:, 0]
      assert sorted(partners) == list(range(COUNT))


def test_the_box_has_the_shape_of_the_image_and_lies_anywhere(mixed):
  box = foreign(mixed[0]).any(1)
  rows, cols = box.any(2), box.any(1)
  # Boxes that touch no border were not clipped: both sides are the same share of the image's.
  whole = ~(rows[:, [0, -1]].any(1) | cols[:, [0, -1]].any(1)) & rows.any(1)
  shares = rows.sum(1)[whole] / HEIGHT, cols.sum(1)[whole] / WIDTH
  assert whole.sum() > 20 and (np.abs(shares[0] - shares[1]) < 1 / WIDTH).all()
  assert (box.mean(0) > 0.1).all()
  # Without clipping a box would take half of an image on average.
  assert 0.2 < box.mean() < 0.5


def test_without_probability_nothing_changes():
  for key in KEYS[:20]:
    images, targets = mix(key, IMAGES, TARGETS, 0.0)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(targets, TARGETS)


def test_a_batch_is_mixed_with_the_probability():
  images, _ = mix_batches(KEYS, IMAGES, TARGETS, 0.3)
  always, _ = mix_batches(KEYS, IMAGES, TARGETS, 1.0)
  share = foreign(images).any((1, 2, 3)).mean() / foreign(always).any((1, 2, 3)).mean()
  assert 0.2 < share < 0.4


def test_the_key_decides():
  first, again, other = (mix(KEYS[number], IMAGES, TARGETS, 1.0) for number in (0, 0, 1))
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert not np.array_equal(first[0], other[0])


def test_vmap_is_a_loop(mixed):
  for number in range(5):
    images, targets = mix(KEYS[number], IMAGES, TARGETS, 1.0)
    np.testing.assert_array_equal(images, mixed[0][number])
    np.testing.assert_allclose(targets, mixed[1][number], atol=1e-6)
