"""Evaluations that are stopped between two of their networks."""

import signal
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
import pytest

from dcjax import config as config_lib
from dcjax import data
from dcjax.common.errors import Interrupted
from dcjax.devices.strategy import Strategy
from dcjax.run import experiment, so_far
from dcjax.run.so_far import SoFar
from tests.runs import tiny


def evaluation_of(**changes):
  """An evaluation of four networks, one after another, and a set for it."""
  config = config_lib.resolve(tiny(evaluation__networks=4, **changes))
  dataset = data.load(config.dataset)
  found = experiment.Evaluation(config, dataset, Strategy(), experiment.Keys.from_seed(0))
  images = dataset.normalise(dataset.images[:10])
  return found, (np.asarray(images), np.arange(10, dtype=np.int32))


@pytest.fixture(scope="module")
def bound():
  return evaluation_of()


def stopped_at(number):
  """A `wait` that is asked to end while it waits for so many-th arrays; and what it waited for."""
  looked = []

  def wait(arrays):
    looked.append(None)
    if len(looked) == number:
      raise Interrupted(signal.SIGTERM)
    return jax.block_until_ready(arrays)

  return wait, looked


@pytest.mark.parametrize("name", ["synthetic", "random"])
def test_networks_that_are_tested_are_not_trained_again(bound, name, tmp_path):
  evaluation, examples = bound
  task, file, said = (name, "convnet"), tmp_path / "networks.json", []
  whole = evaluation.run(task, examples, 3)
  with pytest.raises(Interrupted):
    evaluation.run(task, examples, 3, stopped_at(3)[0], kept=file)
  wait, looked = stopped_at(99)
  assert evaluation.run(task, examples, 3, wait, said.append, file) == whole
  assert len(looked) == 2
  assert [text.partition(",")[0] for text in said] == [
    f"{name} set on convnet: {number} of 4 networks" for number in (3, 4)
  ]


def test_what_is_stopped_before_its_record_is_stored_trains_none(bound, tmp_path):
  evaluation, examples = bound
  task, file = ("synthetic", "convnet"), tmp_path / "networks.json"
  record = evaluation.run(task, examples, 3, kept=file)
  wait, looked = stopped_at(99)
  assert evaluation.run(task, examples, 3, wait, kept=file) == record
  assert not looked
  so_far.forget(file)
  assert not file.exists()


def test_networks_of_other_images_are_not_taken(bound, tmp_path):
  evaluation, (images, labels) = bound
  task, file = ("synthetic", "convnet"), tmp_path / "networks.json"
  with pytest.raises(Interrupted):
    evaluation.run(task, (images, labels), 3, stopped_at(3)[0], kept=file)
  wait, looked = stopped_at(99)
  evaluation.run(task, (-images, labels), 3, wait, kept=file)
  assert len(looked) == 4


def test_networks_of_another_kind_are_not_taken(tmp_path):
  """All cells of a table share a file, and a network may be in a file that is changed."""
  code, file = tmp_path / "nets.py", tmp_path / "networks.json"
  own = (Path(__file__).parents[2] / "docs" / "examples" / "my_network.py").read_text()
  code.write_text(own)  # which changes at the very end
  for first, second in (
    ({"network__width": 4}, {"network__width": 8}),
    ({"dataset__zca": False}, {"dataset__zca": True}),
    ({"evaluation__architectures": (f"{code}:Small",)},) * 2,
  ):
    looked = []
    for number, changes in ((3, first), (99, second)):
      evaluation, examples = evaluation_of(**changes)
      task, (wait, looked) = ("random", evaluation.tasks()[0][1]), stopped_at(number)
      with pytest.raises(Interrupted) if number == 3 else nullcontext():
        evaluation.run(task, examples, 3, wait, kept=file)
      if first == second:
        code.write_text(own.replace("nn.relu", "nn.silu"))
    assert len(looked) == 4, first


def test_a_network_may_lie_in_a_folder_of_any_name(tmp_path):
  file = tmp_path / "c++, mine" / "nets.py"
  file.parent.mkdir()
  file.write_text((Path(__file__).parents[2] / "docs" / "examples" / "my_network.py").read_text())
  evaluation, examples = evaluation_of(network__name=f"{file}:Small", evaluation__checks=1)
  assert evaluation.run(evaluation.tasks()[0], examples, 3)["networks"] == 4


def test_a_file_of_somebody_else_is_left_alone(bound, tmp_path, caplog):
  evaluation, examples = bound
  file = tmp_path / "networks.json"
  file.write_text('{"mine": 1}')
  evaluation.run(("synthetic", "convnet"), examples, 3, kept=file)
  so_far.forget(file)
  assert file.read_text() == '{"mine": 1}'
  assert "delete it to have finished networks kept" in caplog.text


def test_networks_are_kept_while_others_train(tmp_path, monkeypatch):
  monkeypatch.setattr(so_far, "LOG_SECONDS", 0.0)
  kept = SoFar(tmp_path / "networks.json", "this")
  for number in range(3):
    kept.add(np.full((1, 2), number / 3, np.float32), np.full((1, 2, 2), number))
    found = SoFar(tmp_path / "networks.json", "this")
    assert np.array_equal(found.accuracies, kept.accuracies)
    assert found.confusion.tolist() == kept.confusion.tolist()


def test_a_folder_that_cannot_be_written_to_ends_no_evaluation(tmp_path, caplog):
  with SoFar(tmp_path / "no" / "networks.json", "this") as kept:
    kept.add(np.zeros((1, 2), np.float32))
  assert "cannot write" in caplog.text and "networks.json (No such file" in caplog.text
