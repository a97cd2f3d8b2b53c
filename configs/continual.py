"""Continual learning with condensed memories: does a memory of condensed images forget less?

  dcjax continual --config configs/continual.py:digits,memory=dsa --workdir runs/digits-dsa
  dcjax continual --config configs/continual.py:gdumb,memory=dm,steps=10 --workdir runs/gdumb-dm
  dcjax continual --config configs/continual.py:growing,memory=idc --workdir runs/growing-idc

`digits` (DC, section 3.2; DSA, section 4.5; IDC, Appendix C.3): SVHN, MNIST and USPS in turn, 10
images per class, with distillation (`--config.continual.distillation=0`: without). Other datasets:
`--config.continual.sequence=digits,mnist,PATH/mine.npz`. Accuracy in DSA after the last stage,
without distillation: DSA 94.4, 1.4 more than DC and 3.7 more than herding.

`gdumb` (DM's supplement, section 1.2; IDM, section 5.6): CIFAR-100 in 5 or 10 steps, 20 images per
class, a network from scratch on the memory at each. Accuracy in IDM at the end, 5 / 10 steps:
random 24.8 / 25.2, DSA 31.0 / 29.8, DM 33.8 / 33.7, IDM 39.3 / 39.3.

`growing` (IDC, section 5.3): the same, but ConvNet-3 and ResNet-10 go on learning from stage to
stage, held by distillation. IDC-I: `--config.formation.factor=1`.

All are means over five runs, `--config.continual.runs=5`.
"""

from ml_collections import ConfigDict

from dcjax.config import presets


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset.

  The argument names a scenario, `memory=METHOD`, for classes in steps `steps=N` and a dataset, and
  `ipc=N` and `smoke`, all optional.
  """
  return presets.continual(argument)
