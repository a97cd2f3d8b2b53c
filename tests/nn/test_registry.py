"""Networks by name: dcjax' own are a file and a line, and users' work without a change of dcjax."""

import json
import re
from pathlib import Path

import pytest

import dcjax
from dcjax import UserError
from dcjax.commands.condense import condense
from dcjax.commands.evaluate import evaluate
from dcjax.commands.select import select
from dcjax.commands.status import status
from dcjax.common import registry
from dcjax.common.registry import NETWORKS
from dcjax.nn import architectures
from dcjax.nn.definition import find
from dcjax.tables import plan
from tests.packages import install
from tests.runs import tiny

TOP = Path(__file__).parents[2]
EXAMPLE = TOP / "docs" / "examples" / "my_network.py"
SMALL = f"{EXAMPLE}:Small"
# So that there is less to compile.
PLAIN = {"iterations": 2, "dsa__scheme": "none", "evaluation__augmentation": "none"}
NOT_RUN = "in a Python file"
PAIR = """
import jax

def linear(num_classes, image_shape):
  height, width, channels = image_shape
  shape = height * width * channels, num_classes
  return lambda key: jax.random.normal(key, shape), lambda w, x: x.reshape(len(x), -1) @ w
"""


@pytest.mark.checkout
@pytest.mark.parametrize("name", ["alexnet", "vgg11", "densenet121", "efficientnet_b0"])
def test_a_network_is_one_file_and_one_line_of_the_registry(name):
  programs = [file for room in ("dcjax", "launch") for file in (TOP / room).rglob("*.py")]
  naming = {
    file.relative_to(TOP).as_posix(): len(lines)
    for file in programs
    if (lines := [e for e in file.read_text().splitlines() if re.search(rf"\b{name}\b", e)])
  }
  assert len(programs) > 100 and naming.pop("dcjax/common/registry.py") == 1
  module = NETWORKS.own[name].partition(":")[0].replace(".", "/")
  assert (TOP / f"{module}.py").is_file()
  # Papers compare networks: their tables, and the sets of architectures.
  comparing = {
    f"dcjax/{file}.py" for file in ("nn/architectures", "tables/parts", "tables/idc_parts")
  }
  assert naming.keys() <= {f"{module}.py"} | comparing


# --- Users' networks -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
  """A run with the network of the tutorial; its folder and summary."""
  assert len(EXAMPLE.read_text().splitlines()) <= 25
  folder = tmp_path_factory.mktemp("small")
  narrow = (f"{SMALL}:width=8",)
  config = tiny("dc", network__name=SMALL, evaluation__architectures=narrow, iterations=2)
  return folder, condense(config, folder)


def test_the_network_of_the_tutorial_condenses_digits(small):
  _, summary = small
  assert [record["network"] for record in summary["evaluations"]] == [f"{SMALL}:width=8"] * 2


@pytest.fixture
def package(tmp_path, monkeypatch):
  """An installed package that offers the network 'linear'."""
  places = {"linear": "linear", "vgg11": "linear", "odd": "no"}
  return install(monkeypatch, tmp_path, PAIR, "dcjax.networks", **places)


def test_the_network_of_a_package_condenses_digits(package, tmp_path):
  summary = condense(tiny("dm", network__name="linear", **PLAIN), tmp_path / "run")
  assert {record["network"] for record in summary["evaluations"]} == {"linear"}
  # What is installed may be named by a file.
  (record, _) = evaluate(tmp_path / "run" / "synthetic.npz", networks=1)
  assert record["network"] == "linear"


def test_a_package_takes_no_name_of_dcjax_and_its_faults_are_named(package):
  assert set(NETWORKS) == {*NETWORKS.own, "linear", "odd"}
  assert architectures.parse("vgg11:norm=batch") == {"name": "vgg11", "norm": "batch"}
  with pytest.raises(UserError, match=rf"^network: odd, from {package}:no, cannot be loaded: Attr"):
    architectures.parse("odd")
  with pytest.raises(UserError, match=r"^network: unknown 'liner'; did you mean 'linear'\?$"):
    architectures.parse("liner")


@pytest.mark.parametrize("folder", ["nets", "run=3", "a:b", "C:\\nets", "x.py:y", "with space"])
def test_the_path_of_a_file_may_have_what_separates_fields(tmp_path, folder):
  file = tmp_path / folder / "mine.py"
  file.parent.mkdir()
  file.write_text(EXAMPLE.read_text())
  name = f"{file}:Small"
  assert architectures.parse(name) == {"name": name}
  found = architectures.parse(f"{name}:width=8:norm=none")
  assert found == {"name": name, "width": 8, "norm": "none"}
  with pytest.raises(UserError, match=r":depth=2': .*:Small has no 'depth'; did you mean 'width'"):
    architectures.parse(f"{name}:depth=2")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("{here}/no.py:tiny", "network: no file {here}/no.py; give the path of a Python file"),
    ("{here}:tiny", "network: no file {here}; give the path of a Python file"),
    ("a\0.py:tiny", "network: no file a\0.py; give"),
    ("~nobody-here/a.py:tiny", "network: ~nobody-here/a.py: there is no such user"),
    ("C:\\nets\\a.py:tiny", "network: no file C:\\nets\\a.py; give"),
    (f"{EXAMPLE}", f"network: {EXAMPLE} is a file; say which object of it: {EXAMPLE}:NAME"),
    (f"{EXAMPLE}:", f"network: {EXAMPLE}:: that file has no ''"),
    (f"{EXAMPLE}:Smal", f"network: {EXAMPLE}:Smal: that file has no 'Smal'; did you mean 'Small'?"),
  ],
)
def test_a_file_without_such_a_network_is_one_line(tmp_path, name, message):
  here = tmp_path / "folder.py"
  here.mkdir()
  with pytest.raises(UserError) as caught:
    architectures.parse(name.replace("{here}", str(here)))
  assert str(caught.value).startswith(message.replace("{here}", str(here)))
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("text", "what"),
  [
    ("1 / 0", "line 2, fails with ZeroDivisionError"),
    ("raise SystemExit", "line 2, fails with SystemExit"),
    ("def (", "line 2, fails with SyntaxError"),
    ("import not_there", "line 2, fails with ModuleNotFoundError"),
  ],
)
def test_a_file_that_fails_is_one_line(tmp_path, text, what):
  file = tmp_path / "mine.py"
  file.write_text(f"\n{text}\n")
  with pytest.raises(UserError) as caught:
    architectures.parse(f"{file}:tiny")
  assert str(caught.value).startswith(f"network: {file}:tiny, {what}")
  assert "\n" not in str(caught.value)


def test_a_run_that_names_a_wrong_file_ends_before_its_work(tmp_path):
  config = tiny(evaluation__architectures=(f"{tmp_path}/no.py:tiny",))
  with pytest.raises(UserError, match=r"^evaluation.architectures: '.*no.py:tiny': network: no f"):
    dcjax.config.resolve(config)


def test_a_file_that_was_changed_is_run_again(tmp_path):
  file = tmp_path / "mine.py"
  for norm in ("layer", "instance", "layer"):
    file.write_text(f"from dcjax.nn import Definition\nNET = Definition(print, norm={norm!r})")
    assert find("", f"{file}:NET") is find("", f"{file}:NET")
    assert find("", f"{file}:NET").norm == norm


def test_what_is_kept_of_a_network_does_not_outlive_its_code(tmp_path):
  def identity():
    config = tiny(network__name=f"{file}:linear")
    return plan.digest(plan.identity(dcjax.config.resolve(config)))

  file = tmp_path / "mine.py"
  file.write_text(PAIR)
  before = identity()
  assert identity() == before
  file.write_text(PAIR + "# changed")
  assert identity() != before
  assert registry.content("", "vgg11") == {}


def test_the_code_of_a_package_is_a_part_of_it(tmp_path, monkeypatch):
  module = install(monkeypatch, tmp_path, PAIR, "dcjax.networks", small="linear")
  before = registry.content("", "small")
  assert before and registry.content("", "small") == before
  (tmp_path / f"{module}.py").write_text(PAIR + "# changed")
  assert registry.content("", "small") != before


def test_a_file_that_imports_what_is_beside_it_is_told_how(tmp_path):
  (tmp_path / "blocks.py").write_text("")
  (tmp_path / "mine.py").write_text("import blocks")
  with pytest.raises(UserError, match="put the folder of a module of your own into PYTHONPATH"):
    architectures.parse(f"{tmp_path / 'mine.py'}:tiny")


# --- Trust ---------------------------------------------------------------------------------


@pytest.fixture
def trap(tmp_path):
  """A network whose file leaves a trace when it is run."""
  file = tmp_path / "trap.py"
  file.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n{PAIR}")
  yield f"{file}:linear"
  assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
  "fields",
  [
    {"network": {"name": "{}"}},
    {"network.name": "{}"},
    {"network": {"name": "{}:width=3"}},
    {"evaluation": {"architectures": ["mlp", "{}"]}},
    {"evaluation": {"architectures": ["mlp,{}:norm=none"]}},
    {"evaluation.architectures": ("{}:a:b.py:c",)},
  ],
)
def test_the_file_of_a_run_has_no_code_run(fields, trap):
  def filled(value):
    if isinstance(value, dict):
      return {name: filled(each) for name, each in value.items()}
    return value.format(trap) if isinstance(value, str) else tuple(map(filled, value))

  with pytest.raises(
    UserError,
    match=r"^config: '(network.name|evaluation.arch\w+)' is .*trap.py.*, in a Python",
  ):
    dcjax.config.of_file(filled(fields))


def test_a_set_that_was_made_with_a_file_is_evaluated_on_what_the_user_names(small, tmp_path):
  folder, _ = small
  file = folder / "synthetic.npz"
  with pytest.raises(
    UserError,
    match=r"^synthetic set: its .*, in a Python file, .*give --architectures=FILE.py",
  ):
    evaluate(file, networks=1)
  found = evaluate(file, networks=1, architectures=[SMALL, "mlp"])
  assert [r["network"] for r in found if r["set"] == "synthetic"] == [SMALL, "mlp"]


def test_the_status_of_a_run_with_a_file_is_told_without_running_it(small, trap, tmp_path):
  config = dcjax.config.default("random")
  config.update_from_flattened_dict({"dataset.name": "digits", "evaluation.networks": 0})
  summary, record = select(config, tmp_path), small[1]["evaluations"][0]
  fields = json.loads((tmp_path / "config.json").read_text())
  fields["network"]["name"], fields["evaluation"]["networks"] = trap, 1
  (tmp_path / "config.json").write_text(json.dumps(fields))
  for evaluations, told in (([record | {"network": trap}], "finished"), ([], "stopped")):
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"evaluations": evaluations}))
    assert told in status([tmp_path]) and "damaged" not in status([tmp_path])
