"""`dcjax plot`: what is read from runs, what is computed of it, and every mistake."""

import json
import shutil

import jax
import numpy as np
import pytest
from dcjax.launch import main
from PIL import Image

import dcjax
from dcjax import data, nn
from dcjax.augment import Augmentations
from dcjax.commands import plot
from dcjax.commands.condense import condense
from dcjax.common.errors import UserError
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.figures import curves
from dcjax.methods import dc
from dcjax.methods.setup import Setup
from dcjax.sets.formation import Stored
from dcjax.sets.synthetic import SyntheticSet
from tests.runs import tiny

CLASSES = 10


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run with images of iterations 0, 2, 4 and 6."""
  folder = tmp_path_factory.mktemp("runs") / "dc"
  condense(tiny(picture_every=2), folder)
  return folder


def edited(run, folder, **changes):
  """A copy of a run whose `config.json` and `summary.json` say something else."""
  shutil.copytree(run, folder)
  for name in ("config.json", "summary.json"):
    content = json.loads((folder / name).read_text())
    content |= {field: value for field, value in changes.items() if field in content}
    (folder / name).write_text(json.dumps(content))
  return folder


@pytest.fixture
def coreset(run, tmp_path):
  """A run that chose real images: there is the set, and nothing before it."""
  folder = edited(run, tmp_path / "chosen", method="k_center")
  shutil.rmtree(folder / "images")
  synthetic = SyntheticSet.load(folder / "synthetic.npz")
  synthetic.metadata["method"] = "k_center"
  synthetic.save(folder / "synthetic.npz")
  return folder


def titles(figure):
  return [axes.get_title() for axes in figure.axes]


# --- Files and flags -----------------------------------------------------------------------


@pytest.mark.parametrize(
  ("kind", "more"),
  [
    ("grid", ["--classes=3,7"]),
    ("strip", ["--labels=mine", "--classes=0"]),
    ("gradients", ["--networks=2"]),
    ("ipc", []),
  ],
)
def test_every_kind_writes_both_files(run, tmp_path, capsys, kind, more):
  output = tmp_path / "picture"
  main.run(["plot", kind, f"--workdirs={run}", f"--output={output}", *more])
  files = [tmp_path / "picture.png", tmp_path / "picture.pdf"]
  assert capsys.readouterr().out == f"Wrote {files[0]} and {files[1]}\n"
  assert sorted(tmp_path.iterdir()) == sorted(files)
  with Image.open(files[0]) as image:
    assert np.ptp(np.asarray(image.convert("L"))) > 200


@pytest.mark.parametrize(
  ("output", "names"),
  [
    ("a", ["a.png", "a.pdf"]),
    ("a.png", ["a.png", "a.pdf"]),
    ("a.PDF", ["a.png", "a.pdf"]),
    ("lr0.1", ["lr0.1.png", "lr0.1.pdf"]),
  ],
)
def test_either_suffix_names_both_files(run, tmp_path, output, names):
  files = plot.write("grid", [run], tmp_path / output)
  assert [file.name for file in files] == names


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_nothing_is_overwritten(run, tmp_path, suffix):
  precious = tmp_path / f"a.{suffix}"
  precious.write_text("precious")
  with pytest.raises(UserError, match=rf"a\.{suffix} is there already"):
    plot.write("ipc", [run], tmp_path / "a.png")
  assert [file.read_text() for file in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "no kind of picture; begin with one of: grid, strip, loss, gradients, ipc"),
    (["--workdirs=x"], "no kind of picture"),
    (["gird"], "did you mean 'grid'?"),
    (["grid"], "--workdirs: missing; see dcjax plot grid --help"),
    (["grid", "--workdirs=x"], "--output: missing"),
    (["grid", "--workdirs=", "--output=x"], "workdirs: none given"),
    (["grid", "--workdirs=gone", "--output=x"], "no folder gone"),
    (["grid", "--workdirs=.", "--output=none/x"], "no folder none that can be written to"),
    (["grid", "--workdirs=.", "--output=."], "no name of a file"),
    (["grid", "--workdirs=.,.", "--output=x"], "a grid shows one run, not 2"),
    (["grid", "--workdirs=.", "--output=x"], "no file synthetic.npz"),
    (["grid", "--workdirs=.", "--output=x", "--networks=2"], "Unknown command line flag"),
    (["strip", "--workdirs=.", "--output=x"], "holds no config.json; give the --workdir of"),
    (["ipc", "--workdirs=.", "--output=x"], "holds no summary.json; let the run finish"),
    (["stages", "--workdirs=.", "--output=x", "--labels=a"], "holds no summary.json; let the run"),
    (["gradients", "--workdirs=.", "--output=x", "--networks=0"], "networks: 0 is too small"),
    (["gradients", "--workdirs=.", "--output=x", "--labels=a,b"], "labels: 2 for 1 runs"),
  ],
)
def test_mistakes(monkeypatch, tmp_path, arguments, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError) as caught:
    main.run(["plot", *arguments])
  assert message in str(caught.value)
  assert not list(tmp_path.iterdir())


def test_help(capsys):
  main.run(["plot", "--help"])
  printed = capsys.readouterr().out
  assert all(f"\n  {kind} " in printed for kind in plot.KINDS)
  with pytest.raises(SystemExit):
    main.run(["plot", "gradients", "--help"])
  printed = capsys.readouterr().out
  assert "--networks" in printed and "--classes" not in printed


# --- Images --------------------------------------------------------------------------------


def test_a_grid_shows_before_and_after(run):
  figure = plot.grid([run])
  assert titles(figure) == ["before", "after 6 iterations"]
  before, after = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
  assert before.shape == after.shape and (before != after).any()


def test_a_grid_of_a_coreset_shows_what_there_is(coreset):
  figure = plot.grid([coreset])
  assert titles(figure) == ["k-center"]
  assert len(figure.axes[0].get_yticks()) == CLASSES


def test_a_figure_is_returned_for_one_folder_or_several(run):
  assert titles(dcjax.plot("grid", run)) == titles(dcjax.plot("grid", [str(run)]))
  with pytest.raises(UserError, match="none given"):
    dcjax.plot("grid", [])
  with pytest.raises(UserError, match="plot: unknown 'gird'"):
    dcjax.plot("gird", run)


def test_the_loss_of_a_run_that_goes_on_is_drawn(run, tmp_path):
  going = shutil.copytree(run, tmp_path / "going")
  (going / "summary.json").unlink()
  log = (going / "metrics.jsonl").read_text()
  (going / "metrics.jsonl").write_text(log + '{"iteration": 7, "lo')
  figure = plot.loss([run, going], labels=["done", "going"])
  assert len(figure.axes[0].lines) == 4
  np.testing.assert_array_equal(*(line.get_ydata() for line in figure.axes[0].lines[::2]))
  (going / "metrics.jsonl").unlink()
  with pytest.raises(UserError, match="has no iteration yet"):
    plot.loss([going])


def test_classes_are_shown_in_the_order_asked_for(run):
  (axes, _) = plot.grid([run], classes=["7", "3"]).axes
  assert [label.get_text() for label in axes.get_yticklabels()] == ["7", "3"]
  whole = np.asarray(plot.grid([run]).axes[0].images[0].get_array())
  chosen = np.asarray(plot.grid([run], classes=list("7301245689")).axes[0].images[0].get_array())
  rows = whole.reshape(CLASSES, -1, *whole.shape[1:])[[7, 3, 0, 1, 2, 4, 5, 6, 8, 9]]
  np.testing.assert_array_equal(chosen, rows.reshape(whole.shape))
  with pytest.raises(UserError, match="no class '12'"):
    plot.grid([run], classes=["12"])


def test_a_strip_has_the_iterations_of_the_run(run):
  figure = plot.strip([run, run], labels=["one", "two"])
  assert titles(figure) == ["one", "two"]
  shown = [label.get_text() for label in figure.axes[1].get_xticklabels()]
  assert shown == ["0", "2", "4", "6"]


def test_a_coreset_has_no_strip(coreset):
  with pytest.raises(UserError, match="chosen holds images of fewer than two iterations"):
    plot.strip([coreset])


def test_runs_are_named_by_what_tells_them_apart(run, tmp_path):
  dsa = edited(run, tmp_path / "dsa", method="dsa")
  again = edited(run, tmp_path / "again")
  twin = edited(run, tmp_path / "elsewhere" / "again")
  assert titles(plot.strip([run, dsa])) == ["DC", "DSA"]
  assert titles(plot.strip([run, again])) == ["dc", "again"]
  assert titles(plot.strip([again, twin])) == [str(again), str(twin)]


# --- Gradients -----------------------------------------------------------------------------


def linear_network():
  """A network whose gradients are easy to write down."""

  def apply(params, images, stats=None):
    features = images.reshape(images.shape[0], -1)
    return features @ params, features

  return nn.Network(
    init=lambda key: 0.1 * jax.random.normal(key, (64, CLASSES)),
    apply=apply,
    statistics=lambda params, images: {},
    batch_norm=False,
  )


def linear_gradient(params, images, labels):
  """Of the mean cross-entropy of the linear network."""
  x = np.asarray(images).reshape(len(images), -1)
  exponentials = np.exp(x @ params)
  errors = exponentials / exponentials.sum(1, keepdims=True) - np.eye(CLASSES)[labels]
  return x.T @ errors / len(x)


def test_gradient_norms_are_those_of_one_iteration():
  dataset, network, key = digits.load(), linear_network(), jax.random.key(3)
  settings = dc.DCSettings(
    ipc=2, init="noise", distance="ours", inner_loop=3, network_epochs=2,
    batch_real=5, lr_image=0.1, lr_network=0.05,
  )  # fmt: skip
  scaled = Augmentations(
    real=lambda key, images: 2 * images,
    synthetic=lambda key, images: 3 * images,
    network=lambda key, images: 0.5 * images,
  )
  images = jax.random.normal(jax.random.key(4), (CLASSES, 2, 8, 8, 1))
  norms = jax.jit(
    lambda images, dataset: dc.gradient_norms(
      Setup(network, Strategy(image_block=2), scaled), settings, Stored(images, {}), dataset, key
    )
  )
  real, synthetic = norms(images, dataset)
  assert real.shape == synthetic.shape == (3, CLASSES)

  network_key, steps_key = jax.random.split(key)
  params = np.asarray(network.init(network_key))
  sample = jax.jit(data.sample, static_argnames="n")
  flat, labels = images.reshape(-1, 8, 8, 1), np.repeat(np.arange(CLASSES), 2)
  for t in range(3):
    match_key, _ = jax.random.split(jax.random.fold_in(steps_key, t))
    batch_key = jax.random.split(match_key, 3)[0]
    for label in range(CLASSES):
      index = sample(dataset, jax.random.fold_in(batch_key, label), label, n=5)
      batch = 2 * dataset.normalise(dataset.images[index])
      expected = np.linalg.norm(linear_gradient(params, batch, label))
      np.testing.assert_allclose(real[t, label], expected, rtol=1e-4)
      expected = np.linalg.norm(linear_gradient(params, 3 * images[label], label))
      np.testing.assert_allclose(synthetic[t, label], expected, rtol=1e-4)
    for _ in range(settings.network_epochs):  # the whole of S is one batch
      params = params - settings.lr_network * linear_gradient(params, 0.5 * flat, labels)


def test_gradients_of_methods_that_match_none(coreset, tmp_path):
  with pytest.raises(UserError, match="chosen is a run of k_center, which matches no gradients"):
    plot.write("gradients", [coreset], tmp_path / "x")


def test_gradients_need_the_data_of_the_run(run, tmp_path):
  folder = edited(run, tmp_path / "other")
  for file in (folder / "images").glob("*.npz"):
    synthetic = SyntheticSet.load(file)
    synthetic.metadata["class_names"][0] = "nought"
    synthetic.save(file)
  with pytest.raises(UserError, match="other classes or images than the run in"):
    plot.gradients([folder])


# --- Accuracies ----------------------------------------------------------------------------


def record(name, mean, std=0.1, networks=2, iteration=0, network="convnet", **more):
  return {
    "set": name, "iteration": iteration, "network": network, "networks": networks,
    "last_mean": mean, "last_std": std, "protocol": "dc", "augmentation": "none", **more,
  }  # fmt: skip


def summary(ipc, *records, method="dc", dataset="mnist"):
  return {"ipc": ipc, "method": method, "dataset": dataset, "evaluations": list(records)}


def test_curves_have_a_point_for_each_number_of_images():
  found = curves.from_summaries([
    summary(10, record("synthetic", 0.9, iteration=8), record("random", 0.7)),
    summary(1, record("synthetic", 0.3, iteration=4), record("synthetic", 0.5, iteration=8)),
    summary(1, record("synthetic", 0.4), method="k_center"),
  ])  # fmt: skip
  assert [(curve.name, curve.ipc, curve.mean, curve.reference) for curve in found] == [
    ("DC", [1, 10], (0.5, 0.9), False),
    ("k-center", [1], (0.4,), False),
    ("random real images", [10], (0.7,), True),
  ]
  assert all(curve.dataset == "mnist" and curve.whole is None for curve in found)


def test_curves_know_the_upper_bound_of_their_dataset():
  dsa = {"protocol": "dsa", "augmentation": "crop"}
  found = curves.from_summaries([
    summary(1, record("synthetic", 0.5), record("whole", 0.99)),
    summary(1, record("synthetic", 0.5, **dsa), record("whole", 0.95, **dsa), method="dsa"),
    summary(1, record("synthetic", 0.5, augmentation="flip"), method="dm"),
    summary(1, record("synthetic", 0.5), dataset="svhn"),
    summary(1, record("synthetic", 0.5, network="mlp"), method="herding"),
  ])  # fmt: skip
  bounds = {(curve.name, curve.dataset): curve.whole for curve in found}
  assert bounds == {
    ("DC, convnet", "mnist"): pytest.approx(0.99),
    ("DSA, convnet", "mnist"): pytest.approx(0.95),
    ("DM, convnet", "mnist"): pytest.approx(0.97),  # of both, for want of its own
    ("DC, convnet", "svhn"): None,
    ("herding, mlp", "mnist"): None,
  }


def test_random_images_are_told_apart_by_their_evaluation():
  def names(**more):
    first = summary(1, record("synthetic", 0.5), record("random", 0.5))
    records = record("synthetic", 0.5, **more), record("random", 0.5, **more)
    return [
      curve.name for curve in curves.from_summaries([first, summary(1, *records, method="dsa")])
    ]

  random = "random real images"
  assert names() == ["DC", "DSA", random]
  assert names(protocol="dsa", augmentation="crop")[2:] == [
    f"{random}, DC evaluation", f"{random}, DSA evaluation",
  ]  # fmt: skip
  assert names(augmentation="crop")[2:] == [
    f"{random}, none evaluation", f"{random}, crop evaluation",
  ]  # fmt: skip
  assert names(cutmix=0.5)[2:] == [
    f"{random}, none evaluation", f"{random}, none with CutMix evaluation",
  ]  # fmt: skip


def test_seeds_are_averaged_as_if_all_networks_were_of_one():
  accuracies = np.array([0.5, 0.7, 0.6]), np.array([0.9, 0.8])
  records = [record("synthetic", a.mean(), a.std(), networks=len(a)) for a in accuracies]
  together = np.concatenate(accuracies)
  np.testing.assert_allclose(curves.pooled(records), (together.mean(), together.std()))
  (curve,) = curves.from_summaries([summary(1, one) for one in records])
  np.testing.assert_allclose((curve.mean, curve.std), [[together.mean()], [together.std()]])


def test_accuracies_of_runs_are_drawn(run, tmp_path):
  other = edited(run, tmp_path / "seed1", seed=1)
  ten = edited(run, tmp_path / "ten", ipc=10)
  figure = plot.ipc([run, other, ten])
  assert len(figure.axes) == 1  # none of them has the upper bound
  ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
  assert ticks == ["1", "10"]


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged(run, tmp_path):
  other = edited(run, tmp_path / "real", seed=1, init="real", picture_every=3)
  with pytest.raises(UserError, match="are both digits dc 1 but differ in init; name one of them"):
    plot.ipc([run, other])


def test_a_run_without_evaluation_has_no_accuracy(run, tmp_path):
  other = edited(run, tmp_path / "blind", evaluations=[])
  with pytest.raises(UserError, match="blind was not evaluated"):
    plot.ipc([other])


def test_a_file_that_is_no_object(run, tmp_path):
  other = edited(run, tmp_path / "broken")
  (other / "summary.json").write_text("[1")
  with pytest.raises(UserError, match=r"summary\.json is damaged"):
    plot.ipc([other])


@pytest.mark.parametrize(
  "content",
  [
    {"evaluations": 3},
    {"evaluations": [3]},
    {"evaluations": [{"set": "synthetic"}]},
    {"evaluations": [{**record("synthetic", 0.5), "last_mean": "0.5"}]},
    {"evaluations": [{**record("synthetic", 0.5), "networks": None}]},
  ],
  ids=str,
)
def test_a_summary_without_what_a_curve_is_made_of(tmp_path, content):
  whole = summary(1, record("synthetic", 0.5))
  (tmp_path / "summary.json").write_text(json.dumps(whole | content))
  with pytest.raises(UserError, match=r"summary\.json is damaged"):
    plot.ipc([tmp_path])


@pytest.mark.parametrize(
  "fields",
  [
    {"stages": 3},
    {"accuracy": None},
    {"accuracy": {"mlp": [0.5]}},
    {"accuracy": {"mlp": {"mean": [0.5], "std": [0.1, 0.2]}}},
    {"accuracy": {"mlp": {"mean": [0.5, "x"], "std": [0.1, 0.2]}}},
  ],
  ids=str,
)
def test_stages_without_what_a_curve_is_made_of(tmp_path, fields):
  curve = {"mean": [0.5, 0.4], "std": [0.1, 0.2]}
  whole = {"stages": ["a", "b"], "accuracy": {"mlp": curve}}
  (tmp_path / "summary.json").write_text(json.dumps(whole | fields))
  with pytest.raises(UserError, match=r"summary\.json is damaged"):
    plot.stages([tmp_path], labels=["mine"])
