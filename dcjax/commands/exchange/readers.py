"""What files of other programs hold: images, their labels, a learned step size; as arrays.

Nothing in a file is run. PyTorch's files are read by `torch.load(weights_only=True)`, arrays of
NumPy without pickles.
"""

import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from dcjax.common.archive import RATIO, SMALL, Archive
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
_NAMES = {*_IMAGES, *_LABELS, *_RATES}
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
    found = _read(path, experiment)
  except UserError:
    raise
  except Exception as error:  # a damaged file may raise anything
    raise UserError(f"import: {path} cannot be read ({_reason(error)}); {_REMEDY}") from error
  if not found.images.ndim:
    raise UserError(f"import: {path} holds a number, not images; {_REMEDY}")
  if experiment and found.layout != "results":
    raise UserError(f"--experiment: {experiment}, but {path} holds one set; leave it out")
  return found


def _reason(error: Exception) -> str:
  """Why a file cannot be read; PyTorch would add how it can be run all the same."""
  if "Weights only load failed" in str(error):
    return "it holds more than tensors and numbers, which may be a program; nothing of it is run"
  return gist(error)


def _read(path: Path, experiment: int) -> Found:
  if path.is_dir():
    return _folder(path)
  if not path.is_file():  # a pipe, of which a reader would wait for the end
    raise UserError(f"import: {path} is no file; {_REMEDY}")
  suffix = path.suffix.lower()
  if suffix in _TORCH:
    return _torch(path, experiment)
  if suffix == ".npz":
    with zipfile.ZipFile(path) as file:
      names = [name.removesuffix(".npy") for name in file.namelist()]
      archive = Archive(file, tuple(name for name in names if name.lower() in _NAMES))
      return _named(path, names, archive.read, "npz")
  if suffix in _H5:
    return _h5(path)
  if suffix in hf.FILES:
    return _hf(path)
  raise UserError(f"import: {path} has another ending; {_REMEDY}")


# --- PyTorch -------------------------------------------------------------------------------


def _torch(path: Path, experiment: int) -> Found:
  content = _load(path)
  if isinstance(content, Mapping) and isinstance(results := content.get("data"), list):
    if not 0 <= experiment < len(results):
      raise UserError(
        f"--experiment: {experiment}, but {path} has {len(results)} experiments; count from 0"
      )
    images, labels = results[experiment]
    return Found(_array(images), _array(labels), None, "results")
  if isinstance(content, Mapping):
    return _named(path, content, content.__getitem__, "pair")
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
    file = path.with_name(re.sub("^images(_zca)?", part, path.name))
    others[part] = _array(_load(file)) if file != path and file.exists() else None
  return Found(images, others["labels"], _rate(others["lr"]), "parts")


def _rate(array: np.ndarray | None) -> float | None:
  if array is None:
    return None
  if array.size != 1:
    raise ValueError(f"its step size is {array.size} numbers, not one")
  return float(array.item())


def _load(path: Path) -> Any:
  """The content of a file of PyTorch's, of which nothing is run."""
  try:
    import torch
  except ImportError as error:
    raise UserError(
      f"import: {path} needs PyTorch ({gist(error)}); pip install 'dcjax[torch]'"
    ) from error
  with torch.serialization.safe_globals(_scalars()), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pickles that are refused all the same
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
    size = value.numel() * value.element_size()
    if size > max(SMALL, value.untyped_storage().nbytes()):
      raise ValueError(f"a tensor would take {size} bytes of memory")
    value = value.detach().cpu()
    value = (value.float() if value.is_floating_point() else value).numpy()
  array = np.asarray(value)
  if array.dtype.kind not in "fiub":
    raise ValueError(f"it holds {array.dtype}, not numbers")
  return array


# --- Named arrays --------------------------------------------------------------------------


def _named(path: Path, names: Iterable[str], load: Callable[[str], Any], layout: str) -> Found:
  """Images and labels by what they are usually called; nothing else is read."""
  lower = {str(name).lower(): name for name in names}

  def find(usual: Iterable[str]) -> np.ndarray | None:
    name = next((lower[name] for name in usual if name in lower), None)
    return None if name is None else _array(load(name))

  images, rate = find(_IMAGES), find(_RATES)
  if images is None:
    raise UserError(
      f"import: {path} has the arrays {', '.join(map(str, lower.values()))[:200]}, none of which "
      f"is called {', '.join(_IMAGES)}; rename the one of images"
    )
  labels = find(_LABELS)
  return Found(images, labels, _rate(rate), layout)


def _h5(path: Path) -> Found:
  try:
    import h5py
  except ImportError as error:
    raise UserError(f"import: {path} needs h5py ({gist(error)}); pip install h5py") from error
  with h5py.File(path, "r") as file:
    names = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    arrays = {name: file[name] for name in names if isinstance(file[name], h5py.Dataset)}

    def load(name: str) -> Any:
      item, most = arrays[name], max(SMALL, RATIO * path.stat().st_size)
      if item.external or item.is_virtual or item.nbytes > most:
        raise ValueError(f"{name} would take {item.nbytes} bytes that are not in the file")
      return item[()]

    return _named(path, arrays, load, "h5")


# --- Image files ---------------------------------------------------------------------------


def _folder(path: Path) -> Found:
  """Image files by class; or a folder of another layout's files."""
  parts = [file for file in sorted(path.glob("images*.pt")) if "zca" not in file.name]
  best = [file for file in parts if "best" in file.name] or parts
  if len(best) > 1:
    raise UserError(
      f"import: {path} has {len(best)} files such as {best[0].name}; give one of them"
    )
  if best:
    return _torch(best[0], 0)
  if list(path.rglob("*.parquet")) or (path / "state.json").exists():
    return _hf(path)
  folders = class_folders.folders(path, "a folder for each class")
  files = [sorted(filter(_is_image, folder.rglob("*"))) for folder in folders]
  images = [pixels.read_image(file) for of_class in files for file in of_class]
  labels = np.repeat(np.arange(len(folders)), [len(of_class) for of_class in files])
  if (path / "labels.csv").exists():
    logging.warning("import: labels are the folders'; soft ones in labels.csv are not read")
  return Found(_stack(path, images), labels, None, "folder", tuple(f.name for f in folders))


def _is_image(file: Path) -> bool:
  return not file.is_dir() and not file.name.startswith(".") and class_folders.is_image(file)


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
