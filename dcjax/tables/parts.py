"""What several tables of the papers have in common."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dcjax.config import default, flatten
from dcjax.config.presets import DATASETS, DEPTHS
from dcjax.configs import dd as dd_preset
from dcjax.configs import imagenet as imagenet_preset
from dcjax.configs import kip as kip_preset
from dcjax.configs import ld as ld_preset
from dcjax.tables.definition import WHOLE, Fields, Line, Table, figures, line

MNIST_1: dict[str, Any] = {"dataset.name": "mnist", "ipc": 1}

# What condenses and what is trained on the set, by the papers' names (DC, Table 2 and Appendix A).
CONDENSED_ON: dict[str, dict[str, Any]] = {
  "MLP": {"network.name": "mlp"},
  "ConvNet": {"network.name": "convnet"},
  "LeNet": {"network.name": "lenet"},
  "AlexNet": {"network.name": "alexnet"},
  "VGG": {"network.name": "vgg11", "network.norm": "batch"},
  "ResNet": {"network.name": "resnet18_ap", "network.norm": "batch"},
}
TRAINED_ON = {
  "MLP": "mlp",
  "ConvNet": "convnet",
  "LeNet": "lenet",
  "AlexNet": "alexnet",
  "VGG": "vgg11",
  "ResNet": "resnet18",
}

# The papers' names of the datasets with ten classes; images per class, and percent of them.
_RATIOS: dict[str, dict[int, str]] = {
  "MNIST": {1: "0.017", 10: "0.17", 50: "0.83"},
  "FashionMNIST": {1: "0.017", 10: "0.17", 50: "0.83"},
  "SVHN": {1: "0.014", 10: "0.14", 50: "0.7"},
  "CIFAR10": {1: "0.02", 10: "0.2", 50: "1"},
}
_PRESETS = {
  "FashionMNIST": "fashion_mnist",
  "CIFAR-10": "cifar10",
  "CIFAR-100": "cifar100",
  "TinyImageNet": "tiny_imagenet",
}


def dataset_fields(label: str) -> dict[str, Any]:
  """The dataset that a paper calls so, and ConvNet's depth for it."""
  name = _PRESETS.get(label, label.lower())
  depth = {"network.depth": DEPTHS[name]} if name in DEPTHS else {}
  return {"dataset.name": DATASETS[name], **depth}


def dataset_rows(most: int = 50) -> tuple[Line, ...]:
  """Four datasets with 1, 10 and 50 images per class each, up to `most`."""
  return tuple(
    line(
      label, str(ipc), ratio,
      fields=dataset_fields(label) | {"ipc": ipc},
      name=f"{label.lower()}-{ipc}",
    )
    for label, ratios in _RATIOS.items()
    for ipc, ratio in ratios.items()
    if ipc <= most
  )  # fmt: skip


def _of_others(config: ConfigDict) -> dict[str, Any]:
  """The fields of a preset that are its method's own, for tables that say the others."""
  tables = ("ipc", "dataset.name", "network.", "evaluation.networks")
  return {name: value for name, value in preset(config).items() if not name.startswith(tables)} | {
    "method": config.method
  }


def preset(config: ConfigDict) -> dict[str, Any]:
  """What a preset sets: its fields that are not the defaults of its method."""
  usual = dict(flatten(default(config.method).to_dict()))
  return {name: value for name, value in flatten(config.to_dict()) if value != usual[name]}


# Other people's methods and imported images, by the papers' names, with the fields that run them;
# without fields, where dcjax does not have them, their cells show the paper's figure alone.
# KIP is that of a fully connected kernel. CAFE's random networks are new in each iteration, as DM's
# are, and not trained by its schedule.
_CAFE = {"method": "dm", "distance": "layerwise", "iterations": 2000, "lr_image": 0.1}
OTHERS: dict[str, dict[str, Any]] = {
  "DD": _of_others(dd_preset.get_config("mnist,ipc=10")),
  "LD": _of_others(ld_preset.get_config("cifar10,ipc=10")),
  "KIP": _of_others(kip_preset.get_config("cifar10,ipc=10")),
  "CAFE": _CAFE | {"dsa.scheme": "none", "evaluation.protocol": "dc"},
  "CAFE+DSA": _CAFE,
  "cGAN": {},
  "GMMN": {},
  "VAE": {},
  "BigGAN": {},
}


def other(label: str, name: str = "", show: str = "", **more: Any) -> Line:
  """A row or column of one of `OTHERS`, which says that dcjax does not have it while that is so.

  Args:
    label: the paper's.
    name: by which it is chosen, if not by its label.
    show: what stands above or beside it, if not its label.
    **more: further fields.
  """
  fields = OTHERS[label]
  missing = "" if fields else label
  return line(show or label, fields=fields | more, name=name, missing=missing)


def method(label: str, name: str, **more: Any) -> Line:
  """A column or row of a method, evaluated by its own protocol; that of coresets is DC's."""
  return line(label, fields={"method": name, **more})


# The papers print it once for all numbers of images per class. Of MNIST, coresets and condensed
# sets only are augmented (DC, Appendix A).
WHOLE_COLUMN = line(
  "Whole Dataset", fields={"method": WHOLE, "evaluation.augmentation": "none"}, name="whole"
)


def imagenet(argument: str, ipc: int) -> tuple[dict[str, Any], dict[str, Any]]:
  """The fields of ImageNet's preset (configs/imagenet.py).

  Args:
    argument: of the preset, but for `ipc`: method and classes.
    ipc: images per class.

  Returns:
    Those of data and network, which all methods have, and the method's own; no `ipc`.
  """
  fields = preset(imagenet_preset.get_config(f"{argument},ipc={ipc}"))
  fields.pop("ipc", None)
  shared = dict(flatten(default("random").to_dict())).keys()
  return (
    {name: value for name, value in fields.items() if name in shared},
    {name: value for name, value in fields.items() if name not in shared},
  )


def cross(networks: Mapping[str, str]) -> tuple[Line, ...]:
  """Columns of networks that are trained on the set, by their labels."""
  return tuple(
    line(label, fields={"evaluation.architectures": (name,)}) for label, name in networks.items()
  )


def cross_architecture(
  name: str, title: str, method: str, text: str, condensed: Mapping[str, Fields] | None = None
) -> Table:
  """A table of what condenses (C) by what is trained (T), for one image per class of MNIST.

  Args:
    name: see `Table`.
    title: see `Table`; the setting is added.
    method: that condenses.
    text: the figures, as `figures` takes them.
    condensed: further fields of some rows, by label.
  """
  more = condensed or {}
  return Table(
    name=name,
    title=f"{title}, 1 image per class of MNIST",
    headings=("C\\T",),
    base=MNIST_1 | {"method": method},
    rows=tuple(
      line(label, fields={**fields, **more.get(label, {})})
      for label, fields in CONDENSED_ON.items()
    ),
    columns=cross(TRAINED_ON),
    figures=figures(text),
  )


def stages(
  name: str,
  title: str,
  field: str,
  values: Mapping[str, Any],
  text: str,
  *,
  trained: Mapping[str, Fields] | None = None,
) -> Table:
  """A table of one field of ConvNet, by what it is when condensing (C) and when training (T).

  Args:
    name: see `Table`.
    title: see `Table`; the setting is added.
    field: of `config.network`.
    values: by label.
    text: the figures, as `figures` takes them.
    trained: further fields of some columns, by label.
  """
  rows = tuple(line(label, fields={f"network.{field}": value}) for label, value in values.items())
  columns = cross({label: f"convnet:{field}={value}" for label, value in values.items()})
  more = trained or {}
  return Table(
    name=name,
    title=f"{title}, 1 image per class of MNIST",
    headings=("C\\T",),
    base=MNIST_1 | {"method": "dc"},
    rows=rows,
    columns=tuple(
      column._replace(fields={**column.fields, **more.get(column.labels[0], {})})
      for column in columns
    ),
    figures=figures(text),
  )
