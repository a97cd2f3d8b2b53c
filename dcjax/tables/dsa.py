"""The tables of DSA: Zhao and Bilen (ICML 2021).

The figures of coresets, DC and the whole set are those of DC, and so are their experiments.
"""

from dcjax.tables.definition import Line, Table, figures, line
from dcjax.tables.parts import (
  WHOLE_COLUMN,
  cross_architecture,
  dataset_fields,
  dataset_rows,
  method,
  other,
)


def _scheme(label: str, real: str, synthetic: str, test: str, scheme: str) -> Line:
  """A row of Table 4; networks are trained with the same transform, or with none."""
  untrained = {"evaluation.augmentation": "none"} if test == "-" else {}
  fields = {"dsa.scheme": scheme, **untrained}
  return line(label, real, synthetic, test, fields=fields, name=label.strip("()").lower())


def _strategy(label: str, strategy: str) -> Line:
  """A column of a strategy; networks are trained with the same one."""
  return line(label, fields={"dsa.strategy": strategy})


_SINGLE = (
  _strategy("Crop", "crop"),
  _strategy("Flip", "flip"),
  _strategy("Scale", "scale"),
  _strategy("Rotation", "rotate"),
)

TABLES = (
  Table(
    name="dsa/1",
    title="DSA, Table 1: comparison to coreset selection and training set synthesis",
    headings=("", "Img/Cls", "Ratio %"),
    base={},
    rows=dataset_rows(),
    columns=(
      method("Random", "random"),
      method("Herding", "herding"),
      method("Forgetting", "forgetting"),
      other("DD"),
      other("LD"),
      method("DC", "dc"),
      method("DSA", "dsa"),
      WHOLE_COLUMN,
    ),
    figures=figures("""
      64.9±3.5 89.2±1.6 35.5±5.6 - 60.9±3.2 91.7±0.5 88.7±0.6 99.6±0.0
      95.1±0.9 93.7±0.3 68.1±3.3 79.5±8.1 87.3±0.7 97.4±0.2 97.8±0.1 99.6±0.0
      97.9±0.2 94.8±0.2 88.2±1.2 - 93.3±0.3 98.8±0.2 99.2±0.1 99.6±0.0
      51.4±3.8 67.0±1.9 42.0±5.5 - - 70.5±0.6 70.6±0.6 93.5±0.1
      73.8±0.7 71.1±0.7 53.9±2.0 - - 82.3±0.4 84.6±0.3 93.5±0.1
      82.5±0.7 71.9±0.8 55.0±1.1 - - 83.6±0.4 88.7±0.2 93.5±0.1
      14.6±1.6 20.9±1.3 12.1±1.7 - - 31.2±1.4 27.5±1.4 95.4±0.1
      35.1±4.1 50.5±3.3 16.8±1.2 - - 76.1±0.6 79.2±0.5 95.4±0.1
      70.9±0.9 72.6±0.8 27.2±1.5 - - 82.3±0.3 84.4±0.4 95.4±0.1
      14.4±2.0 21.5±1.2 13.5±1.2 - 25.7±0.7 28.3±0.5 28.8±0.7 84.8±0.1
      26.0±1.2 31.6±0.7 23.3±1.0 36.8±1.2 38.3±0.4 44.9±0.5 52.1±0.5 84.8±0.1
      43.4±1.0 40.4±0.6 23.3±1.1 - 42.5±0.4 53.9±0.5 60.6±0.5 84.8±0.1
    """),
  ),
  Table(
    name="dsa/2",
    title="DSA, Table 2: comparison on CIFAR100",
    headings=("Img/Cls",),
    base={"dataset.name": "cifar100"},
    rows=(line("1", fields={"ipc": 1}), line("10", fields={"ipc": 10})),
    columns=(
      method("Random", "random"),
      method("Herding", "herding"),
      other("LD"),
      method("DC", "dc"),
      method("DSA", "dsa"),
      WHOLE_COLUMN,
    ),
    figures=figures("""
      4.2±0.3 8.4±0.3 11.5±0.4 12.8±0.3 13.9±0.3 56.2±0.3
      14.6±0.5 17.3±0.3 - 25.2±0.3 32.3±0.3 56.2±0.3
    """),
  ),
  cross_architecture(
    "dsa/3",
    "DSA, Table 3: cross-architecture performance",
    "dsa",
    """
      76.5±1.2 73.1±3.6 80.4±2.9 78.2±6.4 58.7±6.5 78.7±3.9
      75.6±1.1 88.8±0.8 84.8±1.5 84.7±1.5 83.5±1.7 89.3±0.8
      76.5±0.9 86.6±1.5 83.9±1.6 83.9±1.2 81.1±2.3 88.2±0.9
      76.1±0.8 87.6±0.8 84.2±1.6 84.6±1.7 82.0±2.1 88.8±0.8
      75.8±1.0 88.9±0.7 84.5±1.6 85.0±1.4 83.2±1.9 88.9±1.0
      75.8±1.0 88.6±0.8 84.8±1.7 84.8±1.2 82.4±1.9 89.5±1.0
    """,
  ),
  Table(
    name="dsa/4",
    title="DSA, Table 4: augmentation schemes, 10 images per class of CIFAR10",
    headings=("", "Condense: Real", "Condense: Synthetic", "Test: Synthetic"),
    base={"method": "dsa", "dataset.name": "cifar10", "ipc": 10},
    rows=(
      _scheme("Ours", "A_ω", "A_ω", "A", "siamese"),
      _scheme("(A)", "-", "-", "-", "none"),
      _scheme("(B)", "-", "-", "A", "none"),
      _scheme("(C)", "A", "-", "A", "real"),
      _scheme("(D)", "-", "A", "A", "synthetic"),
      _scheme("(E)", "A_ω", "A_ω", "-", "siamese"),
      _scheme("(F)", "A", "A", "A", "independent"),
    ),
    columns=_SINGLE,
    figures=figures("""
      49.1±0.6 47.9±0.7 46.9±0.5 46.8±0.6
      45.5±0.6 45.5±0.6 45.5±0.6 45.5±0.6
      46.9±0.6 46.1±0.6 45.7±0.5 45.0±0.5
      42.8±0.7 46.2±0.6 44.5±0.6 44.5±0.6
      44.6±0.7 46.8±0.6 45.4±0.6 45.9±0.7
      43.4±0.5 46.4±0.6 45.7±0.6 46.3±0.5
      44.5±0.5 46.9±0.6 45.7±0.5 45.8±0.5
    """),
  ),
  Table(
    name="dsa/5",
    title="DSA, Table 5: augmentation strategies, 10 images per class",
    headings=("", "Img/Cls"),
    base={"method": "dsa", "ipc": 10},
    rows=tuple(
      line(label, "10", fields=dataset_fields(label), name=label.lower())
      for label in ("MNIST", "FashionMNIST", "SVHN", "CIFAR10")
    ),
    columns=(
      line("None", fields={"dsa.scheme": "none", "evaluation.augmentation": "none"}),
      _strategy("Color", "color"),
      _strategy("Crop", "crop"),
      _strategy("Cutout", "cutout"),
      _strategy("Flip", "flip"),
      _strategy("Scale", "scale"),
      _strategy("Rotate", "rotate"),
      line("Combination"),
    ),
    figures=figures("""
      96.4±0.1 96.5±0.1 97.2±0.1 96.5±0.1 - 97.2±0.1 97.2±0.1 97.8±0.1
      82.5±0.3 82.9±0.3 83.3±0.3 84.0±0.3 83.1±0.2 84.0±0.4 83.1±0.3 84.6±0.3
      76.7±0.6 77.4±0.5 75.9±0.8 73.1±0.6 - 78.0±0.5 77.4±0.4 79.2±0.5
      45.5±0.6 47.6±0.5 49.1±0.6 48.1±0.5 47.9±0.7 46.9±0.5 46.8±0.6 52.1±0.5
    """),
  ),
)
