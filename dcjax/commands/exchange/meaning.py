"""What the numbers of a file are: as its user says, or as the programs of its layout have it."""

import math
from typing import NamedTuple

import numpy as np
from absl import logging

from dcjax.commands.exchange.readers import Found
from dcjax.common.errors import UserError, check_least, check_name
from dcjax.data import Dataset, base_name
from dcjax.data.zca import VARIANTS
from dcjax.sets import formation, labels
from dcjax.sets.set_file import RANGES

# Means and deviations by which the programs of DC's line normalise pixels, one for each channel.
STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
  "mnist": ((0.1307,), (0.3081,)),
  "fashion_mnist": ((0.2861,), (0.3530,)),
  "svhn_cropped": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
  "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
  "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
  "tiny_imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of all other datasets in colour
# What layouts hold, where their programs agree.
_RANGES = {"results": "normalised", "pair": "unit"}
_OF_DC = ("results", "parts")  # layouts of programs that normalise by `STATISTICS`
FORMATIONS = tuple(name for name in formation.NAMES if name not in ("identity", "learnable"))


class Meaning(NamedTuple):
  """What the numbers of a file are; empty: what is usual for its layout.

  Attributes:
    range: 'unit', pixels in [0, 1]; 'normalised', (pixel - mean) / std; or 'whitened'.
    mean: of 'normalised', one for each channel; empty: those of the programs of DC's line, or of an
      .npz or .h5 file those of the dataset.
    std: likewise.
    whitening: an entry of `zca.VARIANTS`; only with 'whitened'.
    labels: an entry of `labels.KINDS`, of labels that are not integers.
    formation: how an image is cut into more, an entry of `FORMATIONS`.
    factor: of the formation.
  """

  range: str = ""
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  whitening: str = ""
  labels: str = ""
  formation: str = "uniform"
  factor: int = 1


def settle(meaning: Meaning, found: Found, dataset: Dataset) -> Meaning:
  """The meaning with what its user left out; checks what was given.

  Raises:
    UserError: a value is unknown, contradicts another one, or cannot be guessed.
  """
  is_bytes = found.images.dtype == np.uint8
  kind = meaning.range or ("unit" if is_bytes else _RANGES.get(found.layout, ""))
  if meaning.whitening:
    check_name("--whitening", meaning.whitening, VARIANTS)
    kind = meaning.range or "whitened"
  if not kind:
    raise UserError(
      f"--range: nothing in the file says what its numbers are; give unit for pixels in [0, 1], "
      f"normalised, or --whitening with one of {', '.join(VARIANTS)}"
    )
  check_name("--range", kind, RANGES)
  if (kind == "whitened") != bool(meaning.whitening):
    raise UserError(
      f"--range: {kind}, and --whitening is {meaning.whitening or 'not given'}; give whitened "
      f"together with one of {', '.join(VARIANTS)}"
    )
  if is_bytes and kind != "unit":
    raise UserError(f"--range: {kind}, but the file holds whole pixels of 0 to 255; give unit")
  check_least("--factor", meaning.factor, 1)
  check_name("--formation", meaning.formation, FORMATIONS)
  if meaning.formation != "uniform" and meaning.factor == 1:
    raise UserError(
      f"--formation: {meaning.formation}, but --factor is 1; give a factor of 2 or more"
    )
  if found.layout == "pair" and meaning.factor == 1:
    logging.warning("import: no image is cut into more; those of IDC and NCFM are, by --factor 2")
  mean, std = _statistics(meaning, found.layout, dataset)
  if kind != "normalised" and (meaning.mean or meaning.std):
    raise UserError(f"--mean: the range is {kind}; leave --mean and --std out, or give normalised")
  return meaning._replace(range=kind, mean=mean, std=std, labels=_label_kind(meaning, found))


def _statistics(
  meaning: Meaning, layout: str, dataset: Dataset
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  channels = dataset.image_shape[-1]
  for field, values in (("--mean", meaning.mean), ("--std", meaning.std)):
    if values and (len(values) != channels or not all(map(math.isfinite, values))):
      raise UserError(f"{field}: {values} are not {channels} numbers, one for each channel")
  if not all(0 <= value <= 1 for value in meaning.mean + meaning.std):
    raise UserError(
      f"--mean: {meaning.mean} and --std: {meaning.std} are not of pixels in [0, 1]; divide those "
      "of 0 to 255 by 255"
    )
  if any(value <= 0 for value in meaning.std):
    raise UserError(f"--std: {meaning.std} are not all above 0; give positive numbers")
  if bool(meaning.mean) != bool(meaning.std):
    raise UserError("--mean: --std belongs to it; give both or neither")
  name = base_name(dataset.name)
  if (name, layout) == ("cifar100", "parts"):  # MTT and DATM have one pair for both
    name = "cifar10"
  known = STATISTICS.get(name, _IMAGENET if channels == 3 else None)
  if layout not in _OF_DC or known is None:
    known = tuple(np.asarray(dataset.mean).tolist()), tuple(np.asarray(dataset.std).tolist())
  return meaning.mean or known[0], meaning.std or known[1]


def _label_kind(meaning: Meaning, found: Found) -> str:
  """What soft labels are: as given, or as their values tell."""
  if meaning.labels:
    check_name("--labels", meaning.labels, labels.KINDS)
  values = rows(found.labels)
  if values is None or values.ndim < 2:
    if meaning.labels not in ("", "hard"):
      raise UserError(f"--labels: {meaning.labels}, but the file has hard labels; leave it out")
    return "hard"
  if meaning.labels == "hard":
    kinds = ", ".join(labels.KINDS[1:])
    raise UserError(f"--labels: hard, but the file has soft ones; give one of {kinds}")
  values = values.astype(np.float64)
  are_prob = not labels.problem(values, "prob")
  if meaning.labels not in ("", "prob") and are_prob:
    raise UserError(
      f"--labels: {meaning.labels}, but none is below 0 and their sums are 1; give prob"
    )
  if meaning.labels or are_prob:
    return meaning.labels or "prob"
  raise UserError(
    f"--labels: the file has soft labels in [{values.min():.3g}, {values.max():.3g}], which may be "
    "logits, weights or centred; give logit (DATM), weight (RaT-BPTT) or centred (KIP, FRePo, "
    "RCIG)"
  )


def rows(given: np.ndarray | None) -> np.ndarray | None:
  """Labels `[N]`, or soft ones `[N, classes]`, of any shape that ends so."""
  if given is None or given.ndim < 2 or not given.size:
    return None if given is None else given.reshape(-1)
  rows = given.reshape(-1, given.shape[-1])
  return rows[:, 0] if rows.shape[1] == 1 else rows
