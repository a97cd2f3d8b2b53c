"""Hostile numbers in every field of every config, and in every flag: one line, or a run."""

import math

import jax
import pytest
from absl import flags
from dcjax.launch import condense as condense_command
from dcjax.launch import evaluate as evaluate_command
from dcjax.launch import main
from dcjax.launch import plot as plot_command

import dcjax.config
from dcjax import UserError, data, nn
from dcjax.applications.continual import fields as continual_fields
from dcjax.applications.nas import fields as nas_fields
from dcjax.commands import evaluate, plot, table
from dcjax.common.registry import METHODS
from dcjax.config import flatten
from dcjax.config.numbers import LARGER, MOST
from dcjax.nn import architectures
from dcjax.run import experiment
from dcjax.sets.formation import Stored
from tests.runs import tiny

HOSTILE = (0, -1, 2**31, 2**63, 10**400, -0.5, 1e30, math.nan, math.inf, -math.inf)
# Fields and flags for which zero says something: nothing, never, all of them, or exactly that.
ZERO = {
  "seed", "dataset.test_seed", "evaluate_every", "picture_every", "converged_after",
  "formation.bound", "dataset.test_resize",
  "dataset.rgb_side", "evaluation.networks", "evaluation.cutmix", "compute.image_block",
  "compute.first_block", "compute.synthetic_block", "compute.memory_limit", "compute.workers",
  "trained.low", "training.steps", "training.weight_decay", "training.pretraining",
  "training.networks", "training.cutmix", "queue.pretrained", "queue.trained", "regularisation",
  "continual.distillation", "continual.finetuning.iterations", "inner.classes", "window.least",
  "lr_lr", "average", "skip_above", "student.batch", "start.least", "start.grow", "experts.rho",
  "experts.alpha", "lr_decay", "pool.steps", "kernel.bias", "inner.adapt",
}  # fmt: skip
# Fields whose zero is refused where they are used: by the data, a network or the layout; or that
# mean nothing until another field is set.
LATER = {
  "dataset.side", "network.width", "network.depth", "network.filters", "network.growth",
  "compute.network_block", "trained.high", "trained.networks", "queue.pretraining",
}  # fmt: skip

NAMES = ("dataset.classes", "evaluation.architectures", "search.sets")


def resolve_continual(config):
  return continual_fields.memory(continual_fields.resolve(config), seed=config.seed)


CONFIGS = [
  *((dcjax.config.default, method, dcjax.config.resolve) for method in METHODS),
  *(
    (continual_fields.default, scenario, resolve_continual)
    for scenario in continual_fields.SCENARIOS
  ),
  (lambda _: nas_fields.default_search(), "nas", nas_fields.resolve_search),
]


@pytest.mark.parametrize(("make", "name", "resolve"), CONFIGS, ids=[c[1] for c in CONFIGS])
def test_every_number_of_a_config_is_refused_in_a_line_or_means_something(make, name, resolve):
  for field, default in flatten(make(name).to_dict()):
    if field in NAMES:
      continue
    for value in HOSTILE:
      config = make(name)
      try:
        config.update_from_flattened_dict(
          {field: (value,) if isinstance(default, tuple) else value}
        )
      except (TypeError, ValueError, OverflowError):
        continue  # the field holds something else; the command line says so
      try:
        resolve(config)
      except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
        continue
      meant = value == 0 and field in ZERO | LATER
      assert meant or 0 < value <= LARGER.get(field, MOST), (field, value)


# --- Flags ---------------------------------------------------------------------------------

TEXTS = [*map(str, HOSTILE), "", "one"]


def numeric(values):
  """The flags that take a number."""
  kinds = (flags.FloatParser, flags.IntegerParser)
  return [name for name in values if isinstance(values[name].parser, kinds)]


def survivors(names, arguments):
  """The values that a command takes; all others must be a user's mistake in one line."""
  found = set()
  for name in names:
    for text in TEXTS:
      try:
        main.run([*arguments, f"--{name}={text}"])
        found.add((name, text))
      except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
  return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A set whose evaluation is bound, but not run."""
  config = tiny(evaluation__networks=2)
  config = dcjax.config.resolve(config)
  dataset = data.load(config.dataset)
  stored = Stored(dataset.normalise(dataset.images[:10])[:, None], {})
  file = tmp_path_factory.mktemp("saved") / "synthetic.npz"
  experiment.synthetic_set(config, dataset, stored, iteration=1).save(file)
  return file


def test_numbers_given_to_evaluate(saved, monkeypatch):
  monkeypatch.setattr(
    evaluate_command,
    "records",
    lambda path, unfinished, **more: [] if evaluate.bind(path, **more) else None,
  )
  names = numeric(evaluate_command._flags())
  more = {"lr", "temperature", "batch", "teacher_epochs"}
  assert {"networks", "epochs", "checks", "seed", "cutmix", *more} == set(names)
  assert survivors(names, ["evaluate", f"--synthetic={saved}"]) == {
    ("seed", "0"), ("seed", "2147483648"), ("cutmix", "0"),
  }  # fmt: skip


def test_numbers_given_to_condense(monkeypatch):
  monkeypatch.setattr(jax.distributed, "initialize", lambda **_: None)
  monkeypatch.setattr(condense_command, "condense", lambda *_, **more: {"evaluations": []})
  arguments = ["condense", "--config=configs/quickstart.py:smoke", "--workdir=x"]
  names = numeric(condense_command._flags(arguments))
  assert set(names) == {"processes", "process"}
  arguments += ["--coordinator=localhost:1", "--process=0", "--processes=1"]
  assert survivors(names, arguments) == {("process", "0")}
  for port in ("0", "-1", "65536", "99999999999", "nan", ""):
    with pytest.raises(UserError, match="--coordinator: "):
      main.run([*arguments, f"--coordinator=localhost:{port}"])


def test_numbers_given_to_plot(monkeypatch, tmp_path):
  names = numeric(plot_command._flags("gradients"))
  assert names == ["networks"]
  assert not survivors(
    names, ["plot", "gradients", "--workdirs=gone", f"--output={tmp_path / 'x'}"]
  )
  for networks in (0, -1, 2**31, 2**63, 10**400):
    with pytest.raises(UserError, match="networks: "):
      plot.gradients([tmp_path], networks=networks)


@pytest.mark.parametrize("text", [*TEXTS, "5000000000", "1" * 5000])
def test_numbers_given_to_table(tmp_path, text, monkeypatch):
  monkeypatch.setattr(table.Filling, "run", lambda *_: None)
  arguments = ["table", "--table=dc/2", f"--workdir={tmp_path / 'w'}", "--rows=convnet"]
  if text in ("0", "2147483648"):
    main.run([*arguments, f"--seeds={text}"])
    return
  for flag in ("--seeds", "--config.ipc", "--config.lr_image"):
    with pytest.raises(UserError) as caught:
      main.run([*arguments, f"{flag}={text}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "text", ["width=0", "width=99999", f"depth={2**40}", "width=" + "1" * 5000]
)
def test_numbers_in_the_name_of_a_network(text):
  with pytest.raises(UserError):
    nn.create(image_shape=(8, 8, 1), num_classes=10, **architectures.parse(f"convnet:{text}"))


@pytest.mark.parametrize("text", ["0", "99999999999", "9" * 5000])
def test_numbers_in_the_argument_of_a_preset(text):
  with pytest.raises(UserError) as caught:
    main.run(["condense", f"--config=configs/dc.py:ipc={text}", "--workdir=x"])
  assert "\n" not in str(caught.value)
