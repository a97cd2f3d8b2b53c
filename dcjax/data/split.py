"""A test split for data that come without one: a share of each class."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from dcjax.common.errors import UserError

SEEDS = 2**32


class Split(NamedTuple):
  """How images for testing are chosen where none are set apart; fields of `config.dataset`."""

  share: float = 0.2  # of each class, in (0, 1)
  seed: int = 0

  def check(self) -> None:
    """Checks both fields.

    Raises:
      UserError: one is out of range.
    """
    if not 0 < self.share < 1:
      raise UserError(f"dataset.test_share: {self.share} is no share; give one between 0 and 1")
    if not 0 <= self.seed < SEEDS:
      raise UserError(
        f"dataset.test_seed: {self.seed} is not within 0..{SEEDS - 1}; give one that is"
      )

  def held_out(
    self, source: object, keys: Sequence[str], labels: np.ndarray, names: Sequence[str]
  ) -> np.ndarray:
    """Which images are for testing, bool `[N]`; says so in the log.

    The choice depends on the seed and the key of an image alone: it is the same for some classes as
    for all, and a new image moves one other at most.

    Args:
      source: whose images they are, for the log.
      keys: `[N]`, each its own.
      labels: integers `[N]`.
      names: of the classes.

    Raises:
      UserError: a class has one image only.
    """
    self.check()
    ranks = [hashlib.sha256(f"{self.seed}/{key}".encode(errors="surrogateescape")).digest()
             for key in keys]  # fmt: skip
    test = np.zeros(len(keys), bool)
    for label, name in enumerate(names):
      members = sorted(np.flatnonzero(labels == label).tolist(), key=ranks.__getitem__)
      if len(members) == 1:
        raise UserError(
          f"dataset.data_dir: {source}: class '{name}' has one image, and one of each class is for "
          "testing; add images, or leave the class out of dataset.classes"
        )
      count = round(len(members) * self.share)
      test[members[: max(1, min(count, len(members) - 1))]] = True
    logging.warning(
      "%s: has no test images; %d of %d are set apart, %g of each class, by dataset.test_seed=%d",
      source, test.sum(), len(test), self.share, self.seed,
    )  # fmt: skip
    return test
