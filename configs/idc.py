"""IDC: condensation by efficient synthetic-data parameterization (Kim et al., ICML 2022).

Accuracy in the paper, ConvNet-3, 1 / 10 / 50 images per class: MNIST 94.2 / 98.4 / 99.1,
FashionMNIST 81.0 / 86.0 / 86.2, SVHN 68.5 / 87.5 / 90.1, CIFAR-10 50.6 / 67.5 / 74.5. Ten stored
images train networks as forty: a set of factor 2 is decoded to four times as many. Those are means
over three networks, the best of four tests of each.

  dcjax condense --config configs/idc.py:cifar10,ipc=10 --workdir runs/idc-cifar10-10

IDC-I, without formation (CIFAR-10: 36.7 / 58.3 / 69.5): `--config.formation.factor=1`. Table 5:
`--config.training.data=synthetic`, `--config.distance=ours`, and without the stronger
regularisation `--config.training.draw=one --config.training.cutmix=0`. Table 14, images whitened by
ZCA (CIFAR-10, 10 / 50 images per class: 66.7 / 72.5): `--config.dataset.zca=True`.
"""

from ml_collections import ConfigDict

from dcjax.config import presets


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  return presets.paper("idc", argument, "cifar10")
