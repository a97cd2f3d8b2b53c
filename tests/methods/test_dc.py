"""DC against a naive reading of Algorithm 1, and against itself in other layouts."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcjax import data, nn
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.methods.dc import SCHEDULE, DCSettings, dc, gradient_matching
from dcjax.methods.setup import Setup
from dcjax.nn.convolution import lax_conv
from dcjax.sets.formation import Stored

CLASSES = 5
SETTINGS = DCSettings(
  ipc=2,
  init="noise",
  distance="ours",
  inner_loop=3,
  network_epochs=2,
  batch_real=6,
  lr_image=0.1,
  lr_network=0.05,
)
QUICK = {"xla_backend_optimization_level": 0}  # of programs that run a few times only
STRATEGY = Strategy(image_block=4)  # real batches go in two blocks, one of them not full


@pytest.fixture(scope="module")
def dataset():
  """The digits 0 to 4."""
  whole = digits.load()
  train, test = np.asarray(whole.labels) < CLASSES, np.asarray(whole.test_labels) < CLASSES
  return data.from_arrays(
    np.asarray(whole.images)[train],
    np.asarray(whole.labels)[train],
    np.asarray(whole.test_images)[test],
    np.asarray(whole.test_labels)[test],
    name="few digits",
  )


def network(convolution="patches", norm="instance"):
  options = {"width": 4, "depth": 1, "norm": norm, "convolution": convolution}
  return nn.create("convnet", (8, 8, 1), CLASSES, **options)


def linear_network(log=lambda images: None):
  """A linear network, quick to compile, that tells `log` how many images each of its runs takes."""

  def apply(params, images, stats=None):
    jax.debug.callback(log, images.shape[0])
    features = images.reshape(images.shape[0], -1)
    return features @ params, features

  return nn.Network(
    init=lambda key: 0.1 * jax.random.normal(key, (64, CLASSES)),
    apply=apply,
    statistics=lambda params, images: {},
    batch_norm=False,
  )


@pytest.fixture(scope="module")
def method():
  return dc(Setup(network(), STRATEGY), SETTINGS)


@pytest.fixture(scope="module")
def update(method):
  """The one compiled update that several tests share."""
  return jax.jit(method.update)


@pytest.fixture(scope="module")
def start(method, dataset):
  return jax.jit(method.init)(jax.random.key(0), dataset)


def assert_states_close(actual, expected, tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0),
    actual,
    expected,
  )


# --- A naive Algorithm 1 -------------------------------------------------------------------


def mean_loss(phi, params, images, labels, stats):
  logits, _ = phi.apply(params, images, stats)
  return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def equation_10(a, b):
  """The distance as a loop over the output units of every layer that has weights."""
  total = 0.0
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    for i in range(x.shape[-1] if x.ndim > 1 else 0):
      u, v = x[..., i].ravel(), y[..., i].ravel()
      total += 1 - u @ v / (jnp.sqrt(u @ u) * jnp.sqrt(v @ v) + 1e-6)
  return total


def naive_functions(phi):
  """Lines 7 and 8, and line 9, of Algorithm 1."""

  def image_gradient(params, synthetic, real, label, stats):
    def class_gradient(images):
      return jax.grad(mean_loss, argnums=1)(
        phi, params, images, jnp.full(len(images), label), stats
      )

    return jax.value_and_grad(
      lambda images: equation_10(class_gradient(images), class_gradient(real))
    )(synthetic)

  def network_step(params, images):
    labels = jnp.repeat(jnp.arange(CLASSES), SETTINGS.ipc)
    flat = images.reshape(-1, 8, 8, 1)  # the whole of S is one batch
    gradient = jax.grad(mean_loss, argnums=1)(phi, params, flat, labels, None)
    return jax.tree.map(lambda p, g: p - SETTINGS.lr_network * g, params, gradient)

  return tuple(jax.jit(f, compiler_options=QUICK) for f in (image_gradient, network_step))


@jax.jit
def real_batch(dataset, key, label):
  """The images that the draw of one class' real batch picks."""
  class_key = jax.random.fold_in(key, label)
  index = data.sample(dataset, class_key, label, n=SETTINGS.batch_real)
  return dataset.normalise(dataset.images[index])


def naive_moments(params, images):
  """What the only norm sees of images: mean, variance, and number of values of a channel."""
  seen = params["Convolution_0"]
  seen = lax_conv(images.reshape(-1, 8, 8, 1), seen["kernel"], 1) + seen["bias"][None, None, None]
  seen = np.asarray(seen, np.float64)
  axes = {"axis": (0, 1, 2), "keepdims": True}
  return seen.mean(**axes), seen.var(**axes), seen[..., 0].size


def naive_pass(averages, mean, variance, count):
  """PyTorch's running mean and variance after a pass in training mode."""
  return 0.9 * averages[0] + 0.1 * mean, 0.9 * averages[1] + 0.1 * variance * count / (count - 1)


def naive_statistics(params, dataset, key, frozen, averages):
  """What batch norm freezes, from 16 real images of every class, and the averages after it."""
  images = jax.jit(data.random_subset, static_argnames="ipc")(dataset, key, ipc=16)
  moments = naive_moments(params, images)
  assert moments[2] == CLASSES * 16 * 8 * 8
  averages = naive_pass(averages, *moments)
  mean, variance = averages if frozen == "running" else moments[:2]
  return {"Norm_0": {"mean": jnp.float32(mean), "variance": jnp.float32(variance)}}, averages


def naive_update(phi, state, dataset, key, frozen):
  """One outer iteration, with the keys of `dc`: lines 3 to 9."""
  image_gradient, network_step = naive_functions(phi)
  network_key, steps_key = jax.random.split(key)
  params, losses = jax.jit(phi.init)(network_key), []
  images, momentum = np.array(state.stored.images), np.array(trace_of(state))
  stats, averages = None, (0.0, 1.0)  # of batch norm: PyTorch's start at mean 0 and variance 1
  for t in range(SETTINGS.inner_loop):
    match_key, _ = jax.random.split(jax.random.fold_in(steps_key, t))
    batch_key, statistics_key = jax.random.split(match_key)
    if phi.batch_norm:
      stats, averages = naive_statistics(params, dataset, statistics_key, frozen, averages)
    for c in range(CLASSES):
      real = real_batch(dataset, batch_key, c)
      loss, gradient = image_gradient(params, images[c], real, c, stats)
      momentum[c] = 0.5 * momentum[c] + gradient
      images[c] -= SETTINGS.lr_image * momentum[c]
      losses.append(loss)
    if t < SETTINGS.inner_loop - 1:
      for _ in range(SETTINGS.network_epochs):
        if phi.batch_norm:  # each pass in training mode moves the averages
          averages = naive_pass(averages, *naive_moments(params, images))
        params = network_step(params, images)
  return images, momentum, np.mean(losses)


def trace_of(state):
  """The momentum of the image optimiser."""
  return optax.tree.get(state.optimizer, "trace").images


def assert_equals_naive(update, before, dataset, norm, frozen="running"):
  after, metrics = update(before, dataset, jax.random.key(2), 0)
  phi = network("lax", norm)  # with XLA's own convolution
  images, momentum, loss = naive_update(phi, before, dataset, jax.random.key(2), frozen)
  assert np.abs(after.stored.images - before.stored.images).max() > 0.01
  assert_states_close((after.stored.images, trace_of(after)), (images, momentum), 1e-4)
  np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)


def test_an_update_equals_a_naive_reading_of_algorithm_1(update, start, dataset):
  # From a state whose momentum is not zero: what came before an iteration counts.
  before, _ = update(start, dataset, jax.random.key(1), 0)
  assert_equals_naive(update, before, dataset, "instance")


@pytest.mark.parametrize("frozen", ["running", "batch"])
def test_with_batch_norm_too_frozen_for_matching_and_on_four_devices(start, dataset, frozen):
  layout = STRATEGY._replace(mesh=(4, 1))
  settings = SETTINGS._replace(batch_norm=frozen)
  update = jax.jit(dc(Setup(network(norm="batch"), layout), settings).update)
  assert_equals_naive(update, start, dataset, "batch", frozen)


def test_the_authors_freeze_running_averages():
  assert DCSettings().batch_norm == "running"


def test_images_move_by_sgd_with_momentum_kept_across_updates(dataset, start):
  settings = SETTINGS._replace(inner_loop=1, lr_image=0.3)
  phi = linear_network()
  update = jax.jit(dc(Setup(phi, STRATEGY), settings).update, compiler_options=QUICK)

  @jax.jit
  def gradient(images, key):
    network_key, steps_key = jax.random.split(key)
    match_key, _ = jax.random.split(jax.random.fold_in(steps_key, 0))
    params = phi.init(network_key)
    matching = gradient_matching(Setup(phi, STRATEGY), settings)
    batches = matching.draw(dataset, match_key)
    return matching.match(params, Stored(images, {}), dataset, batches, match_key)[1].images

  state, images, velocity = start, np.array(start.stored.images), 0
  for seed in range(3):
    velocity = 0.5 * velocity + np.asarray(gradient(images, jax.random.key(seed)))
    images = images - 0.3 * velocity
    state, _ = update(state, dataset, jax.random.key(seed), 0)
    assert_states_close((state.stored.images, trace_of(state)), (images, velocity), 1e-4)


def class_gradient_by_hand(params, images, label):
  """Gradient of the mean cross-entropy of a linear network, images all of one class."""
  x = np.asarray(images).reshape(len(images), -1)
  exponentials = np.exp(x @ params)
  errors = exponentials / exponentials.sum(1, keepdims=True) - np.eye(CLASSES)[label]
  return (x.T @ errors / len(x)).ravel()


@pytest.mark.parametrize(
  ("distance", "by_hand"),
  [
    ("mse", lambda a, b: ((a - b) ** 2).sum()),
    ("cos", lambda a, b: 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6)),
  ],
  ids=["mse", "cos"],
)
def test_match_compares_the_gradients_of_mean_losses(start, dataset, distance, by_hand):
  phi, key = linear_network(), jax.random.key(11)
  params = np.asarray(phi.init(jax.random.key(10)))
  settings = SETTINGS._replace(distance=distance)
  matching = gradient_matching(Setup(phi, STRATEGY), settings)
  drawn = matching.draw(dataset, key)
  run = jax.jit(lambda stored: matching.match(params, stored, dataset, drawn, key)[0])
  batch_key, _ = jax.random.split(key)
  expected = []
  for label, synthetic in enumerate(start.stored.images):
    batches = synthetic, real_batch(dataset, batch_key, label)
    expected.append(by_hand(*(class_gradient_by_hand(params, batch, label) for batch in batches)))
  np.testing.assert_allclose(run(start.stored), expected, rtol=1e-4)


# --- Layouts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("convolution", "layout"),
  [
    ("patches", Strategy(class_map="vmap", image_block=0)),
    ("patches", Strategy(class_map="scan", image_block=4, mesh=(4, 1))),
    ("lax", Strategy(class_map="vmap", image_block=5, mesh=(2, 1))),
    ("ungrouped", Strategy(class_map="vmap", image_block=5, mesh=(2, 1))),
  ],
)
def test_every_layout_gives_the_same_update(update, start, dataset, convolution, layout):
  key = jax.random.key(3)
  expected, metrics = update(start, dataset, key, 0)
  other = dc(Setup(network(convolution), layout), SETTINGS).update
  other = jax.jit(other, compiler_options=QUICK)
  actual, other_metrics = other(start, dataset, key, 0)
  assert_states_close(actual, expected, 1e-3)
  np.testing.assert_allclose(other_metrics["loss"], metrics["loss"], rtol=1e-4)


# --- The course of a run -------------------------------------------------------------------


def test_a_second_update_does_not_trace_again(dataset):
  method = dc(Setup(linear_network(), STRATEGY), SETTINGS)
  chex.clear_trace_counter()
  state = jax.jit(method.init)(jax.random.key(0), dataset)
  update = jax.jit(chex.assert_max_traces(method.update, n=1), compiler_options=QUICK)
  for seed in range(3):
    state, _ = update(state, dataset, jax.random.key(seed), 0)


def test_an_update_is_a_function_of_its_key(update, start, dataset):
  first, again, other = (update(start, dataset, jax.random.key(seed), 0)[0] for seed in (7, 7, 8))
  np.testing.assert_array_equal(first.stored.images, again.stored.images)
  assert np.abs(first.stored.images - other.stored.images).max() > 1e-3


def test_the_loss_falls(update, start, dataset):
  state, losses = start, []
  for number in range(40):
    state, metrics = update(state, dataset, jax.random.fold_in(jax.random.key(9), number), 0)
    losses.append(float(metrics["loss"]))
  assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
  assert np.isfinite(state.stored.images).all()


@pytest.mark.parametrize(("inner_loop", "epochs"), [(1, 0), (3, 2 * 4)])
def test_the_network_is_trained_between_inner_steps_only(dataset, start, inner_loop, epochs):
  runs = []
  settings = SETTINGS._replace(inner_loop=inner_loop, network_epochs=4)
  layout = Strategy(image_block=0)
  update = dc(Setup(linear_network(runs.append), layout), settings).update
  update = jax.jit(update, compiler_options=QUICK)
  jax.block_until_ready(update(start, dataset, jax.random.key(0), 0))
  jax.effects_barrier()
  whole = CLASSES * SETTINGS.ipc
  # One pass over S is one run of the network on all of it.
  assert [int(images) for images in runs].count(whole) == epochs
  assert set(map(int, runs)) == {SETTINGS.batch_real, SETTINGS.ipc} | ({whole} if epochs else set())


# --- The start -----------------------------------------------------------------------------


def initial_state(dataset, seed=0, **settings):
  method = dc(Setup(network(), STRATEGY), SETTINGS._replace(**settings))
  return method.init(jax.random.key(seed), dataset)


def test_noise_is_standard_normal_and_the_momentum_zero(dataset):
  state = initial_state(dataset, ipc=50)
  assert (
    state.stored.images.shape == (CLASSES, 50, 8, 8, 1) and state.stored.images.dtype == jnp.float32
  )
  np.testing.assert_allclose(
    [state.stored.images.mean(), state.stored.images.std()], [0, 1], atol=0.03
  )
  assert trace_of(state).shape == state.stored.images.shape and not trace_of(state).any()


def test_real_images_are_distinct_training_images_of_their_class(dataset):
  images = np.asarray(initial_state(dataset, ipc=20, init="real").stored.images)
  pixels, labels = np.asarray(dataset.normalise(dataset.images)), np.asarray(dataset.labels)
  distances = np.abs(images[:, :, None] - pixels[None, None]).max((3, 4, 5))
  nearest = distances.argmin(2)  # [classes, ipc]
  np.testing.assert_allclose(distances.min(2), 0, atol=1e-5)
  assert (labels[nearest] == np.arange(CLASSES)[:, None]).all()
  assert len(set(nearest.ravel())) == CLASSES * 20


@pytest.mark.parametrize("init", ["noise", "real"])
def test_another_key_starts_elsewhere(dataset, init):
  first, again, other = (
    initial_state(dataset, seed, init=init).stored.images for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert not np.allclose(first, other)


def test_the_schedule_is_the_papers():
  stated = {1: (1, 1), 10: (10, 50), 20: (20, 25), 50: (50, 10)}  # DC, Appendix A
  assert stated.items() <= SCHEDULE.items()
