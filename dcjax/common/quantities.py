"""Bytes, times and counts as people read them, and as many values as they can look at."""

import itertools
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}


def size(count: float) -> str:
  """Bytes, such as '1.23 MB'."""
  return _scaled(count, "B")


def duration(seconds: float) -> str:
  """A time, such as '2 h 5 min'."""
  left = round(seconds)
  for (unit, length), (smaller, part) in itertools.pairwise(UNITS.items()):
    if left >= length:
      rest = left % length // part
      return f"{left // length} {unit}" + (f" {rest} {smaller}" if rest else "")
  return f"{left} s"


def amount(count: float) -> str:
  """How many, such as '1.23 T' of 10^12."""
  return _scaled(count, "").rstrip()


def spread(values: Sequence[T], most: int) -> list[T]:
  """At most so many of some values, evenly spread; of one the last, else the first and the last."""
  last, count = len(values) - 1, min(len(values), most)
  places = [round(last - number * last / max(count - 1, 1)) for number in range(count)]
  return [values[place] for place in sorted(places)]


def _scaled(count: float, unit: str) -> str:
  prefixes = ["", "k", "M", "G", "T", "P"]
  while count >= 999.5 and len(prefixes) > 1:
    count /= 1000
    del prefixes[0]
  return f"{count:.3g} {prefixes[0]}{unit}"
