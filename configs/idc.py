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

The defaults are the settings of the authors' code, which made those numbers. Networks are evaluated
with flips and colours always, one of crop, scale and rotation, CutMix in every second batch and no
cutout. The text has "DSA augmentation and CutMix" (Appendix C.2), one of all six:
`--config.evaluation.augmentation=color_crop_cutout_flip_scale_rotate`. On MNIST with tiles there is
no CutMix, nor any cutout; the text excepts nothing: `--config.evaluation.cutmix=0.5
--config.training.cutmix=0.5 --config.dsa.strategy=color_crop_cutout`. SVHN, IDC-I and one image a
class: no CutMix at evaluation, but cutout; `--config.evaluation.cutmix=0.5` has it as the others.

An iteration takes 5.8 s on two CPU cores and 1.7 GiB (benchmarks/README.md), most of it for the
network's 32 steps; all 200,000 are for a GPU.
"""

from ml_collections import ConfigDict

from dcjax.config import presets

STATED = {
  # 200,000 iterations; 50,000 on ImageNet, 100,000 for speech (authors' code)
  # lr_image, lambda: 0.005 x ipc / 10 on CIFAR and SVHN, 0.0001 x ipc / 10 on MNIST, (28/32)^2 of
  # that on FashionMNIST (Appendix C.1, authors' code; `RATES` in dcjax/methods/idc.py)
  # distance: 'mse' on CIFAR and SVHN, else 'l1' (Appendix C.1)
  "inner_loop": 100,  # M, iterations with one network (Appendix C.1)
  "batch_real": 64,  # of each class (authors' code)
  "batch_synthetic": 128,  # decoded images of each class, at most (authors' code)
  "formation.factor": 2,  # (section 5)
  # formation.name: 'uniform', but for ImageNet with many images (configs/imagenet.py)
  "init": "mix",  # real images of which single pixels are taken (authors' code)
  # dsa.strategy: color_crop_cutout (Appendix C.1); color_crop on MNIST with tiles (authors' code)
  "dsa.draw": "sequence",  # all of them (Appendix C.1)
  "training.batch": 64,
  "training.lr": 0.01,
  "training.weight_decay": 5e-4,
  "training.augmentation": "color_crop",  # (Appendix C.1)
  "network.width": 128,
}


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  return presets.paper("idc", argument, "cifar10", STATED)
