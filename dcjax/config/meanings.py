"""What the fields of a config mean: the comments beside them, for `--help` as for readers.

A field's meaning is the comment in the lines above it and at the end of its own:

    # A preset says more
    rate: float = 0.1  # of SGD

What stands in backticks in one is another field. Nothing is read before it is asked for. Where
Python has no source, there are no meanings.
"""

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from typing import Any


def of_settings(kind: type, prefix: str = "") -> dict[str, str]:
  """The meanings of hyper-parameters, by the dotted names of their fields.

  Args:
    kind: a NamedTuple, all of which has defaults; one that is a default of it is a section.
    prefix: what the names begin with.
  """
  found = {f"{prefix}{name}": text for name, text in _of_source(kind, _annotated)}
  for name, value in kind()._asdict().items():
    if _is_settings(value):
      found.pop(f"{prefix}{name}", None)  # a section is no field
      found |= of_settings(type(value), f"{prefix}{name}.")
  return found


def of_function(function: Callable, variable: str, prefix: str = "") -> dict[str, str]:
  """The meanings of the fields that a function sets, by dotted names.

  Args:
    function: which assigns to attributes of a config.
    variable: what it calls the config.
    prefix: what the names begin with.
  """
  found = _of_source(function, lambda node: _assigned(node, f"{variable}."))
  return {f"{prefix}{name}": text for name, text in found}


def _is_settings(value: Any) -> bool:
  return isinstance(value, tuple) and bool(getattr(value, "_field_defaults", None))


def _annotated(node: ast.AST) -> str | None:
  """The name in `name: kind = default`."""
  return ast.unparse(node.target) if isinstance(node, ast.AnnAssign) else None


def _assigned(node: ast.AST, beginning: str) -> str | None:
  """The name in `variable.name = default`."""
  target = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
  return target.removeprefix(beginning) if target.startswith(beginning) else None


def _of_source(owner: Any, name_of: Callable[[ast.AST], str | None]) -> Iterator[tuple[str, str]]:
  """The names that a class or function sets, and the comments beside them, where there are any."""
  try:
    source = textwrap.dedent(inspect.getsource(owner))
  except OSError:
    return
  alone, behind = _comments(source)
  for node in ast.walk(ast.parse(source)):
    name = name_of(node)
    if name is None or not isinstance(node, ast.stmt):
      continue
    first = node.lineno
    while first - 1 in alone:
      first -= 1
    lines = [alone[line] for line in range(first, node.lineno)]
    last = node.end_lineno or node.lineno
    lines += [behind[line] for line in range(node.lineno, last + 1) if line in behind]
    if lines:
      yield name, " ".join(lines)


def _comments(source: str) -> tuple[dict[int, str], dict[int, str]]:
  """The comments that stand alone in their lines, and those behind code, by their lines."""
  alone: dict[int, str] = {}
  behind: dict[int, str] = {}
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      own = not token.line[: token.start[1]].strip()
      (alone if own else behind)[token.start[0]] = token.string.lstrip("# ")
  return alone, behind
