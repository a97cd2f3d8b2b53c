"""The members of an `.npz` file, which say what they are before any of them is read."""

import math
import os
import zipfile
from typing import IO

import jax
import numpy as np
from numpy.lib import format as npy

SMALL = 2**26  # bytes of a member, whose compression is of no interest
RATIO = 100  # most that compression may save; images save less than half
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes


class Archive:
  """An `.npz` file that is open; nothing in it is unpickled.

  Attributes:
    headers: of its arrays, by their names: shape and type.
  """

  def __init__(self, file: zipfile.ZipFile, names: tuple[str, ...]):
    """Reads the headers of some members; what else there is, is not looked at.

    Args:
      file: the archive.
      names: of arrays; one that ends with a slash stands for all that begin so.

    Raises:
      ValueError: a member is no array, or is not of the size that it says it is.
      Exception: the file is damaged.
    """
    known = [info for info in file.infolist() if _is_known(info.filename, names)]
    self._file, self._members = file, {_name(info.filename): info for info in known}
    self.headers = {name: self._header(name) for name in self._members}

  def read(self, name: str) -> np.ndarray:
    """An array.

    Raises:
      Exception: the file is damaged.
    """
    with self._file.open(self._members[name]) as stream:
      return npy.read_array(stream, allow_pickle=False)

  def _header(self, name: str) -> jax.ShapeDtypeStruct:
    info = self._members[name]
    if not self._is_modest(info):
      raise ValueError(f"{name} would take {info.file_size} bytes of memory")
    with self._file.open(info) as stream:
      shape, dtype = _read_header(stream)
      size = stream.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=1) < 0 or size != info.file_size:
      raise ValueError(f"{name} is no array of {info.file_size} bytes")
    return jax.ShapeDtypeStruct(shape, dtype)

  def _is_modest(self, info: zipfile.ZipInfo) -> bool:
    """Whether a member takes no more memory than its part of the file accounts for."""
    there = info.compress_size <= os.path.getsize(str(self._file.filename))
    known = info.compress_type in _COMPRESSIONS
    return there and known and info.file_size <= max(SMALL, RATIO * info.compress_size)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
  """Shape and type; of the first version alone, whose headers are short."""
  if npy.read_magic(stream) != (1, 0):
    raise ValueError("an array of another format")
  shape, _, dtype = npy.read_array_header_1_0(stream)
  return shape, dtype


def _name(member: str) -> str:
  return member.removesuffix(".npy")


def _is_known(member: str, names: tuple[str, ...]) -> bool:
  folders = tuple(name for name in names if name.endswith("/"))
  return _name(member) in names or member.startswith(folders)
