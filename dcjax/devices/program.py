"""What a compiled program consists of, read from its text: kernels, bytes, arithmetic, collectives.

XLA's own analysis counts a loop's body once and, for a device that is not there, says nothing. Here
the body counts as often as it runs, where the compiler knows how often; the loop over iterations,
whose bounds are arguments, counts once, and so all figures are those of one iteration.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_BYTES = {
  **dict.fromkeys(("pred", "s8", "u8", "s4", "u4"), 1),
  **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
  **dict.fromkeys(("s32", "u32", "f32"), 4),
  **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
  "c128": 16,
}
_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
  "collective-broadcast",
)
_WITH_OPERANDS = ("all-gather-start", "collective-permute-start")  # before what they make
# What moves nothing, or is counted where it began
_FREE = {
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"),
  *("partition-id", "replica-id", "async-done", "async-update", "domain"),
  *("copy-done", "slice-done", "dynamic-slice-done"),
  *(f"{name}-done" for name in _COLLECTIVES),
}
_CONTROL = ("while", "conditional", "call", "async-start")
_SLICES = ("dynamic-slice", "slice", "gather")
_SHAPE = re.compile(r"([a-z][a-z0-9]*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = (.*)")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(
  r"(?:calls|to_apply|body|condition|branch_computations|true_computation|false_computation)="
  r"(%?[\w.\-]+|\{[^}]*\})"
)
_EXACT = re.compile(r'operand_precision(?:=\{highest|":\["HIGHEST)')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Shape(NamedTuple):
  """One array."""

  kind: str  # 'f32', ...
  sides: tuple[int, ...]

  @property
  def bytes(self) -> int:
    """That it takes."""
    return math.prod(self.sides) * _BYTES.get(self.kind, 0)


class Instruction(NamedTuple):
  """One line of a program."""

  name: str
  kind: str  # the operation: 'fusion', 'while', ...
  shapes: tuple[Shape, ...]  # of what it makes
  operands: tuple[str, ...]
  rest: str  # attributes
  is_root: bool


class Work(NamedTuple):
  """What is done; two can be added."""

  kernels: float = 0  # launched
  bytes: float = 0  # read and written by them
  beyond: float = 0  # the same, of each array only what a cache of the given size cannot hold
  products: float = 0  # additions and multiplications of products and convolutions
  exact: float = 0  # of these, of numbers of 32 bits that no device may round
  half: float = 0  # of numbers of 16 bits
  grouped: float = 0  # convolutions of several groups
  collectives: float = 0
  collective_bytes: float = 0  # that they make, on each device

  def plus(self, other: "Work", times: float = 1) -> "Work":
    """Both, one after the other; the second so many times."""
    return Work(*(a + times * b for a, b in zip(self, other, strict=True)))


class Program:
  """A compiled program, from its text in XLA's notation."""

  def __init__(self, text: str):
    """Reads it; `text` is what `compiled.as_text()` returns."""
    self._computations: dict[str, dict[str, Instruction]] = {}
    self._entry = ""
    current: dict[str, Instruction] = {}
    for line in text.splitlines():
      if header := _HEADER.match(line):
        current = self._computations[header[2]] = {}
        self._entry = header[2] if header[1] else self._entry
      elif found := _INSTRUCTION.match(line):
        instruction = _parse(found[2], found[3], bool(found[1]))
        current[instruction.name] = instruction

  def work(self, cache: int = 0) -> tuple[Work, Work]:
    """What one run does: the least, and the most, as its conditions turn out.

    Args:
      cache: bytes that a device keeps beside its memory, for `Work.beyond`.
    """
    return self._work(self._entry, cache, min), self._work(self._entry, cache, max)

  def _work(self, computation: str, cache: int, choose: Callable[..., float]) -> Work:
    total, known = Work(), self._computations[computation]
    for each in known.values():
      if each.kind in _CONTROL:
        parts = [self._work(name, cache, choose) for name in _called(each)]
        if each.kind == "conditional":
          parts = [Work(*map(choose, *parts))]
        trips = self._trips(known, each)
        for part in parts:
          total = total.plus(part, trips)
      elif each.kind not in _FREE:
        total = total.plus(self._kernel(computation, each, cache))
    return total

  def _trips(self, known: dict[str, Instruction], each: Instruction) -> int:
    """How often a loop runs: as it is noted, or as a counter goes from a constant to another."""
    if noted := _TRIPS.search(each.rest):
      return int(noted[1])
    condition = _CONDITION.search(each.rest)
    lines = self._computations[condition[1]] if condition else {}
    for line in lines.values():
      if line.is_root and line.kind == "compare" and "direction=LT" in line.rest:
        first = _first(known, each, lines[line.operands[0]])
        last = _constant(lines, line.operands[1])
        if first is not None and last is not None:
          return max(0, last - first)
    return 1

  def _kernel(self, computation: str, each: Instruction, cache: int) -> Work:
    moved = [size for size in self._moved(computation, each) if size]
    work = Work(
      kernels=1, bytes=sum(moved), beyond=sum(max(0, size - cache) for size in moved)
    ).plus(self._arithmetic(computation, each))
    kind = each.kind.removesuffix("-start")
    if kind not in _COLLECTIVES:
      return work
    made = each.shapes
    if each.kind in _WITH_OPERANDS:
      made = made[len(each.operands) : 2 * len(each.operands)]
    return work._replace(collectives=1, collective_bytes=sum(shape.bytes for shape in made))

  # --- Bytes ---------------------------------------------------------------------------------

  def _moved(self, computation: str, each: Instruction) -> Iterator[int]:
    """The bytes that a kernel writes, and those that it reads of each of its operands."""
    known, body = self._computations[computation], self._body(each)
    if body is None:  # as if it were fused with nothing
      yield _written(known, each)
      yield from (_read_by(each, name, _size(known[name])) for name in each.operands)
      return
    yield from _all_written(body, next(line for line in body.values() if line.is_root))
    for line in body.values():
      if line.kind == "parameter":
        yield _read(body, line.name, _size(known[each.operands[int(line.operands[0])]]))

  def _body(self, each: Instruction) -> dict[str, Instruction] | None:
    """What a kernel fuses, if it does."""
    return self._computations[_called(each)[0]] if each.kind == "fusion" else None

  # --- Arithmetic ----------------------------------------------------------------------------

  def _arithmetic(self, computation: str, each: Instruction) -> Work:
    """Of products and convolutions, which is nearly all of a network's."""
    if (body := self._body(each)) is not None:
      total = Work()
      for line in body.values():
        total = total.plus(self._arithmetic(_called(each)[0], line))
      return total
    known = self._computations[computation]
    count, groups = _products(each, known)
    if not count:
      return Work()
    is_half = _BYTES[known[each.operands[0]].shapes[0].kind] == 2
    is_exact = not is_half and _EXACT.search(each.rest)
    return Work(
      products=count,
      exact=count if is_exact else 0,
      half=count if is_half else 0,
      grouped=groups > 1,
    )


def _parse(name: str, text: str, is_root: bool) -> Instruction:
  """An instruction from what stands behind `NAME = `: shapes, operation, operands, attributes."""
  end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
  shapes = tuple(
    Shape(kind, tuple(map(int, filter(None, sides.split(",")))))
    for kind, sides in _SHAPE.findall(text[:end])
  )
  kind, _, _ = text[end:].lstrip().partition("(")
  opening = text.index("(", end)
  closing = _closing(text, opening)
  inside = text[opening + 1 : closing]
  operands = tuple(re.findall(r"%([\w.\-]+)", inside)) or (inside,)
  return Instruction(name, kind, shapes, operands if inside else (), text[closing + 1 :], is_root)


def _closing(text: str, opening: int) -> int:
  """The index of the bracket that closes the one at `opening`."""
  depth = 0
  for index in range(opening, len(text)):
    depth += {"(": 1, ")": -1}.get(text[index], 0)
    if not depth:
      return index
  return len(text) - 1


def _called(each: Instruction) -> list[str]:
  """The computations that an instruction runs: of a loop its body and its condition."""
  found = _CALLED.findall(each.rest)
  return [name for names in found for name in re.findall(r"[\w.\-]+", names)]


def _first(known: dict[str, Instruction], loop: Instruction, counter: Instruction) -> int | None:
  """The constant that a loop's counter begins with, if it does."""
  index = re.search(r"index=(\d+)", counter.rest)
  carried = known[loop.operands[0]]
  if counter.kind != "get-tuple-element" or not index or carried.kind != "tuple":
    return None
  return _constant(known, carried.operands[int(index[1])])


def _constant(known: dict[str, Instruction], name: str) -> int | None:
  """A whole number, also where it is copied first; None: it is none, or not known."""
  each = known[name]
  while each.kind == "copy":
    each = known[each.operands[0]]
  number = each.operands[0] if each.kind == "constant" else ""
  return int(number) if re.fullmatch(r"-?\d+", number) else None


def _size(each: Instruction) -> int:
  return sum(shape.bytes for shape in each.shapes)


def _written(known: dict[str, Instruction], each: Instruction) -> int:
  """Bytes that an operation writes: of an array that is updated in place, the part."""
  if each.kind == "dynamic-update-slice":
    return _size(known[each.operands[1]])
  return _size(each)


def _all_written(body: dict[str, Instruction], root: Instruction) -> Iterator[int]:
  """Bytes of each result of a fused kernel."""
  if root.kind in ("tuple", "bitcast"):
    for name in root.operands:
      yield from _all_written(body, body[name])
  else:
    yield _written(body, root)


def _read(body: dict[str, Instruction], name: str, size: int) -> int:
  """Bytes that a fused kernel reads of an operand: all, unless it takes parts alone."""
  users = [each for each in body.values() if name in each.operands]
  passed_on = [each for each in users if each.kind == "bitcast"]
  parts = sum(_read_by(each, name, size) for each in users if each.kind != "bitcast")
  return min(size, parts + sum(_read(body, each.name, size) for each in passed_on))


def _read_by(user: Instruction, name: str, size: int) -> int:
  """Bytes that an operation reads of an operand of some size."""
  if name != user.operands[0]:
    return size
  if user.kind in _SLICES:
    return min(size, _size(user))
  return 0 if user.kind == "dynamic-update-slice" else size


def _products(each: Instruction, known: dict[str, Instruction]) -> tuple[int, int]:
  """Additions and multiplications of a product or a convolution, and its groups; else 0."""
  if each.kind == "dot":
    return 2 * math.prod(each.shapes[0].sides) * _contracted(each, known), 1
  if each.kind == "convolution" or "__cudnn$conv" in each.rest:
    return _convolution(each, known)
  if "__cublas$" in each.rest:
    return 2 * math.prod(each.shapes[0].sides) * _contracted(each, known), 1
  return 0, 1


def _contracted(each: Instruction, known: dict[str, Instruction]) -> int:
  """How many products are summed up in each number of a product of matrices."""
  found = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', each.rest)
  axes = [int(axis) for axis in re.findall(r"\d+", found[1])] if found else []
  sides = known[each.operands[0]].shapes[0].sides
  return math.prod(sides[axis] for axis in axes)


def _convolution(each: Instruction, known: dict[str, Instruction]) -> tuple[int, int]:
  """Of a convolution and its gradients alike: outputs times what each of them sums up."""
  first, second = (known[name].shapes[0] for name in each.operands[:2])
  outputs, kernel = each.shapes[0], second
  if "convBackwardInput" in each.rest:
    outputs = first
  elif "convBackwardFilter" in each.rest:
    outputs, kernel = second, each.shapes[0]
  labels = re.search(r"dim_labels=\w+_(\w+)->", each.rest)
  of_output = kernel.sides[labels[1].index("o")] if labels else 1
  groups = [int(g) for g in re.findall(r"(?:feature|batch)_group_count=(\d+)", each.rest)]
  summed = math.prod(kernel.sides) // max(1, of_output)
  return 2 * math.prod(outputs.sides) * summed, max(groups, default=1)
