"""What IDC's tables have in common: its coresets, the networks that are tested, its methods.

The figures are of one set and of three networks (Tables 1 and 10; the others do not say). The paper
reports the best test of each network, and ours are after the last epoch.
"""

from typing import Any

from dcjax.config.presets import IDC_CORESETS
from dcjax.tables.definition import WHOLE, Line, line

BASE: dict[str, Any] = {"evaluation.protocol": "idc", "evaluation.networks": 3}
CIFAR: dict[str, Any] = BASE | {"dataset.name": "cifar10"}

CORESETS: dict[str, dict[str, Any]] = {
  label: {"method": name, **IDC_CORESETS[name]}
  for label, name in {"Random": "random", "Herding": "herding"}.items()
}

# The networks that are trained on a set. Those that do not condense have batch norm, and ResNets an
# initialisation of their own (authors' code).
CONVNET: dict[str, Any] = {"evaluation.architectures": ("convnet",)}
TESTED: dict[str, dict[str, Any]] = {
  "ConvNet-3": CONVNET,
  "ResNetAP-10": {"evaluation.architectures": ("resnet10_ap:init=fan_out",)},
  **{
    label: {"evaluation.architectures": (f"{name}:norm=batch:init={init}",)}
    for label, name, init in (
      ("ResNet-10", "resnet10", "fan_out"),
      ("DenseNet-121", "densenet121", "torch"),
      ("ResNet-18", "resnet18", "fan_out"),
      ("EfficientNet-B0", "efficientnet_b0", "torch"),
    )
  },
}
SHORT = {"CN": "ConvNet-3", "RN": "ResNet-10", "DN": "DenseNet-121"}  # names of Tables 2 and 9


def coreset(label: str) -> Line:
  """A column of a coreset."""
  return line(label, fields=CORESETS[label])


def dsa(label: str = "DSA", **more: Any) -> Line:
  """The column of DSA, with its own evaluation, for CutMix makes it worse (Appendix C.2)."""
  return line(label, fields={"method": "dsa", "evaluation.protocol": "dsa", **more})


def dm(label: str = "DM", **more: Any) -> Line:
  """A column of DM, evaluated as IDC."""
  return line(label, fields={"method": "dm", **more})


def idc(label: str = "IDC", **more: Any) -> Line:
  """A column of IDC."""
  return line(label, fields={"method": "idc", **more})


def idc_i(label: str = "IDC-I", **more: Any) -> Line:
  """A column of IDC-I, whose images are whole."""
  return idc(label, **{"formation.factor": 1, **more})


FULL = line("Full dataset", fields={"method": WHOLE}, name="whole")


def by_pixels(ratios: dict[int, str], networks: tuple[str, ...]) -> tuple[Line, ...]:
  """Rows of so many 32x32 images per class, each on some networks.

  Args:
    ratios: percent of the dataset, by images per class.
    networks: of `TESTED`.
  """
  return tuple(
    line(
      f"{ipc}×32×32 ({ratio})",
      label,
      fields={"ipc": ipc, **TESTED[label]},
      name=f"{ipc}-{label.lower()}",
    )
    for ipc, ratio in ratios.items()
    for label in networks
  )


def on_networks(*networks: str) -> tuple[Line, ...]:
  """Rows of networks alone."""
  return tuple(line(label, fields=TESTED[label]) for label in networks)
