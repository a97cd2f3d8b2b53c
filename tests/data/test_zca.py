"""ZCA: the matrix against SciPy, what networks see, sets that are whitened, and a whole run."""

from functools import partial

import jax
import numpy as np
import pytest
import scipy.linalg

import dcjax.config
from dcjax import SyntheticSet, UserError, data
from dcjax.commands.condense import condense
from dcjax.commands.evaluate import evaluate
from dcjax.data import zca
from dcjax.data.dataset import from_arrays
from dcjax.data.zca import fit
from dcjax.run import experiment
from dcjax.sets import formation
from dcjax.sets.formation import Formation, Stored
from tests.runs import initial_images, tiny

SHAPE = (4, 3, 1)


def correlated(count, shape=SHAPE, seed=0):
  """Images of waves that are lower the shorter they are, with noise: uint8 `[count, *shape]`."""
  rng = np.random.default_rng(seed)
  rows, columns = (
    np.cos(np.pi * np.outer(np.arange(n), np.arange(n) + 0.5) / n) for n in shape[:2]
  )
  lengths = 1 + np.add.outer(np.arange(shape[0]), np.arange(shape[1]))[..., None]
  waves = rng.standard_normal((count, *shape)) / lengths**2
  images = np.einsum("nklc,ki,lj->nijc", waves, rows, columns)
  return np.clip(128 + 25 * images + rng.normal(0, 2, images.shape), 0, 255).astype(np.uint8)


def toy(count=400, shape=SHAPE):
  images = correlated(count, shape)
  labels = np.arange(count) % 2
  return from_arrays(images, labels, images[:50] // 2, labels[:50], name="toy")


def fitted(dataset, **fields):
  parts = (np.asarray(part) for part in (dataset.images, dataset.mean, dataset.std))
  return fit(*parts, **fields)


def rows(images):
  return np.asarray(images, np.float64).reshape(len(images), -1)


@pytest.fixture(scope="module")
def dataset():
  return toy()


@pytest.fixture(scope="module")
def whitened(dataset):
  return dataset.whitened(fitted(dataset))


# --- The matrix ----------------------------------------------------------------------------


def test_without_regularisation_the_covariance_is_the_identity(dataset):
  before = np.cov(rows(dataset.normalise(dataset.images)).T)
  assert np.abs(before - np.diag(np.diag(before))).max() > 0.5
  seen = dataset.whitened(fitted(dataset, regularisation=1e-9)).normalise(dataset.images)
  np.testing.assert_allclose(rows(seen).mean(0), 0, atol=1e-4)
  np.testing.assert_allclose(np.cov(rows(seen).T, bias=True), np.eye(12), atol=1e-3)


@pytest.mark.parametrize("count", [400, 6])  # more images than numbers in each, and fewer
@pytest.mark.parametrize("regularisation", [0.1, 2.0])
def test_the_matrix_is_the_root_of_the_regularised_covariance(monkeypatch, count, regularisation):
  monkeypatch.setattr(zca, "BLOCK", 12 * 90)  # several blocks, the last one short
  dataset = toy(count)
  found = fitted(dataset, regularisation=regularisation)
  images = rows(dataset.normalise(dataset.images))
  covariance = np.cov(images.T, bias=True)
  covariance += regularisation * np.trace(covariance) / 12 * np.eye(12)
  root = scipy.linalg.sqrtm(covariance)
  np.testing.assert_allclose(found.mean, images.mean(0), atol=1e-5)
  np.testing.assert_allclose(found.inverse, root, atol=1e-5)
  np.testing.assert_allclose(found.matrix, scipy.linalg.inv(root), atol=1e-5)


def test_the_inverse_gives_the_images_back(dataset, whitened):
  normalised = dataset.normalise(dataset.images[:6]).reshape(2, 3, *SHAPE)
  white = whitened.normalise(dataset.images[:6]).reshape(2, 3, *SHAPE)
  back = whitened.whitening.unwhiten(white)
  assert back.shape == normalised.shape and np.abs(white - normalised).max() > 0.5
  np.testing.assert_allclose(back, normalised, atol=1e-5)


def test_kornia_whitens_pixels(dataset):
  """Of pixels about their mean with covariance U S U^T, (n - 1): times U (S + 0.1)^-1/2 U^T."""
  pixels = rows(dataset.images) / 255
  centred = pixels - pixels.mean(0)
  values, vectors = np.linalg.eigh(centred.T @ centred / (len(pixels) - 1))
  expected = centred @ vectors @ np.diag((values + 0.1) ** -0.5) @ vectors.T
  whitened = dataset.whitened(fitted(dataset, variant="kornia"))
  seen = whitened.normalise(dataset.images)
  np.testing.assert_allclose(rows(seen), expected, atol=1e-5)
  covariance = np.cov(rows(seen).T)
  np.testing.assert_allclose(np.linalg.eigvalsh(covariance), values / (values + 0.1), atol=1e-5)
  back = whitened.whitening.unwhiten(seen)
  np.testing.assert_allclose(back, dataset.normalise(dataset.images), atol=1e-4)


def test_kip_brings_each_image_to_norm_one(dataset):
  normalised = rows(dataset.normalise(dataset.images))
  centred = normalised - normalised.mean(1, keepdims=True)
  unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
  covariance = unit.T @ unit / len(unit)
  covariance += 0.1 * np.trace(covariance) / 12 * np.eye(12)
  expected = unit @ scipy.linalg.inv(scipy.linalg.sqrtm(covariance))
  whitened = dataset.whitened(fitted(dataset, variant="kip"))
  seen = whitened.normalise(dataset.images)
  np.testing.assert_allclose(rows(seen), expected, rtol=1e-3, atol=1e-3)
  back = rows(whitened.whitening.unwhiten(seen))
  deviation = normalised.std(1, keepdims=True)
  np.testing.assert_allclose(back, centred / deviation, atol=1e-4)


def test_an_image_of_one_value_stays_finite_with_kip(dataset):
  whitened = dataset.whitened(fitted(dataset, variant="kip"))
  seen = whitened.whitening.whiten(np.full((1, *SHAPE), 0.7, np.float32))
  np.testing.assert_allclose(seen, 0, atol=1e-6)


@pytest.mark.parametrize("variant", zca.VARIANTS)
def test_no_variant_whitens_images_that_are_all_the_same(variant):
  images = np.full((8, *SHAPE), 100, np.uint8)
  with pytest.raises(UserError, match="all the same"):
    fit(images, np.array([0.4]), np.array([0.2]), variant)


def test_the_variant_is_kept_apart_and_saved(tmp_path, dataset):
  first, second = (
    data.whitened.whiten(dataset, tmp_path, variant).whitening for variant in ("kip", "frepo")
  )
  again = data.whitened.whiten(dataset, tmp_path, "kip").whitening
  assert bool(again.unit) and not bool(second.unit)
  np.testing.assert_array_equal(again.matrix, first.matrix)
  assert np.abs(np.asarray(first.matrix) - np.asarray(second.matrix)).max() > 0.1
  forming = form(dataset, "identity", 1)
  images = np.zeros((2, 2, *SHAPE), np.float32)
  as_set(images, dataset.whitened(first), forming, "whitened").save(tmp_path / "a.npz")
  assert SyntheticSet.load(tmp_path / "a.npz").whitening.unit


def test_an_unknown_variant_is_refused():
  config = tiny()
  config.dataset.zca_variant = "korina"
  with pytest.raises(UserError, match=r"dataset\.zca_variant: unknown 'korina'.*kornia"):
    data.load(config.dataset)


# --- What networks see -----------------------------------------------------------------------


def test_test_images_are_whitened_as_training_images_are(dataset, whitened):
  found = whitened.whitening
  centred = rows(dataset.normalise(dataset.test_images)) - np.asarray(found.mean)
  expected = centred @ np.asarray(found.matrix)
  np.testing.assert_allclose(rows(whitened.normalise(dataset.test_images)), expected, atol=1e-4)


def test_the_matrix_is_an_argument_of_programs_and_no_constant(dataset, whitened):
  other = dataset.whitened(whitened.whitening._replace(matrix=2 * whitened.whitening.matrix))
  traces = []

  @jax.jit
  def see(dataset):
    traces.append(None)
    return dataset.normalise(dataset.test_images)

  assert np.abs(see(whitened) - see(other)).max() > 0.1
  assert len(traces) == 1


def test_what_is_not_whitened_is_not_multiplied(dataset, whitened):
  def products(dataset):
    return str(jax.make_jaxpr(lambda d: d.normalise(d.images))(dataset)).count("dot_general")

  datasets = whitened, dataset, whitened.whitened(None)
  assert [products(each) for each in datasets] == [1, 0, 0]


# --- Sets ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waves():
  """Larger images, as they are and whitened."""
  dataset = toy(300, (16, 16, 1))
  return dataset, dataset.whitened(fitted(dataset))


def form(dataset, name, factor, unit=False):
  mean, std = (tuple(np.asarray(part).tolist()) for part in (dataset.mean, dataset.std))
  return formation.create(
    name, factor, shape=dataset.image_shape, ipc=2, mean=mean, std=std, unit=unit
  )


def initial(dataset, forming, init):
  draw = jax.jit(partial(initial_images, ipc=2, init=init, formation=forming))
  return draw(jax.random.key(0), dataset)


def as_set(images, dataset, forming, image_range):
  labels = np.repeat(np.arange(2, dtype=np.int32)[:, None], 2, 1)
  metadata = {
    "method": "dm", "dataset": "toy", "class_names": ["0", "1"], "range": image_range,
    "mean": list(forming.mean), "std": list(forming.std), "formation": forming.metadata(),
    "ipc": 2, "config": {}, "seed": 0, "version": "0", "zca": dataset.whitening is not None,
  }  # fmt: skip
  images, found = jax.tree.map(np.asarray, (images, dataset.whitening))
  return SyntheticSet(images, labels, metadata, {}, found)


@pytest.mark.parametrize("init", ["mix", "real"])
def test_pixels_are_whitened_when_they_are_decoded(waves, init):
  plain, whitened = waves
  forming = form(plain, "uniform", 2, unit=True)
  images = initial(whitened, forming, init)
  np.testing.assert_array_equal(images, initial(plain, forming, init))
  expected = whitened.whitening.whiten(forming.decode_classes(Stored(images, {})))
  synthetic = as_set(images, whitened, forming, "unit")
  np.testing.assert_allclose(synthetic.decoded(), expected, atol=1e-4)
  np.testing.assert_array_equal(synthetic.pixels(), np.round(255 * images).astype(np.uint8))


def test_whole_images_are_stored_whitened_and_shown_as_they_were(waves):
  plain, whitened = waves
  forming = form(plain, "uniform", 1)
  real = initial(plain, forming, "real")
  images = initial(whitened, forming, "real")
  np.testing.assert_allclose(images, whitened.whitening.whiten(real), atol=1e-4)
  synthetic = as_set(images, whitened, forming, "whitened")
  np.testing.assert_array_equal(synthetic.decoded(), images)
  pixels = as_set(real, plain, forming, "normalised").pixels()
  np.testing.assert_array_equal(synthetic.pixels(), pixels)


@pytest.mark.parametrize("name", ["uniform", "multi_scale"])
def test_tiles_of_whitened_images_are_shown_as_tiles_of_images(waves, name):
  plain, whitened = waves
  forming = form(plain, name, 2)
  real = np.asarray(plain.normalise(plain.images[:16])).reshape(2, 2, 4, *plain.image_shape)

  def quarters(images):
    """Stored images, each with four images made smaller; whitened ones alias if none is blended."""
    side = images.shape[-2] // 2
    small = jax.image.resize(images, (2, 2, 4, side, side, images.shape[-1]), "bilinear")
    tiles = small.reshape(2, 2, 2, 2, side, side, -1).swapaxes(3, 4)
    return tiles.reshape(2, 2, 2 * side, 2 * side, -1)

  stored = quarters(
    whitened.whitening.whiten(real.reshape(-1, *plain.image_shape)).reshape(real.shape)
  )
  shown = as_set(stored, whitened, forming, "whitened").pixels()
  pixels = as_set(quarters(real), plain, forming, "normalised").pixels()
  assert np.abs(shown.astype(float) - pixels).mean() < 0.1 * pixels.std()


def test_a_file_holds_the_way_back_to_pixels(waves, tmp_path):
  plain, whitened = waves
  forming = form(plain, "identity", 1)
  saved = as_set(initial(whitened, forming, "real"), whitened, forming, "whitened")
  saved.save(tmp_path / "set.npz")
  loaded = SyntheticSet.load(tmp_path / "set.npz")
  for ours, theirs in zip(loaded.whitening, saved.whitening, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  np.testing.assert_array_equal(loaded.pixels(), saved.pixels())
  assert loaded.stored_bytes() == loaded.images.nbytes
  with np.load(tmp_path / "set.npz") as file:  # as the README has it, without dcjax
    flat = file["images"].reshape(4, -1) @ file["whitening/inverse"] + file["whitening/mean"]
  pixels = flat.reshape(2, 2, 16, 16, 1) * np.float32(forming.std) + np.float32(forming.mean)
  np.testing.assert_allclose(255 * pixels, saved.pixels(), atol=0.51)


@pytest.mark.parametrize(
  ("change", "problem"),
  [
    ({"whitening": None}, "its range is 'whitened' and its zca True, but it has no whitening"),
    ({"range": "unit", "whitening": None}, "'unit' and its zca True, but it has no whitening"),
    ({"range": "normalised"}, "'normalised' and its zca True, but it has a whitening"),
    ({"matrix": np.eye(5, dtype=np.float32)}, r"whitening/matrix is not finite float32 \(12, 12\)"),
    ({"mean": np.zeros(12)}, r"whitening/mean is not finite float32 \(12,\)"),
    (
      {"inverse": np.full((12, 12), np.nan, np.float32)},
      "whitening/inverse holds numbers that",
    ),
  ],
)
def test_a_file_whose_whitening_does_not_fit(whitened, tmp_path, change, problem):
  forming = form(whitened, "identity", 1)
  images, kind = np.zeros((2, 2, *SHAPE), np.float32), change.get("range", "whitened")
  made = as_set(images, whitened, forming, kind)
  parts = {name: array for name, array in change.items() if name in made.whitening._fields}
  found = change.get("whitening", made.whitening._replace(**parts))
  made._replace(whitening=found).save(tmp_path / "set.npz")
  with pytest.raises(UserError, match=problem):
    SyntheticSet.load(tmp_path / "set.npz")


# --- From a config to a run ------------------------------------------------------------------


def with_zca(method, folder, **changes):
  return tiny(method, dataset__zca=True, dataset__cache_dir=str(folder / "cache"), **changes)


def test_loading_whitens_and_keeps_the_whitening(tmp_path, monkeypatch):
  config = with_zca("dm", tmp_path).dataset
  first = data.load(config)
  np.testing.assert_array_equal(first.whitening.matrix, fitted(first).matrix)
  monkeypatch.setattr("dcjax.data.whitened.fit", lambda *parts: pytest.fail("found anew"))
  np.testing.assert_array_equal(data.load(config).whitening.inverse, first.whitening.inverse)
  (matrix,) = (tmp_path / "cache" / "whitenings").glob("*/matrix.npy")
  np.save(matrix, -np.load(matrix))
  monkeypatch.setattr("dcjax.data.whitened.fit", lambda *parts: found.append(1) or first.whitening)
  found = []
  for _ in range(2):
    np.testing.assert_array_equal(data.load(config).whitening.matrix, first.whitening.matrix)
  assert found == [1]
  config.zca = False
  assert data.load(config).whitening is None


def test_images_that_are_too_large_are_refused_before_they_are_read(tmp_path):
  config = with_zca("dm", tmp_path, dataset__name="folder", dataset__data_dir="nowhere").dataset
  config.side = 65
  with pytest.raises(UserError, match=r"^dataset.zca: images of \[65, 65, 3\] are 12675 numbers"):
    data.load(config)
  config.side = 64
  with pytest.raises(UserError, match="no folder nowhere"):
    data.load(config)


def test_images_that_are_all_the_same_are_refused():
  dataset = from_arrays(
    np.full((4, 2, 2), 7, np.uint8), np.arange(4) % 2, np.zeros((2, 2, 2), np.uint8), np.arange(2),
    name="grey",
  )  # fmt: skip
  with pytest.raises(UserError, match=r"^dataset.zca: the training images are all the same"):
    fitted(dataset)


@pytest.mark.parametrize("method", ["dc", "dm", "idc"])
def test_methods_say_how_what_they_decode_is_whitened(waves, monkeypatch, method):
  plain, whitened = waves
  config = tiny(method, ipc=2, formation__factor=2)
  if method != "dc":
    config.dsa.scheme = "none"
  if method == "idc":
    config.training.data, config.training.augmentation = "synthetic", "none"
  config = dcjax.config.resolve(config)
  made = experiment.method(config, plain, experiment.strategy(config, plain))
  given, decode = [], Formation.decode

  def recording(self, stored, whitening=None):
    given.append(whitening)
    return decode(self, stored, whitening)

  monkeypatch.setattr(Formation, "decode", recording)
  key = jax.random.key(0)
  state = jax.eval_shape(made.init, key, whitened)
  jax.eval_shape(made.update, state, whitened, key, 0)
  assert len(given) >= {"dc": 2, "dm": 1, "idc": 2}[method] and None not in given


def test_a_run_and_the_evaluation_of_its_file_see_whitened_images(tmp_path, monkeypatch):
  quick = {"network__name": "mlp", "dsa__scheme": "none", "evaluation__augmentation": "none"}
  config = with_zca("dm", tmp_path, iterations=1, **quick)
  summary = condense(config, tmp_path / "run")
  synthetic = SyntheticSet.load(tmp_path / "run" / "synthetic.npz")
  real = data.load(config.dataset)
  np.testing.assert_array_equal(synthetic.whitening.matrix, real.whitening.matrix)
  assert synthetic.metadata["range"] == "whitened"
  first = SyntheticSet.load(tmp_path / "run" / "images" / "000000.npz").pixels()
  drawn = {image.tobytes() for image in np.asarray(real.images)}
  assert all(image.tobytes() in drawn for image in first.reshape(-1, 8, 8, 1))
  assert [record["set"] for record in summary["evaluations"]] == ["synthetic", "random"]

  class Evaluation:
    """Of nothing; tells what it was to see."""

    def __init__(self, config, dataset, *more):
      seen.append(dataset)

    def tasks(self):
      return []

    def code(self):
      return []

  # The file alone says how real images are whitened.
  seen = []
  monkeypatch.setattr("dcjax.commands.evaluate.Evaluation", Evaluation)
  monkeypatch.setattr("dcjax.data.whiten", lambda *parts: pytest.fail("not from the file"))
  evaluate(tmp_path / "run" / "synthetic.npz")
  np.testing.assert_array_equal(
    seen[0].normalise(real.test_images[:9]), real.normalise(real.test_images[:9])
  )
