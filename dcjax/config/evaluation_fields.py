"""The fields of `config.evaluation`: what its protocol says, and the settings that they make."""

from ml_collections import ConfigDict

from dcjax import evaluation
from dcjax.common.errors import UserError
from dcjax.config.datasets import default_strategy, hundred_classes, warn_of_flips
from dcjax.data import base_name
from dcjax.evaluation.protocols import PROTOCOLS, same_steps
from dcjax.sets import formation


def fill_evaluation(config: ConfigDict) -> None:
  """Fills in what the protocol says of epochs, augmentation and CutMix, in place."""
  fields, dataset = config.evaluation, base_name(config.dataset.name)
  protocol = PROTOCOLS[fields.protocol]
  # IDC trains with all transforms, whatever a set was matched with.
  matched = "dsa" in config and not fields.protocol.startswith("idc")
  strategy = config.dsa.strategy if matched else default_strategy(dataset)
  augmentation, cutmix = protocol.augmentation(dataset, strategy)
  if fields.augmentation is None:
    fields.augmentation = augmentation
  warn_of_flips("evaluation.augmentation", fields.augmentation, dataset)
  if fields.cutmix is None:
    fields.cutmix = cutmix
  if fields.cutmix and len(config.dataset.classes) == 1:
    raise UserError(
      f"evaluation.cutmix: {fields.cutmix} needs two classes, but dataset.classes names one; "
      "name more"
    )
  if fields.epochs is None:
    decoded_ipc = _decoded_ipc(config)
    ipc = config.ipc if fields.same_steps else decoded_ipc
    epochs = protocol.epochs(fields.augmentation, ipc, hundred_classes(config.dataset))
    fields.epochs = same_steps(epochs, stored=ipc, decoded=decoded_ipc)


def _decoded_ipc(config: ConfigDict) -> int:
  """Images per class as networks see them."""
  if "formation" not in config:
    return config.ipc
  fields = config.formation
  return formation.Formation(**fields, shape=(), mean=(), std=()).decoded(config.ipc)


def evaluation_settings(fields: ConfigDict) -> evaluation.EvaluationSettings:
  """The part of `config.evaluation` that one evaluation needs."""
  names = evaluation.EvaluationSettings._fields
  settings = evaluation.EvaluationSettings(*(fields[name] for name in names))
  return settings._replace(checks=min(settings.checks, settings.epochs))
