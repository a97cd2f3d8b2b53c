"""The config of a run: every field with its default, and the checks that need no data."""

import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from dcjax import evaluation
from dcjax.data import base_name
from dcjax.errors import UserError, check_least, check_name, nearest
from dcjax.loop import LONGEST_CHUNK
from dcjax.matching import DISTANCES
from dcjax.methods import dc

METHODS = ("dc",)
SEEDS = 2**32


def default() -> ConfigDict:
  """DC's settings for MNIST and one image per class; a preset changes what differs.

  Fields that are None are filled in by `resolve`.
  """
  config = ConfigDict()
  config.method = "dc"
  config.seed = 0
  config.ipc = 1  # images per class
  config.iterations = 1000  # outer loop K (DC, Appendix B)
  config.batch_real = 256  # real images of each class in one matching step (authors' code)
  config.init = "noise"  # 'noise' or 'real' (DC, Appendix A: noise)
  config.distance = "ours"  # 'ours' (DC, Eq. 10), 'mse' or 'cos' (Table T11)
  config.lr_image = 0.1  # eta_S (authors' code); momentum is 0.5
  config.lr_network = 0.01  # eta_theta (authors' code)
  config.inner_loop = placeholder(int)  # T; None: by ipc, as the authors' code has it
  config.network_epochs = placeholder(int)  # passes over S between matchings; None: by ipc
  config.evaluate_every = 0  # outer iterations; 0: only at the end
  config.checkpoint_every = 50  # outer iterations

  config.dataset = ConfigDict()
  config.dataset.name = "mnist"  # 'digits', 'npz', 'folder', or a name in TensorFlow Datasets
  config.dataset.data_dir = ""  # TFDS' folder (empty: its own default), the .npz, the image folder
  config.dataset.cache_dir = ""  # where decoded images are kept; empty: ~/.cache/dcjax
  config.dataset.side = 64  # height and width of images from a folder
  config.dataset.classes = ()  # folders to load, comma-separated; empty: all

  config.network = ConfigDict()
  config.network.name = "convnet"  # 'convnet', 'lenet' or 'mlp'
  config.network.width = 128  # the next five are ConvNet's (DC, section 3.1)
  config.network.depth = 3
  config.network.norm = "instance"  # 'none', 'batch', 'layer', 'instance' or 'group'
  config.network.activation = "relu"  # 'sigmoid', 'relu', 'leaky_relu' or 'swish'
  config.network.pooling = "average"  # 'none', 'max' or 'average'
  config.network.init = "torch"  # 'torch' (what published numbers rest on) or 'kaiming'

  config.evaluation = ConfigDict()
  config.evaluation.protocol = "dc"
  config.evaluation.networks = 20  # trained from scratch on each set (DC, section 3.1)
  config.evaluation.epochs = placeholder(int)  # None: the protocol's
  config.evaluation.augmentation = placeholder(str)  # 'none' or 'dc'; None: the protocol's
  config.evaluation.checks = 4  # tests of each network, evenly over its epochs, for 'best'
  config.evaluation.architectures = ()  # names, comma-separated; empty: the network above
  config.evaluation.whole = False  # also train on the whole training set

  config.compute = ConfigDict()  # None: what dcjax.strategy chooses for the backend
  config.compute.convolution = placeholder(str)  # 'patches', 'winograd' or 'lax'
  config.compute.class_map = placeholder(str)  # 'scan' or 'vmap'
  config.compute.image_block = placeholder(int)  # images with activations alive together; 0: all
  config.compute.network_block = placeholder(int)  # networks trained together at evaluation
  config.compute.devices = placeholder(int)  # devices over which the classes are spread
  config.compute.chunk = placeholder(int)  # iterations between two looks; None: about a second
  return config


def smoke(config: ConfigDict) -> ConfigDict:
  """Shrinks any config so that it runs in seconds; the accuracies then mean nothing."""
  config.iterations = 2
  config.batch_real = 8
  config.inner_loop, config.network_epochs = 2, 1
  config.checkpoint_every = 1
  config.network.width = 8
  config.evaluation.networks, config.evaluation.epochs, config.evaluation.checks = 1, 2, 1
  config.evaluation.whole = False
  return config


def arguments(text: str | None, dataset: str, datasets: tuple[str, ...]) -> dict[str, Any]:
  """Reads the argument of a preset: `mnist,ipc=10,smoke`, in any order.

  Args:
    text: what stands after the colon of `configs/X.py:...`.
    dataset: what is meant when no dataset is named.
    datasets: the names that may stand alone.

  Returns:
    `dataset`, `ipc` (1 if not given) and `smoke`.

  Raises:
    UserError: for anything else.
  """
  given: dict[str, Any] = {"dataset": None, "ipc": 1, "smoke": False}
  for word in filter(None, (text or "").replace(" ", "").split(",")):
    name, _, value = word.partition("=")
    if word == "smoke":
      given["smoke"] = True
    elif word in datasets and given["dataset"] in (None, word):
      given["dataset"] = word
    elif word in datasets:
      raise UserError(f"config argument: both '{given['dataset']}' and '{word}'; name one dataset")
    elif name == "ipc" and value.isdecimal():
      given["ipc"] = int(value)
    else:
      raise UserError(
        f"config argument: unknown '{word}'; {nearest(word, (*datasets, 'ipc=10', 'smoke'))}"
      )
  given["dataset"] = given["dataset"] or dataset
  return given


def complete(fields: dict[str, Any]) -> ConfigDict:
  """The default config with some fields replaced.

  Args:
    fields: a config as nested dicts; it need not have all fields.

  Raises:
    UserError: a field is unknown, or its value is of the wrong type.
  """
  config = default()
  known = dict(flatten(config.to_dict()))
  for name, value in flatten(fields):
    if name not in known:
      raise UserError(f"config: no field '{name}'; {nearest(name, known)}")
    try:
      if value is None and known[name] is not None:
        raise TypeError
      config.update_from_flattened_dict({name: value})
    except (TypeError, ValueError):
      raise UserError(
        f"{name}: {value!r} is not of the right type; its default is {known[name]!r}"
      ) from None
  return config


def resolve(config: ConfigDict) -> ConfigDict:
  """Checks a config as far as that goes without data, and fills in what is None.

  `compute` is left as it is: it may differ from machine to machine.

  Raises:
    UserError: names the field, the value and the remedy.
  """
  if not isinstance(config, ConfigDict):
    raise UserError(
      f"config: {type(config).__name__} is not a ConfigDict; let get_config() return what "
      "dcjax.config.default() makes, changed as need be"
    )
  config = complete(config.to_dict())
  check_name("method", config.method, METHODS)
  check_name("init", config.init, dc.INITS)
  check_name("distance", config.distance, DISTANCES)
  check_name("evaluation.protocol", config.evaluation.protocol, evaluation.PROTOCOLS)
  for field in ("ipc", "iterations", "batch_real", "checkpoint_every"):
    check_least(field, config[field], 1)
  check_least("evaluate_every", config.evaluate_every, 0)
  for field in ("lr_image", "lr_network"):
    if not 0 < config[field] < math.inf:
      raise UserError(
        f"{field}: {config[field]} is not a positive number; the default is {default()[field]}"
      )
  if not 0 <= config.seed < SEEDS:
    raise UserError(f"seed: {config.seed} is not within 0..{SEEDS - 1}; give one that is")
  _fill_schedule(config)
  with config.unlocked():
    config.dataset.classes = _names(config.dataset.classes)
    config.evaluation.architectures = _names(config.evaluation.architectures)
    _fill_evaluation(config.evaluation, base_name(config.dataset.name))
  evaluation.check_settings(evaluation_settings(config.evaluation))
  if config.compute.chunk is not None:
    check_least("compute.chunk", config.compute.chunk, 1)
    if config.compute.chunk > LONGEST_CHUNK:
      raise UserError(f"compute.chunk: {config.compute.chunk} is too long; {LONGEST_CHUNK} at most")
  return config


def _fill_evaluation(fields: ConfigDict, dataset: str) -> None:
  """Fills in what the protocol says of epochs and augmentation, in place."""
  protocol = evaluation.PROTOCOLS[fields.protocol]
  if fields.augmentation is None:
    fields.augmentation = protocol.augmentation(dataset)
  if fields.epochs is None:
    fields.epochs = protocol.default_epochs(fields.augmentation)


def evaluation_settings(fields: ConfigDict) -> evaluation.Settings:
  """The part of `config.evaluation` that one evaluation needs."""
  settings = evaluation.Settings(*(fields[name] for name in evaluation.Settings._fields))
  return settings._replace(checks=min(settings.checks, settings.epochs))


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """The fields of a nested config, by their dotted names."""
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from flatten(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


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


def _names(value: Any) -> tuple[str, ...]:
  """A tuple of names, also from `a,b` as the command line gives it."""
  parts = [value] if isinstance(value, str) else value
  return tuple(name for part in parts for name in part.split(",") if name)
