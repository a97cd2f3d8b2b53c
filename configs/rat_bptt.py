"""RaT-BPTT: truncated backpropagation through training (Feng, Vedantam and Kempe, ICLR 2024).

Accuracy in the paper, ConvNet-3, 1 / 10 / 50 images per class: CIFAR-10 53.2 / 69.4 / 75.3,
CIFAR-100 35.3 / 47.5 / 50.6; Tiny ImageNet, 1 / 10: 20.1 / 24.4. Those are the best accuracies of
networks after 300, 600, 1000 and 3000 steps; here they are called `best`, beside `last`.

  dcjax condense --config configs/rat_bptt.py:cifar10,ipc=10 --workdir runs/rat_bptt

The cells that the authors' README gives are set as there; for others, the nearest of them. Labels
are learned, too, where there are a hundred classes or more. Images in colour are whitened as KIP
has it, but of Tiny ImageNet not.
"""

from typing import Any

from ml_collections import ConfigDict

from dcjax.config import presets

STATED = {
  "init": "noise",
  "batch_real": 5000,  # of all classes
  "lr_image": 1e-3,
  "inner.optimizer": "adam",
  "inner.lr": 1e-3,
  "network.width": 128,
  "evaluation.networks": 8,
  "evaluation.checks": 10,  # after 300, 600, ... steps
}
# By dataset (authors' README), some by images per class
WHITENED = {"dataset.zca": True, "dataset.zca_variant": "kip"}
CELLS: dict[str, dict[str, Any]] = {
  "cifar10": WHITENED | {"window.length": 60, "window.steps": 200, "inner.per_class": 10},
  "svhn": WHITENED,
  "cifar100": WHITENED
  | {"window.length": 100, "window.steps": 300, "inner.per_class": 1, "learn": "both"},
  "tiny_imagenet": {
    "window.length": 100, "window.steps": 300, "inner.per_class": 1, "learn": "both",
    "lr_image": 3e-4, "batch_real": 1000, "inner.classes": 50,
  },
}  # fmt: skip
CIFAR100_ONE = {
  "window.length": 90, "window.steps": 130, "window.moving": False, "lr_image": 3e-4
}  # fmt: skip


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  given = presets.arguments(argument, "cifar10", tuple(presets.DATASETS))
  stated = STATED | CELLS.get(given["dataset"], {})
  if (given["dataset"], given["ipc"]) == ("cifar100", 1):
    stated |= CIFAR100_ONE
  return presets.paper("bptt", argument, "cifar10", stated)
