"""The matching loss by number and by resolution of synthetic images (IDC, Figure 2)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dcjax.common.types import Array, Key
from dcjax.data import Dataset
from dcjax.figures.style import COLOURS, DPI, STYLE, Drawing
from dcjax.methods import dc
from dcjax.methods.setup import Setup
from dcjax.sets.formation import IDENTITY, Stored

POINTS = 100  # of a curve, each the mean of as many iterations as another


def resized(images: Array, side: int) -> Array:
  """Images made smaller and brought back to their size, both bilinear.

  Args:
    images: `[classes, n, H, W, C]`.
    side: height of the small ones; the width shrinks alike.
  """
  height, width = images.shape[2:4]
  small = (*images.shape[:2], side, max(1, side * width // height), images.shape[4])
  if side == height:
    return images
  return jax.image.resize(jax.image.resize(images, small, "bilinear"), images.shape, "bilinear")


def loss(setup: Setup, settings: dc.DCSettings) -> Callable[[Array, Dataset, Key], Array]:
  """What measures the distance D that DC and DSA minimise, at a network that is not trained.

  Args:
    setup: network, layout and augmentations; the formation is not used.
    settings: hyper-parameters; distance and real batch count.

  Returns:
    `measure(images, dataset, key)`: D averaged over classes, for normalised images
    `[classes, n, H, W, C]`. The same key draws the same network, real images and augmentation for
    any images.
  """
  bound = setup._replace(formation=IDENTITY)
  matching = dc.gradient_matching(bound, settings)

  def distance(stored, ours, target):
    return matching.distance(ours(stored), target)

  @jax.jit
  def measure(images: Array, dataset: Dataset, key: Key) -> Array:
    network_key, match_key = jax.random.split(key)
    params = bound.network.init(network_key)
    batches = matching.draw(dataset, match_key)
    stored = Stored(images, {})
    found = matching.match(params, stored, dataset, batches, match_key, compare=distance)
    return jnp.mean(found)

  return measure


@matplotlib.rc_context(STYLE)
def draw(
  curves: Sequence[tuple[int, Sequence[float]]], sides: Sequence[int], losses: np.ndarray
) -> Figure:
  """The losses of runs over their iterations, and a heat map.

  Args:
    curves: images per class, ascending, and the losses of all iterations of the run.
    sides: of the images that are made smaller, ascending.
    losses: `[runs, sides]`, of the finished sets.
  """
  figure = Drawing((7.2, 2.9), dpi=DPI, layout="constrained")
  left, right = figure.subplots(1, 2)
  for number, (count, values) in enumerate(curves):
    parts = np.array_split(np.asarray(values), min(POINTS, len(values)))
    ends = np.cumsum([len(part) for part in parts])
    means = [part.mean() for part in parts]
    left.plot(ends, means, color=COLOURS[number % len(COLOURS)], label=f"{count} per class")
  left.set_xlabel("iteration")
  left.set_ylabel("matching loss")
  left.legend()
  image = right.imshow(losses, aspect="auto", origin="lower", cmap="viridis")
  middle = (losses.min() + losses.max()) / 2
  for (row, column), value in np.ndenumerate(losses):
    colour = "black" if value > middle else "white"  # on yellow, on violet
    right.text(column, row, f"{value:.3g}", ha="center", va="center", color=colour, fontsize=7)
  right.set_xticks(range(len(sides)), [str(side) for side in sides])
  right.set_yticks(range(len(curves)), [str(count) for count, _ in curves])
  right.set_xlabel("resolution (pixels of a side)")
  right.set_ylabel("images per class")
  figure.colorbar(image, ax=right, label="matching loss")
  return figure
