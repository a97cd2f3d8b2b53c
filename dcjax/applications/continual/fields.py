"""The config of continual learning: that of a method, which makes the memories, and one section.

The section is `continual`; all other fields mean what they mean in every run. `evaluation` says how
networks are trained on memories.
"""

import math
from typing import Any

from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax.common.errors import UserError, check_least, check_name
from dcjax.config import numbers
from dcjax.config.datasets import default_strategy
from dcjax.config.meanings import of_function
from dcjax.methods.idm import REGULARISATION, STEPS

SCENARIOS = ("rehearsal", "gdumb", "growing")


def default(scenario: str = "gdumb", method: str = "dm") -> ConfigDict:
  """A paper's settings.

  Args:
    scenario: 'rehearsal' of digits (DC, section 3.2; DSA, section 4.5), classes in steps by 'gdumb'
      (DM's supplement, section 1.2; IDM, section 5.6), or with a 'growing' last layer (IDC,
      section 5.3).
    method: a name that `registry.METHODS` finds, which makes the memories.

  Raises:
    UserError: there is no such scenario or method.
  """
  check_name("continual.scenario", scenario, SCENARIOS)
  config = config_lib.default(method)
  config.evaluation.networks = 1  # in each run
  config.evaluation.checks = 1
  if method == "herding":  # as iCaRL, whose memories the papers compare with
    config.selection.herding = "greedy"
  config.continual = _SCENARIOS[scenario](config)
  return config


def _rehearsal(config: ConfigDict) -> ConfigDict:
  """Data sets of one label space, one after another (DC, Appendix A)."""
  config.ipc = 10
  config.dataset.rgb_side = 32
  config.evaluation.augmentation = "none"
  if "dsa" in config:
    config.dsa.strategy = default_strategy("digits")  # USPS are digits, too
  fields = _section("rehearsal")
  # Names of datasets, or .npz files, that are learned in turn, comma-separated
  fields.sequence = "svhn_cropped,mnist,usps"
  fields.test_images = 2000  # of each dataset, at random
  fields.training = ConfigDict()
  fields.training.iterations = 5000  # on the new images and the memory
  fields.training.lr = 0.01  # in these iterations
  fields.finetuning = ConfigDict()
  fields.finetuning.iterations = 500  # balanced ones, on the memories of all tasks so far
  fields.finetuning.lr = 0.001  # in these iterations
  fields.batch = 128  # images of an iteration (the papers do not say)
  _distil(fields)
  return fields


def _gdumb(config: ConfigDict) -> ConfigDict:
  """Classes in steps, and a network from scratch on the memory after each."""
  _hundred_classes(config)
  config.evaluation.protocol = "dm"
  fields = _section("gdumb")
  fields.steps = 5  # in how many the classes come; or 10
  return fields


def _growing(config: ConfigDict) -> ConfigDict:
  """Classes in steps, and networks that go on learning (IDC, Appendix C.3)."""
  _hundred_classes(config)
  config.evaluation.protocol = "idc_continual"
  config.evaluation.architectures = ("convnet", "resnet10:init=fan_out")  # (authors' code)
  fields = _section("growing")
  fields.steps = 5  # in how many the classes come
  _distil(fields)
  return fields


def _hundred_classes(config: ConfigDict) -> None:
  """CIFAR-100 with 20 images per class."""
  config.ipc = 20
  config.dataset.name = "cifar100"
  if config.method == "idm":  # as for ten images per class, but for the formation (section 5.6)
    config.formation.factor = 1
    ten = "cifar100", 10
    config.regularisation, config.queue.steps = REGULARISATION[ten], STEPS[ten]


def _section(scenario: str) -> ConfigDict:
  fields = ConfigDict()
  fields.scenario = scenario  # 'rehearsal', 'gdumb' or 'growing'; a preset of its own each
  fields.runs = 5  # with seeds from `seed` on, each with memories of its own
  return fields


def _distil(fields: ConfigDict) -> None:
  # Weight of the loss towards the network of the stage before; 0: none
  fields.distillation = 1.0
  # At which both networks are compared (DC, Appendix A; Li and Hoiem)
  fields.temperature = 2.0


def meanings(scenario: str) -> dict[str, str]:
  """What the fields of `continual` mean, by their dotted names."""
  functions = (_section, _SCENARIOS[scenario], _distil)
  found: dict[str, str] = {}
  for function in functions if scenario != "gdumb" else functions[:2]:
    found |= of_function(function, "fields", "continual.")
  return found


_SCENARIOS = {"rehearsal": _rehearsal, "gdumb": _gdumb, "growing": _growing}


def resolve(config: ConfigDict) -> ConfigDict:
  """Checks a config as far as that goes without data; what is None stays so.

  Raises:
    UserError: names the field, the value and the remedy.
  """
  if not isinstance(config, ConfigDict) or "continual" not in config:
    raise UserError(
      "config: no section 'continual'; let get_config() return what "
      "dcjax.applications.continual.fields.default() makes, changed as need be"
    )
  given = config.to_dict()
  scenario = given["continual"].get("scenario")
  check_name("continual.scenario", str(scenario), SCENARIOS)
  resolved = default(scenario, str(given.get("method")))
  resolved = config_lib.replace_fields(resolved, given, f"continual learning by {scenario}")
  with resolved.unlocked():
    resolved.evaluation.architectures = config_lib.names(resolved.evaluation.architectures)
  config_lib.check_untaught(resolved, "continual learning")
  numbers.check_large(resolved)
  numbers.check_negative(resolved)
  _check(resolved, resolved.continual)
  return resolved


def sequence(config: ConfigDict) -> tuple[str, ...]:
  """The data sets of a rehearsal."""
  return config_lib.names(config.continual.sequence)


def memory(config: ConfigDict, *, seed: int, **dataset: Any) -> ConfigDict:
  """The config of the method alone, resolved.

  Args:
    config: as `resolve` returns it.
    seed: of the run.
    **dataset: fields of `config.dataset` that a task has to itself.
  """
  fields = config.to_dict()
  del fields["continual"]
  fields["seed"] = seed
  fields["dataset"].update(dataset)
  return config_lib.resolve(config_lib.complete(fields))


def _check(config: ConfigDict, fields: ConfigDict) -> None:
  for name, least in (("runs", 1), ("steps", 1), ("test_images", 1), ("batch", 1)):
    if name in fields:
      check_least(f"continual.{name}", fields[name], least)
  check_least("evaluation.networks", config.evaluation.networks, 1)
  if config.evaluation.whole:
    raise UserError(
      "evaluation.whole: True, but no stage is learned from all training images; leave it out"
    )
  if fields.scenario != "gdumb":
    _check_learning(config, fields)
  if fields.scenario == "rehearsal":
    _check_rehearsal(config, fields)
  if config.dataset.zca:
    raise UserError(
      "dataset.zca: True, but each task's images would be whitened in another way; leave it out"
    )


def _check_learning(config: ConfigDict, fields: ConfigDict) -> None:
  """What belongs to networks that go from one stage to the next."""
  if config.evaluation.networks > 1:
    raise UserError(
      f"evaluation.networks: {config.evaluation.networks}, but a run has one of each kind that "
      "learns all its stages; set it to 1, and continual.runs for more"
    )
  if config.evaluation.temperature not in (None, 1):
    raise UserError(
      f"evaluation.temperature: {config.evaluation.temperature} is not for networks that learn all "
      "stages; leave it out, or set continual.temperature, of the distillation"
    )
  if not 0 <= fields.distillation < math.inf:
    raise UserError(f"continual.distillation: {fields.distillation} is no weight; give 0 or more")
  if fields.temperature < 0.01:  # logits are divided by it
    raise UserError(
      f"continual.temperature: {fields.temperature} is too small for a temperature; the papers "
      "have 2"
    )


def _check_rehearsal(config: ConfigDict, fields: ConfigDict) -> None:
  if not sequence(config):
    raise UserError("continual.sequence: empty; name data sets, such as digits,mnist,usps")
  check_least("continual.training.iterations", fields.training.iterations, 1)
  check_least("continual.finetuning.iterations", fields.finetuning.iterations, 0)
  for name in ("training", "finetuning"):
    if not 0 < fields[name].lr < math.inf:
      raise UserError(f"continual.{name}.lr: {fields[name].lr} is not a positive number; mend it")
