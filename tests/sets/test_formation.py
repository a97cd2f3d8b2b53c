"""Formations: what is stored against what is decoded, and methods that go through them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dcjax
from dcjax import UserError
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.methods import dc, dm
from dcjax.methods.feature_matching import FeatureMatching
from dcjax.methods.setup import Setup, setup
from dcjax.run import experiment
from dcjax.sets.formation import NAMES, Formation, Stored, create
from dcjax.sets.synthetic import SyntheticSet
from tests.networks import two_layers
from tests.runs import initial_images

SHAPE = (9, 12, 3)  # 9 is not a multiple of 2, and 12 not of 5
MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.125)


def form(name, factor=1, *, shape=SHAPE, ipc=4, unit=False, **fields) -> Formation:
  return create(name, factor, shape=shape, ipc=ipc, mean=MEAN, std=STD, unit=unit, **fields)


def images(count, shape=SHAPE, seed=0):
  return np.random.default_rng(seed).random((count, *shape), np.float32)


def decode(formation, stored):
  run = jit(lambda stored: formation.decode(Stored(stored, formation.init(jax.random.key(0)))))
  return np.asarray(run(stored))


def mosaic(formation, sources, count):
  return jit(formation.mosaic, static_argnums=1)(sources, count)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "learnable"])
def test_factor_1_is_the_identity(name):
  stored = images(3)
  np.testing.assert_array_equal(decode(form(name), stored), stored)


@pytest.mark.parametrize(
  ("name", "factor", "decoded", "sources"),
  [
    ("uniform", 2, 16, 16),
    ("uniform", 5, 100, 100),
    ("multi_scale", 3, 4 * (1 + 4 + 9), 4 * 9),
    ("learnable", 2, 16, 16),
    ("time", 4, 16, 16),
    ("bounded", 2, 16, 16),
    ("partition", 3, 36, 36),
  ],
)
@pytest.mark.parametrize("unit", [False, True])
def test_a_constant_image_decodes_to_constants(name, factor, decoded, sources, unit):
  formation = form(name, factor, unit=unit)
  # What is padded is grey: the pixel 0.5, so that constants of that level stay constant.
  grey = (0.5 - np.float32(MEAN)) / np.float32(STD)
  result = decode(formation, np.broadcast_to(np.float32(0.5) if unit else grey, (4, *SHAPE)))
  assert result.shape == (decoded, *SHAPE)
  assert (formation.decoded(4), formation.sources(4)) == (decoded, sources)
  np.testing.assert_allclose(result, np.broadcast_to(grey, result.shape), atol=1e-5)


def smooth(count, shape):
  """Images without detail, which survive being made smaller."""
  height, width, channels = shape
  rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
  slopes = np.random.default_rng(0).uniform(-1, 1, (3, count, channels))[:, :, None, None]
  one, two, three = slopes
  return np.float32(one + two * rows[None, ..., None] + three * columns[None, ..., None])


@pytest.mark.parametrize(
  ("name", "factor"), [("uniform", 2), ("uniform", 4), ("time", 2), ("multi_scale", 2)]
)
@pytest.mark.parametrize("unit", [False, True])
def test_decoding_a_mosaic_gives_its_images_back(name, factor, unit):
  shape = (32, 32, 3)
  formation = form(name, factor, shape=shape, unit=unit)
  whole = smooth(formation.sources(2), shape)
  if unit:  # pixels within [0, 1]
    whole = (0.5 + 0.15 * whole - np.float32(MEAN).reshape(1, 1, 1, -1)) / np.float32(STD).reshape(
      1, 1, 1, -1
    )
  sheets = mosaic(formation, whole, 2)
  assert sheets.shape == (2, *shape)
  decoded = decode(formation, sheets)
  finest = decoded[-len(whole) :]
  # All but the margins, where upsampling repeats the outermost pixel. The nearest pixel is up to
  # half a tile's pixel away.
  inside = (slice(None), slice(4, -4), slice(4, -4))
  np.testing.assert_allclose(finest[inside], whole[inside], atol=0.1 * np.ptp(whole))


def test_tiles_come_row_by_row_of_one_image_after_the_other():
  stored = jnp.stack([jnp.arange(16.0).reshape(4, 4, 1), 100 + jnp.arange(16.0).reshape(4, 4, 1)])
  formation = create("uniform", 4, shape=(4, 4, 1), ipc=2, mean=(0.5,), std=(1.0,))
  levels = decode(formation, stored)[:, 0, 0, 0]
  np.testing.assert_array_equal(levels, [*range(16), *range(100, 116)])


def test_upsampling_is_bilinear_between_the_centres_of_pixels():
  stored = jnp.asarray([[0.0, 4.0, 9.0, 9.0]]).reshape(1, 1, 4, 1)
  formation = create("time", 2, shape=(1, 4, 1), ipc=1, mean=(0.5,), std=(1.0,))
  np.testing.assert_allclose(decode(formation, stored)[0, 0, :, 0], [0, 1, 3, 4])


@pytest.mark.parametrize("unit", [False, True])
def test_a_partition_drops_the_pixels_that_are_left_over(unit):
  """As IDM's program: tiles of 10 pixels where 32 are cut into three, 74 where 224 are."""
  formation = create(
    "partition", 3, shape=(32, 32, 1), ipc=1, mean=(0.5,), std=(0.5,), unit=unit
  )  # fmt: skip
  stored = np.zeros((1, 32, 32, 1), np.float32)
  stored[0, 10:20, 20:30] = 1.0  # the tile in row 1, column 2
  stored[0, 30:] = stored[0, :, 30:] = 7.0  # belongs to none
  decoded = decode(formation, stored)
  if unit:
    decoded = decoded * 0.5 + 0.5
  assert decoded.shape == (9, 32, 32, 1)
  np.testing.assert_allclose(decoded[5], 1.0, atol=1e-6)
  np.testing.assert_allclose(np.delete(decoded, 5, 0), 0.0, atol=1e-6)
  # Where the images begin, these pixels are grey.
  sheets = mosaic(formation, np.zeros((9, 32, 32, 1), np.float32), 1)
  grey = 0.5 if unit else 0.0
  np.testing.assert_allclose(sheets, np.full_like(sheets, grey), atol=1e-6)
  assert create("partition", 3, shape=(224, 224, 3), ipc=1, mean=(0.5,) * 3, std=(0.5,) * 3)._sides(
    formation._tiling(1)[0]
  ) == (74, 74)


# How many images are cut at each factor, the highest first.
BOUNDED = [
  (50, 2, 128, (19, 31), 107),
  (20, 3, 128, (12, 3, 5), 125),
  (10, 4, 128, (7, 1, 1, 1), 126),
  (4, 2, 10, (1, 3), 7),
  (3, 3, 3, (0, 0, 3), 3),
]
FORMERLY = [
  (50, 2, 128, (26, 24), 128),
  (20, 3, 128, (13, 1, 6), 127),
  (10, 4, 128, (7, 1, 1, 1), 126),
  (4, 2, 10, (2, 2), 10),
]


@pytest.mark.parametrize(
  ("former", "count", "factor", "bound", "split", "decoded"),
  [(False, *case) for case in BOUNDED] + [(True, *case) for case in FORMERLY],
)
def test_bounded_cuts_as_many_at_the_highest_factor_as_fit(
  former, count, factor, bound, split, decoded
):
  formation = form("bounded", factor, ipc=count, bound=bound, former=former)
  assert formation.decoded(count) == decoded <= bound
  # Images of one level each: how often it occurs is how many tiles the image has.
  levels = np.broadcast_to(
    np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1), (count, 24, 24, 3)
  )
  formation = form("bounded", factor, shape=(24, 24, 3), ipc=count, bound=bound, former=former)
  found = decode(formation, levels)
  assert found.shape == (decoded, 24, 24, 3)
  tiles = [
    k * k for k, images in zip(range(factor, 0, -1), split, strict=True) for _ in range(images)
  ]
  np.testing.assert_array_equal(np.round(found[:, 8, 8, 0]), np.repeat(np.arange(count), tiles))


def test_bounded_is_for_matching_and_all_images_begin_as_mosaics():
  formation = form("bounded", 3, ipc=20)
  whole = formation.at_evaluation()
  assert (formation.decoded(20), whole.decoded(20)) == (125, 180)
  assert whole.metadata() == {"name": "uniform", "factor": 3, "bound": 128}
  assert formation.sources(20) == 180
  for name in set(NAMES) - {"bounded"}:
    other = form(name, 1 if name == "identity" else 2)
    assert other.at_evaluation() == other


@pytest.mark.parametrize(
  ("side", "factor", "sampled"),
  [
    # By hand: pixel i of the n of a tile is floor(i side / n) of the image.
    (8, 2, [0, 2, 4, 6] * 2),
    (7, 2, [0, 1, 3, 5, 0, 2, 4]),  # tiles of 4 and 3 pixels
    (8, 3, [0, 2, 5, 0, 2, 5, 0, 4]),  # 3, 3 and 2
  ],
)
def test_a_mosaic_takes_the_nearest_pixels(side, factor, sampled):
  """Pixel (r, c) of source k has the level 1000 k + 30 r + c."""
  shape = (side, side, 1)
  formation = create("uniform", factor, shape=shape, ipc=2, mean=(0.5,), std=(1.0,))
  count = 2 * factor**2
  k, r, c = np.mgrid[:count, :side, :side]
  sheets = mosaic(formation, np.float32(1000 * k + 30 * r + c)[..., None], 2)
  tile = -(-side // factor)
  for number in range(2):
    for row in range(side):
      for column in range(side):
        source = number * factor**2 + row // tile * factor + column // tile
        expected = 1000 * source + 30 * sampled[row] + sampled[column]
        assert sheets[number, row, column, 0] == expected


def test_a_mosaic_along_time_keeps_rows_whole():
  formation = create("time", 2, shape=(3, 4, 1), ipc=1, mean=(0.5,), std=(1.0,))
  sources = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
  expected = [[0, 2, 12, 14], [4, 6, 16, 18], [8, 10, 20, 22]]
  np.testing.assert_array_equal(mosaic(formation, sources, 1)[0, ..., 0], expected)


def test_a_tile_of_224_pixels_is_sampled_in_float32_as_in_pytorch():
  """The third of three tiles has 74 pixels: 0, 3.03, 6.05, ...; the 37th would be 112 exactly."""
  shape = (1, 224, 1)
  formation = create("time", 3, shape=shape, ipc=1, mean=(0.5,), std=(1.0,))
  sources = np.broadcast_to(np.arange(224, dtype=np.float32)[None, None, :, None], (3, *shape))
  third = np.asarray(mosaic(formation, sources, 1))[0, 0, 150:, 0]
  scale = np.float32(224 / 74)
  assert third.shape == (74,) and list(third[:3]) == [0, 3, 6] and third[-1] == 220
  assert third[37] == int(np.float32(37) * scale)


@pytest.mark.parametrize(
  "name", ["uniform", "multi_scale", "bounded", "learnable", "time", "partition"]
)
def test_gradients_are_those_of_finite_differences(name):
  shape = (5, 6, 3)
  formation = form(name, 2, shape=shape, ipc=2)
  stored = Stored(images(2, shape), jit(formation.init)(jax.random.key(1)))
  # Away from zero, where the last kernel of the learnable one starts.
  stored = stored._replace(weights=jax.tree.map(lambda leaf: leaf + 0.1, stored.weights))
  weights = jax.random.normal(jax.random.key(2), (formation.decoded(2), *shape))
  with jax.enable_x64(True):
    cast = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)  # noqa: E731
    stored, weights = cast(stored), cast(weights)

    def value(stored):
      return (formation.decode(stored) * weights).sum()

    @jit
    def slopes(stored):
      direction = jax.tree.map(jnp.cos, stored)
      ahead, behind = (
        value(jax.tree.map(lambda x, d, s=step: x + s * d, stored, direction))
        for step in (1e-5, -1e-5)
      )
      along = jax.tree.map(lambda g, d: (g * d).sum(), jax.grad(value)(stored), direction)
      return sum(jax.tree.leaves(along)), (ahead - behind) / 2e-5

    np.testing.assert_allclose(*slopes(stored), rtol=1e-5)


@pytest.mark.parametrize("name", ["uniform", "multi_scale", "learnable"])
def test_vmap_over_classes_is_a_loop(name):
  formation = form(name, 2)
  weights = jit(formation.init)(jax.random.key(0))
  stored = Stored(jnp.stack([images(2), images(2, seed=1)]), weights)
  together = jit(formation.decode_classes)(stored)
  for k in range(2):
    np.testing.assert_allclose(together[k], decode(formation, stored.images[k]), atol=1e-6)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"name": "unifrom"}, "formation.name: unknown 'unifrom'; did you mean 'uniform'"),
    ({"factor": 0}, "formation.factor: 0 is too small; give 1 or more"),
    ({"factor": 10}, "formation.factor: 10 tiles do not fit the 9 pixels of a side; lower it"),
    ({"name": "time", "factor": 13}, "formation.factor: 13 tiles do not fit the 12 pixels"),
    ({"name": "identity", "factor": 2}, "formation.factor: identity leaves images whole"),
    (
      {"name": "bounded", "factor": 2, "bound": 3},
      "formation.bound: 4 images per class decode to more than 3 at any factor; raise it",
    ),
  ],
)
def test_what_does_not_fit_is_an_error(fields, message):
  with pytest.raises(UserError, match=message):
    form(**{"name": "uniform", **fields})


# --- Methods and files -----------------------------------------------------------------------

STRATEGY = Strategy(image_block=4)
# Compiling is what takes the time of programs that run a few times only.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


def digit_formation(dataset, name="uniform", factor=2):
  mean, std = (tuple(np.asarray(x).tolist()) for x in (dataset.mean, dataset.std))
  return create(name, factor, shape=(8, 8, 1), ipc=2, mean=mean, std=std)


def methods(formation):
  setup = Setup(two_layers(), STRATEGY, formation=formation)
  gradients = dc.DCSettings(
    ipc=2, init="mix", distance="ours", inner_loop=2, network_epochs=1, batch_real=6, lr_image=0.1,
    lr_network=0.01,
  )  # fmt: skip
  features = dm.DMSettings(2, "mix", "network", 6, 0.1)
  return {
    "dc": dc.dc(setup, gradients),
    "dm": dm.dm(setup, features),
  }


@pytest.mark.parametrize(("method", "name"), [("dc", "learnable"), ("dm", "uniform")])
def test_methods_move_what_is_stored(dataset, method, name):
  chosen = methods(digit_formation(dataset, name))[method]
  start = jit(chosen.init)(jax.random.key(0), dataset)
  assert start.stored.images.shape == (10, 2, 8, 8, 1)
  update, state, losses = jit(chosen.update), start, []
  for seed in range(8):
    state, metrics = update(state, dataset, jax.random.key(seed), 0)
    losses.append(metrics["loss"])
  assert np.abs(state.stored.images - start.stored.images).max() > 1e-3
  moved = [
    np.abs(a - b).max() > 0
    for a, b in zip(*map(jax.tree.leaves, (state.stored, start.stored)), strict=True)
  ]
  assert all(moved) and np.isfinite(losses).all()


def test_dm_through_a_formation_is_dm_of_the_decoded_images(dataset):
  """The gradient to what is stored is that to the decoded images, pulled back."""
  formation, key = digit_formation(dataset), jax.random.key(3)
  network = two_layers()
  params = network.init(jax.random.key(4))
  stored = Stored(initial_images(key, dataset, ipc=2, init="real"), {})
  through = FeatureMatching(Setup(network, STRATEGY, formation=formation), 6)
  indices = through.draw(dataset, key)
  losses, gradients = jit(through.match)(params, stored, dataset, indices, key)
  decoded, pull_back = jax.vjp(formation.decode_classes, stored)
  plain = FeatureMatching(Setup(network, STRATEGY), 6)
  match = jit(plain.match)
  expected, image_gradients = match(params, Stored(decoded, {}), dataset, indices, key)
  np.testing.assert_allclose(losses, expected, rtol=1e-4)
  np.testing.assert_allclose(
    gradients.images, pull_back(image_gradients.images)[0].images, atol=1e-4
  )


@pytest.mark.parametrize("name", ["uniform", "learnable"])
def test_a_file_is_decoded_by_what_it_says(tmp_path, name):
  formation = form(name, 2)
  stored = Stored(np.asarray(images(8)).reshape(2, 4, *SHAPE), formation.init(jax.random.key(1)))
  metadata = {
    "method": "dm", "dataset": "toy", "class_names": ["ant", "bee"], "range": "normalised",
    "mean": list(MEAN), "std": list(STD), "formation": formation.metadata(), "ipc": 4,
    "config": {}, "seed": 0, "version": "0",
  }  # fmt: skip
  labels = np.repeat(np.arange(2, dtype=np.int32)[:, None], 4, 1)
  weights = jax.tree.map(np.asarray, stored.weights)
  SyntheticSet(stored.images, labels, metadata, weights).save(tmp_path / "set.npz")
  loaded = SyntheticSet.load(tmp_path / "set.npz")
  flat, flat_labels = loaded.flat()
  expected = formation.decode_classes(stored)
  np.testing.assert_allclose(flat, expected.reshape(-1, *SHAPE), atol=1e-6)
  np.testing.assert_array_equal(flat_labels, np.repeat([0, 1], 16))
  numbers = 8 * np.prod(SHAPE) + sum(leaf.size for leaf in jax.tree.leaves(weights))
  assert loaded.stored_bytes() == 4 * numbers


def test_a_file_that_says_bounded_is_decoded_as_it_was(tmp_path):
  """Before 'bounded' was for matching alone, sets were evaluated with 26 of 50 images cut."""
  metadata = {
    "method": "dm", "dataset": "toy", "class_names": ["ant"], "range": "normalised",
    "mean": list(MEAN), "std": list(STD), "ipc": 50, "config": {}, "seed": 0, "version": "0",
    "formation": {"name": "bounded", "factor": 2, "bound": 128},
  }  # fmt: skip
  levels = np.arange(50, dtype=np.float32).reshape(1, 50, 1, 1, 1)
  stored = np.broadcast_to(levels, (1, 50, 8, 8, 3))
  SyntheticSet(stored, np.zeros((1, 50), np.int32), metadata).save(tmp_path / "set.npz")
  flat = SyntheticSet.load(tmp_path / "set.npz").flat()[0]
  expected = np.repeat(np.arange(50), [4] * 26 + [1] * 24)
  np.testing.assert_allclose(flat[:, 3, 3, 0], expected, atol=1e-4)


def test_a_set_that_was_matched_bounded_is_saved_to_decode_all(dataset, tmp_path):
  config = dcjax.config.default("idc")
  config.dataset.name, config.ipc, config.network.depth = "digits", 20, 1
  config.formation.update({"name": "bounded", "factor": 3})
  config = dcjax.config.resolve(config)
  assert setup(config, dataset, STRATEGY).formation.decoded(20) == 125
  stored = Stored(np.zeros((10, 20, 8, 8, 1), np.float32), {})
  experiment.synthetic_set(config, dataset, stored).save(tmp_path / "set.npz")
  loaded = SyntheticSet.load(tmp_path / "set.npz")
  assert loaded.metadata["formation"]["name"] == "uniform"
  assert loaded.decoded().shape == (10, 180, 8, 8, 1)


def test_weights_that_do_not_fit_the_formation_are_an_error(tmp_path):
  metadata = {
    "method": "dm", "dataset": "toy", "class_names": ["ant"], "range": "normalised",
    "mean": list(MEAN), "std": list(STD), "formation": form("learnable", 2).metadata(), "ipc": 4,
    "config": {}, "seed": 0, "version": "0",
  }  # fmt: skip
  whole = SyntheticSet(np.zeros((1, 4, *SHAPE), np.float32), np.zeros((1, 4), np.int32), metadata)
  whole.save(tmp_path / "set.npz")
  with pytest.raises(UserError, match="its weights are not those of its formation"):
    SyntheticSet.load(tmp_path / "set.npz")
