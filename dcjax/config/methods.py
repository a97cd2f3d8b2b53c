"""The fields that belong to some methods only: checked, and filled in where they are None."""

import math

from absl import logging
from ml_collections import ConfigDict

from dcjax import augment
from dcjax.common.errors import UserError, check_least, check_name, check_probability
from dcjax.config.datasets import default_strategy, hundred_classes, warn_of_flips
from dcjax.data import base_name
from dcjax.evaluation.protocols import PROTOCOLS
from dcjax.methods import INITS, coreset, dc, idc
from dcjax.methods.distances import DISTANCES
from dcjax.methods.feature_matching import EMBEDDINGS
from dcjax.sets import formation

RATES = {
  "lr_image": "0.1 (DC, DSA), 1 (DM), 0.2 (IDM), or 0.005 for CIFAR-10 and 10 images (IDC)",
  "lr_network": "0.01",
  "training.lr": "0.01",
  "queue.lr": "0.01",
}
SQUARED = ("cifar10", "cifar100", "svhn_cropped")  # on which IDC matches by squared distances


def resolve_method(config: ConfigDict) -> None:
  """Checks and fills in what some methods only have, in place."""
  if config.method in coreset.METHODS:
    _check_selection(config)
    return
  fill = {"dm": _fill_dm, "idc": _fill_idc, "idm": _fill_idm}.get(config.method, _fill_dc)
  fill(config)
  _check_loop(config)
  _check_rate("lr_image", config.lr_image)
  _note_what_is_new(config)
  if config.method != "dc":
    _fill_dsa(config.dsa, base_name(config.dataset.name))


def _check_loop(config: ConfigDict) -> None:
  """Checks what all methods of condensation have."""
  if not names_file(config.init):
    check_name("init", config.init, (*INITS, "FILE.npz of a saved set"))
  formation.check(**config.formation, ipc=config.ipc)
  for field in ("iterations", "batch_real", "checkpoint_every"):
    check_least(field, config[field], 1)
  for field in ("evaluate_every", "picture_every", "converged_after"):
    check_least(field, config[field], 0)


def names_file(init: str) -> bool:
  """Whether `init` is the file of a saved set, which is looked at when the run starts."""
  return init.endswith(".npz")


def _check_rate(field: str, value: float) -> None:
  if not 0 < value < math.inf:
    raise UserError(f"{field}: {value} is not a positive number; the papers have {RATES[field]}")


def _note_what_is_new(config: ConfigDict) -> None:
  """Logs a distance that is in no paper with the method and the formation."""
  if "distance" not in config:
    return
  several = config.formation.factor > 1
  in_papers = {
    "dc": () if several else ("ours", "mse", "cos"),  # (DC, Table T11)
    "dsa": () if several else ("ours",),
    "idc": ("mse", "l1") if several else ("mse", "l1", "ours"),  # (IDC, Table 5)
  }[config.method]
  if config.distance not in in_papers:
    logging.info(
      "distance: '%s' with %s and formation.factor %d is in none of the papers",
      config.distance, config.method, config.formation.factor,
    )  # fmt: skip


def _fill_dc(config: ConfigDict) -> None:
  check_name("distance", config.distance, DISTANCES)
  _check_rate("lr_network", config.lr_network)
  _fill_schedule(config)


def _fill_schedule(config: ConfigDict) -> None:
  """The inner and network loops that belong to the images per class, unless given."""
  loops = ("inner_loop", "network_epochs")
  missing = [field for field in loops if config[field] is None]
  if missing and config.ipc not in dc.SCHEDULE:
    listed = ", ".join(str(ipc) for ipc in dc.SCHEDULE)
    raise UserError(
      f"ipc: {config.ipc} is not on the schedule ({listed}); set {' and '.join(missing)} by hand"
    )
  for field, value in zip(loops, dc.SCHEDULE.get(config.ipc, ()), strict=False):
    if field in missing:
      config[field] = value
  for field in loops:
    check_least(field, config[field], 1)


def _fill_dm(config: ConfigDict) -> None:
  check_name("embedding", config.embedding, EMBEDDINGS)
  _check_trained(config)
  if config.lr_image is None:
    config.lr_image = 10.0 if config.ipc > 50 else 1.0


def _check_trained(config: ConfigDict) -> None:
  low, high = config.trained.low, config.trained.high
  if low is None:
    return
  if not 0 <= low < high <= 1:
    raise UserError(f"trained: {low} to {high} is no range of accuracies in [0, 1]; mend it")
  check_least("trained.networks", config.trained.networks, 1)
  if config.embedding == "pixels":
    raise UserError("embedding: 'pixels' has no networks; leave trained.low out")


def _fill_idc(config: ConfigDict) -> None:
  dataset, fields = base_name(config.dataset.name), config.training
  if config.iterations is None:
    config.iterations = idc.of_dataset(dataset, idc.ITERATIONS)
  if config.distance is None:
    config.distance = "mse" if dataset in SQUARED else "l1"
  check_name("distance", config.distance, DISTANCES)
  if config.lr_image is None:
    config.lr_image = idc.rate(
      dataset, config.dataset.side, config.ipc, hundred_classes=hundred_classes(config.dataset)
    )
  if fields.steps is None:
    fields.steps = 32 if dataset.startswith("cifar") else 8
  if fields.cutmix is None:
    fields.cutmix = PROTOCOLS["idc"].augmentation(dataset, "")[1]
  check_name("training.data", fields.data, idc.DATA)
  check_name("training.draw", fields.draw, augment.DRAWS)
  if fields.augmentation != "none":
    augment.check_strategy("training.augmentation", fields.augmentation)
  warn_of_flips("training.augmentation", fields.augmentation, dataset)
  check_probability("training.cutmix", fields.cutmix)
  _check_rate("training.lr", fields.lr)
  least = {"batch": 1, "steps": 0, "weight_decay": 0, "pretraining": 0, "networks": 0}
  for field, value in least.items():
    check_least(f"training.{field}", fields[field], value)
  for field in ("inner_loop", "batch_synthetic"):
    check_least(field, config[field], 1)
  if fields.networks and not fields.pretraining:
    raise UserError(
      f"training.networks: {fields.networks} networks are to be kept that nothing has trained; "
      "set training.pretraining, or leave training.networks at 0"
    )


def _fill_idm(config: ConfigDict) -> None:
  queue, one = config.queue, config.ipc == 1
  if config.batch_real is None:
    config.batch_real = 5000 if one else 256
  if config.regularisation is None:
    config.regularisation = 0.5 if config.ipc <= 10 else 0.1
  if queue.interval is None:
    queue.interval = 5 if one else 30
  if queue.steps is None:
    hard = base_name(config.dataset.name) == "cifar100" and config.ipc == 10
    queue.steps = 50 if hard else 10
  check_least("regularisation", config.regularisation, 0)
  _check_rate("queue.lr", queue.lr)
  least = {"initial": 1, "size": 1, "interval": 1, "steps": 1, "batch": 1, "pretrained": 0}
  for field, value in least.items():
    check_least(f"queue.{field}", queue[field], value)
  if queue.initial > queue.size:
    raise UserError(
      f"queue.initial: {queue.initial} networks do not fit a queue.size of {queue.size}; lower it"
    )
  if not 0 < queue.classes <= 1:
    raise UserError(f"queue.classes: {queue.classes} is no share; give one above 0, 1 at most")
  if queue.pretrained:
    check_least("queue.pretraining", queue.pretraining, 1)
  elif queue.classes < 1:
    raise UserError(
      f"queue.classes: {queue.classes} is for networks that are pretrained; set queue.pretrained"
    )


def _fill_dsa(fields: ConfigDict, dataset: str) -> None:
  check_name("dsa.scheme", fields.scheme, augment.SCHEMES)
  check_name("dsa.draw", fields.draw, augment.DRAWS)
  if fields.strategy is None:
    fields.strategy = default_strategy(dataset)
  augment.check_strategy("dsa.strategy", fields.strategy)
  warn_of_flips("dsa.strategy", fields.strategy, dataset)


def _check_selection(config: ConfigDict) -> None:
  """Checks what all coresets have."""
  check_least("training.epochs", config.training.epochs, 1)
  for field in ("candidates", "validation"):
    check_least(f"selection.{field}", config.selection[field], 1)
