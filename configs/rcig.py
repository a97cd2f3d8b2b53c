"""RCIG (Loo, Hasani, Lechner and Rus, ICML 2023) as in its paper and its authors' code.

  dcjax condense --config configs/rcig.py:cifar10,ipc=1 --workdir runs/rcig

Published, 1 / 10 / 50 images per class: CIFAR-10 53.9 / 69.1 / 73.5, CIFAR-100 39.3 / 44.1 / 46.7,
Tiny ImageNet 1 / 10: 25.6 / 29.4. Networks have no norm; those of 32 pixels have a smooth ReLU
while the set is made, and ReLU at the evaluation. Images in colour are whitened. An iteration takes
about forty passes over the set and ten over the real batch.
"""

from typing import Any

from ml_collections import ConfigDict

from dcjax.config import presets

STATED: dict[str, Any] = {
  "init": "real",
  "batch_real": 1024,  # of all classes
  "lr_image": 3e-3,
  "regularisation": 5e-4,
  "inner.steps": 20,
  "pool.networks": 30,
  "pool.steps": 15,
  "pool.oldest": 100,
  "pool.lr": 5e-5,
  "network.name": "frepo_conv",
  "network.norm": "none",
  "network.init": "lecun",
  "network.width": 128,  # of the first block
  "evaluation.networks": 5,
  "evaluation.architectures": ("frepo_conv:norm=none:activation=relu",),
}
# As the names of the sets that its authors published say
ITERATIONS = {1: 15_000}
MANY_ITERATIONS = 10_000
LARGE = ("tiny_imagenet",)  # whose networks have ReLU throughout


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  given = presets.arguments(argument, "cifar10", tuple(presets.DATASETS))
  of_dataset = {
    "iterations": ITERATIONS.get(given["ipc"], MANY_ITERATIONS),
    "network.activation": "relu" if given["dataset"] in LARGE else "softplus",
    "dataset.zca": given["dataset"] in presets.COLOURED,
    "dataset.zca_variant": "frepo",
  }
  return presets.paper("rcig", argument, "cifar10", STATED | of_dataset)
