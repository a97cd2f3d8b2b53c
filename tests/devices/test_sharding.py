"""Classes and batches over devices: the same numbers wherever the arrays lie."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from dcjax import config as config_lib
from dcjax import data, nn
from dcjax.data import Dataset
from dcjax.devices.program import Program
from dcjax.devices.sharding import map_classes, share_batch, spread, sum_batch
from dcjax.devices.strategy import CLASS_MAPS, Strategy
from dcjax.methods import dc, dm
from dcjax.methods.setup import Setup
from dcjax.run import experiment
from dcjax.run.loop import Loop, put_key
from tests.runs import tiny

MESHES = [(2, 1), (4, 1), (2, 2), (1, 4)]


def function(shared, each):
  """Some function of what is shared, and of one class' scalar and tree."""
  (matrix, offset), (label, images) = shared, each
  product = images["a"] @ matrix
  return product.sum() + offset * label, {"product": product, "label": label}


def problem(classes):
  rng = np.random.default_rng(classes)
  shared = (jnp.float32(rng.standard_normal((3, 4))), jnp.float32(0.5))
  images = {"a": jnp.float32(rng.standard_normal((classes, 2, 3)))}
  return shared, (jnp.arange(classes, dtype=jnp.float32), images)


@pytest.mark.parametrize("mesh", [(1, 1), (2, 1), (4, 1), (2, 2)])
@pytest.mark.parametrize("class_map", CLASS_MAPS)
@pytest.mark.parametrize("classes", [3, 5, 10])
def test_every_layout_gives_what_a_loop_gives(class_map, mesh, classes):
  shared, each = problem(classes)
  layout = Strategy(class_map=class_map, mesh=mesh)
  actual = jax.jit(lambda *args: map_classes(layout, function, *args))(shared, each)
  expected = [
    function(shared, jax.tree.map(lambda leaf, c=c: leaf[c], each)) for c in range(classes)
  ]
  expected = jax.tree.map(lambda *leaves: np.stack(leaves), *expected)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), actual, expected
  )


@pytest.mark.parametrize("class_map", CLASS_MAPS)
def test_classes_are_spread_over_the_devices(class_map):
  def where(shared, label):
    return jax.lax.axis_index("class") + 0 * (label + shared)

  layout = Strategy(class_map=class_map, mesh=(4, 1))
  actual = jax.jit(lambda labels: map_classes(layout, where, jnp.int32(0), labels))(jnp.arange(10))
  np.testing.assert_array_equal(actual, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3])


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_parts_of_a_batch_add_up_to_its_mean(parts):
  images = jnp.float32(np.random.default_rng(0).standard_normal((7, 2, 2, 1)))
  layout = Strategy(mesh=(1, parts))

  def one_class(images, label):
    share, weights = share_batch(layout, images)
    found = {"mean": jnp.tensordot(weights, share, 1), "label": label * weights.sum()}
    return sum_batch(layout, found)

  labels = jnp.arange(3.0)
  found = jax.jit(lambda images: map_classes(layout, one_class, images, labels))(images)
  np.testing.assert_allclose(found["mean"], np.stack([images.mean(0)] * 3), atol=1e-6)
  np.testing.assert_allclose(found["label"], [0, 1, 2], atol=1e-6)


# --- Real images ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset():
  """Three classes of 5, 2 and 4 images of 8 x 8 pixels."""
  labels = np.repeat([0, 1, 2], [5, 2, 4])
  images = np.random.default_rng(1).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)
  return data.from_arrays(images, labels, images[:3], labels[:3], name="noise")


@pytest.mark.parametrize("mesh", MESHES)
def test_spread_images_are_found_by_their_indices(dataset, mesh):
  spread_images = spread(Strategy(mesh=mesh), dataset).images
  indices = jnp.array([[10, 0, 5], [6, 4, 7]])
  assert spread_images.shape == dataset.images.shape
  found = jax.jit(lambda images, indices: images[indices])(spread_images, indices)
  np.testing.assert_array_equal(found, dataset.images[indices])
  each = jax.jit(jax.vmap(lambda index: spread_images[index]))(indices.ravel())
  np.testing.assert_array_equal(each, dataset.images[indices.ravel()])


def test_a_device_holds_the_images_of_its_classes_alone(dataset):
  rows = spread(Strategy(mesh=(2, 2)), dataset).images.rows
  held = {
    (shard.index[0].start or 0, shard.device.id): shard.data for shard in rows.addressable_shards
  }
  assert {(start, id // 2) for start, id in held} == {(0, 0), (7, 1)}
  for (start, _), images in held.items():
    expected = dataset.images[:7] if start == 0 else dataset.images[7:]
    np.testing.assert_array_equal(images[: len(expected)], expected)


# --- A run ---------------------------------------------------------------------------------


def run(dataset: Dataset, layout: Strategy):
  """Three iterations of DM: the loop, the images and the losses."""
  phi = nn.create("convnet", dataset.image_shape, 3, width=4, depth=1, convolution="patches")
  settings = dm.DMSettings(ipc=2, init="real", embedding="network", batch_real=3, lr_image=1.0)
  method = dm.dm(Setup(phi, layout), settings)
  loop = Loop(method, dataset, jax.random.key(0), layout, chunk=3)
  state = method.init(jax.random.key(1), dataset)
  state, _, metrics = loop.run(state, 0, 3)
  return loop, state, metrics["loss"]


@pytest.fixture(scope="module")
def on_one_device(dataset):
  return run(dataset, Strategy())


@pytest.mark.parametrize(
  ("mesh", "place"),
  [((3, 1), "by_class"), ((2, 2), "by_class"), ((1, 4), "by_class"), ((2, 2), "everywhere")],
)
def test_a_run_finds_the_same_on_every_mesh(dataset, on_one_device, mesh, place):
  _, expected, losses = on_one_device
  loop, state, found = run(dataset, Strategy(mesh=mesh, real_images=place))
  np.testing.assert_allclose(found, losses, rtol=1e-5)
  np.testing.assert_allclose(state.stored.images, expected.stored.images, atol=1e-5)
  by_class = mesh[0] in (1, 3)  # which divide three classes evenly
  expected_spec = PartitionSpec("class") if by_class else PartitionSpec()
  assert state.stored.images.sharding.spec == expected_spec
  gathered = re.findall(r"= u8\[.*all-gather", loop.programs[0].as_text())
  assert not gathered


@pytest.mark.parametrize("devices", [3, 4])  # even and uneven shares of the classes
def test_networks_are_trained_without_a_word_between_devices(devices):
  labels = np.repeat(np.arange(6), 4)
  images = np.random.default_rng(1).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
  six = data.from_arrays(images, labels, images[:3], labels[:3], name="noise")
  layout = Strategy(mesh=(devices, 1))
  network = nn.create("convnet", six.image_shape, 6, depth=1, width=4)

  def collectives(epochs):
    settings = dc.DCSettings(ipc=2, inner_loop=3, network_epochs=epochs, batch_real=4)
    loop = Loop(dc.dc(Setup(network, layout), settings), six, jax.random.key(0), layout)
    loop.compile(loop.abstract(jax.random.key(0)), 0)
    return Program(loop.programs[0].as_text()).work()[1]

  few, many = collectives(1), collectives(5)
  assert many.products > few.products
  assert many.collectives == few.collectives > 0
  assert many.collective_bytes == few.collective_bytes


@pytest.mark.parametrize("method", ["idc", "idm"])
def test_images_that_are_everywhere_do_not_go_between_devices(method):
  config = config_lib.resolve(tiny(method, compute__mesh="4x1"))
  digits = data.load(config.dataset)

  def found(place):
    layout = Strategy(mesh=(4, 1), real_images=place)
    loop = Loop(experiment.method(config, digits, layout), digits, jax.random.key(0), layout)
    state, _, _ = loop.run(loop.start(jax.random.key(1)), 0, 2)
    between = re.findall(r"= s32\[\d+,8,8,1\]\S* all-reduce", loop.programs[0].as_text())
    return len(between), state.stored.images

  (some, images), (none, same) = found("by_class"), found("everywhere")
  assert some > 0 and none == 0
  np.testing.assert_allclose(same, images, atol=1e-5)


def test_arrays_on_devices_that_are_described_are_shapes(dataset, monkeypatch):
  here = jax.devices()
  monkeypatch.setattr(jax, "devices", lambda: here[2:])  # the first two are those of a description
  layout = Strategy(mesh=(2, 1), described=tuple(here[:2]))
  placed = spread(layout, dataset)
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(placed))
  assert placed.images.rows.sharding.shard_shape(placed.images.rows.shape) == (7, 8, 8, 3)
  key = put_key(layout, jax.random.key(0))
  assert isinstance(key, jax.ShapeDtypeStruct) and key.dtype == jax.random.key(0).dtype
