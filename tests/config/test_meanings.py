"""What fields mean: every field has a comment, which `--help` shows."""

import re
from typing import NamedTuple

import pytest
from dcjax.launch import field_help, main

from dcjax.applications.continual import fields as continual
from dcjax.applications.nas import fields as nas
from dcjax.common.registry import METHODS
from dcjax.config import flatten, meanings
from dcjax.config.defaults import definition
from dcjax.config.defaults import meanings as shared


class Inner(NamedTuple):
  """A section."""

  lr: float = 0.1  # of SGD
  other: int = 2


class Outer(NamedTuple):
  """Hyper-parameters."""

  # What stands above,
  # in two lines
  above: str = "x"  # and behind
  # Not of a field

  hash: str = "# no comment"
  inner: Inner = Inner()  # a section is no field
  several: tuple = (
    1,  # the first
  )


def test_comments_are_read():
  assert meanings.of_settings(Outer) == {
    "above": "What stands above, in two lines and behind",
    "inner.lr": "of SGD",
    "several": "the first",
  }

  def function(config, other):
    config.a = 1  # one
    if other:
      config.section.b = 2  # two
    other.c = 3  # three

  assert meanings.of_function(function, "config", "x.") == {"x.a": "one", "x.section.b": "two"}


def test_where_there_is_no_source_there_are_no_meanings():
  made = {}
  exec("def function(config):\n  config.a = 1  # one\n", made)
  assert meanings.of_function(made["function"], "config") == {}


def check(fields, known):
  """Each field has a meaning, and a meaning names only fields that there are."""
  assert set(known) == set(fields)
  sections = {name.partition(".")[0] for name in fields if "." in name}
  for name, text in known.items():
    assert re.search("[a-z]{2}", text) and not text.startswith(("(", "or ")), name
    here = name.rpartition(".")[0]
    for other in re.findall("`(.*?)`", text):
      named = {other, f"{here}.{other}"} & (set(fields) | sections)
      assert named or other.startswith("dcjax "), (name, other)
    for other in re.findall(r"(?<![\w./])([a-z_]+\.[a-z_]+)\b(?!\.)", text):
      elsewhere = other.startswith("dsa.") or other.endswith((".py", ".npz"))
      assert other in fields or elsewhere or other.partition(".")[0] not in sections, (name, other)


@pytest.mark.parametrize("method", METHODS.own)
def test_every_field_of_a_method_has_a_meaning(method):
  fields = field_help.fields_of(method)
  check(fields, field_help.meanings_of(method))
  own = meanings.of_settings(definition(method).settings)
  assert set(own) | set(shared()) <= set(fields)
  assert field_help.own_fields(method) == set(own) - {"ipc"}
  shown = field_help.help_on_fields(method)
  for name, value in fields.items():
    assert f"  --config.{name}={value}\n      " in shown


def test_every_field_of_the_applications_has_a_meaning():
  fields = dict(flatten(nas.default_search().to_dict()))
  known = field_help.meanings_of("herding") | nas.meanings()
  check(fields, {name: known[name] for name in fields})
  for scenario in continual.SCENARIOS:
    fields = dict(flatten(continual.default(scenario, "dm").to_dict()))
    check(fields, field_help.meanings_of("dm") | continual.meanings(scenario))


@pytest.mark.parametrize("command", ["condense", "select", "experts", "nas", "continual"])
def test_help_fits_and_says_what_fields_mean(command, capsys):
  with pytest.raises(SystemExit):
    main.run([command, "--help"])
  lines = capsys.readouterr().out.splitlines()
  assert max(map(len, lines)) <= field_help.WIDTH
  fields = [number for number, line in enumerate(lines) if line.startswith("  --config.")]
  assert len(fields) > 5 and sum(lines[at + 1].startswith("      ") for at in fields) > 5
  if command == "condense":
    at = lines.index("  --config.dsa.scheme=siamese")
    assert lines[at + 1].startswith("      Which images: 'siamese'")
    assert "Evaluation:" in lines and "The method's own:" in lines and "For DSA:" in lines
