"""DC: dataset condensation with gradient matching (Zhao, Mopuri and Bilen, ICLR 2021), Table 1.

Accuracy in the paper, ConvNet, 1 / 10 / 50 images per class: MNIST 91.7 / 97.4 / 98.8,
FashionMNIST 70.5 / 82.3 / 83.6, SVHN 31.2 / 76.1 / 82.3, CIFAR-10 28.3 / 44.9 / 53.9. Those are
means over five sets (`--config.seed=0` to 4) and 20 networks each.

  dcjax condense --config configs/dc.py:mnist,ipc=10 --workdir runs/dc-mnist-10

A step takes 3.8 s on two CPU cores and 1.0 GiB (benchmarks/README.md): 64 minutes for one image per
class, whose iterations have one step each, and ten times as long for ten.

Batch norm (`--config.network.norm=batch`; VGG and ResNet of Table 2, Table T8) is frozen with its
running averages while gradients match, as in the authors' code. `--config.batch_norm=batch` is the
text's: the moments of 16 real images a class (Appendix A).
"""

from ml_collections import ConfigDict

from dcjax.config import presets

STATED = {
  "iterations": 1000,  # K (Appendix B)
  # T and the passes of a network between two matchings follow from the images per class: 1 and 1 at
  # 1, 10 and 50 at 10, 50 and 10 at 50 (authors' code; `SCHEDULE` in dcjax/methods/dc.py)
  "batch_real": 256,  # of each class (authors' code)
  "lr_image": 0.1,  # eta_S (authors' code)
  "lr_network": 0.01,  # eta_theta (authors' code)
  "distance": "ours",  # (Eq. 10)
  "batch_norm": "running",  # (authors' code); 'batch' in the text
  "init": "noise",  # (Appendix A)
  "network.width": 128,
  "evaluation.networks": 20,
}


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  return presets.paper("dc", argument, "mnist", STATED)
