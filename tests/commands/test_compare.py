"""Comparisons: one budget for all rows, differences, scores, going on, what is refused."""

import csv
import json
import re

import numpy as np
import pytest
from dcjax.launch import main
from scipy import stats

import dcjax.config
from dcjax import SyntheticSet, UserError, data
from dcjax.commands import compare as driver
from dcjax.commands.compare import Comparison, budget, compare, page, table
from dcjax.commands.compare.options import Options, config_for
from dcjax.evaluation import EvaluationSettings, scores
from dcjax.figures.comparison import draw
from dcjax.run import experiment, teacher_file
from dcjax.run.workdir import Workdir, held
from dcjax.sets.formation import Stored
from tests.runs import tiny


def save(path, ipc=2, *, factor=1, seed=0, **metadata):
  """A set of noise for the digits."""
  config = tiny("dm", ipc=ipc, formation__factor=factor, network__name="mlp")
  config.seed = seed
  config = dcjax.config.resolve(config)
  dataset = data.load(config.dataset)
  images = np.random.default_rng(seed).normal(size=(10, ipc, 8, 8, 1)).astype(np.float32)
  synthetic = experiment.synthetic_set(config, dataset, Stored(images, {}), iteration=3, **metadata)
  path.parent.mkdir(exist_ok=True, parents=True)
  synthetic.save(path)
  return str(path)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
  """Files of two sets; the images of the second are decoded to four times as many."""
  folder = tmp_path_factory.mktemp("sets")
  return save(folder / "plain" / "synthetic.npz"), save(folder / "tiled.npz", factor=2, seed=1)


SMALL = {"networks": 2, "draws": 3, "epochs": 12, "checks": 3, "network": "mlp", "teacher": "mlp"}


def options(sets, **changes):
  return Options(sets, **{**SMALL, "teacher_epochs": 1, **changes})


@pytest.fixture(scope="module")
def finished(sets, tmp_path_factory):
  """A comparison with all that there is, and its folder."""
  asked = options(
    sets, controls=("random",), labels=("hard", "soft"), scores=True, attacks=("fgsm",),
    validation=100, epsilon=0.1,
  )  # fmt: skip
  folder = tmp_path_factory.mktemp("compared") / "new"
  return asked, folder, compare(asked, folder)


def test_all_rows_have_one_budget(finished):
  _, _, content = finished
  rows = content["rows"]
  for labels in ("hard", "soft"):
    alike = [row for row in rows if row["labels"] == labels]
    assert {(row["steps"], row["batch"], row["ipc"], row["network"]) for row in alike} == {
      (12, 20, 2, "mlp")
    }
    assert len({(row["protocol"], row["stored_bytes"]) for row in alike}) == 1
  assert [(row["set"], row["decoded_ipc"], row["epochs"]) for row in rows[:3]] == [
    ("plain", 2, 12), ("tiled", 8, 3), ("random", 2, 12),
  ]  # fmt: skip
  assert {row["augmentation"] for row in rows if not row["augmented"]} == {"none"}
  assert {row.get("teacher") for row in rows if row["labels"] == "soft"} == {"mlp"}
  assert len({row.get("teacher_digest") for row in rows if row["labels"] == "soft"}) == 1


def test_differences_are_welchs(finished):
  _, folder, content = finished
  plain, _, random = content["rows"][:3]
  assert np.shape(plain["chosen"]) == (1, 2) and np.shape(random["chosen"]) == (3, 2)
  ours, theirs = np.array(plain["chosen"])[0], np.array(random["chosen"]).mean(1)
  found = plain["against"]["random"]
  assert found["difference"] == pytest.approx(ours.mean() - theirs.mean())
  expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
  assert (found["low"], found["high"]) == pytest.approx(expected)
  assert random["against"] == {}
  assert json.loads((folder / "compare.json").read_text()) == content


def test_scores_are_of_fractions_and_shown_with_their_parts(finished):
  _, folder, content = finished
  assert len(content["scores"]) == 4
  by = {
    (row["set"], row["labels"], row["augmented"]): np.mean(row["chosen"]) for row in content["rows"]
  }
  score = content["scores"][3]
  assert (score["set"], score["labels"]) == ("tiled", "soft")
  improvement = by["tiled", "soft", True] - by["random", "soft", True]
  recovery = content["whole"]["accuracy"] - by["tiled", "hard", True]
  plain = by["tiled", "soft", False] - by["random", "soft", False]
  assert score["lrs"] == pytest.approx(scores.label_robust(improvement, recovery))
  assert score["ars"] == pytest.approx(scores.augmentation_robust(improvement, plain))
  text = (folder / "table.md").read_text()
  assert f"{score['lrs']:.4f}" in text and f"{score['hard_label_recovery']:.4f}" in text
  assert "fgsm (%)" in text and "less random" in text
  assert re.search(r"batches of \d+ with hard labels and \d+ with soft labels; equal", text)
  assert (folder / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_the_table_is_in_four_formats(finished):
  _, folder, content = finished
  with open(folder / "table.csv") as file:
    lines = list(csv.DictReader(file))
  tiled = next(line for line in lines if (line["set"], line["labels"]) == ("tiled", "soft"))
  row = next(r for r in content["rows"] if (r["set"], r["labels"]) == ("tiled", "soft"))
  assert float(tiled["last_mean"]) == pytest.approx(100 * np.mean(row["last"]), abs=0.01)
  assert float(tiled["fgsm_mean"]) == pytest.approx(100 * np.mean(row["attacks"]["fgsm"]), abs=0.01)
  low = 100 * row["against"]["random"]["low"]
  assert float(tiled["less_random_low"]) == pytest.approx(low, abs=0.01)
  assert float(tiled["lrs"]) == pytest.approx(content["scores"][3]["lrs"], abs=1e-4)
  random = next(line for line in lines if line["set"] == "random")
  assert random["last_std_draws"] and not tiled["last_std_draws"]
  assert random["lrs"] == random["less_random_difference"] == ""
  for name in ("table.html", "table.tex"):
    text = (folder / name).read_text()
    assert "tiled" in text and "Welch" in text and f"{content['scores'][3]['lrs']:.4f}" in text


def test_rate_and_check_are_those_best_on_the_images_held_out(sets, tmp_path):
  asked = options(sets[:1], validation=200, rates=(1e-6, 0.05), attacks=("fgsm",), epsilon=0.1)
  _, random = compare(asked, tmp_path / "out")["rows"]
  assert random["lr"] == 0.05 and random["chosen_epoch"] in (4, 8, 12)
  assert random["validation"] > 0.3
  assert np.mean(random["attacks"]["fgsm"]) < np.mean(random["last"])
  assert np.shape(random["chosen"]) == (3, 2)


def test_a_comparison_that_was_stopped_goes_on_row_by_row(sets, tmp_path, monkeypatch):
  asked, trained, run = options(sets), [], Comparison.run

  def stopping(self, row):
    if len(trained) == 2:
      raise KeyboardInterrupt
    trained.append(row.source.name)
    return run(self, row)

  monkeypatch.setattr(Comparison, "run", stopping)
  with pytest.raises(KeyboardInterrupt):
    compare(asked, tmp_path / "out")
  trained.clear()
  content = compare(asked, tmp_path / "out")
  assert trained == ["random"] and len(content["rows"]) == 3
  trained.clear()
  more = compare(asked._replace(sets=sets[:1], weight=0.3), tmp_path / "out")
  assert not trained and [row["set"] for row in more["rows"]] == ["plain", "random"]
  assert [row["set"] for row in more["others"]] == ["tiled"]  # which is not lost
  assert len(compare(asked, tmp_path / "out")["rows"]) == 3 and not trained
  with pytest.raises(UserError, match=r"compare.json is of another comparison \(seed\)"):
    compare(asked._replace(seed=5), tmp_path / "out")


def test_bytes_buy_real_images(sets):
  found = budget.read(sets)
  assert budget.control_ipc(found, "images") == 2 == budget.control_ipc(found, "bytes")
  soft = np.zeros((10, 2, 10), np.float32)
  labelled = {
    name: each._replace(soft_labels=soft, metadata=each.metadata | {"label_kind": "prob"})
    for name, each in found.items()
  }  # 8 x 8 pixels and ten labels, of four bytes: 2 x 74 / 64 images
  assert budget.control_ipc(labelled, "bytes") == 2
  many = {
    name: each._replace(soft_labels=np.zeros((10, 2, 80), np.float32))
    for name, each in labelled.items()
  }
  assert budget.control_ipc(many, "bytes") == 4
  with pytest.raises(UserError, match="--equal: plain stores 5120 bytes, tiled 11520; compare"):
    budget.control_ipc({"plain": found["plain"], "tiled": many["tiled"]}, "bytes")


def test_controls_are_those_of_a_selection(sets, tmp_path):
  asked = options(sets[:1], controls=("random", "herding", "k_center", "forgetting"), draws=2)
  comparison = Comparison(asked, budget.read(asked.sets), lambda each: each)
  found = {source.name: list(source.draws()) for source in comparison._sources[1:3]}
  assert [len(draws) for draws in found.values()] == [2, 2]
  assert not np.array_equal(*found["random"])
  assert all(images.shape == (20, 8, 8, 1) for draws in found.values() for images in draws)


def test_no_interval_where_there_is_one_of_either():
  one, two = np.array([0.5]), np.array([0.2, 0.4])
  assert table.difference(one, two) == {"difference": pytest.approx(0.2), "low": None, "high": None}
  assert table.difference(np.array([0.5, 0.5]), np.array([0.5, 0.5]))["low"] is None
  assert page._less({"difference": 0.1, "low": None, "high": None}) == "+10.0"


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"sets": ()}, "--sets: names no file"),
    ({"sets": ("missing.npz",)}, "missing.npz"),
    ({"controls": ("optimal_random",)}, "--controls: unknown 'optimal_random'"),
    ({"controls": ("randm",)}, "--controls: unknown 'randm'"),
    ({"labels": ("own",)}, "--labels: unknown 'own'"),
    ({"labels": ()}, "--labels: empty"),
    ({"equal": "pixels"}, "--equal: unknown 'pixels'"),
    ({"attacks": ("cw",)}, "--attacks: unknown 'cw'"),
    ({"networks": 0}, "--networks: 0"),
    ({"draws": 0}, "--draws: 0"),
    ({"checks": 0}, "--checks: 0"),
    ({"validation": -1}, "--validation: -1"),
    ({"validation": 1700}, "--validation: 1700 of 1442 training images; give half or fewer"),
    ({"rates": (0.1, 0.2)}, "--rates: 2 of them, and nothing to choose one by"),
    ({"rates": (float("nan"),)}, "--rates: nan"),
    ({"rates": (-1.0,)}, "--rates: -1"),
    ({"rates": (float("inf"),)}, "--rates: inf is not a finite number"),
    ({"sets": ("~nosuchuser/x.npz",)}, "--sets: ~nosuchuser/x.npz: there is no such user"),
    ({"seed": 2**32 - 1}, "--seed: 4294967295 has no 3 seeds"),
    ({"weight": 1.5}, "--weight: 1.5"),
    ({"epsilon": float("nan")}, "--epsilon: nan"),
    ({"scores": True, "controls": ("herding",)}, "--scores: LRS and ARS are made of random"),
    ({"scores": True, "labels": ("soft",)}, "--scores: LRS and ARS are made of random"),
    ({"protocol": "soft"}, "--protocol: soft is that of soft labels"),
    ({"protocol": "dsaa"}, "--protocol: unknown 'dsaa'"),
    ({"teacher": "", "labels": ("soft",)}, "--teacher: empty"),
    ({"teacher": "convent", "labels": ("soft",)}, "--teacher: network: unknown"),
    ({"network": "convent"}, "--network: network: unknown 'convent'"),
    ({"epochs": 0}, "--epochs: 0"),
    ({"seed": -1}, "--seed: -1"),
    ({"network": "widths"}, "--network: 'widths' stands for several networks"),
    ({"labels": ("soft",), "teacher": "t.npz", "validation": 9}, "--validation: the teacher t.npz"),
  ],
)
def test_what_no_comparison_can_be_is_refused_before_the_work(
  sets, tmp_path, monkeypatch, changes, words
):
  monkeypatch.setattr(Comparison, "run", None)
  with pytest.raises(UserError, match=words.replace("(", r"\(")):
    compare(options(**{"sets": sets, **changes}), tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_sets_that_do_not_agree_are_refused(sets, tmp_path):
  other = save(tmp_path / "other.npz", ipc=3)
  with pytest.raises(UserError, match="--equal: plain stores 2 images of each class, other 3"):
    compare(options((sets[0], other)), tmp_path / "out")
  synthetic = SyntheticSet.load(sets[0])
  synthetic._replace(metadata=synthetic.metadata | {"dataset": "mnist"}).save(other)
  with pytest.raises(UserError, match="--sets: plain has the dataset digits, other mnist; compare"):
    compare(options((sets[0], other)), tmp_path / "out")
  with pytest.raises(UserError, match=r"--sets: plain and .* hold the same; name each set once"):
    compare(options((sets[0], sets[0])), tmp_path / "out")


def test_a_coreset_may_be_called_as_a_control(sets, tmp_path):
  for name in ("random", "herding"):
    save(tmp_path / name / "synthetic.npz", seed=len(name))
  paths = tuple(str(tmp_path / name / "synthetic.npz") for name in ("random", "herding"))
  assert list(budget.read((sets[0], *paths))) == ["plain", *paths]
  with pytest.raises(UserError, match=r"--sets: .* is named twice"):
    budget.read((paths[0], paths[0], paths[0]))


def test_folders_that_hold_something_else_are_left_alone(sets, tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  with pytest.raises(UserError, match=r"workdir: .* holds mine.txt but no comparison"):
    compare(options(sets), tmp_path)
  assert (tmp_path / "mine.txt").read_text() == "mine"


DAMAGE = {
  "last": (None, "x", [], [[None]], [[0.5], [0.5, 0.5]], [[float("nan")] * 2], [[5.0, 0.1]]),
  "lr": ("a",),
  "attacks": (3, {"cw": [[0.1, 0.1]]}),
  "control": ("no",),
  "steps": (-1,),
  "teacher": ("mlp",),
}


def test_rows_that_are_damaged_are_refused_and_left_alone(sets, tmp_path, monkeypatch):
  asked = options(sets[:1], controls=())
  compare(asked, tmp_path)
  file = tmp_path / "compare.json"
  whole = json.loads(file.read_text())
  comparison = Comparison(asked, budget.read(asked.sets), lambda each: each)
  monkeypatch.setattr(driver, "Comparison", lambda *_: comparison)
  monkeypatch.setattr(Comparison, "run", None)
  for name, values in DAMAGE.items():
    for value in values:
      damaged = json.dumps(whole | {"rows": [whole["rows"][0] | {name: value}]})
      file.write_text(damaged)
      with pytest.raises(UserError, match=r"compare.json is damaged"):
        compare(asked, tmp_path)
      assert file.read_text() == damaged
  for text in ("[]", "{", json.dumps(whole | {"rows": [{}]}), json.dumps({"of": whole["of"]})):
    file.write_text(text)
    with pytest.raises(UserError, match=r"compare.json is damaged"):
      compare(asked, tmp_path)
  file.write_text(json.dumps(whole | {"of": whole["of"] | {"more": 1}}))
  with pytest.raises(UserError, match=r"is of another comparison \(more\)"):
    compare(asked, tmp_path)


def test_another_comparison_in_the_same_folder_waits(sets, tmp_path):
  with held(Workdir(tmp_path)), pytest.raises(UserError, match="another run is using"):
    compare(options(sets[:1]), tmp_path)


def test_what_a_sets_own_evaluation_had_does_not_train_all(sets, tmp_path):
  synthetic = SyntheticSet.load(sets[0])
  config = synthetic.metadata["config"]
  config["evaluation"] |= {"temperature": 100.0, "lr": 5.0, "same_steps": True, "loss": "x"}
  config["evaluation"].pop("loss")
  synthetic._replace(metadata=synthetic.metadata | {"config": config}).save(tmp_path / "odd.npz")
  odd, plain = (
    config_for(SyntheticSet.load(path), options((path,)), "hard")
    for path in (tmp_path / "odd.npz", sets[0])
  )
  assert odd.evaluation.to_dict() == plain.evaluation.to_dict()


def test_batches_are_those_of_the_smallest_set(tmp_path):
  few, many = save(tmp_path / "few.npz", ipc=7), save(tmp_path / "many.npz", ipc=8, seed=1)
  synthetic = SyntheticSet.load(few)
  soft, metadata = np.zeros((10, 7, 10), np.float32), synthetic.metadata | {"label_kind": "logit"}
  synthetic._replace(soft_labels=soft, metadata=metadata).save(few)  # as much as eight images
  for paths in ((few, many), (many, few)):
    comparison = Comparison(
      options(paths, equal="bytes", draws=1), budget.read(paths), lambda each: each
    )
    settings, steps, least = budget.alike(
      comparison._settings(comparison.rows()[0]), comparison._stored, 80
    )
    assert (settings.batch, steps, least) == (70, 12, 12)


def test_as_many_steps_as_whole_passes_make():
  settings = EvaluationSettings("dsa", 10, "none", 1, 4, batch=256)
  found = {n: budget.alike(settings, 20, n)[1:] for n in (20, 40, 60, 80, 400)}
  assert found == {20: (10, 10), 40: (10, 10), 60: (9, 10), 80: (8, 10), 400: (20, 10)}


def test_controls_that_no_class_has_are_refused_before_the_work(tmp_path, monkeypatch):
  path = save(tmp_path / "huge.npz", ipc=200)
  monkeypatch.setattr(Comparison, "run", None)
  words = "--controls: random: ipc: 200 is more than the .* training images"
  with pytest.raises(UserError, match=words):
    compare(options((path,)), tmp_path / "out")


def test_a_teacher_of_a_file_that_has_changed_is_another(tmp_path):
  file = tmp_path / "t.npz"
  names = []
  for text in ("one", "two"):
    file.write_text(text)
    names.append(teacher_file.named("--teacher", str(file)))
  assert names[0] != names[1] and names[0].startswith(str(file))
  assert teacher_file.named("--teacher", "convnet:norm=batch") == "convnet:norm=batch"


def test_any_name_of_a_set_can_be_drawn(finished, tmp_path):
  rows = [row | {"set": r"$\frac$"} for row in finished[2]["rows"][:1]]
  draw(rows, tmp_path / "figure.png")
  assert (tmp_path / "figure.png").stat().st_size


def test_labels_of_a_sets_own_are_said_to_be_left_out(sets, tmp_path, caplog):
  synthetic = SyntheticSet.load(sets[0])
  soft = np.full((10, 2, 10), 0.1, np.float32)
  metadata = synthetic.metadata | {"label_kind": "prob", "student_lr": 0.05}
  synthetic._replace(soft_labels=soft, metadata=metadata).save(tmp_path / "learned.npz")
  asked = options((str(tmp_path / "learned.npz"),))
  Comparison(asked, budget.read(asked.sets), lambda each: each)
  assert "learned: its own soft labels and step size are not used here" in caplog.text


def test_the_command_line(sets, tmp_path, monkeypatch, capsys):
  given = {}

  def standing_in(asked, output):
    given.update(asked._asdict())
    output.mkdir()
    (output / "table.md").write_text("| a |\n")

  monkeypatch.setattr(driver, "compare", standing_in)
  main.run([
    "compare", f"--sets={','.join(sets)}", "--controls=random,herding", "--labels=hard,soft",
    "--rates=0.1,0.01", "--validation=9", "--scores", f"--workdir={tmp_path / 'out'}",
  ])  # fmt: skip
  assert (given["sets"], given["rates"], given["scores"]) == (sets, (0.1, 0.01), True)
  assert given["networks"] == 5 and given["attacks"] == ()
  assert capsys.readouterr().out.startswith("| a |\nEverything is in")
  with pytest.raises(UserError, match="--rates: a are not numbers"):
    main.run(["compare", f"--sets={sets[0]}", "--rates=a", f"--workdir={tmp_path / 'more'}"])
