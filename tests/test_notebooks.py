"""The notebooks as they are committed; `.ci/run_notebooks.py` executes them."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
NOTEBOOKS = sorted((TOP / "notebooks").glob("*.ipynb"))
NAMES = [file.stem for file in NOTEBOOKS]
BADGE = "https://colab.research.google.com/github/dcjax/dcjax/blob/main/notebooks/{}.ipynb"


def cells(file, kind="code"):
  found = json.loads(file.read_text())["cells"]
  return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def runner():
  """The module that executes them, or nothing where nbclient is not installed."""
  pytest.importorskip("nbclient", reason="nbclient is not installed")
  spec = importlib.util.spec_from_file_location("runner", TOP / ".ci" / "run_notebooks.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize("file", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_committed_without_outputs_and_opens_in_colab(file):
  content = json.loads(file.read_text())
  assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
  for cell in content["cells"]:
    assert not cell.get("outputs") and cell.get("execution_count") is None
  first = cells(file, "markdown")[0]
  assert first.startswith("# ") and BADGE.format(file.stem) in first
  assert "/tmp" not in file.read_text() and "/root" not in file.read_text()


@pytest.mark.parametrize("file", NOTEBOOKS, ids=NAMES)
def test_the_first_cell_installs_dcjax_and_names_the_device(file):
  first = cells(file)[0]
  assert first == cells(NOTEBOOKS[0])[0]
  assert 'find_spec("dcjax") is None' in first and "%pip install" in first
  assert "jax.devices()" in first


@pytest.mark.parametrize("file", NOTEBOOKS, ids=NAMES)
def test_only_parameters_hold_numbers_of_a_budget(file):
  tagged = [cell for cell in json.loads(file.read_text())["cells"] if cell["metadata"].get("tags")]
  (parameters,) = tagged
  names = {
    name.id
    for node in ast.walk(ast.parse("".join(parameters["source"])))
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    for name in [node]
  }
  changes, pictures = runner().REDUCED[file.stem]
  assert set(changes) <= names and "FOLDER" in names and pictures >= 2
  later = "\n".join(cells(file)[2:])
  assert not [name for name in names if name not in later]  # each one does something


def test_all_notebooks_are_executed():
  assert sorted(runner().REDUCED) == NAMES


def test_the_method_that_a_notebook_writes_is_the_one_that_is_tested():
  (written,) = [c for c in cells(TOP / "notebooks" / "your_own_method.ipynb") if "%%writefile" in c]
  example = (TOP / "docs" / "examples" / "my_method.py").read_text()
  assert written.partition("\n")[2].strip() == example.strip()
