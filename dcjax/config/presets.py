"""What the files in `configs/` share: their arguments, and the papers' datasets."""

import math
import re
from typing import Any, TypeVar

from ml_collections import ConfigDict

from dcjax.common.errors import UserError, nearest
from dcjax.config import default, definition, selects

T = TypeVar("T")
# The papers' names of the datasets, and those of TensorFlow Datasets.
DATASETS = {
  "mnist": "mnist",
  "fashion_mnist": "fashion_mnist",
  "svhn": "svhn_cropped",
  "cifar10": "cifar10",
  "cifar100": "cifar100",
  "tiny_imagenet": "tiny_imagenet",
  "usps": "usps",
}
COLOURED = ("svhn", "cifar10", "cifar100", "tiny_imagenet")
DEPTHS = {"tiny_imagenet": 4}  # of ConvNet, where it is not 3 (authors' code of DM and IDM)
SPEECH_METHODS = ("random", "herding", "dsa", "dm", "idc")  # (IDC, Table 4)
# How IDC's authors choose real images, also spectrograms (authors' code)
IDC_CORESETS = {
  "random": {"selection.random": "first"},
  "herding": {"selection.herding": "greedy"},
}


def paper(
  method: str, argument: str | None, dataset: str, stated: dict[str, Any] | None = None
) -> ConfigDict:
  """A method as its paper has it, for what the argument of the preset names.

  Args:
    method: a name that `registry.METHODS` finds.
    argument: the dataset, `ipc=N`, and `smoke`, all optional, with commas between them.
    dataset: what is meant when no dataset is named.
    stated: fields as the paper, or its authors' code, has them on all datasets, by dotted names.

  Raises:
    UserError: the argument has something else.
  """
  given = arguments(argument, dataset, tuple(DATASETS))
  config = default(method)
  take_dataset(config, given["dataset"])
  config.ipc = given["ipc"]
  config.update_from_flattened_dict(stated or {})
  return smoke(config) if given["smoke"] else config


def nearest_cell(cells: dict[str, dict[int, T]], given: dict[str, Any]) -> tuple[int, T]:
  """Of a table of settings the cell of what is asked for, or the nearest.

  Args:
    cells: by dataset and images per class; a dataset that has none takes those of CIFAR-10.
    given: as `arguments` returns it.

  Returns:
    The images per class of the cell, those nearest in ratio, and what is in it.
  """
  row = cells.get(given["dataset"], cells["cifar10"])
  ipc = max(1, given["ipc"])
  nearest = min(row, key=lambda each: abs(math.log(each / ipc)))
  return nearest, row[nearest]


def take_dataset(config: ConfigDict, name: str) -> None:
  """Sets the dataset, by its name in the papers, and ConvNet's depth for it."""
  config.dataset.name = DATASETS[name]
  config.network.depth = DEPTHS.get(name, config.network.depth)


def speech(method: str) -> dict[str, Any]:
  """The fields that IDC's experiment on spectrograms sets (section 5.1, Table 4).

  Appendix C.1 does not except speech from what it says of augmentation. But in the authors' code
  nothing augments spectrograms, neither where they are matched nor where networks are trained, and
  by their names the sets that they published were made without CutMix too. Only DSA, which is
  nothing without, keeps transforms: those that neither mirror nor rotate.

  Args:
    method: one of `SPEECH_METHODS`.

  Returns:
    Those of the method's fields that are not its defaults, by their dotted names.
  """
  fields: dict[str, Any] = {
    "method": method,
    "dataset.name": "speech",
    "network.depth": 4,
    # All methods are evaluated alike (Appendix C.2), with 1000 epochs (authors' code).
    "evaluation.protocol": "idc",
    "evaluation.epochs": 1000,
    "evaluation.networks": 3,
  }
  if selects(method):
    return fields
  own: dict[str, dict[str, Any]] = {
    "dsa": {"dsa.strategy": "color_crop_cutout_scale"},
    "dm": {"dsa.scheme": "none"},
    "idc": {
      "dsa.scheme": "none",
      "training.augmentation": "none",
      "training.lr": 3e-4,  # eta (Appendix C.1)
    },
  }
  return fields | {"formation.name": "time"} | own[method]


def smoke(config: ConfigDict) -> ConfigDict:
  """Shrinks any config so that it runs in seconds; the accuracies then mean nothing."""
  config.update_from_flattened_dict(definition(config.method).smoke)
  config.network.width, config.network.depth = 8, 1  # most of the time goes to compiling it
  config.evaluation.networks, config.evaluation.epochs, config.evaluation.checks = 1, 2, 1
  config.evaluation.whole = False
  names = config.evaluation.architectures
  config.evaluation.architectures = tuple(re.sub(r":(width|depth)=\d+", "", name) for name in names)
  return config


def arguments(
  text: str | None, default: str, names: tuple[str, ...], kind: str = "dataset"
) -> dict[str, Any]:
  """Reads the argument of a preset: `mnist,ipc=10,smoke`, in any order.

  Args:
    text: what stands after the colon of `configs/X.py:...`.
    default: what is meant when nothing is named.
    names: those that may stand alone.
    kind: what they name.

  Returns:
    By `kind` the name, `ipc` (1 if not given) and `smoke`.

  Raises:
    UserError: for anything else.
  """
  given: dict[str, Any] = {kind: None, "ipc": 1, "smoke": False}
  for word in filter(None, (text or "").replace(" ", "").split(",")):
    name, _, value = word.partition("=")
    if word == "smoke":
      given["smoke"] = True
    elif word in names and given[kind] in (None, word):
      given[kind] = word
    elif word in names:
      raise UserError(f"config argument: both '{given[kind]}' and '{word}'; name one {kind}")
    elif name == "ipc" and value.isdecimal():
      given["ipc"] = int(value)
    else:
      raise UserError(
        f"config argument: unknown '{word}'; {nearest(word, (*names, 'ipc=10', 'smoke'))}"
      )
  given[kind] = given[kind] or default
  return given
