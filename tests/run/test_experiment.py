"""How the work of a run is laid out: what follows from its method and from the device's memory."""

from dataclasses import replace

import pytest

from dcjax import config as config_lib
from dcjax import data
from dcjax.devices import processes
from dcjax.devices.target import Target
from dcjax.run import experiment
from tests.runs import tiny

# Of digits, 8 x 8 pixels and 4 filters of float32, one image takes 1 KiB; of 10 classes there are 8
# real images of each, and 4 times 2 decoded ones.
ESTIMATE = 10 * (8 + 4 * 2) * 8 * 8 * 4 * 4


@pytest.fixture(scope="module")
def digits():
  return data.load(tiny().dataset)


def layout(method, digits, memory, backend="gpu", **changes):
  config = config_lib.resolve(tiny(method, batch_real=8, ipc=2, **changes))
  return experiment.condensing(config, digits, Target("none", backend, (), memory))


def class_map(method, digits, memory, backend="gpu", **changes):
  return layout(method, digits, memory, backend, **changes).class_map


def places(digits, memory, mesh="4x1", backend="gpu", **changes):
  return layout("idc", digits, memory, backend, compute__mesh=mesh, **changes).real_images


@pytest.mark.parametrize(("memory", "expected"), [(3, "vmap"), (2.9, "scan"), (0, "scan")])
def test_features_of_all_classes_go_together_where_a_third_of_the_memory_holds_them(
  digits, memory, expected
):
  assert class_map("dm", digits, int(memory * ESTIMATE)) == expected


def test_tiles_count_as_the_images_that_they_become(digits):
  assert class_map("dm", digits, 8 * ESTIMATE, formation__factor=2) == "vmap"
  assert class_map("dm", digits, 7 * ESTIMATE, formation__factor=2) == "scan"


def test_devices_share_the_classes(digits):
  assert class_map("idm", digits, 2 * ESTIMATE, formation__factor=1, compute__mesh="2x1") == "vmap"
  assert class_map("idm", digits, 2 * ESTIMATE, formation__factor=1) == "scan"


@pytest.mark.parametrize("method", ["dc", "dsa", "idc"])
def test_where_a_gradient_to_the_network_is_matched_classes_follow_one_another(method, digits):
  assert class_map(method, digits, 10**12) == "scan"


def test_what_is_set_by_hand_stays_and_other_backends_have_their_own(digits):
  assert class_map("dm", digits, 10**12, compute__class_map="scan") == "scan"
  assert class_map("dm", digits, 0, compute__class_map="vmap") == "vmap"
  assert class_map("dm", digits, 10**12, backend="cpu") == "scan"


def test_memory_that_is_not_known_holds_one_class_at_a_time(digits):
  assert class_map("dm", digits, None) == "scan"


def test_processes_of_unlike_memory_compile_the_same(digits, monkeypatch):
  monkeypatch.setattr(processes, "highest", lambda number: 1.0)  # another has no room
  assert class_map("dm", digits, 10**12) == "scan"


def test_real_images_are_everywhere_where_a_tenth_of_the_memory_holds_them(digits):
  size = digits.images.nbytes
  assert places(digits, 10 * size) == "everywhere"
  assert places(digits, 10 * size - 10) == places(digits, None) == "by_class"
  assert places(digits, 10 * size, mesh="1x1") == "by_class"  # on one device there is no choice
  assert places(digits, 10 * size, backend="cpu") == "by_class"
  assert places(digits, 10 * size, compute__real_images="by_class") == "by_class"
  assert places(digits, 0, compute__real_images="everywhere") == "everywhere"


def test_real_images_on_disk_stay_there(digits):
  on_disk = replace(digits, images=data.OnDisk(digits.images, (8, 8, 1), data.IN_MEMORY))
  assert places(on_disk, 10**12) == "by_class"
