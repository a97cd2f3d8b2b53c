"""FRePo and KIP against regressions that are written out, and finite differences."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dcjax.configs import frepo as preset

import dcjax.config
from dcjax import SyntheticSet, UserError, evaluation, nn
from dcjax.commands.condense import condense
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.evaluation.trainer import make_optimizer
from dcjax.methods import slots
from dcjax.methods.frepo import FRePoSettings, frepo
from dcjax.methods.frepo_pool import Pool, Trainer
from dcjax.methods.kernels import centred, ntk
from dcjax.methods.kip import KIPSettings, kip
from dcjax.methods.setup import Setup
from dcjax.nn import training
from dcjax.run import experiment
from dcjax.run.loop import Loop
from dcjax.sets.formation import IDENTITY
from tests.networks import two_layers
from tests.runs import tiny

CLASSES, LAYOUT = 10, Strategy(image_block=8)
SMALL = Pool(networks=3, oldest=6, lr=0.01)


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


def settings(pool=SMALL, **more):
  given = {"ipc": 2, "batch_real": 30, "lr_image": 1e-2, "lr_decay": 0, "flip": False}
  return FRePoSettings(pool=pool, **{**given, **more})


def bound(of, layout=LAYOUT, network=None):
  return frepo(Setup(network or two_layers(), layout), of)


def with_norm():
  return nn.create("frepo_conv", (8, 8, 1), CLASSES, width=4, depth=2, norm="batch")


def start(method, dataset):
  return jax.jit(method.init)(jax.random.key(1), dataset)


def loss_by_hand(images, labels, features, real, targets, regularisation, flip):
  """In NumPy or in jax, as its arguments are."""
  if flip:
    images, labels = jnp.concatenate([images, images[:, :, ::-1]]), jnp.concatenate([labels] * 2)
  ours, theirs = features(images), features(real)
  kernel = ours @ ours.T
  kernel += regularisation * jnp.trace(kernel) / len(ours) * jnp.eye(len(ours), dtype=kernel.dtype)
  predicted = theirs @ ours.T @ jnp.linalg.solve(kernel, labels)
  wrong = 0.5 * ((predicted - targets) ** 2).sum(1).mean()
  ordered = jnp.sort(labels, axis=1)
  return wrong - jnp.minimum(ordered[:, -1] - ordered[:, -2], 0.1).mean()


@pytest.mark.parametrize("flip", [False, True])
def test_the_gradient_is_that_of_finite_differences(dataset, flip):
  method = bound(settings(flip=flip, regularisation=1e-2))
  state, key = start(method, dataset), jax.random.key(5)
  new, metrics = jax.jit(method.update)(state, dataset, key, 0)
  batch_key, slot_key, _, _ = jax.random.split(key, 4)
  chosen = jax.random.permutation(batch_key, len(dataset.labels))[:30]
  slot = int(jax.random.randint(slot_key, (), 0, 3))
  params = slots.at(state.pool.carry, slot)[0]
  moments = new.optimizer.inner_states["set"].inner_state[0]
  found = [10 * moments.mu.stored.images, 10 * moments.mu.labels]  # mu = (1 - 0.9) g
  real = dataset.normalise(dataset.images[chosen])
  targets = centred(dataset.labels[chosen], CLASSES)
  rng = np.random.default_rng(0)
  directions = [rng.standard_normal(each.shape) for each in found]
  with jax.enable_x64(True):
    exact = jax.tree.map(lambda leaf: jnp.asarray(np.float64(leaf)), (params, real, targets))

    @jax.jit
    def loss(images, labels):
      def features(images):
        return two_layers().apply(exact[0], images)[1]

      flat = images.reshape(-1, 8, 8, 1), labels.reshape(-1, CLASSES)
      return loss_by_hand(*flat, features, *exact[1:], 1e-2, flip)

    def along(step):
      arrays = np.float64(state.stored.images), np.float64(state.labels)
      return float(loss(*(a + step * d for a, d in zip(arrays, directions, strict=True))))

    value, expected = along(0), (along(1e-6) - along(-1e-6)) / 2e-6
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-4)
  slope = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True))
  np.testing.assert_allclose(slope, expected, rtol=2e-3)


def test_more_real_images_than_there_are_is_said(caplog, dataset):
  config = dcjax.config.resolve(tiny("frepo", batch_real=2000))
  with caplog.at_level("WARNING"):
    experiment.method(config, dataset, Strategy())
  assert f"batch_real: 2000, but there are {len(dataset.labels)} real images" in caplog.text


def test_labels_begin_as_their_class(dataset):
  state = start(bound(settings()), dataset)
  np.testing.assert_allclose(state.labels[3, 1], np.eye(10)[3] - 0.1, atol=1e-6)


def test_the_pool_is_staggered_and_no_network_grows_old(dataset):
  method = bound(settings())
  state, update, ages = start(method, dataset), jax.jit(method.update), []
  np.testing.assert_array_equal(state.pool.age, [0, 2, 4])
  for t in range(40):
    before = state
    state, _ = update(state, dataset, jax.random.fold_in(jax.random.key(5), t), t)
    ages.append(np.asarray(state.pool.age))
    moved = np.asarray(before.pool.carry[0][0] != state.pool.carry[0][0]).any((1, 2))
    assert moved.sum() == 1  # one network is trained, or replaced
  steps = np.diff(ages, axis=0)
  assert np.max(ages) == 6 and steps.max() == 1
  assert (np.stack(ages)[1:][steps < 0] == 0).all() and (steps < 0).any()


def test_a_network_takes_a_step_of_adam_on_the_new_set(dataset):
  method = bound(settings())
  state, key = start(method, dataset), jax.random.key(5)
  new, _ = jax.jit(method.update)(state, dataset, key, 0)
  slot = int(jax.random.randint(jax.random.split(key, 4)[1], (), 0, 3))
  (params, adam), images = slots.at(state.pool.carry, slot), new.stored.images.reshape(-1, 8, 8, 1)

  def loss(params):
    logits = two_layers().apply(params, images)[0]
    return 0.5 * jnp.square(logits - new.labels.reshape(-1, CLASSES)).sum(1).mean()

  updates, _ = training.adam(0.01).update(jax.grad(loss)(params), adam, params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    slots.at(new.pool.carry, slot)[0], optax.apply_updates(params, updates),
  )  # fmt: skip


def test_features_are_frozen_with_running_averages(dataset):
  key, sized = jax.random.key(0), replace(IDENTITY, shape=(8, 8, 1))
  trainer = Trainer(Setup(with_norm(), LAYOUT, formation=sized), SMALL)
  carry = trainer.fresh(key)
  images = dataset.normalise(dataset.images[:20])
  before = trainer.features(carry)(images)
  np.testing.assert_allclose(before[:3], trainer.features(carry)(images[:3]), atol=1e-5)
  labels = centred(dataset.labels[:20], CLASSES)
  params, (_, averages) = trainer.train(carry, (images, labels), key, 3)
  moments = with_norm().statistics(params, images)
  one, other = (jax.tree.leaves(each) for each in (averages, moments))
  assert all(not np.allclose(a, b) for a, b in zip(one[1:], other[1:], strict=True))
  mean = jax.tree.leaves(averages)[1]
  assert 0 < np.abs(mean).max() < np.abs(jax.tree.leaves(moments)[1]).max()  # three tenths at most


def test_random_features_need_no_pool(dataset):
  of = settings(Pool(3, 0), loss="platt", optimizer="adabelief", regularisation=5e-3)
  method = bound(of)
  state, update, losses = start(method, dataset), jax.jit(method.update), []
  assert state.pool is None and state.scale == 0
  for t in range(30):
    state, metrics = update(state, dataset, jax.random.fold_in(jax.random.key(5), t), t)
    losses.append(float(metrics["loss"]))
  assert state.scale > 0.1 and np.mean(losses[-5:]) < np.mean(losses[:5])


def test_real_images_are_classified_better_and_better(dataset):
  method = bound(settings(batch_real=200))
  state, update, accuracies = start(method, dataset), jax.jit(method.update), []
  for t in range(80):
    state, metrics = update(state, dataset, jax.random.fold_in(jax.random.key(5), t), t)
    accuracies.append(float(metrics["accuracy"]))
  assert np.mean(accuracies[-20:]) > np.mean(accuracies[:20]) + 0.05


@pytest.mark.parametrize("mesh", [(2, 2)])
def test_on_several_devices_as_on_one(dataset, mesh):
  def after_two(layout):
    of = settings(lr_image=1e-4, regularisation=1e-2)  # as 20 images have but 8 features each
    loop = Loop(bound(of, layout), dataset, jax.random.key(7), layout)
    state, _, metrics = loop.run(loop.start(jax.random.key(8)), 0, 2)
    moments = state.optimizer.inner_states["set"].inner_state[0].mu
    return moments.stored.images, moments.labels, metrics["loss"]

  for found, expected in zip(after_two(Strategy(mesh=mesh)), after_two(Strategy()), strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


# --- KIP -------------------------------------------------------------------------------------


@pytest.mark.parametrize("learn", ["images", "labels", "both"])
def test_kip_descends_along_its_regression(dataset, learn):
  of = KIPSettings(ipc=2, batch_real=5, learn=learn)
  method = kip(Setup(two_layers(), LAYOUT), of)
  state, key = start(method, dataset), jax.random.key(3)
  new, metrics = jax.jit(method.update)(state, dataset, key, 0)
  indices = np.asarray(dcjax.data.subset_indices(dataset, key, ipc=5)).reshape(-1)
  real = dataset.normalise(dataset.images[indices])
  targets = np.float64(centred(dataset.labels[indices], CLASSES))
  images = state.stored.images.reshape(-1, 8, 8, 1)
  fields = {"depth": 1, "weight": 2**0.5, "bias": 0.1}
  kernel, others = (np.float64(ntk(each, images, **fields)) for each in (images, real))
  kernel += 1e-6 * np.trace(kernel) / 20 * np.eye(20)
  predicted = others @ np.linalg.solve(kernel, np.float64(state.labels).reshape(20, 10))
  value = 0.5 * ((predicted - targets) ** 2).sum(1).mean()
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-3)
  right = (predicted.argmax(1) == dataset.labels[indices]).mean()
  np.testing.assert_allclose(metrics["accuracy"], right, atol=1e-6)
  assert (new.stored.images != state.stored.images).any() == (learn != "labels")
  assert (new.labels != state.labels).any() == (learn != "images")


# --- As commands -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("method", "networks"), [("frepo", 0), ("kip", 1)])
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(tmp_path, method, networks):
  fields = {"ipc": 2, "iterations": 4, "evaluation__networks": networks}
  if method == "frepo":
    fields |= {"network__name": "frepo_conv", "network__depth": 2}
  config = tiny(method, **fields)
  summary = condense(config, tmp_path / "whole")
  condense(tiny(method, **fields | {"iterations": 2}), tmp_path / "parts")
  condense(config, tmp_path / "parts")
  whole, parts = (
    SyntheticSet.load(tmp_path / name / "synthetic.npz") for name in ("whole", "parts")
  )
  np.testing.assert_array_equal(whole.images, parts.images)
  np.testing.assert_array_equal(whole.soft_labels, parts.soft_labels)
  assert whole.metadata["label_kind"] == "centred"
  losses = {(record["set"], record["loss"]) for record in summary["evaluations"]}
  assert losses == {(name, "squared_error") for name in ("synthetic", "random") if networks}


@pytest.mark.parametrize(
  ("method", "changes", "message"),
  [
    ("frepo", {"loss": "hinge"}, "loss: unknown 'hinge'"),
    ("frepo", {"optimizer": "sgd"}, "optimizer: unknown 'sgd'"),
    ("frepo", {"regularisation": 0.0}, "regularisation: 0.0"),
    ("frepo", {"pool__networks": 0}, r"pool.networks: 0"),
    ("frepo", {"pool__networks": 101, "pool__steps": 0}, r"pool.networks: 101 is too large"),
    ("frepo", {"pool__lr": float("inf")}, r"pool.lr: inf"),
    ("frepo", {"network__name": "frepo_conv", "network__norm": "group"}, "frepo_conv has no group"),
    ("frepo", {"network__name": "frepo_conv", "network__depth": 30}, "network.depth: 30 is too"),
    ("kip", {"learn": "none"}, "learn: unknown 'none'"),
    ("kip", {"learn": "labels", "init": "noise"}, "learn: 'labels' of noise"),
    ("kip", {"kernel__depth": 0}, r"kernel.depth: 0"),
    ("kip", {"kernel__depth": 101}, r"kernel.depth: 101 is too large"),
    ("kip", {"evaluation__temperature": 5.0}, r"evaluation.temperature: 5.0 divides the logits"),
    ("kip", {"kernel__weight": 0.0}, r"kernel.weight: 0.0"),
  ],
)
def test_fields_that_make_no_sense(tmp_path, method, changes, message):
  with pytest.raises(UserError, match=message):
    condense(tiny(method, **changes), tmp_path)


@pytest.mark.parametrize("method", ["frepo", "kip"])
def test_a_kernel_that_is_not_positive_definite(dataset, method):
  config = dcjax.config.resolve(tiny(method, ipc=2, regularisation=1e-30))
  made = experiment.method(config, dataset, Strategy())
  state = start(made, dataset)
  same = jnp.broadcast_to(state.stored.images[:1, :1], state.stored.images.shape)
  with pytest.raises(UserError, match="the kernel of the 20 initial images is not positive"):
    made.check(state._replace(stored=state.stored._replace(images=same)))
  made.check(
    start(experiment.method(dcjax.config.resolve(tiny(method)), dataset, Strategy()), dataset)
  )


@pytest.mark.parametrize(
  ("dataset", "ipc", "flip", "epochs"),
  [
    ("cifar10", 1, True, 1000), ("cifar10", 10, True, 2000), ("cifar10", 50, True, 5000),
    ("cifar100", 1, True, 2000), ("cifar100", 10, False, 5000), ("tiny_imagenet", 1, True, 20_000),
    ("tiny_imagenet", 10, False, 10_000), ("mnist", 10, False, 2000),
  ],
)  # fmt: skip
def test_the_protocol_takes_the_steps_of_its_paper(dataset, ipc, flip, epochs):
  config = dcjax.config.resolve(preset.get_config(f"{dataset},ipc={ipc}"))
  assert (config.flip, config.evaluation.epochs) == (flip, epochs)
  assert dcjax.config.resolve(config).to_dict() == config.to_dict()  # as dcjax evaluate reads it
  assert config.evaluation.architectures == ("frepo_conv:norm=none",)


def test_the_rate_of_the_protocol_rises_and_falls():
  of = evaluation.EvaluationSettings("frepo", 1000, "none", 1, 1)
  optimizer, gradient = make_optimizer(of, steps=1), {"a": jnp.float32([1.0])}
  state, steps = optimizer.init(gradient), []
  for _ in range(1000):
    update, state = optimizer.update(gradient, state, gradient)
    steps.append(-float(update["a"][0]))
  assert steps[0] == 0 and np.argmax(steps) in (499, 500, 501)
  np.testing.assert_allclose(
    [steps[250], steps[500], steps[750], steps[999]], [1.5e-4, 3e-4, 1.515e-4, 3e-6], rtol=0.03
  )
