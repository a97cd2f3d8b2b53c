"""Executes the notebooks in reduced size, as somebody does who has installed dcjax.

python .ci/run_notebooks.py [NAME ...] [--full] [--output FOLDER]

The kernel starts in the checkout's top, whose folder dcjax/ comes before what is installed. Runs go
to a temporary folder. `--full` executes them as they are; `--output` keeps them with their outputs.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOP = Path(__file__).parents[1]
# By the notebook: what stands in place of its parameters, and how many pictures it must show.
REDUCED: dict[str, tuple[dict[str, object], int]] = {
  "quickstart": ({"ITERATIONS": 6, "NETWORKS": 1}, 3),
  "your_photographs": ({"IPC": 1, "MINUTES": 0.02, "SIDE": 16}, 2),
  "compare_methods": (
    {"DATASET": "digits", "BUDGETS": [0.2], "METHODS": ["dm"], "OTHERS": ["mlp"],
     "NETWORKS": 1, "EPOCHS": 3},
    2,
  ),
  "use_a_set": ({"ITERATIONS": 3, "EPOCHS": 3, "STEPS": 2, "RUNS": 1}, 2),
  "your_own_method": ({"ITERATIONS": 3, "NETWORKS": 1}, 2),
}  # fmt: skip
NEEDS = {"use_a_set": "torch"}
LIMIT = 300  # seconds of a cell in reduced size
# Compiling takes more of their time than running does.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def main() -> None:
  """Executes the notebooks, two at a time, and fails if one does, or shows too little."""
  parser = argparse.ArgumentParser()
  parser.add_argument("names", nargs="*", default=sorted(REDUCED))
  parser.add_argument("--full", action="store_true")
  parser.add_argument("--output", type=Path)
  given = parser.parse_args()
  names = [name for name in given.names if is_possible(name)]
  with ThreadPoolExecutor(1 if given.full else 2) as pool:
    executed = pool.map(partial(execute, full=given.full), names)
    for name, notebook in zip(names, executed, strict=True):
      if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, given.output / f"{name}.ipynb")
      check(name, notebook)


def is_possible(name: str) -> bool:
  """Whether what a notebook needs is installed."""
  needed = NEEDS.get(name)
  if needed and importlib.util.find_spec(needed) is None:
    print(f"{name}: left out, {needed} is not installed")
    return False
  return True


def execute(name: str, full: bool) -> nbformat.NotebookNode:
  """A notebook with its outputs."""
  began = time.monotonic()
  notebook = nbformat.read(TOP / "notebooks" / f"{name}.ipynb", as_version=4)
  nbformat.validate(notebook)
  with tempfile.TemporaryDirectory() as folder:
    if not full:
      changes = {**REDUCED[name][0], "FOLDER": f"{folder}/run"}
      (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
      cell.source += "\n" + "\n".join(f"{field} = {value!r}" for field, value in changes.items())
      for other in notebook.cells:  # what a notebook writes beside its runs
        other.source = other.source.replace("my_method.py", f"{folder}/my_method.py")
        other.source = other.source.replace("runs/sample", f"{folder}/sample")
    client = NotebookClient(
      notebook, timeout=None if full else LIMIT, resources={"metadata": {"path": str(TOP)}}
    )
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    flags = {} if full else {"XLA_FLAGS": XLA_FLAGS}
    client.execute(env={**os.environ, "PATH": commands, **flags})
  print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
  return notebook


def check(name: str, notebook: nbformat.NotebookNode) -> None:
  """Ends the process if a notebook shows fewer pictures than it should, or a traceback."""
  outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
  shown = [output.get("data", {}) for output in outputs]
  pictures = [d for d in shown if "image/png" in d or "<img" in d.get("text/html", "")]
  if len(pictures) < REDUCED[name][1]:
    sys.exit(f"{name}: shows {len(pictures)} pictures, not {REDUCED[name][1]}")
  said = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
  if "Traceback" in said:
    sys.exit(f"{name}: {said}")


if __name__ == "__main__":
  main()
