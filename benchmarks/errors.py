"""What a benchmark cannot do."""


class BenchmarkError(Exception):
  """Nothing can be timed as asked. The message is one line."""
