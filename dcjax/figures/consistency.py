"""How many neighbours of a synthetic image are real images of its class (IDM, Figure 4)."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dcjax.common.products import product
from dcjax.common.types import Array
from dcjax.figures.style import COLOURS, DPI, MARKERS, STYLE, Drawing

COUNTS = (1, 5, 10, 20, 50, 100)  # of neighbours; the paper's are in its picture alone


@partial(jax.jit, static_argnames="counts")
def ratios(
  features: Array, labels: Array, real: Array, real_labels: Array, *, counts: tuple[int, ...]
) -> Array:
  """The share of the nearest real images that are of the class, averaged over synthetic images.

  Args:
    features: of synthetic images `[M, D]`.
    labels: theirs, int32 `[M]`.
    real: features of real images `[N, D]`.
    real_labels: theirs, int32 `[N]`.
    counts: how many neighbours by l2 distance, each N at most; static.

  Returns:
    float32 `[counts]`, in [0, 1].
  """

  lengths = jnp.square(real).sum(1)

  def one(feature, label):
    # The squared distance but for what is the same for all real images.
    squared = lengths - 2 * product(real, feature)
    nearest = jax.lax.top_k(-squared, max(counts))[1]
    found = jnp.cumsum((real_labels[nearest] == label).astype(jnp.float32))
    return jnp.stack([found[count - 1] / count for count in counts])

  # One synthetic image at a time: all distances together would be [M, N, D].
  return jax.lax.map(lambda each: one(*each), (features, labels)).mean(0)


@matplotlib.rc_context(STYLE)
def draw(counts: Sequence[int], runs: Sequence[tuple[str, np.ndarray]]) -> Figure:
  """A line for each run.

  Args:
    counts: of neighbours.
    runs: pairs (title, ratios `[counts]`).
  """
  figure = Drawing((3.8, 2.9), dpi=DPI, layout="constrained")
  axes = figure.subplots()
  for number, (title, values) in enumerate(runs):
    axes.plot(
      counts, 100 * values, label=title,
      color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
    )  # fmt: skip
  axes.set_xscale("log")
  axes.set_xticks(list(counts), [str(count) for count in counts])
  axes.minorticks_off()
  axes.set_xlabel("nearest real images")
  axes.set_ylabel("of the same class (%)")
  axes.legend()
  return figure
