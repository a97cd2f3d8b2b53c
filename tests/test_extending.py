"""A method of a user's file; and how the package is laid out for the next method."""

import ast
import inspect
import pkgutil
import shutil
from pathlib import Path

import pytest
from dcjax.launch import command_line

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


WRONG = """
from typing import NamedTuple

from dcjax.methods.definition import Definition, condensation


class Settings(NamedTuple):
  ipc: int = 1
  init: str = "real"
  batch_real: int = 8


NO_RATE = Definition(
  lambda: condensation(Settings(), iterations=3, checkpoint_every=1), build=lambda *given: None
)
NO_FIELDS = Definition(lambda: 1 / 0, build=None)
NUMBER = Definition(lambda: 5, build=None)
NO_ESTIMATE = Definition(lambda: {}, build=None, together=lambda *given: 1 / 0)
"""


@pytest.mark.parametrize(
  ("name", "problem"),
  [
    ("Settings", "is of type type; name a methods.definition.Definition"),
    ("NO_RATE", "fails with AttributeError: .*lr_image"),
    ("NO_FIELDS", "line 16, fails with ZeroDivisionError"),
    ("NUMBER", "fails with AttributeError"),
  ],
)
def test_a_method_that_is_none_is_one_line(tmp_path, name, problem):
  file = tmp_path / "wrong.py"
  file.write_text(WRONG)
  with pytest.raises(UserError, match=problem) as caught:
    dcjax.config.resolve(dcjax.config.default(f"{file}:{name}"))
  assert str(caught.value).startswith(f"method: {file}:{name}") and "\n" not in str(caught.value)


def test_an_estimate_of_memory_that_fails_is_one_line(tmp_path):
  file = tmp_path / "wrong.py"
  file.write_text(WRONG)
  method = dcjax.config.definition(f"{file}:NO_ESTIMATE")
  with pytest.raises(UserError, match="line 18, fails with ZeroDivisionError"):
    method.together(None, None, None)


def test_a_set_of_a_method_that_is_not_here_is_no_selection():
  """Only an evaluation, which needs no method, follows what is left of its config."""
  fields = dcjax.config.default("dm").to_dict() | {"method": "theirs"}
  with pytest.raises(UserError, match="method: unknown 'theirs'"):
    dcjax.config.of_file(fields)
  assert dcjax.config.of_file(dcjax.config.of_any_method(fields)).method == "random"


def test_fields_of_a_method_of_ones_own_preset(tmp_path):
  preset = tmp_path / "mine.py"
  preset.write_text(
    "from dcjax.config import default\n"
    f"def get_config():\n  return default({f'{EXAMPLE}:KERNEL_DM'!r})\n"
  )

  def parse(field):
    arguments = ["condense", f"--config={preset}", "--workdir=x", f"--config.{field}=2"]
    define = lambda: command_line.preset_flags(arguments, workdir="run")  # noqa: E731
    return command_line.parse(define, arguments, required=("config", "workdir"))

  assert parse("bandwidth").config.bandwidth == 2
  with pytest.raises(UserError, match="no field 'bandwith'; did you mean 'bandwidth'"):
    parse("bandwith")


@pytest.mark.checkout
def test_a_newcomer_finds_few_rooms():
  folder = [str(Path(dcjax.__file__).parent)]
  rooms = {module.name for module in pkgutil.iter_modules(folder)} - {"__main__"}
  assert len(rooms) <= 15, sorted(rooms)


# Each imports those before it alone.
ORDER = (
  "common", "data", "augment", "nn", "sets", "devices", "evaluation", "config", "methods", "run",
  "configs", "figures", "tables", "pages", "commands", "applications",
)  # fmt: skip


@pytest.mark.checkout
def test_rooms_import_one_another_in_one_direction():
  folder = Path(dcjax.__file__).parent
  for file in folder.glob("*/**/*.py"):
    room = file.relative_to(folder).parts[0]
    taken = [
      name
      for node in ast.parse(file.read_text()).body
      if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dcjax"
      for name in (node.module.split(".")[1:2] or [alias.name for alias in node.names])
    ]
    upward = [name for name in taken if ORDER.index(name) > ORDER.index(room)]
    assert not upward, f"{file}: {upward}"


def test_few_frames_lie_between_a_run_and_its_network_s_loss(monkeypatch, tmp_path):
  """Of dcjax' own; the command line adds three."""

  class FoundError(Exception):
    """Where the loss is computed first."""

  def loss(*arguments, **more):
    package = Path(dcjax.__file__).parent  # the checkout may hold .venv, and all others in it
    raise FoundError(sum(Path(f.filename).is_relative_to(package) for f in inspect.stack()[1:]))

  monkeypatch.setattr(training, "summed_loss", loss)
  with pytest.raises(FoundError) as caught:
    condense(tiny("dc", evaluation__networks=0), tmp_path)
  assert caught.value.args[0] + 3 <= 14
