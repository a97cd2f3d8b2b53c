"""DD, dataset distillation (Wang et al. 2018): each step of a training has images of its own.

  dcjax condense --config configs/dd.py:mnist,ipc=10 --workdir runs/dd

Ten steps of one image of each class, three times over, with a learned step size each; the gradient
goes through all thirty. Published with 10 images per class: MNIST 79.5 (LeNet), CIFAR-10 36.8
(AlexCifarNet), by networks that take just these steps: `accuracy` in metrics.jsonl is theirs, on
real training images. The table of accuracies has networks that are trained on the set by SGD at the
mean of the learned step sizes. The authors halve the rate of Adam now and then; here it stays.
"""

from ml_collections import ConfigDict

from dcjax.config import presets

STATED = {
  "iterations": 20_000,  # 400 passes over 50,000 images
  "batch_real": 1024,  # of all classes
  "lr_image": 0.01,
  "init": "noise",
  "dsa.scheme": "none",
  "inner.optimizer": "sgd",
  "inner.lr": 0.02,
  "inner.per_class": 1,
  "inner.turns": True,
  "inner.learn_lr": True,
  "window.moving": False,
  "network.norm": "none",
  "evaluation.protocol": "tm",
}
RATES = {"cifar10": {"inner.lr": 1e-3}, "cifar100": {"inner.lr": 1e-3}}
PASSES = 3  # over the images, in one training


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  given = presets.arguments(argument, "mnist", tuple(presets.DATASETS))
  steps = PASSES * given["ipc"]
  stated = STATED | RATES.get(given["dataset"], {})
  return presets.paper(
    "bptt", argument, "mnist", stated | {"window.length": steps, "window.steps": steps}
  )
