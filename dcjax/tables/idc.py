"""The tables of IDC's main text: Kim et al. (ICML 2022); see `idc_parts`."""

from typing import Any

from dcjax.config import presets
from dcjax.tables.definition import SHRINK, WHOLE, Fields, Line, Table, figures, line
from dcjax.tables.idc_parts import (
  BASE,
  CIFAR,
  CORESETS,
  FULL,
  SHORT,
  TESTED,
  by_pixels,
  coreset,
  dm,
  dsa,
  idc,
  idc_i,
  on_networks,
)
from dcjax.tables.parts import imagenet, other

# --- Table 2 -----------------------------------------------------------------------------------


def _same_steps() -> tuple[Line, ...]:
  """Its rows; the time is the paper's, of an RTX-3090."""
  times = {(10, "0.2%"): ("10s", "20s", "100s"), (50, "1%"): ("50s", "90s", "400s")}
  return tuple(
    line(
      ratio, label, time, fields={"ipc": ipc, **TESTED[SHORT[label]]}, name=f"{ipc}-{label.lower()}"
    )
    for (ipc, ratio), seconds in times.items()
    for label, time in zip(SHORT, seconds, strict=True)
  )


# --- Table 3 -----------------------------------------------------------------------------------

_ON_IMAGENET = ("ResNetAP-10", "ResNet-18", "EfficientNet-B0")
_SIZES = tuple((classes, ipc) for classes in (10, 100) for ipc in (10, 20))
_RATIOS = {10: "0.8%", 20: "1.6%"}


def _imagenet_rows() -> tuple[Line, ...]:
  return tuple(
    line(
      str(classes),
      f"{ipc}×224×224 ({_RATIOS[ipc]})",
      label,
      fields={**imagenet(f"idc{classes}", ipc)[0], "ipc": ipc, **TESTED[label]},
      name=f"{classes}-{ipc}-{label.lower()}",
    )
    for classes, ipc in _SIZES
    for label in _ON_IMAGENET
  )


def _imagenet_special() -> dict[tuple[str, str], Fields]:
  """What IDC has of its own for these classes."""
  return {
    (f"{classes}-{ipc}-{label.lower()}", column): {**imagenet(f"idc{classes}", ipc)[1], **more}
    for classes, ipc in _SIZES
    for label in _ON_IMAGENET
    for column, more in {"idc": {}, "idc-i": {"formation.factor": 1}}.items()
  }


# --- Table 4 -----------------------------------------------------------------------------------

_SPEECH = presets.speech("random")  # by all columns


def _speech(label: str, method: str, **fields: Any) -> Line:
  """A column of Table 4."""
  own = {name: value for name, value in presets.speech(method).items() if name not in _SPEECH}
  return line(label, fields={**own, "method": method, **fields})


# --- Tables 5 and 7 ------------------------------------------------------------------------------

# Networks whose training has neither a sequence of transforms nor CutMix.
_PLAIN = {"training.draw": "one", "training.cutmix": 0.0}


def _ablation(label: str, data: str, distance: str, **fields: Any) -> Line:
  return idc_i(label, **{"training.data": data, "distance": distance, **fields})


def _factors() -> tuple[tuple[Line, ...], dict[tuple[str, str], Fields]]:
  """The rows of Table 7, and what the cells of ImageNet-10 have besides."""
  shared, own = imagenet("idc10", 20)
  own.pop("formation.factor", None)
  cifar = {"dataset.name": "cifar10", "ipc": 50}
  rows = (
    *(
      line("CIFAR-10 (50×32×32)", label, fields=cifar | TESTED[label], name=f"cifar10-{name}")
      for label, name in (("ConvNet-3", "convnet"), ("ResNet-10", "resnet10"))
    ),
    *(
      line(
        "ImageNet-10 (20×224×224)",
        label,
        fields=shared | {"ipc": 20} | TESTED[label],
        name=f"imagenet10-{name}",
      )
      for label, name in (("ResNetAP-10", "resnetap10"), ("ResNet-18", "resnet18"))
    ),
  )
  return rows, {(row.name, str(factor)): own for row in rows[2:] for factor in (1, 2, 3, 4)}


_FACTORS, _FACTORS_ON_IMAGENET = _factors()

TABLES = (
  Table(
    name="idc/1",
    title="IDC, Table 1: condensed datasets from CIFAR-10, by ConvNet-3",
    headings=("Pixel/Class", "Test Model"),
    base=CIFAR,
    rows=by_pixels({10: "0.2%", 50: "1%"}, ("ConvNet-3", "ResNet-10", "DenseNet-121")),
    columns=(
      coreset("Random"),
      coreset("Herding"),
      dsa(),
      other("KIP"),
      dm(),
      idc_i(),
      idc(),
      FULL,
    ),
    figures=figures("""
      37.2 41.7 52.1 49.2 53.8 58.3±0.3 67.5±0.5 88.1
      34.1 35.9 32.9 - 42.3 50.2±0.4 63.5±0.1 92.7
      36.5 36.7 34.5 - 39.0 49.5±0.6 61.6±0.6 94.2
      56.5 59.8 60.6 56.7 65.6 69.5±0.3 74.5±0.1 88.1
      51.2 56.5 49.7 - 58.6 65.7±0.7 72.4±0.5 92.7
      55.8 59.0 49.1 - 57.4 63.1±0.2 71.8±0.6 94.2
    """),
    sets=1,
  ),
  Table(
    name="idc/2",
    title="IDC, Table 2: fixed training steps, CIFAR-10",
    headings=("Pixel Ratio", "Test Model", "Evaluation Time"),
    base=CIFAR,
    rows=_same_steps(),
    columns=(dsa(), other("KIP"), dm(), idc_i(), idc("IDC", **{"evaluation.same_steps": True})),
    figures=figures("""
      52.1 49.1 53.8 58.3 65.3
      32.9 40.8 42.3 50.2 57.7
      34.5 42.1 39.0 49.5 60.6
      60.6 57.9 65.6 69.5 73.6
      49.7 52.9 58.6 65.7 72.3
      49.1 54.4 57.4 63.1 71.6
    """),
    sets=1,
    note="Evaluation Time: the paper's, on an RTX-3090.",
  ),
  Table(
    name="idc/3",
    title="IDC, Table 3: condensed datasets from ImageNet-subset, by ResNetAP-10",
    headings=("Class", "Pixel/Class", "Test Model"),
    base=BASE,
    rows=_imagenet_rows(),
    columns=(
      coreset("Random"),
      coreset("Herding"),
      line("DSA", fields={"method": "dsa"}),  # all are evaluated alike (Table 3)
      dm(),
      idc_i(),
      idc(),
      FULL,
    ),
    figures=figures("""
      46.9 50.4 52.7 52.3 61.4±0.8 72.8±0.6 90.8
      43.3 47.0 44.1 41.7 56.2±1.2 73.6±0.4 93.6
      46.3 50.2 48.3 45.0 58.7±1.4 74.7±0.5 95.9
      51.8 57.5 57.4 59.3 65.5±1.0 76.6±0.4 90.8
      54.3 57.9 56.9 53.7 66.0±0.7 75.7±1.0 93.6
      60.3 59.0 62.5 57.7 66.3±0.5 78.1±1.0 95.9
      20.7 22.6 21.8 22.3 29.2±0.4 46.7±0.2 82.0
      15.7 15.9 13.5 15.8 23.3±0.3 40.1±0.5 84.6
      22.4 24.5 19.9 20.7 27.7±0.6 36.3±0.6 85.6
      29.7 31.1 30.7 30.4 34.5±0.1 53.7±0.9 82.0
      24.3 23.4 20.0 23.4 29.8±0.2 46.4±1.6 84.6
      33.2 35.6 30.6 31.0 33.2±0.5 49.6±1.2 85.6
    """),
    special=_imagenet_special(),
    sets=1,
  ),
  Table(
    name="idc/4",
    title="IDC, Table 4: condensed spectrograms, ConvNet-4",
    headings=("Spectrogram/Class",),
    base=_SPEECH,
    rows=(
      line("10×64×64 (1%)", fields={"ipc": 10}, name="10"),
      line("20×64×64 (2%)", fields={"ipc": 20}, name="20"),
    ),
    columns=(
      _speech("Rand.", **CORESETS["Random"]),
      _speech("Herd.", **CORESETS["Herding"]),
      _speech("DSA", "dsa"),
      _speech("DM", "dm"),
      _speech("IDC-I", "idc", **{"formation.factor": 1}),
      _speech("IDC", "idc"),
      line("Full Dataset", fields={"method": WHOLE}, name="whole"),
    ),
    figures=figures("""
      42.6 56.2 65.0 69.1 73.3 82.9 93.4
      57.0 72.9 74.0 77.2 83.0 86.6 93.4
    """),
    sets=1,
  ),
  Table(
    name="idc/5",
    title="IDC, Table 5: ablation of IDC-I, 50 images per class of CIFAR-10",
    headings=("Test Model",),
    base=CIFAR | {"ipc": 50},
    rows=on_networks("ConvNet-3", "ResNet-10"),
    columns=(
      dsa("Syn+Cos (DSA)"),
      _ablation("Syn+MSE", "synthetic", "mse", **_PLAIN),
      _ablation("Real+Cos", "real", "ours", **_PLAIN),
      _ablation("Real+MSE", "real", "mse", **_PLAIN),
      _ablation("Real+Reg.+MSE (Ours)", "real", "mse"),
    ),
    figures=figures("""
      60.6 25.8 63.4 67.0 69.5
      49.7 25.7 59.1 61.6 65.7
    """),
    sets=1,
  ),
  Table(
    name="idc/6",
    title="IDC, Table 6: comparison to downsampling afterwards, CIFAR-10",
    headings=("Test Model",),
    base=CIFAR,
    rows=on_networks("ConvNet-3", "ResNet-10"),
    columns=(
      idc("IDC (50×32×32)", ipc=50)._replace(name="idc"),
      idc_i("IDC-I-post (200×16×16)", ipc=200, **{SHRINK: 2})._replace(name="idc-i-post"),
      idc_i("IDC-I (200×32×32)", ipc=200)._replace(name="idc-i"),
    ),
    figures=figures("""
      74.5 68.8 76.6
      72.4 63.1 74.9
    """),
    sets=1,
  ),
  Table(
    name="idc/7",
    title="IDC, Table 7: multi-formation factors",
    headings=("Dataset (Pixel/Class)", "Test Model"),
    base=BASE | {"method": "idc"},
    rows=_FACTORS,
    columns=tuple(line(str(n), fields={"formation.factor": n}) for n in (1, 2, 3, 4)),
    figures=figures("""
      69.5 74.5 68.9 62.0
      65.7 72.4 62.9 59.1
      65.5 73.3 76.6 77.5
      66.0 70.8 75.7 75.2
    """),
    special=_FACTORS_ON_IMAGENET,
    sets=1,
  ),
)
