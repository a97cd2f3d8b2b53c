"""DSA: DC with differentiable siamese augmentation (Zhao and Bilen, ICML 2021).

Accuracy in the paper, ConvNet, 1 / 10 / 50 images per class: MNIST 88.7 / 97.8 / 99.2,
FashionMNIST 70.6 / 84.6 / 88.7, SVHN 27.5 / 79.2 / 84.4, CIFAR-10 28.8 / 52.1 / 60.6, CIFAR-100
13.9 / 32.3 / -. Those are means over five sets (`--config.seed=0` to 4) and 20 networks each.

  dcjax condense --config configs/dsa.py:cifar10,ipc=10 --workdir runs/dsa-cifar10-10

Table 4: `--config.dsa.scheme` is siamese (Ours, E), none (A, B), real (C), synthetic (D) or
independent (F), `--config.evaluation.augmentation=none` for A and E. Table 5:
`--config.dsa.strategy=crop` and the like.
"""

from ml_collections import ConfigDict

from dcjax.config import presets


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  return presets.paper("dsa", argument, "cifar10")
