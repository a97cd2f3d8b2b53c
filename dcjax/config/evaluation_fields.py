"""The fields of `config.evaluation`: what its protocol says, and the settings that they make."""

from ml_collections import ConfigDict

from dcjax import evaluation
from dcjax.common.errors import UserError, check_least
from dcjax.config.datasets import default_strategy, hundred_classes, warn_of_flips
from dcjax.data import base_name
from dcjax.evaluation.protocols import PROTOCOLS, Kind, same_steps
from dcjax.nn import architectures
from dcjax.sets import formation


def fill_evaluation(config: ConfigDict) -> None:
  """Fills in what the protocol says of epochs, augmentation and CutMix, in place."""
  fields, kind = config.evaluation, _kind(config)
  protocol = PROTOCOLS[fields.protocol]
  if fields.cutmix is None:
    fields.cutmix = protocol.cutmix(kind)
  if fields.augmentation is None:
    fields.augmentation = protocol.augmentation(kind, fields.cutmix)
  warn_of_flips("evaluation.augmentation", fields.augmentation, kind.dataset)
  if fields.cutmix and len(config.dataset.classes) == 1:
    raise UserError(
      f"evaluation.cutmix: {fields.cutmix} needs two classes, but dataset.classes names one; "
      "name more"
    )
  if fields.whole and not fields.networks:
    raise UserError(
      "evaluation.whole: True, but evaluation.networks=0 trains none; raise that, or leave it out"
    )
  if fields.epochs is None:
    fields.epochs = _epochs(fields, kind)
  if fields.batch is None:
    fields.batch = protocol.batch_of(kind) if protocol.batch_of else protocol.batch
  if fields.teacher is None:
    fields.teacher = protocol.teacher
  if fields.teacher:
    architectures.check_one("evaluation.teacher", fields.teacher)
  check_least("evaluation.teacher_epochs", fields.teacher_epochs, 1)


def check_steps(config: ConfigDict) -> None:
  """Raises `UserError` if a user has asked for `same_steps`, and for epochs, too.

  Files of runs are not checked: in those that were made before, the epochs stand.

  Args:
    config: as `resolve` returns it.
  """
  fields = config.evaluation
  by_protocol = _epochs(fields, _kind(config))
  if fields.same_steps and fields.epochs != by_protocol:
    raise UserError(
      f"evaluation.same_steps: True makes {by_protocol} epochs of the protocol's, but "
      f"evaluation.epochs is {fields.epochs}; leave one of them out"
    )


def check_untaught(config: ConfigDict, command: str) -> None:
  """Raises `UserError` if networks are to have a teacher, where a command trains them without."""
  fields = config.evaluation
  by_protocol = fields.protocol in PROTOCOLS and PROTOCOLS[fields.protocol].teacher
  if fields.teacher or (fields.teacher is None and by_protocol):
    field = "teacher" if fields.teacher else "protocol"
    raise UserError(
      f"evaluation.{field}: {fields[field]} brings a teacher, without which {command} trains "
      "networks; leave it out, and give its sets to dcjax evaluate --protocol=soft"
    )


def fewer_epochs(config: ConfigDict, epochs: int) -> int:
  """Passes over the images of a set that take the steps of so many over those stored."""
  return same_steps(epochs, stored=config.ipc, decoded=_decoded_ipc(config))


def _epochs(fields: ConfigDict, kind: Kind) -> int:
  """What the protocol says of epochs."""
  seen = kind._replace(decoded=kind.ipc) if fields.same_steps else kind
  epochs = PROTOCOLS[fields.protocol].epochs(seen, fields.augmentation)
  return same_steps(epochs, stored=seen.decoded, decoded=kind.decoded)


def _kind(config: ConfigDict) -> Kind:
  """What of a config decides how networks are trained on its set."""
  dataset = base_name(config.dataset.name)
  # IDC trains with all transforms, whatever a set was matched with.
  matched = "dsa" in config and not config.evaluation.protocol.startswith("idc")
  strategy = config.dsa.strategy if matched else default_strategy(dataset)
  decoded = _decoded_ipc(config)
  tiles = config.rded.factor if "rded" in config else 1
  return Kind(dataset, strategy, config.ipc, decoded, hundred_classes(config.dataset), tiles)


def _decoded_ipc(config: ConfigDict) -> int:
  """Images per class as the networks of the evaluation see them."""
  if "formation" not in config:
    return config.ipc
  fields = config.formation
  whole = formation.Formation(**fields, shape=(), mean=(), std=()).at_evaluation()
  return whole.decoded(config.ipc)


def evaluation_settings(fields: ConfigDict) -> evaluation.EvaluationSettings:
  """The part of `config.evaluation` that one evaluation needs."""
  names = [name for name in evaluation.EvaluationSettings._fields if name in fields]
  settings = evaluation.EvaluationSettings(**{name: fields[name] for name in names})
  return settings._replace(checks=min(settings.checks, settings.epochs))
