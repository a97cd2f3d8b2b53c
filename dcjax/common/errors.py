"""What ends a command early: errors that a user can mend, with the words to help, and signals."""

import difflib
import math
import signal
from collections.abc import Iterable
from typing import Any

_REASON_LENGTH = 200  # characters of another library's message that an error quotes


class UserError(ValueError):
  """Bad input. The message is one line: the field, the value seen, the remedy."""

  def _render_traceback_(self) -> list[str]:
    """What a notebook shows: the line, as the command does."""
    return [f"dcjax: {self}"]


class Interrupted(Exception):
  """What was running was asked to end."""

  def __init__(self, number: int, left: str = ""):
    """Keeps which signal it was, and says what it leaves."""
    super().__init__(f"{signal.Signals(number).name}; {left}")
    self.exit_code = 128 + number  # as shells count


def nearest(name: str, choices: Iterable[str]) -> str:
  """Says what `name` may have meant: the nearest of `choices`, or all of them.

  Args:
    name: what the user wrote.
    choices: the names that would have been right.

  Returns:
    A clause to end an error message with.
  """
  choices = sorted(choices)
  close = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
  if close:
    return f"did you mean '{close[0]}'?"
  return f"choose one of: {', '.join(choices)}"


def gist(error: BaseException) -> str:
  """The message of another library's error in one line, cut where it is long."""
  text = " ".join(str(error).split()) or type(error).__name__
  return text if len(text) <= _REASON_LENGTH else text[:_REASON_LENGTH] + "..."


def check_name(field: str, name: str, choices: Iterable[str]) -> None:
  """Raises `UserError` if `name` is not one of `choices`."""
  choices = list(choices)
  if name not in choices:
    raise UserError(f"{field}: unknown '{name}'; {nearest(name, choices)}")


def check_probability(field: str, value: float) -> None:
  """Raises `UserError` if `value` is not in [0, 1]."""
  if not 0 <= value <= 1:
    raise UserError(f"{field}: {value} is no probability; give one in [0, 1]")


def check_least(field: str, value: Any, least: int) -> None:
  """Raises `UserError` if `value` is below `least`."""
  if value < least:
    raise UserError(f"{field}: {value} is too small; give {least} or more")


def check_positive(field: str, value: float) -> None:
  """Raises `UserError` if `value` is not a finite number above 0."""
  if not 0 < value < math.inf:
    raise UserError(f"{field}: {value} is not a finite number above 0; give a positive number")


def check_most(field: str, value: float, most: float) -> None:
  """Raises `UserError` if `value` is above `most`."""
  if value > most:
    shown = value if isinstance(value, float) or value < 2**64 else "a number of over 64 bits"
    raise UserError(f"{field}: {shown} is too large; give {most} at most")
