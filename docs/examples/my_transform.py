"""Two transforms of a normalised image [H, W, C]."""

import jax

from dcjax.augment import Transform


def noise(key, image):
  """Adds noise; images with the same key get the same noise."""
  return image + 0.1 * jax.random.normal(key, image.shape, image.dtype)


# The same kind of thing with its draw apart: draw(key, height, width), apply(image, parameters).
FADE = Transform(
  draw=lambda key, height, width: jax.random.uniform(key, minval=0.5, maxval=1.0),
  apply=lambda image, strength: strength * image,
)
