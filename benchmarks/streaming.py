"""The same run with images on disk and in memory: see `README.md` here.

python -m benchmarks.streaming --data_dir FOLDER --out FOLDER [--methods dm ...] [--side 128]
  [--network resnet10_ap] [--iterations 12] [--batch_real 16] [--ipc 1]
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from benchmarks import problem, report
from dcjax import config as config_lib
from dcjax.commands.condense import condense
from dcjax.common import environment
from dcjax.run.workdir import write_json
from dcjax.sets.synthetic import SyntheticSet

HEADER = (
  "method",
  "iterations",
  "s from disk (compile + iterations), in memory",
  "s waited for images",
  "share of the iterations",
  "largest difference of the images",
)

METHOD = flags.DEFINE_multi_enum("methods", ["dm"], problem.METHODS, "What to condense with.")
NETWORK = flags.DEFINE_string("network", "resnet10_ap", "What to match with.")
SIDE = flags.DEFINE_integer("side", 128, "Pixels of an image's side.")
ITERATIONS = flags.DEFINE_integer("iterations", 12, "Of each run.", lower_bound=1)
REAL = flags.DEFINE_integer("batch_real", 16, "Real images of a class in one step.")
IPC = flags.DEFINE_integer("ipc", 1, "Stored images of a class.")
DATA = flags.DEFINE_string(
  "data_dir", None, "Folder with train/CLASS/* and val/CLASS/*.", required=True
)
OUT = flags.DEFINE_string("out", None, "Folder for runs and figures.", required=True)


def preset(method: str) -> ConfigDict:
  """The config of both runs but for where the images are."""
  config = config_lib.default(method)
  config.dataset.update({"name": "folder", "data_dir": DATA.value, "side": SIDE.value})
  config.network.name, config.ipc, config.batch_real = NETWORK.value, IPC.value, REAL.value
  config.iterations, config.evaluation.networks = ITERATIONS.value, 0
  return config


def compared(config: ConfigDict, folder: Path) -> dict[str, Any]:
  """Runs twice; the seconds of either, and how far the images lie apart."""
  seconds, images = {}, {}
  for place, streaming in (("disk", True), ("memory", False)):
    config.compute.streaming = streaming
    # With compiled programs of its own, as only one of the two would find them ready.
    config.compute.cache_dir = str(folder / place / "compiled")
    seconds[place] = condense(config, folder / place)["seconds"]
    images[place] = SyntheticSet.load(folder / place / "synthetic.npz").images
  return {
    "method": config.method,
    "iterations": config.iterations,
    "seconds": seconds,
    "difference": float(np.abs(images["disk"] - images["memory"]).max()),
  }


def table(rows: list[dict[str, Any]]) -> str:
  """The runs in Markdown."""
  return report.markdown(HEADER, map(_cells, rows))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
  seconds = row["seconds"]
  sums = ", ".join(
    f"{seconds[place]['compile']:.1f} + {seconds[place]['condense']:.1f}"
    for place in ("disk", "memory")
  )
  wait = seconds["disk"]["wait"]
  return (
    row["method"],
    str(row["iterations"]),
    sums,
    f"{wait:.1f}",
    f"{wait / seconds['disk']['condense']:.1%}",
    f"{row['difference']:.1g}",
  )


def main(argv: list[str]) -> None:
  """Runs every method twice, and prints the table."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument {argv[1]!r}")
  out = Path(OUT.value)
  rows = [compared(preset(method), out / method) for method in METHOD.value]
  write_json(out / "rows.json", {"hardware": environment.hardware(), "rows": rows})
  print(table(rows))


if __name__ == "__main__":
  app.run(main)
