"""RaT-BPTT against trainings that are written out step by step, and finite differences."""

import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dcjax.configs import rat_bptt

import dcjax.config
from dcjax import SyntheticSet, UserError, augment, evaluation
from dcjax.commands.condense import condense
from dcjax.common import environment
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.evaluation.trainer import make_optimizer
from dcjax.methods import bptt as module
from dcjax.methods.bptt import BPTTSettings, Inner, Window, bptt, choose, shorten
from dcjax.methods.setup import Setup
from dcjax.run import experiment
from dcjax.run.loop import Loop
from tests.networks import two_layers
from tests.runs import tiny

CLASSES, LAYOUT = 10, Strategy(image_block=8)
SGD, ADAM = Inner("sgd", 0.5, 2), Inner("adam", 0.05, 2)
WHOLE = Window(length=4, steps=4, renew=1, segment=1)
SEGMENTS = Window(length=5, steps=5, renew=1, segment=2)
LAST = Window(2, 5, moving=False, renew=1, segment=1)
FLIPS = augment.augmentations(scheme="independent", strategy="rotate_scale")


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


def settings(inner=SGD, window=WHOLE, **more):
  more = {"ipc": 2, "init": "real", "batch_real": 20, "lr_image": 0.1, "lr_label": 0.2} | more
  return BPTTSettings(inner=inner, window=window, **more)


def bound(of, augmentations=FLIPS, layout=LAYOUT):
  return bptt(Setup(two_layers(), layout, augmentations), of)


def adam_step(rate, power, params, first, second):
  return params - rate * first / (jnp.sqrt(second / power + 1e-16) + 1e-8)


def fresh(key):
  """The network of an iteration."""
  return two_layers().init(jax.random.split(key, 5)[2])


def by_hand(of, learned, dataset, key, before, params, augmentations=FLIPS):
  """The loss, by a training whose steps stand one after another; as exact as the images are."""
  (stored, soft, *rates), exact = learned, learned[0].images.dtype
  _, batch_key, _, train_key, omega = jax.random.split(key, 5)
  network, params = two_layers(), jax.tree.map(lambda leaf: leaf.astype(exact), params)
  first, second = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))

  def cross_entropy(logits, labels):
    if labels.ndim == 1:
      labels = jnp.eye(CLASSES, dtype=exact)[labels]
    return -(labels * jax.nn.log_softmax(logits)).sum(1).mean()

  for number in range(before + of.window.length):
    if number == before:
      params, first, second = jax.lax.stop_gradient((params, first, second))
    draw_key, change = jax.random.split(jax.random.fold_in(train_key, number))
    classes, numbers = choose(draw_key, CLASSES, of.ipc, of.inner, number)
    images = augmentations.synthetic(change, stored.images[classes, numbers])
    labels = classes if soft is None else soft[classes, numbers]
    gradient = jax.grad(lambda p, x, y: cross_entropy(network.apply(p, x)[0], y))(
      params, images, labels
    )
    if of.inner.optimizer == "sgd":
      rate = rates[0][number] if rates else of.inner.lr
      params = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params, gradient)
      continue
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradient)
    rate = of.inner.lr / (1 - 0.9 ** (number + 1))
    power = 1 - 0.999 ** (number + 1)
    params = jax.tree.map(partial(adam_step, rate, power), params, first, second)
  chosen = jax.random.permutation(batch_key, len(dataset.labels))[: of.batch_real]
  real = augmentations.real(omega, dataset.normalise(dataset.images[chosen])).astype(exact)
  return cross_entropy(network.apply(params, real)[0], dataset.labels[chosen])


@pytest.mark.parametrize(
  ("inner", "window", "learn"),
  [
    (SGD, WHOLE, "images"),
    (ADAM, WHOLE, "both"),
    pytest.param(SGD, LAST, "both", marks=pytest.mark.slow),
    pytest.param(SGD, SEGMENTS, "both", marks=pytest.mark.slow),
    pytest.param(Inner("adam", 0.05, 1, 3), LAST, "images", marks=pytest.mark.slow),
  ],
  ids=["sgd", "adam", "truncated", "segments", "few"],
)
def test_an_iteration_is_that_of_a_training_step_by_step(dataset, inner, window, learn):
  of, key = settings(inner, window, learn=learn), jax.random.key(3)
  method = bound(of)
  state = jax.jit(method.init)(jax.random.key(1), dataset)
  before = int(state.before)
  assert before == window.steps - window.length
  loss = jax.jit(
    jax.value_and_grad(
      lambda learned: by_hand(of, learned, dataset, key, int(state.before), fresh(key))
    )
  )
  value, gradient = loss((state.stored, state.labels))
  new, metrics = jax.jit(method.update)(state, dataset, key, 0)
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
  # That of images alone, whatever else is learned (authors' code)
  np.testing.assert_allclose(metrics["norm"], optax.tree.norm(gradient[0]), rtol=1e-3)
  # Adam's first step has the length of its rate, and the sign of the gradient.
  clear = np.abs(gradient[0].images) > 1e-3 * np.abs(gradient[0].images).max()
  moved = np.asarray(state.stored.images - new.stored.images)
  np.testing.assert_allclose(moved[clear], 0.1 * np.sign(gradient[0].images)[clear], atol=2e-3)
  if learn == "both":
    labels = np.asarray(new.labels)
    assert labels.min() == 0 and (labels != np.eye(CLASSES)[:, None]).any()
  # The average is the first norm, so that the first gradient is as it was: mu = (1 - 0.9) g.
  inner_state = new.optimizer.inner_states["images"].inner_state[0]
  np.testing.assert_allclose(
    inner_state.mu[0].images, 0.1 * np.asarray(gradient[0].images),
    atol=1e-3 * np.abs(gradient[0].images).max(), rtol=0,
  )  # fmt: skip


@pytest.mark.parametrize("inner", [SGD, ADAM], ids=["sgd", "adam"])
def test_the_gradient_is_that_of_finite_differences(dataset, inner):
  of, key = settings(inner, learn="both"), jax.random.key(4)
  method = bound(of, augment.NOTHING)
  state = jax.jit(method.init)(jax.random.key(1), dataset)
  state = state._replace(labels=0.1 + 0.7 * state.labels)
  new, _ = jax.jit(method.update)(state, dataset, key, 0)
  moments = [new.optimizer.inner_states[name].inner_state[0].mu for name in ("images", "labels")]
  gradients = 10 * moments[0][0].images, 10 * moments[1][1]  # mu = (1 - 0.9) g
  rng = np.random.default_rng(0)
  directions = [rng.standard_normal(each.shape) for each in gradients]
  params = fresh(key)  # which would be drawn otherwise with 64 bits
  with jax.enable_x64(True):
    loss = jax.jit(lambda learned: by_hand(of, learned, dataset, key, 0, params, augment.NOTHING))

    def along(step):
      arrays = np.float64(state.stored.images), np.float64(state.labels)
      images, labels = (a + step * d for a, d in zip(arrays, directions, strict=True))
      return float(loss((state.stored._replace(images=images), labels)))

    expected = (along(1e-5) - along(-1e-5)) / 2e-5
  found = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
  np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_each_step_has_its_own_images_and_rate(dataset):
  inner = Inner("sgd", 0.5, 1, turns=True, learn_lr=True)
  of, key = settings(inner, init="noise"), jax.random.key(3)
  method = bound(of)
  state = jax.jit(method.init)(jax.random.key(1), dataset)
  np.testing.assert_allclose(jax.nn.softplus(state.rates), np.full(4, 0.5), rtol=1e-5)

  def loss(stored, rates):
    return by_hand(of, (stored, None, jax.nn.softplus(rates)), dataset, key, 0, fresh(key))

  value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(state.stored, state.rates)
  new, metrics = jax.jit(method.update)(state, dataset, key, 0)
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
  np.testing.assert_allclose(metrics["norm"], optax.tree.norm(gradients[0]), rtol=1e-3)
  clear = np.abs(gradients[1]) > 1e-4
  moved = np.asarray(state.rates - new.rates)
  np.testing.assert_allclose(moved[clear], 0.2 * np.sign(gradients[1])[clear], atol=2e-3)
  about = method.about(new)
  np.testing.assert_allclose(about["step_lrs"], np.log1p(np.exp(new.rates)), rtol=1e-5)
  assert about["student_lr"] == pytest.approx(np.mean(about["step_lrs"]))
  taken = [choose(key, CLASSES, 5, Inner("sgd", 0.1, 2, turns=True), t)[1][:2] for t in range(3)]
  np.testing.assert_array_equal(taken, [[0, 1], [2, 3], [4, 0]])


def test_images_that_stay_have_no_part_in_the_norm(dataset):
  of, key = settings(learn="labels"), jax.random.key(3)
  method = bound(of)
  state = jax.jit(method.init)(jax.random.key(1), dataset)

  def loss(labels):
    return by_hand(of, (state.stored, labels), dataset, key, 0, fresh(key))

  gradient = jax.jit(jax.grad(loss))(state.labels)
  new, metrics = jax.jit(method.update)(state, dataset, key, 0)
  np.testing.assert_allclose(metrics["norm"], optax.tree.norm(gradient), rtol=1e-3)
  np.testing.assert_array_equal(new.stored.images, state.stored.images)


def test_no_window_no_gradient(dataset):
  method = bound(settings(window=Window(0, 3, renew=1, segment=1)))
  state = jax.jit(method.init)(jax.random.key(1), dataset)
  new, metrics = jax.jit(method.update)(state, dataset, jax.random.key(2), 0)
  assert metrics["norm"] == 0 and metrics["loss"] > 0
  np.testing.assert_array_equal(new.stored.images, state.stored.images)


def test_images_of_a_training_that_adam_does_not_move(dataset):
  """Where a gradient is zero, the root of Adam's second moment has no derivative."""
  method = bound(settings(ADAM), augment.NOTHING)
  state = jax.jit(method.init)(jax.random.key(1), dataset)
  black = state.stored.images.at[:, :, 0].set(0)  # pixels whose weights no image moves
  state = state._replace(stored=state.stored._replace(images=black))
  new, metrics = jax.jit(method.update)(state, dataset, jax.random.key(2), 0)
  assert np.isfinite(metrics["norm"]) and np.isfinite(new.stored.images).all()


def test_the_window_moves_now_and_then(dataset):
  window = Window(length=1, steps=6, least=2, renew=3, segment=1)
  method = bound(settings(window=window))
  state, update, found = (
    jax.jit(method.init)(jax.random.key(1), dataset),
    jax.jit(method.update),
    [],
  )
  for t in range(60):
    state, metrics = update(state, dataset, jax.random.fold_in(jax.random.key(5), t), t)
    found.append(int(metrics["before"]))
  places = np.reshape(found, (20, 3))
  assert (places == places[:, :1]).all() and set(found) == {2, 3, 4, 5}


def test_a_policy_of_ones_own_places_the_window(dataset):
  window = Window(length=1, steps=9, renew=2, segment=1)

  def policy(key, window, seen):
    return jnp.where(seen.norm < 0, 99, (seen.before + seen.number) % (window.steps + 1))

  method = bptt(Setup(two_layers(), LAYOUT, FLIPS), settings(window=window), policy)
  state, found = jax.jit(method.init)(jax.random.key(1), dataset), []
  for t in range(6):
    state, metrics = jax.jit(method.update)(state, dataset, jax.random.key(5), t)
    found.append(int(metrics["before"]))
  assert found == [8, 8, 0, 0, 4, 4]  # eight is the last place


@pytest.mark.parametrize(
  ("classes", "per_class", "sizes"), [(0, 9, (10, 4)), (0, 3, (10, 3)), (3, 2, (3, 2))]
)
def test_a_step_takes_as_many_images_of_each_of_its_classes(classes, per_class, sizes):
  inner, seen = Inner("sgd", 0.1, per_class, classes), set()
  for seed in range(100):
    chosen, numbers = map(np.asarray, choose(jax.random.key(seed), CLASSES, 4, inner))
    pairs = list(zip(chosen.tolist(), numbers.tolist(), strict=True))
    seen |= set(pairs)
    assert len(set(pairs)) == len(pairs) == sizes[0] * sizes[1]
    assert set(np.unique(chosen, return_counts=True)[1]) == {sizes[1]}
  assert len(seen) == 4 * CLASSES


def test_a_gradient_is_shortened_to_twice_the_average_of_norms():
  average, tree = jnp.float32(-1), {"a": jnp.float32([3, 4])}
  found, norm, average = shorten(tree, average)
  assert norm == average == 5
  np.testing.assert_array_equal(found["a"], [3, 4])
  found, norm, average = shorten({"a": jnp.float32([300, 400])}, average)
  assert norm == 500 and average == pytest.approx(0.9 * 5 + 0.1 * 500)
  np.testing.assert_allclose(optax.tree.norm(found), module.MOST * average, rtol=1e-6)
  np.testing.assert_array_equal(shorten({"a": jnp.zeros(2)}, average)[0]["a"], [0, 0])


def test_labels_are_not_shortened_with_images(dataset):
  of, key = settings(learn="both"), jax.random.key(3)
  method = bound(of)
  update = jax.jit(method.update)
  state = jax.jit(method.init)(jax.random.key(1), dataset)
  long, _ = update(state, dataset, key, 0)
  short, _ = update(state._replace(norm=jnp.float32(1e-9)), dataset, key, 0)
  images, labels = (
    [new.optimizer.inner_states[name].inner_state[0].mu[i] for new in (long, short)]
    for i, name in enumerate(("images", "labels"))
  )
  np.testing.assert_array_equal(*labels)
  longer, shorter = (optax.tree.norm(each) for each in images)
  np.testing.assert_allclose(shorter, 2 * (1 - module.DECAY) * longer, rtol=1e-5)


def test_noise_begins_with_norm_one_and_labels_with_their_class(dataset):
  state = bound(settings(init="noise", learn="both")).init(jax.random.key(1), dataset)
  norms = np.linalg.norm(np.reshape(state.stored.images, (CLASSES, 2, -1)), axis=-1)
  np.testing.assert_allclose(norms, 1, rtol=1e-5)
  np.testing.assert_array_equal(state.labels[3, 1], np.eye(CLASSES)[3])


@pytest.mark.parametrize("mesh", [(2, 1), pytest.param((1, 4), marks=pytest.mark.slow)])
def test_on_several_devices_as_on_one(dataset, mesh):
  def after_two(layout):
    loop = Loop(
      bound(settings(ADAM, learn="both"), layout=layout), dataset, jax.random.key(7), layout
    )
    return loop.run(loop.start(jax.random.key(8)), 0, 2)[0].stored

  found, expected = after_two(Strategy(mesh=mesh)), after_two(Strategy())
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), found, expected)


# --- As a command ----------------------------------------------------------------------------


@pytest.mark.slow
def test_learned_labels_are_in_the_file_and_a_kill_loses_nothing(tmp_path, monkeypatch):
  config = tiny("bptt", learn="labels", init="real", ipc=2, iterations=4)
  condense(config, tmp_path / "whole")
  made = SyntheticSet.load(tmp_path / "whole" / "synthetic.npz")
  assert made.metadata["label_kind"] == "weight" and made.training() == {}
  assert made.flat()[1].shape == (20, 10)
  assert (made.soft_labels >= 0).all()
  assert (made.soft_labels != np.eye(10)[:, None]).any()
  start = SyntheticSet.load(tmp_path / "whole" / "images" / "000000.npz")
  np.testing.assert_array_equal(made.images, start.images)
  first = tiny("bptt", learn="labels", init="real", ipc=2, iterations=2)
  condense(first, tmp_path / "parts")
  condense(config, tmp_path / "parts")
  again = SyntheticSet.load(tmp_path / "parts" / "synthetic.npz")
  np.testing.assert_array_equal(again.soft_labels, made.soft_labels)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"learn": "labels"}, "learn: 'labels' of noise"),
    ({"learn": "all"}, "learn: unknown 'all'"),
    ({"window__length": 9}, "window.length: 9 is more than the window.steps=4"),
    ({"window__least": 3}, "window.least: 3 is not within the 2 steps"),
    ({"window__renew": 0}, "window.renew: 0"),
    ({"window__segment": -1}, "window.segment: -1"),
    ({"window__segment": 3}, "window.segment: 3 steps are more than window.length=2"),
    ({"inner__optimizer": "lamb"}, "inner.optimizer: unknown 'lamb'"),
    ({"inner__lr": float("nan")}, "inner.lr: nan"),
    ({"inner__under_root": 0.0}, "inner.under_root: 0.0"),
    ({"lr_label": 0.0}, "lr_label: 0.0 is not a positive number"),
    ({"inner__learn_lr": True}, "inner.learn_lr: the rates of 'adam' are not learned"),
  ],
)
def test_fields_that_make_no_sense(changes, message, tmp_path):
  with pytest.raises(UserError, match=message):
    condense(tiny("bptt", **changes), tmp_path)


def test_more_real_images_than_there_are_is_said(caplog, dataset):
  config = dcjax.config.resolve(tiny("bptt", batch_real=2000))
  layout = Strategy()
  caplog.set_level(logging.WARNING)
  experiment.method(config, dataset, layout)
  assert f"batch_real: 2000, but there are {len(dataset.labels)} real images" in caplog.text


def test_a_window_that_does_not_fit_in_memory(monkeypatch, tmp_path):
  monkeypatch.setattr(environment, "memory", lambda: 2**16)
  with pytest.raises(UserError, match=r"window.length: 9999 steps .* GiB, .*segment=99"):
    condense(tiny("bptt", window__length=9999, window__steps=9999), tmp_path)


def test_the_protocol_takes_3000_steps_of_adam():
  for ipc, classes, epochs in ((1, (), 3000), (10, (), 3000), (50, (), 600)):
    config = tiny("bptt", ipc=ipc, dataset__classes=classes, evaluation__epochs=None)
    fields = dcjax.config.resolve(config).evaluation
    assert (fields.protocol, fields.epochs, fields.augmentation) == ("bptt", epochs, "rotate")
  assert rat_bptt.get_config("cifar100,ipc=10").learn == "both"
  fields = dcjax.config.resolve(rat_bptt.get_config("cifar100,ipc=10"))
  assert fields.evaluation.epochs == 300 and fields.dsa.strategy == "flip_rotate"
  assert (fields.dataset.zca, fields.dataset.zca_variant) == (True, "kip")
  settings = evaluation.EvaluationSettings("bptt", 10, "none", 1, 1)
  optimizer = make_optimizer(settings, steps=1)
  gradient = {"a": jnp.float32([3, -0.5])}
  update, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
  np.testing.assert_allclose(update["a"], [-1e-3, 1e-3], rtol=1e-4)
