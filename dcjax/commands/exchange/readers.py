"""What files of other programs hold: images, their labels, a learned step size; as arrays.

Nothing in a file is run. PyTorch's files are read by `torch.load(weights_only=True)`, arrays of
NumPy without pickles.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcjax.common.errors import UserError, gist
from dcjax.common.files import expand
from dcjax.data import class_folders, hf, pixels

# Layouts, and what writes them.
LAYOUTS = {
  "results": "res_*.pt of DC, DSA, DM and IDM: a dict with `data`, a pair for each experiment",
  "pair": "data.pt of IDC, DREAM and NCFM: images and labels",
  "parts": "images_*.pt of MTT, TESLA, FTD and DATM, beside labels_*.pt and lr_*.pt",
  "npz": ".npz of KIP, RFAD and FRePo: arrays called images and labels, or alike",
  "h5": ".h5 of RaT-BPTT: the same in HDF5",
  "folder": "a folder of image files for each class: RDED, SRe2L, generated images",
  "hf": "what the datasets library of Hugging Face reads from a disk",
}
_IMAGES = ("images", "x_syn", "x_proto", "x", "x_train", "data", "image", "img")
_LABELS = ("labels", "y_syn", "y_proto", "y", "y_train", "targets", "target", "label")
_RATES = ("student_lr", "syn_lr", "lr")
_TORCH, _H5 = (".pt", ".pth"), (".h5", ".hdf5")
_REMEDY = "give a file of one of these layouts: " + ", ".join(LAYOUTS)


class Found(NamedTuple):
  """What a file holds.

  Attributes:
    images: `[N, ...]` numbers, channels first, last, or all in one row; uint8 where they are files.
    labels: integers `[N]`, numbers `[N, classes]`, or None where they are in the file's order.
    rate: the learned step size of networks that are trained on it, or None.
    layout: an entry of `LAYOUTS`.
    names: of the classes, where a file has them; else empty.
  """

  images: np.ndarray
  labels: np.ndarray | None
  rate: float | None
  layout: str
  names: tuple[str, ...] = ()


def read(source: str, experiment: int = 0) -> Found:
  """Finds out what a file or a folder is, and reads it.

  Args:
    source: its path.
    experiment: which, of a file of results.

  Raises:
    UserError: it is none that is known, it cannot be read, or a library for it is not installed.
  """
  path = expand("import", source)
  if not path.exists():
    raise UserError(f"import: no file or folder {path}; {_REMEDY}")
  try:
    return _read(path, experiment)
  except UserError:
    raise
  except Exception as error:  # a damaged file may raise anything
    raise UserError(f"import: {path} cannot be read ({gist(error)}); {_REMEDY}") from error


def _read(path: Path, experiment: int) -> Found:
  if path.is_dir():
    return _folder(path)
  suffix = path.suffix.lower()
  if suffix in _TORCH:
    return _torch(path, experiment)
  if suffix == ".npz":
    with np.load(path, allow_pickle=False) as file:
      return _named(path, {name: file[name] for name in file.files}, "npz")
  if suffix in _H5:
    return _h5(path)
  if suffix in hf.FILES:
    return _hf(path)
  raise UserError(f"import: {path} has another ending; {_REMEDY}")


# --- PyTorch -------------------------------------------------------------------------------


def _torch(path: Path, experiment: int) -> Found:
  content = _load(path)
  if isinstance(content, Mapping) and "data" in content:
    results = content["data"]
    if not isinstance(results, list) or not -len(results) <= experiment < len(results):
      count = len(results) if isinstance(results, list) else "no"
      raise UserError(
        f"--experiment: {experiment}, but {path} has {count} experiments; count from 0"
      )
    images, labels = results[experiment]
    return Found(_array(images), _array(labels), None, "results")
  if isinstance(content, Mapping):
    arrays = {name: value for name, value in content.items() if hasattr(value, "numpy")}
    return _named(path, {name: _array(value) for name, value in arrays.items()}, "pair")
  if isinstance(content, list | tuple) and len(content) == 2:
    images, labels = content
    return Found(_array(images), _array(labels), None, "pair")
  if isinstance(content, list | tuple):
    raise UserError(f"import: {path} is a list of {len(content)}, not of images and labels")
  return _parts(path, _array(content))


def _parts(path: Path, images: np.ndarray) -> Found:
  """A file of images, with the files beside it that are called as it is."""
  others = {}
  for part in ("labels", "lr"):
    file = path.with_name(re.sub("^images", part, path.name))
    others[part] = _array(_load(file)) if file != path and file.exists() else None
  rate = None if others["lr"] is None else float(others["lr"].reshape(-1)[0])
  return Found(images, others["labels"], rate, "parts")


def _load(path: Path) -> Any:
  """The content of a file of PyTorch's, of which nothing is run."""
  try:
    import torch
  except ImportError as error:
    raise UserError(
      f"import: {path} needs PyTorch ({gist(error)}); pip install 'dcjax[torch]'"
    ) from error
  with torch.serialization.safe_globals(_scalars()):
    return torch.load(path, map_location="cpu", weights_only=True)


def _scalars() -> list[Any]:
  """What a NumPy number in a file is made of: `accs_all_exps` has some. None of it runs code."""
  scalar = np.float64(0).__reduce__()[0]
  kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")]
  # Files of NumPy 1 name the module otherwise.
  return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _array(value: Any) -> np.ndarray:
  """A tensor, an array or a number as an array of numbers."""
  if hasattr(value, "detach"):  # a tensor; NumPy has no bfloat16
    value = value.detach().cpu()
    value = (value.float() if value.is_floating_point() else value).numpy()
  array = np.asarray(value)
  if array.dtype.kind not in "fiub":
    raise ValueError(f"it holds {array.dtype}, not numbers")
  return array


# --- Named arrays --------------------------------------------------------------------------


def _named(path: Path, arrays: Mapping[str, np.ndarray], layout: str) -> Found:
  """Images and labels by what they are usually called."""

  def find(names: Iterable[str]) -> np.ndarray | None:
    lower = {str(name).lower(): value for name, value in arrays.items()}
    return next((lower[name] for name in names if name in lower), None)

  images, rate = find(_IMAGES), find(_RATES)
  if images is None:
    raise UserError(
      f"import: {path} has the arrays {', '.join(map(str, arrays))}, none of which is called "
      f"{', '.join(_IMAGES)}; rename the one of images"
    )
  labels = find(_LABELS)
  return Found(images, labels, None if rate is None else float(rate.reshape(-1)[0]), layout)


def _h5(path: Path) -> Found:
  try:
    import h5py
  except ImportError as error:
    raise UserError(f"import: {path} needs h5py ({gist(error)}); pip install h5py") from error
  with h5py.File(path, "r") as file:
    arrays = {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}
  return _named(path, {name: np.asarray(value) for name, value in arrays.items()}, "h5")


# --- Image files ---------------------------------------------------------------------------


def _folder(path: Path) -> Found:
  """Image files by class; or a folder of another layout's files."""
  best = sorted(path.glob("images*.pt"), key=lambda file: ("best" not in file.name, file.name))
  if best:
    return _torch(best[0], 0)
  if list(path.rglob("*.parquet")) or (path / "state.json").exists():
    return _hf(path)
  folders = class_folders.folders(path, "a folder for each class")
  files = [sorted(filter(class_folders.is_image, folder.rglob("*"))) for folder in folders]
  images = [pixels.read_image(file) for of_class in files for file in of_class]
  labels = np.repeat(np.arange(len(folders)), [len(of_class) for of_class in files])
  return Found(_stack(path, images), labels, None, "folder", tuple(f.name for f in folders))


def _hf(path: Path) -> Found:
  images, labels, names = hf.rows(path)
  return Found(_stack(path, images), labels, None, "hf", tuple(names))


def _stack(path: Path, images: list[np.ndarray]) -> np.ndarray:
  sizes = sorted({image.shape[:2] for image in images})
  if not sizes:
    raise UserError(f"import: {path} has no images; {_REMEDY}")
  if len(sizes) > 1:
    raise UserError(
      f"import: {path} has images of {len(sizes)} sizes, {list(sizes[0])} and others; bring them "
      "to one"
    )
  return np.stack(images)
