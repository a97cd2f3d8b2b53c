"""FTD (Du et al., CVPR 2023), Table 7: MTT with experts that end in flat minima, and an average.

  dcjax experts  --config configs/ftd.py:cifar10,ipc=10 --workdir runs/ftd-experts
  dcjax condense --config configs/ftd.py:cifar10,ipc=10 --workdir runs/ftd \\
    --config.experts.folder=runs/ftd-experts

Published, with the average: CIFAR-10 with 1 / 10 / 50 images per class 46.8 / 66.6 / 73.8,
CIFAR-100 25.2 / 43.4 / 50.7, Tiny ImageNet 1 / 10: 10.4 / 24.5. Whitened as in MTT.

Cells that are not stated are set as the nearest one.
"""

from dcjax.configs import mtt
from ml_collections import ConfigDict

STATED = mtt.STATED | {"experts.rho": 0.01}
FIELDS = (*mtt.FIELDS, "experts.alpha", "average")
# By dataset and images per class, in the order of FIELDS
CELLS: dict[str, dict[int, tuple[float, ...]]] = {
  "cifar10": {
    1: (50, 2, 2, 0, 100, 1e-7, 0.01, 0.3, 0.9999),
    10: (30, 2, 20, 0, 100, 1e-5, 0.001, 0.3, 0.9995),
    50: (30, 2, 40, 0, 1000, 1e-5, 0.01, 1, 0.999),
  },
  "cifar100": {
    1: (40, 3, 20, 0, 1000, 1e-5, 0.01, 1, 0.9995),
    10: (20, 2, 40, 0, 1000, 1e-5, 0.01, 1, 0.9995),
    50: (80, 2, 40, 1000, 1000, 1e-5, 0.01, 1, 0.999),
  },
  "tiny_imagenet": {
    1: (30, 2, 10, 0, 1e4, 1e-4, 0.01, 1, 0.999),
    10: (20, 2, 40, 500, 1e4, 1e-4, 0.01, 1, 0.999),
  },
}


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  return mtt.of_cells(argument, STATED, FIELDS, CELLS)
