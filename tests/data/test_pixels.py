"""What pixels mean: numbers of any type, and image files of any mode."""

import io

import numpy as np
import pytest
from PIL import Image

from dcjax.common.errors import UserError
from dcjax.data import pixels
from tests.data.test_folder import write_image

LEVELS = np.arange(256, dtype=np.uint8)


def error_of(function, *arguments, **keywords):
  with pytest.raises(UserError) as caught:
    function(*arguments, **keywords)
  assert "\n" not in str(caught.value)
  return str(caught.value)


# --- Numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("values", "limits"),
  [
    (LEVELS, None),
    (LEVELS.astype(np.uint16) * 257, None),
    (LEVELS.astype(">u2") * 257, None),
    (LEVELS / 255, None),
    ((LEVELS / 255).astype(np.float32), None),
    ((LEVELS / 255).astype(np.float16), None),
    (LEVELS.astype(np.int64), (0, 255)),
    (np.rint(LEVELS * (4095 / 255)).astype(np.uint16), (0, 4095)),
    (LEVELS.astype(np.int16) * 16 - 1024, (-1024, 3056)),  # as of computed tomography
    (LEVELS / 127.5 - 1, (-1, 1)),
    (LEVELS.astype(np.float32), (0, 255)),
  ],
)
def test_a_ramp_of_any_type_is_all_levels(values, limits, monkeypatch):
  np.testing.assert_array_equal(pixels.as_uint8("x", values, limits), LEVELS)
  monkeypatch.setattr(pixels, "BLOCK", 50)  # several blocks, the last one short
  both = np.stack([values.reshape(16, 16), values.reshape(16, 16)[::-1]], -1)
  found = pixels.as_uint8("x", both, limits)
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found[..., 0], LEVELS.reshape(16, 16))
  np.testing.assert_array_equal(found[::-1, :, 1], LEVELS.reshape(16, 16))


def test_booleans_are_black_and_white():
  for limits in (None, (0, 4095)):
    assert pixels.as_uint8("x", np.array([True, False]), limits).tolist() == [255, 0]


def test_what_is_uint8_is_not_copied():
  assert pixels.as_uint8("x", LEVELS) is LEVELS


def test_a_part_of_uint8_is_stretched():
  assert pixels.as_uint8("x", np.array([0, 8, 16], np.uint8), (0, 16)).tolist() == [0, 128, 255]


def test_what_rounding_adds_is_forgiven():
  near = np.array([-0.0019, 1.0019])
  assert pixels.as_uint8("x", near).tolist() == [0, 255]


@pytest.mark.parametrize(
  ("values", "limits", "words"),
  [
    ([0.0, 255.0], None, "float64 pixels from 0 to 255 are not within 0..1; give the values of"),
    ([0.0, 255.0], None, "such as dataset.range=0,255"),
    ([-1.0, 1.0], None, "dataset.range=-1,1"),
    ([-0.003, 1.0], None, "pixels from -0.003 to 1 are not within 0..1"),
    ([0.0, 99_999.0], None, "dataset.range=0,99999"),
    (np.array([0, 4096], np.uint16), (0, 4095), "from 0 to 4096 are not within 0..4095"),
    (np.array([0, 255]), None, "int64 pixels from 0 to 255; give the values of black and white"),
    (np.array([-5, 5], np.int8), None, "int8 pixels from -5 to 5; give"),
    (LEVELS, (0, 4095), "uint8 pixels from 0 to 255, which cannot fill dataset.range=0,4095"),
    ([[0.0, np.nan]], None, "x: pixel [0, 1] is nan"),
    ([-np.inf, 0.5], None, "x: pixel [0] is -inf"),
    ([1j], None, "complex128 is no type of pixels"),
    (["a"], None, "<U1 is no type of pixels"),
    (np.array([None]), None, "object is no type of pixels"),
    (np.array(["2020"], "M8[Y]"), None, "datetime64[Y] is no type of pixels"),
  ],
)
def test_pixels_that_cannot_be_meant(values, limits, words):
  message = error_of(pixels.as_uint8, "x", np.asarray(values), limits)
  assert message.startswith("x: ") and words in message


@pytest.mark.parametrize("value", [(), [], ("",)])
def test_no_range(value):
  assert pixels.as_range(value) is None


@pytest.mark.parametrize("value", [(0, 4095), [0.0, 4095.0], ("0", "4095")])
def test_a_range(value):
  assert pixels.as_range(value) == (0, 4095)


@pytest.mark.parametrize(
  "value", [(1,), (0, 1, 2), (1, 0), (2, 2), (0, np.inf), (np.nan, 1), ("a", "b"), (None, 1)]
)
def test_a_range_that_is_none(value):
  assert error_of(pixels.as_range, value).startswith("dataset.range: (")


# --- Files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(30, 10), (10, 30), (10, 10), (31, 10)])
def test_the_centre_of_the_image_is_kept(tmp_path, size):
  width, height = size
  white = np.zeros((height, width, 3), np.uint8)
  top, left = (height - 10) // 2, (width - 10) // 2
  white[top : top + 10, left : left + 10] = 255
  Image.fromarray(white).save(tmp_path / "a.png")
  assert (pixels.read_image(tmp_path / "a.png", side=10) == 255).all()


@pytest.mark.parametrize("size", [(333, 500), (500, 375), (3, 2), (1, 50)])
@pytest.mark.parametrize("side", [1, 7, 64])
def test_every_size_becomes_a_square(tmp_path, size, side):
  write_image(tmp_path / "a.png", (10, 20, 30), size)
  image = pixels.read_image(tmp_path / "a.png", side=side)
  assert image.shape == (side, side, 3) and (image == (10, 20, 30)).all()


def test_shrinking_is_antialiased(tmp_path):
  stripes = np.zeros((64, 64), np.uint8)
  stripes[:, ::2] = 255
  Image.fromarray(stripes).save(tmp_path / "a.png")
  image = pixels.read_image(tmp_path / "a.png", side=8)
  assert image[:, 1:-1].min() > 120 and image[:, 1:-1].max() < 136


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
  suffix = "jpg" if mode == "CMYK" else "png"
  Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(tmp_path / f"a.{suffix}")
  image = pixels.read_image(tmp_path / f"a.{suffix}", side=4)
  assert image.shape == (4, 4, 3) and image.min() > 250


def ramp_16():
  """A ramp of 16 bits, its expected levels."""
  values = np.rint(np.linspace(0, 65535, 64 * 64)).astype(np.uint16).reshape(64, 64)
  return values, np.rint(values / 257)


@pytest.mark.parametrize(
  ("suffix", "kind"), [("png", np.uint16), ("tif", np.uint16), ("tif", np.float32)]
)
def test_grey_images_of_more_than_8_bits_are_not_clipped(tmp_path, suffix, kind):
  values, expected = ramp_16()
  numbers = values / np.float32(65535) if kind == np.float32 else values.astype(kind)
  Image.fromarray(numbers.astype(kind)).save(tmp_path / f"a.{suffix}")
  found = pixels.read_image(tmp_path / f"a.{suffix}")
  assert found.shape == (64, 64, 3) and (found == found[..., :1]).all()
  np.testing.assert_array_equal(found[..., 0], expected)


def test_a_grey_map_of_16_bits(tmp_path):
  values, expected = ramp_16()
  (tmp_path / "a.pgm").write_bytes(b"P5 64 64 65535\n" + values.astype(">u2").tobytes())
  np.testing.assert_array_equal(pixels.read_image(tmp_path / "a.pgm")[..., 0], expected)


def test_12_bits_in_files_of_16(tmp_path):
  values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
  Image.fromarray(values).save(tmp_path / "a.png")
  found = pixels.read_image(tmp_path / "a.png", limits=(0, 4095))[..., 0]
  np.testing.assert_array_equal(found, np.rint(values * (255 / 4095)))
  # Resizing comes before rounding: means of 8 by 8 values.
  small = pixels.read_image(tmp_path / "a.png", side=8, limits=(0, 4095))[1:-1, 1:-1, 0]
  means = values.reshape(8, 8, 8, 8).mean((1, 3))[1:-1, 1:-1] * (255 / 4095)
  assert np.abs(small - means).max() < 0.6


def test_the_error_names_the_file(tmp_path):
  Image.fromarray(np.full((4, 4), 7, np.float32)).save(tmp_path / "a.tif")
  message = error_of(pixels.read_image, tmp_path / "a.tif")
  assert message.startswith(f"dataset.data_dir: {tmp_path / 'a.tif'}: float32 pixels from 7 to 7 ")
  Image.fromarray(np.full((4, 4), 7, np.int32)).save(tmp_path / "b.tif")
  assert "int32 pixels from 7 to 7; give" in error_of(pixels.read_image, tmp_path / "b.tif")
  write_image(tmp_path / "c.png", (1, 2, 3))
  message = error_of(pixels.read_image, tmp_path / "c.png", limits=(0, 4095))
  assert "uint8 pixels from 1 to 3, which cannot fill dataset.range=0,4095" in message


def test_a_range_holds_for_8_bits_too(tmp_path):
  write_image(tmp_path / "a.png", (0, 8, 16))
  image = pixels.read_image(tmp_path / "a.png", side=4, limits=(0, 16))
  assert (image == (0, 128, 255)).all()


def transparent(mode):
  """A black image, its right half transparent."""
  alpha = np.zeros((8, 8), np.uint8)
  alpha[:, :4] = 255
  image = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
  image.putalpha(Image.fromarray(alpha))
  if mode in ("LA", "RGBA"):
    return image.convert(mode), {}
  levels = np.where(alpha, 0, 99).astype(np.uint8)  # which stands for transparent
  if mode == "RGB":
    return Image.fromarray(np.repeat(levels[..., None], 3, -1)), {"transparency": (99, 99, 99)}
  found = Image.fromarray(levels)
  return (found.convert("P") if mode == "P" else found), {"transparency": 99}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_what_is_transparent_is_white(tmp_path, mode):
  image, options = transparent(mode)
  image.save(tmp_path / "a.png", **options)
  found = pixels.read_image(tmp_path / "a.png")
  assert (found[:, :4] == 0).all() and (found[:, 4:] == 255).all()


def test_half_transparent_is_half_white(tmp_path):
  Image.new("RGBA", (4, 4), (0, 0, 200, 51)).save(tmp_path / "a.png")
  assert np.abs(pixels.read_image(tmp_path / "a.png").astype(int) - (204, 204, 244)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path, mode, orientation):
  """Against the definition: of row 0 and column 0 as stored, which sides they show."""
  upright = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
  stored = {
    1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
    5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
  }[orientation]  # fmt: skip
  stored = np.ascontiguousarray(stored)
  image = (
    Image.fromarray(stored.astype(np.uint16) * 257)
    if mode == "I;16"
    else Image.fromarray(np.repeat(stored[..., None], 3, -1))
  )
  exif = Image.Exif()
  exif[0x0112] = orientation
  image.save(tmp_path / "a.png", exif=exif)
  np.testing.assert_array_equal(pixels.read_image(tmp_path / "a.png")[..., 0], upright)
  assert pixels.look(tmp_path / "a.png") == ((3, 4), mode == "I;16")


def test_damaged_exif_says_nothing(tmp_path):
  Image.new("RGB", (4, 3), (9, 9, 9)).save(tmp_path / "a.jpg", exif=b"Exif\0\0nonsense")
  assert pixels.read_image(tmp_path / "a.jpg").shape == (3, 4, 3)


def test_an_open_file_is_read(tmp_path):
  write_image(tmp_path / "a.png", (1, 2, 3), (4, 3))
  found = pixels.read_image(io.BytesIO((tmp_path / "a.png").read_bytes()))
  assert found.shape == (3, 4, 3) and (found == (1, 2, 3)).all()
