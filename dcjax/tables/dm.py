"""The tables of DM: Zhao and Bilen (WACV 2023).

The figures of DSA are those of DSA, but for CIFAR100 at 50 images per class, which the authors of
DM ran themselves with 10 outer and 10 inner steps (supplement, section 1.1). IDM's Table 1 quotes
DM's with their deviations. Coresets on these datasets are in `dc/1` and `idm/1`. With batch norm
the paper has fewer cells than are offered here (its Tables 2 and 3), which were not to be had.
"""

from typing import Any

from dcjax.tables.definition import Line, Table, figures, line
from dcjax.tables.parts import dataset_fields, method, other

_DATASETS = ("MNIST", "CIFAR10", "CIFAR100", "TinyImageNet")


def _batch_norm(label: str, name: str) -> Line:
  """A column of batch norm in ConvNet, where it condenses and where it is trained on the set."""
  fields: dict[str, Any] = {
    "method": name,
    "network.norm": "batch",
    "evaluation.architectures": ("convnet:norm=batch",),
  }
  return line(label, fields=fields)


TABLES = (
  Table(
    name="dm/1",
    title="DM, Table 1: distribution matching beside DSA, also with batch norm",
    headings=("", "Img/Cls"),
    base={},
    rows=tuple(
      line(
        label,
        str(ipc),
        fields=dataset_fields(label) | {"ipc": ipc},
        name=f"{label.lower()}-{ipc}",
      )
      for label in _DATASETS
      for ipc in (1, 10, 50)
    ),
    columns=(
      method("DSA", "dsa"),
      method("DM", "dm"),
      _batch_norm("DSA (batch norm)", "dsa"),
      _batch_norm("DM (batch norm)", "dm"),
    ),
    figures=figures("""
      88.7±0.6 89.7 ? ?
      97.8±0.1 97.5 ? ?
      99.2±0.1 98.6±0.1 ? ?
      28.8±0.7 26.0±0.8 ? ?
      52.1±0.5 48.9±0.6 ? ?
      60.6±0.5 63.0±0.4 ? ?
      13.9±0.3 11.4±0.3 ? ?
      32.3±0.3 29.7±0.3 ? ?
      42.8±0.4 43.6±0.4 ? ?
      - 3.9±0.2 - ?
      - 12.9±0.4 - ?
      - 24.1±0.3 - ?
    """),
    note="Batch norm: in the paper for some of these cells only; its supplement (section 1.1) says "
    "how, but has no figures.",
  ),
  Table(
    name="dm/T1",
    title="DM, Table T1: generative models and the MMD baseline on CIFAR10",
    headings=("Img/cls",),
    base={"dataset.name": "cifar10"},
    rows=tuple(line(str(ipc), fields={"ipc": ipc}) for ipc in (1, 10, 50)),
    columns=(
      method("Random", "random"),
      other("GMMN"),
      other("VAE"),
      other("BigGAN"),
      # A linear kernel on pixels (supplement, section 2.2)
      line("MMD", fields={"method": "dm", "embedding": "pixels", "dsa.scheme": "none"}),
      method("DM", "dm"),
    ),
    figures=figures("""
      14.4±2.0 16.1±2.0 15.7±2.1 15.8±1.2 22.7±0.6 26.0±0.8
      26.0±1.2 32.2±1.3 29.8±1.0 31.0±1.4 34.9±0.3 48.9±0.6
      43.4±1.0 45.3±1.0 44.0±0.8 46.2±0.9 50.9±0.3 63.0±0.4
    """),
  ),
)
