"""What IDC trains networks with on ImageNet: resized crops, flips, jittered colours, and lighting.

A transform is of one image `[H, W, C]` with its parameters; images are normalised.
"""

import jax
import jax.numpy as jnp

from dcjax.augment.transforms import flip
from dcjax.common.products import product
from dcjax.common.types import Array, Key
from dcjax.data import statistics

AREA = (0.08, 1.0)  # of the image: the area of a crop (torchvision's default, as are the next two)
AREA_IDC = (0.5, 1.0)  # (authors' code)
ASPECT = (3 / 4, 4 / 3)  # of a crop: its width by its height
TRIES = 10  # crops that are drawn; the first that fits is taken
JITTER = 0.4  # brightness, contrast and saturation are scaled within 1 +- this
# Deviation of the noise along the principal components of ImageNet's colours, and these, for pixels
# in [0, 1]: their variances, and as columns their directions in RGB (Krizhevsky et al., NeurIPS
# 2012; the numbers as IDC's code and others have them).
LIGHTING = 0.1
VARIANCES = (0.2175, 0.0188, 0.0045)
DIRECTIONS = (
  (-0.5675, 0.7192, 0.4009),
  (-0.5808, -0.0045, -0.8140),
  (-0.5836, -0.6948, 0.4203),
)
GREY = (0.299, 0.587, 0.114)  # how bright red, green and blue look
BLACK = -2.0  # where black lies, about; in ImageNet's normalised pixels at -2.12, -2.04 and -1.80


def crop_flip_jitter(key: Key, images: Array) -> Array:
  """Crops and resizes each image, mirrors half of them, and jitters their colours.

  Args:
    key: of all draws; each image has its own.
    images: `[N, H, W, C]`.

  Returns:
    `[N, H, W, C]`.
  """
  count, height, width, _ = images.shape

  def one(key, image):
    crop_key, flip_key, jitter_key = jax.random.split(key, 3)
    image = resized_crop(image, *draw_crop(crop_key, height, width))
    image = flip(image, jax.random.bernoulli(flip_key))
    return jitter(
      image, jax.random.uniform(jitter_key, (3,), jnp.float32, minval=1 - JITTER, maxval=1 + JITTER)
    )

  return jax.vmap(one)(jax.random.split(key, count), images)


def crop_flip_jitter_light(key: Key, images: Array) -> Array:
  """What IDC's code trains networks with on ImageNet, at evaluation: `crop_flip_jitter` and more.

  A crop has half the image's area or more, colours are jittered as pixels in [0, 1] in an order
  that is drawn, and noise of PCA lighting is added.

  Args:
    key: of all draws; each image has its own.
    images: `[N, H, W, 3]`, normalised by ImageNet's mean and deviation.

  Returns:
    `[N, H, W, 3]`.
  """
  count, height, width, _ = images.shape
  mean, std = (jnp.asarray(each, images.dtype) for each in statistics.IMAGENET)

  def one(key, image):
    crop_key, flip_key, jitter_key, order_key, light_key = jax.random.split(key, 5)
    image = resized_crop(image, *draw_crop(crop_key, height, width, AREA_IDC))
    image = flip(image, jax.random.bernoulli(flip_key))
    factors = jax.random.uniform(
      jitter_key, (3,), jnp.float32, minval=1 - JITTER, maxval=1 + JITTER
    )
    pixels = image * std[None, None] + mean[None, None]
    pixels = jitter_pixels(pixels, factors, jax.random.permutation(order_key, 3))
    pixels = light(pixels, LIGHTING * jax.random.normal(light_key, (3,), jnp.float32))
    return (pixels - mean[None, None]) / std[None, None]

  return jax.vmap(one)(jax.random.split(key, count), images)


def jitter_pixels(image: Array, factors: Array, order: Array) -> Array:
  """Scales brightness, contrast and saturation in any order, without clipping.

  Brightness scales pixels about black, contrast about the mean grey of the image, and saturation
  about each pixel's grey.

  Args:
    image: `[H, W, 3]` in [0, 1], or about so.
    factors: `[3]`, of brightness, contrast and saturation.
    order: `[3]`, a permutation of 0 to 2, the numbers of the three.
  """
  weights = jnp.asarray(GREY, image.dtype)[None, None]
  for number in order:
    grey = (image * weights).sum(-1, keepdims=True)
    about = jnp.stack([jnp.zeros_like(grey), jnp.full_like(grey, grey.mean()), grey])[number]
    image = (image - about) * factors[number] + about
  return image


def light(image: Array, alphas: Array) -> Array:
  """Adds colours along the principal components of ImageNet's, in proportion to their variances.

  Args:
    image: `[H, W, 3]` in [0, 1].
    alphas: `[3]`, how much of each component.
  """
  directions, variances = (jnp.asarray(each, image.dtype) for each in (DIRECTIONS, VARIANCES))
  colour = product(directions, variances * alphas)
  return image + colour[None, None]


def resized_crop(
  image: Array, corner: Array, sides: Array, size: tuple[int, int] | None = None
) -> Array:
  """Brings a part of the image to a size, bilinearly.

  Args:
    image: `[H, W, C]`.
    corner: the upper left one, `[row, column]`, in pixels.
    sides: `[rows, columns]`, in pixels.
    size: height and width of the result, for which the image is smoothed where that is smaller;
      None: those of the image, without smoothing.

  Returns:
    `[*size, C]`. At the edges of a crop it is interpolated with the pixels beside it.
  """
  shape = (*(size or image.shape[:2]), image.shape[-1])
  scale = jnp.array(shape[:2], sides.dtype) / sides
  return jax.image.scale_and_translate(
    image, shape, (0, 1), scale, -corner * scale, method="linear", antialias=size is not None
  )


def draw_crop(
  key: Key,
  height: int,
  width: int,
  area: tuple[float, float] = AREA,
  aspect: tuple[float, float] = ASPECT,
) -> tuple[Array, Array]:
  """Draws where to crop, as torchvision's RandomResizedCrop, but not to whole pixels.

  Args:
    key: of all draws.
    height: of the image.
    width: of the image.
    area: the range of the crop's area, as a share of the image's; drawn uniformly.
    aspect: the range of its width by its height; the logarithm is drawn uniformly.

  Returns:
    Corner and sides, `[row, column]` each, always inside the image: should none of `TRIES` draws
    fit into it, the first is cut to the image.
  """
  area_key, aspect_key, corner_key = jax.random.split(key, 3)
  areas = jax.random.uniform(area_key, (TRIES,), jnp.float32, minval=area[0], maxval=area[1]) * (
    height * width
  )
  low, high = jnp.log(jnp.array(aspect, jnp.float32))
  aspects = jnp.exp(jax.random.uniform(aspect_key, (TRIES,), jnp.float32, minval=low, maxval=high))
  sides = jnp.sqrt(jnp.stack([areas / aspects, areas * aspects], -1))
  image_sides = jnp.array([height, width], sides.dtype)
  fits = (sides <= image_sides[None]).all(-1)
  chosen = jnp.minimum(sides[fits.argmax()], image_sides)
  return jax.random.uniform(corner_key, (2,), jnp.float32) * (image_sides - chosen), chosen


def jitter(image: Array, factors: Array) -> Array:
  """Scales brightness, contrast and saturation, in this order, by factors `[3]`.

  Brightness scales pixels about black, contrast about the mean of the image, and saturation about
  the mean of the channels of each pixel. As the mean and deviation that images are normalised by
  are not known here, black is the same for all channels and datasets (`BLACK`), and nothing is
  clipped; torchvision also weights the channels by how bright they look.
  """
  brightness, contrast, saturation = factors
  image = (image - BLACK) * brightness + BLACK
  mean = image.mean(keepdims=True)
  image = (image - mean) * contrast + mean
  grey = image.mean(-1, keepdims=True)
  return (image - grey) * saturation + grey
