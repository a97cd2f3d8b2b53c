"""Soft labels: what a set's file may say of each image beside its class.

Kinds, in the names of the file's metadata:

- `hard`: there are none; an image is of its class.
- `prob`: probabilities of the classes.
- `logit`: logits, whose softmax at the set's temperature are the probabilities (DATM).
- `weight`: any numbers, by which the cross-entropy weights the log-probabilities (RaT-BPTT).
- `centred`: a one-hot label less 1/classes, or what was learned from that; networks learn it by the
  squared error (KIP, FRePo, RCIG).
"""

from typing import Any

import numpy as np
from scipy import special

KINDS = ("hard", "prob", "logit", "weight", "centred")
TOLERANCE = 1e-3  # of the sum of probabilities


def targets(soft: np.ndarray, kind: str, temperature: float | None) -> np.ndarray:
  """What a loss takes, float32 `[..., classes]`: probabilities, weights, or centred labels.

  Args:
    soft: float32 `[..., classes]`.
    kind: an entry of `KINDS`, not 'hard'.
    temperature: what logits are divided by; None: nothing.
  """
  if kind != "logit":
    return soft
  return special.softmax(soft.astype(np.float64) / (temperature or 1), axis=-1).astype(np.float32)


def training(metadata: dict[str, Any]) -> dict[str, Any]:
  """What a set's labels and its learned step size ask of a training, by the names of settings.

  Args:
    metadata: of the set.

  Returns:
    Of `evaluation.EvaluationSettings` and `evaluation.train`: `lr`, `temperature` and `loss`, each
    where it is not the protocol's or the default.
  """
  asked: dict[str, Any] = {}
  if metadata.get("student_lr") is not None:
    asked["lr"] = metadata["student_lr"]
  if metadata.get("label_kind") == "centred":
    asked["loss"] = "squared_error"
  elif metadata.get("temperature") is not None:
    asked["temperature"] = metadata["temperature"]
  return asked


def problem(soft: np.ndarray, kind: str) -> str:
  """What is wrong with soft labels of a kind, all finite; empty: nothing."""
  sums = soft.sum(-1)
  if kind != "prob" or (soft.min() >= -TOLERANCE and np.abs(sums - 1).max() <= TOLERANCE):
    return ""
  return (
    f"its soft_labels are in [{soft.min():.4g}, {soft.max():.4g}] with sums in "
    f"[{sums.min():.4g}, {sums.max():.4g}], which are no probabilities"
  )
