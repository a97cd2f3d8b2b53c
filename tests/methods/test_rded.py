"""RDED: its crops, its mosaics, and whole sets, also with images on disk."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import dcjax.config
from dcjax import SyntheticSet, UserError, augment, data, nn
from dcjax.augment.tiles import exchange, shuffle_crop_flip
from dcjax.commands.evaluate import bind
from dcjax.commands.select import select
from dcjax.config import presets
from dcjax.data import images_at
from dcjax.data.on_disk import Memory, OnDisk
from dcjax.methods import rded
from tests.runs import tiny


def crops(images, count=5, side=(4, 4), block=2):
  """Of each image the darkest of its crops: a teacher whose loss is the mean of the pixels."""
  return rded.best_crops(
    jax.random.key(0), images, side=side, crops=count, block=block,
    loss=lambda patches: patches.mean((1, 2, 3)),
  )  # fmt: skip


def test_the_best_crop_of_each_image_is_kept():
  images = jax.random.uniform(jax.random.key(1), (5, 8, 8, 3), jnp.float32)
  patches, losses = crops(images)
  assert patches.shape == (5, 4, 4, 3)
  np.testing.assert_allclose(losses, patches.mean((1, 2, 3)), rtol=1e-6)
  one_each = [crops(images, count=1)[1] for _ in range(2)]
  np.testing.assert_array_equal(*one_each)  # the same key, the same crops
  assert (losses < images.mean((1, 2, 3))).all()


def test_blocks_change_nothing():
  images = jax.random.uniform(jax.random.key(1), (5, 8, 8, 1), jnp.float32)
  for ours, theirs in zip(crops(images, block=5), crops(images, block=3), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_crops_are_squares_of_at_least_eight_hundredths():
  """Of an image whose pixels are its own coordinates, a crop shows where it is."""
  ramp = jnp.broadcast_to(jnp.arange(64, dtype=jnp.float32)[:, None, None], (64, 64, 1))
  both = jnp.concatenate([ramp, ramp.swapaxes(0, 1)], -1)
  patches, _ = crops(jnp.stack([both] * 20), count=1, side=(16, 16), block=20)
  spans = np.array([np.ptp(patches[..., axis], (1, 2)) for axis in (0, 1)]) * 16 / 15
  np.testing.assert_allclose(*spans, atol=1.5)
  sides = spans.mean(0)
  assert sides.min() > 0.08**0.5 * 64 - 2 and sides.max() <= 64
  assert np.ptp(sides) > 10


def test_patches_become_the_tiles_of_an_image():
  patches = jnp.broadcast_to(jnp.arange(8.0)[:, None, None, None], (8, 2, 3, 1))
  sheets = np.asarray(rded.mosaic(patches, 2))
  assert sheets.shape == (2, 4, 6, 1)
  tiles = sheets.reshape(2, 2, 2, 2, 3).mean((2, 4))
  np.testing.assert_array_equal(tiles, [[[0, 2], [4, 6]], [[1, 3], [5, 7]]])
  np.testing.assert_array_equal(rded.mosaic(patches, 1), patches)


def test_patches_stand_in_the_middle_of_zeros():
  seen = np.asarray(rded.padded(jnp.ones((1, 2, 3, 1)), (5, 5)))
  assert seen.sum() == 6 and seen[0, 1:3, 1:4].all()


@pytest.mark.parametrize("side", [4, 5])
def test_tiles_change_places_and_none_is_lost(side):
  image = jnp.arange(side * side, dtype=jnp.float32).reshape(side, side, 1)
  for rows in (False, True):
    for columns in (False, True):
      found = np.asarray(exchange(image, jnp.bool_(rows), jnp.bool_(columns)))
      assert sorted(found.ravel()) == sorted(np.asarray(image).ravel())
      assert found[0, 0, 0] == image[2 * rows, 2 * columns, 0]


def test_the_augmentation_of_tiles_differs_from_image_to_image():
  images = jnp.broadcast_to(jnp.arange(64, dtype=jnp.float32).reshape(8, 8, 1), (6, 8, 8, 1))
  found = np.asarray(shuffle_crop_flip(jax.random.key(0), images))
  assert found.shape == (6, 8, 8, 1) and len(np.unique(found.round(3), axis=0)) == 6
  assert augment.by_name("rded") is shuffle_crop_flip


# --- Whole sets ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Three classes of noise about a grey of their own, in colour."""
  path, generator = tmp_path_factory.mktemp("images") / "set", np.random.default_rng(0)
  for split in ("train", "val"):
    for name, grey in (("a", 40), ("b", 120), ("c", 210)):
      (path / split / name).mkdir(parents=True)
      for number in range(9):
        pixels = generator.integers(grey - 30, grey + 30, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path / split / name / f"{number}.png")
  return path


def config_of(folder, **changes):
  fields = {"name": "folder", "data_dir": str(folder), "side": 8}
  fields["cache_dir"] = str(folder.parent / "cache")
  changes = {f"dataset__{name}": value for name, value in fields.items()} | changes
  config = presets.smoke(dcjax.config.default("rded"))
  config.evaluation.networks = 0
  config.compute.convolution = "lax"
  for path, value in changes.items():
    config.update_from_flattened_dict({path.replace("__", "."): value})
  return config


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
  """A set of two images a class, its config and its folder."""
  config, path = config_of(folder, ipc=2), tmp_path_factory.mktemp("rded")
  return config, path, select(config, path)


def test_a_set_is_of_the_images_that_it_names(made, folder):
  config, path, _ = made
  synthetic = SyntheticSet.load(path / "synthetic.npz")
  assert synthetic.images.shape == (3, 2, 8, 8, 3)
  assert synthetic.metadata["teacher"] == config.rded.teacher
  assert 0 <= synthetic.metadata["teacher_accuracy"] <= 1
  indices = np.array(synthetic.metadata["indices"])
  assert indices.shape == (3, 2, 1)
  dataset = data.load(dcjax.config.resolve(config).dataset)
  labels = np.asarray(dataset.labels)[np.argsort(np.asarray(dataset.source))]
  np.testing.assert_array_equal(labels[indices[..., 0]], synthetic.labels)
  greys = synthetic.pixels().mean((1, 2, 3, 4))
  np.testing.assert_allclose(greys, [40, 120, 210], atol=12)


def test_images_on_disk_make_the_same_set_with_the_same_teacher(made, folder):
  config, _, _ = made
  dataset = data.load(dcjax.config.resolve(config).dataset)
  images, memory = np.asarray(dataset.images), Memory(True, 10**6, 0)
  on_disk = dataclasses.replace(dataset, images=OnDisk(images, images.shape[1:], memory))
  teacher = nn.create("convnet", (8, 8, 3), 3, width=4, depth=1)
  taught, settings = (teacher.init(jax.random.key(1)), {}), rded.RDEDSettings(candidates=6, crops=2)
  found = [
    rded.choose(
      each, jax.random.key(0), settings, ipc=2, teacher=teacher, taught=taught, block=4
    )
    for each in (dataset, on_disk)
  ]  # fmt: skip
  np.testing.assert_array_equal(found[0].images, found[1].images)
  assert found[0].indices == found[1].indices
  np.testing.assert_array_equal(images_at(on_disk, np.array([3, 1])), images[[3, 1]])


def test_a_class_that_is_smaller_than_the_candidates_gives_each_image_once(folder, tmp_path):
  config = config_of(folder, ipc=2, rded__factor=2, rded__candidates=50)
  select(config, tmp_path)
  indices = np.array(SyntheticSet.load(tmp_path / "synthetic.npz").metadata["indices"])
  assert indices.shape == (3, 2, 4)
  assert all(len(np.unique(of_class)) == 8 for of_class in indices)


def test_it_is_evaluated_beside_random_images_with_the_same_labels(folder, tmp_path):
  config = config_of(folder, ipc=2, compute__streaming=True, compute__workers=0)
  config.evaluation.networks = 1
  summary = select(config, tmp_path)
  ours, random = summary["evaluations"]
  assert (ours["set"], random["set"]) == ("synthetic", "random")
  assert ours["teacher_digest"] == random["teacher_digest"]
  assert ours["protocol"] == "soft" and ours["augmentation"] == "flip"
  assert select(config, tmp_path) == summary
  evaluation, _, _ = bind(tmp_path / "synthetic.npz", data_dir=str(folder), protocol="dsa")
  assert [task[0] for task in evaluation.tasks()] == ["synthetic", "random"]


@pytest.mark.parametrize(("dataset", "expected"), [("cifar10", "rded"), ("mnist", "none")])
def test_images_of_tiles_are_trained_on_with_shuffled_tiles(dataset, expected):
  config = presets.paper("rded", f"{dataset},ipc=2", "cifar10", {"rded.factor": 2})
  assert dcjax.config.resolve(config).evaluation.augmentation == expected


@pytest.mark.parametrize(
  ("field", "value", "words"),
  [
    ("rded.factor", 3, "rded.factor: 3 tiles along a side; give 1 or 2"),
    ("rded.crops", 0, "rded.crops: 0"),
    ("rded.candidates", 1, "rded.candidates: 1 images of a class make that many tiles, but"),
    ("rded.teacher", "convent", "rded.teacher: network: unknown 'convent'"),
    ("rded.teacher", "widths", "rded.teacher: 'widths' stands for several networks"),
    ("rded.teacher_epochs", 0, "rded.teacher_epochs: 0"),
    ("ipc", 20, "rded.candidates: 8 images"),
  ],
)
def test_what_no_set_can_be_is_refused_before_the_work(folder, tmp_path, field, value, words):
  config = config_of(folder, ipc=2)
  config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError, match=words):
    select(config, tmp_path / "run")
  assert not (tmp_path / "run" / "synthetic.npz").exists()


def test_tiles_that_do_not_fit_are_refused(folder, tmp_path):
  config = config_of(folder, rded__factor=2, dataset__side=7)
  with pytest.raises(UserError, match=r"rded\.factor: 2 does not divide the 7 x 7 pixels"):
    select(config, tmp_path / "run")
  config = config_of(folder, ipc=10, rded__candidates=50)
  with pytest.raises(UserError, match="ipc: 10 images take 10 of class 'a', which has 9"):
    select(config, tmp_path / "run")


def test_methods_that_condense_do_not_select(tmp_path):
  with pytest.raises(UserError, match="unknown 'dm'"):
    select(tiny("dm"), tmp_path)
