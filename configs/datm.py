"""DATM (Guo et al., ICLR 2024) as in the configs of its authors: FTD with labels, and an order.

  dcjax experts  --config configs/datm.py:cifar10,ipc=10 --workdir runs/datm-experts
  dcjax condense --config configs/datm.py:cifar10,ipc=10 --workdir runs/datm \\
    --config.experts.folder=runs/datm-experts

Students begin at the early epochs of experts where images are few, at the late ones where they are
many; labels are learned, and the images begin as real ones that an expert classifies right.
Published: CIFAR-10 with 1 / 10 / 50 images per class 46.9 / 66.8 / 76.1, CIFAR-100
27.9 / 47.2 / 55.0, Tiny ImageNet 17.1 / 31.1 / 39.7; the best of all checks, here called `best`.

Cells that are not stated are set as the nearest one.
"""

from typing import Any

from dcjax.configs import mtt
from ml_collections import ConfigDict

from dcjax.config import presets

STATED = mtt.STATED | mtt.WHITENED | {
  "iterations": 10_000,
  "init": "correct",
  "learn": "both",
  "skip_above": 1.0,
  "experts.epochs": 100,
  "experts.rho": 0.01,
  "experts.alpha": 0.3,
  "evaluation.batch": 128,
}  # fmt: skip
FIELDS = (
  "student.steps", "expert_epochs", "lr_image", "average", "student.batch", "lr_label",
  "start.least", "start.first", "start.most", "start.grow", "lr_lr",
)  # fmt: skip
# By dataset and images per class, in the order of FIELDS
CELLS: dict[str, dict[int, tuple[float | None, ...]]] = {
  "cifar10": {
    1: (80, 2, 100, 0.995, 10, 5, 0, None, 4, 0, 1e-7),
    10: (80, 2, 100, 0.9995, 100, 2, 0, 10, 20, 1000, 1e-5),
    50: (80, 2, 1000, 0.995, 500, 2, 0, 20, 40, 2000, 1e-5),
    500: (40, 2, 50, 0.995, 1000, 10, 40, None, 60, 0, 1e-5),
    1000: (100, 2, 50, 0.995, 1000, 10, 40, None, 60, 0, 1e-5),
  },
  "cifar100": {
    1: (40, 3, 1000, 0.9995, 0, 10, 0, 10, 20, 1000, 1e-5),
    10: (80, 2, 1000, 0.9995, 1000, 10, 0, 30, 50, 2000, 1e-5),
    50: (80, 2, 1000, 0.9995, 1000, 10, 20, None, 70, 0, 1e-5),
    100: (80, 2, 50, 0.9995, 1000, 10, 30, None, 70, 0, 1e-5),
  },
  "tiny_imagenet": {
    1: (40, 2, 1e4, 0.9995, 0, 10, 0, 15, 20, 2000, 1e-4),
    10: (40, 2, 100, 0.9995, 500, 10, 10, None, 50, 0, 1e-4),
    50: (20, 2, 100, 0.995, 1000, 10, 40, None, 70, 0, 1e-4),
  },
}
# Where it is not as STATED
MORE = {("cifar10", 1): {"skip_above": 1.1}, ("cifar100", 50): {"init": "real"}}


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  given = presets.arguments(argument, "cifar10", tuple(presets.DATASETS))
  nearest, cell = presets.nearest_cell(CELLS, given)
  stated: dict[str, Any] = STATED | dict(zip(FIELDS, cell, strict=True))
  stated |= MORE.get((given["dataset"], nearest), {})
  if given["dataset"] not in presets.COLOURED:
    stated["dataset.zca"] = False
  return presets.paper("tm", argument, "cifar10", stated)
