"""RDED: crops of real images that a teacher finds easy (Sun, Shi, Yu and Lin, CVPR 2024).

Accuracy in the paper's line of work, ConvNet with a teacher's labels, 1 / 10 / 50 images per class:
CIFAR-10 23.5 / 50.2 / 68.4, CIFAR-100 19.6 / 48.1 / 57.0, Tiny ImageNet 12.0 / 39.6 / 47.6. Random
images with the same labels have 21.1 / 46.3 / 62.1 on CIFAR-10 (teacher stopped early).

  dcjax select --method rded --config configs/rded.py:cifar10,ipc=10 --workdir runs/rded-cifar10-10

Random images with the same labels stand beside the set in the table. With hard labels, too:
`dcjax compare --sets runs/rded-cifar10-10/synthetic.npz --labels hard,soft --workdir FOLDER`.

A teacher (`rded.teacher`, `rded.teacher_epochs`) is trained on all images first, which takes most
of the time, and labels the batches as well (`evaluation.teacher`, `evaluation.teacher_epochs`; with
the same values it is the same network, trained once). For photographs of 128 pixels and more,
`--config.rded.factor=2`: an image is put together of four crops; and of 224 pixels
`--config.dataset.test_resize=256`, by which test images lose their margins (authors' code). Images
that do not fit in memory are read from disk, the candidates of one class at a time.
"""

from ml_collections import ConfigDict

from dcjax.config import presets

STATED = {
  "rded.candidates": 300,  # of a class (authors' code)
  "rded.crops": 5,  # of each of them (authors' code)
  "rded.teacher": "convnet:norm=batch",  # (authors' code)
  "network.norm": "batch",  # of the networks that are trained on the set (authors' code)
  "evaluation.architectures": ("convnet:norm=batch",),
  "evaluation.networks": 3,  # (section 4.1)
  "evaluation.checks": 6,
}


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the dataset, `ipc=N`, and `smoke`, all optional."""
  return presets.paper("rded", argument, "cifar10", STATED)
