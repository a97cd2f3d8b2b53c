"""What a release says of itself, and the workflows that make one."""

import configparser
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import dcjax

TOP = Path(__file__).parents[1]
WORKFLOWS = sorted((TOP / ".github" / "workflows").glob("*.yml"))


def setup():
  found = configparser.ConfigParser()
  found.read(TOP / "setup.cfg")
  return found


def steps(file):
  """The steps of all jobs of a workflow."""
  return [
    step for job in yaml.safe_load(file.read_text())["jobs"].values() for step in job["steps"]
  ]


def test_the_version_is_the_same_everywhere():
  citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
  released = re.findall(r"^## \[(.+)\] - (.+)$", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
  assert released[0] == (dcjax.__version__, citation["date-released"].isoformat())
  assert citation["version"] == dcjax.__version__
  assert citation["license"] == setup()["metadata"]["license"]


def test_the_versions_of_python_are_the_same_everywhere():
  prefix = "Programming Language :: Python :: 3."
  classifiers = setup()["metadata"]["classifiers"].splitlines()
  declared = [line.removeprefix(prefix) for line in classifiers if line.startswith(prefix)]
  (tests,) = yaml.safe_load((TOP / ".github/workflows/test.yml").read_text())["jobs"].values()
  assert tests["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in declared]
  lint = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["ruff"]["target-version"]
  assert setup()["options"]["python_requires"] == f">=3.{declared[0]}" and lint[3:] == declared[0]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_may_do_little_and_its_actions_are_pinned(file):
  workflow = yaml.safe_load(file.read_text())
  assert workflow["permissions"] == {"contents": "read"}
  assert workflow[True]  # the key `on`, as YAML reads it
  for job in workflow["jobs"].values():
    assert job["timeout-minutes"] and set(job.get("needs", "").split()) <= set(workflow["jobs"])
  for step in steps(file):
    assert "run" in step or re.search(r"@(v\d+|release/v\d+)$", step["uses"])


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_installs_what_it_runs(file):
  """Its extras are there, and each program is Python's own, of an extra, or installed by it."""
  installed, extras = {"python3", "test"}, setup()["options.extras_require"]
  brings = {"docs": {"mkdocs"}, "test": {"pytest", "ruff", "mypy"}}
  for run in [step["run"] for step in steps(file) if "run" in step]:
    for command in re.split(r"&&|\n", run.strip()):
      words = command.split()
      program = Path(words[2] if words[:2] == ["python3", "-m"] else words[0]).name
      assert program in installed | {"pip", "venv"}, command
      if "install" in words:
        for extra in re.findall(r"\.\[(\w+)\]", command):
          assert extra in extras
          installed |= brings[extra]
        installed |= set(words[words.index("install") + 1 :])


def test_the_workflow_of_the_tests_runs_the_readme_s_command():
  (command,) = re.findall(r"<!-- tests -->\n```\n(.*)\n```", (TOP / "README.md").read_text())
  assert command in [step.get("run") for step in steps(TOP / ".github/workflows/test.yml")]
