"""Distances of features against NumPy, in DM and IDM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dcjax.config
from dcjax import UserError, nn
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.methods.feature_distances import FEATURE_DISTANCES
from dcjax.methods.feature_matching import FeatureMatching
from dcjax.methods.setup import Setup
from dcjax.run import experiment
from dcjax.run.loop import Loop
from dcjax.sets.formation import Stored
from tests.networks import two_layers
from tests.runs import tiny

KEY = jax.random.key(4)


def of_batches(name, real, synthetic):
  distance, weights = FEATURE_DISTANCES[name], jnp.full(len(real), 1 / len(real), jnp.float32)
  target = distance.target(jnp.float32(real), weights, Strategy(), KEY)
  return float(distance.compare(jnp.float32(synthetic), target, KEY))


def rbf(real, synthetic):
  both = np.concatenate([real, synthetic])
  squares = ((both[:, None] - both[None]) ** 2).sum(-1)
  count, m = len(both), len(real)
  scale = squares.sum() / (count**2 - count)
  kernel = sum(np.exp(-squares / (scale * each)) for each in (0.25, 0.5, 1, 2, 4))
  return kernel[:m, :m].mean() - 2 * kernel[:m, m:].mean() + kernel[m:, m:].mean()


def cf(real, synthetic):
  frequencies = np.float64(jax.random.normal(KEY, (real.shape[1], 4096), jnp.float32))

  def characteristic(rows):
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.exp(1j * rows @ frequencies).mean(0)

  r, s = characteristic(real), characteristic(synthetic)
  amplitude = (np.abs(r) - np.abs(s)) ** 2
  phase = 2 * (np.abs(r) * np.abs(s) - r.real * s.real - r.imag * s.imag)
  return 300 * np.sqrt(0.5 * amplitude + 0.5 * np.maximum(phase, 1e-12)).mean()


@pytest.mark.parametrize(
  ("name", "by_hand"),
  [("mean", lambda r, s: ((r.mean(0) - s.mean(0)) ** 2).sum()), ("rbf_mmd", rbf), ("cf", cf)],
)
def test_the_distance_is_that_of_numpy(name, by_hand):
  rng = np.random.default_rng(0)
  real, synthetic = rng.standard_normal((12, 5)), 0.5 + rng.standard_normal((4, 5))
  assert of_batches(name, real, synthetic) == pytest.approx(by_hand(real, synthetic), rel=1e-3)


@pytest.mark.parametrize("name", FEATURE_DISTANCES)
def test_it_is_near_zero_for_the_same_images_and_its_gradient_finite(name):
  rows = np.random.default_rng(0).standard_normal((6, 5))
  far = of_batches(name, rows, rows + 1)
  assert abs(of_batches(name, rows, rows)) < 0.02 * far
  distance, same = (
    FEATURE_DISTANCES[name],
    jnp.float32(np.concatenate([rows[:3], np.zeros((3, 5))])),
  )
  target = distance.target(same, jnp.full(6, 1 / 6, jnp.float32), Strategy(), KEY)
  gradient = jax.grad(lambda rows: distance.compare(rows, target, KEY))(same)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", FEATURE_DISTANCES)
def test_images_that_are_all_the_same(name):
  same, distance = jnp.ones((4, 5)), FEATURE_DISTANCES[name]
  target = distance.target(same, jnp.full(4, 0.25, jnp.float32), Strategy(), KEY)
  value, gradient = jax.value_and_grad(lambda rows: distance.compare(rows, target, KEY))(same)
  assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(2, 2)])
@pytest.mark.parametrize("name", ["rbf_mmd"])
def test_on_several_devices_as_on_one(dataset, name, mesh):
  def gradient(layout):
    config = dcjax.config.resolve(tiny("dm", distance=name, batch_real=7, ipc=2, lr_image=1.0))
    config.compute.mesh = "x".join(map(str, layout.mesh))
    loop = Loop(experiment.method(config, dataset, layout), dataset, jax.random.key(7), layout)
    state = loop.start(jax.random.key(8))
    return state.stored.images - loop.run(state, 0, 1)[0].stored.images

  found, expected = gradient(Strategy(mesh=mesh)), gradient(Strategy())
  np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["rbf_mmd", "cf"])
def test_all_classes_in_one_batch_are_as_each_for_itself(dataset, name):
  """The way that batch norm needs, with a network that has none."""

  def losses(batch_norm):
    network = two_layers()._replace(batch_norm=batch_norm)
    matching = FeatureMatching(Setup(network), 6, distance=name)
    key, stored = jax.random.key(1), Stored(images, {})
    indices = matching.draw(dataset, key)
    params = network.init(jax.random.key(2))
    return jax.jit(matching.match)(params, stored, dataset, indices, key)

  images = jnp.asarray(np.random.default_rng(0).standard_normal((10, 2, 8, 8, 1)), jnp.float32)
  (one, slopes), (other, gradients) = losses(False), losses(True)
  np.testing.assert_allclose(one, other, rtol=1e-4)
  np.testing.assert_allclose(
    slopes.images, gradients.images, atol=1e-4 * np.abs(slopes.images).max()
  )


@pytest.mark.parametrize("method", ["dm", "idm"])
def test_unknown_distances(method, caplog):
  with pytest.raises(UserError, match="distance: unknown 'ours'; choose one of: cf, layerwise"):
    dcjax.config.resolve(tiny(method, distance="ours"))
  with caplog.at_level("INFO"):
    dcjax.config.resolve(tiny(method, distance="cf"))
  assert "'cf' is experimental" in caplog.text


# --- Block by block (CAFE) ---------------------------------------------------------------------


def with_blocks(batch_norm=False):
  """Two layers whose outputs are shown, of which the second is what classifies."""
  plain = two_layers()

  def blocks(params, images):
    first = jnp.tanh(images.reshape(len(images), -1) @ params[0])
    second = jnp.tanh(first @ params[2])
    return second @ params[1], [first, second]

  def apply(params, images, stats=None):
    logits, outputs = blocks(params, images)
    return logits, outputs[-1]

  def init(key):
    return [*plain.init(key), jax.random.normal(key, (8, 8))]

  return plain._replace(init=init, apply=apply, blocks=blocks, batch_norm=batch_norm)


def cafe(network, params, dataset, indices, images):
  """The loss as it is written: all blocks, and real images that all synthetic centres classify."""
  real = [network.blocks(params, dataset.normalise(dataset.images[rows]))[1] for rows in indices]
  ours = [network.blocks(params, of_class)[1] for of_class in images]
  far = sum(
    weight * ((r.mean(0) - s.mean(0)) ** 2).sum()
    for of_real, of_ours in zip(real, ours, strict=True)
    for weight, r, s in zip((1.0, 1.0), of_real, of_ours, strict=True)
  )
  centres = jnp.stack([of_ours[-1].mean(0) for of_ours in ours])
  crossed = [
    -jax.nn.log_softmax(of_real[-1] @ centres.T)[:, label].mean()
    for label, of_real in enumerate(real)
  ]
  return far + 0.01 * jnp.stack(crossed).mean()


@pytest.mark.parametrize(("mesh", "batch_norm"), [((1, 1), False), ((2, 2), False), ((1, 1), True)])
def test_layerwise_is_the_sum_over_blocks_and_what_the_centres_classify(dataset, mesh, batch_norm):
  network, layout = with_blocks(batch_norm), Strategy(mesh=mesh)
  matching = FeatureMatching(Setup(network, layout), 7, distance="layerwise")
  images = jnp.asarray(np.random.default_rng(0).standard_normal((10, 3, 8, 8, 1)), jnp.float32)
  key, params = jax.random.key(1), network.init(jax.random.key(2))
  indices = matching.draw(dataset, key)
  stored = Stored(images, {})
  losses, slopes = jax.jit(matching.match)(params, stored, dataset, indices, key)
  expected, gradient = jax.value_and_grad(cafe, argnums=4)(
    network, params, dataset, indices, images
  )
  np.testing.assert_allclose(losses.sum(), expected, rtol=1e-5)
  np.testing.assert_allclose(slopes.images, gradient, atol=2e-5 * np.abs(gradient).max())


def test_the_blocks_of_a_convnet_are_what_its_layers_give():
  network = nn.create("convnet", image_shape=(16, 16, 3), num_classes=4, width=8, depth=3)
  images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
  params = network.init(jax.random.key(1))
  logits, outputs = network.blocks(params, images)
  whole, features = network.apply(params, images)
  assert [each.shape for each in outputs] == [(2, 512), (2, 128), (2, 32)]
  np.testing.assert_array_equal(outputs[-1], features)
  np.testing.assert_array_equal(logits, whole)
  assert set(params) == {name for name in params if "intermediates" not in name}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"network.name": "mlp"}, "distance: 'layerwise' .* use network.name=convnet"),
    ({"embedding": "pixels"}, "distance: 'layerwise' .* set embedding=network"),
  ],
)
def test_layerwise_needs_a_network_with_blocks(dataset, changes, message):
  config = tiny("dm", distance="layerwise")
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    experiment.method(dcjax.config.resolve(config), dataset, Strategy())


@pytest.mark.parametrize("method", ["dm", pytest.param("idm", marks=pytest.mark.slow)])
def test_layerwise_condenses(dataset, method):
  config = dcjax.config.resolve(tiny(method, distance="layerwise"))
  loop = Loop(experiment.method(config, dataset, Strategy()), dataset, KEY, Strategy())
  state = loop.start(jax.random.key(8))
  after, _, metrics = loop.run(state, 0, 1)
  assert np.isfinite(metrics["loss"]).all()
  assert (after.stored.images != state.stored.images).any()
