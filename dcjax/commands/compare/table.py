"""What a comparison says: differences to real images with their intervals, and scores."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcjax.commands.compare.page import page, records
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
from dcjax.figures import formats
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
  write_json(output / "compare.json", found)
  formats.write(output, page(found), records(found))
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
