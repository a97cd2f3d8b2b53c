"""Stateless augmentation: `f(key, images) -> images`, differentiable in the images.

What DC trains networks with (`augment.affine`), and the transforms of DSA (`augment.transforms`),
by which a batch of real and one of synthetic images are augmented alike. What IDC trains networks
with on ImageNet (`augment.imagenet`), RDED on images of tiles (`augment.tiles`), and FRePo
(`augment.frepo`). CutMix (`augment.cutmix`), which changes targets as well.
Images are `[N, H, W, C]`, normalised.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import logging

from dcjax.augment.affine import shift_or_noise, shift_scale_or_rotate
from dcjax.augment.cutmix import cutmix
from dcjax.augment.frepo import each_of_four, each_of_six, one_of_five, one_of_six
from dcjax.augment.imagenet import crop_flip_jitter, crop_flip_jitter_light
from dcjax.augment.tiles import shuffle_crop_flip
from dcjax.augment.transforms import (
  DRAWS,
  STRATEGY,
  Transform,
  check_strategy,
  names_in,
  transform,
)
from dcjax.common.errors import UserError, nearest
from dcjax.common.registry import TRANSFORMS, names_object
from dcjax.common.types import Array, Key
from dcjax.data import statistics

__all__ = [
  "DRAWS",
  "NAMED",
  "NOTHING",
  "SCHEMES",
  "STRATEGY",
  "Augmentation",
  "Augmentations",
  "Transform",
  "augmentations",
  "by_name",
  "check_images",
  "check_name",
  "check_strategy",
  "crop_flip_jitter",
  "crop_flip_jitter_light",
  "cutmix",
  "each_of_four",
  "each_of_six",
  "names_in",
  "none",
  "one_of_five",
  "one_of_six",
  "shift_or_noise",
  "shift_scale_or_rotate",
  "shuffle_crop_flip",
  "transform",
]

Augmentation = Callable[[Key, Array], Array]


def none(key: Key, images: Array) -> Array:
  """Leaves the images as they are."""
  del key
  return images


# What networks can be trained with, beside the strategies of DSA.
NAMED = {
  "none": none,
  "dc": shift_scale_or_rotate,
  "dc_batch_norm": shift_or_noise,
  "imagenet": crop_flip_jitter,
  "idc_imagenet": crop_flip_jitter_light,
  "rded": shuffle_crop_flip,
  "frepo": one_of_six,
  "frepo_unflipped": one_of_five,
  "rcig": each_of_six,
  "rcig_digits": each_of_four,
}


def by_name(name: str) -> Augmentation:
  """An entry of `NAMED`, or a strategy with parameters for each image; undrawn groups draw one."""
  return NAMED[name] if name in NAMED else transform(name, shared=False)


def check_name(field: str, name: str) -> None:
  """Raises `UserError` for a name that `by_name` does not know; `field` is to blame."""
  if name in NAMED:
    return
  if not any(each in TRANSFORMS or names_object(each) for each in names_in(name)):
    raise UserError(f"{field}: unknown '{name}'; {nearest(name, (*NAMED, *TRANSFORMS))}")
  check_strategy(field, name)


def check_images(field: str, name: str, image_shape: tuple[int, int, int]) -> None:
  """Raises `UserError` for images without colours, if `name` is for ImageNet, as IDC has it.

  And if users' transforms in `name` do not keep images as they are to be.

  Args:
    field: to blame.
    name: as `by_name` takes it.
    image_shape: `[H, W, C]`.
  """
  if NAMED.get(name) is crop_flip_jitter_light and image_shape[-1] != 3:
    raise UserError(
      f"{field}: '{name}' is for RGB, but images have {image_shape[-1]} channels; set another, "
      "or dataset.rgb_side"
    )
  if name in NAMED or all(each in TRANSFORMS.own for each in names_in(name)):
    return
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  augmentation = transform(name, draw="sequence", shared=False, field=field)
  jax.eval_shape(augmentation, jax.random.key(0), images)


def warn_of_colours(field: str, name: str, mean: Array, std: Array) -> None:
  """Logs a warning if `name` takes images as normalised by ImageNet's colours, and others are."""
  given = jnp.stack([jnp.asarray(mean), jnp.asarray(std)])
  if NAMED.get(name) is not crop_flip_jitter_light or given.shape[1] != 3:
    return
  if not jnp.allclose(given, jnp.asarray(statistics.IMAGENET, given.dtype), atol=1e-3):
    logging.warning(
      "%s: '%s' is for images normalised by ImageNet's mean and deviation; these have their own, "
      "and their colours change otherwise than in IDC", field, name,
    )  # fmt: skip


class Augmentations(NamedTuple):
  """How the images of a condensation are augmented (DSA, Algorithm 1, lines 7 and 9).

  Attributes:
    real: a batch of real images, when it is matched.
    synthetic: the synthetic images that are matched with it, called with the same key.
    network: the synthetic images that the network is trained on.
  """

  real: Augmentation
  synthetic: Augmentation
  network: Augmentation


NOTHING = Augmentations(none, none, none)
# By the values of the config field `dsa.scheme` (DSA, Table 4).
SCHEMES = ("none", "siamese", "independent", "real", "synthetic")


def augmentations(*, scheme: str, strategy: str, draw: str = "one") -> Augmentations:
  """What DSA does to the images of a condensation.

  Args:
    scheme: 'siamese' transforms both batches alike (Ours), 'independent' every image of both for
      itself (F), 'real' (C) and 'synthetic' (D) every image of one of them, 'none' neither.
    strategy: as `transform` takes it.
    draw: as `transform` takes it.

  Returns:
    The augmentations. Networks are trained on augmented images where synthetic images are
    augmented in matching.
  """
  alike = transform(strategy, draw=draw, shared=True)
  each = transform(strategy, draw=draw, shared=False)

  def apart(place):
    return lambda key, images: each(jax.random.split(key)[place], images)

  return {
    "none": NOTHING,
    "siamese": Augmentations(alike, alike, each),
    "independent": Augmentations(apart(0), apart(1), each),
    "real": Augmentations(each, none, none),
    "synthetic": Augmentations(none, each, each),
  }[scheme]
