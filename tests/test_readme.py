"""The README's programs do what it says."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from dcjax import SyntheticSet, data, experiment
from dcjax.formation import Stored
from tests.runs import tiny

README = Path(__file__).parents[1] / "README.md"
FILE = "runs/quickstart/synthetic.npz"


@pytest.fixture
def synthetic(tmp_path, monkeypatch):
  """A set where the README has one: real digits, one of each class."""
  config = tiny()
  dataset = data.load(config.dataset)
  images = data.random_subset(dataset, jax.random.key(0), ipc=1)
  monkeypatch.chdir(tmp_path)
  Path(FILE).parent.mkdir(parents=True)
  experiment.synthetic_set(config, dataset, Stored(images, weights={})).save(FILE)
  return SyntheticSet.load(FILE)


def run(imported):
  """Runs the program that imports this and reads the file; returns its variables."""
  programs = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
  (program,) = [p for p in programs if FILE in p and f"import {imported}" in p]
  variables = {}
  exec(program, variables)
  return variables


def test_a_network_trained_in_jax(synthetic):
  variables = run("jax")
  images, labels = synthetic.flat()
  logits, _ = variables["network"].apply(variables["params"], images)
  assert (np.argmax(logits, -1) == labels).all()


def test_the_set_read_in_pytorch(synthetic):
  pytest.importorskip("torch", reason="PyTorch is not installed")
  variables = run("numpy, torch")
  images, labels = synthetic.flat()
  np.testing.assert_array_equal(variables["images"].permute(0, 2, 3, 1).numpy(), images)
  np.testing.assert_array_equal(variables["labels"].numpy(), labels)
