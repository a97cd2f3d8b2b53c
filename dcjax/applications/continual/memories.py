"""What is kept of a task: images with their labels, hard or soft, as every learner takes them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dcjax.common.errors import UserError
from dcjax.sets.synthetic import SyntheticSet


class Memory(NamedTuple):
  """The memory of a task.

  Attributes:
    images: normalised `[classes, n, H, W, C]`.
    labels: int32 `[classes, n]`, or soft ones `[classes, n, classes]` as a loss takes them.
    asked: what those, and a learned step size, ask of a training; see `SyntheticSet.training`.
  """

  images: np.ndarray
  labels: np.ndarray
  asked: dict[str, Any]

  @classmethod
  def of(cls, synthetic: SyntheticSet) -> "Memory":
    """What a set decodes to."""
    classes = len(synthetic.images)
    images, labels = (part.reshape(classes, -1, *part.shape[1:]) for part in synthetic.flat())
    return cls(images, labels, synthetic.training())

  def check_cross_entropy(self) -> None:
    """Raises `UserError` for labels that the plain cross-entropy does not take."""
    if self.asked.get("loss", "cross_entropy") != "cross_entropy":
      raise UserError(
        "its labels are learned by the squared error, but networks that go from stage to stage "
        "learn by the cross-entropy; take the scenario gdumb, or a method with other labels"
      )
    if self.asked.get("temperature", 1) != 1:
      raise UserError(
        f"its labels are of temperature {self.asked['temperature']:g}, but networks that go from "
        "stage to stage learn at 1; take the scenario gdumb, or a method with other labels"
      )


def check_alike(memories: Sequence[Memory]) -> None:
  """Raises `UserError` if some memories have soft labels, or a step size, and others have not."""
  if len({(memory.labels.ndim, *sorted(memory.asked)) for memory in memories}) > 1:
    raise UserError(
      "memories: some have soft labels or a step size and others have not; have all made anew by "
      "one method, in another folder"
    )


def join(memories: Sequence[Memory]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
  """Memories of tasks with classes of their own, as one set of all classes.

  A soft label says of the classes of its own task what it did, and of others that it is none of
  them. Where each memory has a step size or a temperature, all are trained with the mean.

  Args:
    memories: of tasks whose classes follow upon each other; by one method.

  Returns:
    Images `[N, H, W, C]`, labels as a loss takes them, int32 `[N]` or float32 `[N, classes]`, and
    what they ask of a training.
  """
  counts = [len(memory.images) for memory in memories]
  firsts = np.cumsum([0, *counts])
  images = np.concatenate([each.images.reshape(-1, *each.images.shape[2:]) for each in memories])
  labels = [
    _among(memory, int(first), int(firsts[-1]))
    for memory, first in zip(memories, firsts[:-1], strict=True)
  ]
  asked = memories[0].asked
  numbers = {name: value for name, value in asked.items() if not isinstance(value, str)}
  means = {name: float(np.mean([each.asked[name] for each in memories])) for name in numbers}
  return images, np.concatenate(labels), asked | means


def _among(memory: Memory, first: int, classes: int) -> np.ndarray:
  """The labels of a memory among all classes, of which its own begin at `first`."""
  if memory.labels.ndim == 2:
    return (memory.labels + first).astype(np.int32).reshape(-1)
  own = memory.labels.shape[-1]
  # centred labels are less 1/classes
  centred = memory.asked.get("loss") == "squared_error"
  labels = np.full((*memory.labels.shape[:2], classes), -centred / classes, np.float32)
  labels[..., first : first + own] += memory.labels + centred / own
  return labels.reshape(-1, classes)
