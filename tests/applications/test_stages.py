"""What is learned at a stage, against hand calculations on linear networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import data, evaluation, nn
from dcjax.applications.continual import stages
from dcjax.applications.continual.stages import Distillation, Phase, Previous, Rehearsal
from dcjax.data import from_arrays
from dcjax.devices.strategy import Strategy
from dcjax.nn import training

OLD, CLASSES, PIXELS = 2, 3, 4
LAYOUT = Strategy(image_block=0)


def linear(classes):
  """A linear network without biases, with parameters as Flax has them."""

  def apply(params, images, stats=None):
    features = images.reshape(images.shape[0], -1)
    return features @ params["kernel"], features

  def init(key):
    return {"kernel": jax.random.normal(key, (PIXELS, classes))}

  return nn.Network(init, apply, lambda params, images: {}, batch_norm=False)


def softmax(logits):
  exponentials = np.exp(logits - logits.max(1, keepdims=True))
  return exponentials / exponentials.sum(1, keepdims=True)


def hand_gradient(kernel, x, targets, former=None, weight=0.0, temperature=1.0):
  """Of the mean of the cross-entropy, and of that towards a former network."""
  errors = softmax(x @ kernel) - targets
  if former is not None:
    old = former.shape[1]
    difference = softmax(x @ kernel[:, :old] / temperature) - softmax(x @ former / temperature)
    errors[:, :old] += weight / temperature * difference
  return x.T @ errors / len(x)


@pytest.fixture
def problem():
  """Parameters of two networks, images `[7, 2, 2, 1]`, labels."""
  rng = np.random.default_rng(0)
  kernel, former = rng.standard_normal((PIXELS, CLASSES)), rng.standard_normal((PIXELS, OLD))
  images = rng.standard_normal((7, 2, 2, 1))
  labels = rng.integers(0, CLASSES, 7)
  return jnp.float32(kernel), jnp.float32(former), jnp.float32(images), jnp.int32(labels)


@pytest.mark.parametrize("kind", ["hard", "soft", "mixed"])
def test_distillation_adds_the_loss_towards_the_former_network(problem, kind):
  kernel, former, images, labels = problem
  known = Previous(linear(OLD), {"kernel": former}, OLD)
  network, teach = stages.distilling(linear(CLASSES), CLASSES, known, Distillation(0.7, 2.0))
  targets = np.eye(CLASSES, dtype=np.float32)[labels]
  given = labels
  if kind != "hard":
    targets = 0.75 * targets + 0.25 * targets[::-1]
    given = jnp.asarray(targets)
  if kind == "mixed":  # as CutMix makes them, with as many classes as the network has logits
    given = jnp.pad(given, ((0, 0), (0, OLD)))
  found = training.gradient(
    network, {"kernel": kernel}, images, teach(images, given), jnp.full(7, 1 / 7), block=7
  )
  x = np.asarray(images).reshape(7, -1)
  expected = hand_gradient(np.asarray(kernel), x, targets, np.asarray(former), 0.7, 2.0)
  np.testing.assert_allclose(found["kernel"], expected, rtol=1e-4, atol=1e-6)


def test_a_grown_network_does_what_the_smaller_one_did(problem):
  _, _, images, _ = problem
  network = nn.create("mlp", (2, 2, 1), CLASSES)
  smaller = nn.create("mlp", (2, 2, 1), OLD)
  params = smaller.init(jax.random.key(1))
  fresh = network.init(jax.random.key(2))
  grown = stages.grow(params, fresh)
  np.testing.assert_allclose(
    network.apply(grown, images)[0][:, :OLD], smaller.apply(params, images)[0], rtol=1e-6
  )
  last = max(name for name in fresh)
  for old, new in zip(jax.tree.leaves(fresh[last]), jax.tree.leaves(grown[last]), strict=True):
    np.testing.assert_array_equal(old[..., OLD:], new[..., OLD:])


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_memory_is_learned_from_where_the_former_network_was(problem, weight):
  _, former, images, labels = problem
  settings = evaluation.EvaluationSettings("dc", 1, "none", networks=1, checks=1)
  key, network = jax.random.key(3), linear(CLASSES)
  known = Previous(linear(OLD), {"kernel": former}, OLD)
  found = stages.learn_memory(
    network, images, labels, key, known,
    classes=CLASSES, settings=settings, layout=LAYOUT, distillation=Distillation(weight, 2.0),
  )  # fmt: skip
  fresh = network.init(jax.random.split(key)[0])["kernel"]
  start = np.concatenate([former, fresh[:, OLD:]], axis=1)
  x, targets = np.asarray(images).reshape(7, -1), np.eye(CLASSES)[labels]
  gradient = hand_gradient(start, x, targets, np.asarray(former), weight, 2.0)
  # The whole memory is one batch; the rate was cut after half of the epochs, which is at once.
  expected = start - 0.001 * (gradient + 5e-4 * start)
  np.testing.assert_allclose(found["kernel"], expected, rtol=1e-5, atol=1e-6)


@pytest.fixture
def task():
  """A data set of two classes, and memories of one before and of it, an image a class."""
  rng = np.random.default_rng(1)
  images = rng.integers(0, 256, (5, 2, 2, 1), dtype=np.uint8)
  dataset = from_arrays(images, np.array([0, 1, 0, 1, 1]), images, np.arange(5) % 2, name="new")
  memories = jnp.float32(rng.standard_normal((2, OLD, 1, 2, 2, 1)))
  return dataset, [(memory, jnp.array([[0], [1]], jnp.int32)) for memory in memories]


def step(kernel, images, labels, rate, former, weight):
  x = np.asarray(images).reshape(len(images), -1)
  targets = np.eye(OLD)[np.asarray(labels)] if np.ndim(labels) == 1 else labels
  gradient = hand_gradient(kernel, x, targets, former, weight, 2.0)
  return kernel - rate * (gradient + stages.WEIGHT_DECAY * kernel)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_rehearsal_mixes_new_and_old_and_then_balances(task, weight, soft):
  dataset, memories = task
  probabilities = np.float32([[0.8, 0.2], [0.3, 0.7]])
  if soft:
    memories = [(memory, jnp.asarray(probabilities)[:, None]) for memory, _ in memories]
  settings = Rehearsal(Phase(1, 0.1), Phase(1, 0.02), batch=64, augmentation="none")
  key, former = jax.random.key(4), jax.random.normal(jax.random.key(5), (PIXELS, OLD))
  found = stages.rehearse(
    linear(OLD), dataset, memories[:1], memories[1], key, previous={"kernel": former},
    settings=settings, layout=LAYOUT, distillation=Distillation(weight, 2.0),
  )  # fmt: skip
  _, train_key, tune_key = jax.random.split(key, 3)

  def drawn(key, count):
    return np.asarray(jax.random.randint(jax.random.fold_in(key, 0), (64,), 0, count))

  (old, _), (new, _) = memories
  images = np.concatenate([dataset.normalise(dataset.images), *old])
  labels = np.concatenate([dataset.labels, [0, 1]])
  balanced_labels = np.array([0, 1, 0, 1])
  if soft:
    labels = np.concatenate([np.eye(OLD)[labels[:5]], probabilities])
    balanced_labels = np.concatenate([probabilities, probabilities])
  places = drawn(train_key, 7)
  assert set(places) == set(range(7))
  start = np.asarray(former)
  kernel = step(start, images[places], labels[places], 0.1, start, weight)
  balanced, places = np.concatenate([*old, *new]), drawn(tune_key, 4)
  kernel = step(kernel, balanced[places], balanced_labels[places], 0.02, start, weight)
  np.testing.assert_allclose(found["kernel"], kernel, rtol=1e-4, atol=1e-6)


def test_the_first_task_is_learned_from_its_images_alone(task):
  dataset, memories = task
  settings = Rehearsal(Phase(1, 0.1), Phase(9, 0.5), batch=64, augmentation="none")
  key, network = jax.random.key(6), linear(OLD)
  found = stages.rehearse(
    network, dataset, [], memories[0], key, previous=None,
    settings=settings, layout=LAYOUT, distillation=Distillation(1.0, 2.0),
  )  # fmt: skip
  init_key, train_key, _ = jax.random.split(key, 3)
  places = jax.random.randint(jax.random.fold_in(train_key, 0), (64,), 0, 5)
  images = dataset.normalise(dataset.images)[places]
  start = np.asarray(network.init(init_key)["kernel"])
  expected = step(start, images, dataset.labels[places], 0.1, None, 0.0)
  np.testing.assert_allclose(found["kernel"], expected, rtol=1e-4, atol=1e-6)


def test_mixed_images_are_those_of_both(task):
  dataset, memories = task
  old, _ = data.as_batch(memories[0][0])
  mixed = stages.Mixed(dataset, old)
  assert mixed.shape == (7, 2, 2, 1)
  whole = np.concatenate([dataset.normalise(dataset.images), old])
  np.testing.assert_array_equal(mixed[jnp.array([6, 0, 5, 4])], whole[[6, 0, 5, 4]])
