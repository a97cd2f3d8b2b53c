"""The programs in README and docs do what these say, and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dcjax.configs import quickstart
from dcjax.launch import command_line, main
from dcjax.launch import plot as plot_command
from dcjax.launch import status as status_command

import dcjax.config
from dcjax import SyntheticSet, data
from dcjax.applications.continual import fields as continual
from dcjax.applications.continual.fields import SCENARIOS
from dcjax.applications.nas import fields as nas
from dcjax.commands import plot
from dcjax.commands.condense import condense
from dcjax.common.registry import METHODS
from dcjax.config import presets
from dcjax.data import whiten
from dcjax.methods import coreset
from dcjax.methods.distances import DISTANCES
from dcjax.methods.gradient_matching import GradientMatching
from dcjax.methods.setup import Setup
from dcjax.run import experiment
from dcjax.sets.formation import Stored
from tests.runs import tiny

TOP = Path(__file__).parents[1]
PAGES = (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")))
FILE = "runs/quickstart/synthetic.npz"


def blocks(page, language):
  """The blocks of a page in a language, or in none."""
  found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
  return [block for name, block in found if name == language]


def programs(page):
  """The Python programs of a page."""
  return blocks(page, "python")


def commands(page):
  """The arguments of `dcjax` in the commands of a page, whose variables are put in."""
  for block in blocks(page, ""):
    variables = dict(re.findall(r'^(\w+)="(.*)"$', block, re.MULTILINE))
    for line in re.findall(r"(?:^|/)dcjax (.*)", block, re.MULTILINE):
      for name, value in variables.items():
        line = line.replace(f"${name}", value)
      yield shlex.split(line, comments=True)


@pytest.fixture
def synthetic(tmp_path, monkeypatch):
  """A set where the pages have one: real digits, one of each class."""
  config = tiny()
  dataset = data.load(config.dataset)
  images = data.random_subset(dataset, jax.random.key(0), ipc=1)
  monkeypatch.chdir(tmp_path)
  Path(FILE).parent.mkdir(parents=True)
  experiment.synthetic_set(config, dataset, Stored(images, weights={})).save(FILE)
  monkeypatch.setattr(quickstart, "get_config", lambda: tiny("dm"))
  return SyntheticSet.load(FILE)


def check_condensed(variables, synthetic):
  assert variables["summary"]["iterations"] == 6
  assert Path("runs/notebook/synthetic.npz").exists()


def check_trained(variables, synthetic):
  images, labels = synthetic.flat()
  logits, _ = variables["network"].apply(variables["params"], images)
  assert (np.argmax(logits, -1) == labels).all()


def check_tested(variables, synthetic):
  check_trained(variables, synthetic)
  assert len(variables["logits"]) == len(variables["digits"].test_labels)


def check_torch(variables, synthetic):
  images, labels = synthetic.flat()
  np.testing.assert_array_equal(variables["images"].permute(0, 2, 3, 1).numpy(), images)
  np.testing.assert_array_equal(variables["labels"].numpy(), labels)


def whitened():
  """What the program about whitening has: a file with one, and normalised images as rows."""
  dataset = whiten(data.load(tiny().dataset))
  arrays = dataset.whitening._asdict().items()
  file = {f"whitening/{name}": np.asarray(array) for name, array in arrays}
  images = dataset.whitened(None).normalise(dataset.test_images[:5])
  return {"file": file, "x": np.asarray(images).reshape(5, -1), "dataset": dataset}


def check_whitened(variables, synthetic):
  dataset = variables["dataset"]
  seen = dataset.normalise(dataset.test_images[:5]).reshape(5, -1)
  np.testing.assert_allclose(variables["seen"], seen, atol=1e-3)
  normalised = dataset.whitened(None).normalise(dataset.test_images[:5]).reshape(5, -1)
  np.testing.assert_allclose(variables["x"], normalised, atol=1e-3)


def check_gradient(variables, synthetic):
  """The same as the arithmetic of DC has."""
  dataset, key, label = data.load(tiny().dataset), jax.random.key(1), 3
  matching = GradientMatching(Setup(variables["network"]), DISTANCES["ours"], batch_real=8)
  params, batches = variables["network"].init(key), matching.draw(dataset, key)
  images = jnp.asarray(synthetic.images)
  match = jax.jit(matching.match)
  losses, gradients = match(params, Stored(images, {}), dataset, batches, key)
  real = dataset.normalise(dataset.images[batches.matched[label]])
  loss, gradient = jax.jit(variables["to_images"])(params, images[label], real, label)
  np.testing.assert_allclose(loss, losses[label], rtol=1e-4)
  np.testing.assert_allclose(gradient, gradients.images[label], rtol=1e-3, atol=1e-5)


def check_loop(variables, synthetic):
  """The same images as of the command."""
  condense(tiny("dm", evaluation__networks=0), "run")
  images = SyntheticSet.load("run/synthetic.npz").images
  np.testing.assert_allclose(variables["state"].stored.images, images, atol=1e-4)


def check_arrays(variables, synthetic):
  fields = tiny(dataset__name="npz", dataset__data_dir="mine.npz").dataset
  dataset = data.load(fields)
  assert dataset.image_shape == (8, 8, 1) and len(dataset.test_labels) == 300


# Of each program: its page, a phrase in it, what it is given, what it must have done.
PROGRAMS = (
  ("faq.md", "mine.npz", dict, check_arrays),
  ("how-it-works.md", "def to_images", dict, check_gradient),
  ("how-it-works.md", "method.update", dict, check_loop),
  ("quickstart.md", "digits.test_images", dict, check_tested),
  ("running.md", "dcjax.condense", dict, check_condensed),
  ("sets.md", "import jax", dict, check_trained),
  ("sets.md", "to_torch", dict, check_torch),
  ("sets.md", "import numpy, torch", dict, check_torch),
  ("sets.md", "whitening/matrix", whitened, check_whitened),
)


@pytest.mark.parametrize(
  ("page", "phrase", "given", "check"), PROGRAMS, ids=[f"{p}: {f}" for p, f, *_ in PROGRAMS]
)
def test_a_program_does_what_its_page_says(synthetic, page, phrase, given, check):
  if "torch" in phrase:
    pytest.importorskip("torch", reason="PyTorch is not installed")
  (program,) = [each for each in programs(TOP / "docs" / page) if phrase in each]
  variables = given()
  exec(program, variables)
  check(variables, synthetic)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_program_is_run_or_a_part_of_an_example(page):
  """Tests run the examples as they are (`tests/test_extending.py` and others)."""
  examples = "".join(file.read_text() for file in (TOP / "docs" / "examples").glob("*.py"))
  run = [phrase for name, phrase, *_ in PROGRAMS if name == page.name]
  for program in programs(page):
    assert program in examples or any(phrase in program for phrase in run), program


class UnderstoodError(Exception):
  """Where a command would begin its work."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page, monkeypatch):
  """Up to its work: flags, presets and fields are read, and nothing is run."""
  monkeypatch.chdir(TOP)
  parsed = command_line.parse

  def parse(define, arguments, **more):
    values = parsed(define, arguments, **more)
    if arguments[0] in ("condense", "experts", "select"):
      if arguments[0] == "select" and values.method:
        values.config.method = values.method
      dcjax.config.resolve(values.config)
    raise UnderstoodError

  def stop(*arguments):
    raise UnderstoodError

  monkeypatch.setattr(command_line, "parse", parse)
  monkeypatch.setattr(status_command, "status", stop)
  for arguments in commands(page):
    with pytest.raises(UnderstoodError):
      main.run(arguments)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_field_that_a_page_names_exists(page):
  methods = (*METHODS.own, f"{TOP}/docs/examples/my_method.py:KERNEL_DM")
  configs = [dcjax.config.default(method).to_dict() for method in methods]
  configs += [nas.default_search().to_dict(), *map(continual_fields, SCENARIOS)]
  known = {name for config in configs for name, _ in dcjax.config.flatten(config)}
  named = re.findall(r"--config\.([\w.]+)=", page.read_text())
  assert not [name for name in named if name not in {*known, "field"}]


def continual_fields(scenario):
  return continual.default(scenario).to_dict()


def test_the_quickstart_shows_what_the_readme_shows():
  table = re.compile(r"^\| iteration \|.*?^```", re.DOTALL | re.MULTILINE)
  pages = TOP / "README.md", TOP / "docs" / "quickstart.md"
  readme, quickstart = (table.search(page.read_text())[0] for page in pages)
  assert readme == quickstart


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
