"""What the files in `configs/` share: their arguments, and the papers' datasets."""

from typing import Any

from ml_collections import ConfigDict

from dcjax.config import default
from dcjax.errors import UserError, nearest

# The papers' names of the datasets, and those of TensorFlow Datasets.
DATASETS = {
  "mnist": "mnist",
  "fashion_mnist": "fashion_mnist",
  "svhn": "svhn_cropped",
  "cifar10": "cifar10",
  "cifar100": "cifar100",
}


def paper(method: str, argument: str | None, dataset: str) -> ConfigDict:
  """A method as its paper has it, for what the argument of the preset names.

  Args:
    method: one of `config.METHODS`.
    argument: the dataset, `ipc=N`, and `smoke`, all optional, with commas between them.
    dataset: what is meant when no dataset is named.

  Raises:
    UserError: the argument has something else.
  """
  given = arguments(argument, dataset, tuple(DATASETS))
  config = default(method)
  config.dataset.name = DATASETS[given["dataset"]]
  config.ipc = given["ipc"]
  return smoke(config) if given["smoke"] else config


def smoke(config: ConfigDict) -> ConfigDict:
  """Shrinks any config so that it runs in seconds; the accuracies then mean nothing."""
  if "selection" in config:
    config.training.epochs = 1
    config.selection.candidates, config.selection.validation = 2, 100
  else:
    config.iterations, config.batch_real, config.checkpoint_every = 2, 8, 1
  if "network_epochs" in config:
    config.inner_loop, config.network_epochs = 2, 1
  if config.method == "idc":
    config.inner_loop, config.training.steps, config.training.batch = 2, 1, 8
  if config.method == "idm":
    config.queue.size, config.queue.interval, config.queue.steps = 3, 1, 1
    config.queue.batch = 8
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
