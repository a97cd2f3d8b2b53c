"""Layers that the networks share: convolution, norms, pooling, initialisers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dcjax.common.errors import UserError, check_least, check_most
from dcjax.common.types import Array, Params
from dcjax.nn.convolution import EVERY, depthwise_conv, halving, windows

EPSILON = 1e-5  # added to the variance in every norm, as PyTorch does
MOMENTUM = 0.1  # of the running averages of batch norm, as PyTorch's
SMALL_SIDE, SMALL_MARGIN = 28, 2  # pixels; images of this side get this margin all round
TINY_SIDE = 32  # pixels; up to here some deep networks are narrower (IDC's authors' code)
LARGE_SIDE = 65  # pixels; from here on a deep network's stem reduces images
WIDEST = 2**14  # channels, whose square a kernel has
GROUPS = 4  # of group norm (DC, Appendix B)
LEAKY_SLOPE = 0.01  # of leaky ReLU (DC, Appendix B)

# --- Initialisers --------------------------------------------------------------------------


def _torch_uniform(fan_in: int) -> Callable[..., Array]:
  """PyTorch's default for weights and biases alike: uniform within 1 / sqrt(fan_in)."""
  bound = fan_in**-0.5
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def _initialisers(
  init: str, fan_in: int, fan_out: int | None = None
) -> tuple[Callable[..., Array], Callable[..., Array]]:
  """Initialisers of weight and bias, by the name of an entry of `INITIALISERS`.

  Args:
    init: the name.
    fan_in: values that an output is computed from.
    fan_out: of a convolution, values that an input goes to; None: it is none.
  """
  if init == "fan_out" and fan_out:
    return nn.initializers.normal((2 / fan_out) ** 0.5), _torch_uniform(fan_in)
  if init in ("torch", "fan_out"):
    return _torch_uniform(fan_in), _torch_uniform(fan_in)
  if init == "lecun":
    return nn.initializers.lecun_normal(), nn.initializers.zeros
  # Flax's own kaiming_normal is cut off at two deviations, which PyTorch's is not.
  return nn.initializers.variance_scaling(2.0, "fan_in", "normal"), nn.initializers.zeros


INITIALISERS = ("torch", "kaiming", "fan_out", "lecun")

# --- Layers --------------------------------------------------------------------------------


def first_padding(side: int, padding: int) -> int:
  """Padding of a network's first convolution, which brings images of 28 pixels to 32.

  Args:
    side: height of the images.
    padding: of the convolution for images of any other side.
  """
  return padding + SMALL_MARGIN if side == SMALL_SIDE else padding


def large(images: Array) -> bool:
  """Whether the shorter side of images `[N, H, W, C]` is large enough for a stem to reduce."""
  return min(images.shape[1:3]) >= LARGE_SIDE


def tiny(images: Array) -> bool:
  """Whether the shorter side of images `[N, H, W, C]` is such that some networks are narrower."""
  return min(images.shape[1:3]) <= TINY_SIDE


class Convolution(nn.Module):
  """A square convolution of stride 1 or 2: `[N, H, W, C]` to `[N, H', W', filters]`."""

  filters: int
  size: int
  padding: int
  convolution: str
  initializer: str
  stride: int = 1
  bias: bool = True

  @nn.compact
  def __call__(self, images: Array) -> Array:
    channels = images.shape[-1]
    fans = self.size**2 * channels, self.size**2 * self.filters
    kernel_init, bias_init = _initialisers(self.initializer, *fans)
    shape = (self.size, self.size, channels, self.filters)
    kernel = self.param("kernel", kernel_init, shape, jnp.float32)
    convolve = EVERY[self.convolution]
    if self.stride == 2:
      convolve = partial(halving, convolve)
    outputs = convolve(images, kernel, self.padding)
    if not self.bias:
      return outputs
    return outputs + self.param("bias", bias_init, (self.filters,), jnp.float32)[None, None, None]


class DepthwiseConvolution(nn.Module):
  """A square convolution of each channel by itself, without bias.

  `[N, H, W, C]` to `[N, ceil(H / stride), ceil(W / stride), C]`.
  """

  size: int
  initializer: str
  stride: int = 1

  @nn.compact
  def __call__(self, images: Array) -> Array:
    fans = self.size**2, self.size**2 * images.shape[-1]  # as PyTorch counts them
    kernel_init, _ = _initialisers(self.initializer, *fans)
    shape = (self.size, self.size, 1, images.shape[-1])
    return depthwise_conv(
      images, self.param("kernel", kernel_init, shape, jnp.float32), self.stride
    )


class Linear(nn.Module):
  """A fully connected layer: `[N, in]` to `[N, units]`."""

  units: int
  initializer: str

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    kernel_init, bias_init = _initialisers(self.initializer, inputs.shape[-1])
    return nn.Dense(self.units, kernel_init=kernel_init, bias_init=bias_init)(inputs)


class Norm(nn.Module):
  """Normalises `[N, H, W, C]` by moments over the axes that `kind` names, then scales and shifts.

  Batch norm takes its moments from the collection `batch_stats` when that is given (frozen
  statistics), from the batch otherwise, and records them there when it may be written to, with the
  number of values that they are of.
  """

  kind: str
  epsilon: float = EPSILON

  @nn.compact
  def __call__(self, images: Array) -> Array:
    if self.kind == "none":
      return images
    _, height, width, channels = images.shape
    # Layer norm has a weight for each pixel, the others one for each channel.
    shape = (height, width, channels) if self.kind == "layer" else (channels,)
    scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
    scale, bias = (jnp.expand_dims(x, range(4 - x.ndim)) for x in (scale, bias))
    dtype = images.dtype
    if dtype == jnp.bfloat16:  # too coarse for sums over many pixels
      images, scale, bias = (x.astype(jnp.float32) for x in (images, scale, bias))
    mean, variance = self._moments(images)
    scale = scale * lax.rsqrt(variance + self.epsilon)
    return (images * scale + (bias - mean * scale)).astype(dtype)

  def _moments(self, images: Array) -> tuple[Array, Array]:
    if self.kind == "group":
      return _group_moments(images)
    if self.kind == "batch" and self.has_variable("batch_stats", "mean"):
      return self.get_variable("batch_stats", "mean"), self.get_variable("batch_stats", "variance")
    axes = {"batch": (0, 1, 2), "layer": (1, 2, 3), "instance": (1, 2)}[self.kind]
    mean, variance = _moments(images, axes)
    if self.kind == "batch" and self.is_mutable_collection("batch_stats"):
      self.put_variable("batch_stats", "mean", mean)
      self.put_variable("batch_stats", "variance", variance)
      count = images.size // images.shape[-1]
      self.put_variable("batch_stats", "count", jnp.asarray(count, variance.dtype))
    return mean, variance


def _moments(images: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
  """Mean and variance in one pass over the images."""
  mean = images.mean(axes, keepdims=True)
  square = (images * images).mean(axes, keepdims=True)
  return mean, jnp.maximum(square - mean * mean, 0.0)


def initial_statistics(stats: Params) -> Params:
  """The running averages of PyTorch's batch norm before any pass: mean 0 and variance 1.

  Args:
    stats: as `Network.statistics` returns them, or their shapes.
  """

  def one(layer):
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), layer)
    return zero | {"variance": jnp.ones_like(zero["variance"])}

  return _map_norms(one, stats)


def running_statistics(stats: Params, before: Params) -> Params:
  """The running averages of PyTorch's batch norm after one more pass in training mode.

  They go a tenth of the way to the moments of the batch, whose variance is divided by one less than
  the number of values. In that pass each norm normalises by the moments of the batch.

  Args:
    stats: of the batch, as `Network.statistics` returns them.
    before: the averages before that pass; the same tree.

  Returns:
    The same tree, to freeze a network with.
  """

  def one(layer, before):
    count = layer["count"]
    variance = layer["variance"] * count / jnp.maximum(count - 1, 1)
    return layer | {
      "mean": (1 - MOMENTUM) * before["mean"] + MOMENTUM * layer["mean"],
      "variance": (1 - MOMENTUM) * before["variance"] + MOMENTUM * variance,
    }

  return _map_norms(one, stats, before)


def _map_norms(function: Callable[..., Params], stats: Params, *others: Params) -> Params:
  """Applies a function to what is known of each batch norm."""

  def one(layer, *others):
    if not isinstance(layer, dict):
      raise UserError(
        "batch_norm: 'running' is for layers.Norm('batch') alone; set batch_norm=batch"
      )
    return function(layer, *others)

  def is_norm(tree):
    return isinstance(tree, dict) and "count" in tree

  return jax.tree.map(one, stats, *others, is_leaf=is_norm)


def _group_moments(images: Array) -> tuple[Array, Array]:
  """Moments of each group of channels, spread over its channels: `[N, 1, 1, C]`."""
  batch, height, width, channels = images.shape
  grouped = images.reshape(batch, height, width, GROUPS, channels // GROUPS)
  moments = _moments(grouped, (1, 2, 4))
  mean, variance = (jnp.broadcast_to(m, (*m.shape[:-1], channels // GROUPS)) for m in moments)
  shape = (batch, 1, 1, channels)
  return mean.reshape(shape), variance.reshape(shape)


class Dropout(nn.Module):
  """Zeroes values at random and divides the others by the share that is kept, in training only.

  That is where the module is applied with a key `dropout` in `rngs`; without, nothing changes. With
  `whole` all values of an image are kept or zeroed together: stochastic depth, `rate` of 0 to 1.
  """

  rate: float  # of values that are zeroed
  whole: bool = False

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    if not self.has_rng("dropout") or not self.rate:
      return inputs
    keep = 1 - self.rate
    shape = (len(inputs), *(1,) * (inputs.ndim - 1)) if self.whole else inputs.shape
    kept = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
    return jnp.where(kept, inputs / keep, 0)


NORMS = ("none", "batch", "layer", "instance", "group")


def check_filters(field: str) -> Callable[..., None]:
  """The check of a network that has a number of filters in a field; see `nn.Definition`."""

  def check(*, norm: str, **keywords: Any) -> None:
    filters = keywords.get(field)
    if filters is None:
      return
    check_least(f"network.{field}", filters, 1)
    check_most(f"network.{field}", filters, WIDEST)
    if norm == "group" and filters % GROUPS:
      raise UserError(f"network.{field}: {filters} is not a multiple of the {GROUPS} groups")

  return check


# --- Activations and pooling ---------------------------------------------------------------


def _quarters(images: Array) -> list[Array]:
  """The four pixels of every 2x2 window, in rows; an odd last row or column is dropped."""
  rows, cols = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
  return [images[:, i:rows:2, j:cols:2] for i in (0, 1) for j in (0, 1)]


def average_pool(images: Array) -> Array:
  """Mean of every 2x2 window: `[N, H, W, C]` to `[N, H // 2, W // 2, C]`."""
  a, b, c, d = _quarters(images)
  return 0.25 * (a + b + c + d)


def _first_of_largest(images: list[Array]) -> Array:
  """Maximum over a list. Among equals the first gets the gradient, as in PyTorch."""
  largest, *others = images
  for other in others:
    largest = jnp.where(largest >= other, largest, other)
  return largest


def max_pool(images: Array) -> Array:
  """Maximum of every 2x2 window: `[N, H, W, C]` to `[N, H // 2, W // 2, C]`."""
  return _first_of_largest(_quarters(images))


def overlapping_max_pool(images: Array) -> Array:
  """Maximum of the 3x3 window around every second pixel: `[N, ceil(H / 2), ceil(W / 2), C]`."""
  edge = ((0, 0), (1, 1), (1, 1), (0, 0))
  return _first_of_largest(windows(jnp.pad(images, edge, constant_values=-jnp.inf), 3, stride=2))


SHARPNESS = 60.0  # of softplus
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  "sigmoid": nn.sigmoid,
  "relu": nn.relu,
  "leaky_relu": partial(nn.leaky_relu, negative_slope=LEAKY_SLOPE),
  "swish": nn.swish,
  "softplus": lambda images: nn.softplus(SHARPNESS * images) / SHARPNESS,  # a smooth ReLU (RCIG)
}
POOLINGS: dict[str, Callable[[Array], Array]] = {
  "none": lambda images: images,
  "max": max_pool,
  "average": average_pool,
}
