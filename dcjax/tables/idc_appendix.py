"""The tables of IDC's appendix: Kim et al. (ICML 2022); see `idc_parts`."""

from typing import Any

from dcjax.augment import STRATEGY
from dcjax.config.presets import DATASETS
from dcjax.tables.definition import Line, Table, figures, line
from dcjax.tables.idc_parts import (
  BASE,
  CIFAR,
  CONVNET,
  SHORT,
  TESTED,
  by_pixels,
  coreset,
  dm,
  dsa,
  idc,
  idc_i,
)
from dcjax.tables.parts import other

# Networks that are trained without strong augmentation (S.A.), which is CutMix (Appendix E.2)
_WEAK: dict[str, Any] = {"training.cutmix": 0.0}
# "identical to the method by DSA and DM" (Table 11), whose sets are trained on with all transforms
_TESTED_WEAKLY = {"evaluation.protocol": "dsa", "evaluation.augmentation": STRATEGY}
_BOTH = ("ConvNet-3", "ResNet-10")


# --- Table 10 ----------------------------------------------------------------------------------

_OF = {"SVHN": "svhn", "MNIST": "mnist", "FashionMNIST": "fashion_mnist", "CIFAR-10": "cifar10"}


def _of_dataset(label: str, name: str) -> tuple[Line, ...]:
  """Five columns."""
  slug, data = label.lower().replace("-", ""), {"dataset.name": DATASETS[name]}
  return (
    dsa(f"{label}: DSA", **data)._replace(name=f"{slug}-dsa"),
    other("KIP", f"{slug}-kip", f"{label}: KIP", **data),
    dm(f"{label}: DM", **data)._replace(name=f"{slug}-dm"),
    idc_i(f"{label}: IDC-I", **data)._replace(name=f"{slug}-idc-i"),
    idc(f"{label}: IDC", **data)._replace(name=f"{slug}-idc"),
  )


# --- Table 12 ----------------------------------------------------------------------------------

# ConvNet-3 of the usual width, whatever has condensed.
_CONVNET_3 = {"evaluation.architectures": ("convnet:width=128:depth=3",)}


def _by(label: str, **network: Any) -> Line:
  """A column of the network that condenses, with instance norm."""
  return idc_i(label, **{f"network.{name}": value for name, value in network.items()})


TABLES = (
  Table(
    name="idc/8",
    title="IDC, Table 8: uniform and multi-scale formation, CIFAR-10",
    headings=("Pixel/Class", "Test Model"),
    base=CIFAR | {"method": "idc"},
    rows=by_pixels({10: "0.2%", 50: "1.0%"}, _BOTH),
    columns=(
      line("Uniform (default)", fields={"formation.name": "uniform"}, name="uniform"),
      line("Multi-Scale", fields={"formation.name": "multi_scale"}),
    ),
    figures=figures("""
      67.5 69.2
      63.5 64.8
      74.5 73.1
      72.4 69.7
    """),
    sets=1,
  ),
  Table(
    name="idc/9",
    title="IDC, Table 9: learnable formation, 10 images per class of CIFAR-10",
    headings=("Test Model",),
    base=CIFAR | {"method": "idc", "ipc": 10},
    rows=tuple(line(label, fields=TESTED[SHORT[label]]) for label in ("CN", "RN")),
    columns=tuple(
      line(
        f"Factor {factor}: {label}",
        fields={"formation.factor": factor, "formation.name": name},
        name=f"{label.lower()}-{factor}",
      )
      for factor in (2, 3)
      for label, name in (("Upsample", "uniform"), ("FSRCNN", "learnable"))
    ),
    figures=figures("""
      67.5 66.2 66.7 67.9
      63.5 62.0 60.6 64.4
    """),
    sets=1,
  ),
  Table(
    name="idc/10",
    title="IDC, Table 10: other datasets, ConvNet-3",
    headings=("Img/Cls",),
    base=BASE,
    rows=tuple(line(str(ipc), fields={"ipc": ipc}) for ipc in (1, 10, 50)),
    columns=tuple(column for label, name in _OF.items() for column in _of_dataset(label, name)),
    figures=figures("""
      27.5 39.5 24.2 46.7 68.5 88.7 90.1 89.7 88.9 94.2 70.6 73.5 70.0 70.7 81.0 28.8 38.6 28.9 36.7 50.6
      79.2 64.2 72.0 77.0 87.5 97.8 97.5 97.5 98.0 98.4 84.6 86.8 84.8 85.3 86.0 52.1 49.2 53.8 58.3 67.5
      84.4 73.2 84.3 87.9 90.1 99.2 98.3 98.6 98.8 99.1 88.7 88.0 88.6 89.1 86.2 60.6 56.7 65.6 69.5 74.5
    """),  # noqa: E501
    sets=1,
  ),
  Table(
    name="idc/11",
    title="IDC, Table 11: strong augmentation (S.A.), 50 images per class of CIFAR-10",
    headings=("Evaluation",),
    base=CIFAR | {"ipc": 50},
    rows=(
      line("w/o S.A.", fields=_TESTED_WEAKLY, name="without"),
      line("w/ S.A.", fields={"evaluation.protocol": "idc"}, name="with"),
    ),
    columns=(
      coreset("Random"),
      coreset("Herding"),
      line("DSA", fields={"method": "dsa"}),
      other("KIP"),
      dm(),
      idc_i("IDC-I w/o S.A.", **_WEAK)._replace(name="idc-i-without"),
      idc_i(),
      idc("IDC w/o S.A.", **_WEAK)._replace(name="idc-without"),
      idc(),
    ),
    figures=figures("""
      54.7 57.5 60.6 55.8 63.0 67.4 68.6 72.8 73.5
      56.5 59.8 59.5 57.9 65.6 67.0 69.5 74.3 74.5
    """),
    sets=1,
  ),
  Table(
    name="idc/12",
    title="IDC, Table 12: networks that condense, IDC-I, 10 images per class of CIFAR-10",
    headings=("Test Model",),
    base=CIFAR | {"ipc": 10},
    rows=(
      line("ConvNet-3", fields=_CONVNET_3),
      line("ResNet-10", fields=TESTED["ResNet-10"]),
    ),
    columns=(
      _by("CN"),
      _by("CN-W", width=256),
      _by("CN-D", depth=4),
      _by("RN", name="resnet10", init="fan_out"),
      _by("RNAP", name="resnet10_ap", init="fan_out"),
    ),
    figures=figures("""
      58.3 58.8 56.6 51.4 53.5
      50.2 50.5 48.7 47.5 48.8
    """),
    sets=1,
  ),
  Table(
    name="idc/13",
    title="IDC, Table 13: multi-formation with DM, CIFAR-10",
    headings=("Pixel/Class", "Test Model"),
    base=CIFAR,
    rows=by_pixels({50: "1.0%"}, _BOTH),
    columns=(dm(), dm("DM+MF", **{"formation.factor": 2}), idc()),
    figures=figures("""
      65.6 68.4 74.5
      58.6 63.1 72.4
    """),
    sets=1,
  ),
  Table(
    name="idc/14",
    title="IDC, Table 14: ZCA whitening, CIFAR-10, ConvNet-3",
    headings=("Pixel/Class",),
    base=CIFAR | CONVNET,
    rows=tuple(line(f"{n}×32×32", fields={"ipc": n}, name=str(n)) for n in (10, 50)),
    columns=(
      idc("IDC w/o S.A. + ZCA", **_WEAK, **_TESTED_WEAKLY, **{"dataset.zca": True})._replace(
        name="idc-without-zca"
      ),
      idc("IDC + ZCA", **{"dataset.zca": True}),
      idc(),
    ),
    figures=figures("""
      66.6 66.7 67.5
      72.0 72.5 74.5
    """),
    sets=1,
    note="w/o S.A.: neither the networks that condense nor those that are tested see CutMix.",
  ),
)
