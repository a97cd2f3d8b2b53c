"""Runs that start from a saved set: what is taken of it, in which range, and what does not fit."""

import json

import jax
import numpy as np
import pytest

import dcjax.config
from dcjax import SyntheticSet, UserError, data
from dcjax.commands.condense import condense
from dcjax.common.errors import Interrupted
from dcjax.run import experiment, initial
from dcjax.sets.formation import Stored
from tests.commands.test_condense import assert_same_result, interrupt_after
from tests.runs import tiny


def make(method="dm", **changes):
  """A set of uniform noise as a method stores it, its config and its dataset."""
  config = dcjax.config.resolve(tiny(method, **changes))
  dataset = data.load(config.dataset)
  forming = experiment.decoder(config, dataset)
  pixels = (
    np.random.default_rng(0)
    .uniform(size=(dataset.num_classes, config.ipc, 8, 8, 1))
    .astype(np.float32)
  )
  images = pixels if forming.unit else (pixels - forming.mean) / np.asarray(forming.std)
  stored = Stored(images.astype(np.float32), forming.init(jax.random.key(3)))
  return experiment.synthetic_set(config, dataset, stored), config, dataset


def fitted(synthetic, method="dm", **changes):
  """What a run stores at first when it starts from a set."""
  _, config, dataset = make(method, init="set.npz", **changes)
  return initial.stored(synthetic, config, dataset)


@pytest.mark.parametrize(
  "fields",
  [{}, {"method": "idc"}, {"method": "idm", "formation__name": "learnable"},
   {"method": "dm", "dataset__zca": True}],
)  # fmt: skip
def test_a_set_of_the_same_range_is_taken_as_it_is(fields):
  synthetic, _, _ = make(**fields)
  stored = fitted(synthetic, **fields)
  np.testing.assert_array_equal(stored.images, synthetic.images)
  jax.tree.map(np.testing.assert_array_equal, stored.weights, synthetic.weights)


def test_pixels_and_normalised_images_are_turned_into_each_other():
  ours, pixels = make("idm")[0], make("idc")[0]
  np.testing.assert_allclose(fitted(ours, "idc").images, pixels.images, atol=1e-6)
  np.testing.assert_allclose(fitted(pixels, "idm").images, ours.images, atol=1e-5)
  other = ours._replace(
    images=ours.images * np.float32(0.5),
    metadata={**ours.metadata, "std": [2 * ours.metadata["std"][0]]},
  )
  np.testing.assert_allclose(fitted(other, "idm").images, ours.images, atol=1e-5)


def test_whole_images_are_those_of_any_formation_without_tiles():
  synthetic = make()[0]
  synthetic.metadata["formation"] = {"name": "identity", "factor": 1, "bound": 128}
  np.testing.assert_array_equal(fitted(synthetic).images, synthetic.images)


@pytest.mark.parametrize(
  ("made", "fields", "message"),
  [
    ({}, {"ipc": 2}, r"\[10, 1, 8, 8, 1\], this run \[10, 2, 8, 8, 1\]"),
    ({"dataset__classes": ("0", "1")}, {}, r"\[2, 1, 8, 8, 1\], this run \[10, 1"),
    ({}, {"method": "idm"}, r"formation .*'identity'.*, this run .*'uniform', 'factor': 2"),
    ({"dataset__zca": True}, {}, r"range whitened by its own whitening, this run normalised"),
    ({}, {"dataset__zca": True}, r"range normalised .*, this run whitened"),
    ({"method": "idc", "formation__name": "learnable"},
     {"method": "idm", "formation__name": "learnable"}, "weights for other images, unit .*, this"),
    ({"method": "idc"}, {"method": "idc", "training__data": "synthetic", "training__networks": 2,
     "training__pretraining": 1}, "cannot start from a saved set; set training.networks=0"),
  ],
)  # fmt: skip
def test_a_set_that_does_not_fit(made, fields, message):
  with pytest.raises(UserError, match=rf"^init: .*{message}"):
    fitted(make(**made)[0], **fields)


def test_classes_of_other_names_do_not_fit():
  synthetic = make()[0]
  synthetic.metadata["class_names"][0] = "nought"
  with pytest.raises(UserError, match=r"^init: set.npz has the class nought, this run 0; give"):
    fitted(synthetic)


def test_a_run_starts_from_it_and_goes_on_without_the_file(tmp_path, monkeypatch):
  file = tmp_path / "set.npz"
  synthetic, _, _ = make("dc")
  synthetic.save(file)
  config = tiny("dc", init=str(file), evaluation__networks=0, compute__chunk=1)
  condense(config, tmp_path / "straight")
  first = SyntheticSet.load(tmp_path / "straight" / "images" / "000000.npz")
  np.testing.assert_array_equal(first.images, synthetic.images)
  assert json.loads((tmp_path / "straight" / "config.json").read_text())["init"] == str(file)
  with monkeypatch.context() as patch:
    interrupt_after(patch, 0)  # which saves nothing but the start
    with pytest.raises(Interrupted):
      condense(config, tmp_path / "stopped")
  file.unlink()
  condense(config, tmp_path / "stopped")
  assert_same_result(tmp_path / "straight", tmp_path / "stopped")
  with pytest.raises(UserError, match=r"^init: synthetic set: no file"):
    condense(config, tmp_path / "new")


def test_the_words_of_init_are_checked_without_data():
  with pytest.raises(UserError, match=r"^init: unknown 'reel'; did you mean 'real'"):
    dcjax.config.resolve(tiny(init="reel"))
  assert dcjax.config.resolve(tiny(init="a/set.npz")).init == "a/set.npz"
