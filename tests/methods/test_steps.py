"""Methods as tuples of steps: which of them run when, on what, and what is refused."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import UserError, data
from dcjax.devices.strategy import Strategy
from dcjax.methods import Method, Step, unknown
from dcjax.run.streaming import StreamingLoop
from dcjax.sets.formation import Stored
from tests.data.test_stream import numbers

LAYOUT = Strategy()


class State(NamedTuple):
  """What the steps of these tests change."""

  stored: Stored  # images [1, 1, 2, 2, 1]
  log: jax.Array  # int32, a digit for each run of a step since the last one with metrics


@pytest.fixture(scope="module")
def dataset():
  """Two classes of 20 images whose pixels are their indices."""
  pixels = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
  labels = np.repeat([0, 1], 20)
  return data.from_arrays(pixels, labels, pixels[:2], labels[:2], name="numbers")


def on_disk(dataset):
  images = numbers()
  return dataset.replace(images=images.replace(memory=images.memory._replace(memory_limit=1000)))


def start(state, dataset, indices, key, number):
  return State(Stored(jnp.zeros((1, 1, 2, 2, 1)), {}), jnp.int32(0)), {}


def draw(dataset, key, number):
  return {"some": data.sample(dataset, key, 1, n=3), "one": jnp.int32([7])}


def log(digit, metrics=False):
  """A step that writes its digit and number into the log."""

  def run(state, dataset, indices, key, number):
    found = state.log * 10 + digit + number
    return (
      (state._replace(log=0 * found), {"loss": found})
      if metrics
      else (state._replace(log=found), {})
    )

  return run


def pixels(state, dataset, indices, key, number):
  """Its metrics are what it was given."""
  some, one = (dataset.images[indices[name]][:, 0, 0, 0] for name in ("some", "one"))
  labels = dataset.labels[indices["some"]]
  found = {"loss": 0 * state.log, "some": some.sum(), "one": one.sum(), "labels": labels.sum()}
  return state, found


def in_memory(method, dataset, key, count):
  state, found = method.init(jax.random.key(0), dataset), []
  for t in range(count):
    state, metrics = method.update(state, dataset, jax.random.fold_in(key, t), t)
    found.append(metrics)
  return state, found


def streamed(method, dataset, key, count):
  loop, found = StreamingLoop(method, on_disk(dataset), key, LAYOUT, count), []
  try:
    state = loop.start(jax.random.key(0))
    for t in range(count):
      state, _, metrics = loop.run(state, t, t + 1)
      found.append({name: value[0] for name, value in metrics.items()})
  finally:
    loop.close()
  return state, found


@pytest.mark.parametrize("run", [in_memory, streamed])
def test_steps_run_in_order_as_often_as_they_say(dataset, run):
  method = Method(
    start=(Step(start), Step(log(1), times=2)),
    iteration=(
      Step(log(3), every=3),
      Step(log(4), times=0),
      Step(log(5), times=2, every=2),
      Step(log(8, metrics=True)),
    ),
  )
  _, metrics = run(method, dataset, jax.random.key(1), 4)
  assert [int(found["loss"]) for found in metrics] == [123568, 8, 568, 38]


@pytest.mark.parametrize("run", [in_memory, streamed])
def test_a_step_is_given_the_images_that_it_has_drawn(dataset, run):
  key = jax.random.key(1)
  _, metrics = run(Method((Step(start),), (Step(pixels, draw),)), dataset, key, 3)
  for t, found in enumerate(metrics):
    indices = np.asarray(draw(dataset, jax.random.fold_in(key, t), 0)["some"])
    assert int(found["some"]) == indices.sum() and int(found["one"]) == 7
    assert int(found["labels"]) == (indices >= 20).sum() == 3


@pytest.mark.parametrize("run", [in_memory, streamed])
def test_a_step_changes_what_it_sees_of_the_state(dataset, run):
  def view(state, key):
    return state.log, lambda log: state._replace(log=log)

  def double(log, dataset, indices, key, number):
    return 2 * log, {}

  method = Method(
    (Step(start), Step(log(1))),
    (Step(log(0)), Step(double, every=2, view=view), Step(pixels, draw)),
  )
  state, _ = run(method, dataset, jax.random.key(1), 3)
  assert int(state.log) == 10 * 2 * 10 * 10 * 2


def test_a_step_that_draws_once_more_is_an_error_on_disk(dataset):
  def otherwise(state, dataset, indices, key, number):
    again = data.sample(dataset, jax.random.fold_in(key, 1), 1, n=3)
    return state, {"loss": dataset.images[again].astype(jnp.float32).mean()}

  method = Method((Step(start),), (Step(otherwise, draw),))
  with pytest.raises(IndexError, match="out of bounds for axis 0 with size 0"):
    streamed(method, dataset, jax.random.key(1), 1)


@pytest.mark.parametrize("often", [{"every": 2}, {"times": 2}])
def test_metrics_of_a_step_that_is_not_in_each_iteration_once_are_an_error(dataset, often):
  method = Method((Step(start),), (Step(log(1, metrics=True), **often),))
  with pytest.raises(TypeError, match="loss"):
    in_memory(method, dataset, jax.random.key(1), 1)


def test_what_depends_on_the_state_is_not_read_from_disk(dataset):
  method = Method((Step(start),), (Step(log(1, metrics=True), unknown),))
  assert in_memory(method, dataset, jax.random.key(1), 1)[1]
  with pytest.raises(UserError, match=r"compute.streaming"):
    streamed(method, dataset, jax.random.key(1), 1)
