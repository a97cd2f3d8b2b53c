"""Plans of runs: memory by part, what fits, time; here, and for GPUs that are not there."""

import importlib
import json
from collections import Counter

import jax
import numpy as np
import pytest
from dcjax.launch.main import run
from dcjax.launch.plan import lines

from dcjax.commands import plan as command
from dcjax.commands.condense import condense
from dcjax.common.errors import UserError
from dcjax.config import default, resolve
from dcjax.data import IN_MEMORY, stand_in
from dcjax.devices import target
from dcjax.methods import Step
from dcjax.run import plan as plan_lib
from dcjax.run.plan import Plan, held
from tests.devices.test_target import libtpu, plugin
from tests.runs import tiny


@pytest.fixture(scope="module")
def report():
  """A plan of a tiny run, and its config."""
  config = tiny(evaluate_every=3, compute__mesh="1x1")
  return command.plan(config, seconds=0.1), config


def with_memory(monkeypatch, size):
  """Makes the devices here have so many bytes."""
  monkeypatch.setattr(target, "here", lambda: target.Target("small", "cpu", (), size))


def test_memory_is_told_by_part(report):
  found, _ = report
  assert list(found["parts"]) == ["start", "iteration", "evaluation on convnet"]
  iteration = found["parts"]["iteration"]
  parts = ("data", "state", "results", "temporaries")
  assert iteration["bytes"] == sum(iteration[name] for name in parts)
  assert iteration["data"] > 0 and iteration["state"] > 0 and iteration["temporaries"] > 0
  assert found["fits"] is True and found["remedy"] is None
  assert found["dataset"]["is_read"]
  assert found["bound"] is None  # nothing is known of a CPU's peak


def test_the_time_is_that_of_all_iterations_and_evaluations(report):
  found, config = report
  seconds = found["seconds"]
  assert list(seconds) == ["compile", "iteration", "evaluation on convnet", "together"]
  for mean, low, high in seconds.values():
    assert 0 < low <= mean <= high
  assert seconds["together"][0] == pytest.approx(
    sum(seconds[name][0] for name in list(seconds)[:-1])
  )
  assert found["iterations"] == config.iterations


def test_it_is_json_and_text(report):
  found, _ = report
  assert json.loads(json.dumps(found))["fits"] is True
  text = "\n".join(lines(found))
  assert "It fits: " in text and "| evaluation on convnet |" in text
  assert "together" in text and "of memory at most" in text


def test_the_command_prints_it(capsys):
  flags = ["--config.dataset.name=digits", "--config.evaluation.networks=0", "--seconds=0.01"]
  run(["plan", "--config=configs/dm.py:mnist,smoke", *flags, "--json"])
  assert json.loads(capsys.readouterr().out)["method"] == "dm"


def test_nothing_is_written(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  command.plan(tiny(evaluation__networks=0), seconds=0.01)
  assert not list(tmp_path.iterdir())


def test_rare_iterations_count_by_themselves(monkeypatch):
  planned = Plan(resolve(tiny(iterations=10, compute__mesh="1x1")), dataset(), target.here())
  rare = Step(lambda *arguments: None, every=5)
  planned.method = planned.method._replace(iteration=(rare, *planned.method.iteration))

  class Timed(plan_lib.Loop):
    def __init__(self):
      self.stops = []

    def start(self, key):
      return None

    def run(self, state, start, stop):
      self.seconds_per_iteration = 10.0 if start % 5 == 0 else 1.0
      self.stops.append((start, stop))
      return state, stop, {}

  planned.loop = Timed()
  assert planned.time_iterations(60) == (28.0, 28.0, 28.0)  # 2 x 10 s and 8 x 1 s
  assert planned.loop.stops == [(0, 1), (1, 5), (5, 6), (6, 10)]
  planned.loop = Timed()
  assert planned.time_iterations(1e-9) == (28.0, 28.0, 28.0)  # what was not reached is run, too
  assert planned.loop.stops == [(0, 1), (1, 2)]


def dataset():
  fields = tiny().dataset
  size = stand_in.Size(classes=3, train=30, test=9, side=8, channels=3)
  return stand_in.stand_in(fields, size, IN_MEMORY._replace(memory_limit=2**30), filled=True)


# --- What does not fit -----------------------------------------------------------------------


def test_fields_are_found_with_which_it_fits(monkeypatch):
  config = tiny(batch_real=8, compute__mesh="1x1", compute__class_map="vmap")
  large = command.plan(config, seconds=0.01)
  size = max(part["bytes"] for part in large["parts"].values()) - 1000
  with_memory(monkeypatch, size)
  small = command.plan(config, seconds=0.01)
  assert small["fits"] is False and small["seconds"] is None
  remedy = small["remedy"]
  assert remedy["fits"] and remedy["bytes"] <= size
  lighter = config.copy_and_resolve_references()
  lighter.update_from_flattened_dict(remedy["fields"])
  assert command.plan(lighter, seconds=0.01)["fits"] is True
  flags = " ".join(f"--config.{name}={value}" for name, value in remedy["fields"].items())
  assert "It does not fit: " in "\n".join(lines(small)) and flags in "\n".join(lines(small))


def test_data_that_take_most_of_the_memory_stay_on_disk(monkeypatch):
  preset = importlib.import_module("dcjax.configs.imagenet").get_config("idm10,ipc=1,smoke")
  preset.compute.streaming, preset.compute.mesh = False, "1x1"
  preset.evaluation.networks, preset.dataset.side, preset.iterations = 0, 16, 1
  preset.network.depth = 2
  monkeypatch.setattr(command, "_seconds", lambda *_: None)
  size = command.plan(preset)["parts"]["iteration"]["bytes"]
  with_memory(monkeypatch, size - 1000)
  remedy = command.plan(preset)["remedy"]
  assert remedy["fits"] and remedy["fields"] == {"compute.streaming": True}


def test_where_nothing_helps_that_is_said(monkeypatch):
  with_memory(monkeypatch, 1000)
  found = command.plan(tiny(evaluation__networks=0), seconds=0.01)
  assert found["remedy"]["fits"] is False
  assert "take a smaller network" in "\n".join(lines(found)).lower()


def test_a_run_that_does_not_fit_begins_with_a_warning(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(plan_lib.environment, "memory", lambda: 1000)
  condense(tiny(iterations=1, evaluation__networks=0), tmp_path)
  assert "an iteration takes" in caplog.text and "1 kB" in caplog.text


def test_one_that_fits_begins_without(tmp_path, caplog):
  condense(tiny(iterations=1, evaluation__networks=0), tmp_path)
  assert "an iteration takes" not in caplog.text


# --- Data that is not there ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "cifar100", "tiny_imagenet", "usps", "svhn_cropped"])
def test_datasets_of_the_papers_need_not_be_there(name):
  fields = tiny().dataset
  fields.name, fields.data_dir = name, ""
  size = stand_in.size_of(fields)
  made = stand_in.stand_in(fields, size, IN_MEMORY._replace(memory_limit=2**40), filled=False)
  assert made.images.shape == (size.train, size.side, size.side, size.channels)
  assert made.test_images.shape[0] == len(made.test_labels) == size.test
  labels, offsets = np.asarray(made.labels), np.asarray(made.offsets)
  assert set(Counter(labels.tolist()).values()) == set(np.diff(offsets).tolist())
  assert made.largest_class == np.diff(offsets).max()


def test_whitening_and_colour_are_in_it():
  fields = tiny().dataset
  fields.name, fields.rgb_side, fields.zca = "mnist", 8, True
  made = stand_in.stand_in(fields, stand_in.size_of(fields), IN_MEMORY, filled=False)
  assert made.image_shape == (8, 8, 3) and made.whitening.matrix.shape == (192, 192)


def test_images_on_disk_are_planned_so(monkeypatch):
  preset = importlib.import_module("dcjax.configs.imagenet").get_config("idm10,ipc=1,smoke")
  preset.compute.streaming = True
  preset.evaluation.networks = 0
  preset.iterations, preset.compute.mesh = 2, "1x1"
  found = command.plan(preset, seconds=0.01)
  assert found["dataset"]["streams"] and found["dataset"]["train"] == 13_000
  assert "training images stay on disk" in "\n".join(lines(found))
  assert found["seconds"]["iteration"][0] > 0


def test_other_datasets_are_read_and_must_be_there():
  config = tiny()
  config.dataset.name, config.dataset.data_dir = "folder", "/nowhere"
  with pytest.raises(UserError, match=r"dataset\.data_dir: "):
    command.plan(config)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"seconds": 0.0}, "--seconds: 0.0 is not a finite number above 0"),
    ({"seconds": float("nan")}, "--seconds: nan is not"),
    ({"devices": 2}, "--devices: how many of the devices here are used, compute.mesh says"),
    ({"device": "t4", "devices": 0}, "--devices: 0 is too small"),
    ({"device": "t5"}, "--device: no 't5'"),
  ],
)
def test_bad_input_is_one_line(arguments, message):
  with pytest.raises(UserError, match=message):
    command.plan(tiny(), **arguments)


def test_a_selection_is_not_planned():
  with pytest.raises(UserError, match="method: herding selects real images, which is not planned"):
    command.plan(default("herding"))


def test_bytes_are_counted_on_the_device_that_holds_most():
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("class",))
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("class"))
  split = jax.ShapeDtypeStruct((4, 10), np.float32, sharding=place)
  assert held([split, np.zeros(3, np.uint8)]) == 2 * 10 * 4 + 3


# --- GPUs and TPUs ---------------------------------------------------------------------------


def of_preset(preset):
  name, _, argument = preset.partition(":")
  return importlib.import_module(f"dcjax.configs.{name}").get_config(argument)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("device", "devices"),
  [
    pytest.param("t4", 1, marks=plugin),
    pytest.param("h100", 8, marks=plugin),
    pytest.param("v5e", 1, marks=libtpu),
    pytest.param("v5e", 8, marks=libtpu),
  ],
)
@pytest.mark.parametrize(
  "preset",
  ["dc:cifar10,ipc=10", "dsa:cifar10,ipc=10", "dm:cifar10,ipc=50", "idm:cifar10,ipc=10",
   "idc:cifar10,ipc=10"],
)  # fmt: skip
def test_presets_of_the_papers_fit_and_have_no_grouped_convolutions(preset, device, devices):
  found = command.plan(of_preset(preset), device, devices)
  assert found["fits"] is True
  for name, part in found["parts"].items():
    assert not part["work"]["most"]["grouped"], name
  assert found["bound"]["seconds"] > 0 and found["seconds"] is None
  most = found["parts"]["iteration"]["work"]["most"]
  assert (most["collectives"] > 0) == (devices > 1)
  assert most["collective_bytes"] < 25e6  # synthetic images, gradients; no real images
