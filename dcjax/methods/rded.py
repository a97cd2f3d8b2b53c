"""RDED: crops of real images that a teacher finds easy, put together (Sun et al., CVPR 2024).

No gradients: of each class some real images are cropped at random (section 3.2), of the crops of an
image the one is kept whose class a trained network is most certain of, and the most certain of all
become the tiles of the set's images. Numbers are those of the authors' code.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcjax.augment.imagenet import AREA, draw_crop, resized_crop
from dcjax.common.errors import UserError, check_least
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset, images_at
from dcjax.methods.definition import Definition, as_fields
from dcjax.nn import Network, architectures, training

SMALL = "convnet:width=8:depth=1:norm=batch"  # a teacher that takes seconds
SQUARE = (1.0, 1.0)  # of a crop: its width by its height
FACTORS = (1, 2)  # tiles along a side: of small images, and from 128 pixels on


def best_crops(
  key: Key,
  images: Array,
  *,
  side: tuple[int, int],
  crops: int,
  loss: Callable[[Array], Array],
  block: int,
) -> tuple[Array, Array]:
  """The crop of each image that a teacher is most certain of.

  Args:
    key: of all draws; image i crops with `fold_in(key, i)`.
    images: `[n, H, W, C]`, of any range.
    side: height and width that crops are brought to.
    crops: so many of each image.
    loss: `loss(patches) -> [N]` of crops `[N, *side, C]`: the teacher's, low where it is certain.
    block: images whose crops go through the teacher together.

  Returns:
    Crops `[n, *side, C]` and their losses `[n]`.
  """
  height, width = images.shape[1:3]

  def crop(key, image):
    return resized_crop(image, *draw_crop(key, height, width, AREA, SQUARE), side)

  def best(number_and_image):
    number, image = number_and_image
    keys = jax.random.split(jax.random.fold_in(key, number), crops)
    patches = jax.vmap(crop, (0, None))(keys, image)
    losses = loss(patches)
    return patches[losses.argmin()], losses.min()

  return jax.lax.map(best, (jnp.arange(len(images)), images), batch_size=block)


def mosaic(patches: Array, factor: int) -> Array:
  """Images whose tiles are patches.

  Args:
    patches: `[factor^2 n, h, w, C]`; the first n are the upper left tiles (authors' code).
    factor: tiles along a side.

  Returns:
    `[n, factor h, factor w, C]`.
  """
  count, (height, width, channels) = len(patches) // factor**2, patches.shape[1:]
  tiles = patches.reshape(factor, factor, count, height, width, channels)
  sides = factor * height, factor * width
  return tiles.transpose(2, 0, 3, 1, 4, 5).reshape(count, *sides, channels)


def padded(patches: Array, sides: tuple[int, int]) -> Array:
  """Patches `[N, h, w, C]` in the middle of zeros, `[N, *sides, C]`, as the teacher sees them."""
  below = [(0, 0), *_halves(sides[0] - patches.shape[1]), *_halves(sides[1] - patches.shape[2])]
  return jnp.pad(patches, (*below, (0, 0)))


def _halves(missing: int) -> list[tuple[int, int]]:
  return [(missing // 2, missing - missing // 2)]


class Choice(NamedTuple):
  """What RDED makes of a dataset.

  Attributes:
    images: `[classes, ipc, H, W, C]` float32, as networks see them.
    indices: `[classes][ipc][factor^2]`, of which training images the tiles are, as they were
      loaded, the upper left one first.
  """

  images: Array
  indices: list[list[list[int]]]


def choose(
  dataset: Dataset,
  key: Key,
  settings: "RDEDSettings",
  *,
  ipc: int,
  teacher: Network,
  taught: tuple[Params, Params],
  block: int,
  wait: Callable[[Any], Any] = jax.block_until_ready,
) -> Choice:
  """The set, one class after another; no more than a class' candidates are in memory at a time.

  Args:
    dataset: with images in memory or on disk, which `check` has looked at.
    key: class k draws candidates and crops from `fold_in(key, k)`.
    settings: as configs have them.
    ipc: images per class.
    teacher: the network that scores crops.
    taught: its parameters and its statistics of batch norm.
    block: images whose crops go through the teacher together.
    wait: returns arrays once they are computed.
  """
  factor, candidates = settings.factor, settings.candidates
  height, width, _ = dataset.image_shape

  @jax.jit
  def crops(dataset, taught, images, label, key):
    def loss(patches):
      seen = padded(dataset.whitened(None).normalise(patches), (height, width))
      seen = seen if dataset.whitening is None else dataset.whitening.whiten(seen)
      logits, _ = teacher.apply(taught[0], seen, taught[1])
      return training.cross_entropy(logits, jnp.full(len(seen), label))

    return best_crops(
      key, images.astype(jnp.float32), side=(height // factor, width // factor),
      crops=settings.crops, loss=loss, block=block,
    )  # fmt: skip

  def one_class(label: int) -> tuple[Array, list[list[int]]]:
    draw_key, crop_key = jax.random.split(jax.random.fold_in(key, label))
    start, stop = (int(offset) for offset in dataset.offsets[label : label + 2])
    drawn = np.asarray(jax.random.permutation(draw_key, stop - start))[:candidates]
    places = start + np.resize(drawn, candidates)  # filled up, so that one program serves all
    patches, losses = wait(crops(dataset, taught, images_at(dataset, places), label, crop_key))
    easiest = np.argsort(losses[: len(drawn)], kind="stable")[: ipc * factor**2]
    sources = np.asarray(dataset.source)[places[easiest]]
    images = dataset.normalise(mosaic(patches[easiest], factor))
    return images, sources.reshape(factor**2, ipc).T.tolist()

  images, indices = zip(*map(one_class, range(dataset.num_classes)), strict=True)
  return Choice(jnp.stack(images), list(indices))


# --- As configs and commands know it -----------------------------------------------------------


class RDEDSettings(NamedTuple):
  """The fields of RDED."""

  factor: int = 1  # tiles along a side of an image: 1 up to 64 pixels, 2 of 224 (authors' code)
  candidates: int = 300  # images of a class that are cropped, drawn at random (authors' code)
  crops: int = 5  # of each of these images (authors' code)
  # What scores crops: a network that is trained on all images, or a teacher.npz
  teacher: str = "convnet:norm=batch"
  teacher_epochs: int = 50  # its passes over all images; by us, the authors' are not published


class _Fields(NamedTuple):
  rded: RDEDSettings = RDEDSettings()


def _resolve(config: ConfigDict) -> None:
  fields = config.rded
  if fields.factor not in FACTORS:
    raise UserError(f"rded.factor: {fields.factor} tiles along a side; give 1 or 2")
  check_least("rded.crops", fields.crops, 1)
  check_least("rded.teacher_epochs", fields.teacher_epochs, 1)
  if fields.candidates < (wanted := config.ipc * fields.factor**2):
    raise UserError(
      f"rded.candidates: {fields.candidates} images of a class make that many tiles, but "
      f"{config.ipc} images take {wanted}; raise it"
    )
  architectures.check_one("rded.teacher", fields.teacher)


def check(dataset: Dataset, settings: RDEDSettings, ipc: int) -> None:
  """Raises `UserError` where tiles do not fit the images, or a class has too few of them."""
  height, width, _ = dataset.image_shape
  if height % settings.factor or width % settings.factor:
    raise UserError(
      f"rded.factor: {settings.factor} does not divide the {height} x {width} pixels of "
      f"{dataset.name}; give 1"
    )
  sizes = np.diff(np.asarray(dataset.offsets))
  smallest, wanted = int(sizes.argmin()), ipc * settings.factor**2
  if wanted > sizes[smallest]:
    raise UserError(
      f"ipc: {ipc} images take {wanted} of class '{dataset.class_names[smallest]}', which has "
      f"{sizes[smallest]}; give fewer"
    )


RDED = Definition(
  fields=lambda: as_fields(_Fields()),
  build=None,
  resolve=_resolve,
  smoke={
    "rded.candidates": 8,
    "rded.crops": 2,
    "rded.teacher": SMALL,
    "rded.teacher_epochs": 1,
    "evaluation.teacher": SMALL,
    "evaluation.teacher_epochs": 1,
  },
  protocol="soft",
  settings=_Fields,
)
