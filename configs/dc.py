"""DC: dataset condensation with gradient matching (Zhao, Mopuri and Bilen, ICLR 2021), Table 1.

Accuracy in the paper, ConvNet, 1 / 10 / 50 images per class: MNIST 91.7 / 97.4 / 98.8,
FashionMNIST 70.5 / 82.3 / 83.6, SVHN 31.2 / 76.1 / 82.3, CIFAR-10 28.3 / 44.9 / 53.9. Those are
means over five sets (`--config.seed=0` to 4) and 20 networks each.

  dcjax condense --config configs/dc.py:mnist,ipc=10 --workdir runs/dc-mnist-10
"""

from ml_collections import ConfigDict

from dcjax.config import presets


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  return presets.paper("dc", argument, "mnist")
