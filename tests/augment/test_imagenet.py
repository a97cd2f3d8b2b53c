"""What networks see of ImageNet: crops that lie inside, resized as by hand, flips and colours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import UserError, augment
from dcjax.augment import imagenet

KEY = jax.random.key(0)
COUNT, SIDE = 200, 8
IMAGES = np.random.RandomState(0).standard_normal((COUNT, SIDE, SIDE, 3)).astype(np.float32)
apply = jax.jit(augment.by_name("imagenet"))
crop = jax.jit(imagenet.resized_crop)
draw_crops = jax.jit(jax.vmap(imagenet.draw_crop, (0, *[None] * 4)))


def draw(height, width, area=imagenet.AREA, aspect=imagenet.ASPECT):
  """Corners and sides of 4000 crops, `[4000, 2]` each."""
  crops = draw_crops(jax.random.split(KEY, 4000), float(height), float(width), area, aspect)
  return map(np.asarray, crops)


# --- Crops ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 64), (30, 60), (90, 10)])
def test_crops_lie_inside(height, width):
  corners, sides = draw(height, width)
  assert (corners >= 0).all() and (sides > 0).all()
  assert (corners + sides <= np.array([height, width]) * (1 + 1e-6)).all()


def test_crops_fill_their_ranges():
  corners, sides = draw(64, 64)
  area, aspect = sides.prod(1) / 64**2, sides[:, 1] / sides[:, 0]
  assert 0.08 - 1e-5 <= area.min() < 0.09 and 0.95 < area.max() <= 1
  assert 0.75 - 1e-5 <= aspect.min() < 0.76 and 1.32 < aspect.max() <= 4 / 3 + 1e-5
  # The logarithm is symmetric; of small crops, which all fit, the area is uniform.
  np.testing.assert_allclose(np.log(aspect).mean(), 0, atol=0.02)
  np.testing.assert_allclose(area[area < 0.5].mean(), (0.08 + 0.5) / 2, atol=0.02)
  places = corners / (64 - sides)
  np.testing.assert_allclose(places.mean(0), 0.5, atol=0.03)
  assert np.abs(np.corrcoef(places.T)[0, 1]) < 0.06  # rows and columns on their own


@pytest.mark.parametrize(
  ("aspect", "expected"), [(1.0, (20, 40)), (4.0, (20, 80)), (16.0, (10, 80))]
)
def test_a_crop_that_fits_nowhere_is_cut_to_the_image(aspect, expected):
  """Of the image's area, and squares would be 40 x 40 pixels."""
  corners, sides = draw(20, 80, area=(1.0, 1.0), aspect=(aspect, aspect))
  np.testing.assert_allclose(sides, np.broadcast_to(expected, sides.shape), rtol=1e-5)
  assert (corners >= 0).all() and (corners + sides <= np.array([20, 80]) * (1 + 1e-6)).all()


def test_a_crop_of_the_full_area_is_the_identity():
  corners, sides = draw(SIDE, SIDE, area=(1.0, 1.0), aspect=(1.0, 1.0))
  assert (corners == 0).all() and (sides == SIDE).all()
  np.testing.assert_allclose(crop(IMAGES[0], corners[0], sides[0]), IMAGES[0], atol=1e-6)


@pytest.mark.parametrize(("corner", "sides"), [((2.0, 1.0), (4.0, 3.0)), ((0.3, 2.2), (7.1, 3.5))])
def test_a_crop_is_sampled_bilinearly(corner, sides):
  expected = IMAGES[0]
  for axis, (first, side) in enumerate(zip(corner, sides, strict=True)):
    places = first + (np.arange(SIDE) + 0.5) * side / SIDE - 0.5
    low = np.clip(places, 0, SIDE - 2).astype(int)
    share = np.expand_dims(np.clip(places, 0, SIDE - 1) - low, [1 - axis, 2])
    expected = (1 - share) * expected.take(low, axis) + share * expected.take(low + 1, axis)
  outputs = crop(IMAGES[0], jnp.array(corner), jnp.array(sides))
  np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_a_crop_of_one_colour_stays_as_it_is():
  image = np.broadcast_to(np.float32([-2, 0.5, 3]), (SIDE, SIDE, 3))
  corners, sides = draw(SIDE, SIDE)
  for number in range(20):
    np.testing.assert_allclose(crop(image, corners[number], sides[number]), image, atol=1e-5)


# --- Colours -------------------------------------------------------------------------------


def test_jitter_is_that_of_pixels_whose_black_is_at_the_black_level():
  """Normalised pixels x are then 2 (p - 1), if the deviation is a half."""
  pixels = np.random.RandomState(1).random((5, 4, 3)).astype(np.float32)
  factors = np.float32([0.7, 1.3, 0.6])
  expected = pixels * factors[0]
  expected = (expected - expected.mean()) * factors[1] + expected.mean()
  grey = expected.mean(-1, keepdims=True)
  expected = (expected - grey) * factors[2] + grey
  outputs = imagenet.jitter(2 * (pixels - 1), factors)
  np.testing.assert_allclose(outputs, 2 * (expected - 1), atol=1e-5)


def test_factors_are_within_two_fifths():
  """Images of one grey are only scaled about black."""
  images = np.full_like(IMAGES, imagenet.BLACK + 1)
  factors = np.asarray(apply(KEY, images)) - imagenet.BLACK
  assert 0.6 - 1e-4 < factors.min() < 0.62 and 1.38 < factors.max() < 1.4 + 1e-4
  assert np.ptp(factors, axis=(1, 2, 3)).max() < 1e-4


# --- All of it -----------------------------------------------------------------------------


def test_half_of_the_images_are_mirrored():
  ramp = np.broadcast_to(np.arange(SIDE, dtype=np.float32)[None, None, :, None], IMAGES.shape)
  outputs = apply(KEY, ramp)
  assert 0.4 < np.mean(outputs[:, 4, 0, 0] > outputs[:, 4, -1, 0]) < 0.6


def test_each_image_has_a_draw_of_its_own_that_the_key_decides():
  images = np.broadcast_to(IMAGES[:1], IMAGES.shape)
  first, again, other = (apply(jax.random.key(seed), images) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert len(np.unique(np.round(first, 3).reshape(COUNT, -1), axis=0)) == COUNT
  assert not np.allclose(first, other, atol=0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type_stay(channels):
  images = IMAGES[..., :channels]
  outputs = jax.eval_shape(augment.by_name("imagenet"), KEY, images)
  assert (outputs.shape, outputs.dtype) == (images.shape, images.dtype)


# --- As IDC's code has it at evaluation ----------------------------------------------------

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
  ("alphas", "colour"),
  [
    ((1, 0, 0), (-0.5675 * 0.2175, -0.5808 * 0.2175, -0.5836 * 0.2175)),
    ((0, 2, 0), (0.7192 * 0.0376, -0.0045 * 0.0376, -0.6948 * 0.0376)),
    ((0, 1, 1), (0.7192 * 0.0188 + 0.4009 * 0.0045, -0.0045 * 0.0188 - 0.8140 * 0.0045,
                 -0.6948 * 0.0188 + 0.4203 * 0.0045)),
  ],
)  # fmt: skip
def test_light_is_added_along_the_components_of_colour(alphas, colour):
  added = imagenet.light(IMAGES[0], jnp.array(alphas, jnp.float32)) - IMAGES[0]
  np.testing.assert_allclose(added, np.broadcast_to(np.float32(colour), added.shape), atol=1e-6)


def test_colours_are_jittered_in_any_order():
  image, (brightness, contrast, saturation) = IMAGES[0], (0.7, 1.2, 0.6)

  def grey(image):
    return 0.299 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]

  def change(image, number):
    if number == 0:
      return brightness * image
    about = grey(image).mean() if number == 1 else grey(image)
    factor = contrast if number == 1 else saturation
    return factor * image + (1 - factor) * about

  run = jax.jit(imagenet.jitter_pixels)
  factors = jnp.array([brightness, contrast, saturation])
  for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
    expected = image
    for number in order:
      expected = change(expected, number)
    np.testing.assert_allclose(run(image, factors, jnp.array(order)), expected, atol=1e-5)


def test_crops_of_idc_have_half_the_area_or_more(monkeypatch):
  """Without colours, the slopes of ramps say how large a crop was."""
  monkeypatch.setattr(imagenet, "JITTER", 0.0)
  monkeypatch.setattr(imagenet, "LIGHTING", 0.0)
  rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
  ramps = np.broadcast_to(np.stack([rows, columns, 0 * rows], -1), IMAGES.shape)
  outputs = np.asarray(jax.jit(lambda key, images: augment.by_name("idc_imagenet")(key, images))(
    KEY, (ramps - MEAN) / STD
  )) * STD + MEAN  # fmt: skip
  # In the middle, away from the edges of the image.
  height = (outputs[:, 5, 4, 0] - outputs[:, 3, 4, 0]) * SIDE / 2
  width = (outputs[:, 4, 5, 1] - outputs[:, 4, 3, 1]) * SIDE / 2
  area = np.abs(height * width)
  assert 0.5 - 1e-3 <= area.min() < 0.52 and 0.93 < area.max() <= 1 + 1e-3
  assert 0.3 < (width < 0).mean() < 0.7  # mirrored


def test_light_of_idc_has_a_tenth_of_the_components_deviations(monkeypatch):
  monkeypatch.setattr(imagenet, "JITTER", 0.0)
  grey = np.zeros((4000, 2, 2, 3), np.float32)  # normalised, whatever the crop
  outputs = jax.jit(lambda images: augment.by_name("idc_imagenet")(KEY, images))(grey)
  added = np.asarray(outputs)[:, 0, 0] * STD
  directions = np.array(imagenet.DIRECTIONS)
  np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-3)
  np.testing.assert_allclose(
    (added @ directions).std(0), 0.1 * np.array([0.2175, 0.0188, 0.0045]), rtol=0.05
  )


def test_images_without_colours_have_no_lighting():
  augment.check_images("x", "idc_imagenet", (8, 8, 3))
  with pytest.raises(
    UserError, match=r"^x: 'idc_imagenet' is for RGB, but images have 1 channels;"
  ):
    augment.check_images("x", "idc_imagenet", (8, 8, 1))
