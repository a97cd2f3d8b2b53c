"""RCIG against regressions that are written out, dense matrices, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dcjax.configs import rcig as preset
from jax.flatten_util import ravel_pytree

import dcjax.config
from dcjax import SyntheticSet, UserError, nn
from dcjax.commands.condense import condense
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.methods import linearised, slots
from dcjax.methods.frepo_pool import Pool
from dcjax.methods.kernels import centred
from dcjax.methods.rcig import Inner, RCIGSettings, rcig
from dcjax.methods.setup import Setup
from tests.networks import two_layers
from tests.runs import tiny

CLASSES, LAYOUT, RIDGE = 10, Strategy(image_block=8), 0.5
POOL = Pool(networks=3, steps=2, oldest=3, lr=1e-3, batch=1000)


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


def network(convolution="patches"):
  return nn.create(
    "frepo_conv", (8, 8, 1), CLASSES, width=4, depth=2, norm="none", activation="softplus",
    convolution=convolution,
  )  # fmt: skip


IMAGES = jnp.float32(np.random.default_rng(0).standard_normal((12, 8, 8, 1)))
PARAMS = network().init(jax.random.key(0))


def problem(convolution="patches"):
  targets = centred(jnp.arange(12) % CLASSES, CLASSES)
  return linearised.pose(network(convolution), PARAMS, IMAGES, targets, RIDGE)


def tangent_of(seed):
  """A tangent that leaves the last layer's weights, the one matrix."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: jnp.float32(0.1 * (leaf.ndim != 2) * rng.standard_normal(leaf.shape)), PARAMS
  )


@pytest.mark.parametrize("convolution", ["patches", "winograd", "lax", "ungrouped"])
def test_logits_move_along_the_jacobian(convolution):
  tangent = tangent_of(1)

  def both():
    features, move = linearised.linearised(network(convolution), PARAMS, IMAGES)
    return features, move(tangent)

  features, moved = jax.jit(both)()
  apply = network("lax").apply
  (_, expected), (along, _) = jax.jvp(lambda params: apply(params, IMAGES), (PARAMS,), (tangent,))
  np.testing.assert_allclose(features, expected, atol=1e-5)
  np.testing.assert_allclose(moved, along, atol=1e-5)


def test_the_loss_of_the_set_is_that_of_the_best_last_layer():
  posed = problem()
  tangent = tangent_of(1)
  features, moved = np.float64(posed.features), np.float64(posed.move(tangent))
  left = np.float64(posed.targets) - moved
  kernel = features @ features.T
  weights = np.linalg.solve(kernel + RIDGE * np.eye(12), left)
  squares = ((left - kernel @ weights) ** 2).sum()
  norms = np.trace(weights.T @ kernel @ weights) + float(optax.tree.norm(tangent, squared=True))
  expected = (squares + RIDGE * norms) / 2 / posed.targets.size
  np.testing.assert_allclose(posed.loss(tangent), expected, rtol=1e-4)


def test_its_second_derivative_is_that_of_dual_numbers():
  posed = problem("lax")
  at, along = tangent_of(1), tangent_of(2)
  expected = jax.jvp(jax.grad(posed.loss), (at,), (along,))[1]
  for found, exact in zip(*map(jax.tree.leaves, (posed.curved(along), expected)), strict=True):
    np.testing.assert_allclose(found, exact, atol=1e-6, rtol=1e-3)


def test_training_lowers_the_loss_and_leaves_the_last_layer():
  posed = problem()
  tangent, losses = jax.jit(lambda: linearised.train(posed, PARAMS, jnp.float32(1e-3), 30))()
  assert linearised.falls(losses) and losses[0] == pytest.approx(float(posed.loss(
    jax.tree.map(jnp.zeros_like, tangent)
  )))  # fmt: skip
  head = [leaf for leaf in jax.tree.leaves(tangent) if leaf.ndim == 2]
  assert len(head) == 1 and not head[0].any()
  assert all(leaf.any() for leaf in jax.tree.leaves(tangent) if leaf.ndim == 4)


def test_the_inverse_is_that_of_a_dense_matrix():
  posed, slope = problem(), tangent_of(3)
  flat, unravel = ravel_pytree(slope)
  curved = jax.jit(lambda vector: ravel_pytree(posed.curved(unravel(vector)))[0])
  matrix = np.float64(jax.lax.map(curved, jnp.eye(len(flat), dtype=jnp.float32)))
  np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
  expected = np.linalg.solve(matrix, np.float64(flat))
  _, values = jax.jit(lambda: linearised.solve(posed, slope, jnp.float32(0.3), 2000))()
  assert values[-1] < values[0] == 0
  exact = -expected @ np.float64(flat)  # h'(g'' h - 2 slope), at its least
  np.testing.assert_allclose(values[-1], exact, rtol=2e-2)


def test_rates_are_raised_until_a_loss_does_not_fall():
  def values_of(rate):  # of a parabola that is followed downhill
    return jnp.stack([(1 - rate * 10) ** (2 * n) for n in range(5)])

  found = float(jax.jit(lambda: linearised.highest(values_of, 1e-3))())
  first_that_rises = next(1e-3 * 1.2**n for n in range(99) if 1e-3 * 1.2**n >= 0.2)
  assert found == pytest.approx(first_that_rises * 1.2 * 0.7, rel=1e-4)


# --- The method ----------------------------------------------------------------------------


def settings(**more):
  given = {"ipc": 1, "batch_real": 20, "regularisation": 0.05, "flip": False, "pool": POOL}
  return RCIGSettings(**{**given, **more})


def test_the_gradient_is_that_of_finite_differences(dataset):
  """Of the loss on real images as a function of the set, w being the optimum of the set."""
  of = settings(inner=Inner(steps=1500, adapt=0), average=0.0)
  net = nn.create("frepo_conv", (8, 8, 1), CLASSES, width=2, depth=1, norm="none",
                  activation="softplus", convolution="lax")  # fmt: skip
  method = rcig(Setup(net, LAYOUT), of)
  state = jax.jit(method.init)(jax.random.key(1), dataset)
  rates = state.rates._replace(inner=jnp.float32(3e-3), inverse=jnp.float32(3e-2))
  state, key = state._replace(rates=rates), jax.random.key(5)
  new, metrics = jax.jit(method.update)(state, dataset, key, 0)
  moments = new.optimizer.inner_states["set"].inner_state[0]
  found = [10 * moments.mu.stored.images, 10 * moments.mu.labels]  # mu = (1 - 0.9) g

  batch_key, slot_key, *_ = jax.random.split(key, 5)
  chosen = jax.random.permutation(batch_key, len(dataset.labels))[:20]
  params = slots.at(state.pool.carry, int(jax.random.randint(slot_key, (), 0, 3)))[0]
  real, labels = dataset.normalise(dataset.images[chosen]), dataset.labels[chosen]
  with jax.enable_x64(True):
    params, real = jax.tree.map(lambda leaf: jnp.asarray(np.float64(leaf)), (params, real))
    flat, unravel = ravel_pytree(params)
    free = np.concatenate(
      [np.full(leaf.size, leaf.ndim != 2) for leaf in jax.tree.leaves(params)]
    )  # all but the last layer's weights
    ridge = 0.05 * CLASSES

    def seen(images):
      features = net.apply(params, images)[1]
      jacobian = jax.jacobian(lambda flat: net.apply(unravel(flat), images)[0])(flat)
      return features, jacobian[..., free]

    def left_of(images, targets):
      """w at its optimum, and what the regression then has."""
      features, jacobian = seen(images)
      inverse = jnp.linalg.inv(features @ features.T + ridge * jnp.eye(len(features)))
      curved = jnp.einsum("ncp,nm,mcq->pq", jacobian, inverse, jacobian)
      pull = jnp.einsum("ncp,nm,mc->p", jacobian, inverse, targets)
      tangent = jnp.linalg.solve(curved + jnp.eye(len(pull)), pull)
      return tangent, features, inverse @ (targets - jacobian @ tangent)

    @jax.jit
    def outer(images, targets, tangent=None):
      best, features, weights = left_of(images, targets)
      if tangent is not None:  # a constant, of which the rest follows
        _, jacobian = seen(images)
        inverse = jnp.linalg.inv(features @ features.T + ridge * jnp.eye(len(features)))
        best, weights = tangent, inverse @ (targets - jacobian @ tangent)
      theirs, moves = seen(real)
      predicted = moves @ best + theirs @ features.T @ weights
      wrong = optax.softmax_cross_entropy_with_integer_labels(predicted, labels).mean()
      ordered = jnp.sort(targets, axis=1)
      return wrong - jnp.minimum(ordered[:, -1] - ordered[:, -2], 0.05).mean()

    arrays = (np.float64(state.learned.stored.images)[:, 0], np.float64(state.learned.labels)[:, 0])
    value = float(outer(*arrays))
    direct = jax.grad(outer, (0, 1))(*arrays, left_of(*arrays)[0])
    whole = jax.grad(outer, (0, 1))(*arrays)
    step = 1e-5 * np.random.default_rng(0).standard_normal(arrays[0].shape)
    slope = float(outer(arrays[0] + step, arrays[1]) - outer(arrays[0] - step, arrays[1]))
    np.testing.assert_allclose(2 * float((whole[0] * step).sum()), slope, rtol=1e-4)
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-3)
  for ours, all_of_it, part in zip(found, whole, direct, strict=True):
    indirect = np.float64(all_of_it - part)
    shorter = min(1, np.linalg.norm(part) / np.linalg.norm(indirect))
    expected = np.float64(part) + shorter * indirect
    difference = np.linalg.norm(np.reshape(ours, expected.shape) - expected)
    assert difference < 0.05 * np.linalg.norm(indirect) * shorter
    assert np.linalg.norm(indirect) > 0.05 * np.linalg.norm(part)


def test_the_average_is_what_is_saved(dataset):
  method = rcig(Setup(network(), LAYOUT), settings(average=0.5, inner=Inner(3, 0)))
  state, update, seen = jax.jit(method.init)(jax.random.key(1), dataset), jax.jit(method.update), []
  for t in range(3):
    state, metrics = update(state, dataset, jax.random.fold_in(jax.random.key(2), t), t)
    seen.append(np.asarray(state.learned.labels))
    assert np.isfinite(metrics["loss"])
  weights = np.array([0.125, 0.25, 0.5])
  expected = sum(w * each for w, each in zip(weights / weights.sum(), seen, strict=True))
  np.testing.assert_allclose(method.labels(state), expected, rtol=1e-5, atol=1e-6)


def test_networks_grow_old_and_are_replaced(dataset):
  method = rcig(Setup(network(), LAYOUT), settings(inner=Inner(2, 0)))
  state, update = jax.jit(method.init)(jax.random.key(1), dataset), jax.jit(method.update)
  ages = [np.asarray(state.pool.age)]
  for t in range(12):
    state, _ = update(state, dataset, jax.random.fold_in(jax.random.key(3), t), t)
    ages.append(np.asarray(state.pool.age))
  steps = np.diff(ages, axis=0)
  assert ((steps != 0).sum(1) == 1).all()  # one in each iteration
  assert set(steps[steps > 0]) <= {1, 2} and (steps < 0).any() and np.max(ages) < POOL.oldest


def test_the_rate_follows_how_losses_fell(dataset):
  method = rcig(Setup(network(), LAYOUT), settings(inner=Inner(2, 3)))
  adapt = method.iteration[0]
  state = jax.jit(method.init)(jax.random.key(1), dataset)
  for seen, factor in (([1, 0, 3], 0.9), ([0, 3, 3], 1.05), ([0, 2, 3], 1), ([0, 0, 0], 1)):
    rates = state.rates._replace(inner=jnp.float32(0.01), seen=jnp.float32(seen))
    found, _ = adapt.run(rates, dataset, (), jax.random.key(0), 0)
    assert float(found.inner) == pytest.approx(0.01 * factor) and not found.seen.any()
  assert adapt.every == 3 and len(rcig(Setup(network(), LAYOUT), settings(
    inner=Inner(2, 0)
  )).iteration) == 1  # fmt: skip


def test_a_run_is_saved_with_its_labels(tmp_path):
  config = tiny(
    "rcig", network__name="frepo_conv", network__norm="none", iterations=3, flip=True,
    evaluation__epochs=2,
  )  # fmt: skip
  condense(config, tmp_path)
  synthetic = SyntheticSet.load(tmp_path / "synthetic.npz")
  assert synthetic.metadata["label_kind"] == "centred"
  assert synthetic.metadata["kernel_scale"] != 1


@pytest.mark.parametrize(
  ("dataset", "ipc", "flip", "epochs", "iterations"),
  [
    ("cifar10", 1, True, 1000, 15_000), ("cifar10", 10, True, 2000, 10_000),
    ("cifar100", 10, True, 500, 10_000), ("cifar100", 50, False, 100, 10_000),
    ("mnist", 10, False, 2000, 10_000),
    ("tiny_imagenet", 1, True, 2000, 15_000), ("tiny_imagenet", 10, False, 250, 10_000),
  ],
)  # fmt: skip
def test_presets_are_those_of_the_authors(dataset, ipc, flip, epochs, iterations):
  config = dcjax.config.resolve(preset.get_config(f"{dataset},ipc={ipc}"))
  assert (config.flip, config.evaluation.epochs, config.iterations) == (flip, epochs, iterations)
  assert config.network.activation == ("relu" if dataset == "tiny_imagenet" else "softplus")
  assert config.evaluation.augmentation == ("rcig_digits" if dataset == "mnist" else "rcig")


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"regularisation": 0.0}, "regularisation: 0.0"),
    ({"average": 1.0}, "average: 1.0 is not in"),
    ({"inner__steps": 1}, "inner.steps: 1 is too small"),
    ({"inner__adapt": -1}, "inner.adapt: -1 is too small"),
    ({"pool__steps": 0}, "pool.steps: 0 is too small"),
    ({"lr_scale": float("nan")}, "lr_scale: nan"),
  ],
)
def test_bad_input_is_one_line(fields, message):
  with pytest.raises(UserError, match=message):
    dcjax.config.resolve(tiny("rcig", **fields))


def test_a_last_layer_that_is_not_found_is_one_line(dataset):
  usual = two_layers()

  def apply(params, images, stats=None):
    return usual.apply([params[0], params[1].T], images)

  def init(key):
    first, last = usual.init(key)
    return [first, last.T]

  turned = usual._replace(init=init, apply=apply)
  with pytest.raises(UserError, match=r"network: .*last layer, \[8, 10\] .*there are 0 arrays"):
    linearised.check_network(turned, dataset.image_shape)
  linearised.check_network(usual, dataset.image_shape)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"network__norm": "batch"}, r"network\.norm: networks of RCIG"),
    ({"regularisation": 1e-12, "init": "noise", "ipc": 40}, "regularisation: with 1e-12 the ker"),
  ],
)
def test_a_network_or_kernel_of_no_use_is_one_line(fields, message, tmp_path):
  with pytest.raises(UserError, match=message):
    condense(tiny("rcig", **fields), tmp_path)
