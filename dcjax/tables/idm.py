"""The tables of IDM: Zhao et al. (CVPR 2023), and its Figures 5 to 7.

The figures are of one set and of five networks (section 5.1). ImageNet's settings are those of
configs/imagenet.py, with a ConvNet of six blocks for all methods.
"""

from collections.abc import Mapping
from typing import Any

from dcjax.tables.definition import Fields, Line, Table, figures, line
from dcjax.tables.parts import (
  CONDENSED_ON,
  TRAINED_ON,
  WHOLE_COLUMN,
  cross,
  dataset_fields,
  imagenet,
  method,
  other,
)

_BASE: dict[str, Any] = {"evaluation.networks": 5}
_IMAGENET = "ImageNet Subset"
_SUBSET = "idm100"  # a hundred classes, of configs/imagenet.py
_RATIOS: dict[str, tuple[str, ...]] = {
  "CIFAR-10": ("0.02", "0.2", "1"),
  "CIFAR-100": ("0.2", "2", "10"),
  "TinyImageNet": ("0.2", "2", "10"),
  _IMAGENET: ("0.08", "0.8", "4"),
}
_NAMES = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", _IMAGENET: "imagenet"}
# Herding by a network that has been trained for 40 epochs, forgetting by one of 5, and all of them
# evaluated with the augmentation of DC (supplement, section 1), for 1000 epochs (section 5.1)
_CORESETS: dict[str, dict[str, Any]] = {
  "random": {},
  "herding": {"training.epochs": 40},
  "forgetting": {"training.epochs": 5},
}
_EVALUATED: dict[str, Any] = {"evaluation.augmentation": "dc", "evaluation.epochs": 1000}


def _data(label: str, ipc: int) -> dict[str, Any]:
  """The fields of a dataset that all methods have."""
  return imagenet(_SUBSET, ipc)[0] if label == _IMAGENET else dataset_fields(label)


def _columns() -> tuple[Line, ...]:
  """Those of Table 1: four datasets with 1, 10 and 50 images per class each."""
  return tuple(
    line(
      f"{label}, {ipc} ({ratio} %)",
      fields=_data(label, ipc) | {"ipc": ipc},
      name=f"{_NAMES.get(label, label.lower())}-{ipc}",
    )
    for label, ratios in _RATIOS.items()
    for ipc, ratio in zip((1, 10, 50), ratios, strict=True)
  )


def _special() -> dict[tuple[str, str], Fields]:
  """Single cells of Table 1: those of ImageNet."""
  cells: dict[tuple[str, str], Fields] = {}
  for ipc in (1, 10, 50):
    cells["idm", f"imagenet-{ipc}"] = imagenet(_SUBSET, ipc)[1]
    for name, trained in _CORESETS.items():
      cells[name, f"imagenet-{ipc}"] = _EVALUATED | trained
  return cells


# What Table 2 adds, one part after another.
_PARTS: dict[str, dict[str, Any]] = {
  "DM": {"method": "dm"},
  "+ Model Sampling": {"method": "idm", "formation.factor": 1, "regularisation": 0.0},
  "+ Distribution Regularization": {"method": "idm", "formation.factor": 1},
  "+ Augmentation": {"method": "idm"},
}


def _parts() -> tuple[tuple[Line, ...], dict[tuple[str, str], Fields]]:
  """The rows of Table 2, and what its cells of ImageNet have besides."""
  rows = tuple(line(label, fields=fields) for label, fields in _PARTS.items())
  own = imagenet(_SUBSET, 10)[1]
  return rows, {
    (row.name, "imagenet"): {**own, **row.fields} for row in rows if row.fields["method"] == "idm"
  }


_ABLATED, _ABLATED_ON_IMAGENET = _parts()
_TESTED = {name: TRAINED_ON[name] for name in ("ConvNet", "AlexNet", "VGG", "ResNet")}


def _condensed(label: str, method: str, **fields: Any) -> tuple[Line, ...]:
  """Rows of Table 5: a method on each network, with whole images.

  The networks are those of DC: as DM says (supplement, section 1.1), ResNet has batch norm, and
  pools where it would stride.
  """
  return tuple(
    line(label, name, fields={"method": method, **CONDENSED_ON[name], **fields}) for name in _TESTED
  )


def _chart(number: int, symbol: str, values: Mapping[str, Fields], note: str) -> Table:
  """A figure that the paper draws without numbers, as a table of one row."""
  return Table(
    name=f"idm/F{number}",
    title=f"IDM, Figure {number}: ablation of {symbol}, 10 images per class of CIFAR-100",
    headings=(symbol,),
    base=_BASE | {"method": "idm", "dataset.name": "cifar100", "ipc": 10},
    rows=(line("Accuracy"),),
    columns=tuple(line(label, fields=fields) for label, fields in values.items()),
    figures=figures(" ".join("?" for _ in values)),
    sets=1,
    note=note,
  )


_ARCHITECTURES = Table(
  name="idm/5",
  title="IDM, Table 5: cross-architecture performance, 10 images per class of CIFAR-10",
  headings=("", "C\\T"),
  base=_BASE | {"dataset.name": "cifar10", "ipc": 10},
  rows=(*_condensed("DM", "dm"), *_condensed("Ours", "idm", **{"formation.factor": 1})),
  columns=cross(_TESTED),
  figures=figures("""
    48.9±0.6 38.8±0.5 42.1±0.4 41.2±1.1
    34.4±0.3 28.8±1.1 31.6±0.6 31.4±0.3
    31.7±0.7 30.1±1.3 31.9±0.4 30.0±1.0
    35.5±0.3 31.3±0.3 32.6±0.7 35.3±0.9
    53.0±0.3 44.6±0.8 47.8±1.1 44.6±0.4
    44.8±0.5 41.4±1.4 43.1±0.6 41.0±0.1
    41.2±0.4 37.4±0.3 41.7±0.4 38.8±0.8
    38.3±0.4 37.0±0.7 39.0±0.1 39.0±0.4
  """),
  sets=1,
)

TABLES = (
  Table(
    name="idm/1",
    title="IDM, Table 1: comparison to coresets and condensation",
    headings=("Img/Cls (ratio)",),
    base=_BASE,
    rows=(
      method("Random", "random"),
      method("Herding", "herding"),
      method("Forgetting", "forgetting"),
      other("DD"),
      other("LD"),
      method("DC", "dc"),
      method("DSA", "dsa"),
      other("CAFE"),
      other("CAFE+DSA"),
      method("DM", "dm"),
      method("IDM (Ours)", "idm")._replace(name="idm"),
      WHOLE_COLUMN,
    ),
    columns=_columns(),
    figures=figures("""
      14.4±2.0 26.0±1.2 43.4±1.0 4.2±0.3 14.6±0.5 30.0±0.4 1.4±0.1 5.0±0.2 15.0±0.4 2.4±0.3 6.2±0.0 10.0±0.1
      21.5±1.2 31.6±0.7 40.4±0.6 8.4±0.3 17.3±0.3 33.7±0.5 2.8±0.2 6.3±0.2 16.7±0.3 3.0±0.2 8.3±0.1 14.8±0.4
      13.5±1.2 23.3±1.0 23.3±1.1 4.5±0.2 15.1±0.3 30.5±0.3 1.6±0.1 5.1±0.2 15.0±0.3 1.4±0.2 4.5±0.4 9.0±0.6
      - 36.8±1.2 - - - - - - - - - -
      25.7±0.7 38.3±0.4 42.5±0.4 11.5±0.4 - - - - - - - -
      28.3±0.5 44.9±0.5 53.9±0.5 12.8±0.3 25.2±0.3 - - - - - - -
      28.8±0.7 52.1±0.5 60.6±0.5 13.9±0.3 32.3±0.3 42.8±0.4 - - - - - -
      30.3±1.1 46.3±1.6 55.5±0.6 12.9±0.3 27.8±0.3 37.9±0.3 - - - - - -
      31.6±0.8 50.9±0.5 62.3±0.4 14.0±0.3 31.5±0.2 42.9±0.2 - - - - - -
      26.0±0.8 48.9±0.6 63.0±0.4 11.4±0.3 29.7±0.3 43.6±0.4 3.9±0.2 12.9±0.4 24.1±0.3 4.5±0.4 11.9±0.3 22.5±0.3
      45.6±0.7 58.6±0.1 67.5±0.1 20.1±0.3 45.1±0.1 50.0±0.2 10.1±0.2 21.9±0.2 27.7±0.3 11.2±0.5 17.1±0.6 26.3±0.4
      84.8±0.1 84.8±0.1 84.8±0.1 56.2±0.3 56.2±0.3 56.2±0.3 37.6±0.4 37.6±0.4 37.6±0.4 46.8±0.6 46.8±0.6 46.8±0.6
    """),  # noqa: E501
    special=_special(),
    sets=1,
  ),
  Table(
    name="idm/2",
    title="IDM, Table 2: ablation, 10 images per class",
    headings=("",),
    base=_BASE | {"ipc": 10},
    rows=_ABLATED,
    columns=(
      line("CIFAR100", fields=dataset_fields("CIFAR-100")),
      line(_IMAGENET, fields=_data(_IMAGENET, 10), name="imagenet"),
    ),
    figures=figures("""
      29.7±0.3 11.9±0.3
      32.0±0.5 10.8±0.7
      34.3±0.3 15.6±0.4
      45.1±0.1 17.1±0.6
    """),
    special=_ABLATED_ON_IMAGENET,
    sets=1,
  ),
  Table(
    name="idm/3",
    title="IDM, Table 3: number of partitions, 1 image per class of ImageNet Subset",
    headings=("Partition",),
    base=_BASE | _data(_IMAGENET, 1) | imagenet(_SUBSET, 1)[1] | {"method": "idm", "ipc": 1},
    rows=(line("Accuracy"),),
    columns=tuple(line(f"{n}×{n}", fields={"formation.factor": n}, name=str(n)) for n in (1, 2, 3)),
    figures=figures("5.4±0.1 11.2±0.5 10.7±0.7"),
    sets=1,
  ),
  _ARCHITECTURES._replace(
    name="idm/4",
    title="IDM, Table 4: cross-architecture performance, 10 images per class of CIFAR-10",
    rows=(_ARCHITECTURES.rows[0], *_ARCHITECTURES.rows[4:]),
    figures=(_ARCHITECTURES.figures[0], *_ARCHITECTURES.figures[4:]),
  ),
  _ARCHITECTURES,
  _chart(
    5,
    "lambda",
    {text: {"regularisation": float(text)} for text in ("0", "0.1", "0.25", "0.5", "1", "2")},
    "The values of lambda are dcjax' own: those of the paper are in its picture alone.",
  ),
  _chart(
    6,
    "K",
    {str(steps): {"queue.steps": steps} for steps in (10, 30, 50, 70, 90)},
    "The values of K are dcjax' own: those of the paper are in its picture alone.",
  ),
  _chart(
    7,
    "N_max",
    {str(size): {"queue.size": size} for size in (60, 80, 100, 120, 140)},
    "The values of N_max are those at the picture's axis.",
  ),
)
