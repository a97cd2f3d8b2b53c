"""CIFAR's pickles, read without executing them.

A pickle names functions to call. This reader knows four of them, those that NumPy's arrays are
written with, and puts functions of its own in their place; any other name ends the reading.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np


class _Dtype:
  """Stands for `numpy.dtype`: bytes are the only type that is read."""

  def __init__(self, code: Any, *options: Any):
    if code not in ("u1", b"u1", "|u1"):
      raise pickle.UnpicklingError("an array is not of bytes")

  def __setstate__(self, state: Any) -> None:
    """Ignores the byte order, which single bytes do not have."""


class _Array:
  """Stands for `numpy.ndarray`, whose shape and bytes come as its state."""

  content: np.ndarray

  def __setstate__(self, state: Any) -> None:
    _, shape, _, column_major, content = state
    self.content = _array(content, None, shape, "F" if column_major else "C").content


def _empty(*arguments: Any) -> _Array:
  """Stands for `_reconstruct`, which makes an array without content."""
  return _Array()


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
  """Stands for `_frombuffer`."""
  if isinstance(content, str):  # by Python 2, read as Latin-1
    content = content.encode("latin-1")
  if not isinstance(content, bytes | bytearray | pickle.PickleBuffer):
    raise pickle.UnpicklingError("an array has no bytes")
  array = _Array()
  order = "F" if order == "F" else "C"
  array.content = np.frombuffer(bytes(content), np.uint8).reshape(tuple(shape), order=order)
  return array


def _bytes(text: Any, encoding: Any) -> bytes:
  """Stands for `codecs.encode`, by which Python 3 writes bytes for Python 2."""
  if not isinstance(text, str) or encoding != "latin1":
    raise pickle.UnpicklingError("bytes in a strange encoding")
  return text.encode("latin-1")


_KNOWN: dict[str, Callable[..., Any]] = {
  "ndarray": _Array,
  "dtype": _Dtype,
  "_reconstruct": _empty,
  "_frombuffer": _array,
  "encode": _bytes,
}
_MODULES = {
  **dict.fromkeys(("numpy",), ("ndarray", "dtype")),
  **dict.fromkeys(("numpy.core.multiarray", "numpy._core.multiarray"), ("_reconstruct",)),
  **dict.fromkeys(("numpy.core.numeric", "numpy._core.numeric"), ("_frombuffer",)),
  "_codecs": ("encode",),
}


class _Unpickler(pickle.Unpickler):
  def find_class(self, module: str, name: str) -> Any:
    if name not in _MODULES.get(module, ()):
      raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data need")
    known = _KNOWN[name]
    # A pickle may change what it is given: a function is its own copy.
    return known if isinstance(known, type) else partial(known)


def load(name: str, data: bytes) -> Any:
  """Reads a pickle of dicts, lists, strings, numbers and arrays of bytes; nothing else.

  Args:
    name: of the file, for errors.
    data: its content.

  Returns:
    What was written, bytes decoded to strings where they are keys or list entries.

  Raises:
    ValueError: it is no such pickle.
  """
  try:
    _check_memo(data)
    # Latin-1 is what Python 2 wrote its strings in, arrays among them.
    content = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    return _plain(content, [len(data)])
  except Exception as error:  # a damaged file may raise anything
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    raise ValueError(f"{name}: no pickle of plain data ({reason})") from None


def _check_memo(data: bytes) -> None:
  """Refuses numbers of remembered objects for which memory would be taken."""
  for operation, argument, _ in pickletools.genops(data):
    if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
      raise pickle.UnpicklingError("it remembers more objects than it has bytes")


def _plain(value: Any, left: list[int]) -> Any:
  """Arrays for what stands for them, strings for bytes; nothing but plain data is let through.

  `left` is how many more objects there may be: each takes a byte of the file at least, unless one
  is there again and again, which could go on forever.
  """
  left[0] -= 1
  if left[0] < 0:
    raise pickle.UnpicklingError("it holds more objects than bytes")
  if isinstance(value, _Array):
    return value.content
  if isinstance(value, bytes):
    return value.decode("latin-1")
  if isinstance(value, dict):
    return {_plain(key, left): _plain(entry, left) for key, entry in value.items()}
  if isinstance(value, list):
    return [_plain(entry, left) for entry in value]
  if value is None or isinstance(value, str | int | float):
    return value
  raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
