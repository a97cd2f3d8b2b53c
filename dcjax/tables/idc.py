"""The tables of IDC: Kim et al. (ICML 2022).

The figures of Table 4 are printed without deviations, and without a word on how many sets and
networks they are of, or on when they were tested. Ours are of one set and of three networks, as in
the paper's other tables, after the last epoch.
"""

from typing import Any

from dcjax.config import presets
from dcjax.tables.definition import WHOLE, Line, Table, figures, line

_SHARED = presets.speech("random")  # by all columns


def _method(label: str, method: str, **fields: Any) -> Line:
  """A column of Table 4."""
  own = {name: value for name, value in presets.speech(method).items() if name not in _SHARED}
  chosen = presets.IDC_CORESETS.get(method, {})
  return line(label, fields={**own, **chosen, "method": method, **fields})


TABLES = (
  Table(
    name="idc/4",
    title="IDC, Table 4: condensed spectrograms, ConvNet-4",
    headings=("Spectrogram/Class",),
    base=_SHARED,
    rows=(
      line("10×64×64 (1%)", fields={"ipc": 10}, name="10"),
      line("20×64×64 (2%)", fields={"ipc": 20}, name="20"),
    ),
    columns=(
      _method("Rand.", "random"),
      _method("Herd.", "herding"),
      _method("DSA", "dsa"),
      _method("DM", "dm"),
      _method("IDC-I", "idc", **{"formation.factor": 1}),
      _method("IDC", "idc"),
      line("Full Dataset", fields={"method": WHOLE}, name="whole"),
    ),
    figures=figures("""
      42.6 56.2 65.0 69.1 73.3 82.9 93.4
      57.0 72.9 74.0 77.2 83.0 86.6 93.4
    """),
    sets=1,
  ),
)
