"""A set as one picture: of any size, with names, and what it says of itself in a notebook."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from dcjax.sets import sheet
from tests.sets.test_synthetic import synthetic_set


def large(classes, ipc, side=8):
  """A set of dark images; class k is as bright as k / classes."""
  few = synthetic_set()
  levels = (np.arange(classes, dtype=np.float32) / classes)[:, None, None, None, None]
  images = np.broadcast_to(levels, (classes, ipc, side, side, 1))
  metadata = few.metadata | {
    "range": "unit", "ipc": ipc, "class_names": [f"n{k:08d}" for k in range(classes)],
    "mean": [0.0], "std": [1.0], "formation": {"name": "identity", "factor": 1}, "dataset": "x",
  }  # fmt: skip
  labels = np.broadcast_to(np.arange(classes, dtype=np.int32)[:, None], (classes, ipc))
  return few._replace(images=images, labels=labels, metadata=metadata)


@pytest.mark.parametrize(
  "classes, ipc, side",
  [(1, 1, 8), (10, 1, 28), (10, 50, 32), (100, 1, 32), (100, 50, 32), (3000, 1, 8)],
)
def test_a_picture_of_any_size_fits_on_a_screen(classes, ipc, side):
  picture = large(classes, ipc, side).show()
  width, height = picture.size
  assert height <= max(1.1 * sheet.TALLEST, 1.1 * width) and width * height < 25e6
  rows, shown = sheet.choose(classes, ipc)
  assert len(rows) * shown <= sheet.MOST_TILES
  assert rows[0] == 0 and rows[-1] == classes - 1


def test_each_class_stands_once_and_in_order():
  picture = np.asarray(large(100, 1, 32).show())
  grey = picture[..., 0].astype(int)
  alike = (picture == picture[..., :1]).all(-1)
  # A block of one colour, as wide as an image, is an image.
  found = [k for k in range(100) if ((grey == round(k / 100 * 255)) & alike).sum() >= 64 * 64]
  assert len(found) >= 99  # 0 may be lost among letters, never found too often


def test_what_is_left_out_is_said():
  assert sheet.left_out(10, 10, 5, 5) == ""
  assert sheet.left_out(10, 10, 5, 8) == "5 of 8 images per class"
  assert sheet.left_out(10, 20, 1, 8) == "1 of 8 images per class, 10 of 20 classes"


def test_large_images_are_shrunk_and_small_ones_magnified():
  assert sheet.picture(large(5, 1, 8)).size[1] > 5 * 90
  many = sheet.picture(large(40, 50, 224)).size
  assert many[0] * many[1] < 20e6


@pytest.mark.parametrize(
  "dataset, names, expected",
  [
    ("cifar10", [str(k) for k in range(10)], "airplane"),
    ("cifar100", [str(k) for k in range(100)], "apple"),
    ("fashion_mnist", [str(k) for k in range(10)], "T-shirt/top"),
    ("cifar10", [str(k) for k in range(9)], "0"),
    ("cifar10", ["b", "a"], "b"),
    ("mnist", [str(k) for k in range(10)], "0"),
  ],
)
def test_known_classes_have_names(dataset, names, expected):
  few = large(len(names), 1)
  few = few._replace(metadata=few.metadata | {"dataset": dataset, "class_names": names})
  assert few.class_names()[0] == expected
  assert len(set(few.class_names())) == len(names)
  assert sheet.row_names(few, [0]) == [expected]
  assert few.metadata["class_names"] == names  # what the file says stays


def test_a_long_name_is_cut():
  few = large(2, 1)
  few.metadata["class_names"] = ["x" * 500, "y"]
  name, _ = sheet.row_names(few, [0, 1])
  assert len(name) == sheet.LONGEST_NAME and name.endswith("…")
  assert few.show().size[0] < 500


def test_a_notebook_shows_what_it_is_and_its_images():
  few = large(3, 2)
  few = few._replace(metadata=few.metadata | {"dataset": "<script>alert(1)</script>"})
  html = few._repr_html_()
  assert "<script>" not in html and "3 classes, 2 images each, 8x8x1, hard labels" in html
  (data,) = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
  assert Image.open(io.BytesIO(base64.b64decode(data))).size == few.show().size
