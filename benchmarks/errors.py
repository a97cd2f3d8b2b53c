"""What a benchmark cannot do."""

import sys
from typing import NoReturn


class BenchmarkError(Exception):
  """Nothing can be timed as asked. The message is one line."""


def leave(program: str, error: object) -> NoReturn:
  """Ends a program with one line on what it cannot do."""
  print(f"benchmarks.{program}: {error}", file=sys.stderr)
  sys.exit(2)
