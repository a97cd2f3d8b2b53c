"""The page in a real browser: Debian's Chromium without a screen, by Playwright."""

import json
import re
import shutil
import threading
import time

import numpy as np
import pytest

from dcjax.commands.report import live, report
from tests.pages.made import make, record

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

FLAGS = [
  "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = "</script><script>window.alerted = true</script>"
SECONDS = 2.0  # in which a page of many images is there


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  with playwright.sync_playwright() as program:
    yield program.chromium.launch_persistent_context(
      tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=FLAGS
    )


@pytest.fixture
def page(browser):
  """A new page; at the end nothing was asked of the network, and nothing went wrong."""
  page, asked, wrong = browser.new_page(), [], []
  page.set_viewport_size({"width": 1440, "height": 900})
  page.on("request", lambda request: asked.append(request.url))
  page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
  page.on("pageerror", lambda error: wrong.append(str(error)))
  yield page
  page.close()
  own = ("file://", "data:", "blob:", "http://127.0.0.1:")
  assert not [url for url in asked if not url.startswith(own)]
  assert not wrong


@pytest.fixture(scope="module")
def several(tmp_path_factory):
  """The page of three runs, one with names of classes that try to run something."""
  folder = tmp_path_factory.mktemp("runs")
  make(folder / "a", names=(HOSTILE, "<b>dog</b>", "owl"), iterations=(0, 5, 100))
  make(folder / "b", method="idc", ipc=2, factor=2)
  make(folder / "c", method="herding", iterations=(0,), ipc=12, channels=3)
  return f"file://{report([folder], folder / 'page.html')}"


def sheet(page, number=0):
  """The address of the images that a gallery shows."""
  classes = page.locator(".gallery .classes").nth(number)
  return classes.evaluate(
    "element => getComputedStyle(element.querySelector('span')).backgroundImage"
  )


def test_a_slider_moves_through_the_iterations_of_all_runs(page, several):
  page.goto(several)
  slider, shown = page.locator(".gallery input[type=range]"), page.locator(".gallery output")
  assert shown.all_text_contents() == ["100", "10", "0"]
  last = sheet(page)
  slider.first.focus()
  page.keyboard.press("ArrowLeft")
  assert shown.all_text_contents() == ["5", "5", "0"] and sheet(page) != last
  page.get_by_label("Move all sliders together").uncheck()
  slider.first.focus()
  page.keyboard.press("Home")
  assert shown.all_text_contents() == ["0", "5", "0"]
  page.keyboard.press("End")
  assert sheet(page) == last


def test_images_are_drawn_and_named(page, several):
  page.goto(several)
  image = page.get_by_role("img", name="owl", exact=True).first
  image.scroll_into_view_if_needed()
  colours = np.unique(np.frombuffer(image.screenshot(), np.uint8))
  assert image.bounding_box()["width"] == 40 and len(colours) > 50
  assert page.get_by_role("img", name="owl, image 12 of 12").count() == 1


def test_stored_and_decoded_images(page, several):
  page.goto(several)
  gallery = page.locator(".gallery").nth(1)
  tiles = gallery.locator(".tiles > span")
  assert tiles.count() == 3 * 2
  gallery.get_by_label("as networks see them").check()
  assert tiles.count() == 3 * 8
  gallery.get_by_label("as stored").press("Space")
  assert tiles.count() == 3 * 2


def test_classes_are_found_by_name_and_images_made_larger(page, several):
  page.goto(several)
  blocks = page.locator(".gallery").first.locator(".class:visible h4")
  page.get_by_label("Classes named").fill("OWL")
  assert blocks.all_text_contents() == ["owl"]
  page.get_by_label("Classes named").fill("")
  assert blocks.count() == 3
  before = page.locator(".tiles > span").first.bounding_box()["width"]
  page.get_by_label("Size").focus()
  page.keyboard.press("End")
  assert page.locator(".tiles > span").first.bounding_box()["width"] > 2 * before


def test_names_of_classes_stay_text(page, several):
  page.goto(several)
  assert page.locator(".gallery h4").first.text_content() == HOSTILE
  for chart in page.locator(".chart").all():
    chart.scroll_into_view_if_needed()
  page.wait_for_selector(".heat .plot .main-svg")
  bars = page.locator("[data-charts=classes] .plot").first
  assert "<b>dog</b>" in bars.text_content()
  assert page.evaluate("window.alerted") is None


@pytest.mark.parametrize(
  ("section", "at", "says"),
  [
    ("accuracy", (0.5, 0.5), r"90.0 ± 1.0 %"),
    ("loss", (0.2, 0.5), r"iteration \d+.*loss"),
    ("classes", (0.3, 0.6), r"90.0 % right"),
    ("confusion", (0.5, 0.5), r"taken for .* images \("),
  ],
)
def test_charts_say_what_is_under_the_pointer(page, several, section, at, says):
  page.goto(several)
  plot = page.locator(f"[data-charts={section}] .plot").nth(1 if section == "loss" else 0)
  plot.scroll_into_view_if_needed()
  plot.locator(".draglayer .nsewdrag").first.wait_for(state="attached")
  box = plot.locator(".draglayer .nsewdrag").first.bounding_box()
  text = ""
  for step in np.linspace(0.02, 0.98, 40):
    y = at[1] if section in ("classes", "confusion") else step
    x = at[0] if section in ("accuracy", "loss") else step
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.wait_for_timeout(30)
    text = " ".join(plot.locator(".hoverlayer text").all_text_contents())
    if re.search(says, text):
      return
  raise AssertionError(f"no label says {says}; the last is {text!r}")


def test_the_keyboard_reaches_everything(page, several):
  page.goto(several)
  selector = "a[href], input, select, button, summary, [tabindex='0']"
  wanted = page.evaluate(
    """(selector) => [...document.querySelectorAll(selector)].filter((element) =>
      element.checkVisibility() && !(element.type === "radio" && !element.checked)).length""",
    selector,
  )
  page.evaluate("window.seen = new Set(), 0")
  for _ in range(wanted + 5):
    page.keyboard.press("Tab")
    reached = page.evaluate(
      """() => { if (document.activeElement !== document.body) seen.add(document.activeElement);
      return seen.size; }"""
    )
  assert reached >= wanted
  summary = page.get_by_text("All fields")
  summary.focus()
  page.keyboard.press("Enter")
  assert page.get_by_role("rowheader", name="evaluation.networks").last.is_visible()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(page, several, width, scheme):
  page.emulate_media(color_scheme=scheme)
  page.set_viewport_size({"width": width, "height": 844})
  page.goto(several)
  assert page.evaluate("document.documentElement.scrollWidth") == width
  colours = page.evaluate("""() => {
    const styles = getComputedStyle(document.documentElement);
    const names = ["--paper", "--wash", "--ink", "--soft", "--accent"];
    return names.map((name) => styles.getPropertyValue(name));
  }""")
  papers, inks = colours[:2], colours[2:]
  assert min(contrast(ink, paper) for ink in inks for paper in papers) >= 4.5
  page.locator("[data-charts=accuracy]").scroll_into_view_if_needed()
  plot = page.locator("[data-charts=accuracy] .xtitle").first
  plot.wait_for(timeout=5000)
  assert contrast(plot.evaluate("element => element.style.fill"), papers[0]) >= 4.5


def contrast(first, second):
  """The ratio of luminances of WCAG 2, of colours such as #102030 or rgb(1, 2, 3)."""

  def luminance(colour):
    numbers = (
      re.findall(r"\d+", colour) if "rgb" in colour else re.findall("[0-9a-fA-F]{2}", colour)
    )
    parts = [int(each, 10 if "rgb" in colour else 16) / 255 for each in numbers[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])

  low, high = sorted([luminance(first), luminance(second)])
  return (high + 0.05) / (low + 0.05)


def test_it_prints_light_with_all_charts(page, several, tmp_path):
  page.emulate_media(color_scheme="dark")
  page.goto(several)
  page.emulate_media(media="print", color_scheme="dark")
  page.wait_for_function(
    "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))"
  )
  assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 252, 249)"
  title = page.locator("[data-charts=loss] .xtitle").first
  assert contrast(title.evaluate("element => element.style.fill"), "#fdfcf9") > 10


def test_a_hundred_classes_of_fifty_images(page, tmp_path):
  names = tuple(f"class {number}" for number in range(100))
  run = make(tmp_path / "run", names=names, ipc=50, side=32, channels=3, iterations=(0, 50))
  file = report([run], tmp_path / "page.html")
  assert file.stat().st_size < 15e6
  assert any(seconds_to_load(page, file) < SECONDS for _ in range(5))  # others may disturb one
  assert page.locator(".tiles > span").count() == 5000
  page.get_by_label("Classes named").fill("class 77")
  image = page.get_by_role("img", name="class 77, image 50 of 50")
  image.scroll_into_view_if_needed()
  assert len(image.screenshot()) > 300


def seconds_to_load(page, file):
  """How long it takes until a page is there, with its images."""
  page.goto("about:blank")
  start = time.monotonic()
  page.goto(f"file://{file}")
  page.locator(".tiles > span").first.wait_for(state="attached")
  return time.monotonic() - start


def test_a_live_page_follows_the_run(page, tmp_path):
  run = make(tmp_path / "run", finished=False, evaluated=False)
  with live([run], port=0) as server:
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    assert page.get_by_text("No network has been trained on a set yet.").is_visible()
    assert page.locator(".gallery output").text_content() == "10"
    (run / "images" / "000005.npz").rename(run / "images" / "000015.npz")
    log = (run / "metrics.jsonl").read_text()
    more = [{"iteration": 11, "loss": 0.5}, {"iteration": 11, "evaluation": record(3, 11)}]
    (run / "metrics.jsonl").write_text(log + "".join(json.dumps(each) + "\n" for each in more))
    page.get_by_role("cell", name="90.0 ± 1.0").wait_for(timeout=15_000)
    assert page.locator(".gallery output").text_content() == "15"
    assert page.locator("[data-charts=confusion] .chart").count() == 1
    server.shutdown()
