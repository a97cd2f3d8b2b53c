"""How figures look, in a file and in a notebook."""

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from dcjax.common.files import writing

STYLE: dict[Any, Any] = {
  "font.size": 9,
  "axes.titlesize": 9,
  "axes.labelsize": 9,
  "xtick.labelsize": 9,
  "ytick.labelsize": 9,
  "legend.fontsize": 9,
  "legend.frameon": False,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.linewidth": 0.8,
  "lines.linewidth": 1.3,
  "lines.markersize": 4,
  "errorbar.capsize": 2,
  "pdf.fonttype": 42,  # TrueType, which stays text that can be searched and edited
}
DPI = 200
# Of Okabe and Ito, told apart by the colour-blind; the yellow is left out, white paper hides it.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREYS = ("#000000", "#7F7F7F")
MARKERS = "osD^vPX"
LOG_RANGE = 30  # from this ratio of the largest to the least value on, an axis is logarithmic


class Drawing(Figure):
  """A figure that a notebook displays, whether or not it was told to display matplotlib's."""

  def _repr_png_(self) -> bytes:
    stream = io.BytesIO()
    with matplotlib.rc_context(STYLE):
      self.savefig(stream, format="png", bbox_inches="tight", dpi=DPI / 2)
    return stream.getvalue()


@matplotlib.rc_context(STYLE)
def save(figure: Figure, file: Path) -> None:
  """Writes a figure atomically, in the format of the file's suffix, without a date."""
  metadata = {"CreationDate": None} if file.suffix == ".pdf" else None
  with writing(file, "wb") as stream:
    figure.savefig(
      stream, format=file.suffix[1:], bbox_inches="tight", pad_inches=0.05, metadata=metadata
    )
