"""What all numbers of a config have in common: they are finite, and no larger than makes sense."""

import math
from collections.abc import Iterator

from ml_collections import ConfigDict

from dcjax.common.errors import UserError, check_least, check_most

MOST = 10**6  # of any number of which `LARGER` or `SMALLER` do not say more
_COUNTER = 10**9  # what counts iterations is int32 on the device
LARGER = {
  "seed": 2**32 - 1,
  "dataset.test_seed": 2**32 - 1,
  "compute.memory_limit": 2**62,
  "iterations": _COUNTER,
  "checkpoint_every": _COUNTER,
  "evaluate_every": _COUNTER,
  "picture_every": _COUNTER,
  "converged_after": _COUNTER,
  "continual.training.iterations": _COUNTER,
  "continual.finetuning.iterations": _COUNTER,
}
_PASSES = 10**4  # over up to 10**7 images: their steps are counted in int32, too
_SIDE = 2**12  # pixels
SMALLER = {
  "evaluation.epochs": 4 * _PASSES,  # of few images (FRePo)
  "evaluation.teacher_epochs": _PASSES,
  "network_epochs": _PASSES,
  "training.epochs": _PASSES,
  "training.pretraining": _PASSES,
  "queue.pretraining": _PASSES,
  "search.whole_epochs": _PASSES,
  "dataset.side": _SIDE,
  "dataset.test_resize": _SIDE,
  "dataset.rgb_side": _SIDE,
  "compute.workers": 1000,  # processes
}


def check_large(config: ConfigDict) -> None:
  """Raises `UserError` for a number that is not finite, or larger than makes sense."""
  for name, value in numbers(config):
    if isinstance(value, float) and math.isnan(value):
      raise UserError(f"{name}: nan is not a number; give one")
    check_most(name, value, LARGER.get(name, SMALLER.get(name, MOST)))


def check_negative(config: ConfigDict) -> None:
  """Raises `UserError` for a number below zero: no field has a meaning for one."""
  for name, value in numbers(config):
    check_least(name, value, 0)


def numbers(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, float]]:
  """The numbers of a config, also those in a list, by the dotted names of their fields.

  But those of `dataset.range`, which are of the data: any will do (`dcjax.data.pixels.as_range`).
  """
  for name, value in config.items():
    field = prefix + name
    if isinstance(value, ConfigDict):
      yield from numbers(value, f"{field}.")
    elif field != "dataset.range":
      for each in value if isinstance(value, list | tuple) else (value,):
        if isinstance(each, int | float) and not isinstance(each, bool):
          yield field, each
