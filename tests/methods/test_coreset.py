"""Coresets: choices against loops in NumPy and by hand; what is padded; memory; compilations."""

from functools import partial

import chex
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import nn
from dcjax.data import from_arrays
from dcjax.methods import coreset

KEY = jax.random.key(0)
jit = partial(jax.jit, static_argnames="ipc")
BY_FEATURES = {
  "nearest": jit(coreset.nearest),
  "greedy": jit(coreset.greedy),
  "k_center": jit(coreset.k_center),
}
forgetting, random = jit(coreset.forgetting), jit(coreset.random)
forgetting_events = jax.jit(coreset.forgetting_events)


def nearest_by_loops(features, ipc):
  """The images closest to the mean of their class (DC, section 3.1)."""
  distances = [float(np.linalg.norm(row - features.mean(0))) for row in features]
  return sorted(range(len(features)), key=lambda row: distances[row])[:ipc]


def greedy_by_loops(features, ipc):
  """Rebuffi et al. (2017), Algorithm 4, on features as they are."""
  center, chosen = features.mean(0), []
  for _ in range(ipc):
    distances = {
      row: np.linalg.norm(features[[*chosen, row]].mean(0) - center)
      for row in range(len(features))
      if row not in chosen
    }
    chosen.append(min(distances, key=distances.get))
  return chosen


def k_center_by_loops(features, ipc):
  chosen = [int(np.linalg.norm(features - features.mean(0), axis=1).argmin())]
  while len(chosen) < ipc:
    nearest = [min(np.linalg.norm(row - features[c]) for c in chosen) for row in features]
    chosen.append(int(np.argmax(nearest)))
  return chosen


BY_LOOPS = {
  "nearest": nearest_by_loops,
  "greedy": greedy_by_loops,
  "k_center": k_center_by_loops,
}


def padded(features, fill):
  """Rows behind the features that must not matter, and the mask that says so."""
  rows = np.full((5, features.shape[1]), fill)
  valid = np.arange(len(features) + 5) < len(features)
  return np.float32(np.concatenate([features, rows])), valid


@pytest.mark.parametrize("method", BY_FEATURES)
@pytest.mark.parametrize("fill", [0.0, 1e6, np.nan])
@pytest.mark.parametrize("ipc", [1, 7, 30])
def test_features_decide_as_in_a_loop(method, fill, ipc):
  features = np.random.default_rng(ipc).standard_normal((30, 4))
  chosen = BY_FEATURES[method](*padded(features, fill), ipc=ipc)
  assert chosen.dtype == jnp.int32
  np.testing.assert_array_equal(chosen, BY_LOOPS[method](features, ipc))


@pytest.mark.parametrize(
  ("method", "expected"),
  # Distances to 3 are 3, 2, 1 and 6; means of two are 1 and 1.5 with 0 and 1, and 5.5 with 9; of
  # three 1, and 4 with 9.
  [("nearest", [2, 1, 0]), ("greedy", [2, 1, 3]), ("k_center", [2, 3, 0])],
)
def test_numbers_on_a_line_by_hand(method, expected):
  # The mean of 0, 1, 2 and 9 is 3.
  features = np.float32([[0], [1], [2], [9]])
  chosen = BY_FEATURES[method](features, np.ones(4, bool), ipc=3)
  np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("method", BY_FEATURES)
def test_equal_images_are_chosen_once_each(method):
  chosen = BY_FEATURES[method](*padded(np.ones((6, 3)), 0.0), ipc=6)
  np.testing.assert_array_equal(np.sort(chosen), np.arange(6))


@pytest.mark.parametrize("method", BY_FEATURES)
def test_memory_is_that_of_the_features(method):
  """No intermediate array has a value for each pair of rows."""
  features, valid = np.zeros((500, 3), np.float32), np.ones(500, bool)
  program = jax.make_jaxpr(partial(BY_FEATURES[method], ipc=50))(features, valid)
  assert max(sizes(program.jaxpr)) <= 500 * 3


def sizes(program):
  """Of all arrays of a program, also of those within its loops."""
  for equation in program.eqns:
    yield from (variable.aval.size for variable in equation.outvars)
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from sizes(inner)


# --- Forgetting ----------------------------------------------------------------------------


def test_events_by_hand():
  correct = np.array([
    [0, 1, 1, 0, 0],
    [0, 1, 0, 1, 0],
    [0, 1, 1, 0, 0],
    [0, 1, 0, 0, 1],
  ], bool)  # fmt: skip
  np.testing.assert_array_equal(forgetting_events(correct), [4, 0, 2, 1, 0])


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_never_right_is_more_than_any_other(epochs):
  history = np.random.default_rng(0).random((epochs, 1000)) < 0.5
  history[:, 0] = False
  events = np.asarray(forgetting_events(history))
  learned = history.any(0)
  assert (events[~learned] == epochs).all() and (events[learned] < epochs).all()


def test_the_most_forgotten_come_first():
  events = np.int32([0, 3, 1, 2, 3, 9, 9])
  valid = np.arange(7) < 5
  chosen = np.asarray(forgetting(KEY, events, valid, ipc=4))
  assert set(chosen[:2]) == {1, 4} and list(chosen[2:]) == [3, 2]


def test_chance_decides_between_equally_forgotten():
  events, valid = np.zeros(6, np.int32), np.arange(6) < 4
  choose = jax.jit(jax.vmap(partial(coreset.forgetting, events=events, valid=valid, ipc=1)))
  chosen = np.asarray(choose(jax.random.split(KEY, 400)))[:, 0]
  assert np.bincount(chosen, minlength=6).min(initial=400, where=np.arange(6) < 4) > 60
  assert chosen.max() == 3


# --- Chance --------------------------------------------------------------------------------


def test_random_is_uniform_and_distinct():
  valid = np.array([True, False, True, True, True, False])
  draw = jax.jit(jax.vmap(partial(coreset.random, valid=valid, ipc=2)))
  chosen = np.asarray(draw(jax.random.split(KEY, 1000)))
  assert (chosen[:, 0] != chosen[:, 1]).all()
  counts = np.bincount(chosen.ravel(), minlength=6)
  assert (counts[[1, 5]] == 0).all()
  assert (abs(counts[[0, 2, 3, 4]] - 500) < 80).all()  # more than four deviations


def test_all_images_of_a_class_can_be_chosen():
  valid = np.arange(9) < 6
  np.testing.assert_array_equal(np.sort(random(KEY, valid, ipc=6)), np.arange(6))


# --- Classes -------------------------------------------------------------------------------

SIZES = (5, 12, 8)


@pytest.fixture(scope="module")
def dataset():
  rng = np.random.default_rng(0)
  labels = rng.permutation(np.repeat(np.arange(3), SIZES))
  images = rng.integers(0, 256, (len(labels), 3, 3, 1), dtype=np.uint8)
  return from_arrays(images, labels, images[:3], np.arange(3), name="toy")


def pixels_apply(params, images, stats=None):
  features = images.reshape(images.shape[0], -1) * params
  return features[:, :3], features


PIXELS = nn.Network(  # its features are the pixels, some of them weighted
  init=lambda key: jnp.arange(1, 10, dtype=jnp.float32)[None],
  apply=pixels_apply,
  statistics=lambda params, images: {},
  batch_norm=False,
)


@pytest.mark.parametrize("choice", BY_FEATURES)
@pytest.mark.parametrize("block", [1, 7, 64])
def test_features_of_each_class_come_from_the_network(dataset, choice, block):
  of_herding = {"method": "herding", "rule": choice}
  method = of_herding if choice in coreset.HERDING else {"method": choice}
  params, events = PIXELS.init(KEY), jnp.zeros_like(dataset.labels)

  chex.clear_trace_counter()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def program(*inputs):
    return coreset.by_network(*inputs, network=PIXELS, ipc=4, block=block, **method)

  for label, start in enumerate(np.cumsum([0, *SIZES[:-1]])):
    places = np.arange(start, start + SIZES[label])
    pixels = np.asarray(dataset.images, np.float64)[places].reshape(len(places), -1) / 255
    normalised = (pixels - np.asarray(dataset.mean)) / np.asarray(dataset.std)
    features = normalised * np.arange(1, 10)
    expected = places[BY_LOOPS[choice](features, 4)]
    np.testing.assert_array_equal(program(dataset, params, events, KEY, label), expected)


def test_forgetting_looks_at_the_events_of_the_class(dataset):
  events = np.int32(np.random.default_rng(1).permutation(sum(SIZES)))
  program = jax.jit(
    partial(coreset.by_network, network=PIXELS, method="forgetting", ipc=3, block=8)
  )
  for label, start in enumerate(np.cumsum([0, *SIZES[:-1]])):
    own = events[start : start + SIZES[label]]
    chosen = program(dataset, None, events, KEY, label)
    np.testing.assert_array_equal(chosen, start + np.argsort(-own)[:3])


def test_chance_chooses_what_is_free_in_each_class(dataset):
  free = np.random.default_rng(2).random(sum(SIZES)) < 0.7
  draw = jax.jit(jax.vmap(partial(coreset.by_chance, ipc=2), in_axes=(None, None, 0)))
  places = np.asarray(draw(dataset, free, jax.random.split(KEY, 300)))
  assert places.shape == (300, 3, 2)
  for label in range(3):
    can_be = np.flatnonzero(free & (np.asarray(dataset.labels) == label))
    np.testing.assert_array_equal(np.unique(places[:, label]), can_be)


def test_the_first_of_each_class_are_those_that_are_free_in_their_order(dataset):
  free = np.ones(sum(SIZES), bool)
  starts = np.cumsum([0, *SIZES[:-1]])
  choose = jax.jit(partial(coreset.by_chance, ipc=2, rule="first"))
  for key in jax.random.split(KEY):  # which does not matter
    np.testing.assert_array_equal(
      choose(dataset, free, key), starts[:, None] + np.array([[0, 1]] * 3)
    )
  free[starts[1]] = False
  np.testing.assert_array_equal(choose(dataset, free, KEY)[1], starts[1] + np.array([1, 2]))
