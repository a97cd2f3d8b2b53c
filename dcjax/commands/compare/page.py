"""A comparison as it is read: by people, and by programs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dcjax.figures.formats import Grid, Page

# Fields of a row that a line of the CSV begins with
ABOUT = ("set", "labels", "ipc", "decoded_ipc", "stored_bytes", "steps", "lr")
SCORES = {  # with what the table calls them
  "improvement_over_random": "IOR",
  "hard_label_recovery": "HLR",
  "lrs": "LRS",
  "gain_augmented": "gain, augmented",
  "gain_plain": "gain, plain",
  "ars": "ARS",
}


def page(content: dict[str, Any]) -> Page:
  """The comparison for people."""
  rows = _shown(content)
  controls, names = _controls(rows), _measures(content)
  head = ["set", "labels", "images", "bytes", "steps", "lr", *(f"{name} (%)" for name in names)]
  head += [f"less {name}" for name in controls]
  body = [
    [
      row["set"], row["labels"], _images(row), str(row["stored_bytes"]), str(row["steps"]),
      f"{row['lr']:g}", *(_accuracy(row, name) for name in names),
      *(_less(row["against"].get(name)) for name in controls),
    ]
    for row in rows
  ]  # fmt: skip
  blocks: list[Grid | str] = [Grid([head, *body]), _legend(content)]
  if "scores" in content:
    blocks += _scores(content)
  return Page("Sets and real images, trained on with one budget", blocks)


def records(content: dict[str, Any]) -> list[list[str]]:
  """The same for programs, in percent, and scores as fractions; what there is not is empty."""
  rows = _shown(content)
  found = {(each["set"], each["labels"]): each for each in content.get("scores", ())}
  lines = []
  for row in rows:
    line = {name: str(row[name]) for name in ABOUT}
    for name in _measures(content):
      moments = _moments(row, name)._asdict().items()
      line |= {f"{name}_{kind}": _number(value) for kind, value in moments}
    for name in _controls(rows):
      against = row["against"].get(name, {})
      for part in ("difference", "low", "high"):
        value = against.get(part)
        line[f"less_{name}_{part}"] = _number(None if value is None else 100 * value)
    if found:
      of_row = found.get((row["set"], row["labels"]), {})
      line |= {name: f"{of_row[name]:.4f}" if of_row else "" for name in SCORES}
    lines.append(line)
  return [list(lines[0]), *(list(line.values()) for line in lines)]


def _shown(content: dict[str, Any]) -> list[dict[str, Any]]:
  """The rows of the table; those without augmentation are only for scores."""
  return [row for row in content["rows"] if row["augmented"]]


def _controls(rows: Sequence[dict[str, Any]]) -> list[str]:
  return list(dict.fromkeys(row["set"] for row in rows if row["control"]))


def _measures(content: dict[str, Any]) -> list[str]:
  """What each row has accuracies of."""
  row = content["rows"][0]
  return ["last", "best", *(["chosen"] if "chosen" in row else []), *row["attacks"]]


def _legend(content: dict[str, Any]) -> str:
  of, row = content["of"], content["rows"][0]
  sizes = {each["labels"]: each["batch"] for each in content["rows"]}
  batches = " and ".join(f"{size} with {kind} labels" for kind, size in sizes.items())
  lines = [
    f"Network {row['network']}, {of['networks']} on each set and on each of {of['draws']} draws of "
    f"a control; batches of {batches}; equal {of['equal']}.",
    "Accuracies: mean ± deviation over networks (± over draws). Last: after the last step. Best: "
    "of the checks on the test images, for each network.",
    "Less: the difference to a control and its 95 % interval (Welch).",
  ]
  if of["validation"]:
    lines.append(
      f"Chosen: learning rate and check, by {of['validation']} training images held out."
    )
  taught = {row["teacher_digest"]: row for row in content["rows"] if "teacher" in row}
  for digest, row in taught.items():
    accuracy = 100 * row["teacher_accuracy"]
    lines.append(
      f"Soft labels: of {row['teacher']}, {row['teacher_epochs']} epochs, {accuracy:.1f} % right, "
      f"digest {digest}."
    )
  return "\n".join(lines)


def _scores(content: dict[str, Any]) -> list[Grid | str]:
  whole, found = content["whole"], content["scores"]
  head = ("set", "labels", *SCORES.values())
  body = [
    [each["set"], each["labels"], *(f"{each[name]:.4f}" for name in SCORES)] for each in found
  ]
  said = (
    f"Scores of fractions, weight {found[0]['weight']:g}; all images: "
    f"{100 * whole['accuracy']:.1f} % after {whole['epochs']} epochs."
  )
  return [Grid([head, *body]), said]


def _images(row: dict[str, Any]) -> str:
  ipc, decoded = row["ipc"], row["decoded_ipc"]
  return str(ipc) if ipc == decoded else f"{ipc} as {decoded}"


class Moments(NamedTuple):
  """Of the accuracies of a row, in percent: mean, deviation over networks and over draws."""

  mean: float
  std: float
  std_draws: float | None  # None: there is one draw


def _moments(row: dict[str, Any], name: str) -> Moments:
  accuracies = 100 * np.array(row[name] if name in row else row["attacks"][name])
  draws = accuracies.mean(1).std(ddof=1) if len(accuracies) > 1 else None
  return Moments(accuracies.mean(), accuracies.std(1).mean(), draws)


def _accuracy(row: dict[str, Any], name: str) -> str:
  found = _moments(row, name)
  shown = f"{found.mean:.1f} ± {found.std:.1f}"
  return shown if found.std_draws is None else f"{shown} (± {found.std_draws:.1f})"


def _number(value: float | None) -> str:
  return "" if value is None else f"{round(value, 2) + 0.0:.2f}"  # never -0.00


def _less(found: dict[str, float | None] | None) -> str:
  if found is None:
    return "-"
  shown = f"{100 * found['difference']:+.1f}"  # type: ignore[operator]
  if found["low"] is None or found["high"] is None:
    return shown
  return f"{shown} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
