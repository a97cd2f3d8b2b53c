"""LD, label distillation (Bohdal et al. 2020): labels are learned, of real images that stay.

  dcjax condense --config configs/ld.py:cifar10,ipc=10 --workdir runs/ld

The second-order variant: ten inner steps of SGD on five images of each class. Published with
1 / 10 / 50 images per class: MNIST 60.9 / 87.3 / 93.3, CIFAR-10 25.7 / 38.3 / 42.5; CIFAR-100 with
one 11.5.
"""

from ml_collections import ConfigDict

from dcjax.config import presets

STATED = {
  "iterations": 20_000,  # 400 passes over 50,000 images
  "batch_real": 1024,  # of all classes
  "init": "real",
  "learn": "labels",
  "lr_label": 1e-3,
  "dsa.scheme": "none",
  "inner.optimizer": "sgd",
  "inner.lr": 0.01,
  "inner.per_class": 5,  # fifty of ten classes
  "window.length": 10,
  "window.steps": 10,
  "window.moving": False,
  "evaluation.protocol": "dsa",
}


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  return presets.paper("bptt", argument, "cifar10", STATED)
