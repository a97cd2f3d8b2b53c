"""Condenses CIFAR-10 with every method for the same wall time: see `README.md` here.

python -m benchmarks.equal_time --data_dir DATA --out FOLDER [--seconds 60 --seconds 300 ...]
  [--ipc 1 --ipc 10] [--methods dm --methods idc ...] [--real 64] [--networks 3] [--epochs 300]
  [--own]

With several times, a run goes on from one to the next, and is evaluated at each. What the folder
holds already is not done again. A picture of accuracy against time is `accuracy.png` in it. The
experts of `mtt` are trained first, in a folder of their own; their time is not in that of the run.
"""

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
from absl import app, flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import budget, report
from dcjax.commands.condense import condense
from dcjax.commands.experts import experts
from dcjax.common import environment
from dcjax.figures import style
from dcjax.figures.accuracies import percent
from dcjax.run.workdir import write_json

# Real images, as IDC starts from them: one in a stored image, or four.
STARTS = {"random": "idc_i", "random_tiled": "idc"}
HEADER = (
  "method", "ipc, decoded", "s", "iterations",
  "last epoch (%)", "best epoch (%)", "own protocol (%)",
)  # fmt: skip
METHODS = [*STARTS, "dm", "dsa", "idc_i", "idm", "idc"]
# At the papers' full budgets, for 1 and 10 images per class (DSA 1, DM's supplement, IDC 1, IDM 1,
# and the later papers' own)
PUBLISHED = {
  "dc": {1: 28.3, 10: 44.9},
  "dm": {1: 26.0, 10: 48.9},
  "dsa": {1: 28.8, 10: 52.1},
  "idc_i": {1: 36.7, 10: 58.3},
  "idm": {1: 45.6, 10: 58.6},
  "idc": {1: 50.6, 10: 67.5},
  "cafe": {1: 30.3, 10: 46.3},
  "mtt": {1: 46.2, 10: 65.4},
  "rat_bptt": {1: 53.2, 10: 69.4},
  "frepo": {1: 46.8, 10: 65.5},
  "rcig": {1: 53.9, 10: 69.1},
}

METHOD = flags.DEFINE_multi_enum(
  "methods", METHODS, [*STARTS, *budget.PRESETS], "What to condense with."
)
IPC = flags.DEFINE_multi_integer("ipc", [1, 10], "Stored images of a class.")
SECONDS = flags.DEFINE_multi_float("seconds", [300], "Of iterations, without compilation.")
REAL = flags.DEFINE_integer("real", 64, "Real images of a class in one step.")
NETWORKS = flags.DEFINE_integer("networks", 3, "To evaluate each set with.")
EPOCHS = flags.DEFINE_integer("epochs", 300, "Of the evaluation.")
OWN = flags.DEFINE_bool("own", False, "Whether the last sets are evaluated by their methods, too.")
DATA = flags.DEFINE_string("data_dir", None, "Folder of TFDS.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder for runs and figures.", required=True)


def row(method: str, ipc: int, seconds: float) -> dict[str, Any]:
  """Condenses and evaluates; the `random` rows are the sets that IDC's runs start from."""
  maker = STARTS.get(method, method)
  config = budget.preset(maker, ipc, REAL.value)
  config.dataset.data_dir = DATA.value
  config.iterations, config.evaluation.networks = budget.FOREVER, 0
  folder, start = Path(OUT.value) / f"{maker}-{ipc}", method in STARTS
  about: dict[str, Any] = {}
  if "experts" in config:
    config.experts.folder = str(Path(OUT.value) / "experts")
    about["experts"] = experts(config, config.experts.folder)["experts"]
  summary = condense(config, folder, 0 if start else seconds)
  kept = Path(OUT.value) / f"{name(method, ipc, seconds)}.npz"  # the run goes on after it
  shutil.copyfile(folder / ("images/000000.npz" if start else "synthetic.npz"), kept)
  if OWN.value and not start and seconds == max(SECONDS.value):
    about["own"] = budget.own_accuracy(kept, NETWORKS.value, DATA.value)
  return about | {
    "method": method,
    "ipc": ipc,
    "limit": 0 if start else seconds,
    "iterations": 0 if start else summary["iterations"],
    "seconds": 0 if start else summary["seconds"]["condense"],
    "stored_bytes": summary["stored_bytes"],
    "decoded_ipc": summary["decoded_ipc"],
    "evaluation": budget.accuracy(kept, NETWORKS.value, EPOCHS.value, DATA.value),
  }


def name(method: str, ipc: int, seconds: float) -> str:
  """Of the files of one row."""
  return f"{method}-{ipc}" if method in STARTS else f"{method}-{ipc}-{seconds:g}"


def table(rows: list[dict[str, Any]]) -> str:
  """The rows in Markdown; accuracies are means and deviations over the networks, in per cent."""
  return report.markdown(HEADER, map(_cells, rows))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
  record, own = row["evaluation"], row.get("own")
  return (
    row["method"],
    f"{row['ipc']}, {row['decoded_ipc']}",
    f"{row['seconds']:.0f}",
    str(row["iterations"]),
    percent(record["last_mean"], record["last_std"]),
    percent(record["best_mean"], record["best_std"]),
    percent(own["last_mean"], own["last_std"]) if own else "-",
  )


def draw(rows: list[dict[str, Any]]) -> Figure:
  """Accuracy against minutes: a panel for each number of images, a line for each method.

  What real images give is a grey line; what a paper has, at its full budget, a dotted one.
  """
  with matplotlib.rc_context(style.STYLE):
    ipcs = sorted({row["ipc"] for row in rows})
    figure = Figure(figsize=(1.6 + 3.8 * len(ipcs), 3.6), layout="constrained")
    panels = figure.subplots(1, len(ipcs), squeeze=False)[0]
    for axes, ipc in zip(panels, ipcs, strict=True):
      _draw_panel(axes, [row for row in rows if row["ipc"] == ipc])
      axes.set_title(f"CIFAR-10, {ipc} image{'s' * (ipc > 1)} per class")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
  return figure


def _draw_panel(axes: Axes, rows: list[dict[str, Any]]) -> None:
  methods = list(dict.fromkeys(row["method"] for row in rows))
  greys = iter(style.GREYS)
  styles = product(("-", "--"), style.COLOURS)
  for method in methods:
    of_method = sorted((row for row in rows if row["method"] == method), key=lambda r: r["limit"])
    means = [100 * row["evaluation"]["last_mean"] for row in of_method]
    label = method.replace("_", "-")
    if method in STARTS:
      axes.axhline(means[0], color=next(greys), linewidth=1, label=f"{label}, real")
      continue
    deviations = [100 * row["evaluation"]["last_std"] for row in of_method]
    minutes = [row["limit"] / 60 for row in of_method]
    line, colour = next(styles)
    axes.errorbar(minutes, means, deviations, color=colour, linestyle=line, marker="o", label=label)
    if method in PUBLISHED:
      axes.axhline(PUBLISHED[method][of_method[0]["ipc"]], color=colour, linestyle=":", linewidth=1)
  ticks = sorted({row["limit"] / 60 for row in rows} - {0})
  axes.set_xscale("log")
  axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
  axes.set_xticks([], minor=True)
  axes.set_xlabel("minutes of iterations")
  axes.set_ylabel("test accuracy (%)")


def main(argv: list[str]) -> None:
  """Fills the folder with the rows that it lacks, prints their table, and draws them."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument {argv[1]!r}")
  out, rows = Path(OUT.value), []
  out.mkdir(parents=True, exist_ok=True)
  for ipc in IPC.value:
    for method in METHOD.value:
      for seconds in SECONDS.value[:1] if method in STARTS else sorted(SECONDS.value):
        file = out / f"{name(method, ipc, seconds)}.json"
        if not file.exists():
          write_json(file, row(method, ipc, seconds) | {"hardware": environment.hardware()})
        rows.append(json.loads(file.read_text()))
  print(table(rows))
  draw(rows).savefig(out / "accuracy.png", dpi=style.DPI)


if __name__ == "__main__":
  app.run(main)
