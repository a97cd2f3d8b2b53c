"""Trajectory matching against trainings that are written out, and finite differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dcjax.configs import datm, ftd, mtt
from jax.flatten_util import ravel_pytree

import dcjax.config
from dcjax import UserError, augment
from dcjax.common import environment
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.methods import tm as module
from dcjax.methods.setup import Setup
from dcjax.methods.tm import (
  Learned,
  Start,
  Student,
  TMSettings,
  gradient_exact,
  gradient_tesla,
  tm,
  upper_end,
)
from dcjax.methods.trajectories import Trajectories
from dcjax.run.loop import Loop
from dcjax.sets.formation import Stored, create
from tests.networks import two_layers
from tests.runs import tiny

CLASSES, LAYOUT = 10, Strategy(image_block=8)
THREE_STEPS, EARLY = Student(3, 0, 0.1, 1), Start(0, 3, 3, 0)
TURNS = augment.augmentations(scheme="synthetic", strategy="rotate_scale")


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


def experts_of(dataset, networks=3, epochs=6, rate=0.5):
  """Experts that are trained by hand, on a few images."""
  images = dataset.normalise(dataset.images[::20])
  targets = jnp.eye(CLASSES, dtype=jnp.float32)[dataset.labels[::20]]

  def loss(params):
    return -(targets * jax.nn.log_softmax(two_layers().apply(params, images)[0])).sum(1).mean()

  @jax.jit
  def step(params):
    for _ in range(10):
      params = jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params))
    return params

  files = []
  for number in range(networks):
    params = two_layers().init(jax.random.key(100 + number))
    rows = [np.asarray(ravel_pytree(params)[0])]
    for _ in range(epochs):
      params = step(params)
      rows.append(np.asarray(ravel_pytree(params)[0]))
    files.append(np.stack(rows))
  return Trajectories(files, list(range(epochs + 1)), {"experts": {"digest": "1"}})


@pytest.fixture(scope="module")
def experts(dataset):
  return experts_of(dataset)


def settings(student=THREE_STEPS, start=EARLY, **more):
  given = {"ipc": 2, "lr_image": 0.1, "lr_lr": 0.01, "lr_label": 0.2, "expert_epochs": 2}
  return TMSettings(**{**given, "student": student, "start": start, **more})


def iterate(method, dataset, count):
  """The initial state, then those after each iteration with its metrics."""
  state, update = jax.jit(method.init)(jax.random.key(1), dataset), jax.jit(method.update)
  yield state, {}
  for t in range(count):
    state, metrics = update(state, dataset, jax.random.fold_in(jax.random.key(5), t), t)
    yield state, metrics


def bound(of, experts, augmentations=TURNS, layout=LAYOUT, **more):
  return tm(Setup(two_layers(), layout, augmentations), of, experts, **more)


class Matching:
  """A student with what it is matched to, in a type of numbers."""

  def __init__(self, dataset, of, soft=False, exact: Any = jnp.float32, augmentations=TURNS):
    rng = np.random.default_rng(0)
    self.of = of
    self.student = module._Student(
      Setup(two_layers(), LAYOUT, augmentations), of, dataset, jax.random.key(7)
    )
    images = jnp.asarray(rng.standard_normal((CLASSES, of.ipc, 8, 8, 1)), exact)
    logits = jnp.asarray(rng.standard_normal((CLASSES, of.ipc, CLASSES)), exact)
    self.learned = Learned(Stored(images, {}), logits if soft else None, jnp.asarray(0.1, exact))
    weights = [rng.standard_normal((2, *shape)) * 0.3 for shape in ((64, 8), (8, 10))]
    self.theta, self.target = ([jnp.asarray(w[i], exact) for w in weights] for i in (0, 1))

  def by_hand(self, learned):
    """The loss of a training whose steps stand one after another."""
    images, student = learned.stored.images.reshape(-1, 8, 8, 1), self.student
    count, theta = len(images), self.theta
    batch = self.of.student.batch or count
    labels = jnp.eye(CLASSES, dtype=images.dtype)[np.repeat(np.arange(CLASSES), self.of.ipc)]
    if learned.labels is not None:
      labels = jax.nn.softmax(learned.labels.reshape(-1, CLASSES))
    queue: list[int] = []
    for number in range(self.of.student.steps):
      if not queue:
        with jax.ensure_compile_time_eval():
          key = jax.random.fold_in(student._order_key, number // -(-count // batch))
          queue = jax.random.permutation(key, count).tolist()
      chosen, queue = np.array(queue[:batch]), queue[batch:]
      omega = jax.random.fold_in(student._omega, number)
      some = student.setup.augmentations.synthetic(omega, images[chosen])

      def loss(theta, some=some, chosen=chosen):
        logits = jax.nn.log_softmax(two_layers().apply(theta, some)[0])
        return -(labels[chosen] * logits).sum() / len(chosen)

      gradient = jax.grad(loss)(theta)
      theta = jax.tree.map(lambda p, g: p - learned.lr * g, theta, gradient)
    far = [jnp.square(a - b).sum() for a, b in zip(self.theta, self.target, strict=True)]
    left = [jnp.square(a - b).sum() for a, b in zip(theta, self.target, strict=True)]
    return sum(left) / sum(far)

  def found(self, function=gradient_exact):
    return jax.jit(lambda learned: function(self.student, learned, self.theta, self.target))(
      self.learned
    )


@pytest.mark.parametrize(
  ("student", "soft"),
  [
    (Student(4, 8, 0.1, 1), True),
    pytest.param(Student(5, 10, 0.1, 2), False, marks=pytest.mark.slow),
  ],
  ids=["batches", "segments"],
)
def test_the_gradient_is_that_of_a_training_step_by_step(dataset, student, soft):
  matching = Matching(dataset, settings(student), soft)
  value, expected = jax.jit(jax.value_and_grad(matching.by_hand))(matching.learned)
  loss, gradients = matching.found()
  np.testing.assert_allclose(loss, value, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max()), gradients, expected
  )


@pytest.mark.parametrize("soft", [False, True])
def test_the_gradient_is_that_of_finite_differences(dataset, soft):
  with jax.enable_x64(True):
    matching = Matching(dataset, settings(), soft, jnp.float64, augment.NOTHING)
    _, gradients = matching.found()
    leaves, tree = jax.tree.flatten(matching.learned)
    rng = np.random.default_rng(1)
    directions = [rng.standard_normal(leaf.shape) for leaf in leaves]
    loss = jax.jit(lambda learned: matching.by_hand(learned))

    def along(step):
      moved = [leaf + step * d for leaf, d in zip(leaves, directions, strict=True)]
      return float(loss(jax.tree.unflatten(tree, moved)))

    expected = (along(1e-6) - along(-1e-6)) / 2e-6
    slopes = zip(jax.tree.leaves(gradients), directions, strict=True)
    np.testing.assert_allclose(sum((g * d).sum() for g, d in slopes), expected, rtol=1e-6)


@pytest.mark.parametrize("soft", [pytest.param(False, marks=pytest.mark.slow), True])
def test_teslas_gradient_is_exact_for_one_step_and_another_for_more(dataset, soft):
  def both(steps):
    matching = Matching(dataset, settings(Student(steps, 10, 0.1, 1)), soft)
    return matching.found(), matching.found(gradient_tesla)

  (loss, exact), (value, found) = both(1)
  np.testing.assert_allclose(value, loss, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()), found, exact
  )
  (loss, exact), (value, found) = both(3)
  np.testing.assert_allclose(value, loss, rtol=1e-5)
  length = np.linalg.norm(exact.stored.images)
  assert np.linalg.norm(exact.stored.images - found.stored.images) > 0.01 * length
  # Of few steps it is still much the same way.
  along = np.vdot(exact.stored.images, found.stored.images)
  assert along > 0.9 * length * np.linalg.norm(found.stored.images)


def test_an_iteration_descends_by_sgd_with_momentum(dataset, experts):
  method = bound(settings(learn="both"), experts)
  (state, _), *after = iterate(method, dataset, 2)
  assert state.learned.labels.shape == (CLASSES, 2, CLASSES) and state.learned.lr == np.float32(0.1)
  for new, metrics in after:
    assert np.isfinite(metrics["loss"]) and 0 <= metrics["start"] < 3
    trace = new.optimizer.inner_states["images"].inner_state[0].trace.stored.images
    moved = np.asarray(state.stored.images - new.stored.images)
    np.testing.assert_allclose(moved, 0.1 * np.asarray(trace), atol=1e-6)
    state = new
  assert int(state.done) == 2 and method.labels(state) is state.learned.labels
  about = method.about(state)
  assert about == {"student_lr": float(state.learned.lr), "experts": {"digest": "1"}}


def test_students_come_nearer_to_their_experts(dataset, experts):
  of = settings(Student(5, 0, 0.05, 1), lr_image=10.0, lr_lr=1e-2)
  _, *after = iterate(bound(of, experts, augment.NOTHING), dataset, 60)
  losses = [float(metrics["loss"]) for _, metrics in after]
  assert np.mean(losses[-15:]) < 0.8 * np.mean(losses[:15])


def test_the_average_is_what_is_saved(dataset, experts):
  (state, _), *after = iterate(bound(settings(average=0.75), experts), dataset, 3)
  average = np.asarray(state.stored.images)
  for state, _ in after:
    average = 0.75 * average + 0.25 * np.asarray(state.learned.stored.images)
    np.testing.assert_allclose(state.stored.images, average, atol=1e-6)
  assert (state.stored.images != state.learned.stored.images).any()


@pytest.mark.parametrize(("skip_above", "changes"), [(1e-6, False), (1e6, True)])
def test_a_loss_too_high_changes_nothing(dataset, experts, skip_above, changes):
  method = bound(settings(skip_above=skip_above, learn="both"), experts)
  (state, _), (new, _) = iterate(method, dataset, 1)
  assert (new.stored.images != state.stored.images).any() == changes
  assert (new.learned.labels != state.learned.labels).any() == changes
  assert int(new.done) == 1


def test_the_window_grows():
  start = Start(least=0, most=20, first=10, grow=1000)
  ends = {t: int(upper_end(start, jnp.int32(t))) for t in (0, 99, 100, 500, 1000, 10**6)}
  assert ends == {0: 10, 99: 10, 100: 11, 500: 15, 1000: 20, 10**6: 20}
  assert int(upper_end(Start(0, 4, 4, 0), jnp.int32(7))) == 4


def test_students_begin_in_the_window(dataset, experts):
  _, *after = iterate(bound(settings(start=Start(1, 4, 2, 30)), experts), dataset, 60)
  found = [int(metrics["start"]) for _, metrics in after]
  assert set(found[:15]) == {1} and set(found[30:]) == {1, 2, 3}


def test_images_that_an_expert_classifies_right_come_first(dataset, experts):
  method = bound(settings(init="correct", learn="both"), experts, candidates=12)
  ((state, _),) = iterate(method, dataset, 0)
  flat, labels = state.stored.images.reshape(-1, 8, 8, 1), np.repeat(np.arange(CLASSES), 2)
  assert len(flat) == CLASSES * 2
  params = [module.unraveller(two_layers())(jnp.asarray(rows[-1])) for rows in experts._files]
  logits = np.stack([two_layers().apply(each, flat)[0] for each in params])
  right = logits.argmax(-1) == labels
  assert right.mean(1).max() == 1  # by the expert that was drawn
  weights = np.where(right.any(0), right, 1)[..., None]
  expected = (weights * logits).sum(0) / weights.sum(0)
  np.testing.assert_allclose(state.learned.labels.reshape(20, 10), expected, atol=1e-4)


def test_labels_of_tiles_are_those_of_their_image(dataset, experts):
  forming = create(
    name="uniform", factor=2, shape=(8, 8, 1), ipc=2, mean=(0.3,), std=(0.4,), unit=False
  )
  setup, of = Setup(two_layers(), LAYOUT, TURNS, forming), settings(learn="both")
  (state, _), (_, metrics) = iterate(tm(setup, of, experts), dataset, 1)
  assert np.isfinite(metrics["loss"])
  student = module._Student(setup, of, dataset, jax.random.key(1))
  images, logits = student.examples(state.learned)
  assert images.shape[:2] == logits.shape[:2] == (CLASSES, 2 * 4)
  of_image = logits.reshape(CLASSES, 2, 4, CLASSES)
  for tile in range(4):
    np.testing.assert_array_equal(of_image[:, :, tile], state.learned.labels)


@pytest.mark.parametrize("mesh", [(2, 2)])
def test_on_several_devices_as_on_one(dataset, experts, mesh):
  def after_two(layout):
    method = bound(settings(learn="both", average=0.5), experts, layout=layout)
    loop = Loop(method, dataset, jax.random.key(7), layout)
    return loop.run(loop.start(jax.random.key(8)), 0, 2)[0].learned

  found, expected = after_two(Strategy(mesh=mesh)), after_two(Strategy())
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


# --- As configs know it ----------------------------------------------------------------------


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"learn": "labels"}, "learn: unknown 'labels'"),
    ({"gradient": "first"}, "gradient: unknown 'first'"),
    ({"init": "right"}, "init: unknown 'right'"),
    ({"student__steps": 0}, "student.steps: 0"),
    ({"student__lr": float("nan")}, "student.lr: nan"),
    ({"student__segment": 0}, "student.segment: 0"),
    ({"lr_label": 0.0}, "lr_label: 0.0"),
    ({"expert_epochs": 0}, "expert_epochs: 0"),
    ({"average": 1.0}, "average: 1.0 is not in"),
    ({"start__least": 3}, "start: least=3, first=1, most=1"),
    ({"start__most": 9, "experts__epochs": 9, "start__first": 4}, "start.grow: 0 iterations"),
    ({"start__first": 4}, "start: least=0, first=4, most=1"),
    ({"experts__kept": "some"}, "experts.kept: unknown 'some'"),
    ({"experts__dtype": "int8"}, "experts.dtype: unknown 'int8'"),
    ({"experts__lr": -1.0}, "experts.lr: -1.0"),
    ({"experts__epochs": 0}, "experts.epochs: 0"),
    ({"start__most": 2}, "experts.epochs: 1, but students end at epoch 2"),
  ],
)
def test_fields_that_make_no_sense(changes, message):
  with pytest.raises(UserError, match=message):
    dcjax.config.resolve(tiny("tm", **changes))


def test_a_segment_of_more_steps_than_there_are():
  with pytest.raises(UserError, match=r"student.segment: 100 steps are more than student.steps=60"):
    module.segment_that_fits(Strategy(), 60, 100, 2**12, "student.steps", "student")


def test_a_training_that_does_not_fit_in_memory(monkeypatch):
  monkeypatch.setattr(environment, "memory", lambda: 2**16)
  with pytest.raises(UserError, match=r"student.steps: 9999 steps .* GiB, .*student.segment=99"):
    module.segment_that_fits(Strategy(), 9999, None, 2**12, "student.steps", "student")
  elsewhere = Strategy(described=tuple(jax.devices()[:1]))
  assert module.segment_that_fits(elsewhere, 9999, 7, 2**12, "student.steps", "student") == 7


def test_presets_are_as_published():
  def of(preset, argument):
    return dcjax.config.resolve(preset.get_config(argument))

  config = of(mtt, "cifar10,ipc=1")
  assert (config.student.steps, config.expert_epochs, config.start.most) == (50, 2, 2)
  assert (config.lr_image, config.lr_lr, config.student.lr) == (100, 1e-7, 0.01)
  assert (config.dataset.zca_variant, config.evaluation.protocol) == ("kornia", "tm")
  assert (config.evaluation.epochs, config.experts.rho, config.average) == (1000, 0, 0)
  config = of(ftd, "cifar100,ipc=10")
  assert (config.student.steps, config.start.most, config.average) == (20, 40, 0.9995)
  assert (config.experts.rho, config.experts.alpha, config.lr_lr) == (0.01, 1, 1e-5)
  config = of(datm, "cifar10,ipc=10")
  assert (config.start.first, config.start.most, config.start.grow) == (10, 20, 1000)
  assert (config.learn, config.init, config.lr_label, config.skip_above) == (
    "both",
    "correct",
    2,
    1,
  )
  assert (config.evaluation.batch, config.experts.epochs) == (128, 100)
  assert of(datm, "cifar10,ipc=1").skip_above == 1.1
  assert of(datm, "cifar100,ipc=50").init == "real"
  assert not of(mtt, "cifar10,ipc=50").dataset.zca and not of(datm, "mnist").dataset.zca
  assert of(mtt, "svhn,ipc=20").start.most == 20  # as CIFAR-10 with the nearest number of images
