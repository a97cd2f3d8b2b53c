"""KIP (Nguyen, Chen and Lee, ICLR 2021) with the kernel of a fully connected network.

  dcjax condense --config configs/kip.py:cifar10,ipc=10 --workdir runs/kip

Published by the authors' notebook, with 10 images per class of CIFAR-10: the kernel is right for
46.7 % of the test images after 300 steps; here `accuracy` in metrics.jsonl is that on real training
images. The papers' better KIP has the kernel of a ConvNet, which dcjax does not have: such sets can
be imported. What networks learn from a set is in the table of accuracies.
"""

from ml_collections import ConfigDict

from dcjax.config import presets

STATED = {
  "iterations": 1000,
  "init": "real",
  "batch_real": 500,  # of each class
  "lr_image": 0.04,
  "learn": "both",
  "kernel.depth": 1,
  "kernel.bias": 0.1,
}


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  given = presets.arguments(argument, "cifar10", tuple(presets.DATASETS))
  whitened = {"dataset.zca": given["dataset"] in presets.COLOURED, "dataset.zca_variant": "kip"}
  return presets.paper("kip", argument, "cifar10", STATED | whitened)
