"""The table of accuracies of a run."""

from collections.abc import Sequence
from typing import Any

from dcjax.figures import markdown

COLUMNS = ("iteration", "set", "network", "ipc", "epochs", "networks", "last (%)", "best (%)")


class Summary(dict[str, Any]):
  """The content of `summary.json`, which a notebook shows as its table of accuracies."""

  def _repr_markdown_(self) -> str:
    records = self["evaluations"]
    return f"{table(records)}\n\n{of_best(records)}" if records else "Nothing was evaluated."


class Evaluations(list[dict[str, Any]]):
  """Records of evaluations, which a notebook shows as a table."""

  def _repr_markdown_(self) -> str:
    return table(self)


def table(evaluations: Sequence[dict[str, Any]]) -> str:
  """The evaluations of a run as a Markdown table that also reads well as plain text."""
  return markdown.table([COLUMNS, *(_row(record) for record in evaluations)])


def best(evaluations: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
  """The evaluation of the synthetic set that was best on the test images, if there was a choice.

  IDM reports that one; it was chosen by the images that it is then measured on.

  Args:
    evaluations: of a run; those of the network that comes first are compared, by their last epoch.

  Returns:
    One of them; None if the set was evaluated after one iteration only.
  """
  ours = [record for record in evaluations if record["set"] == "synthetic"]
  first = [record for record in ours if record["network"] == ours[0]["network"]]
  if len(first) < 2:
    return None
  return max(first, key=lambda record: record["last_mean"])


def of_best(evaluations: Sequence[dict[str, Any]]) -> str:
  """A sentence on the `best` one, ending its line; empty if there was no choice."""
  found = best(evaluations)
  if found is None:
    return ""
  accuracy = percent(found["last_mean"], found["last_std"])
  return (
    f"Best on the test images, which chose it: iteration {found['iteration']}, {accuracy} % "
    f"({found['network']}); the last set is in synthetic.npz, all in images/.\n"
  )


def _row(record: dict[str, Any]) -> tuple[str, ...]:
  synthetic = record["set"] == "synthetic"
  augmented = " aug" if record["augmentation"] != "none" or record.get("cutmix") else ""
  return (
    str(record["iteration"]) if synthetic else "-",
    record["set"],
    record["network"],
    _images(record),
    f"{record['epochs']}{augmented}",
    str(record["networks"]),
    percent(record["last_mean"], record["last_std"]),
    percent(record["best_mean"], record["best_std"]),
  )


def _images(record: dict[str, Any]) -> str:
  """Stored images per class, and what they are decoded to, if to more."""
  ipc, decoded = record["ipc"], record["decoded_ipc"]
  if ipc is None:
    return "all"
  return str(ipc) if decoded == ipc else f"{ipc} as {decoded}"


def percent(mean: float, deviation: float) -> str:
  """Mean and deviation of accuracies in [0, 1]."""
  return f"{100 * mean:.1f} ± {100 * deviation:.1f}"
