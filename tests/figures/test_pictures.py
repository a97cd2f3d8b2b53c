"""Pictures: what is drawn, and that it is drawn where it should be."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from PIL import Image

from dcjax.figures import losses, pictures, style
from dcjax.figures.pictures import Curve, Panel
from dcjax.sets.sheet import GAP, mosaic
from dcjax.sets.synthetic import SyntheticSet


def synthetic_set(ipc=1, classes=3, value=0.5):
  """A set of flat images, class k as bright as `value` + k / 10."""
  levels = np.float32(value) + np.arange(classes, dtype=np.float32) / 10
  images = np.broadcast_to(levels[:, None, None, None, None], (classes, ipc, 4, 4, 1))
  names = [f"class {k}" for k in range(classes)]
  metadata = {"range": "unit", "mean": [0.0], "std": [1.0], "class_names": names, "dataset": "x"}
  return SyntheticSet(images, np.zeros((classes, ipc), np.int32), metadata)


def texts(ticks):
  return [label.get_text() for label in ticks]


# --- Sheets --------------------------------------------------------------------------------


def test_a_mosaic_magnifies_by_whole_numbers():
  tiles = np.arange(2 * 3 * 2 * 4, dtype=np.uint8).reshape(2, 3, 2, 4, 1)
  image = mosaic(tiles, 11)  # 2.75 times 4
  step_y, step_x = 2 * 2 + GAP, 2 * 4 + GAP
  assert image.shape == (2 * step_y, 3 * step_x, 3)
  expected = np.full(image.shape, 255, np.uint8)
  for row in range(2):
    for column in range(3):
      for y in range(4):
        for x in range(8):
          place = row * step_y + GAP // 2 + y, column * step_x + GAP // 2 + x
          expected[place] = tiles[row, column, y // 2, x // 2]
  np.testing.assert_array_equal(image, expected)


def test_a_mosaic_shrinks_what_is_too_large():
  tiles = np.full((1, 1, 60, 120, 3), (10, 20, 30), np.uint8)
  image = mosaic(tiles, 40)
  assert image.shape == (20 + GAP, 40 + GAP, 3)
  inside = image[GAP // 2 : -GAP // 2, GAP // 2 : -GAP // 2]
  assert (inside == (10, 20, 30)).all()


def test_a_sheet_shows_its_images_pixel_by_pixel():
  tiles = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 1)).astype(np.uint8)
  long = "a title that is longer than its images are wide"
  figure = pictures.sheet([Panel("left", tiles, "ab"), Panel(long, tiles, "ab")])
  figure.canvas.draw()
  for axes in figure.axes:
    image = axes.images[0].get_array()
    box = axes.get_window_extent()
    np.testing.assert_allclose((box.height, box.width), image.shape[:2])
  titles = [axes.title.get_window_extent() for axes in figure.axes]
  assert titles[0].x1 < titles[1].x0


def test_rows_are_named_once():
  tiles = np.zeros((2, 1, 4, 4, 1), np.uint8)
  wide = np.zeros((2, 1, 4, 8, 1), np.uint8)
  panels = [Panel("", tiles, "ab"), Panel("", tiles, "ab"), Panel("", tiles, "cd")]
  panels.append(Panel("", wide, "cd"))  # its rows are not as high
  names = [texts(axes.get_yticklabels()) for axes in pictures.sheet(panels).axes]
  assert names == [["a", "b"], [], ["c", "d"], ["c", "d"]]


def test_a_grid_shows_ten_images_of_a_class_and_says_so():
  figure = pictures.grid([("before", synthetic_set(12)), ("after", synthetic_set(12, value=0.7))])
  before, after = figure.axes
  assert (before.get_title(), after.get_title()) == ("before", "after")
  assert texts(before.get_yticklabels()) == ["class 0", "class 1", "class 2"]
  assert before.get_xlabel() == "10 of 12 images per class"
  image = np.asarray(after.images[0].get_array())
  step = image.shape[0] // 3
  assert image.shape[1] == 10 * step
  assert image[step // 2 :: step, step // 2, 0].tolist() == [178, 204, 230]  # 0.7, 0.8, 0.9
  (whole,) = pictures.grid([("all", synthetic_set(10))]).axes
  assert whole.get_xlabel() == ""


@pytest.mark.parametrize("classes, ipc", [(10, 1), (100, 50), (3000, 1)])
def test_a_grid_of_any_size_fits_on_a_page(classes, ipc):
  sets = [(title, synthetic_set(ipc, classes, 0.0)) for title in ("before", "after")]
  figure = pictures.grid(sets)
  width, height = figure.get_size_inches() * style.DPI
  assert height <= max(width, 1.1 * pictures.PAGE[1])
  names = [name for axes in figure.axes for name in texts(axes.get_yticklabels())]
  shown = min(classes, 1000)
  assert len(names) == shown and names[0] == "class 0" and names[-1] == f"class {classes - 1}"
  note = figure.axes[-1].get_xlabel()
  assert (f"{shown} of {classes} classes" in note) == (shown < classes)
  assert ("images per class" in note) == (ipc * shown * 2 > 2000 or ipc > 10)


def test_a_strip_has_a_column_for_each_iteration():
  sets = {iteration: synthetic_set(value=iteration / 100) for iteration in (0, 10, 30)}
  (axes,) = pictures.strip([("DC", sets)]).axes
  assert texts(axes.get_xticklabels()) == ["0", "10", "30"]
  assert axes.get_xlabel() == "iteration"
  image = np.asarray(axes.images[0].get_array())
  step = image.shape[1] // 3
  assert image[step // 2, step // 2 :: step, 0].tolist() == [0, 26, 76]
  rightmost = axes.get_xticks()[-1]
  assert rightmost == pytest.approx(2.5 * step)


def test_a_strip_of_many_iterations_keeps_the_first_and_the_last():
  sets = {iteration: synthetic_set() for iteration in range(0, 20001, 500)}
  (axes,) = pictures.strip([("DM", sets)]).axes
  shown = [int(text) for text in texts(axes.get_xticklabels())]
  assert len(shown) == 10 and shown[0] == 0 and shown[-1] == 20000
  assert np.ptp(np.diff(shown)) <= 500
  figure = pictures.strip([("DM", sets), ("DM", sets)])
  figure.canvas.draw()
  boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
  assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


# --- Histograms ----------------------------------------------------------------------------


def shares(patch):
  """Places and heights of the bins of a histogram that is drawn as one outline."""
  corners = patch.get_path().vertices
  top = corners[1 : 2 * pictures.BINS + 1 : 2]
  return top[:, 0], top[:, 1]


def test_a_histogram_counts_shares():
  real, synthetic = np.float32([[1, 1.001, 2]]), np.float32([1.5, 1.5])
  figure = pictures.gradient_histogram([("DC", real, synthetic)])
  (axes,) = figure.axes
  assert axes.get_title() == "DC" and axes.get_xscale() == "linear"
  (left, heights), (_, others) = (shares(patch) for patch in axes.patches)
  assert left[0] == 1 and heights.sum() == pytest.approx(100)
  np.testing.assert_allclose((heights[0], heights[-1]), (200 / 3, 100 / 3))
  assert others.max() == pytest.approx(100)
  assert texts(figure.legends[0].get_texts()) == ["real images", "synthetic images"]


def test_a_histogram_of_magnitudes_is_logarithmic_and_keeps_what_has_vanished():
  real, synthetic = np.float32([1, 10]), np.float32([0, 0, 0, 0.01])
  figure = pictures.gradient_histogram([("a", real, synthetic), ("b", real, real)])
  first, second = figure.axes
  assert first.get_xscale() == second.get_xscale() == "log"
  left, heights = shares(first.patches[1])
  assert left[0] == pytest.approx(0.01) and heights[0] == pytest.approx(100)
  np.testing.assert_allclose(left[1:] / left[:-1], left[1] / left[0])
  np.testing.assert_array_equal(first.get_xlim(), second.get_xlim())


def test_of_many_histograms_the_lowest_have_numbers_below():
  norms = np.float32([1, 2, 3])
  figure = pictures.gradient_histogram([(name, norms, norms) for name in "abcde"])
  figure.canvas.draw()
  numbered = [
    axes.get_title()
    for axes in figure.axes
    if axes.axison and axes.xaxis.get_tick_params()["labelbottom"]
  ]
  assert numbered == ["c", "d", "e"]  # in two rows of three places


def test_a_histogram_of_nothing_but_zeros():
  figure = pictures.gradient_histogram([("a", np.zeros(3), np.zeros(3))])
  assert shares(figure.axes[0].patches[0])[1][0] == pytest.approx(100)


# --- Accuracies ----------------------------------------------------------------------------

DC = Curve("DC", "mnist", [1, 10], [0.9, 0.95], [0.01, 0.005], whole=0.99)
HERDING = Curve("herding", "mnist", [1, 10], [0.8, 0.85], [0.01, 0.005], whole=0.99)
RANDOM = Curve("random", "mnist", [1, 10], [0.6, 0.9], [0.05, 0.02], whole=0.99, reference=True)
SVHN = Curve("DC", "svhn", [1, 50], [0.3, 0.8], [0.01, 0.01])


def lines(axes):
  return [container.lines[0] for container in axes.containers]


def test_accuracies_are_absolute_and_relative():
  absolute, relative = pictures.accuracies([DC, RANDOM]).axes
  np.testing.assert_allclose(lines(absolute)[0].get_xydata(), [[1, 90], [10, 95]])
  np.testing.assert_allclose(lines(relative)[0].get_xydata()[:, 1], [90 / 0.99, 95 / 0.99])
  (bars,) = absolute.containers[0].lines[2]
  np.testing.assert_allclose([s[:, 1] for s in bars.get_segments()], [[89, 91], [94.5, 95.5]])
  (bars,) = relative.containers[0].lines[2]
  np.testing.assert_allclose(np.ptp(bars.get_segments()[0][:, 1]), 2 / 0.99)
  assert "%" in absolute.get_ylabel() and "%" in relative.get_ylabel()
  assert texts(absolute.get_xticklabels()) == ["1", "10"]


def test_without_an_upper_bound_there_is_nothing_relative():
  (axes,) = pictures.accuracies([SVHN]).axes
  assert len(lines(axes)) == 1


def test_the_dataset_without_an_upper_bound_is_named():
  figure = pictures.accuracies([DC, SVHN])
  absolute, relative = figure.axes
  assert len(lines(absolute)) == 2 and len(lines(relative)) == 1
  assert relative.get_title() == "upper bound unknown for svhn"
  assert texts(figure.legends[0].get_texts()) == ["DC, mnist", "DC, svhn"]


def test_no_two_curves_look_alike():
  def looks(curves):
    axes = pictures.accuracies(curves).axes[0]
    return [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines(axes)]

  few = looks([DC, HERDING, RANDOM])
  assert len({colour for colour, _, _ in few}) == len({marker for _, marker, _ in few}) == 3
  assert [style for _, _, style in few] == ["-", "-", "--"]
  mnist, svhn, herding = looks([DC, SVHN, HERDING])
  assert mnist[0] == herding[0] != svhn[0] and mnist[1] == svhn[1] != herding[1]
  many = looks([DC._replace(name=str(number)) for number in range(20)])
  assert len(set(many)) == 20


def test_ticks_leave_room_for_their_numbers():
  curve = SVHN._replace(ipc=[1, 10, 20, 30, 40, 50], mean=[0] * 6, std=[0] * 6)
  figure = pictures.accuracies([curve])
  figure.canvas.draw()
  boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
  assert len(boxes) >= 4 and all(a.x1 < b.x0 for a, b in pairwise(boxes))


# --- Files ---------------------------------------------------------------------------------


def test_files_are_what_they_say_and_always_the_same(tmp_path):
  before = dict(matplotlib.rcParams)
  for name in ("first", "again"):
    for suffix in (".png", ".pdf"):
      style.save(pictures.accuracies([DC, RANDOM]), tmp_path / f"{name}{suffix}")
  for suffix in (".png", ".pdf"):
    first, again = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("first", "again"))
    assert first == again
  with Image.open(tmp_path / "first.png") as image:
    assert image.format == "PNG" and image.width > 1000
  assert (tmp_path / "first.pdf").read_bytes().startswith(b"%PDF")
  assert dict(matplotlib.rcParams) == before
  assert len(list(tmp_path.iterdir())) == 4


# --- Losses --------------------------------------------------------------------------------


def record(iteration, mean, name="synthetic", network="convnet"):
  return {
    "iteration": iteration, "set": name, "network": network, "last_mean": mean, "last_std": 0.01,
  }  # fmt: skip


def test_losses_are_drawn_over_the_accuracy():
  losses_of = [100.0 / (1 + t) for t in range(200)]
  ours = [record(100, 0.5), record(200, 0.6)]
  evaluations = [*ours, record(0, 0.3, "random"), record(200, 0.1, network="mlp")]
  figure = losses.draw([losses.Course("DC", losses_of, evaluations)])
  above, below = figure.axes
  raw, smooth = above.lines
  np.testing.assert_array_equal(raw.get_ydata(), losses_of)
  np.testing.assert_allclose(smooth.get_ydata()[0], np.mean(losses_of[:4]))
  np.testing.assert_array_equal(smooth.get_xdata(), np.arange(4, 201))
  assert above.get_yscale() == "log"  # from 100 to 0.5
  np.testing.assert_allclose(below.lines[0].get_xydata(), [[100, 50], [200, 60]])
  assert (
    below.lines[-1].get_ydata()[0] == pytest.approx(30) and below.lines[-1].get_linestyle() == "--"
  )
  assert [text.get_text() for text in figure.legends[0].get_texts()] == ["DC"]


@pytest.mark.parametrize("values", [[1.0], [0.0, -1.0, 3.0], [5.0] * 3])
def test_losses_without_accuracies_have_one_panel(values):
  (axes,) = losses.draw([losses.Course("a", values, []), losses.Course("b", values, [])]).axes
  assert axes.get_yscale() == "linear" and len(axes.lines) == 4
