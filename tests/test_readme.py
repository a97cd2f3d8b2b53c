"""The programs in README and docs do what these say, and their links lead somewhere."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from dcjax.launch import main
from dcjax.launch import plot as plot_command

from dcjax import SyntheticSet, data
from dcjax.commands import plot
from dcjax.config import presets
from dcjax.methods import coreset
from dcjax.run import experiment
from dcjax.sets.formation import Stored
from tests.runs import tiny

TOP = Path(__file__).parents[1]
PAGES = (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")))
FILE = "runs/quickstart/synthetic.npz"


@pytest.fixture
def synthetic(tmp_path, monkeypatch):
  """A set where the pages have one: real digits, one of each class."""
  config = tiny()
  dataset = data.load(config.dataset)
  images = data.random_subset(dataset, jax.random.key(0), ipc=1)
  monkeypatch.chdir(tmp_path)
  Path(FILE).parent.mkdir(parents=True)
  experiment.synthetic_set(config, dataset, Stored(images, weights={})).save(FILE)
  return SyntheticSet.load(FILE)


def run(imported):
  """Runs the program that imports this and reads the file; returns its variables."""
  text = "".join(page.read_text() for page in PAGES)
  programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
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


@pytest.mark.checkout
@pytest.mark.parametrize("page", [*PAGES, *sorted(TOP.glob("C*.md"))], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
  for link in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", page.read_text()):
    target, _, heading = "".join(link).partition("#")
    if "://" in target:
      continue
    file = page.parent / target if target else page
    assert file.exists(), f"{page.name}: {target}"
    if heading:
      lines = [line.lstrip("# ") for line in file.read_text().splitlines() if line.startswith("#")]
      assert heading in [re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines]


def test_the_readme_is_one_reading():
  assert len((TOP / "README.md").read_text().split()) <= 900


PRESETS = [file.name for file in sorted((TOP / "configs").glob("[!_]*.py"))]


@pytest.mark.parametrize(
  ("names", "has"),
  [
    (main.COMMANDS, "dcjax {}"),
    (plot.KINDS, "{}"),
    (PRESETS, "{}"),
    (presets.DATASETS, "{}"),
    (coreset.SELECTIONS, "{}"),
  ],
  ids=["commands", "kinds of plots", "presets", "datasets", "selections"],
)
def test_help_and_pages_name_all_that_there_is(names, has):
  pages = "".join(page.read_text() for page in PAGES)
  for name in names:
    word = re.compile(rf"\b{re.escape(has.format(name))}\b")
    assert word.search(main.USAGE), f"dcjax --help lacks {name}"
    assert word.search(pages), f"README and docs lack {name}"


def test_the_kinds_of_plots_are_the_same_everywhere():
  page = (TOP / "docs" / "studies.md").read_text()
  table = page.partition("| kind | shows |")[2].partition("\n\n")[0]
  assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(plot.KINDS)
  assert re.findall(r"^  (\w+)  ", plot_command.HELP, re.MULTILINE) == list(plot.KINDS)
  (shown,) = re.findall(r"as PNG and PDF: (.*)\.", main.USAGE)
  assert re.split(", | or ", shown) == list(plot.KINDS)


def test_the_readme_names_all_commands():
  readme = PAGES[0].read_text()
  assert not [name for name in main.COMMANDS if not re.search(rf"`(dcjax )?{name}`", readme)]
