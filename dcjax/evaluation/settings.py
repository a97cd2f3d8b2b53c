"""What one evaluation does."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dcjax import augment
from dcjax.common.errors import (
  UserError,
  check_least,
  check_name,
  check_positive,
  check_probability,
)
from dcjax.evaluation.attacks import EPSILON
from dcjax.evaluation.protocols import PROTOCOLS

LOSSES = ("cross_entropy", "squared_error")


class EvaluationSettings(NamedTuple):
  """What one evaluation does.

  Attributes:
    protocol: an entry of `protocols.PROTOCOLS`.
    epochs: passes over the set.
    augmentation: as `augment.by_name` takes it.
    networks: how many networks are trained.
    checks: how often each is tested, evenly over the epochs, the last one at the end.
    cutmix: the probability with which a batch is mixed, see `augment.cutmix`; 0: never.
    lr: the learning rate at first; None: the protocol's.
    temperature: what logits are divided by in the cross-entropy; None: the protocol's.
    loss: an entry of `LOSSES`.
    batch: images of a step; None: the protocol's.
    attacks: entries of `attacks.ATTACKS` that each network is tested under besides, at the end.
    epsilon: most that an attack changes a pixel in [0, 1] by.
  """

  protocol: str
  epochs: int
  augmentation: str
  networks: int
  checks: int
  cutmix: float = 0.0
  lr: float | None = None
  temperature: float | None = None
  loss: str = "cross_entropy"
  batch: int | None = None
  attacks: tuple[str, ...] = ()
  epsilon: float = EPSILON

  @property
  def learning_rate(self) -> float:
    """That of the first step."""
    return PROTOCOLS[self.protocol].learning_rate if self.lr is None else self.lr

  @property
  def division(self) -> float:
    """The temperature; 1 for the squared error, which has none."""
    if self.loss == "squared_error":
      return 1.0
    return self.temperature or PROTOCOLS[self.protocol].temperature

  def asked(self, more: Mapping[str, Any]) -> "EvaluationSettings":
    """The settings with what a set asks of a training, where they do not say it themselves.

    A step size that a set has learned is one of SGD, and no other optimiser's.
    """
    given = {name for name in ("lr", "temperature") if getattr(self, name) is not None}
    if PROTOCOLS[self.protocol].optimizer != "sgd":
      given.add("lr")
    if more.get("loss") == "squared_error" and self.temperature not in (None, 1):
      raise UserError(
        f"evaluation.temperature: {self.temperature} divides the logits of the cross-entropy, but "
        "centred labels are learned by the squared error; leave it out"
      )
    return self._replace(**{name: more[name] for name in more.keys() - given})


def check_settings(settings: EvaluationSettings) -> None:
  """Raises `UserError` for a setting that no evaluation can have."""
  check_name("evaluation.protocol", settings.protocol, PROTOCOLS)
  augment.check_name("evaluation.augmentation", settings.augmentation)
  for field, least in (("epochs", 1), ("networks", 0), ("checks", 1)):
    check_least(f"evaluation.{field}", getattr(settings, field), least)
  for field in ("lr", "temperature", "batch"):
    if (value := getattr(settings, field)) is not None:
      check_positive(f"evaluation.{field}", value)
  check_probability("evaluation.cutmix", settings.cutmix)
  check_name("loss", settings.loss, LOSSES)
