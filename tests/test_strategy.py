"""Where work goes: the same numbers whatever the layout, and settings that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import strategy
from dcjax.errors import UserError
from dcjax.strategy import Strategy, choose, map_classes, replicate


def function(shared, label, images):
  """Some function of what is shared, and of one class' scalar and tree."""
  matrix, offset = shared
  product = images["a"] @ matrix
  return product.sum() + offset * label, {"product": product, "label": label}


def problem(classes):
  rng = np.random.default_rng(classes)
  shared = (jnp.float32(rng.standard_normal((3, 4))), jnp.float32(0.5))
  images = {"a": jnp.float32(rng.standard_normal((classes, 2, 3)))}
  return shared, (jnp.arange(classes, dtype=jnp.float32), images)


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("class_map", strategy.CLASS_MAPS)
@pytest.mark.parametrize("classes", [3, 5, 10])
def test_every_layout_gives_what_a_loop_gives(class_map, devices, classes):
  shared, each = problem(classes)
  layout = Strategy(class_map=class_map, devices=devices)
  actual = jax.jit(lambda *args: map_classes(layout, function, *args))(shared, each)
  expected = [
    function(shared, *jax.tree.map(lambda leaf, c=c: leaf[c], each)) for c in range(classes)
  ]
  expected = jax.tree.map(lambda *leaves: np.stack(leaves), *expected)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), actual, expected
  )


@pytest.mark.parametrize("class_map", strategy.CLASS_MAPS)
def test_classes_are_spread_over_the_devices(class_map):
  def where(shared, label):
    return jax.lax.axis_index("class") + 0 * (label + shared)

  layout = Strategy(class_map=class_map, devices=4)
  actual = jax.jit(lambda labels: map_classes(layout, where, jnp.int32(0), (labels,)))(
    jnp.arange(10)
  )
  np.testing.assert_array_equal(actual, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3])


def test_replicated_arrays_lie_whole_on_the_devices_of_the_strategy():
  images = jnp.arange(6.0)
  placed = replicate(Strategy(devices=2), {"images": images})["images"]
  assert placed.sharding.device_set == set(jax.local_devices()[:2])
  for shard in placed.addressable_shards:
    np.testing.assert_array_equal(shard.data, images)


# --- Choice --------------------------------------------------------------------------------


def test_each_backend_has_its_own_defaults():
  cpu, gpu, tpu = (choose(backend, 10) for backend in ("cpu", "gpu", "tpu"))
  assert (cpu.class_map, cpu.network_block) == ("scan", 1) and cpu.image_block > 0
  assert gpu == tpu and (gpu.class_map, gpu.image_block) == ("vmap", 0)


@pytest.mark.parametrize(("classes", "devices"), [(10, 4), (4, 4), (3, 3), (1, 1)])
def test_all_devices_are_used_but_no_more_than_there_are_classes(classes, devices):
  assert choose("cpu", classes).devices == devices


def test_what_the_config_sets_overrides_and_none_does_not():
  given = {"class_map": "vmap", "image_block": 0, "devices": 2, "network_block": None}
  chosen = choose("cpu", 10, **given, convolution="lax")
  assert chosen == Strategy("lax", "vmap", 0, choose("cpu", 10).network_block, 2)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("class_map", "vmop", "unknown 'vmop'; did you mean 'vmap'?"),
    ("image_block", -1, "-1 is too small; give 0 or more"),
    ("network_block", 0, "0 is too small; give 1 or more"),
    ("devices", 0, "0 is too small; give 1 or more"),
    ("devices", 5, "5 is too many; this machine has 4"),
  ],
)
def test_an_error_names_the_field_the_value_and_the_remedy(field, value, message):
  with pytest.raises(UserError) as caught:
    choose("cpu", 10, **{field: value})
  assert str(caught.value) == f"compute.{field}: {message}"


@pytest.mark.parametrize(
  ("image_block", "images", "block"), [(8, 100, 8), (8, 5, 5), (0, 100, 100), (100, 100, 100)]
)
def test_a_block_is_never_larger_than_what_there_is(image_block, images, block):
  assert Strategy(image_block=image_block).blocks(images) == block
