"""ImageNet-10 and ImageNet-100 at 224 pixels, as IDC (Kim et al., ICML 2022) and IDM (Zhao et al.,
CVPR 2023) have them; the classes are those of Tian et al., in `imagenet10.txt` and
`imagenet100.txt` beside this file.

Accuracy of IDC, ResNetAP-10, 10 / 20 images per class (Table 3): ten classes 72.8 / 76.6, a hundred
46.7 / 53.7. ImageNet's folders must be there, `train/<WordNet id>/*` and `val/<WordNet id>/*`:

  dcjax condense --config configs/imagenet.py:idc10,ipc=10 --workdir runs/imagenet-10 \\
    --config.dataset.data_dir=imagenet

The defaults of IDC are the settings of the authors' code, which made those numbers. Where the text
says something else, or nothing:

- networks are evaluated on crops of half the image or more, with lighting noise; the text has
  "random resize-crop" (Appendix C.2), by torchvision's default of 0.08 of the image or more:
  `--config.evaluation.augmentation=imagenet`;
- convolutions of ResNets begin as normal numbers of variance 2 / fan_out; the text does not say so:
  `--config.network.init=torch`;
- a hundred classes: networks are evaluated with a learning rate of 0.1, a weight decay of 1e-4 and
  batches of 128; the text has a rate of 0.01 (Appendix C.2), and no word on the others:
  `--config.evaluation.protocol=idc`, which is that of ten classes with batches of 64;
- from 20 images per class on, no more than 128 images that are decoded are matched, some at a lower
  factor or whole, and a set is evaluated with all its tiles; the text does not say so:
  `--config.formation.name=uniform`, which draws 128 of all of them;
- a hundred classes: 128 real images, and networks that begin as one of ten, each trained for five
  epochs; the text has "a few epochs" (section 4.3). Without: `--config.training.networks=0
  --config.training.pretraining=0`. That code condenses 20 classes at a time, each time with other
  networks. Classes share nothing else, so that here all are matched with the same networks, one
  class after another with `--config.compute.class_map=scan` where memory is short.

The argument is idc10, idc100, idm10 or idm100. Training images are read from disk as they are drawn
where they take more than `compute.memory_limit` (4 GiB; ten classes take 2).
"""

from pathlib import Path

from ml_collections import ConfigDict

from dcjax.config import default, presets

SETTINGS = ("idc10", "idc100", "idm10", "idm100")
PRETRAINED = 5  # networks that IDM's queue starts from; neither text nor program is known to say


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names method and classes, `ipc=N`, and `smoke`, all optional."""
  given = presets.arguments(argument, "idc10", SETTINGS)
  method, classes = given["dataset"][:3], given["dataset"][3:]
  config = default(method)
  config.ipc = given["ipc"]
  config.dataset.name, config.dataset.side = "folder", 224
  config.dataset.classes = (str(Path(__file__).with_name(f"imagenet{classes}.txt")),)
  if method == "idm":
    _fill_idm(config)
  else:
    _fill_idc(config, classes)
  return _smoke(config) if given["smoke"] else config


def _fill_idm(config: ConfigDict) -> None:
  """All but the depth is the authors' code."""
  config.network.depth = 6  # (IDM, section 5.1)
  config.batch_real = config.queue.batch = 128
  config.regularisation = 3.0
  config.queue.interval, config.queue.size = 50, 50
  # An iteration takes so many of each class: up to 2.3 GB of a hundred classes
  config.compute.memory_limit = 5 * 2**30
  if config.ipc == 50:  # a hundred networks, from copies of pretrained ones, and whole images
    config.queue.size, config.queue.pretrained = 100, PRETRAINED
    config.formation.factor, config.init = 1, "real"


def _fill_idc(config: ConfigDict, classes: str) -> None:
  config.network.name = "resnet10_ap"
  config.network.init = "fan_out"  # (authors' code)
  config.formation.factor = 3  # (IDC, section 5)
  # formation.name: 'bounded' from 20 images a class on, else 'uniform' (authors' code)
  # lr_image: 0.003 x ipc / 10 for ten classes, 0.001 x ipc / 10 for a hundred (Appendix C.1,
  # authors' code; `rate` in dcjax/methods/idc.py)
  config.iterations = 50_000  # 500 networks with 100 matchings each (authors' code)
  if classes == "10":
    config.training.pretraining = 10  # (authors' code)
  else:
    config.training.lr = 0.1  # (IDC, Appendix C.1); all others are the authors' code
    config.training.weight_decay, config.training.batch = 1e-4, 128
    config.training.steps = 4  # on 500 images
    config.training.networks, config.training.pretraining = 10, 5
    config.batch_real = 128
    config.evaluation.protocol = "idc_hundred"  # (authors' code); 'idc' in the text


def _smoke(config: ConfigDict) -> ConfigDict:
  config = presets.smoke(config)
  config.dataset.side = 64
  config.network.name = "convnet"  # a ResNet takes minutes to compile
  if config.method == "idc":
    config.training.networks = config.training.pretraining = 0
  return config
