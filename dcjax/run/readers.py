"""The files of a run, read; without jax, as `dcjax status` does."""

from pathlib import Path
from typing import Any

from dcjax.common.errors import UserError
from dcjax.common.json_files import (
  AGAIN,
  OBJECT,
  by_name,
  holds,
  is_count,
  is_number,
  is_seconds,
  is_some,
  is_text,
  many,
  maybe,
  parse,
  read_json,
  regular,
)

# What `dcjax status` tells of any run.
MOST_CLASSES = 200  # whose confusion a record keeps: 90 kB of text
CONFIG = holds(
  {
    "method": is_text,
    "dataset": holds({"name": is_text}),
    "network": holds({"name": is_text}),
    "evaluation": OBJECT,
    "ipc": is_count,
    "seed": is_count,
  },
  iterations=is_count,
)
EVALUATION = holds(
  {
    "iteration": is_count,
    "set": is_text,
    "network": is_text,
    "augmentation": is_text,
    "epochs": is_count,
    "networks": is_some,
    "ipc": maybe(is_count),
    "decoded_ipc": maybe(is_count),
    **dict.fromkeys(("last_mean", "last_std", "best_mean", "best_std"), is_number),
  },
  protocol=is_text,
  cutmix=is_number,  # which records of older versions do not have
)
EVALUATIONS = many(EVALUATION)
SUMMARY = holds(
  {"evaluations": EVALUATIONS},
  method=is_text,
  dataset=is_text,
  ipc=is_count,
  iterations=is_count,
  seconds=by_name(is_seconds),
)
NOTE = holds({}, seconds_per_iteration=maybe(is_seconds), doing=is_text)
LOSS = holds({"iteration": is_some, "loss": is_number})
EVALUATED = holds({"iteration": is_some, "evaluation": EVALUATION})


def read_log(file: Path) -> tuple[list[dict[str, Any]], int]:
  """The records of a log, up to the first line that cannot come next, and how many lines are left.

  One line is left where a run was killed as it wrote it. Without a log there is nothing.

  Raises:
    UserError: the file cannot be read.
  """
  try:
    lines = regular(file).read_bytes().splitlines()
  except FileNotFoundError:
    return [], 0
  except OSError as error:
    raise UserError(f"workdir: cannot read {file} ({error.strerror}); mend that") from None
  records: list[dict[str, Any]] = []
  losses = 0
  for line in lines:
    try:
      record = parse(line)
    except ValueError:
      break
    if LOSS(record) and record["iteration"] == losses + 1:
      losses += 1
    elif not (EVALUATED(record) and record["iteration"] == losses):
      break
    records.append(record)
  return records, len(lines) - len(records)


def read_summary(folder: Path, field: str = "workdir") -> dict[str, Any] | None:
  """What a finished run has written, if it is all there.

  Raises:
    UserError: it is damaged.
  """
  file = folder / "summary.json"
  if not file.exists() or not (folder / "synthetic.npz").exists():
    return None
  return read_json(file, SUMMARY, AGAIN, field)


def newest_checkpoint(folder: Path) -> int:
  """Iterations done at the newest checkpoint of a run; 0 without one."""
  try:  # names of those that are being written are longer
    names = [path.name for path in (folder / "checkpoints").iterdir()]
  except OSError:
    return 0
  return max((int(name) for name in names if name.isdecimal() and len(name) < 16), default=0)
