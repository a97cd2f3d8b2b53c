"""FRePo's transforms beside SciPy's sampling, and what their parameters are drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dcjax.configs import frepo as preset
from scipy import ndimage

import dcjax.config
from dcjax import augment
from dcjax.augment import frepo

HEIGHT, WIDTH = 12, 16
IMAGE = np.random.RandomState(0).standard_normal((HEIGHT, WIDTH, 3)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 2000)


def sampled(matrix, shift):
  """The image at mapped places about its centre, by SciPy; outside as the edge."""
  centre = (np.array([HEIGHT, WIDTH]) - 1) / 2
  offset = centre + shift - np.asarray(matrix) @ centre
  channels = [
    ndimage.affine_transform(IMAGE[..., each], matrix, offset, order=1, mode="nearest")
    for each in range(3)
  ]
  return np.stack(channels, -1)


def turned(degrees):
  sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
  return [[cosine, -sine], [sine, cosine]]


@pytest.mark.parametrize(
  ("apply", "parameters", "expected"),
  [
    (frepo.zoom, frepo.Zoom(1.25, jnp.array([1.5, -2.0])), (np.eye(2) / 1.25, [1.2, -1.6])),
    (frepo.zoom, frepo.Zoom(0.8, jnp.array([-1.2, 0.4])), (np.eye(2) / 0.8, [-1.5, 0.5])),
    (frepo.rotate, 15.0, (turned(15), 0)),
    (frepo.translate, jnp.array([1.25, -0.5]), (np.eye(2), [1.25, -0.5])),
  ],
)
def test_images_are_sampled_bilinearly_and_continue_as_their_edges(apply, parameters, expected):
  found = apply(IMAGE, jax.tree.map(jnp.float32, parameters))
  np.testing.assert_allclose(found, sampled(*expected), atol=2e-5)


def test_colours_change_one_after_another():
  brighter = IMAGE + 0.25 * 0.5
  mean = brighter.mean()
  contrasted = (brighter - mean) * np.exp(-0.25) + mean
  grey = contrasted.mean(-1, keepdims=True)
  expected = (contrasted - grey) * np.exp(0.25 * 0.2) + grey
  found = frepo.color(jnp.asarray(IMAGE), jnp.float32([0.5, -1, 0.2]))
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (9, 12)])
def test_a_square_of_a_quarter_is_cut_out(corner):
  expected = IMAGE.copy()
  expected[corner[0] : corner[0] + HEIGHT // 4, corner[1] : corner[1] + WIDTH // 4] = 0
  np.testing.assert_array_equal(frepo.cutout(IMAGE, jnp.array(corner)), expected)


def test_parameters_fill_their_ranges():
  flip, color, zoom, rotate, shift, cutout = (
    jax.vmap(lambda key, each=each: each.draw(key, HEIGHT, WIDTH))(KEYS)
    for each in frepo.TRANSFORMS
  )
  assert 0.45 < np.asarray(flip).mean() < 0.55
  for drawn, most in ((color, 1), (rotate, 15), (shift, [HEIGHT / 8, WIDTH / 8])):
    assert (np.abs(drawn) <= most).all() and (np.max(drawn, 0) > 0.98 * np.array(most)).all()
    assert (np.min(drawn, 0) < -0.98 * np.array(most)).all()
  factors = np.asarray(zoom.factor)
  assert 0.8 - 1e-6 <= factors.min() < 0.81 and 1.24 < factors.max() <= 1.25 + 1e-6
  np.testing.assert_allclose(np.log(factors).mean(), 0, atol=0.01)  # even, of the logarithm
  room = np.abs(factors - 1)[:, None] * np.array([HEIGHT, WIDTH]) / 2
  assert (np.abs(zoom.centre) <= room + 1e-5).all()
  np.testing.assert_array_equal(np.min(cutout, 0), 0)
  np.testing.assert_array_equal(np.max(cutout, 0), [HEIGHT - HEIGHT // 4, WIDTH - WIDTH // 4])


def test_a_batch_gets_one_transform_and_each_image_its_own_parameters():
  images = jnp.broadcast_to(IMAGE, (6, HEIGHT, WIDTH, 3))
  apply = jax.jit(augment.by_name("frepo_unflipped"))
  outputs = np.asarray(jax.vmap(lambda key: apply(key, images))(KEYS[:200]))
  assert len({each.tobytes() for each in outputs.reshape(-1, HEIGHT, WIDTH, 3)}) > 1000
  holes = (outputs == 0).all(-1).sum((-1, -2))
  cut = holes == (HEIGHT // 4) * (WIDTH // 4)
  assert (cut.all(1) | ~cut.any(1)).all()  # a whole batch, or none of it
  assert 0.1 < cut.all(1).mean() < 0.3


def test_each_image_gets_a_transform_of_its_own():
  images = jnp.broadcast_to(IMAGE, (500, HEIGHT, WIDTH, 3))
  outputs = np.asarray(jax.jit(augment.by_name("rcig_digits"))(KEYS[0], images))
  cut = (outputs == 0).all(-1).sum((-1, -2)) == (HEIGHT // 4) * (WIDTH // 4)
  assert 0.19 < cut.mean() < 0.31  # one of four
  means = np.abs(outputs.mean((1, 2, 3)) - IMAGE.mean())
  assert means.max() < 0.24  # and none is made brighter by as much as colours are
  mirrored = np.asarray(jax.jit(augment.by_name("rcig"))(KEYS[0], images))
  same = [(mirrored == other).all((1, 2, 3)).mean() for other in (IMAGE, IMAGE[:, ::-1])]
  np.testing.assert_allclose(same, 1 / 12, atol=0.05)


@pytest.mark.parametrize("name", ["frepo", "frepo_unflipped", "rcig", "rcig_digits"])
@pytest.mark.parametrize("shape", [(3, 8, 8, 1), (2, 9, 6, 3), (1, 3, 3, 2)])
def test_shape_and_type_stay(name, shape):
  for dtype in (jnp.float32, jnp.bfloat16):
    images = jnp.ones(shape, dtype)
    outputs = jax.eval_shape(augment.by_name(name), KEYS[0], images)
    assert (outputs.shape, outputs.dtype) == (shape, dtype)


@pytest.mark.parametrize(
  ("dataset", "expected"),
  [("cifar10", "frepo"), ("mnist", "frepo_unflipped"), ("fashion_mnist", "frepo_unflipped")],
)
def test_the_protocol_mirrors_what_its_authors_mirror(dataset, expected):
  config = dcjax.config.resolve(preset.get_config(f"{dataset},ipc=1"))
  assert config.evaluation.augmentation == expected
