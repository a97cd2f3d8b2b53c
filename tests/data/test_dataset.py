"""Dataset: checks at the boundary, order, statistics, and draws by class."""

import logging as std_logging
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dcjax.config
from dcjax import data
from dcjax.common.errors import UserError
from dcjax.data import arrays, statistics
from dcjax.data.dataset import check_varied, from_arrays
from dcjax.data.on_disk import IN_MEMORY, OnDisk

SIZES = (12, 3, 7, 1)  # images in each class


def raw(sizes=SIZES, shape=(4, 5, 3), seed=0):
  """Arrays for `from_arrays`, shuffled; pixel [0, 0, 0] of image k of the file is k."""
  rng = np.random.default_rng(seed)
  y_train = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
  x_train = rng.integers(0, 256, (len(y_train), *shape), dtype=np.uint8)
  x_train[:, 0, 0, 0] = np.arange(len(y_train))
  y_test = np.arange(len(sizes))[::-1]
  x_test = rng.integers(0, 256, (len(y_test), *shape), dtype=np.uint8)
  return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


@pytest.fixture
def dataset():
  return from_arrays(**raw(), name="toy", class_names=("ant", "bee", "cat", "dog"))


def test_sorts_by_class_and_keeps_the_order_within_a_class(dataset):
  given = raw()
  order = np.argsort(given["y_train"], kind="stable")
  np.testing.assert_array_equal(dataset.images, given["x_train"][order])
  np.testing.assert_array_equal(dataset.labels, given["y_train"][order])
  np.testing.assert_array_equal(dataset.source, order)
  np.testing.assert_array_equal(dataset.offsets, np.cumsum((0, *SIZES)))
  np.testing.assert_array_equal(dataset.test_images, given["x_test"])
  np.testing.assert_array_equal(dataset.test_labels, given["y_test"])


def test_types_and_static_fields(dataset):
  types = [dataset.images, dataset.labels, dataset.offsets, dataset.mean, dataset.std]
  assert [str(x.dtype) for x in types] == ["uint8", "int32", "int32", "float32", "float32"]
  assert dataset.test_images.dtype == jnp.uint8 and dataset.test_labels.dtype == jnp.int32
  assert len(jax.tree.leaves(dataset)) == 8
  assert (dataset.num_classes, dataset.image_shape) == (4, (4, 5, 3))
  assert (dataset.name, dataset.largest_class) == ("toy", 12)


def test_the_data_set_does_not_share_memory_with_what_was_given():
  given = raw()
  made = from_arrays(**given, name="toy")
  before = np.array(made.test_images)
  given["x_test"][:] = 0
  np.testing.assert_array_equal(made.test_images, before)


def test_a_channel_axis_is_added():
  given = raw()
  for key in ("x_train", "x_test"):
    given[key] = given[key][..., 0]
  assert from_arrays(**given, name="grey").image_shape == (4, 5, 1)


def test_class_names_default_to_the_labels():
  assert from_arrays(**raw(), name="toy").class_names == ("0", "1", "2", "3")


def test_statistics_are_those_of_all_pixels(monkeypatch):
  given = raw()
  monkeypatch.setattr(statistics, "BLOCK", 50)  # several blocks, the last one short
  made = from_arrays(**given, name="toy")
  pixels = given["x_train"].astype(np.float64) / 255
  np.testing.assert_allclose(made.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(made.std, pixels.std((0, 1, 2)), rtol=1e-6)


def test_given_statistics_are_kept_and_the_other_is_measured():
  made = from_arrays(**raw(), name="toy", mean=np.array([0.1, 0.2, 0.3]))
  np.testing.assert_allclose(made.mean, [0.1, 0.2, 0.3], rtol=1e-6)
  assert (np.asarray(made.std) > 0.2).all()


def test_a_constant_channel_is_normalised_to_zero():
  given = raw()
  given["x_train"][..., 1] = 77
  made = from_arrays(**given, name="toy")
  np.testing.assert_allclose(made.std[1], statistics.MIN_STD, rtol=1e-6)
  np.testing.assert_allclose(made.normalise(made.images)[..., 1], 0.0, atol=1e-4)


def test_normalise_by_hand():
  made = from_arrays(
    **raw(), name="toy", mean=np.array([0.5, 0.2, 0.0]), std=np.array([0.5, 0.1, 2.0])
  )
  pixels = np.array([[0, 51, 255], [255, 102, 0]], np.uint8)
  expected = [[-1.0, 0.0, 0.5], [1.0, 2.0, 0.0]]
  for normalise in (made.normalise, jax.jit(made.normalise)):
    result = normalise(pixels)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_usual_statistics_have_as_many_channels_as_their_data_set():
  assert [len(part) for part in statistics.usual("mnist")] == [1, 1]
  assert [len(part) for part in statistics.usual("imagenet2012")] == [3, 3]
  assert statistics.usual("kmnist") is None


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"x_train": np.zeros((23, 4, 5, 3))}, ("x_train", "uint8", "float64")),
    ({"x_test": np.zeros((4, 4, 5, 3), np.int64)}, ("x_test", "uint8", "int64")),
    ({"x_train": np.zeros((23, 60), np.uint8)}, ("x_train", "[23, 60]")),
    ({"x_train": np.zeros((23, 3, 4, 5), np.uint8)}, ("x_train", "[23, 3, 4, 5]")),
    ({"x_test": np.zeros((0, 4, 5, 3), np.uint8)}, ("x_test", "no pixels")),
    ({"x_test": np.zeros((4, 4, 4, 3), np.uint8)}, ("x_test", "[4, 4, 3]", "[4, 5, 3]")),
    ({"y_train": np.zeros(23)}, ("y_train", "integer", "float64")),
    ({"y_train": np.zeros((23, 1), int)}, ("y_train", "[23]", "[23, 1]")),
    ({"y_test": np.zeros(5, int)}, ("y_test", "[4]", "[5]")),
    ({"y_train": np.full(23, -1)}, ("y_train", "-1")),
    ({"y_test": np.full(4, 4)}, ("y_test", "label 4", "0..3")),
    ({"y_train": np.zeros(23, int)}, ("y_train", "1 class")),
    ({"y_train": np.arange(23) % 2 * 2}, ("y_train", "class 1 has no")),
    ({"y_train": np.arange(23) + 10**9}, ("y_train", "class 0 has no")),
    ({"class_names": ["a", "b", "c", "d", "e"]}, ("y_train", "class 4 ('e')")),
    ({"class_names": ["a", "b", "c"]}, ("y_train", "label 3", "0..2")),
    ({"class_names": ["a", "b", "c", "a"]}, ("class_names", "'a'", "twice")),
    ({"mean": np.zeros(1)}, ("mean", "3 finite numbers")),
    ({"std": np.array([1.0, 0.0, 1.0])}, ("std", "positive")),
    ({"std": np.array([1.0, np.nan, 1.0])}, ("std", "finite")),
  ],
)
def test_bad_arrays_are_named(change, words):
  with pytest.raises(UserError) as caught:
    from_arrays(**{**raw(), "name": "toy", **change})
  message = str(caught.value)
  assert message.startswith(words[0]) and "\n" not in message
  assert all(word in message for word in words), message


def test_as_images_accepts_what_numpy_maps_from_disk(tmp_path):
  np.save(tmp_path / "x.npy", raw()["x_train"])
  mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
  assert isinstance(arrays.as_images("x", mapped), np.memmap)


@pytest.mark.parametrize("n", [1, 3, 7, 12])
def test_sample_has_no_repeats_where_the_class_suffices(dataset, n):
  for label, size in enumerate(SIZES):
    for seed in range(5):
      index = data.sample(dataset, jax.random.key(seed), label, n=n)
      chex.assert_shape(index, (n,))
      assert index.dtype == jnp.int32
      assert (np.asarray(dataset.labels)[index] == label).all()
      assert len(set(np.asarray(index).tolist())) == n or size < n


def test_sample_of_the_whole_class_is_a_permutation(dataset):
  index = data.sample(dataset, jax.random.key(0), 2, n=SIZES[2])
  np.testing.assert_array_equal(np.sort(index), np.arange(15, 22))
  assert not np.array_equal(index, np.sort(index))


def test_sample_beyond_the_largest_class_repeats_images(dataset):
  for label in range(4):
    index = data.sample(dataset, jax.random.key(0), label, n=200)
    begin, end = np.asarray(dataset.offsets)[label : label + 2]
    np.testing.assert_array_equal(np.unique(index), np.arange(begin, end))


def test_sample_depends_on_the_key_alone(dataset):
  first, again, other = (
    np.asarray(data.sample(dataset, jax.random.key(seed), 0, n=6)) for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


@pytest.mark.parametrize(("label", "n"), [(0, 3), (2, 5), (1, 5)])
def test_sample_is_uniform(dataset, label, n):
  draws = 4000
  keys = jax.random.split(jax.random.key(3), draws)
  index = jax.jit(jax.vmap(lambda key: data.sample(dataset, key, label, n=n)))(keys)
  counts = np.bincount(np.asarray(index).ravel() - int(dataset.offsets[label]))
  expected = draws * n / SIZES[label]
  assert len(counts) == SIZES[label]
  np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(expected))


def test_the_first_drawn_is_uniform_too(dataset):
  keys = jax.random.split(jax.random.key(4), 4000)
  first = jax.vmap(lambda key: data.sample(dataset, key, 0, n=12)[0])(keys)
  np.testing.assert_allclose(np.bincount(first), 4000 / 12, atol=5 * np.sqrt(4000 / 12))


def test_sample_is_the_same_under_jit_vmap_and_map(dataset):
  labels = jnp.arange(4, dtype=jnp.int32)
  key = jax.random.key(5)

  def draw(label):
    return data.sample(dataset, key, label, n=5)

  one_by_one = np.stack([draw(label) for label in range(4)])
  np.testing.assert_array_equal(jax.jit(jax.vmap(draw))(labels), one_by_one)
  np.testing.assert_array_equal(jax.lax.map(draw, labels), one_by_one)


def test_sample_compiles_once_for_all_classes_and_keys(dataset):
  @jax.jit
  @chex.assert_max_traces(n=1)
  def draw(dataset, key, label):
    return data.sample(dataset, key, label, n=3)

  for label in range(4):
    draw(dataset, jax.random.key(label), jnp.int32(label))


def test_sample_works_on_numpy_arrays(dataset):
  host = jax.tree.map(np.asarray, dataset)
  draw = jax.jit(lambda key, label: data.sample(host, key, label, n=3))
  expected = data.sample(dataset, jax.random.key(0), 2, n=3)
  np.testing.assert_array_equal(draw(jax.random.key(0), jnp.int32(2)), expected)


def test_random_subset_holds_normalised_images_of_each_class(dataset):
  key = jax.random.key(6)
  subset = jax.jit(lambda dataset: data.random_subset(dataset, key, ipc=2))(dataset)
  assert subset.shape == (4, 2, 4, 5, 3) and subset.dtype == jnp.float32
  for label in range(4):
    index = data.sample(dataset, jax.random.fold_in(key, label), label, n=2)
    expected = dataset.normalise(dataset.images[index])
    np.testing.assert_allclose(subset[label], expected, atol=1e-6)


def test_small_classes_are_named_in_one_warning(dataset, caplog):
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    data.warn_small_classes(dataset, 5)
  assert len(caplog.records) == 1
  message = caplog.records[0].getMessage()
  assert "bee (3), dog (1)" in message and "with replacement" in message


def test_many_small_classes_are_counted(caplog):
  many = from_arrays(**raw((2,) * 8), name="toy")
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    data.warn_small_classes(many, 3)
  assert "4 (2) and 3 more" in caplog.text


def test_no_warning_where_classes_suffice(dataset, caplog):
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    data.warn_small_classes(dataset, 1)
  assert not caplog.records


def test_a_data_set_can_be_pickled(dataset):
  again = pickle.loads(pickle.dumps(dataset))
  np.testing.assert_array_equal(again.images, dataset.images)
  assert again.class_names == dataset.class_names


@pytest.fixture(params=["in memory", "on disk"])
def kept(request):
  """Makes a data set of arrays, in memory or on disk."""

  def make(**changes):
    given = {**raw(), **changes}
    if request.param == "on disk":
      order = np.argsort(given["y_train"], kind="stable")
      images = OnDisk(given["x_train"][order], (4, 5, 3), IN_MEMORY)
      given |= {"x_train": images, "y_train": given["y_train"][order]}
    return from_arrays(
      **given, name="toy", class_names="abcd", mean=np.full(3, 0.5), std=np.full(3, 0.5)
    )

  return make


def test_varied_images_are_not_warned_of(kept, caplog):
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    check_varied(kept())
  assert not caplog.records


def test_a_class_of_one_colour_is_named(kept, caplog):
  images, labels = raw()["x_train"], raw()["y_train"]
  images[labels == 1] = 7
  images[np.flatnonzero(labels == 3)] = (0, 0, 255)
  images[np.flatnonzero(labels == 0)[:-1]] = 7  # all but the last
  images[np.flatnonzero(labels == 0)[-1], 0, 0] = (0, 99, 0)
  images[labels == 2] = np.arange(7)[:, None, None, None]  # each of another grey
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    check_varied(kept(x_train=images))
  (message,) = caplog.messages
  assert "the same in b ([7, 7, 7]), d ([0, 0, 255]): is that meant?" in message


def test_classes_of_one_colour_each_are_a_warning(kept, caplog):
  images = np.broadcast_to(raw()["y_train"][:, None, None, None], (23, 4, 5, 3)).astype(np.uint8)
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    check_varied(kept(x_train=images))
  assert "a ([0, 0, 0]), b ([1, 1, 1])" in caplog.text


@pytest.mark.parametrize(("most", "warned"), [(15, True), (62, True), (80, False)])
def test_images_of_few_levels_are_warned_of(kept, caplog, most, warned):
  images = raw()["x_train"] % 16
  images[-1, 2, 2, 0] = most
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    check_varied(kept(x_train=images))
  assert (f"are from 0 to {most} of 0..255; if" in caplog.text) == warned
  assert bool(caplog.records) == warned


@pytest.mark.parametrize(("key", "split"), [("x_train", "training"), ("x_test", "test")])
def test_images_of_one_colour_are_an_error(kept, key, split):
  images = np.full_like(raw()[key], 255)
  with pytest.raises(UserError) as caught:
    check_varied(kept(**{key: images}))
  words = f"dataset.data_dir: all pixels of all {split} images of toy are [255, 255, 255]; "
  assert str(caught.value).startswith(words)
  images[-1, 0, 0, 1] = 254
  check_varied(kept(**{key: images}))


def test_every_source_is_checked(tmp_path):
  images, labels = np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2
  np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
  config = dcjax.config.default().dataset
  config.name, config.data_dir = "npz", str(tmp_path / "a.npz")
  with pytest.raises(UserError, match=r"all pixels of all training images of a are \[0\]"):
    data.load(config)


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ({"range": (0, 255)}, "dataset.range: dataset.name=digits says itself"),
    ({"name": "npz", "range": (1, 0)}, r"dataset.range: \(1, 0\) is not two numbers"),
    ({"test_share": 1.0}, "dataset.test_share: 1.0 is no share"),
    ({"test_share": float("nan")}, "dataset.test_share: nan is not a number"),
    ({"test_seed": -1}, "dataset.test_seed: -1 is not within"),
    ({"image_column": "img"}, "dataset.image_column: dataset.name=digits has no columns"),
    ({"test_resize": 9}, "dataset.test_resize: of images in folders, but dataset.name=digits"),
    ({"name": "npz", "label_column": "y"}, "dataset.label_column: dataset.name=npz has no"),
  ],
)
def test_fields_that_say_how_to_read_are_checked_without_data(fields, words):
  config = dcjax.config.default()
  config.dataset.update({"name": "digits", **fields})
  with pytest.raises(UserError, match=f"^{words}"):
    dcjax.config.resolve(config)
