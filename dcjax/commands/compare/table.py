"""What a comparison says: differences to real images with their intervals, scores, a table."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcjax.common.files import writing
from dcjax.common.json_files import (
  Shape,
  by_name,
  holds,
  is_count,
  is_number,
  is_share,
  is_text,
  many,
)
from dcjax.evaluation import scores
from dcjax.figures import markdown
from dcjax.figures.comparison import draw
from dcjax.run.teacher_file import DESCRIBED
from dcjax.run.workdir import write_json

CONFIDENCE = 0.95
TAUGHT = set(DESCRIBED)  # in rows with soft labels


def write(output: Path, content: dict[str, Any], weight: float) -> dict[str, Any]:
  """Writes all files of a comparison that is done, and returns what is in `compare.json`."""
  rows = [row | {"against": against(row, content["rows"])} for row in content["rows"]]
  found = {**content, "rows": rows, "confidence": CONFIDENCE}
  if content["whole"]:
    found["scores"] = scored(rows, content["whole"]["accuracy"], weight)
  table = text(found)
  write_json(output / "compare.json", found)
  with writing(output / "table.md") as file:
    file.write(table)
  draw([row for row in rows if row["augmented"]], output / "figure.png", value(rows[0]))
  return found


def row_shape(of: dict[str, Any]) -> Shape:
  """What a row of a comparison holds, as it is read from `compare.json`.

  Args:
    of: what its rows have in common.
  """
  fields = dict.fromkeys(("ipc", "decoded_ipc", "stored_bytes", "steps", "batch"), is_count)
  fields |= dict.fromkeys(("set", "digest", "labels", "taught_by", "network"), is_text)
  fields |= {name: lambda value: isinstance(value, bool) for name in ("control", "augmented")}
  shapes = holds(
    {**fields, "lr": is_number, "attacks": by_name(many(many(is_share)))},
    teacher=is_text, teacher_epochs=is_count, teacher_accuracy=is_share, teacher_digest=is_text,
  )  # fmt: skip

  def check(row: Any) -> bool:
    if not shapes(row) or set(row["attacks"]) != set(of["attacks"]):
      return False
    if row.keys() & TAUGHT != (TAUGHT if row["taught_by"] else set()):
      return False
    names = ["last", "best", *(["chosen"] if of["validation"] else [])]
    accuracies = [row.get(name) for name in names] + list(row["attacks"].values())
    draws = of["draws"] if row["control"] else 1
    return all(
      many(many(is_share))(each)
      and (len(each), {len(of_draw) for of_draw in each}) == (draws, {of["networks"]})
      for each in accuracies
    )

  return check


def value(row: dict[str, Any]) -> str:
  """By which accuracies rows are compared: those chosen on validation images, or the last."""
  return "chosen" if "chosen" in row else "last"


def against(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """The differences of a set to the controls that are labelled and augmented as it is.

  Returns:
    By control the difference of the means and its interval, by Welch's t: over the networks of
    the set, and over the draws of the control; over its networks where there is one draw. No
    interval where there is one of either.
  """
  if row["control"]:
    return {}
  alike = [
    each for each in rows
    if each["control"] and all(each[name] == row[name] for name in ("labels", "augmented"))
  ]  # fmt: skip
  return {each["set"]: difference(_sample(row), _sample(each)) for each in alike}


def _sample(row: dict[str, Any]) -> np.ndarray:
  """The accuracies that vary independently: of draws, or of networks where there is one."""
  accuracies = np.array(row[value(row)])
  return accuracies.mean(1) if len(accuracies) > 1 else accuracies[0]


def difference(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float | None]:
  """The difference of two means, and the ends of its interval of 95 % by Welch's t."""
  from scipy import stats

  found: dict[str, float | None] = {"difference": float(ours.mean() - theirs.mean())}
  if min(len(ours), len(theirs)) < 2 or np.ptp(ours) == np.ptp(theirs) == 0:
    return found | {"low": None, "high": None}
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # of one that does not vary
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(CONFIDENCE)
  return found | {"low": float(interval.low), "high": float(interval.high)}


def scored(rows: Sequence[dict[str, Any]], whole: float, weight: float) -> list[dict[str, Any]]:
  """LRS and ARS of each set and each kind of labels, with the parts that they are made of."""
  by = {
    (row["set"], row["labels"], row["augmented"]): float(np.mean(row[value(row)])) for row in rows
  }
  found = []
  for row in rows:
    if row["control"] or not row["augmented"]:
      continue
    name, labels = row["set"], row["labels"]
    improvement = by[name, labels, True] - by["random", labels, True]
    plain = by[name, labels, False] - by["random", labels, False]
    recovery = whole - by[name, "hard", True]
    found.append(
      {
        "set": name,
        "labels": labels,
        "weight": weight,
        "improvement_over_random": improvement,
        "hard_label_recovery": recovery,
        "lrs": scores.label_robust(improvement, recovery, weight),
        "gain_augmented": improvement,
        "gain_plain": plain,
        "ars": scores.augmentation_robust(improvement, plain, weight),
      }
    )
  return found


def text(content: dict[str, Any]) -> str:
  """The comparison as Markdown."""
  rows = content["rows"]
  shown = [row for row in rows if row["augmented"]]
  controls = list(dict.fromkeys(row["set"] for row in shown if row["control"]))
  names = ["last", "best", *(["chosen"] if "chosen" in rows[0] else []), *rows[0]["attacks"]]
  head = ["set", "labels", "images", "bytes", "steps", "lr", *(f"{name} (%)" for name in names)]
  head += [f"less {name}" for name in controls]
  body = [
    [
      row["set"], row["labels"], _images(row), str(row["stored_bytes"]), str(row["steps"]),
      f"{row['lr']:g}", *(_accuracy(row, name) for name in names),
      *(_less(row["against"].get(name)) for name in controls),
    ]
    for row in shown
  ]  # fmt: skip
  parts = [markdown.table([head, *body]), _legend(content)]
  if "scores" in content:
    parts.append(_scores(content))
  return "\n\n".join(parts) + "\n"


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
  return "  \n".join(lines)


def _scores(content: dict[str, Any]) -> str:
  whole, found = content["whole"], content["scores"]
  head = ("set", "labels", "IOR", "HLR", "LRS", "gain, augmented", "gain, plain", "ARS")
  parts = (
    "improvement_over_random", "hard_label_recovery", "lrs", "gain_augmented", "gain_plain", "ars",
  )  # fmt: skip
  body = [[each["set"], each["labels"], *(f"{each[part]:.4f}" for part in parts)] for each in found]
  return (
    markdown.table([head, *body])
    + f"\n\nScores of fractions, weight {found[0]['weight']:g}; all images: "
    f"{100 * whole['accuracy']:.1f} % after {whole['epochs']} epochs."
  )


def _images(row: dict[str, Any]) -> str:
  ipc, decoded = row["ipc"], row["decoded_ipc"]
  return str(ipc) if ipc == decoded else f"{ipc} as {decoded}"


def _accuracy(row: dict[str, Any], name: str) -> str:
  """Mean, deviation over networks, and over draws if there are several, in per cent."""
  accuracies = 100 * np.array(row[name] if name in row else row["attacks"][name])
  shown = f"{accuracies.mean():.1f} ± {accuracies.std(1).mean():.1f}"
  return shown if len(accuracies) == 1 else f"{shown} (± {accuracies.mean(1).std(ddof=1):.1f})"


def _less(found: dict[str, float | None] | None) -> str:
  if found is None:
    return "-"
  shown = f"{100 * found['difference']:+.1f}"  # type: ignore[operator]
  if found["low"] is None or found["high"] is None:
    return shown
  return f"{shown} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
