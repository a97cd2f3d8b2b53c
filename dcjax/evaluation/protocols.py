"""The papers' protocols: how networks are trained on a set to evaluate it."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import NamedTuple


class Protocol(NamedTuple):
  """How networks are trained on a set (the numbers are those of the authors' code).

  Attributes:
    learning_rate: of SGD, at first.
    momentum: of SGD.
    weight_decay: added to the gradient, as in PyTorch.
    batch: images of one step.
    cuts: `(fraction, factor)`: by what the rate is multiplied after which part of the epochs.
    epochs: `epochs(augmentation, ipc, hundred_classes)`, passes over a set with so many images per
      class, as the network sees them, and with a hundred classes or more, or fewer.
    special: datasets, as `fnmatch` has patterns, on which the paper augments with something
      special: with what, and the probability of CutMix.
    dsa: whether it augments all others by a strategy of DSA.
    cutmix: the probability of CutMix on all others.
  """

  learning_rate: float
  momentum: float
  weight_decay: float
  batch: int
  cuts: tuple[tuple[Fraction, float], ...]
  epochs: Callable[[str, int, bool], int]
  special: dict[str, tuple[str, float]]
  dsa: bool
  cutmix: float

  def augmentation(self, dataset: str, strategy: str) -> tuple[str, float]:
    """What the paper augments this dataset with, and the probability of CutMix.

    Args:
      dataset: its name.
      strategy: that of DSA for this dataset.

    Returns:
      An augmentation as `augment.by_name` takes it, and a probability.
    """
    found = [special for name, special in self.special.items() if fnmatchcase(dataset, name)]
    return found[0] if found else (strategy if self.dsa else "none", self.cutmix)


def _epochs_of_dc(augmentation: str, ipc: int, hundred_classes: bool) -> int:
  del ipc, hundred_classes
  return 300 if augmentation == "none" else 1000


def _epochs_of_idc(augmentation: str, ipc: int, hundred_classes: bool) -> int:
  del augmentation
  by_most_images = {1: 3000, 10: 2000, 50: 1500, 200: 1000, 500: 500}
  epochs = next((epochs for most, epochs in by_most_images.items() if ipc <= most), 300)
  return 2 * epochs // 3 if hundred_classes else epochs


DC = Protocol(
  learning_rate=0.01,
  momentum=0.9,
  weight_decay=5e-4,
  batch=256,
  cuts=((Fraction(1, 2), 0.1),),
  epochs=_epochs_of_dc,
  special={"mnist": ("dc", 0.0)},
  dsa=False,
  cutmix=0.0,
)
DSA = DC._replace(special={}, dsa=True)
IDC = DSA._replace(
  batch=64,
  cuts=((Fraction(2, 3), 0.2), (Fraction(5, 6), 0.2)),
  epochs=_epochs_of_idc,
  special={
    **dict.fromkeys(("folder", "imagenet*", "imagewoof*"), ("imagenet", 1.0)),
    "speech": ("none", 0.0),
  },
  cutmix=0.5,
)
# Of a stage of continual learning (IDC, Appendix C.3)
IDC_CONTINUAL = IDC._replace(
  cuts=((Fraction(3, 5), 0.2), (Fraction(4, 5), 0.2)),
  epochs=lambda augmentation, ipc, hundred_classes: 1000,
)
# By the values of the config field `evaluation.protocol`; DM and IDM evaluate as DSA does.
PROTOCOLS = {
  "dc": DC,
  "dsa": DSA,
  "dm": DSA,
  "idc": IDC,
  "idm": DSA,
  "idc_continual": IDC_CONTINUAL,
}


def same_steps(epochs: int, *, stored: int, decoded: int) -> int:
  """Passes over decoded images that cost no more steps than passes over the stored ones.

  IDC compares sets so (Table 2), whose decoded images outnumber the stored ones.

  Args:
    epochs: passes over the stored images.
    stored: images per class in the set.
    decoded: images per class as the network sees them.

  Returns:
    Epochs, at least one.
  """
  return max(1, epochs * stored // decoded)
