"""Convolutions against XLA's own, to the second derivative."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax.nn import convolution as module
from dcjax.nn.convolution import (
  CONVOLUTIONS,
  NARROW,
  depthwise_conv,
  halving,
  lax_conv,
  patches_conv,
  ungrouped_conv,
  winograd_conv,
)

BATCH, HEIGHT, WIDTH = 2, 7, 6
FILTERS = NARROW + 1


@pytest.fixture(autouse=True)
def _few_tiles_are_enough(monkeypatch):
  """Lets Winograd's method have these small images."""
  monkeypatch.setattr(module, "FEW", 1)


def random(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape)


def penalty(convolution, images, kernel, weights, padding):
  """A function of both gradients of a loss whose second derivatives are all alive."""

  def loss(images, kernel):
    return (jnp.tanh(convolution(images, kernel, padding)) * weights).sum()

  gradients = jax.grad(loss, argnums=(0, 1))(images, kernel)
  return sum(jnp.sin(gradient).sum() for gradient in gradients), gradients


# These programs run once, so XLA need not optimise them.
QUICK = {"xla_backend_optimization_level": 0}


@functools.partial(jax.jit, static_argnames=("convolution", "padding"), compiler_options=QUICK)
def all_orders(images, kernel, weights, *, convolution, padding):
  """Outputs, gradients to images and kernel, and gradients of a function of those gradients."""
  function = jax.grad(penalty, argnums=(1, 2), has_aux=True)
  second, first = function(convolution, images, kernel, weights, padding)
  return convolution(images, kernel, padding), first, second


def assert_trees_close(actual, expected, tolerance):
  for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=tolerance)


ALL = [(1, 0), (1, 2), (3, 0), (3, 1), (3, 3), (5, 0), (5, 2), (5, 4)]


@pytest.mark.parametrize(
  ("convolution", "channels", "size", "padding"),
  [
    (convolution, NARROW - 1, *each)
    for convolution in (patches_conv, ungrouped_conv)
    for each in ALL
  ]
  # Other sizes than 3 are left to the above, of narrow images only one of the two gradients is.
  + [(winograd_conv, NARROW - 1, *each) for each in ((3, 0), (3, 1), (3, 3), (5, 2))]
  + [(winograd_conv, NARROW, *each) for each in ((3, 0), (3, 1), (3, 3))],
)
def test_convolutions_equal_lax_to_the_second_derivative(convolution, channels, size, padding):
  with jax.enable_x64(True):
    images = jnp.array(random(BATCH, HEIGHT, WIDTH, channels))
    kernel = jnp.array(random(size, size, channels, FILTERS, seed=1))
    sides = (side + 2 * padding - size + 1 for side in (HEIGHT, WIDTH))
    weights = jnp.array(random(BATCH, *sides, FILTERS, seed=2))
    ours, theirs = (
      all_orders(images, kernel, weights, convolution=convolution, padding=padding)
      for convolution in (convolution, lax_conv)
    )
    assert ours[0].shape == weights.shape
    assert_trees_close(ours, theirs, 1e-11)


@pytest.mark.parametrize("convolution", CONVOLUTIONS.values())
def test_a_negative_padding_crops(convolution):
  images, kernel = random(1, 6, 7, 8), random(3, 3, 8, 2, seed=1)
  cropped = convolution(images[:, 1:-1, 1:-1], kernel, 0)
  np.testing.assert_allclose(convolution(images, kernel, -1), cropped, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("convolution", [patches_conv, winograd_conv])
def test_to_few_channels_nothing_is_made_of_the_many(convolution):
  """Neither patches nor tiles, in the convolution and in both gradients of its gradients."""
  images, kernel = jnp.ones((BATCH, 8, 8, 3)), jnp.ones((3, 3, 3, FILTERS))

  def second(images, kernel):
    return jax.grad(lambda *each: penalty(convolution, *each, 1.0, 1)[0], (0, 1))(images, kernel)

  shapes = re.findall(r"f32\[([\d,]+)\]", str(jax.make_jaxpr(second)(images, kernel)))
  largest = max(math.prod(map(int, shape.split(","))) for shape in shapes)
  assert largest == BATCH * 10 * 10 * 27  # the products with each place of the kernel, padded


IMAGES, KERNELS, BOTH = (0, None, 0), (None, 0, None), (0, 0, 0)


@pytest.mark.parametrize("convolution", [patches_conv, winograd_conv, ungrouped_conv])
@pytest.mark.parametrize("axes", [(IMAGES,), (KERNELS,), (BOTH,), (KERNELS, IMAGES)])
def test_under_vmap_equal_lax_one_by_one(convolution, axes):
  """Also nested: classes, who share the kernel, inside of networks."""
  ours = functools.partial(all_orders, convolution=convolution, padding=1)
  one_by_one = functools.partial(all_orders, convolution=lax_conv, padding=1)
  shapes = ((BATCH, 5, 4, NARROW), (3, 3, NARROW, FILTERS), (BATCH, 5, 4, FILTERS))
  arrays = [jnp.float32(0.3 * random(*shape, seed=n)) for n, shape in enumerate(shapes)]
  for each in reversed(axes):
    ours = jax.vmap(ours, each)
    one_by_one = mapped(one_by_one, each)
    arrays = [
      x if axis is None else jnp.stack([x, 0.5 * x, -x])
      for x, axis in zip(arrays, each, strict=True)
    ]
  assert_trees_close(ours(*arrays), one_by_one(*arrays), 1e-4)


def mapped(function, axes):
  """What `vmap` gives, in a loop."""

  def call(*arrays):
    count = next(len(x) for x, axis in zip(arrays, axes, strict=True) if axis is not None)
    given = [
      [x if axis is None else x[i] for x, axis in zip(arrays, axes, strict=True)]
      for i in range(count)
    ]
    return jax.tree.map(lambda *each: jnp.stack(each), *(function(*each) for each in given))

  return call


@pytest.mark.parametrize(("convolution", "grouped"), [(lax_conv, True), (ungrouped_conv, False)])
def test_classes_with_one_kernel_make_no_grouped_convolution(convolution, grouped):
  def second(images, kernel, weights):
    return jax.grad(lambda images: penalty(convolution, images, kernel, weights, 1)[0])(images)

  arrays = jnp.ones((4, 2, 6, 6, NARROW)), jnp.ones((3, 3, NARROW, 8)), jnp.ones((4, 2, 6, 6, 8))
  text = jax.jit(jax.vmap(second, IMAGES)).lower(*arrays).as_text()
  counts = set(map(int, re.findall(r"group_count = (\d+)", text)))
  assert counts == ({1, 4} if grouped else {1})


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_ungrouped_keeps_the_type(dtype):
  images, kernel = jnp.ones((3, 2, 4, 4, 2), dtype), jnp.ones((3, 3, 2, 5), dtype)
  second = jax.vmap(lambda *each: all_orders(*each, convolution=ungrouped_conv, padding=1), BOTH)
  found = second(images, jnp.stack([kernel] * 3), jnp.ones((3, 2, 4, 4, 5), dtype))
  assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(("size", "padding"), [(1, 0), (3, 0), (3, 1), (4, 1), (7, 3)])
@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 5), (4, 7)])
@pytest.mark.parametrize("convolution", CONVOLUTIONS.values())
def test_stride_two_equals_lax(convolution, height, width, size, padding):
  images, kernel = random(2, height, width, NARROW), random(size, size, NARROW, 3, seed=1)
  expected = jax.lax.conv_general_dilated(
    images, kernel, (2, 2), ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  ours = halving(convolution, jnp.asarray(images), jnp.asarray(kernel), padding)
  np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def lax_depthwise(images, kernel, stride):
  padding = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    images, kernel, (stride, stride), ((padding, padding),) * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=images.shape[-1],
  )  # fmt: skip


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 2)])
def test_depthwise_equals_lax_to_the_second_derivative(size, stride):
  with jax.enable_x64(True):
    images = jnp.array(random(BATCH, HEIGHT, WIDTH, 3))
    kernel = jnp.array(random(size, size, 1, 3, seed=1))
    weights = jnp.array(random(BATCH, -(-HEIGHT // stride), -(-WIDTH // stride), 3, seed=2))
    ours, theirs = (  # these have a stride where the others have a padding
      all_orders(images, kernel, weights, convolution=convolution, padding=stride)
      for convolution in (depthwise_conv, lax_depthwise)
    )
    assert ours[0].shape == weights.shape
    assert_trees_close(ours, theirs, 1e-11)


def test_images_of_few_tiles_go_as_patches(monkeypatch):
  monkeypatch.setattr(module, "FEW", 16)
  images, kernel = jnp.ones((1, 8, 8, NARROW)), jnp.ones((3, 3, NARROW, NARROW))
  products = [
    str(jax.make_jaxpr(winograd_conv, static_argnums=2)(images[:, :side], kernel, 1))
    for side in (8, 6)
  ]
  assert [text.count("dot_general") > 4 for text in products] == [True, False]
