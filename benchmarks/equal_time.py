"""Condenses CIFAR-10 with every method for the same wall time: see `README.md` here.

python -m benchmarks.equal_time --data_dir DATA --out FOLDER [--seconds 300] [--ipc 1 --ipc 10]
  [--methods dm --methods idc ...] [--real 64] [--networks 3] [--epochs 300]

Rows that the folder holds already are not done again.
"""

import json
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks import budget, report
from dcjax.commands.condense import condense
from dcjax.common import environment
from dcjax.figures.report import percent
from dcjax.run.workdir import write_json

# Real images, as IDC starts from them: one in a stored image, or four.
STARTS = {"random": "idc_i", "random_tiled": "idc"}
HEADER = ("method", "ipc, decoded", "iterations", "s", "last epoch (%)", "best epoch (%)")
METHODS = [*STARTS, "dm", "dsa", "idc_i", "idm", "idc"]

METHOD = flags.DEFINE_multi_enum("methods", METHODS, METHODS, "What to condense with.")
IPC = flags.DEFINE_multi_integer("ipc", [1, 10], "Stored images of a class.")
SECONDS = flags.DEFINE_float("seconds", 300, "Of iterations, without compilation.")
REAL = flags.DEFINE_integer("real", 64, "Real images of a class in one step.")
NETWORKS = flags.DEFINE_integer("networks", 3, "To evaluate each set with.")
EPOCHS = flags.DEFINE_integer("epochs", 300, "Of the evaluation.")
DATA = flags.DEFINE_string("data_dir", None, "Folder of TFDS.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder for runs and figures.", required=True)


def row(method: str, ipc: int) -> dict[str, Any]:
  """Condenses and evaluates; the `random` rows are the sets that IDC's runs start from."""
  maker = STARTS.get(method, method)
  config = budget.preset(maker, ipc)
  config.dataset.data_dir = DATA.value
  config.batch_real, config.iterations, config.evaluation.networks = REAL.value, budget.FOREVER, 0
  folder = Path(OUT.value) / f"{maker}-{ipc}"
  summary = condense(config, folder, SECONDS.value)
  file = "images/000000.npz" if method in STARTS else "synthetic.npz"
  record = budget.accuracy(folder / file, NETWORKS.value, EPOCHS.value, DATA.value)
  start = method in STARTS
  return {
    "method": method,
    "ipc": ipc,
    "iterations": 0 if start else summary["iterations"],
    "seconds": 0 if start else summary["seconds"]["condense"],
    "stored_bytes": summary["stored_bytes"],
    "decoded_ipc": summary["decoded_ipc"],
    "evaluation": record,
  }


def table(rows: list[dict[str, Any]]) -> str:
  """The rows in Markdown; accuracies are means and deviations over the networks, in per cent."""
  return report.markdown(HEADER, map(_cells, rows))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
  record = row["evaluation"]
  return (
    row["method"],
    f"{row['ipc']}, {row['decoded_ipc']}",
    str(row["iterations"]),
    f"{row['seconds']:.0f}",
    percent(record["last_mean"], record["last_std"]),
    percent(record["best_mean"], record["best_std"]),
  )


def main(argv: list[str]) -> None:
  """Fills the folder with the rows that it lacks, and prints their table."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument {argv[1]!r}")
  out, rows = Path(OUT.value), []
  out.mkdir(parents=True, exist_ok=True)
  for ipc in IPC.value:
    for method in METHOD.value:
      file = out / f"{method}-{ipc}.json"
      if not file.exists():
        write_json(file, row(method, ipc) | {"hardware": environment.hardware()})
      rows.append(json.loads(file.read_text()))
  print(table(rows))


if __name__ == "__main__":
  app.run(main)
