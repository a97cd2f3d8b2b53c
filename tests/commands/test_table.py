"""`dcjax table`: what is run, what is not run again, what is refused."""

import json
import shutil

import numpy as np
import pytest
from dcjax.launch import main
from PIL import Image

from dcjax import SyntheticSet, UserError
from dcjax.commands import table
from dcjax.common.errors import Interrupted
from dcjax.nn import architectures
from dcjax.run.experiment import Evaluation
from dcjax.tables import TABLES, plan
from dcjax.tables.definition import SHRINK, TOP, Table, figures, line

# Seconds on the digits; both rows train on one set.
SMALL = Table(
  name="small",
  title="Small",
  headings=("",),
  base={
    "dataset.name": "digits", "ipc": 1, "network.name": "mlp",
    "evaluation.networks": 2, "evaluation.epochs": 2,
  },
  rows=(
    line("Torch", fields={"evaluation.architectures": ("mlp",)}),
    line("Kaiming", fields={"evaluation.architectures": ("mlp:init=kaiming",)}),
  ),
  columns=(
    line("DC", fields={"method": "dc"}),
    line("Random", fields={"method": "random"}),
    line("Whole", fields={"method": "whole"}),
    line("DD", missing="DD"),
  ),
  figures=figures("50.0±1.0 40.0±1.0 90.0±1.0 30.0±1.0\n60.0±1.0 45.0±1.0 95.0±1.0 -"),
)  # fmt: skip
BUDGET = {"iterations": "2", "batch_real": "4"}
DC = {"columns": ["dc"], "seeds": [0], "changes": BUDGET}


def initialiser(task):
  """That of an evaluation's network."""
  return architectures.parse(task[1]).get("init", "torch")


@pytest.fixture
def work(monkeypatch):
  """What is done: the methods of sets that are made, and the initialisers of networks."""
  done, evaluate = [], Evaluation.run

  def noting(name, function):
    def run(config, workdir):
      done.append(config.method)
      return function(config, workdir)

    monkeypatch.setattr(table, name, run)

  def evaluating(self, task, *arguments):
    done.append(initialiser(task))
    return evaluate(self, task, *arguments)

  noting("condense_set", table.condense_set)
  noting("select", table.select)
  monkeypatch.setattr(Evaluation, "run", evaluating)
  return done


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory):
  folder = tmp_path_factory.mktemp("filled")
  return folder, table.fill(SMALL, folder, **DC)


@pytest.fixture
def filled(filled_once, tmp_path):
  """A folder of one's own with the column DC filled for one seed, and the text of the table."""
  return shutil.copytree(filled_once[0], tmp_path / "filled"), filled_once[1]


def cells(folder):
  """The files of the finished cells, by their networks."""
  files = (folder / "cells").iterdir()
  return {json.loads(file.read_text())["record"]["network"]: file for file in files}


def test_a_table_is_filled_and_nothing_is_done_twice(work, tmp_path):
  changes = BUDGET | {"evaluation.networks": "1"}
  text = table.fill(SMALL, tmp_path / "w", seeds=[0, 1], changes=changes)
  assert sorted(work) == sorted(
    ["dc", "random"] * 2 + ["torch", "kaiming"] * 2 * 2 + ["torch", "kaiming"]
  )
  assert text == (tmp_path / "w" / "table.md").read_text()
  assert "not run" not in text and "not in dcjax (paper 30.0 ± 1.0)" in text
  assert (
    "Not as in the paper: iterations 2 (paper: 1000); batch_real 4 (paper: 256); "
    "evaluation.networks 1 (paper: 2); 2 sets (paper: 5)."
  ) in text
  lines = (tmp_path / "w" / "table.csv").read_text().splitlines()
  assert [row.split(",")[5:7] for row in lines[1:4]] == [["2", "1"], ["2", "1"], ["1", "1"]]
  for name in ("table.html", "table.tex"):
    assert "paper 30.0" in (tmp_path / "w" / name).read_text()
  work.clear()
  assert table.fill(SMALL, tmp_path / "w", seeds=[0, 1], changes=changes) == text
  assert work == []


def test_a_table_has_as_many_sets_as_the_paper_unless_told(tmp_path):
  of_two = SMALL._replace(sets=2)
  assert "Not as in the paper" not in table.fill(of_two, tmp_path, condense=False)
  assert "1 set (paper: 2)" in table.fill(of_two, tmp_path, condense=False, seeds=[0])


def test_numbers_are_those_of_the_evaluations(work, tmp_path):
  table.fill(SMALL, tmp_path, **DC, rows=["torch"])
  (file,) = (tmp_path / "cells").iterdir()
  content = json.loads(file.read_text())
  first, second = (100 * value for value in content["record"]["last"])
  mean, deviation = (first + second) / 2, abs(first - second) / 2
  assert (
    f"| {mean:.1f} ± {deviation:.1f} (paper 50.0 ± 1.0, " in (tmp_path / "table.md").read_text()
  )
  assert (tmp_path / content["synthetic"]).is_file()
  assert work == ["dc", "torch"]


def test_another_budget_is_another_table(work, filled):
  folder, first = filled
  other = {**DC, "changes": BUDGET | {"iterations": "3"}}
  assert "(paper 50.0 ± 1.0, " not in table.fill(SMALL, folder, **other, condense=False)
  assert table.fill(SMALL, folder, **DC) == first and work == []
  longer = {**DC, "changes": BUDGET | {"evaluation.epochs": "3"}}
  table.fill(SMALL, folder, **longer)
  assert work == ["torch", "kaiming"]  # the set is the same
  work.clear()
  table.fill(SMALL, folder, **{**DC, "changes": BUDGET | {"compute.image_block": "4"}})
  assert work == []


def test_a_stop_loses_nothing(work, tmp_path, monkeypatch):
  evaluate = Evaluation.run

  def stopping(self, task, *arguments):
    if initialiser(task) == "kaiming":
      raise Interrupted(2)
    return evaluate(self, task, *arguments)

  with monkeypatch.context() as patch:
    patch.setattr(Evaluation, "run", stopping)
    with pytest.raises(Interrupted):
      table.fill(SMALL, tmp_path, **DC)
  text = (tmp_path / "table.md").read_text()
  assert "not run (paper 60.0" in text and "not run (paper 50.0" not in text
  work.clear()
  text = table.fill(SMALL, tmp_path, **DC)
  assert work == ["kaiming"] and "not run (paper 60.0" not in text


def test_what_is_not_asked_for_is_shown_but_not_run(work, filled):
  folder, _ = filled
  cells(folder)["mlp:init=kaiming"].unlink()
  text = table.fill(SMALL, folder, **DC, rows=["torch"])
  assert work == [] and text.count("not run") == 5
  text = table.fill(SMALL, folder, **DC, rows=["kaiming"])
  assert work == ["kaiming"]
  assert text.count("not run") == 4 and "(paper 50.0 ± 1.0, " in text


def test_a_whole_set_that_is_on_disk_is_refused_before_any_work(work, tmp_path):
  for number in range(16):
    file = tmp_path / "data" / ("train", "test")[number % 2] / "ab"[number % 4 // 2]
    file.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), 9 * number).save(file / f"{number}.png")
  fields = {"dataset.name": "folder", "dataset.side": 8}
  of_folder = SMALL._replace(base=SMALL.base | fields)
  changes = {"dataset.data_dir": str(tmp_path / "data"), "compute.streaming": "true"}
  with pytest.raises(UserError, match="all training images together do not fit in memory"):
    table.fill(of_folder, tmp_path / "w", columns=["whole"], changes=changes)
  assert work == []


def test_fewer_sets_than_wanted_are_said(work, filled):
  text = table.fill(SMALL, filled[0], **{**DC, "seeds": [0, 1, 2]}, condense=False)
  assert text.count(", 1 of 3 sets (paper") == 2 and work == []


def test_sets_of_other_runs_are_collected(work, filled, tmp_path):
  (file,) = filled[0].glob("sets/*/seed0/synthetic.npz")
  synthetic = SyntheticSet.load(file)

  def put(name, **changes):
    (tmp_path / "runs" / name).mkdir(parents=True)
    metadata = synthetic.metadata | {"config": synthetic.metadata["config"] | changes}
    synthetic._replace(metadata=metadata).save(tmp_path / "runs" / name / "synthetic.npz")

  options = DC | {"columns": ["dc", "random"]}
  put("other", lr_image=0.2)
  (tmp_path / "runs" / "broken.d").mkdir()
  (tmp_path / "runs" / "broken.d" / "synthetic.npz").write_bytes(b"no set")
  table.fill(SMALL, tmp_path / "w", **options, collect=[tmp_path / "runs"], condense=False)
  assert work == []
  put("same", evaluate_every=1, evaluation={"networks": 3}, compute={"image_block": 8})
  text = table.fill(SMALL, tmp_path / "w", **options, collect=[tmp_path / "runs"], condense=False)
  assert work == ["torch", "kaiming"] and text.count("not run") == 4
  assert not (tmp_path / "w" / "sets").exists()


def test_a_set_that_a_time_limit_has_ended_is_left_aside(work, filled, tmp_path, caplog):
  (file,) = filled[0].glob("sets/*/seed0/synthetic.npz")
  synthetic = SyntheticSet.load(file)
  done = synthetic.metadata["iteration"] - 1
  (tmp_path / "runs").mkdir()
  shorter = synthetic._replace(metadata=synthetic.metadata | {"iteration": done})
  shorter.save(tmp_path / "runs" / "synthetic.npz")
  options = DC | {"collect": [tmp_path / "runs"], "condense": False}
  table.fill(SMALL, tmp_path / "w", **options)
  assert work == [] and f"is left aside: of {done} iterations" in caplog.text


def test_an_imported_set_is_not_taken_for_what_its_config_says(work, filled, tmp_path, caplog):
  """Its config is one of random images, whatever made it."""
  (file,) = filled[0].glob("sets/*/seed0/synthetic.npz")
  synthetic = SyntheticSet.load(file)
  (tmp_path / "runs").mkdir()
  imported = synthetic._replace(metadata=synthetic.metadata | {"method": "mtt"})
  imported.save(tmp_path / "runs" / "synthetic.npz")
  options = DC | {"collect": [tmp_path / "runs"], "condense": False}
  table.fill(SMALL, tmp_path / "w", **options)
  assert work == [] and "is left aside: made by mtt" in caplog.text


def test_a_whole_set_needs_no_set_but_is_not_run_without_leave(work, tmp_path):
  options = {"columns": ["whole"], "seeds": [3, 4]}
  changes = {"compute.cache_dir": str(tmp_path / "kept")}
  table.fill(SMALL, tmp_path, **options, condense=False, changes=changes)
  assert work == [] and (tmp_path / "kept").is_dir()
  table.fill(SMALL, tmp_path, **options)
  assert work == ["torch", "kaiming"] and not (tmp_path / "sets").exists()
  records = [json.loads(file.read_text())["record"] for file in (tmp_path / "cells").iterdir()]
  assert [record["set"] for record in records] == ["whole"] * 2


def test_the_best_of_random_subsets_are_of_one_evaluation(work, tmp_path):
  columns = tuple(
    line(f"Top {count}", fields={"method": "optimal_random", TOP: count}) for count in (3, 1)
  )
  subsets = SMALL._replace(columns=columns, figures=figures("20.0 30.0\n20.0 30.0"), sets=1)
  with pytest.raises(UserError, match=r"no cell .* has a field 'evaluation\.networks'; leave it"):
    table.fill(subsets, tmp_path, changes={"evaluation.networks": "3"})
  text = table.fill(subsets, tmp_path, changes={"selection.candidates": "3"}, rows=["torch"])
  assert work == ["torch"] and not (tmp_path / "sets").exists()  # no set is made
  assert "selection.candidates 3 (paper: 1000)" in text
  (file,) = (tmp_path / "cells").iterdir()
  record = json.loads(file.read_text())["record"]
  assert record["set"] == "random" and len(record["last"]) == 3
  mean, deviation = 100 * np.mean(record["last"]), 100 * np.std(record["last"])
  assert f"| {mean:.1f} ± {deviation:.1f} (paper 20.0, " in text
  assert f"| {100 * max(record['last']):.1f} ± 0.0 (paper 30.0, " in text


def test_networks_are_trained_on_what_a_smaller_set_decodes_to(work, tmp_path, monkeypatch):
  seen = []
  made = Evaluation.run
  monkeypatch.setattr(
    Evaluation, "run", lambda self, task, examples, *rest: seen.append(examples[0]) or made(
      self, task, examples, *rest
    ),
  )  # fmt: skip
  fields = {"method": "dm", "ipc": 4, "dsa.scheme": "none", "evaluation.protocol": "dc"}
  columns = (line("Whole"), line("Small", fields={SHRINK: 2}))
  of_two = SMALL._replace(base=SMALL.base | fields, columns=columns, figures=figures("1 1\n1 1"))
  table.fill(of_two, tmp_path, seeds=[0], changes=BUDGET, rows=["torch"])
  assert work == ["dm", "torch", "torch"]  # from one set
  whole, small = seen
  assert whole.shape == small.shape == (40, 8, 8, 1)
  assert 0.01 < np.abs(whole - small).mean() < np.abs(whole).mean()


def test_a_budget_may_replace_what_single_cells_have(tmp_path):
  special = {("torch", "dc"): {"inner_loop": 2}}
  changes = BUDGET | {"inner_loop": "1"}
  text = table.fill(
    SMALL._replace(special=special), tmp_path, condense=False, seeds=[0], changes=changes
  )
  assert "inner_loop 1 (paper: 2, 1)" in text


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"rows": ["toch"]}, "--rows: unknown 'toch'; did you mean 'torch'?"),
    ({"columns": ["DD"]}, "nothing there can be run (not in dcjax: DD)"),
    ({"columns": ["DD"], "rows": ["kaiming"]}, "nothing there can be run"),
    ({"seeds": []}, "--seeds: '' are not different numbers"),
    ({"seeds": [1, 1]}, "--seeds: '1,1' are not"),
    ({"seeds": [-1]}, "seed: -1 is not within"),
    ({"collect": ["gone"]}, "--collect: no folder gone"),
    ({"changes": {"itertions": "2"}}, "no cell that is to be run has a field 'itertions'; did you"),
    ({"changes": {"iterations": "2"}, "columns": ["random"]}, "a field 'iterations'; leave it out"),
    ({"changes": {"iterations": "two"}}, "iterations: 'two' is not of the right type"),
    ({"changes": {"iterations": "0"}}, "iterations: 0 is too small"),
    ({"changes": {"method": "dsa"}}, "'method' belongs to the table; choose rows and columns"),
    ({"changes": {"evaluation.networks": "0"}}, "evaluation.networks: 0 is too small"),
    ({"changes": {"network.name": "mpl"}}, "network.name: unknown 'mpl'; did you mean 'mlp'?"),
    ({"changes": {"dataset.name": "digit"}}, "did you mean 'digits'?; or choose rows of other"),
    ({"changes": {"network.name": "vgg11"}}, "vgg11 takes images of 32 pixels or more"),
    ({"changes": {"formation.factor": "9"}}, "formation.factor: 9 tiles do not fit the 8 pixels"),
    ({"changes": {"evaluation.networks": "1e999"}}, "evaluation.networks: inf is not of the right"),
    ({"changes": {"lr_image": "1e999"}}, "lr_image: inf is too large; give 1000000 at most"),
  ],
)
def test_mistakes_are_found_before_any_work(work, tmp_path, monkeypatch, options, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError) as caught:
    table.fill(SMALL, "w", **options)
  assert message in str(caught.value) and "\n" not in str(caught.value) and work == []
  assert not list(tmp_path.glob("w/*.md"))


def test_a_field_that_tells_cells_apart_cannot_be_changed(tmp_path):
  with pytest.raises(UserError, match=r"'network\.width' is what tells the cells of dc/T10 apart"):
    table.fill(TABLES["dc/T10"], tmp_path / "w", changes={"network.width": "8"})


def test_a_folder_with_something_else_is_left_alone(tmp_path):
  (tmp_path / "table.md").write_text("precious")
  with pytest.raises(UserError, match=r"holds table\.md but no tables"):
    table.fill(SMALL, tmp_path, **DC)
  assert [file.read_text() for file in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
  "text",
  [
    "[1", "{}", '{"record": {"last": []}}', '{"record": 3}', '{"record": {"last": [0.5]}}', "[3]",
    '{"record": {"last": 0.5, "protocol": "dc", "epochs": 1, "augmentation": "dc"}}',
    '{"record": {"last": ["0.5"], "protocol": "dc", "epochs": 1, "augmentation": "dc"}}',
    pytest.param("[" * 100_000, id="deep"),
  ],
)  # fmt: skip
def test_a_damaged_cell_is_named(filled, text):
  folder, _ = filled
  file = cells(folder)["mlp"]
  file.write_text(text)
  with pytest.raises(UserError, match=f"{file.name} is damaged, .*; delete it"):
    table.fill(SMALL, folder, **DC)


def test_a_cell_that_fails_is_named(filled):
  folder, _ = filled
  cells(folder)["mlp:init=kaiming"].unlink()
  (file,) = folder.glob("sets/*/seed0/synthetic.npz")
  synthetic = SyntheticSet.load(file)
  synthetic._replace(images=synthetic.images[..., :4, :]).save(file)
  with pytest.raises(UserError, match=r"kaiming x dc, seed 0: .* made of other data than digits"):
    table.fill(SMALL, folder, **DC)


def test_values_have_the_types_of_their_fields():
  def value(name, text, method="dsa"):
    cells = [c._replace(fields={"method": method}) for c in SMALL.cells() if c.runnable]
    return plan.parse_changes(SMALL._replace(base={}), cells, {name: text})[name]

  assert value("lr_image", "1") == 1.0 and isinstance(value("lr_image", "1"), float)
  assert value("dataset.data_dir", "1e3") == "1e3"
  assert value("inner_loop", "None") is None and value("inner_loop", "3") == 3
  assert value("dsa.strategy", "crop") == "crop" and value("dsa.strategy", "None") is None
  assert value("dataset.name", "none") == "none"


# --- The command line ----------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--list"], ["--table=dc/2", "--list"]])
def test_tables_are_listed(capsys, arguments):
  main.run(["table", *arguments])
  printed = capsys.readouterr().out
  assert "dc/T8  DC, Table T8: cross-normalization" in printed
  assert "  rows: mnist-1, mnist-10, mnist-50" in printed


def test_the_command_line(capsys, tmp_path):
  arguments = [
    "table", "--table=DC/t11", f"--workdir={tmp_path / 'w'}", "--rows=ours", "--columns=mlp",
    "--seeds=0", "--config.dataset.name=digits", "--config.iterations=1", "--config.batch_real=2",
    "--config.evaluation.networks=1", "--config.evaluation.epochs=1",
  ]  # fmt: skip
  main.run([*arguments, "--nocondense"])
  assert capsys.readouterr().out.count("not run (") == 18
  main.run(arguments)
  printed = capsys.readouterr().out
  assert printed.count("not run (") == 17
  assert printed.startswith("# DC, Table T11") and "dataset.name digits (paper: mnist)" in printed
  assert printed.endswith(f"Everything is in {tmp_path / 'w'}\n")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--table=dc/12"], "--table: unknown 'dc/12'; did you mean 'dc/T12'?"),
    (["--table=dc/2"], "--workdir: missing"),
    (["--table=dc/2", "--workdir=x", "--seeds=a"], "--seeds: 'a' are not whole numbers"),
    (["--table=dc/2", "--workdir=x", "--config.iterations"], "write --config.iterations=VALUE"),
    (["--table=dc/2", "--workdir=x", "word"], "'word' is not a flag"),
    (["--table=dc/2", "--workdir=x", "--row=mlp"], "Did you mean: rows"),
  ],
)
def test_mistakes_on_the_command_line(monkeypatch, tmp_path, arguments, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError) as caught:
    main.run(["table", *arguments])
  assert message in str(caught.value) and not list(tmp_path.iterdir())
