"""How the work is laid out: the choice for a backend, and settings that cannot be."""

import pytest

from dcjax.common.errors import UserError
from dcjax.devices.strategy import Strategy, choose


def test_each_backend_has_its_own_defaults():
  cpu, gpu, tpu = (choose(backend, 10, 32) for backend in ("cpu", "gpu", "tpu"))
  assert (cpu.class_map, cpu.network_block) == ("scan", 1) and cpu.image_block > 0
  assert gpu == Strategy(convolution="ungrouped", class_map="scan", image_block=0, mesh=gpu.mesh)
  assert tpu == gpu


@pytest.mark.parametrize(
  ("classes", "mesh"), [(10, (4, 1)), (4, (4, 1)), (3, (3, 1)), (2, (2, 2)), (1, (1, 4))]
)
def test_devices_go_along_the_classes_first(classes, mesh):
  assert choose("cpu", classes, 32).mesh == mesh


def test_what_the_config_sets_overrides_and_none_does_not():
  given = {"class_map": "vmap", "image_block": 0, "mesh": "2x1", "network_block": None}
  chosen = choose("cpu", 10, 32, **given, convolution="lax")
  assert chosen == choose("cpu", 10, 32)._replace(
    convolution="lax", class_map="vmap", image_block=0, mesh=(2, 1)
  )


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("class_map", "vmop", "unknown 'vmop'; did you mean 'vmap'?"),
    ("image_block", -1, "-1 is too small; give 0 or more"),
    ("first_block", -1, "-1 is too small; give 0 or more"),
    ("network_block", 0, "0 is too small; give 1 or more"),
    ("mesh", "4", "'4' is not devices along class x along batch; give 4x1, say"),
    ("mesh", "0x1", "'0x1' is not devices along class x along batch; give 4x1, say"),
    ("mesh", "3x2", "3x2 takes 6 devices, and there are 4; lower it"),
    ("mesh", "11x1", "11x1 has 11 devices for 10 classes; lower the first number"),
  ],
)
def test_an_error_names_the_field_the_value_and_the_remedy(field, value, message):
  with pytest.raises(UserError) as caught:
    choose("cpu", 10, 32, **{field: value})
  assert str(caught.value) == f"compute.{field}: {message}"


@pytest.mark.parametrize(
  ("image_block", "images", "block"), [(8, 100, 8), (8, 5, 5), (0, 100, 100), (100, 100, 100)]
)
def test_a_block_is_never_larger_than_what_there_is(image_block, images, block):
  assert Strategy(image_block=image_block).blocks(images) == block


def test_fewer_large_images_go_together():
  small, large = (choose("cpu", 10, side) for side in (64, 224))
  assert small.image_block > large.image_block
  assert choose("cpu", 10, 224, image_block=64).image_block == 64
