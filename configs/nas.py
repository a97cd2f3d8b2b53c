"""Architecture search among 720 ConvNets (DC, Table 4; DSA, Table 6; DM, supplement, Figure F1).

In the papers, CIFAR-10, ten images per class: the accuracy of the network that was chosen, once it
is trained on everything, and Spearman's correlation with training on everything, of the ten best
networks (DC) or of the best 5 % (DSA).

                random  herding  condensed  early stopping  whole
  DC    accuracy  76.2     76.2       84.5            84.5   85.9
        corr.    -0.21    -0.20       0.79            0.42   1.00
  DSA   accuracy  78.2        -       81.3            84.3   85.9
        corr.     0.12        -       0.76            0.48   1.00

  dcjax nas --config configs/nas.py --synthetic runs/dc/synthetic.npz --workdir runs/nas

DSA: `--config.evaluation.protocol=dsa --config.evaluation.epochs=300`. DM:
`configs/nas.py:ipc=50 --config.evaluation.protocol=dm`, which augments all small sets and early
stopping; its supplement does not say for how many epochs it trains. 720 networks five times on
everything take days; a part of the space:

  --config.search.width=32,64 --config.search.depth=2,3 --config.search.norm=none,instance
"""

from ml_collections import ConfigDict

from dcjax.applications.nas.fields import default_search
from dcjax.config import presets


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  given = presets.arguments(f"ipc=10,{argument or ''}", "cifar10", tuple(presets.DATASETS))
  config = default_search()
  presets.take_dataset(config, given["dataset"])
  config.ipc = given["ipc"]
  return _smoke(config) if given["smoke"] else config


def _smoke(config: ConfigDict) -> ConfigDict:
  """Two small networks for a moment; the accuracies then mean nothing."""
  config.network.width, config.training.epochs = 8, 1
  config.evaluation.networks, config.evaluation.epochs = 1, 2
  config.search.whole_epochs = 1
  config.search.width, config.search.depth = (8,), (1,)
  config.search.norm, config.search.activation = ("none", "instance"), ("relu",)
  config.search.pooling = ("average",)
  return config
