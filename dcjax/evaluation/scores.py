"""Scores of a set beside random images, from accuracies in [0, 1] (DD-Ranking, arXiv 2505.13300).

The package of that name gives its formulas accuracies in per cent, where they mean nothing.
"""

import math

WEIGHT = 0.5  # of the first of the two parts of a score


def label_robust(improvement: float, recovery: float, weight: float = WEIGHT) -> float:
  """LRS: how much better than random images, and how near to all images with hard labels.

  Args:
    improvement: the accuracy on the set less that on random images, labelled and trained on alike
      (IOR).
    recovery: the accuracy on all images less that on the set, both with hard labels (HLR).
    weight: of the improvement, in [0, 1].

  Returns:
    A number that is 1 for an alpha of 1, 0 for one of -1; see `normalised`.
  """
  return normalised(weight * improvement - (1 - weight) * recovery)


def augmentation_robust(augmented: float, plain: float, weight: float = WEIGHT) -> float:
  """ARS: how much better than random images, with augmentation and without.

  Args:
    augmented: the accuracy on the set less that on random images, both augmented.
    plain: the same without augmentation.
    weight: of the former, in [0, 1].
  """
  return normalised(weight * augmented + (1 - weight) * plain)


def normalised(alpha: float) -> float:
  """(e^alpha - e^-1) / (e - e^-1): from [-1, 1] to [0, 1]."""
  return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))
