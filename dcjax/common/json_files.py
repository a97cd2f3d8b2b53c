"""JSON files, read: each holds what it must, or is an error of one line.

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
    content = parse(regular(file).read_bytes())
  except OSError as error:
    raise UserError(f"{field}: cannot read {file} ({error.strerror}); {remedy}") from None
  except ValueError:
    raise UserError(f"{field}: {file} is damaged, no JSON; {remedy}") from None
  if not shape(content):
    raise UserError(f"{field}: {file} is damaged, not what dcjax writes; {remedy}")
  return content


def regular(file: Path) -> Path:
  """The file itself; `OSError` for a pipe or the like, which would be waited for."""
  if file.exists() and not file.is_file() and not file.is_dir():
    raise OSError(errno.EINVAL, "it is no regular file")
  return file


def parse(text: bytes) -> Any:
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
