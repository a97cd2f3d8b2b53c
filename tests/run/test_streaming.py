"""Images on disk, read as they are drawn: the same run as with all of them in memory."""

import json
import signal
import time

import numpy as np
import pytest
from PIL import Image

import dcjax.config
from dcjax import SyntheticSet, UserError, data
from dcjax.commands.compare import compare
from dcjax.commands.compare.options import Options
from dcjax.commands.condense import condense
from dcjax.commands.evaluate import evaluate
from dcjax.data.on_disk import IN_MEMORY, Memory
from dcjax.data.stream import Stream
from dcjax.nn import training
from dcjax.run import experiment
from dcjax.run.experiment import Keys
from dcjax.run.interrupt import Interrupted
from dcjax.run.loop import Loop
from dcjax.run.streaming import StreamingLoop
from tests.runs import tiny, with_experts

ON_DISK = Memory(streaming=True, memory_limit=10**6, workers=0)
SIDE = 8
SIZES = {"a": 12, "b": 9, "c": 15}  # images of each class
QUICK = {"training__batch": 6, "training__augmentation": "flip", "training__cutmix": 0.0}
# Methods with what they draw besides a batch of each class.
RUNS = {
  "dc": {"inner_loop": 2, "network__norm": "batch", "init": "real"},
  "dm": {"init": "mix", "formation__factor": 2},
  "idc": {"training__pretraining": 2, **QUICK},
  "idc_pool": {"training__pretraining": 1, "training__networks": 2, **QUICK},
  "idm": {"queue__interval": 2, "queue__pretrained": 2, "queue__pretraining": 1},
  "bptt": {"learn": "both", "window__renew": 2},
  "frepo": {"pool__steps": 0, "batch_real": 12},
  "rcig": {"batch_real": 12, "inner__adapt": 1},
  "tm": {"learn": "both", "init": "correct", "lr_image": 1.0, "experts__batch": 12},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Three classes of noise."""
  path, generator = tmp_path_factory.mktemp("images") / "set", np.random.default_rng(0)
  for split in ("train", "val"):
    for name, count in SIZES.items():
      (path / split / name).mkdir(parents=True)
      for number in range(count):
        pixels = generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(path / split / name / f"{number:02d}.png")
  return path


def of_folder(folder, method, **changes):
  cache = folder.parent / "cache"
  fields = {"name": "folder", "data_dir": str(folder), "side": SIDE, "cache_dir": str(cache)}
  fields = {f"dataset__{name}": value for name, value in fields.items()}
  # What is quick to compile.
  fields |= {"compute__convolution": "lax"}
  if "dsa" in dcjax.config.default(method):
    fields["dsa__strategy"] = "flip"
  return tiny(method, **fields, **changes)


def iterations(config, memory, count=3):
  """Losses and images after some iterations."""
  config, keys = dcjax.config.resolve(config), Keys.from_seed(0)
  dataset = data.load(config.dataset, memory)
  layout = experiment.strategy(config, dataset)
  method = experiment.method(config, dataset, layout)
  if memory.streaming:
    loop = StreamingLoop(method, dataset, keys.loop, layout, count)
  else:
    loop = Loop(method, dataset, keys.loop, layout, chunk=1)
  state, losses = loop.start(keys.init), []
  for t in range(count):
    state, _, metrics = loop.run(state, t, t + 1)
    losses.append(metrics["loss"][0])
  loop.close()
  return np.array(losses), np.asarray(state.stored.images)


SLOW = ("idc_pool", "bptt")


@pytest.mark.parametrize(
  "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in RUNS]
)
def test_the_same_images_are_drawn(folder, monkeypatch, name, tmp_path):
  monkeypatch.setattr(training, "CHUNK", 4)
  config = with_experts(of_folder(folder, name.partition("_")[0], **RUNS[name]), tmp_path)
  losses, images = iterations(config, ON_DISK)
  expected_losses, expected_images = iterations(config, IN_MEMORY)
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
  np.testing.assert_allclose(images, expected_images, atol=1e-5)


def result(folder):
  """What a run computed: the bytes of its log, and its images."""
  return (folder / "metrics.jsonl").read_bytes(), SyntheticSet.load(folder / "synthetic.npz").images


def streamed(folder, **changes):
  fields = {"init": "real", "compute__streaming": True, "compute__workers": 0, **changes}
  return of_folder(folder, "dm", **fields)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
  """A run with images on disk that was never stopped, and its summary; reading took its time."""
  path, read = tmp_path_factory.mktemp("finished"), Stream.__next__

  def slowly(self):
    time.sleep(0.2)
    return read(self)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Stream, "__next__", slowly)
    return path, condense(streamed(folder), path)


def test_a_run_is_that_with_all_images_in_memory(folder, finished, tmp_path):
  path, summary = finished
  in_memory = condense(streamed(folder, compute__streaming=False), tmp_path)
  np.testing.assert_allclose(result(path)[1], result(tmp_path)[1], atol=1e-5)
  assert summary["evaluations"] == in_memory["evaluations"]
  assert set(summary["seconds"]) - set(in_memory["seconds"]) == {"wait"}
  assert 0 < summary["seconds"]["wait"] < summary["seconds"]["condense"]


def test_a_stopped_run_goes_on_bit_for_bit(folder, finished, tmp_path, monkeypatch):
  run = StreamingLoop.run

  def interrupted(self, state, start, *arguments):
    if start == 3:
      raise Interrupted(signal.SIGTERM)
    return run(self, state, start, *arguments)

  with monkeypatch.context() as patch:
    patch.setattr(StreamingLoop, "run", interrupted)
    with pytest.raises(Interrupted):
      condense(streamed(folder), tmp_path)
  assert (tmp_path / "checkpoints" / "3").is_dir()
  condense(streamed(folder), tmp_path)
  log, images = result(tmp_path)
  assert log == result(finished[0])[0]
  np.testing.assert_array_equal(images, result(finished[0])[1])


def test_devices_are_given_the_images(folder, finished, tmp_path):
  condense(streamed(folder, compute__mesh="2x1", evaluation__networks=0), tmp_path)
  np.testing.assert_allclose(result(tmp_path)[1], result(finished[0])[1], atol=1e-3)


def test_a_saved_set_is_evaluated_beside_subsets_from_disk(folder, finished, tmp_path, monkeypatch):
  monkeypatch.setattr(experiment, "memory", lambda config: ON_DISK)
  places = {"data_dir": str(folder), "cache_dir": str(tmp_path)}
  records = evaluate(finished[0] / "synthetic.npz", **places)
  expected = [record["last"] for record in finished[1]["evaluations"]]
  assert [record["last"] for record in records] == expected


@pytest.mark.slow
def test_sets_are_compared_beside_random_images_from_disk(folder, finished, tmp_path, monkeypatch):
  asked = Options(
    (str(finished[0] / "synthetic.npz"),), networks=1, draws=2, epochs=2, network="mlp",
    data_dir=str(folder), cache_dir=str(tmp_path / "cache"),
  )  # fmt: skip
  expected = compare(asked, tmp_path / "memory")["rows"]
  monkeypatch.setattr(experiment, "memory", lambda config: ON_DISK)
  found = compare(asked, tmp_path / "disk")["rows"]
  assert [row["last"] for row in found] == [row["last"] for row in expected]
  words = "--controls: herding looks at all images, which do not fit in memory"
  with pytest.raises(UserError, match=words):
    compare(asked._replace(controls=("herding",)), tmp_path / "more")


def test_images_that_cannot_be_read_any_more_end_a_run_that_is_kept(
  folder, finished, tmp_path, monkeypatch
):
  next_images = data.stream.Stream.__next__

  def gone(self):
    images = next_images(self)
    if len(list((tmp_path).glob("metrics.jsonl"))):
      raise UserError("dataset.data_dir: cannot read a.png any more")
    return images

  with monkeypatch.context() as patch:
    patch.setattr(data.stream.Stream, "__next__", gone)
    with pytest.raises(UserError, match=r"cannot read a.png any more"):
      condense(streamed(folder), tmp_path)
  condense(streamed(folder), tmp_path)
  assert json.loads((tmp_path / "summary.json").read_text())["iterations"] == 6
  np.testing.assert_array_equal(result(tmp_path)[1], result(finished[0])[1])


@pytest.mark.parametrize(
  ("method", "changes", "message"),
  [
    ("dm", {"trained__low": 0.5}, r"compute.streaming: networks that begin with an accuracy"),
    ("idm", {"queue__pretrained": 1, "queue__classes": 0.5}, r"queue.classes"),
    ("dm", {"evaluation__whole": True}, r"evaluation.whole: all training images together"),
    ("dm", {"dataset__zca": True}, r"compute.streaming: dataset.zca needs all"),
    ("dm", {"dataset__name": "digits"}, r"compute.streaming: dataset.name=digits is in memory"),
    ("dm", {"compute__memory_limit": 100}, r"compute.memory_limit: 100 bytes are too few"),
    ("dm", {"compute__workers": -1}, r"compute.workers: -1 is too small"),
  ],
)
def test_what_cannot_be_streamed_is_refused_before_any_work(
  folder, tmp_path, method, changes, message
):
  config = of_folder(folder, method, compute__streaming=True)
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  with pytest.raises(UserError, match=message):
    condense(config, tmp_path)
  assert not (tmp_path / "config.json").exists()
