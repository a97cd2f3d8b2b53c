"""Gradients in blocks, epochs and SGD against hand calculations on a linear network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcjax import nn
from dcjax.augment import cutmix
from dcjax.nn import training
from dcjax.nn.training import Batching, Learner

COUNT = 10


def linear_apply(params, images, stats=None):
  features = images.reshape(images.shape[0], -1)
  return features @ params, features


LINEAR = nn.Network(
  init=lambda key: jax.random.normal(key, (4, 3)),
  apply=linear_apply,
  statistics=lambda params, images: {},
  batch_norm=False,
)


@pytest.fixture
def problem():
  """Parameters, images `[7, 2, 2, 1]`, labels and weights."""
  rng = np.random.default_rng(0)
  params, images = rng.standard_normal((4, 3)), rng.standard_normal((7, 2, 2, 1))
  labels, weights = rng.integers(0, 3, 7), rng.random(7)
  return jnp.float32(params), jnp.float32(images), jnp.int32(labels), jnp.float32(weights)


def softmax_regression(params, images, labels, weights):
  """Loss and gradient of the weighted cross-entropy of a linear network, by hand."""
  x = np.asarray(images, np.float64).reshape(len(images), -1)
  exponentials = np.exp(x @ np.asarray(params, np.float64))
  probabilities = exponentials / exponentials.sum(1, keepdims=True)
  loss = -(np.log(probabilities[np.arange(len(x)), labels]) * weights).sum()
  errors = probabilities - np.eye(3)[labels]
  return loss, x.T @ (errors * np.asarray(weights)[:, None])


# --- Gradients -----------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 3, 7, 8])
def test_gradient_equals_the_hand_calculation_in_any_block(problem, block):
  gradient = training.gradient(LINEAR, *problem, block=block)
  loss, expected = softmax_regression(*problem)
  np.testing.assert_allclose(training.summed_loss(LINEAR, *problem)[0], loss, rtol=1e-5)
  np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("block", [3, 8])
def test_targets_may_be_probabilities(problem, block):
  params, images, labels, weights = problem
  gradient = training.gradient(LINEAR, params, images, jnp.eye(3)[labels], weights, block=block)
  np.testing.assert_allclose(gradient, training.gradient(LINEAR, *problem, block=block), atol=1e-6)
  # The cross-entropy is linear in them.
  other = (labels + 1) % 3
  mixed = 0.3 * jnp.eye(3)[labels] + 0.7 * jnp.eye(3)[other]
  expected = [softmax_regression(params, images, each, weights) for each in (labels, other)]
  loss, expected = (0.3 * a + 0.7 * b for a, b in zip(*expected, strict=True))
  np.testing.assert_allclose(
    training.summed_loss(LINEAR, params, images, mixed, weights)[0], loss, rtol=1e-5
  )
  gradient = training.gradient(LINEAR, params, images, mixed, weights, block=block)
  np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.fixture(scope="module")
def batch_network():
  network = nn.create("convnet", (4, 4, 1), 3, width=2, depth=1, norm="batch")
  params = jax.jit(network.init)(jax.random.key(0))
  images = jax.random.normal(jax.random.key(1), (5, 4, 4, 1))
  return network, (params, images, jnp.array([0, 1, 2, 0, 1]), jnp.full(5, 0.2))


def assert_trees_close(actual, expected):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), actual, expected)


def gradient_in_blocks(network, block):
  return jax.jit(
    lambda *args, stats=None: training.gradient(network, *args, block=block, stats=stats)
  )


def test_batch_norm_sees_its_batch_whole_whatever_the_block(batch_network):
  network, args = batch_network
  assert_trees_close(gradient_in_blocks(network, 2)(*args), gradient_in_blocks(network, 5)(*args))


def test_frozen_batch_norm_goes_in_blocks(batch_network):
  network, args = batch_network
  stats = jax.jit(network.statistics)(args[0], args[1] + 1)
  in_blocks = gradient_in_blocks(network, 2)(*args, stats=stats)
  whole = gradient_in_blocks(network, 5)(*args, stats=stats)
  assert_trees_close(in_blocks, whole)
  live = gradient_in_blocks(network, 5)(*args)
  assert (
    np.abs(live["Linear_0"]["Dense_0"]["kernel"] - whole["Linear_0"]["Dense_0"]["kernel"]).max()
    > 1e-3
  )


# --- Epochs --------------------------------------------------------------------------------

# Each image has a parameter of its own, which tells what became of that image: with a logit of
# zero the gradient to it is -1/2 over the number of images in the batch.
ALONE = nn.Network(
  init=lambda key: jnp.zeros(COUNT),
  apply=lambda params, images, stats=None: (
    jnp.stack([images[:, :, 0, 0] @ params, jnp.zeros(images.shape[0])], -1),
    images,
  ),
  statistics=lambda params, images: {},
  batch_norm=False,
)
IMAGES = jnp.eye(COUNT)[:, :, None, None]
LABELS = jnp.zeros(COUNT, jnp.int32)
SGD = optax.sgd(1.0)


def traces(key, batching, *, epochs=1, images=IMAGES, optimizer=SGD):
  """What one or more epochs leave in each image's parameter."""
  params = jnp.zeros(COUNT)
  carry = (params, optimizer.init(params))
  learner = Learner(ALONE, optimizer, batching)
  return np.asarray(training.epochs(learner, carry, images, LABELS, key, start=0, stop=epochs)[0])


@pytest.mark.parametrize("block", [4, 3])
def test_an_epoch_takes_each_image_once_and_averages_what_is_left(block):
  traced = traces(jax.random.key(0), Batching(batch=4, block=block))
  # Two batches of four images and one of two.
  np.testing.assert_allclose(sorted(traced), [0.5 / 4] * 8 + [0.5 / 2] * 2, rtol=1e-6)


def test_a_batch_larger_than_the_set_is_the_set():
  traced = traces(jax.random.key(0), Batching(batch=256, block=256))
  np.testing.assert_allclose(traced, 0.5 / COUNT, rtol=1e-6)


@jax.jit
def in_last_batch(key, number):
  """Marks the images of an epoch's last batch, by their larger gradients."""
  marker = optax.GradientTransformation(
    lambda params: jnp.zeros(0),
    lambda gradients, state, params: (jnp.where(gradients < -0.2, 1.0, 0.0), state),
  )
  carry = (jnp.zeros(COUNT), jnp.zeros(0))
  learner = Learner(ALONE, marker, Batching(batch=4, block=4))
  return training.epochs(learner, carry, IMAGES, LABELS, key, start=number, stop=number + 1)[0]


def last_batches(key):
  return [tuple(np.flatnonzero(in_last_batch(key, number) > 0)) for number in range(5)]


def test_every_epoch_and_every_key_has_an_order_of_its_own():
  first, again, other = (last_batches(jax.random.key(seed)) for seed in (0, 0, 1))
  assert all(len(pair) == 2 for pair in first)
  assert first == again and first != other
  assert len(set(first)) > 1


def test_every_batch_of_every_epoch_is_augmented_anew():
  def augment(key, images):
    return images * jax.random.uniform(key, ())

  def drawn(epochs):
    """The gradient of an image whose logit stays zero is its augmentation's factor."""
    recorder = optax.GradientTransformation(
      lambda params: params,
      lambda gradients, seen, params: (jnp.zeros(COUNT), jnp.where(gradients, gradients, seen)),
    )
    carry = (jnp.zeros(COUNT), jnp.zeros(COUNT))
    learner = Learner(ALONE, recorder, Batching(batch=5, block=5, augment=augment))
    key = jax.random.key(0)
    run = training.epochs(learner, carry, IMAGES, LABELS, key, start=epochs - 1, stop=epochs)
    return set(np.round(np.asarray(run[1]), 6))

  assert len(drawn(1)) == len(drawn(2)) == 2
  assert not drawn(1) & drawn(2)


def test_images_are_decoded_before_they_are_augmented():
  decode = lambda images: images.astype(jnp.float32) / 2  # noqa: E731
  batching = Batching(COUNT, COUNT, decode, lambda key, images: images + 1 / COUNT)
  traced = traces(jax.random.key(0), batching, images=(4 * IMAGES).astype(jnp.uint8))
  np.testing.assert_allclose(traced, 0.5 / COUNT * (2 + 1), rtol=1e-5)


def test_cutmix_mixes_every_augmented_batch_anew_with_its_targets():
  rng = np.random.default_rng(0)
  images = jnp.float32(rng.standard_normal((7, 4, 4, 1)))
  start = jnp.float32(rng.standard_normal((16, 3)))
  labels = jnp.arange(7) % 3
  batching = Batching(batch=4, block=4, augment=lambda key, images: 2 * images, cutmix=1.0)
  learner = Learner(LINEAR, SGD, batching)

  @jax.jit
  def trained(params, key):
    carry = (params, SGD.init(params))
    return training.epoch(learner, carry, images, labels, key)[0]

  @jax.jit
  def expected(params, key):
    # Two batches; the last image of the second has no weight.
    order = jnp.resize(jax.random.permutation(jax.random.split(key)[0], 7), (2, 4))
    for number, weights in enumerate([[1 / 4] * 4, [1 / 3] * 3 + [0]]):
      index = order[number]
      targets = jnp.eye(3)[labels[index]]
      mix_key = jax.random.fold_in(jax.random.fold_in(key, 2), number)
      mixed = cutmix(mix_key, 2 * images[index], targets, 1.0)
      params -= training.gradient(LINEAR, params, *mixed, jnp.array(weights), block=4)
    return params

  key = jax.random.key(0)
  np.testing.assert_allclose(trained(start, key), expected(start, key), atol=1e-5)


def test_cutmix_with_probability_zero_is_the_same_program(problem):
  params, images, labels, _ = problem
  carry = (params, SGD.init(params))

  def lowered(batching):
    learner = Learner(LINEAR, SGD, batching)

    def run(carry, key):
      return training.epoch(learner, carry, images, labels, key)

    return jax.jit(run).lower(carry, jax.random.key(0)).as_text()

  assert lowered(Batching(3, 3, cutmix=0.0)) == lowered(Batching(3, 3))
  assert lowered(Batching(3, 3, cutmix=0.5)) != lowered(Batching(3, 3))


@pytest.mark.parametrize("block", [7, 2])
def test_sgd_with_momentum_equals_the_hand_calculation(problem, block):
  params, images, labels, _ = problem
  optimizer, rate, momentum, epochs = optax.sgd(0.1, momentum=0.9), 0.1, 0.9, 3
  trained, _ = training.epochs(
    Learner(LINEAR, optimizer, Batching(batch=7, block=block)),
    (params, optimizer.init(params)),
    images,
    labels,
    jax.random.key(0),
    start=0,
    stop=epochs,
  )
  expected, velocity = np.asarray(params, np.float64), 0
  for _ in range(epochs):
    velocity = momentum * velocity + softmax_regression(expected, images, labels, [1 / 7] * 7)[1]
    expected = expected - rate * velocity
  np.testing.assert_allclose(trained, expected, atol=1e-5)


def test_training_in_pieces_changes_nothing(problem):
  params, images, labels, _ = problem
  optimizer = optax.sgd(optax.linear_schedule(0.5, 0.0, 15), momentum=0.9)
  batching = Batching(3, 3, augment=lambda key, x: x + jax.random.normal(key, x.shape))
  learner = Learner(LINEAR, optimizer, batching)

  @jax.jit
  def run(carry, start, stop):
    key = jax.random.key(0)
    return training.epochs(learner, carry, images, labels, key, start=start, stop=stop)

  begin = (params, optimizer.init(params))
  whole = run(begin, 0, 5)
  jax.tree.map(np.testing.assert_array_equal, run(run(run(begin, 0, 2), 2, 2), 2, 5), whole)
  assert not np.allclose(run(begin, 0, 4)[0], whole[0])


@pytest.mark.parametrize(("count", "batch", "steps"), [(10, 5, 2), (11, 5, 3), (3, 5, 1)])
def test_steps_per_epoch(count, batch, steps):
  assert training.steps_per_epoch(count, batch) == steps


# --- Dropout -------------------------------------------------------------------------------


def dropping(count=None):
  """A linear network of features that a key scales, image by image; `count` its training passes."""

  def train(params, images, key):
    if count is not None:
      count.append(images.shape[0])
    features = images.reshape(images.shape[0], -1)
    return (features * scales(key, len(features))) @ params, features

  return LINEAR._replace(train=train)


def scales(key, count):
  return jax.random.uniform(key, (count, 1), jnp.float32)


def test_a_training_pass_has_a_key_and_others_have_none(problem):
  params, images, labels, weights = problem
  key = jax.random.key(3)
  scaled = images * scales(key, 7)[:, None, None]
  loss, expected = softmax_regression(params, scaled, labels, weights)
  network = dropping()
  np.testing.assert_allclose(training.summed_loss(network, *problem, key=key)[0], loss, rtol=1e-5)
  found = training.gradient_and_right(network, *problem, block=7, key=key)[0]
  np.testing.assert_allclose(found, expected, atol=1e-5)
  for found in (
    training.gradient(network, *problem, block=7),
    training.gradient_and_right(LINEAR, *problem, block=7, key=key)[0],  # which drops nothing
  ):
    np.testing.assert_allclose(found, softmax_regression(*problem)[1], atol=1e-5)


def test_blocks_draw_their_own(problem):
  key = jax.random.key(3)
  params, images, labels, weights = problem
  factors = jnp.concatenate([scales(each, 3) for each in jax.random.split(key, 3)])[:7]
  scaled = images * factors[:, None, None]
  expected = softmax_regression(params, scaled, labels, weights)[1]
  found = training.gradient_and_right(dropping(), *problem, block=3, key=key)[0]
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("take", ["epochs", "random_steps"])
def test_every_step_drops_anew_and_other_networks_draw_as_before(take):
  """A network that drops nothing has the same parameters whether or not it could."""
  images, labels = (
    jnp.float32(np.random.default_rng(0).standard_normal((8, 2, 2, 1))),
    jnp.arange(8),
  )
  start = jnp.zeros((4, 3))

  def trained(network, key, augment=lambda key, images: images):
    learner = Learner(network, SGD, Batching(batch=4, block=4, augment=augment))
    carry = start, SGD.init(start)
    train = getattr(training, take)
    run = train(learner, carry, images, labels % 3, jax.random.key(key), start=0, stop=2)
    return np.asarray(run[0] if take == "epochs" else run[0][0])

  def scale(key, images):
    return images * jax.random.uniform(key, (4, 1, 1, 1))

  same = LINEAR._replace(train=lambda params, images, key: LINEAR.apply(params, images))
  np.testing.assert_array_equal(trained(same, 0, scale), trained(LINEAR, 0, scale))
  assert not np.allclose(trained(dropping(), 0), trained(LINEAR, 0))
  assert not np.allclose(trained(dropping(), 0), trained(dropping(), 1))
  np.testing.assert_array_equal(trained(dropping(), 0), trained(dropping(), 0))


def test_what_is_tested_is_not_dropped(problem):
  params, images, labels, _ = problem
  count = []
  right = training.correct(
    dropping(count), params, images, labels, block=3, decode=training.identity
  )
  logits = np.asarray(images).reshape(7, -1) @ np.asarray(params)
  np.testing.assert_array_equal(right, logits.argmax(1) == np.asarray(labels))
  assert not count
