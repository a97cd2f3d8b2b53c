"""FRePo (Zhou, Nezhadarya and Ba, NeurIPS 2022) as in its paper and its authors' code.

  dcjax condense --config configs/frepo.py:cifar10,ipc=1 --workdir runs/frepo

Published, 1 / 10 / 50 images per class: CIFAR-10 46.8 / 65.5 / 71.7, CIFAR-100 28.7 / 42.5 / 44.3,
Tiny ImageNet 1 / 10: 15.4 / 25.4. Networks of the evaluation have no norm. Images in colour are
whitened. 500,000 iterations of the paper take hours on a GPU; the first thousands do most.
"""

from ml_collections import ConfigDict

from dcjax.config import presets

STATED = {
  "iterations": 500_000,
  "init": "real",
  "batch_real": 1024,  # of all classes
  "lr_image": 3e-4,
  "pool.networks": 10,
  "pool.oldest": 100,
  "pool.lr": 3e-4,
  "network.name": "frepo_conv",
  "network.norm": "batch",
  "network.init": "lecun",
  "network.width": 128,  # of the first block
  "evaluation.networks": 5,
  "evaluation.architectures": ("frepo_conv:norm=none",),
}


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  given = presets.arguments(argument, "cifar10", tuple(presets.DATASETS))
  whitened = {"dataset.zca": given["dataset"] in presets.COLOURED, "dataset.zca_variant": "frepo"}
  return presets.paper("frepo", argument, "cifar10", STATED | whitened)
