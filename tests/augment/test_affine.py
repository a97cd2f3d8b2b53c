"""DC's augmentation: what it does to ramps, constants and outsides tells what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax.augment import none, shift_or_noise, shift_scale_or_rotate

SIDE, COUNT = 20, 400
CENTRE = (SIDE - 1) / 2
augment = jax.jit(shift_scale_or_rotate)


def random_images(*shape):
  return jax.random.normal(jax.random.key(9), shape)


@pytest.mark.parametrize("shape", [(3, 8, 8, 1), (2, 9, 6, 3), (1, 5, 5, 2)])
def test_shape_and_type_stay(shape):
  images = random_images(*shape)
  outputs = jax.eval_shape(shift_scale_or_rotate, jax.random.key(0), images)
  assert (outputs.shape, outputs.dtype) == (images.shape, images.dtype)


def test_the_same_key_gives_the_same_images_and_another_key_others():
  images = random_images(4, 8, 8, 1)
  first, again, other = (augment(jax.random.key(seed), images) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert not np.allclose(first, other)


def test_images_of_one_colour_stay_as_they_are():
  images = jnp.broadcast_to(jnp.array([-2.5, 0.75, 3.0]), (64, 8, 8, 3))
  np.testing.assert_allclose(augment(jax.random.key(0), images), images, atol=1e-5)


def test_outside_an_image_is_the_mean_of_all_images_of_each_channel():
  # Black and white images: what a whole-pixel shift brings in is neither black nor white.
  images = jnp.zeros((64, 8, 8, 2)).at[16:].set(jnp.array([1.0, 2.0]))
  outputs = np.asarray(augment(jax.random.key(0), images))
  corners = outputs[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(-1, 2)
  outside = corners[np.abs(corners[:, 0] - 0.75) < 1e-4]
  assert len(outside) > 20
  np.testing.assert_allclose(outside[:, 1], 1.5, atol=1e-4)
  low, high = np.array([0.0, 0.0]) - 1e-4, np.array([1.0, 2.0]) + 1e-4
  assert (outputs >= low).all() and (outputs <= high).all()


# --- The three transforms ------------------------------------------------------------------


def affine_map(output):
  """The map from output to input places `(matrix, shift)` that a ramp shows after a warp.

  Its first two channels hold the row and the column a pixel came from, which bilinear sampling
  keeps, and its third is 1 where the pixel came from inside.
  """
  inside = np.abs(output[..., 2] - 1) < 1e-5
  assert inside.sum() > 20
  places = np.argwhere(inside) - CENTRE
  sources = output[inside][:, :2] - CENTRE
  design = np.concatenate([places, np.ones((len(places), 1))], axis=1)
  solution, *_ = np.linalg.lstsq(design, sources, rcond=None)
  np.testing.assert_allclose(design @ solution, sources, atol=1e-3)  # it is affine
  return solution[:2].T, solution[2]


@pytest.fixture(scope="module")
def maps():
  """Matrices `[COUNT, 2, 2]` and shifts `[COUNT, 2]` of as many images of one batch."""
  rows, cols = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
  ramp = np.stack([rows, cols, np.ones_like(rows)], -1).astype(np.float32)
  images = np.repeat(ramp[None], COUNT + 1, 0)
  images[-1] = -100  # so that the fill is nothing that a ramp holds
  outputs = np.asarray(augment(jax.random.key(3), images))[:-1]
  matrices, shifts = zip(*map(affine_map, outputs), strict=True)
  return np.stack(matrices), np.stack(shifts)


def near(values, expected):
  return np.abs(values - expected).reshape(len(values), -1).max(1) < 1e-3


@pytest.fixture(scope="module")
def kinds(maps):
  """Which images were shifted, scaled, rotated: bool `[COUNT]` each."""
  matrices, shifts = maps
  diagonal = near(matrices[:, [0, 1], [1, 0]], 0)
  shifted = near(matrices, np.eye(2))
  scaled = diagonal & near(shifts, 0) & ~shifted
  return shifted, scaled, ~shifted & ~scaled


def test_each_image_gets_one_of_three_alike_often(kinds):
  np.testing.assert_allclose([kind.mean() for kind in kinds], 1 / 3, atol=0.08)


def test_shifts_are_by_whole_pixels_up_to_four_each_way(maps, kinds):
  shifts = maps[1][kinds[0]]
  np.testing.assert_allclose(shifts, np.round(shifts), atol=1e-3)
  for axis in (0, 1):
    assert set(np.round(shifts[:, axis])) == set(range(-4, 5))
  assert len({tuple(pair) for pair in np.round(shifts)}) > 40  # rows and columns on their own


def test_scaling_keeps_the_centre_and_stays_within_a_fifth(maps, kinds):
  scales = 1 / maps[0][kinds[1]][:, [0, 1], [0, 1]]
  assert scales.min() > 0.8 - 1e-3 and scales.max() < 1.2 + 1e-3
  assert scales.min() < 0.82 and scales.max() > 1.18
  assert np.abs(scales[:, 0] - scales[:, 1]).max() > 0.2  # rows and columns on their own


def test_rotation_keeps_the_centre_and_stays_within_45_degrees(maps, kinds):
  matrices, shifts = (values[kinds[2]] for values in maps)
  np.testing.assert_allclose(shifts, 0, atol=1e-3)
  products = matrices @ matrices.swapaxes(1, 2)
  np.testing.assert_allclose(products, np.broadcast_to(np.eye(2), products.shape), atol=1e-3)
  angles = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
  np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-3)
  assert angles.min() > -45.1 and angles.max() < 45.1
  assert angles.min() < -40 and angles.max() > 40


def test_images_of_one_batch_are_drawn_on_their_own(maps):
  rows = {tuple(row) for row in np.round(np.concatenate([maps[0].reshape(-1, 4), maps[1]], 1), 3)}
  assert len(rows) > COUNT / 2  # only whole-pixel shifts can coincide


def test_none_changes_nothing():
  images = random_images(2, 4, 4, 1)
  np.testing.assert_array_equal(none(jax.random.key(0), images), images)


def test_shift_or_noise_does_one_of_the_two():
  ramp = np.arange(2.0 * 12 * 12, dtype=np.float32).reshape(2, 12, 12, 1)
  images = np.repeat(ramp[:1], 200, 0)
  outputs = np.asarray(jax.jit(shift_or_noise)(jax.random.key(0), images))
  noisy = np.abs(outputs - images).max((1, 2, 3)) < 0.01
  shifts = np.unique((outputs - images)[~noisy, 6, 6, 0])
  assert 0.4 < noisy.mean() < 0.6
  np.testing.assert_allclose((outputs - images)[noisy].std(), 0.001, rtol=0.05)
  np.testing.assert_allclose(shifts, np.round(shifts), atol=1e-3)
  assert shifts.min() >= -4 * 13 and shifts.max() <= 4 * 13 and len(shifts) > 30
