"""IDM: its loss against a naive reading of Eq. 5, and the queue of networks."""

from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcjax import data, nn
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.methods import idm, slots
from dcjax.methods.setup import Setup
from dcjax.run.loop import Loop
from tests.networks import two_layers

SETTINGS = idm.IDMSettings(ipc=2, init="real", batch_real=6, lr_image=0.5, regularisation=0.5)
# Of the paper's schedule, and of the authors' program.
QUEUE = idm.QueueSettings(
  initial=2, size=4, interval=3, steps=5, batch=32, lr=0.05, pretrained=0,
  pretraining=0, classes=1.0, networks=1, trained=0, train_every=3, accuracy="measured",
)  # fmt: skip
PROGRAM = QUEUE._replace(trained=2, train_every=1, accuracy="running")
STRATEGY = Strategy(image_block=0)
# Compiling is what takes the time of programs that run a few times only.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


def network():
  return nn.create("convnet", (8, 8, 1), 10, width=4, depth=1)


def make(queue=QUEUE, **settings):
  return idm.idm(Setup(network(), STRATEGY), SETTINGS._replace(queue=queue, **settings))


@pytest.fixture(scope="module")
def method():
  found = make()
  return SimpleNamespace(init=jit(found.init), update=jit(found.update))


@pytest.fixture(scope="module")
def start(method, dataset):
  return method.init(jax.random.key(0), dataset)


@pytest.fixture(scope="module")
def program(dataset):
  """The states of 12 iterations of the authors' schedule, their metrics, and the update."""
  method = make(PROGRAM)
  update, states, metrics = jit(method.update), [jit(method.init)(jax.random.key(0), dataset)], []
  for number in range(12):
    state, found = update(states[-1], dataset, jax.random.key(number), number)
    states.append(state)
    metrics.append(found)
  return states, metrics, update


@pytest.fixture(scope="module")
def states(method, start, dataset):
  """The states of 20 iterations, the initial one first."""
  found = [start]
  for number in range(20):
    found.append(method.update(found[-1], dataset, jax.random.key(number), number)[0])
  return found


def kernels(state):
  return np.asarray(state.queue.slots.params["Linear_0"]["Dense_0"]["kernel"])


def test_the_queue_starts_with_random_networks(start):
  assert int(start.queue.pushed) == 2
  ours = kernels(start)
  assert not np.array_equal(ours[0], ours[1]) and not ours[2:].any()
  assert (start.queue.slots.accuracy[:2] < 0.4).all()


def test_a_network_is_trained_and_one_pushed_every_interval_only(states):
  for number, (before, after) in enumerate(pairwise(states)):
    due = number % QUEUE.interval == 0
    assert int(after.queue.pushed - before.queue.pushed) == due
    changed = set(np.flatnonzero((kernels(before) != kernels(after)).any((1, 2))))
    assert bool(changed) == due and len(changed) <= 2
    if due:  # the new one is in the place of the oldest, or in the first that is empty
      assert int(before.queue.pushed) % 4 in changed


def test_networks_get_better_in_the_queue(program, dataset):
  queue = program[0][-1].queue.slots
  steps, running = np.asarray(queue.steps), np.asarray(queue.accuracy)
  assert steps.max() >= 20 and running[steps.argmax()] > 0.3 > running[steps.argmin()]

  def share(slot):
    params = jax.tree.map(lambda leaf: leaf[slot], queue.params)
    logits, _ = network().apply(params, dataset.normalise(dataset.images))
    return (logits.argmax(-1) == dataset.labels).mean()

  assert share(steps.argmax()) > 0.6 > 0.3 > share(steps.argmin())


def test_only_networks_in_the_queue_are_sampled(method, start, dataset):
  """Each iteration's accuracy is that of one of the two networks, and both occur."""
  found = set()
  for seed in range(10):
    _, metrics = method.update(start, dataset, jax.random.key(seed), 0)
    found.add(float(metrics["accuracy"]))
  assert found == {float(a) for a in start.queue.slots.accuracy[:2]}


def test_training_is_sgd_with_momentum_and_weight_decay(method, start, dataset):
  key = jax.random.key(5)
  after, _ = method.update(start, dataset, key, 0)
  (slot,) = after.serving
  params = jax.tree.map(lambda leaf: leaf[slot], start.queue.slots.params)
  ours = jax.tree.map(lambda leaf: leaf[slot], after.queue.slots.params)
  trained, _ = trained_by_hand(params, dataset, jax.random.split(train_key(key), 1)[0])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, trained)


def train_key(key):
  return jax.random.split(key, 4)[2]


def trained_by_hand(params, dataset, key):
  """A network after K steps, and the mean share that it had right before each."""
  trace, shares = jax.tree.map(jnp.zeros_like, params), []

  @jit
  def gradient(params, key):
    index = data.sample_of_classes(dataset, key, jnp.ones(10, bool), n=32)
    labels = jnp.asarray(dataset.labels)[index]

    def loss(params):
      logits, _ = network().apply(params, dataset.normalise(dataset.images[index]))
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return losses.mean(), (logits.argmax(-1) == labels).mean()

    return jax.grad(loss, has_aux=True)(params)

  for t in range(QUEUE.steps):
    found, share = gradient(params, jax.random.fold_in(jax.random.split(key)[0], t))
    shares.append(float(share))
    trace = jax.tree.map(lambda v, g, p: 0.9 * v + g + 5e-4 * p, trace, found, params)
    params = jax.tree.map(lambda p, v: p - 0.05 * v, params, trace)
  return params, np.mean(shares)


def trained_between(before, after):
  """The slots of the networks that an iteration of the authors' schedule has trained."""
  return set(np.flatnonzero(after.queue.slots.steps - before.queue.slots.steps > 0).tolist())


def test_in_the_authors_schedule_one_network_serves_and_two_others_may_be_trained(program):
  apart = 0
  for number, (before, after) in enumerate(pairwise(program[0])):
    due = number % PROGRAM.interval == 0
    assert int(after.queue.pushed - before.queue.pushed) == due
    (serving,) = map(int, after.serving)
    new = {int(before.queue.pushed) % PROGRAM.size} if due else set()
    trained = trained_between(before, after)
    assert max(serving, *trained) < int(before.queue.pushed)
    assert 2 - due <= len(trained) <= 2  # the new one may be in the place of one just trained
    changed = set(np.flatnonzero((kernels(before) != kernels(after)).any((1, 2))))
    assert changed == trained | new
    steps = np.array(before.queue.slots.steps)
    steps[list(trained)] += PROGRAM.steps
    steps[list(new)] = 0
    np.testing.assert_array_equal(after.queue.slots.steps, steps)
    if new:  # it has no accuracy yet, hence no cross-entropy
      assert not np.asarray(after.queue.slots.accuracy)[list(new)].any()
    apart += serving not in trained
  assert apart


def test_the_running_accuracy_is_that_of_all_batches_that_trained_a_network(program, dataset):
  states, metrics, _ = program
  trained = [set(), *(trained_between(*pair) for pair in pairwise(states))]
  slot, (first, second) = next(
    (slot, times[:2])
    for slot in range(2)
    if len(times := [t for t in range(1, 7) if slot in trained[t]]) > 1  # before it is popped
  )

  def by_hand(t):
    """By the one of the two keys that the network had; only at first has it no momentum."""
    params = jax.tree.map(lambda leaf: leaf[slot], states[t - 1].queue.slots.params)
    keys = jax.random.split(train_key(jax.random.key(t - 1)), 2)
    expected = states[t].queue.slots.accuracy[slot]
    found = [trained_by_hand(params, dataset, key) for key in keys]
    return min(found, key=lambda each: abs(each[1] - expected))

  params, share = by_hand(first)
  after = jax.tree.map(lambda leaf: leaf[slot], states[first].queue.slots.params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), after, params)
  np.testing.assert_allclose(states[first].queue.slots.accuracy[slot], share, rtol=1e-5)
  second_share = 2 * float(states[second].queue.slots.accuracy[slot]) - share
  assert 0 <= second_share <= 1
  for t in (first, second):  # what is logged is of the network that served
    before, (serving,) = states[t - 1].queue.slots, map(int, states[t].serving)
    np.testing.assert_allclose(metrics[t - 1]["accuracy"], before.accuracy[serving], rtol=1e-6)
    np.testing.assert_allclose(metrics[t - 1]["steps"], before.steps[serving])


@pytest.mark.parametrize("schedule", ["paper", "two at once"])
def test_the_loss_is_that_of_equation_5(schedule, method, states, program, dataset):
  """With the accuracy in per cent, and added up over the networks that serve."""
  key = jax.random.key(6)
  two = SimpleNamespace(update=jit(make(PROGRAM._replace(networks=2)).update))
  update = {"paper": method, "two at once": two}[schedule].update
  state = states[-1] if schedule == "paper" else program[0][-1]
  after, metrics = update(state, dataset, key, 20)
  match_key = jax.random.split(key, 4)[1]
  serving = [
    (slots.at(state.queue.slots.params, slot), float(state.queue.slots.accuracy[slot]))
    for slot in after.serving
  ]
  assert len(serving) == (1 if schedule == "paper" else 2) and serving[0][1] > 0

  def by_hand(images):
    losses = []
    for label in range(10):
      batch_key = jax.random.split(jax.random.fold_in(match_key, label))[0]
      index = data.sample(dataset, batch_key, label, n=6)
      losses.append(0.0)
      for params, accuracy in serving:
        real = network().apply(params, dataset.normalise(dataset.images[index]))[1]
        logits, features = network().apply(params, images[label])
        labels = jnp.full(2, label)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        distance = ((real.mean(0) - features.mean(0)) ** 2).sum()
        losses[-1] += distance + 0.5 * (100 * accuracy) * entropy
    return jnp.stack(losses).sum(), jnp.stack(losses).mean()

  (_, mean), gradient = jit(jax.value_and_grad(by_hand, has_aux=True))(state.stored.images)
  np.testing.assert_allclose(metrics["loss"], mean, rtol=1e-4)
  momentum = optax.tree.get(state.optimizer, "trace").images
  expected = state.stored.images - 0.5 * (0.5 * momentum + gradient)
  np.testing.assert_allclose(after.stored.images, expected, rtol=1e-4, atol=1e-3)


def test_pretrained_networks_are_copied_with_rates_and_classes_of_their_own(dataset):
  queue = QUEUE._replace(initial=4, pretrained=2, pretraining=30, classes=0.3)
  state = jit(make(queue).init)(jax.random.key(0), dataset)
  ready = np.asarray(state.queue.pretrained["Linear_0"]["Dense_0"]["kernel"])
  assert all(any(np.array_equal(one, other) for other in ready) for one in kernels(state))
  slots = state.queue.slots
  assert (np.asarray(slots.classes).sum(1) == 3).all() and slots.accuracy.min() > 0.4
  rates = np.asarray(slots.rate) / 0.05
  assert len(set(rates)) == 4 and (np.abs(rates - 1) <= 0.1).all()


def test_the_queue_is_the_same_straight_resumed_and_in_other_chunks(start, dataset):
  one, other = (Loop(make(), dataset, jax.random.key(8), STRATEGY, chunk) for chunk in (50, 7))

  def run(loop, state, first, last):
    while first < last:
      state, first, _ = loop.run(state, first, last, jax.block_until_ready)
    return state

  straight = run(one, start, 0, 50)
  resumed = run(other, jax.device_get(run(other, start, 0, 23)), 23, 50)
  jax.tree.map(np.testing.assert_array_equal, resumed, straight)


def test_samples_come_from_the_chosen_classes_alike(dataset):
  classes = jnp.zeros(10, bool).at[jnp.array([2, 7])].set(True)
  index = data.sample_of_classes(dataset, jax.random.key(0), classes, n=20_000)
  labels, counts = np.unique(np.asarray(dataset.labels)[np.asarray(index)], return_counts=True)
  assert list(labels) == [2, 7]
  sizes = np.bincount(np.asarray(dataset.labels))[[2, 7]]
  np.testing.assert_allclose(counts / counts.sum(), sizes / sizes.sum(), atol=0.02)
  assert len(np.unique(index)) == sizes.sum()  # every image of both


@pytest.mark.slow
def test_an_iteration_copies_no_queue(dataset):
  """However many networks it holds, whether or not they are trained."""

  def memory(size):
    settings = SETTINGS._replace(queue=QUEUE._replace(size=size))
    method = idm.idm(Setup(two_layers(), STRATEGY), settings)
    loop = Loop(method, dataset, jax.random.key(8), STRATEGY, 5)
    state = jit(method.init)(jax.random.key(0), dataset)
    loop.compile(state, 0)
    held = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.queue.slots))
    return np.array([loop.programs[0].memory_analysis().temp_size_in_bytes, held])

  temporary, held = memory(64) - memory(4)
  assert temporary < 0.1 * held
