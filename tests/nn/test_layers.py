"""Layers against hand-written formulas and PyTorch's conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import UserError, nn
from dcjax.nn import layers
from dcjax.nn.convolution import lax_conv


def random(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape)


def test_the_convolution_layer_adds_a_bias_to_every_pixel():
  layer = layers.Convolution(2, 3, 1, "patches", "torch")
  params = {"kernel": np.zeros((3, 3, 1, 2), np.float32), "bias": np.float32([0.5, -2])}
  outputs = layer.apply({"params": params}, np.ones((1, 4, 5, 1), np.float32))
  np.testing.assert_array_equal(outputs, np.broadcast_to([0.5, -2], (1, 4, 5, 2)))


# --- Initialisers --------------------------------------------------------------------------


def init_layer(kind, init):
  """A layer's weights and bias, and its fan-in."""
  if kind == "convolution":
    layer, inputs, fan_in = layers.Convolution(1024, 3, 1, "patches", init), (1, 4, 4, 8), 72
  else:
    layer, inputs, fan_in = layers.Linear(1024, init), (1, 50), 50
  params = layer.init(jax.random.key(0), jnp.zeros(inputs))["params"]
  params = params.get("Dense_0", params)
  return np.asarray(params["kernel"]), np.asarray(params["bias"]), fan_in


@pytest.mark.parametrize("kind", ["convolution", "linear"])
def test_torch_initialisation_is_uniform_within_the_root_of_the_fan_in(kind):
  kernel, bias, fan_in = init_layer(kind, "torch")
  bound = fan_in**-0.5
  for values in (kernel, bias):
    assert np.abs(values).max() <= bound
    assert values.min() < -0.98 * bound and values.max() > 0.98 * bound
    np.testing.assert_allclose(values.std(), bound / np.sqrt(3), rtol=0.05)
  assert not np.array_equal(kernel.ravel()[: bias.size], bias)


@pytest.mark.parametrize("kind", ["convolution", "linear"])
def test_kaiming_initialisation_keeps_the_variance_behind_a_relu(kind):
  kernel, bias, fan_in = init_layer(kind, "kaiming")
  np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan_in), rtol=0.02)
  np.testing.assert_allclose(kernel.mean(), 0, atol=0.02 * kernel.std())
  np.testing.assert_array_equal(bias, 0)


def test_fan_out_initialisation_is_of_convolutions_alone():
  """The variance is 2 over 9 x 1024 outputs; biases and linear layers are PyTorch's."""
  kernel, bias, fan_in = init_layer("convolution", "fan_out")
  np.testing.assert_allclose(kernel.std(), np.sqrt(2 / 9216), rtol=0.02)
  np.testing.assert_allclose(kernel.mean(), 0, atol=0.02 * kernel.std())
  within = np.abs(kernel) < kernel.std()  # 68 % of normal numbers, 58 % of uniform ones
  np.testing.assert_allclose(within.mean(), 0.6827, atol=0.01)
  assert 0.98 * fan_in**-0.5 < np.abs(bias).max() <= fan_in**-0.5
  for values, expected in zip(
    init_layer("linear", "fan_out"), init_layer("linear", "torch"), strict=True
  ):
    np.testing.assert_array_equal(values, expected)


# --- Norms ---------------------------------------------------------------------------------

IMAGES = np.float32(3 * random(5, 4, 6, 8) + 2 * random(8, seed=1))
# Axes of the moments in `[N, H, W, groups, channels of a group]`.
NORM_AXES = {
  "batch": (8, (0, 1, 2)),
  "instance": (8, (1, 2)),
  "layer": (1, (1, 2, 3, 4)),
  "group": (4, (1, 2, 4)),
}


def norm_params(kind):
  shape = (4, 6, 8) if kind == "layer" else (8,)
  return {"scale": np.float32(random(*shape, seed=2)), "bias": np.float32(random(*shape, seed=3))}


@pytest.mark.parametrize("kind", NORM_AXES)
def test_a_norm_equals_its_formula(kind):
  groups, axes = NORM_AXES[kind]
  grouped = IMAGES.astype(np.float64).reshape(5, 4, 6, groups, -1)
  deviations = grouped - grouped.mean(axes, keepdims=True)
  variance = (deviations**2).mean(axes, keepdims=True)  # biased, as PyTorch's
  params = norm_params(kind)
  expected = (deviations / np.sqrt(variance + 1e-5)).reshape(IMAGES.shape)
  expected = expected * params["scale"] + params["bias"]
  actual = layers.Norm(kind).apply({"params": params}, IMAGES)
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_a_norm_may_have_another_epsilon():
  images, params = 1e-2 * IMAGES, norm_params("batch")
  exact = images.astype(np.float64)
  deviations = exact - exact.mean((0, 1, 2))
  expected = deviations / np.sqrt((deviations**2).mean((0, 1, 2)) + 1e-3)
  actual = layers.Norm("batch", 1e-3).apply({"params": params}, images)
  np.testing.assert_allclose(actual, expected * params["scale"] + params["bias"], atol=1e-5)


@pytest.mark.parametrize("kind", NORM_AXES)
def test_a_norm_starts_with_unit_scales_and_zero_biases(kind):
  shapes = {key: value.shape for key, value in norm_params(kind).items()}
  params = layers.Norm(kind).init(jax.random.key(0), IMAGES)["params"]
  assert {key: value.shape for key, value in params.items()} == shapes
  assert (params["scale"] == 1).all() and (params["bias"] == 0).all()


def test_no_norm_has_no_parameters_and_changes_nothing():
  assert "params" not in layers.Norm("none").init(jax.random.key(0), IMAGES)
  np.testing.assert_array_equal(layers.Norm("none").apply({}, IMAGES), IMAGES)


@pytest.mark.parametrize("kind", ["instance", "layer", "group"])
def test_an_image_of_one_colour_stays_finite(kind):
  def total(images):
    return layers.Norm(kind).apply({"params": norm_params(kind)}, images).sum()

  value, gradient = jax.value_and_grad(total)(jnp.full((1, 4, 6, 8), 7.3))
  assert np.isfinite(value) and np.isfinite(gradient).all()


def test_batch_norm_uses_the_frozen_statistics():
  mean, variance = np.float32(random(1, 1, 1, 8, seed=4)), np.full((1, 1, 1, 8), 9, np.float32)
  variables = {
    "params": norm_params("batch"),
    "batch_stats": {"mean": mean, "variance": variance},
  }
  actual = layers.Norm("batch").apply(variables, IMAGES)
  expected = (IMAGES - mean) / np.sqrt(9 + 1e-5)
  expected = expected * variables["params"]["scale"] + variables["params"]["bias"]
  np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.fixture(scope="module")
def batch_network():
  """A network with batch norm, and its parameters."""
  network = nn.create("convnet", (8, 8, 1), 3, width=4, depth=2, norm="batch")
  compiled = network._replace(apply=jax.jit(network.apply), statistics=jax.jit(network.statistics))
  return compiled, jax.jit(network.init)(jax.random.key(0))


def test_statistics_are_the_moments_of_what_each_batch_norm_sees(batch_network):
  network, params = batch_network
  images = jnp.float32(random(6, 8, 8, 1))
  stats = network.statistics(params, images)
  assert set(stats) == {"Norm_0", "Norm_1"}
  first = params["Convolution_0"]
  seen = np.asarray(lax_conv(images, first["kernel"], 1) + first["bias"][None, None, None])
  np.testing.assert_allclose(stats["Norm_0"]["mean"].ravel(), seen.mean((0, 1, 2)), atol=1e-5)
  np.testing.assert_allclose(stats["Norm_0"]["variance"].ravel(), seen.var((0, 1, 2)), atol=1e-5)


def moments_by_hand(images):
  """Mean, biased variance and number of values of each channel."""
  return images.mean((0, 1, 2)), images.var((0, 1, 2)), images[..., 0].size


def test_running_statistics_are_pytorchs_after_one_pass(batch_network):
  """Each norm of that pass normalises by the moments of the batch, not by running ones."""
  network, params = batch_network
  images = random(6, 8, 8, 1)
  seen = network.statistics(params, jnp.float32(images))
  stats = layers.running_statistics(seen, layers.initial_statistics(seen))
  for block in (0, 1):
    kernel, bias = (np.asarray(params[f"Convolution_{block}"][name]) for name in ("kernel", "bias"))
    seen = np.asarray(lax_conv(jnp.float32(images), kernel, 1)) + bias
    mean, variance, count = moments_by_hand(seen.astype(np.float64))
    assert count == (6 * 64, 6 * 16)[block]
    found = stats[f"Norm_{block}"]
    np.testing.assert_allclose(found["mean"].ravel(), 0.1 * mean, atol=1e-6)
    unbiased = variance * count / (count - 1)
    np.testing.assert_allclose(found["variance"].ravel(), 0.9 + 0.1 * unbiased, rtol=1e-5)
    normalised = np.maximum((seen - mean) / np.sqrt(variance + 1e-5), 0)
    images = normalised.reshape(6, len(seen[0]) // 2, 2, -1, 2, 4).mean((2, 4))


def test_running_statistics_are_of_norms_of_dcjax_alone():
  assert layers.running_statistics({}, {}) == layers.initial_statistics({}) == {}
  with pytest.raises(UserError, match=r"'running' is for layers.Norm.* set batch_norm=batch"):
    layers.initial_statistics({"mine": jnp.ones(3)})


def test_running_statistics_go_on_from_those_before():
  def moments(mean, variance, count):
    return {"Norm_0": {"mean": mean, "variance": variance, "count": jnp.float32(count)}}

  averages = layers.initial_statistics(moments(jnp.zeros(2), jnp.zeros(2), 0))
  averages = layers.running_statistics(
    moments(jnp.float32([1, -2]), jnp.float32([3, 0]), 4), averages
  )
  averages = layers.running_statistics(
    moments(jnp.float32([5, 0]), jnp.float32([8, 9]), 9), averages
  )
  # 0.9 (0.9 (0, 1) + 0.1 of the first) + 0.1 of the second; 3 * 4/3 = 4, 8 * 9/8 = 9, 9 * 9/8
  found = averages["Norm_0"]
  np.testing.assert_allclose(found["mean"], [0.09 * 1 + 0.1 * 5, 0.09 * -2], rtol=1e-6)
  expected = [0.81 + 0.09 * 4 + 0.1 * 9, 0.81 + 0.1 * 10.125]
  np.testing.assert_allclose(found["variance"], expected, rtol=1e-6)


def test_frozen_statistics_free_an_image_from_its_batch(batch_network):
  network, params = batch_network
  images = jnp.float32(random(6, 8, 8, 1))
  stats = network.statistics(params, images)
  live, _ = network.apply(params, images)
  frozen, _ = network.apply(params, images, stats)
  alone, _ = network.apply(params, images[:2], stats)
  np.testing.assert_allclose(frozen, live, atol=1e-4)  # the same images gave the statistics
  np.testing.assert_allclose(alone, live[:2], atol=1e-4)
  assert np.abs(network.apply(params, images[:2])[0] - live[:2]).max() > 0.01


def test_without_batch_norm_there_are_no_statistics():
  network = nn.create("convnet", (8, 8, 1), 3, width=4, depth=1)
  params = jax.jit(network.init)(jax.random.key(0))
  assert network.statistics(params, jnp.zeros((2, 8, 8, 1))) == {} and not network.batch_norm


# --- Pooling -------------------------------------------------------------------------------


def plane(rows):
  return np.float32(rows)[None, :, :, None]


def test_pools_take_each_window_and_drop_odd_sides():
  images = plane([[1, 2, 3, 4, 99], [5, 6, 7, 8, 99], [99, 99, 99, 99, 99]])
  np.testing.assert_array_equal(layers.average_pool(images), plane([[3.5, 5.5]]))
  np.testing.assert_array_equal(layers.max_pool(images), plane([[6, 8]]))


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_max_pool_gives_the_gradient_to_the_largest(place):
  window = np.zeros((2, 2), np.float32)
  window[place] = 1
  gradient = jax.grad(lambda x: 3 * layers.max_pool(x).sum())(plane(window))
  np.testing.assert_array_equal(gradient, plane(3 * window))


@pytest.mark.parametrize(
  ("window", "first"),
  [
    ([[1, 1], [1, 1]], [[1, 0], [0, 0]]),
    ([[0, 2], [2, 2]], [[0, 1], [0, 0]]),
    ([[0, 1], [2, 2]], [[0, 0], [1, 0]]),
  ],
)
def test_among_equals_max_pool_gives_the_gradient_to_the_first(window, first):
  gradient = jax.grad(lambda x: layers.max_pool(x).sum())(plane(window))
  np.testing.assert_array_equal(gradient, plane(first))


def test_the_overlapping_pool_takes_windows_of_three_around_every_second_pixel():
  images = -plane([[9, 9, 9, 9, 1], [9, 2, 9, 3, 9], [9, 9, 9, 9, 9], [4, 9, 9, 9, 9]])
  np.testing.assert_array_equal(layers.overlapping_max_pool(images), -plane([[2, 2, 1], [2, 2, 3]]))


def test_among_equals_the_overlapping_pool_gives_the_gradient_to_the_first():
  gradient = jax.grad(lambda x: layers.overlapping_max_pool(x).sum())(plane(np.ones((3, 3))))
  np.testing.assert_array_equal(gradient, plane([[1, 1, 0], [1, 1, 0], [0, 0, 0]]))


def test_average_pool_spreads_the_gradient_evenly():
  gradient = jax.grad(lambda x: layers.average_pool(x).sum())(plane(np.ones((3, 2))))
  np.testing.assert_array_equal(gradient, plane([[0.25, 0.25], [0.25, 0.25], [0, 0]]))


# --- Dropout -------------------------------------------------------------------------------


def dropped(whole, key, inputs, rate=0.25):
  return layers.Dropout(rate, whole).apply({}, inputs, rngs={"dropout": key})


@pytest.mark.parametrize("whole", [False, True])
def test_dropout_zeroes_a_share_and_keeps_the_mean(whole):
  inputs = 1 + jnp.arange(40000 * 4, dtype=jnp.float32).reshape(40000, 2, 2, 1) % 7
  kept = np.asarray(dropped(whole, jax.random.key(0), inputs) / inputs)
  assert set(np.unique(kept.round(4))) == {0, np.float32(1.3333)}
  np.testing.assert_allclose((kept == 0).mean(), 0.25, atol=0.01)
  np.testing.assert_allclose(kept.mean(), 1, atol=0.01)
  of_an_image = (kept == 0).reshape(40000, 4).sum(1)
  assert (of_an_image % 4 == 0).all() == whole
  assert not np.array_equal(kept, dropped(whole, jax.random.key(1), inputs) / inputs)


def test_without_a_key_or_a_rate_nothing_is_dropped():
  inputs = jnp.float32(random(3, 2, 2, 1))
  np.testing.assert_array_equal(layers.Dropout(0.9).apply({}, inputs), inputs)
  np.testing.assert_array_equal(dropped(True, jax.random.key(0), inputs, rate=0.0), inputs)
