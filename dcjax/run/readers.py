"""The files of a run, read: each holds what it must, or is an error of one line.

A disk may have failed, or a person have written there: whatever a file holds, no reader fails in
another way. All of it does without jax, as `dcjax status` does.
"""

import errno
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dcjax.common.errors import UserError

Shape = Callable[[Any], bool]  # whether a value is what it must be

LEVELS = 10  # of JSON inside JSON; dcjax writes five at most
LARGEST = 2**53  # of whole numbers
AGAIN = "delete it to have it written again"


def is_text(value: Any) -> bool:
  """One line, for people."""
  return isinstance(value, str) and value.isprintable()


def is_number(value: Any) -> bool:
  """A finite number."""
  return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def is_share(value: Any) -> bool:
  """A number in [0, 1]."""
  return is_number(value) and 0 <= value <= 1


def is_count(value: Any) -> bool:
  """A whole number, 0 or more."""
  return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def is_some(value: Any) -> bool:
  """A whole number, 1 or more."""
  return is_count(value) and value > 0


def is_seconds(value: Any) -> bool:
  """A time, in seconds."""
  return is_number(value) and 0 <= value <= LARGEST


def maybe(shape: Shape) -> Shape:
  """None, or a value of a shape."""
  return lambda value: value is None or shape(value)


def many(shape: Shape, least: int = 0) -> Shape:
  """A list of values of a shape."""
  return lambda value: isinstance(value, list) and len(value) >= least and all(map(shape, value))


def by_name(shape: Shape) -> Shape:
  """An object whose values have a shape."""
  return lambda value: isinstance(value, dict) and all(map(shape, value.values()))


def holds(fields: Mapping[str, Shape], **optional: Shape) -> Shape:
  """An object with all of some fields, perhaps some others, and any more."""
  shapes = {**fields, **optional}

  def check(value: Any) -> bool:
    return (
      isinstance(value, dict)
      and value.keys() >= fields.keys()
      and all(shape(value[name]) for name, shape in shapes.items() if name in value)
    )

  return check


OBJECT = by_name(lambda value: True)
# What `dcjax status` tells of any run.
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


def read_json(
  file: Path, shape: Shape = OBJECT, remedy: str = "give another folder", field: str = "workdir"
) -> Any:
  """What a JSON file holds.

  Args:
    file: which must be there.
    shape: what it must hold.
    remedy: what an error says to do.
    field: what an error begins with.

  Raises:
    UserError: it cannot be read, or holds something else.
  """
  try:
    content = _parse(_regular(file).read_bytes())
  except OSError as error:
    raise UserError(f"{field}: cannot read {file} ({error.strerror}); {remedy}") from None
  except ValueError:
    raise UserError(f"{field}: {file} is damaged, no JSON; {remedy}") from None
  if not shape(content):
    raise UserError(f"{field}: {file} is damaged, not what dcjax writes; {remedy}")
  return content


def _regular(file: Path) -> Path:
  """The file itself; `OSError` for a pipe or the like, which would be waited for."""
  if file.exists() and not file.is_file() and not file.is_dir():
    raise OSError(errno.EINVAL, "it is no regular file")
  return file


def _parse(text: bytes) -> Any:
  """The value of a JSON text; `ValueError` where there is none, or one inside too many others."""
  try:
    value = json.loads(text)
  except RecursionError:
    raise ValueError from None
  if not _is_shallow(value, LEVELS):
    raise ValueError
  return value


def _is_shallow(value: Any, levels: int) -> bool:
  if not isinstance(value, dict | list):
    return True
  inner = value.values() if isinstance(value, dict) else value
  return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


def read_log(file: Path) -> tuple[list[dict[str, Any]], int]:
  """The records of a log, up to the first line that cannot come next, and how many lines are left.

  One line is left where a run was killed as it wrote it. Without a log there is nothing.

  Raises:
    UserError: the file cannot be read.
  """
  try:
    lines = _regular(file).read_bytes().splitlines()
  except FileNotFoundError:
    return [], 0
  except OSError as error:
    raise UserError(f"workdir: cannot read {file} ({error.strerror}); mend that") from None
  records: list[dict[str, Any]] = []
  losses = 0
  for line in lines:
    try:
      record = _parse(line)
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
