"""A method of a user's file; and how the package is laid out for the next method."""

import inspect
import pkgutil
import shutil
from pathlib import Path

import pytest

import dcjax
import dcjax.config
from dcjax import UserError
from dcjax.commands.condense import condense
from dcjax.commands.evaluate import evaluate
from dcjax.config import presets
from dcjax.nn import training
from tests.runs import tiny

TOP = Path(__file__).parents[1]
EXAMPLE = TOP / "docs" / "examples" / "my_method.py"


def test_a_method_of_a_file_condenses_and_its_set_is_evaluated_without_the_file(tmp_path):
  file = shutil.copy(EXAMPLE, tmp_path / "my_method.py")
  config = presets.smoke(dcjax.config.default(f"{file}:KERNEL_DM"))
  config.dataset.name, config.network.depth, config.network.width = "digits", 1, 4
  config.compute.mesh = "1x1"
  summary = condense(config, tmp_path / "run")
  assert summary["iterations"] == 2 and summary["method"].endswith("KERNEL_DM")
  Path(file).write_text("raise SystemExit('must not be run')")
  found = evaluate(tmp_path / "run" / "synthetic.npz", networks=1, epochs=1)
  assert {record["set"] for record in found} == {"synthetic", "random"}


def test_the_example_is_short():
  assert len(EXAMPLE.read_text().splitlines()) < 60


@pytest.mark.parametrize(
  ("name", "problem"),
  [
    ("dn", "did you mean 'dm'"),
    ("none.py:X", "no file none.py"),
    (f"{EXAMPLE}:KERNL_DM", "did you mean 'KERNEL_DM'"),
  ],
)
def test_a_method_that_there_is_not_is_one_line(name, problem):
  with pytest.raises(UserError, match=problem) as caught:
    dcjax.config.default(name)
  assert str(caught.value).startswith("method: ") and "\n" not in str(caught.value)


def test_a_newcomer_finds_few_rooms():
  folder = [str(Path(dcjax.__file__).parent)]
  rooms = {module.name for module in pkgutil.iter_modules(folder)} - {"__main__"}
  assert len(rooms) <= 14, sorted(rooms)


def test_few_frames_lie_between_a_run_and_its_network_s_loss(monkeypatch, tmp_path):
  """Of dcjax' own; the command line adds two."""

  class FoundError(Exception):
    """Where the loss is computed first."""

  def loss(*arguments, **more):
    frames = [f.filename for f in inspect.stack()[1:] if Path(f.filename).is_relative_to(TOP)]
    raise FoundError(sum("tests" not in Path(f).parts for f in frames))

  monkeypatch.setattr(training, "summed_loss", loss)
  with pytest.raises(FoundError) as caught:
    condense(tiny("dc", evaluation__networks=0), tmp_path)
  assert caught.value.args[0] + 3 <= 14
