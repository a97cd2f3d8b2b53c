"""Methods of dataset condensation: each a pair of pure functions over one state."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from dcjax.data import Dataset
from dcjax.types import Array, Key


class State(Protocol):
  """What a method carries from one outer iteration to the next: arrays, and nothing else."""

  images: Array  # [classes, ipc, H, W, C] float32


class Method(NamedTuple):
  """A method of dataset condensation.

  Attributes:
    init: `init(key, dataset) -> state`.
    update: `update(state, dataset, key) -> (state, metrics)`, one outer iteration; `metrics` is
      a dict of scalars that holds `loss`.
  """

  init: Callable[[Key, Dataset], Any]
  update: Callable[[Any, Dataset, Key], tuple[Any, dict[str, Array]]]
