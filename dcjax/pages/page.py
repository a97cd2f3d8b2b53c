"""The page of runs: one HTML file, with all that it shows inside."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from plotly.offline import get_plotlyjs

from dcjax.common.errors import UserError
from dcjax.common.version import __version__
from dcjax.figures.style import COLOURS
from dcjax.pages import charts, facts, sprites
from dcjax.pages.gather import Run, confusion

LARGEST = 14_000_000  # bytes of a page, about
RESERVED = 300_000  # of them for text and tables
LEAST = 100_000  # for the images of a run, whatever else there is
POLL_SECONDS = 3  # between two looks of a live page
# Colours of runs on a dark page, one for each of those on a light one
ON_BLACK = ("#56B4E9", "#FF8A3D", "#2FC79B", "#E59AC4", "#F0B840", "#9AD1F5")

Images = list[sprites.Gallery | str]  # of each run, or why there are none


class Content(NamedTuple):
  """What a page shows of its runs, apart from their images.

  Attributes:
    charts: of each section, as plotly has them.
    parts: HTML by the name of the element that it is in.
  """

  charts: dict[str, list[charts.Chart]]
  parts: dict[str, str]


def images(runs: Sequence[Run]) -> Images:
  """The images of each run, as many as fit."""
  drawn = len(json.dumps(_charts(runs, [_numbered(run) for run in runs])))
  left = LARGEST - RESERVED - len(get_plotlyjs().encode()) - drawn
  return [_images(run, max(LEAST, left // len(runs))) for run in runs]


def _images(run: Run, budget: int) -> sprites.Gallery | str:
  if not run.sets:
    return "No images are saved yet."
  try:
    return sprites.gallery(run.sets, budget)
  except UserError as error:
    return f"No images can be shown: {sprites.reason(error)}."


def content(runs: Sequence[Run], shown: Images) -> Content:
  """All that a page shows of its runs but the images themselves."""
  names = [_names(run, each) for run, each in zip(runs, shown, strict=True)]
  parts = _templates().get_template("parts.html").module
  arguments: dict[str, Any] = {
    "overview": [facts.overview(run) for run in runs],
    "numbers": facts.numbers(runs),
    "losses": [(run.name, facts.losses(run)) for run in runs if run.losses],
    "classes": [
      (run.name, rows, facts.mistakes(run, called))
      for run, called in zip(runs, names, strict=True)
      if (rows := facts.classes(run, called))
    ],
    "origin": (facts.origin(runs), [run.name for run in runs]),
  }
  html = {name: str(getattr(parts, name)(value)).strip() for name, value in arguments.items()}
  return Content(_charts(runs, names), html)


def _names(run: Run, shown: sprites.Gallery | str) -> list[str]:
  return _numbered(run) if isinstance(shown, str) else shown.classes


def _numbered(run: Run) -> list[str]:
  """Names for the classes of a run whose set cannot be read."""
  found = (confusion(record) for record in run.evaluations)
  counts = next((each for each in found if each is not None), ())
  return [f"class {number}" for number in range(len(counts))]


def _charts(runs: Sequence[Run], names: Sequence[list[str]]) -> dict[str, list[charts.Chart]]:
  several = len(runs) > 1
  confused = [
    {
      "id": f"confusion-{number}",
      "title": run.name if several else "Test images of each class",
      "options": found,
    }
    for number, run in enumerate(runs)
    if (found := charts.confusions(run, names[number]))
  ]
  return {
    "accuracy": charts.accuracy(runs),
    "loss": charts.losses(runs),
    "classes": charts.classes(runs, names),
    "confusion": confused,
  }


def galleries(runs: Sequence[Run], shown: Images) -> list[dict[str, Any]]:
  """The images as the page's program takes them."""
  return [
    {"name": run.name, **({"notes": [each]} if isinstance(each, str) else each._asdict())}
    for run, each in zip(runs, shown, strict=True)
  ]


def render(
  runs: Sequence[Run], shown: Images, left_out: Sequence[str] = (), *, live: bool = False
) -> str:
  """The page.

  Args:
    runs: at least one.
    shown: their `images`.
    left_out: what is said of folders that cannot be shown.
    live: whether it asks the server that it comes from for what is new.
  """
  made = content(runs, shown)
  drawn = {"charts": made.charts, "galleries": galleries(runs, shown)}
  return _templates().get_template("report.html").render(
    title=_title(runs),
    version=__version__,
    made=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
    runs=runs,
    names=[run.name for run in runs],
    parts=made.parts,
    commands=[(run.name, run.command, f"{run.name}-again") for run in runs],
    differences=facts.differences(runs),
    config=facts.config(runs),
    left_out=left_out,
    data=drawn | {"poll": POLL_SECONDS if live else 0, "images": version(runs)},
    live=live,
    light=COLOURS,
    dark=ON_BLACK,
    plotly=get_plotlyjs(),
  )  # fmt: skip


def state(runs: Sequence[Run], shown: Images, *, with_images: bool) -> dict[str, Any]:
  """What a live page asks for: the same without what stays."""
  made = content(runs, shown)
  drawn: dict[str, Any] = {"charts": made.charts, "parts": made.parts, "images": version(runs)}
  if with_images:
    drawn["galleries"] = galleries(runs, shown)
  return drawn


def version(runs: Sequence[Run]) -> str:
  """A text that changes when the images of runs do."""
  saved = [[(i, _written(run.sets[i])) for i in sorted(run.sets)] for run in runs]
  return hashlib.sha256(json.dumps(saved).encode()).hexdigest()[:16]


def _written(file: Path) -> int:
  """When a file was written; 0 where it is gone."""
  try:
    return file.stat().st_mtime_ns
  except OSError:
    return 0


def _title(runs: Sequence[Run]) -> str:
  titles = dict.fromkeys(run.title for run in runs)
  return next(iter(titles)) if len(titles) == 1 else f"{len(runs)} runs"


@cache
def _templates() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("dcjax.pages"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.policies["json.dumps_kwargs"] = {}  # in the order that is given
  return environment
