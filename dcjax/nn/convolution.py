"""Convolutions that can be differentiated twice without slowing down.

Gradient matching differentiates a gradient, which `lax.conv_general_dilated` does poorly: on a
CPU its second derivative, and its kernel gradient inside a loop, run more than ten times slower
than their arithmetic needs, and under `vmap` over kernels it becomes a grouped convolution.
`patches_conv` and `winograd_conv` are made of products of matrices, whatever the order of the
derivative, with or without `vmap`. `ungrouped_conv` is XLA's own, which a GPU has kernels for, and
under `vmap` a loop where it would be grouped. A network takes one of them by its name in
`CONVOLUTIONS`.
"""

from collections.abc import Callable
from functools import partial, reduce, wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from dcjax.common.types import Array

T = TypeVar("T")
_TF32_BITS = 8, 10  # of exponent and mantissa
Convolve = Callable[[Array, Array, int], Array]
KernelGradient = Callable[[Array, Array, int, int], Array]


def _lax_convolve(images: Array, kernel: Array, padding: int) -> Array:
  return lax.conv_general_dilated(
    images, kernel, (1, 1), ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def exactly(function: Callable[..., T]) -> Callable[..., T]:
  """The function with products of what it is given, where a GPU or a TPU would round that first."""

  @wraps(function)
  def exact(*arguments: Any, **more: Any) -> T:
    with jax.default_matmul_precision("highest"):
      return function(*arguments, **more)

  return exact


def _in_tf32(function: Callable[..., Array]) -> Callable[..., Array]:
  """A function of two arrays on their rounded numbers, whose products tensor cores may make."""

  @wraps(function)
  def rounded(images: Array, other: Array, *numbers: int) -> Array:
    with jax.default_matmul_precision("tensorfloat32"):
      return function(*(lax.reduce_precision(x, *_TF32_BITS) for x in (images, other)), *numbers)

  return rounded


@exactly
def lax_conv(images: Array, kernel: Array, padding: int) -> Array:
  """A convolution of stride 1 by XLA's own operation, with XLA's gradients.

  Args:
    images: `[N, H, W, C]`.
    kernel: `[size, size, C, O]`.
    padding: zeros on each side of the images; a negative number crops.

  Returns:
    `[N, H + 2 padding - size + 1, W + 2 padding - size + 1, O]`.
  """
  return _lax_convolve(images, kernel, padding)


def _twice_differentiable(convolve: Convolve, kernel_gradient: KernelGradient) -> Convolve:
  """A convolution whose gradients of any order are made of the two functions given.

  The gradient to the images is a convolution with the turned kernel; that to the kernel is
  `kernel_gradient`; and the gradients of the latter are convolutions again.
  """

  @partial(jax.custom_vjp, nondiff_argnums=(2,))
  def conv(images, kernel, padding):
    return convolve(images, kernel, padding)

  @partial(jax.custom_vjp, nondiff_argnums=(2, 3))
  def gradient(images, cotangent, size, padding):
    return kernel_gradient(images, cotangent, size, padding)

  def image_gradient(cotangent, kernel, padding):
    return conv(cotangent, _turned(kernel), kernel.shape[0] - 1 - padding)

  def conv_backward(padding, residuals, cotangent):
    images, kernel = residuals
    size = kernel.shape[0]
    return (
      image_gradient(cotangent, kernel, padding),
      gradient(images, cotangent, size, padding),
    )

  def gradient_backward(size, padding, residuals, cotangent):
    del size
    images, outputs = residuals
    return image_gradient(outputs, cotangent, padding), conv(images, cotangent, padding)

  conv.defvjp(
    lambda images, kernel, padding: (conv(images, kernel, padding), (images, kernel)),
    conv_backward,
  )
  gradient.defvjp(
    lambda images, outputs, size, padding: (
      gradient(images, outputs, size, padding),
      (images, outputs),
    ),
    gradient_backward,
  )
  return conv


def _turned(kernel: Array) -> Array:
  """The kernel of the convolution that goes back: `[size, size, C, O]` to `[size, size, O, C]`."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


# --- Patches times one matrix --------------------------------------------------------------

NARROW = 8  # channels below which neither patches nor tiles of the wider side pay


def _pad(images: Array, before: int, after: tuple[int, int]) -> Array:
  """Zeros `before` each image in both directions, and `after` its rows and columns."""
  rows, cols = ((before, end, 0) for end in after)
  return lax.pad(images, jnp.zeros((), images.dtype), ((0, 0, 0), rows, cols, (0, 0, 0)))


def windows(images: Array, size: int, stride: int = 1) -> list[Array]:
  """The images under each place of a `size` x `size` window, in rows.

  Each is `[N, (H - size) // stride + 1, (W - size) // stride + 1, C]`.
  """
  rows, cols = (side - size + 1 for side in images.shape[1:3])
  places = range(size)
  return [images[:, i : i + rows : stride, j : j + cols : stride] for i in places for j in places]


def _patches(images: Array, size: int, padding: int) -> Array:
  """The `size` x `size` window around every pixel, `[N, H', W', size * size * C]`."""
  shifted = windows(_pad(images, padding, (padding, padding)), size)
  # The same numbers as from `concatenate`, sooner.
  return jnp.stack(shifted, axis=3).reshape(*shifted[0].shape[:3], -1)


def _flatten(images: Array) -> Array:
  return images.reshape(-1, images.shape[-1])


def _sum_of_products(a: Array, b: Array) -> Array:
  """Contracts the rows of `[M, C]` and `[M, O]`; `a.T @ b` would copy the transpose."""
  return lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def _patches_convolve(images: Array, kernel: Array, padding: int) -> Array:
  if _narrows(*kernel.shape[2:]):
    return _narrowing_convolve(images, kernel, padding)
  patches = _patches(images, kernel.shape[0], padding)
  outputs = _flatten(patches) @ _flatten(kernel)
  return outputs.reshape(*patches.shape[:-1], kernel.shape[-1])


def _narrows(channels: int, outputs: int) -> bool:
  """Whether it goes from many channels to few, as back to images."""
  return outputs < NARROW <= channels


def _narrowing_convolve(images: Array, kernel: Array, padding: int) -> Array:
  """Products with each place of the kernel, then their sum: less than patches would be."""
  size, _, channels, outputs = kernel.shape
  matrix = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
  products = (_flatten(images) @ matrix).reshape(*images.shape[:3], -1)
  shifted = windows(_pad(products, padding, (padding, padding)), size)
  places = (window[..., n * outputs : (n + 1) * outputs] for n, window in enumerate(shifted))
  return reduce(jnp.add, places)


def _patches_kernel_gradient(images: Array, cotangent: Array, size: int, padding: int) -> Array:
  if _narrows(images.shape[-1], cotangent.shape[-1]):  # then patches of the cotangent are smaller
    return _turned(_patches_kernel_gradient(cotangent, images, size, size - 1 - padding))
  patches = _flatten(_patches(images, size, padding))
  gradient = _sum_of_products(patches, _flatten(cotangent))
  return gradient.reshape(size, size, images.shape[-1], cotangent.shape[-1])


# --- Winograd's F(2x2, 3x3) ----------------------------------------------------------------
# Every 2x2 tile of outputs is made from a 4x4 tile of inputs, 16 products in place of 36 (Lavin
# and Gray, 2016). With their matrices A, B and G: Y = A^T [(G g G^T) * (B^T d B)] A for outputs Y,
# kernel g and inputs d; and, as that is linear in g, its gradient is G^T [(A Y A^T) * (B^T d B)] G.

FEW = 128  # tiles below which transforming the kernel costs more than it saves
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))


def _times_b(d: list[Array]) -> list[Array]:
  """`B^T d`, 4 from 4."""
  return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _times_a(m: list[Array]) -> list[Array]:
  """`A^T m`, 2 from 4."""
  return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _times_a_transposed(y: list[Array]) -> list[Array]:
  """`A y`, 4 from 2."""
  return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _transform_images(images: Array, padding: int) -> list[Array]:
  """`B^T d B` of all overlapping 4x4 tiles: `[N * tiles, C]` for each of 16 places."""
  # Else XLA computes what made the images once more for each of the places.
  images = lax.optimization_barrier(images)
  odd_rows, odd_cols = (side % 2 for side in images.shape[1:3])
  images = _pad(images, padding, (padding + odd_rows, padding + odd_cols))
  rows, cols = (side - 3 for side in images.shape[1:3])
  down = _times_b([images[:, i : i + rows : 2] for i in range(4)])
  tiles = [_times_b([d[:, :, j : j + cols : 2] for j in range(4)]) for d in down]
  return [_flatten(tile) for row in tiles for tile in row]


def _transform_kernel(kernel: Array) -> Array:
  """`G g G^T`: `[3, 3, C, O]` to `[16, C, O]`."""
  g = jnp.array(_G, kernel.dtype)
  return jnp.einsum("ai,bj,ijco->abco", g, g, kernel).reshape(16, *kernel.shape[2:])


def _transform_outputs(outputs: Array) -> list[Array]:
  """`A Y A^T` of all 2x2 tiles: `[N * tiles, O]` for each of 16 places."""
  outputs = lax.optimization_barrier(outputs)
  outputs = _pad(outputs, 0, (outputs.shape[1] % 2, outputs.shape[2] % 2))
  down = _times_a_transposed([outputs[:, i::2] for i in range(2)])
  tiles = [_times_a_transposed([y[:, :, j::2] for j in range(2)]) for y in down]
  return [_flatten(tile) for row in tiles for tile in row]


def _outputs(places: list[Array], count: int, rows: int, cols: int) -> Array:
  """`A^T m A` of `[count * tiles, O]` for each of 16 places: `[count, rows, cols, O]`."""
  down, across = -(-rows // 2), -(-cols // 2)
  tiles = [place.reshape(count, down, across, -1) for place in places]
  columns = [_times_a(tiles[j::4]) for j in range(4)]
  pairs = [_times_a([column[i] for column in columns]) for i in range(2)]
  outputs = jnp.stack([jnp.stack(pair, axis=3) for pair in pairs], axis=2)
  return outputs.reshape(count, 2 * down, 2 * across, -1)[:, :rows, :cols]


def _winograd_suits(images: Array, outputs: int, size: int) -> bool:
  count, rows, cols, channels = images.shape
  return size == 3 and min(channels, outputs) >= NARROW and count * rows * cols >= 4 * FEW


def _winograd_convolve(images: Array, kernel: Array, padding: int) -> Array:
  if not _winograd_suits(images, kernel.shape[3], kernel.shape[0]):
    return _patches_convolve(images, kernel, padding)
  count, rows, cols = images.shape[0], *(side + 2 * padding - 2 for side in images.shape[1:3])
  # One product for each place: stacked to a single batch they would be copied once more.
  places = zip(_transform_images(images, padding), _transform_kernel(kernel), strict=True)
  return _outputs([tiles @ weights for tiles, weights in places], count, rows, cols)


def _winograd_kernel_gradient(images: Array, cotangent: Array, size: int, padding: int) -> Array:
  if not _winograd_suits(images, cotangent.shape[-1], size):
    return _patches_kernel_gradient(images, cotangent, size, padding)
  places = zip(_transform_images(images, padding), _transform_outputs(cotangent), strict=True)
  products = jnp.stack([_sum_of_products(*place) for place in places])
  g = jnp.array(_G, products.dtype)
  return jnp.einsum("ai,bj,abco->ijco", g, g, products.reshape(4, 4, *products.shape[1:]))


# --- XLA's own, never grouped --------------------------------------------------------------


def _ungrouped_convolve(images: Array, kernel: Array, padding: int) -> Array:
  """Under `vmap` one convolution over all images; a loop if each batch has its own kernel."""

  @custom_vmap
  def convolve(images, kernel):
    return _lax_convolve(images, kernel, padding)

  @convolve.def_vmap
  def _batches(count, batched, images, kernel):
    if batched[1]:
      return _one_by_one(convolve, batched, images, kernel), True
    outputs = convolve(images.reshape(-1, *images.shape[2:]), kernel)
    return outputs.reshape(count, -1, *outputs.shape[1:]), True

  return convolve(images, kernel)


def _ungrouped_kernel_gradient(images: Array, cotangent: Array, size: int, padding: int) -> Array:
  """XLA's own gradient to a kernel; under `vmap` a loop."""

  @custom_vmap
  def gradient(images, cotangent):
    shape = size, size, images.shape[-1], cotangent.shape[-1]
    kernel = jax.ShapeDtypeStruct(shape, images.dtype)
    transposed = jax.linear_transpose(lambda kernel: _lax_convolve(images, kernel, padding), kernel)
    return transposed(cotangent)[0]

  @gradient.def_vmap
  def _batches(count, batched, images, cotangent):
    del count
    return _one_by_one(gradient, batched, images, cotangent), True

  return gradient(images, cotangent)


def _one_by_one(
  function: Callable[[Array, Array], Array], batched: list[bool], *arguments: Array
) -> Array:
  """The results of a function of two arrays, of which some have a leading axis to go along."""

  def one(each):
    given = iter(each)
    return function(*(next(given) if has else x for has, x in zip(batched, arguments, strict=True)))

  return lax.map(one, [x for has, x in zip(batched, arguments, strict=True) if has])


_PIECES = {
  "patches": (_patches_convolve, _patches_kernel_gradient),
  "winograd": (_winograd_convolve, _winograd_kernel_gradient),
  "ungrouped": (_ungrouped_convolve, _ungrouped_kernel_gradient),
}
_EXACT = {n: _twice_differentiable(exactly(f), exactly(g)) for n, (f, g) in _PIECES.items()}
# All take and return what `lax_conv` does, and differentiate in reverse to any order.
patches_conv = _EXACT["patches"]
winograd_conv = _EXACT["winograd"]  # for 3x3 kernels between many channels; else patches
ungrouped_conv = _EXACT["ungrouped"]

# By the names of configs: 'winograd' is the fastest on a CPU, 'ungrouped' is for GPUs.
CONVOLUTIONS: dict[str, Convolve] = {
  "patches": patches_conv,
  "winograd": winograd_conv,
  "ungrouped": ungrouped_conv,
  "lax": lax_conv,
}
TF32 = "_tf32"  # what the names end with of those whose products are of numbers in TF32
EVERY: dict[str, Convolve] = CONVOLUTIONS | {
  **{
    name + TF32: _twice_differentiable(_in_tf32(convolve), _in_tf32(gradient))
    for name, (convolve, gradient) in _PIECES.items()
  },
  "lax" + TF32: _in_tf32(_lax_convolve),
}


def halving(convolve: Convolve, images: Array, kernel: Array, padding: int) -> Array:
  """A convolution of stride 2, made of one of stride 1 over blocks of 2x2 pixels.

  Args:
    convolve: an entry of `CONVOLUTIONS`.
    images: `[N, H, W, C]`.
    kernel: `[size, size, C, O]`.
    padding: zeros on each side of the images; 0 for size 1.

  Returns:
    `[N, (H + 2 padding - size) // 2 + 1, (W + 2 padding - size) // 2 + 1, O]`.
  """
  size = kernel.shape[0]
  if size == 1:
    return convolve(images[:, ::2, ::2], kernel, 0)
  count, height, width, channels = images.shape
  half, odd = (size + 1) // 2, size % 2  # a window covers half x half blocks
  rows, cols = ((side + 2 * padding - size) // 2 + half for side in (height, width))
  after = 2 * rows - padding - height, 2 * cols - padding - width
  blocks = _pad(images, padding, after).reshape(count, rows, 2, cols, 2, channels)
  blocks = blocks.swapaxes(2, 3).reshape(count, rows, cols, 4 * channels)
  kernel = jnp.pad(kernel, ((0, odd), (0, odd), (0, 0), (0, 0)))
  kernel = kernel.reshape(half, 2, half, 2, channels, -1).swapaxes(1, 2)
  return convolve(blocks, kernel.reshape(half, half, 4 * channels, -1), 0)


def depthwise_conv(images: Array, kernel: Array, stride: int) -> Array:
  """A convolution of each channel by itself, the sum of shifted images times weights.

  XLA's own, a grouped convolution, is slow in every derivative.

  Args:
    images: `[N, H, W, C]`.
    kernel: `[size, size, 1, C]`, size odd; zeros pad the images by half of it.
    stride: pixels from one window to the next.

  Returns:
    `[N, ceil(H / stride), ceil(W / stride), C]`.
  """
  size, padding = kernel.shape[0], kernel.shape[0] // 2
  shifted = windows(_pad(images, padding, (padding, padding)), size, stride)
  weights = kernel.reshape(size * size, 1, 1, 1, -1)
  return sum(each * weight for each, weight in zip(shifted, weights, strict=True))
