"""The page of runs of all kinds: what it says, and what it holds against those who write files."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from dcjax import SyntheticSet, UserError
from dcjax.commands.report import Follower, report
from dcjax.pages import charts, facts, gather, sprites
from tests.pages.made import make, record

HOSTILE = "</script><script>alert(1)</script>"


def written(tmp_path, *folders):
  """The text of the page of runs, and its data."""
  file = report(folders, tmp_path / "page.html")
  text = file.read_text()
  (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
  return text, json.loads(data)


def text_of(page):
  """What a reader of the page sees without its program, about."""
  body = page.partition("<main>")[2].partition("</main>")[0]
  return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def looked(*folders):
  return Follower(folders).look()[0]


def test_one_run(tmp_path):
  page, data = written(tmp_path, make(tmp_path / "run"))
  text = text_of(page)
  assert "DC on digits" in text and "10 of 10" in text and "of a test" in text
  assert "the set random images networks convnet 10 90.0 ± 1.0 90.0 ± 1.0 5" in text
  assert "No paper's table" in text
  assert "condense 1.5" in text and "version of jax 0.10" in text
  assert gather.digest(tmp_path / "run" / "synthetic.npz") in text
  assert data["galleries"][0]["iterations"] == [0, 5, 10] and data["poll"] == 0
  assert [len(data["charts"][name]) for name in ("accuracy", "loss", "classes", "confusion")] == [
    1, 1, 1, 1,
  ]  # fmt: skip


def test_nothing_is_loaded_and_paths_are_those_given(tmp_path, monkeypatch):
  make(tmp_path / "run")
  monkeypatch.chdir(tmp_path)
  page, _ = written(tmp_path, "run")
  own = re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)  # without plotly
  assert "default-src 'none'" in own and "connect-src" not in own
  assert not re.search(r"(?:src|href)=[\"'](?!#|data:)", own)
  assert "<code>run</code>" in own and str(tmp_path) not in own


def test_several_side_by_side(tmp_path):
  first = make(tmp_path / "a", ipc=2)
  second = make(tmp_path / "b", method="idc", ipc=2, factor=2, names=("x", "y"))
  third = make(tmp_path / "c", method="herding", iterations=(0,), ipc=2)
  page, data = written(tmp_path, tmp_path)
  text = text_of(page)
  assert all(str(folder) in text for folder in (first, second, third))
  differing = dict(facts.differences(looked(tmp_path)))
  assert differing["method"] == ["dc", "idc", "herding"] and "seed" not in differing
  assert differing["formation.factor"] == ["1", "2", facts.ABSENT]
  assert [gallery["classes"] for gallery in data["galleries"]] == [
    ["cat", "dog", "owl"], ["x", "y"], ["cat", "dog", "owl"],
  ]  # fmt: skip
  assert len(data["charts"]["loss"]) == 2 and len(data["charts"]["classes"]) == 2
  assert text.count("dcjax condense") == 2 and text.count("dcjax select") == 1


@pytest.mark.parametrize(
  ("kind", "says"),
  [
    ({"finished": False}, "no summary yet"),
    ({"evaluated": False}, "No network has been trained"),
    ({"evaluated": False, "finished": False}, "not evaluated yet"),
    ({"confused": False}, "No confusion is recorded"),
    ({"soft": True}, "DC on digits"),
    ({"channels": 3}, "DC on digits"),
  ],
)
def test_kinds_of_runs(tmp_path, kind, says):
  page, data = written(tmp_path, make(tmp_path / "run", **kind))
  assert says in text_of(page)
  assert data["galleries"][0]["classes"] == ["cat", "dog", "owl"]
  assert bool(data["charts"]["confusion"]) == (not {"evaluated", "confused"} & kind.keys())


def test_names_of_classes_stay_text(tmp_path):
  page, data = written(tmp_path, make(tmp_path / "run", names=(HOSTILE, "<b>", "\udcff")))
  assert "<script>alert" not in page and "alert(1)" in page
  assert data["galleries"][0]["classes"][:2] == [HOSTILE, "<b>"]
  assert "&lt;b&gt;" in data["charts"]["confusion"][0]["options"][0]["layout"]["names"]


def test_the_name_of_a_folder_stays_text(tmp_path):
  page, _ = written(tmp_path, make(tmp_path / "<img src=x onerror=alert(1)>"))
  assert "<img" not in page.partition("<main>")[2].partition("</main>")[0]


@pytest.mark.parametrize(
  "confusion",
  [
    3, [], ["1 2"], ["1", "2"], [1, 2, 3], ["a b c"] * 3, ["1 2 3"] * 2, ["-1 0 0"] * 3,
    [f"{10**30} 0 0"] * 3, ["0 0 0"] * 201,
  ],
)  # fmt: skip
def test_a_confusion_that_is_none_is_left_out(tmp_path, confusion):
  assert gather.confusion(record(3, 5) | {"confusion": confusion}) is None


def test_damaged_files_are_named_and_the_rest_is_shown(tmp_path):
  run = make(tmp_path / "run")
  (run / "images" / "000010.npz").write_bytes(b"PK")
  (run / "images" / "000005.npz").unlink()
  (run / "summary.json").write_text('{"evaluations": NaN}')
  log = (run / "metrics.jsonl").read_text().splitlines()
  (run / "metrics.jsonl").write_text("\n".join([*log[:4], "{", *log[5:]]))
  page, data = written(tmp_path, run)
  text = text_of(page)
  assert "summary.json is damaged" in text and "damaged after line 4" in text
  assert data["galleries"][0]["iterations"] == [0]
  assert "Iteration 10 is left out" in data["galleries"][0]["notes"][0]


def test_a_run_without_any_image_that_can_be_read(tmp_path):
  run = make(tmp_path / "run")
  for file in run.rglob("*.npz"):
    file.write_bytes(b"")
  _, data = written(tmp_path, run)
  assert "No images can be shown" in data["galleries"][0]["notes"][0]
  assert data["charts"]["confusion"][0]["options"][0]["layout"]["names"][0] == "class 0"


def test_values_of_a_config_may_be_anything(tmp_path):
  run = make(tmp_path / "run")
  config = json.loads((run / "config.json").read_text())
  config |= {"own": {"a": float("nan"), "b": "<i>" + "x" * 10**4, "c": [1, None, {"d": "\x1b"}]}}
  (run / "config.json").write_text(json.dumps(config))
  text = text_of(written(tmp_path, run)[0])
  assert "own.a nan" in text and "config cannot be followed" in text


# --- Images --------------------------------------------------------------------------------


def pixels(uri):
  return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def tile(kind, sheet, number):
  """One image of a sheet."""
  height, width = kind["tile"]
  row, column = divmod(number, kind["columns"])
  return sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_where_the_page_looks_for_it(tmp_path, channels):
  run = make(tmp_path / "run", ipc=3, channels=channels)
  gallery = sprites.gallery(gather.sets(run)[0], 10**6)
  assert list(gallery.kinds) == ["stored"] and not gallery.notes
  kind = gallery.kinds["stored"]
  expected = SyntheticSet.load(run / "images" / "000005.npz").pixels()
  sheet = pixels(kind["sheets"][1])
  for number, image in enumerate(expected.reshape(-1, 8, 8, channels)):
    np.testing.assert_array_equal(tile(kind, sheet, number), np.squeeze(image))


def test_decoded_images_stand_beside_stored_ones(tmp_path):
  run = make(tmp_path / "run", method="idc", ipc=2, factor=2)
  kinds = sprites.gallery(gather.sets(run)[0], 10**6).kinds
  assert {name: kind["count"] for name, kind in kinds.items()} == {"stored": 2, "decoded": 8}
  made = SyntheticSet.load(run / "synthetic.npz")
  unit = made.decoded()[0, 5, ..., 0] * 0.25 + 0.5
  shown = tile(kinds["decoded"], pixels(kinds["decoded"]["sheets"][-1]), 5)
  np.testing.assert_allclose(shown, 255 * np.clip(unit, 0, 1), atol=0.6)


def test_too_many_images_are_left_out_and_the_page_says_so(tmp_path, monkeypatch):
  monkeypatch.setattr(sprites, "LOSSLESS", 0)
  run = make(tmp_path / "run", ipc=40, channels=3, iterations=(0, 1, 2, 3))
  sets = gather.sets(run)[0]
  whole = sprites.gallery(sets, 10**6)
  size = sum(map(len, whole.kinds["stored"]["sheets"])) / 4
  fewer = sprites.gallery(sets, int(1.5 * size))
  assert fewer.iterations[-1] == 3 and len(fewer.iterations) < 4
  assert any("saved iterations are shown" in note for note in fewer.notes)
  least = sprites.gallery(sets, int(size / 2))
  assert least.iterations == [3] and least.kinds["stored"]["count"] < 40
  assert any("images of each class are shown" in note for note in least.notes)
  assert sum(map(len, least.kinds["stored"]["sheets"])) < size


def test_large_images_are_made_smaller(tmp_path, monkeypatch):
  monkeypatch.setattr(sprites, "MOST_PIXELS", 3 * 64 // 4)
  images = np.arange(3 * 64, dtype=np.uint8).reshape(3, 1, 8, 8, 1)
  sheet = sprites.sheet(images)
  assert sheet.size <= 4 * 64 // 4
  assert sheet[0, 0] == round(images[0, 0, :2, :2].mean())


# --- Charts --------------------------------------------------------------------------------


def test_a_smoothed_line_is_a_mean(tmp_path):
  values = np.random.default_rng(0).normal(size=500)
  smooth = charts.smoothed(values)
  assert charts.window(500) == 10
  assert smooth[200] == pytest.approx(values[195:206].mean())
  assert smooth[0] == pytest.approx(values[:6].mean())
  np.testing.assert_array_equal(charts.smoothed([1.0, 5.0]), [1.0, 5.0])


def test_the_axis_of_a_loss_is_logarithmic_where_it_must_be(tmp_path):
  run = looked(make(tmp_path / "run"))[0]
  axis = lambda losses: charts.losses([run._replace(losses=losses)])[0]["layout"]["yaxis"]["type"]  # noqa: E731
  assert [axis([1.0, 2.0]), axis([100.0, 1.0]), axis([100.0, 0.0])] == ["linear", "log", "linear"]


def test_a_long_line_of_losses_has_few_points(tmp_path):
  run = looked(make(tmp_path / "run"))[0]._replace(losses=[1.0] * 10**5)
  traces = charts.losses([run])[0]["data"]
  assert all(len(trace["x"]) <= charts.MOST_POINTS for trace in traces)
  assert traces[-1]["x"][-1] == 10**5


def test_losses_of_any_size_are_numbers_that_json_has(tmp_path):
  run = looked(make(tmp_path / "run"))[0]._replace(losses=[9e299] * 10**3)
  assert json.dumps(charts.losses([run]), allow_nan=False)


def test_classes_and_mistakes_are_those_of_the_confusion(tmp_path):
  run = looked(make(tmp_path / "run"))[0]
  np.testing.assert_allclose(charts.by_class(run, "synthetic", 3), [90, 90, 90])
  names = ["cat", "dog", "owl"]
  assert facts.classes(run, names)[2] == ("owl", "90.0", "90.0")
  assert facts.mistakes(run, names)[0] == ("cat", "dog", 1, "10.0%")
  heat = charts.confusions(run, names)[0]["data"][0]
  assert heat["z"][0] == [90, 10, 0] and heat["text"][0] == [9, 1, 0]


def test_a_set_that_cannot_be_read_is_an_error_of_its_own(tmp_path):
  with pytest.raises(UserError, match="synthetic set"):
    sprites.gallery({0: tmp_path / "none.npz"}, 1000)


def test_soft_labels_are_named(tmp_path):
  run = make(tmp_path / "run", soft=True)
  assert "Labels are soft (logit)" in sprites.gallery(gather.sets(run)[0], 10**6).notes[0]
