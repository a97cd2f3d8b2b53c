"""`nn.create`: shapes, parameter counts, options, errors and the warning."""

import logging
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import nn
from dcjax.common.errors import UserError
from dcjax.common.registry import NETWORKS
from dcjax.nn import layers
from dcjax.nn.convolution import lax_conv
from dcjax.nn.definition import find


def shapes(network, image_shape, batch=2):
  """Shapes of parameters, logits and features, without computing any."""
  params = jax.eval_shape(network.init, jax.random.key(0))
  images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32)
  logits, features = jax.eval_shape(network.apply, params, images)
  return params, logits.shape, features.shape


def count(params):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("convolution", ["ungrouped", "lax", "winograd", "patches"])
def test_the_largest_activation_is_that_of_an_image_and_not_of_kernels(convolution):
  network = nn.create("convnet", (16, 16, 3), 10, width=32, depth=2, convolution=convolution)
  found = nn.largest_activation(network, (16, 16, 3))
  one = 16 * 16 * 32 * 4  # what the first layer gives, in bytes
  if convolution == "patches":  # the second layer's are 8 x 8 of 9 x 32 numbers, the largest
    one = 8 * 8 * 9 * 32 * 4
  assert found == pytest.approx(one, rel=0.05)


# --- Shapes and counts ---------------------------------------------------------------------


@pytest.mark.parametrize(
  ("name", "image_shape", "features"),
  [
    ("convnet", (32, 32, 3), 4 * 4 * 128),
    ("convnet", (28, 28, 1), 4 * 4 * 128),  # padded to 32
    ("convnet", (9, 9, 1), 128),  # 9, 4, 2, 1
    ("convnet", (16, 24, 1), 2 * 3 * 128),
    ("lenet", (32, 32, 3), 84),
    ("lenet", (28, 28, 1), 84),
    ("mlp", (28, 28, 1), 128),
    ("mlp", (5, 7, 3), 128),
    ("alexnet", (28, 28, 1), 4 * 4 * 192),  # padded to 32
    ("alexnet", (8, 8, 3), 192),
    ("vgg11", (28, 28, 1), 512),  # padded to 32
    ("vgg11", (32, 32, 3), 512),
    ("resnet18", (28, 28, 1), 512),
    ("resnet18_ap", (28, 28, 1), 3 * 3 * 512),  # 28, 14, 7, 3
    ("resnet18_ap", (32, 32, 3), 4 * 4 * 512),
    ("resnet10", (8, 8, 3), 256),
    ("resnet10", (32, 64, 3), 256),  # the shorter side makes it narrow
    ("resnet10", (33, 33, 3), 512),
    ("resnet10_ap", (32, 32, 3), 4 * 4 * 256),
    ("resnet10_ap", (64, 200, 3), 8 * 25 * 512),  # the shorter side makes them small
    ("resnet10_ap", (65, 65, 3), 512),
    ("resnet10_ap", (224, 224, 3), 512),
    ("densenet121", (8, 8, 3), 384),
    ("densenet121", (64, 64, 3), 1024),
    ("efficientnet_b0", (8, 8, 3), 1280),
  ],
)
def test_shapes_of_logits_and_features(name, image_shape, features):
  network = nn.create(name, image_shape, 7)
  assert shapes(network, image_shape, batch=3)[1:] == ((3, 7), (3, features))


@pytest.mark.parametrize(
  ("name", "image_shape", "total"),
  [
    # Three blocks of kernel, bias, scale and shift, then 4 * 4 * 128 inputs to 10 units.
    ("convnet", (32, 32, 3), (27 + 3) * 128 + 2 * (1152 + 3) * 128 + 2049 * 10),
    ("convnet", (28, 28, 1), (9 + 3) * 128 + 2 * (1152 + 3) * 128 + 2049 * 10),
    ("lenet", (32, 32, 3), 76 * 6 + 151 * 16 + 401 * 120 + 121 * 84 + 85 * 10),
    ("lenet", (28, 28, 1), 26 * 6 + 151 * 16 + 401 * 120 + 121 * 84 + 85 * 10),
    ("mlp", (28, 28, 1), 785 * 128 + 129 * 128 + 129 * 10),
    # As the DSA authors' code prints for CIFAR-10: 11.17 million with a norm after the stem.
    ("resnet18", (32, 32, 3), 11_173_962),
  ],
)
def test_parameter_counts(name, image_shape, total):
  assert count(shapes(nn.create(name, image_shape, 10), image_shape)[0]) == total


@pytest.mark.parametrize(
  ("name", "total", "width"),
  [
    ("resnet18", 11_689_512, 512),
    ("densenet121", 7_978_856, 1024),
    ("efficientnet_b0", 5_288_548, 1280),
  ],
)
def test_for_imagenet_the_deep_networks_have_the_published_parameters(name, total, width):
  network = nn.create(name, (224, 224, 3), 1000)
  params, _, features = shapes(network, (224, 224, 3))
  assert (count(params), features) == (total, (2, width))


@pytest.mark.parametrize(("side", "depth", "last"), [(64, 4, 4), (224, 6, 3)])
def test_deeper_convnets_take_the_larger_images_of_idm(side, depth, last):
  network = nn.create("convnet", (side, side, 3), 10, depth=depth)
  assert shapes(network, (side, side, 3))[2] == (2, last * last * 128)


def test_the_default_convnet_on_cifar_has_the_reported_320010_parameters():
  assert count(shapes(nn.create("convnet", (32, 32, 3), 10), (32, 32, 3))[0]) == 320_010


@pytest.mark.parametrize(
  ("norm", "params"),
  [("none", 0), ("batch", 2 * 8), ("instance", 2 * 8), ("group", 2 * 8), ("layer", 2 * 8 * 64)],
)
def test_every_norm_builds_with_its_own_parameters(norm, params):
  network = nn.create("convnet", (8, 8, 1), 3, width=8, depth=1, norm=norm)
  made, logits, _ = shapes(network, (8, 8, 1))
  assert logits == (2, 3)
  assert count(made.get("Norm_0", {})) == params
  assert network.batch_norm == (norm == "batch")


FUNCTIONS = {
  "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
  "relu": lambda x: np.maximum(x, 0),
  "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
  "swish": lambda x: x / (1 + np.exp(-x)),
  "softplus": lambda x: np.logaddexp(0, 60 * x) / 60,  # (RCIG)
}
WINDOWS = {"average": np.mean, "max": np.max}


@pytest.mark.parametrize(
  ("activation", "pooling"),
  [
    ("sigmoid", "none"),
    ("relu", "average"),
    ("leaky_relu", "none"),
    ("swish", "max"),
    ("softplus", "average"),
  ],
)
def test_a_block_is_convolution_then_activation_then_pooling(activation, pooling):
  options = {"norm": "none", "activation": activation, "pooling": pooling}
  network = nn.create("convnet", (6, 4, 1), 3, width=2, depth=1, **options)
  params = jax.jit(network.init)(jax.random.key(0))
  images = jax.random.normal(jax.random.key(1), (2, 6, 4, 1))
  first = params["Convolution_0"]
  expected = lax_conv(images, first["kernel"], 1) + first["bias"][None, None, None]
  expected = FUNCTIONS[activation](np.asarray(expected))
  if pooling != "none":
    expected = WINDOWS[pooling](expected.reshape(2, 3, 2, 2, 2, 2), axis=(2, 4))
  logits, features = jax.jit(network.apply)(params, images)
  np.testing.assert_allclose(features, expected.reshape(2, -1), atol=1e-5)
  last = params["Linear_0"]["Dense_0"]
  np.testing.assert_allclose(logits, features @ last["kernel"] + last["bias"][None], atol=1e-5)


def test_every_choice_is_tried_above():
  assert set(FUNCTIONS) == set(layers.ACTIVATIONS)
  assert {*WINDOWS, "none"} == set(layers.POOLINGS)


@pytest.mark.parametrize(("images", "parts"), [(7, 3), (40, 8)])
def test_the_first_block_in_parts_gives_the_same(images, parts):
  whole, split = (
    nn.create("convnet", (8, 8, 3), 3, width=4, depth=2, first_block=size) for size in (0, 3)
  )
  params = jax.jit(whole.init)(jax.random.key(0))
  batch = jax.random.normal(jax.random.key(1), (images, 8, 8, 3))

  def gradient(network, batch):
    return jax.grad(lambda params: jnp.tanh(network.apply(params, batch)[0]).sum())(params)

  ours, theirs = (jax.jit(gradient, static_argnums=0)(each, batch) for each in (split, whole))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, theirs)
  largest = [
    max(
      int(n)
      for n in re.findall(r"f32\[(\d+),8,8,4\]", str(jax.make_jaxpr(each.apply)(params, batch)))
    )
    for each in (whole, split)
  ]
  assert largest == [images, -(-images // parts)]


def test_the_first_block_under_batch_norm_stays_whole():
  options = {"width": 4, "depth": 1, "norm": "batch"}
  whole, split = (
    nn.create("convnet", (8, 8, 3), 3, first_block=size, **options) for size in (0, 2)
  )
  params = jax.jit(whole.init)(jax.random.key(0))
  images = jax.random.normal(jax.random.key(1), (5, 8, 8, 3))
  np.testing.assert_allclose(*(each.apply(params, images)[0] for each in (whole, split)), atol=1e-5)


@pytest.mark.parametrize("convolution", ["patches", "winograd", "lax", "ungrouped"])
def test_bfloat16_is_what_products_are_made_in(convolution):
  network = nn.create(
    "convnet", (8, 8, 3), 3, width=4, depth=1, convolution=convolution, precision="bfloat16"
  )
  params = jax.eval_shape(network.init, jax.random.key(0))
  program = jax.make_jaxpr(network.apply)(params, jnp.zeros((2, 8, 8, 3)))
  products = re.findall(r"(\w+)\[[^=]*= (?:dot_general|conv_general_dilated)\[", str(program))
  assert products and set(products) == {"bf16"}


@pytest.mark.slow
def test_bfloat16_gives_float32_near_that_of_float32():
  kinds = {kind: nn.create("convnet", (8, 8, 3), 3, width=8, depth=2, precision=kind)
           for kind in ("float32", "bfloat16")}  # fmt: skip
  params = kinds["float32"].init(jax.random.key(0))
  images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))

  def gradient(kind):
    return jax.grad(lambda params: (kinds[kind].apply(params, images)[0] ** 2).sum())(params)

  def flat(tree):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])

  for exact, rounded in (
    (kinds["float32"].apply(params, images), kinds["bfloat16"].apply(params, images)),
    (gradient("float32"), gradient("bfloat16")),
  ):
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(rounded))
    error = jnp.linalg.norm(flat(exact) - flat(rounded)) / jnp.linalg.norm(flat(exact))
    assert 1e-4 < error < 0.05


@pytest.mark.parametrize("convolution", ["patches", "winograd", "lax", "ungrouped"])
@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_float32_is_exact_in_gradients_of_any_order(convolution, name):
  """Where nothing is said, GPUs and TPUs round what they multiply."""
  network = nn.create(name, (8, 8, 8), 3, width=8, depth=1, convolution=convolution)

  def loss(images, params):
    return (network.apply(params, images)[0] ** 2).sum()

  def of_gradient(images, params):
    gradient = jax.grad(loss, argnums=1)(images, params)
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient))

  params = jax.eval_shape(network.init, jax.random.key(0))
  program = str(jax.make_jaxpr(jax.grad(of_gradient))(jnp.zeros((64, 8, 8, 8)), params))
  products = re.findall(r"(?:dot_general|conv_general_dilated)\[(.*?)\]\s", program, re.DOTALL)
  assert len(products) > 3
  assert all("HIGHEST" in product for product in products)


@pytest.mark.parametrize("convolution", ["patches", "winograd", "lax", "ungrouped"])
def test_tf32_rounds_what_convolutions_multiply(convolution):
  exact, rounded = (
    nn.create("convnet", (8, 8, 8), 3, width=8, depth=1, convolution=convolution, precision=kind)
    for kind in ("float32", "tf32")
  )
  params = exact.init(jax.random.key(0))
  images = jax.random.normal(jax.random.key(1), (64, 8, 8, 8))

  def of_gradient(images, network):
    gradient = jax.grad(lambda params: (network.apply(params, images)[0] ** 2).sum())(params)
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient))

  for function in (lambda x, n: n.apply(params, x)[0], of_gradient, jax.grad(of_gradient)):
    one, other = function(images, exact), function(images, rounded)
    assert 1e-6 < jnp.linalg.norm(one - other) / jnp.linalg.norm(one) < 0.05

  def short(tree):  # numbers that TF32 has
    return jax.tree.map(lambda leaf: jax.lax.reduce_precision(leaf, 8, 10), tree)

  params, images = short(params), short(images)
  if convolution != "winograd":  # which multiplies sums of them
    np.testing.assert_array_equal(exact.apply(params, images)[0], rounded.apply(params, images)[0])


def test_init_draws_other_parameters_for_another_key():
  init = jax.jit(nn.create("mlp", (4, 4, 1), 3).init)
  first, again, other = (
    init(jax.random.key(seed))["Linear_0"]["Dense_0"]["kernel"] for seed in (0, 0, 1)
  )
  assert np.array_equal(first, again) and not np.isclose(first, other).any(axis=0).all()


# --- Errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("convnte", {}, "network.name: unknown 'convnte'; did you mean 'convnet'?"),
    (
      "xyz",
      {},
      "network.name: unknown 'xyz'; choose one of: alexnet, convnet, densenet121, "
      "efficientnet_b0, frepo_conv, lenet, mlp, resnet10, resnet10_ap, resnet18, resnet18_ap, "
      "vgg11",
    ),
    ("convnet", {"norm": "instnce"}, "network.norm: unknown 'instnce'; did you mean 'instance'?"),
    ("convnet", {"activation": "rely"}, "network.activation: unknown 'rely'; did you mean 'relu'?"),
    ("convnet", {"pooling": "mux"}, "network.pooling: unknown 'mux'; did you mean 'max'?"),
    ("mlp", {"init": "torhc"}, "network.init: unknown 'torhc'; did you mean 'torch'?"),
    (
      "lenet",
      {"convolution": "patch"},
      "compute.convolution: unknown 'patch'; did you mean 'patches'?",
    ),
    (
      "convnet",
      {"norm": "group", "width": 6},
      "network.width: 6 is not a multiple of the 4 groups",
    ),
  ],
)
def test_an_error_names_the_field_the_value_and_the_remedy(name, options, message):
  with pytest.raises(UserError) as caught:
    nn.create(name, (32, 32, 3), 10, **options)
  assert str(caught.value) == message


@pytest.mark.parametrize("options", [{"width": 0}, {"depth": 0}])
def test_no_width_or_no_depth_is_an_error(options):
  with pytest.raises(UserError, match="must be at least 1"):
    nn.create("convnet", (32, 32, 3), 10, **options)


@pytest.mark.parametrize(
  ("image_shape", "deepest"),
  [((8, 8, 1), 3), ((9, 9, 1), 3), ((15, 33, 1), 3), ((28, 28, 1), 5), ((32, 32, 3), 5)],
)
def test_too_deep_is_an_error_and_the_depth_it_advises_builds(image_shape, deepest):
  options = {"width": 4, "norm": "none"}
  with pytest.raises(UserError, match=rf"^network\.depth: .*use at most {deepest}$"):
    nn.create("convnet", image_shape, 3, depth=deepest + 1, **options)
  network = nn.create("convnet", image_shape, 3, depth=deepest, **options)
  assert shapes(network, image_shape)[2][1] >= 4  # at least one pixel is left


def test_without_pooling_no_depth_is_too_deep():
  network = nn.create("convnet", (4, 4, 1), 3, width=4, depth=6, norm="none", pooling="none")
  assert shapes(network, (4, 4, 1))[2] == (2, 4 * 4 * 4)


@pytest.mark.parametrize(
  ("name", "least"),
  {
    name: least for name in NETWORKS.own if (least := find("network.name", name).smallest_side) > 1
  }.items(),
)
def test_an_image_below_the_smallest_side_is_an_error(name, least):
  with pytest.raises(UserError, match=rf"{name} takes images of {least} pixels or more"):
    nn.create(name, (least + 1, least - 1, 3), 10)


def test_lenet_on_small_images_is_an_error():
  with pytest.raises(UserError, match=r"lenet takes images of 16 pixels or more.*15x20"):
    nn.create("lenet", (15, 20, 1), 10)
  assert shapes(nn.create("lenet", (16, 16, 1), 10), (16, 16, 1))[1] == (2, 10)


# --- The warning ---------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("image_shape", "options", "warns"),
  [
    ((8, 8, 1), {"depth": 3}, True),
    ((8, 8, 1), {"depth": 2}, False),
    ((32, 32, 3), {"depth": 5}, True),
    ((32, 32, 3), {"depth": 4}, False),
    ((28, 28, 1), {"depth": 4}, False),  # padded to 32
    ((8, 8, 1), {"depth": 3, "norm": "group"}, False),
    ((8, 8, 1), {"depth": 3, "pooling": "none"}, False),
    ((2, 2, 1), {"depth": 1, "pooling": "none"}, True),
  ],
)
def test_an_instance_norm_that_sees_two_pixels_warns(caplog, image_shape, options, warns):
  with caplog.at_level(logging.WARNING, logger="absl"):
    nn.create("convnet", image_shape, 3, width=4, **options)
  assert len(caplog.records) == warns
  assert ("sees only 2x2 pixels" in caplog.text) == warns


def test_frepo_conv_doubles_its_filters():
  network = nn.create("frepo_conv", (28, 28, 1), 10, width=4, depth=3)
  params = network.init(jax.random.key(0))
  shapes = sorted(leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 4)
  assert shapes == [(3, 3, 1, 4), (3, 3, 4, 8), (3, 3, 8, 16)]
  assert (
    network.batch_norm
    and len(jax.tree.leaves(network.statistics(params, jnp.zeros((2, 28, 28, 1))))) == 6
  )
  logits, features = network.apply(params, jnp.zeros((2, 28, 28, 1)))
  assert logits.shape == (2, 10) and features.shape == (2, 4 * 4 * 16)
