"""The formats that the papers' data sets were published in, from bytes to arrays.

Each reader takes the contents of files by their names, and checks that they are what the format
says: a file that was cut short or overwritten is a `ValueError` that names it.
"""

import io
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import io as scipy_io

from dcjax.data.originals import pickles

Contents = dict[str, bytes]

_DIGITS = tuple(map(str, range(10)))
_CIFAR_PIXELS = 3 * 32 * 32
_UBYTE = 8  # the code of bytes in idx files
_USPS_SIDE = 16


class Arrays(NamedTuple):
  """A data set as its files have it.

  Attributes:
    x_train: uint8 `[N, H, W, C]`.
    y_train: int32 `[N]`.
    x_test: uint8 `[M, H, W, C]`.
    y_test: int32 `[M]`.
    class_names: in the order of the labels.
  """

  x_train: np.ndarray
  y_train: np.ndarray
  x_test: np.ndarray
  y_test: np.ndarray
  class_names: Sequence[str]


def idx(class_names: Sequence[str] = _DIGITS) -> Callable[[Contents], Arrays]:
  """A reader of MNIST's four files."""

  def parse(contents: Contents) -> Arrays:
    train_images, train_labels, test_images, test_labels = (
      _idx_array(name, data) for name, data in contents.items()
    )
    for name, images, labels in (
      ("train", train_images, train_labels),
      ("t10k", test_images, test_labels),
    ):
      if not 0 < len(images) == len(labels):
        raise ValueError(f"{name}: {len(images)} images, but {len(labels)} labels")
    return Arrays(
      train_images[..., None],
      train_labels.astype(np.int32),
      test_images[..., None],
      test_labels.astype(np.int32),
      tuple(class_names),
    )

  return parse


def _idx_array(name: str, data: bytes) -> np.ndarray:
  """An array of bytes: two zeros, the code of its type, its rank, its shape, its content."""
  rank = 3 if "images" in name else 1
  if len(data) < 4 + 4 * rank or tuple(data[:4]) != (0, 0, _UBYTE, rank):
    raise ValueError(f"{name}: its first bytes are not those of an idx{rank} file")
  shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
  content = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
  if content.size != np.prod(shape, dtype=object):
    raise ValueError(f"{name}: holds {content.size} bytes where its shape {list(shape)} needs more"
                     " or fewer")  # fmt: skip
  return content.reshape(shape)


def svhn(contents: Contents) -> Arrays:
  """Reads SVHN's two MATLAB files; the digit 0 is labelled 10 there."""
  train, test = (_svhn_split(name, data) for name, data in contents.items())
  return Arrays(*train, *test, _DIGITS)


def _svhn_split(name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
  try:
    file = scipy_io.loadmat(io.BytesIO(data), variable_names=("X", "y"))
    images, labels = file["X"], file["y"].reshape(-1)
  except Exception as error:  # a damaged file may raise anything
    raise ValueError(f"{name}: no MATLAB file with X and y ({type(error).__name__})") from None
  if images.ndim != 4 or images.dtype != np.uint8 or not 0 < images.shape[-1] == len(labels):
    raise ValueError(f"{name}: X is {images.dtype} {list(images.shape)}, not uint8 [H, W, 3, N]")
  return np.moveaxis(images, -1, 0), _labels(name, labels, 11) % 10


def cifar_binary(names: str, *, labels: int) -> Callable[[Contents], Arrays]:
  """A reader of CIFAR's binary files: records of some labels, of which the last counts, and pixels.

  Args:
    names: the file of the class names.
    labels: how many bytes of labels a record has.
  """

  def split(files: Contents, classes: int) -> tuple[np.ndarray, np.ndarray]:
    records = np.concatenate([_records(name, data, labels) for name, data in files.items()])
    pixels = records[:, labels:].reshape(-1, 3, 32, 32)
    label = _labels(", ".join(files), records[:, labels - 1], classes)
    return np.moveaxis(pixels, 1, -1), label

  def parse(contents: Contents) -> Arrays:
    text = contents[names].decode(errors="replace")
    class_names = tuple(line.strip() for line in text.splitlines() if line.strip())
    train, test = _by_split(contents, leaving_out=names)
    return Arrays(*split(train, len(class_names)), *split(test, len(class_names)), class_names)

  return parse


def _records(name: str, data: bytes, labels: int) -> np.ndarray:
  length = labels + _CIFAR_PIXELS
  if not data or len(data) % length:
    raise ValueError(f"{name}: its {len(data)} bytes are not whole records of {length}")
  return np.frombuffer(data, np.uint8).reshape(-1, length)


def cifar_python(meta: str, labels: str, names: str) -> Callable[[Contents], Arrays]:
  """A reader of CIFAR's pickled files, which executes nothing that is in them.

  Args:
    meta: the file of the class names.
    labels: what the files call their labels.
    names: what `meta` calls the class names.
  """

  def split(files: Contents, classes: int) -> tuple[np.ndarray, np.ndarray]:
    images, numbers = [], []
    for name, data in files.items():
      batch = pickles.load(name, data)
      pixels = np.asarray(_entry(name, batch, "data"))
      label = _whole_numbers(name, _entry(name, batch, labels))
      if pixels.dtype != np.uint8 or pixels.shape != (len(label), _CIFAR_PIXELS):
        raise ValueError(f"{name}: data is {pixels.dtype} {list(pixels.shape)}, not uint8 images"
                         f" of {len(label)} labels")  # fmt: skip
      images.append(pixels.reshape(-1, 3, 32, 32))
      numbers.append(_labels(name, label, classes))
    return np.moveaxis(np.concatenate(images), 1, -1), np.concatenate(numbers)

  def parse(contents: Contents) -> Arrays:
    class_names = _strings(meta, _entry(meta, pickles.load(meta, contents[meta]), names))
    train, test = _by_split(contents, leaving_out=meta)
    return Arrays(*split(train, len(class_names)), *split(test, len(class_names)), class_names)

  return parse


def _by_split(contents: Contents, *, leaving_out: str) -> tuple[Contents, Contents]:
  """The files of training images, and those of test images, whose names begin so."""
  files = {name: data for name, data in contents.items() if name != leaving_out}
  test = {name: data for name, data in files.items() if name.startswith("test")}
  return {name: data for name, data in files.items() if name not in test}, test


def _entry(name: str, content: object, key: str) -> object:
  if not isinstance(content, dict) or key not in content:
    raise ValueError(f"{name}: has no '{key}'")
  return content[key]


def _strings(name: str, values: object) -> tuple[str, ...]:
  if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
    raise ValueError(f"{name}: its class names are not strings")
  return tuple(values)


def _whole_numbers(name: str, values: object) -> np.ndarray:
  if not isinstance(values, list) or not all(type(value) is int for value in values):
    raise ValueError(f"{name}: its labels are not a list of whole numbers")
  return np.asarray(values)


def usps(contents: Contents) -> Arrays:
  """Reads USPS as LIBSVM publishes it: a line an image, `label 1:value ... 256:value`.

  Labels are 1 to 10, for the digits 0 to 9. Values are -1 to 1, which become 0 to 255.
  """
  train, test = (_usps_split(name, data) for name, data in contents.items())
  return Arrays(*train, *test, _DIGITS)


def _usps_split(name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
  from sklearn.datasets import load_svmlight_file

  if not data.endswith(b"\n"):
    raise ValueError(f"{name}: ends in the middle of a line")
  try:
    values, labels = load_svmlight_file(
      io.BytesIO(data), n_features=_USPS_SIDE**2, zero_based=False, dtype=np.float32
    )
  except Exception as error:  # a damaged file may raise anything
    raise ValueError(f"{name}: not LIBSVM's text of 256 values a line ({error})") from None
  unit = (values.toarray() + 1) / 2
  if not len(unit) or not ((unit >= 0) & (unit <= 1)).all():
    raise ValueError(f"{name}: its values are not within -1..1")
  images = np.round(unit * 255).astype(np.uint8).reshape(-1, _USPS_SIDE, _USPS_SIDE, 1)
  return images, _labels(name, labels - 1, 10)


def tiny_imagenet(contents: Contents) -> Arrays:
  """Reads Tiny ImageNet: JPEG files of 64x64, its `val` as test images.

  `train/<class>/images/*` and `val/images/*`, whose classes `val/val_annotations.txt` has: a line
  a file, its name and its class first. Classes are sorted by name, images within them too.
  """
  trained = {name: PurePosixPath(name).parts[1] for name in sorted(contents)
             if name.startswith("train/") and name.count("/") > 1
             and name.lower().endswith(".jpeg")}  # fmt: skip
  classes = sorted(set(trained.values()))
  tested = _annotations(contents)
  if not trained or not tested:
    raise ValueError("train/ or val/images/ holds no JPEG files")
  if strange := set(tested.values()) - set(classes):
    raise ValueError(f"val/val_annotations.txt: class {min(strange)} is not in train/")
  label = {name: number for number, name in enumerate(classes)}
  return Arrays(
    _pictures(contents, trained),
    np.array([label[name] for name in trained.values()], np.int32),
    _pictures(contents, tested),
    np.array([label[name] for name in tested.values()], np.int32),
    tuple(classes),
  )


def _annotations(contents: Contents) -> dict[str, str]:
  """The class of each validation image, by the name of its file."""
  found = {}
  lines = contents["val/val_annotations.txt"].decode(errors="replace").splitlines()
  for line in filter(None, map(str.strip, lines)):
    fields = line.split("\t")
    name = f"val/images/{fields[0]}"
    if len(fields) < 2 or name not in contents:
      raise ValueError(f"val/val_annotations.txt: '{line[:40]}' names no file of val/images")
    found[name] = fields[1]
  return found


def _pictures(contents: Contents, names: Iterable[str]) -> np.ndarray:
  """Decodes files: uint8 `[N, 64, 64, 3]`."""
  names = list(names)
  images = np.empty((len(names), 64, 64, 3), np.uint8)

  def decode(place: int) -> None:
    name = names[place]
    try:
      with Image.open(io.BytesIO(contents[name])) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    except Exception as error:  # a damaged file may raise anything
      raise ValueError(f"{name}: no readable image ({type(error).__name__})") from None
    if pixels.shape != images.shape[1:]:
      raise ValueError(f"{name}: is {list(pixels.shape[:2])} pixels, not [64, 64]")
    images[place] = pixels

  with ThreadPoolExecutor() as pool:
    list(pool.map(decode, range(len(names))))
  return images


def _labels(name: str, labels: np.ndarray, classes: int) -> np.ndarray:
  """Labels as int32; checks that they are whole numbers from 0 to classes - 1."""
  if labels.dtype.kind not in "iuf" or (labels != np.rint(labels)).any():
    raise ValueError(f"{name}: its labels are no whole numbers")
  if labels.size and not 0 <= labels.min() <= labels.max() < classes:
    raise ValueError(f"{name}: labels are {labels.min()}..{labels.max()}, not 0..{classes - 1}")
  return labels.astype(np.int32)
