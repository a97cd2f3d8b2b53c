"""IDC against a naive reading of Algorithm 1, and the networks that it trains."""

from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcjax import augment, data, nn
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.methods import idc
from dcjax.methods.distances import DISTANCES
from dcjax.methods.gradient_matching import GradientMatching
from dcjax.methods.setup import Setup
from dcjax.sets import formation

SETTINGS = idc.IDCSettings(
  ipc=2, init="mix", distance="mse", inner_loop=2, batch_real=6, batch_synthetic=128, lr_image=0.02
)  # fmt: skip
TRAINING = idc.TrainingSettings(
  data="real", steps=2, batch=5, lr=0.05, weight_decay=0.01, cutmix=0.0,
  pretraining=0, networks=0,
)  # fmt: skip
STRATEGY = Strategy(image_block=4)
# Compiling is what takes the time of programs that run a few times only.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


@pytest.fixture(scope="module")
def forming(dataset):
  mean, std = (tuple(np.asarray(x).tolist()) for x in (dataset.mean, dataset.std))
  return formation.create("uniform", 2, shape=(8, 8, 1), ipc=2, mean=mean, std=std, unit=True)


def network():
  return nn.create("convnet", (8, 8, 1), 10, width=4, depth=1)


def make(forming, layout=STRATEGY, augmentations=augment.NOTHING, training=TRAINING, **settings):
  setup = Setup(network(), layout, augmentations, forming)
  return idc.idc(setup, SETTINGS._replace(training=training, **settings))


@pytest.fixture(scope="module")
def method(forming):
  found = make(forming)
  return SimpleNamespace(init=jit(found.init), update=jit(found.update))


@pytest.fixture(scope="module")
def start(method, dataset):
  return method.init(jax.random.key(0), dataset)


def mean_loss(params, images, label):
  logits, _ = network().apply(params, images)
  labels = jnp.full(len(images), label)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def kernel_gradient(params, images, label):
  """The gradient to the one kernel of a convolution that the network has."""
  return jax.grad(mean_loss)(params, images, label)["Convolution_0"]["kernel"]


def decode_by_hand(images, dataset):
  """Quarters of pixels in [0, 1], brought to full size and normalised."""
  quarters = [images[:, i : i + 4, j : j + 4] for i in (0, 4) for j in (0, 4)]
  tiles = jnp.stack(quarters, 1).reshape(-1, 4, 4, 1)
  whole = jax.image.resize(tiles, (len(tiles), 8, 8, 1), "bilinear")
  return (whole - dataset.mean[0]) / dataset.std[0]


@pytest.mark.parametrize("distance", ["mse", pytest.param("l1", marks=pytest.mark.slow)])
def test_an_update_equals_a_naive_reading_of_algorithm_1(forming, start, dataset, distance):
  update = jit(make(forming, distance=distance).update)
  state, _ = update(start, dataset, jax.random.key(1), 0)  # a network and momentum that have moved
  key = jax.random.key(2)
  after, metrics = update(state, dataset, key, 1)
  _, match_key, train_key = jax.random.split(key, 3)
  batch_key = jax.random.split(match_key, 3)[0]
  power = {"mse": jnp.square, "l1": jnp.abs}[distance]

  @jit
  def matched(stored, label):
    index = data.sample(dataset, jax.random.fold_in(batch_key, label), label, n=6)
    real = kernel_gradient(state.network[0], dataset.normalise(dataset.images[index]), label)

    def compare(stored):
      ours = kernel_gradient(state.network[0], decode_by_hand(stored, dataset), label)
      return power(ours - real).sum()

    return jax.value_and_grad(compare)(stored)

  momentum = optax.tree.get(state.optimizer, "trace").images
  losses = []
  for label in range(10):
    loss, gradient = matched(state.stored.images[label], label)
    losses.append(loss)
    expected = state.stored.images[label] - SETTINGS.lr_image * (0.5 * momentum[label] + gradient)
    np.testing.assert_allclose(after.stored.images[label], expected, atol=1e-5)
  np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-4)

  params, optimizer = state.network
  trace = optax.tree.get(optimizer, "trace")
  for t in range(TRAINING.steps):
    index = jax.random.randint(jax.random.fold_in(train_key, t), (5,), 0, len(dataset.labels))

    def loss(params, index=index):
      logits, _ = network().apply(params, dataset.normalise(dataset.images[index]))
      return optax.softmax_cross_entropy_with_integer_labels(logits, dataset.labels[index]).mean()

    gradient = jax.grad(loss)(params)
    trace = jax.tree.map(
      lambda v, g, p: 0.9 * v + g + TRAINING.weight_decay * p, trace, gradient, params
    )
    params = jax.tree.map(lambda p, v: p - TRAINING.lr * v, params, trace)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after.network[0], params)


def test_stored_images_are_pixels_and_mosaics_of_real_ones(start, dataset):
  images = np.asarray(start.stored.images)
  assert images.shape == (10, 2, 8, 8, 1) and images.min() >= 0 and images.max() <= 1
  # A tile is every second pixel of a real image of its class.
  real = np.asarray(dataset.images, np.float32)[:, ::2, ::2, 0] / 255
  for label in range(10):
    found = real[np.asarray(dataset.labels) == label]
    tiles = images[label, ..., 0].reshape(2, 2, 4, 2, 4).swapaxes(2, 3).reshape(8, 1, 4, 4)
    np.testing.assert_allclose(np.abs(tiles - found[None]).max((2, 3)).min(1), 0, atol=1e-6)


def test_a_new_network_begins_after_the_inner_loop(method, start, dataset):
  state, networks = start, []
  for number in range(4):
    state, _ = method.update(state, dataset, jax.random.key(number), number)
    networks.append(np.asarray(state.network[0]["Linear_0"]["Dense_0"]["kernel"]))
  apart = [np.abs(a - b).max() for a, b in pairwise(networks)]
  assert apart[0] < 0.1 and apart[2] < 0.1 < apart[1]


def test_pixels_are_clipped_where_a_network_begins(method, start, dataset):
  far = start._replace(stored=start.stored._replace(images=start.stored.images * 4 - 1))
  first, _ = method.update(far, dataset, jax.random.key(0), 0)
  second, _ = method.update(far, dataset, jax.random.key(0), 1)
  assert first.stored.images.min() > -0.5 and first.stored.images.max() < 1.5
  assert second.stored.images.max() > 2


def test_spectrograms_are_brought_up_to_the_least_real_value_and_nothing_down(dataset):
  """They are stored as normalised, of which any value is that of a sound, however loud."""
  silence, loud = (idc._least(dataset) + shift for shift in (-2, 9))
  pixels = np.asarray(dataset.images, np.float64) / 255
  lowest = ((pixels - np.asarray(dataset.mean)) / np.asarray(dataset.std)).min()
  assert idc._least(dataset) == pytest.approx(lowest, abs=1e-6)
  setup = Setup(network(), STRATEGY, augment.NOTHING, formation.IDENTITY)
  settings = SETTINGS._replace(training=TRAINING, init="real", lr_image=1e-9)
  for clamp, expected in ((True, lowest), (False, silence)):
    method = idc.idc(setup, settings._replace(clamp=clamp), least=idc._least(dataset))
    state = jit(method.init)(jax.random.key(0), dataset)
    images = state.stored.images.at[:, 0].set(silence).at[:, 1].set(loud)
    update = jit(method.update)
    moved = state._replace(stored=state.stored._replace(images=images))
    after, _ = update(moved, dataset, jax.random.key(0), 0)
    np.testing.assert_allclose(after.stored.images[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(after.stored.images[:, 1], loud, atol=1e-4)
    if clamp:  # between networks values are free
      later, _ = update(moved, dataset, jax.random.key(0), 1)
      np.testing.assert_allclose(later.stored.images[:, 0], silence, atol=1e-4)


def test_networks_are_trained_on_what_is_asked_for(forming, start, dataset):
  """Other stored images change the network if, and only if, it is trained on them."""
  other = start._replace(stored=start.stored._replace(images=1 - start.stored.images))
  for kind, changes in (("real", False), ("synthetic", True)):
    update = jit(make(forming, training=TRAINING._replace(data=kind)).update)
    networks = [
      update(state, dataset, jax.random.key(0), 0)[0].network[0] for state in (start, other)
    ]
    one, two = (network["Linear_0"]["Dense_0"]["kernel"] for network in networks)
    assert np.array_equal(one, two) != changes


def test_momentum_of_the_pretraining_goes_on_between_matchings(forming, start, dataset):
  """Three steps before the first matching and two after it, with one velocity."""
  training = TRAINING._replace(pretraining=3)
  key = jax.random.key(5)
  after, _ = jit(make(forming, training=training).update)(start, dataset, key, 0)
  network_key, _, train_key = jax.random.split(key, 3)
  init_key, pretrain_key = jax.random.split(network_key)
  params = network().init(init_key)
  velocity = jax.tree.map(jnp.zeros_like, params)

  @jit
  def step(params, velocity, step_key):
    index = jax.random.randint(step_key, (5,), 0, len(dataset.labels))

    def loss(params):
      logits, _ = network().apply(params, dataset.normalise(dataset.images[index]))
      return optax.softmax_cross_entropy_with_integer_labels(logits, dataset.labels[index]).mean()

    gradient = jax.grad(loss)(params)
    velocity = jax.tree.map(
      lambda v, g, p: 0.9 * v + g + TRAINING.weight_decay * p, velocity, gradient, params
    )
    return jax.tree.map(lambda p, v: p - TRAINING.lr * v, params, velocity), velocity

  for steps_key, count in ((pretrain_key, 3), (train_key, 2)):
    for t in range(count):
      params, velocity = step(params, velocity, jax.random.fold_in(steps_key, t))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after.network[0], params)


def test_a_network_begins_as_one_of_those_pretrained(forming, dataset):
  training = TRAINING._replace(pretraining=20, networks=2, steps=0)
  chosen = make(forming, training=training)
  state = jit(chosen.init)(jax.random.key(0), dataset)
  update, kernels = jit(chosen.update), state.pool["Linear_0"]["Dense_0"]["kernel"]
  found = set()
  for seed in range(8):
    after, _ = update(state, dataset, jax.random.key(seed), 0)
    same = [np.array_equal(after.network[0]["Linear_0"]["Dense_0"]["kernel"], k) for k in kernels]
    assert sum(same) == 1
    found.add(same.index(True))
    # Their parameters alone are kept (authors' code).
    assert not any(leaf.any() for leaf in jax.tree.leaves(after.network[1]))
  assert found == {0, 1}


def test_no_more_synthetic_images_than_asked_for_are_matched(forming, start, dataset):
  """Of eight decoded images four are drawn: other draws for other keys, hence other gradients."""
  update = jit(make(forming, batch_synthetic=4, lr_image=1.0).update)
  after, _ = update(start, dataset, jax.random.key(1), 0)
  moved = np.abs(after.stored.images - start.stored.images).reshape(10, 2, 2, 4, 2, 4)
  tiles = (moved.max((3, 5)) > 0).reshape(10, -1).sum(1)
  np.testing.assert_array_equal(tiles, np.full(10, 4))


def test_another_layout_gives_the_same_update(forming, method, start, dataset):
  layout = Strategy(class_map="vmap", image_block=5, synthetic_block=3, mesh=(2, 1))
  expected, _ = method.update(start, dataset, jax.random.key(3), 0)
  actual, _ = jit(make(forming, layout).update)(start, dataset, jax.random.key(3), 0)
  np.testing.assert_allclose(actual.stored.images, expected.stored.images, atol=1e-5)


@pytest.mark.slow
def test_blocks_of_synthetic_images_bound_the_memory(dataset):
  """Four times the images need little more memory, where whole batches need four times as much."""
  mean, std = (tuple(np.asarray(x).tolist()) for x in (dataset.mean, dataset.std))

  def memory(ipc, block):
    forming = formation.create("uniform", 2, shape=(8, 8, 1), ipc=ipc, mean=mean, std=std)
    setup = Setup(network(), Strategy(synthetic_block=block), formation=forming)
    matching = GradientMatching(setup, DISTANCES["mse"], 4)
    params = jax.eval_shape(network().init, jax.random.key(0))
    stored = formation.Stored(jax.ShapeDtypeStruct((10, ipc, 8, 8, 1), jnp.float32), {})
    key = jax.random.key(0)
    batches = jax.eval_shape(matching.draw, dataset, key)
    compiled = jit(matching.match).lower(params, stored, dataset, batches, key).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert memory(64, 0) > 3 * memory(16, 0)
  assert memory(64, 8) < 1.7 * memory(16, 8) < 1.7 * memory(16, 0)
