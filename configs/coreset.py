"""Coresets, the baselines of DC (Zhao, Mopuri and Bilen, ICLR 2021), Tables 1 and T12.

Accuracy in the paper, ConvNet, 1 / 10 / 50 images per class:

                random              herding             k_center            forgetting
  MNIST         64.9 / 95.1 / 97.9  89.2 / 93.7 / 94.9  89.3 / 84.4 / 97.4  35.5 / 68.1 / 88.2
  FashionMNIST  51.4 / 73.8 / 82.5  67.0 / 71.1 / 71.9  66.9 / 54.7 / 68.3  42.0 / 53.9 / 55.0
  SVHN          14.6 / 35.1 / 70.9  20.9 / 50.5 / 72.6  21.0 / 14.0 / 20.1  12.1 / 16.8 / 27.2
  CIFAR-10      14.4 / 26.0 / 43.4  21.5 / 31.6 / 40.4  21.5 / 14.7 / 27.0  13.5 / 23.3 / 23.3

on Tiny ImageNet (IDM, Table 1) random 1.4 / 5.0 / 15.0, herding 2.8 / 6.3 / 16.7, forgetting 1.6 /
5.1 / 15.0; and of the best ten of 1000 random subsets, 1 / 10 images per class: MNIST 78.2 / 96.4,
FashionMNIST 62.4 / 77.6, SVHN 19.9 / 42.9, CIFAR-10 20.1 / 31.4. Those are means over five sets
(`--config.seed=0` to 4) and 20 networks each.

  dcjax select --method herding --config configs/coreset.py:cifar10,ipc=10 --workdir runs/herding

`--method` is random, herding, k_center, forgetting or optimal_random. The last trains a network
on each of `selection.candidates` subsets: on a CPU, try 50 of them.

Herding takes the images nearest to the mean of their class, as DC and IDM describe it.
`--config.selection.herding=greedy` is that of Welling, iCaRL, DSA's words and IDC's authors.
`--config.selection.random=first` is what IDC's authors call random: the first images of a class.
"""

from ml_collections import ConfigDict

from dcjax.config import presets


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  return presets.paper("herding", argument, "mnist")
