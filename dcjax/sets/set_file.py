"""The file of a synthetic set: what its members are called, and what is checked of them.

An `.npz` file holds `images`, `labels`, `metadata` as JSON, `soft_labels` if there are any, each
array of `weights` under its path, `weights/...`, and those of a whitening, `whitening/mean`,
`whitening/matrix`, `whitening/inverse`, `whitening/unit`.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from dcjax.common.archive import Archive
from dcjax.common.errors import UserError
from dcjax.common.types import Params
from dcjax.sets import labels as soft

if TYPE_CHECKING:  # it is read by this module
  from dcjax.sets.synthetic import SyntheticSet

# (pixel - mean) / std; pixels in [0, 1]; or what is normalised, and then whitened.
RANGES = ("normalised", "unit", "whitened")
KEYS = ("images", "labels", "metadata")
FORMAT = 2  # of the file; 1, which does not say so, had neither soft labels nor a step size
SOFT = "soft_labels"
WEIGHTS = "weights/"  # what the names of a learnable formation's arrays begin with
WHITENING = "whitening/"  # and those of a whitening's
# What the metadata always hold; a method may add more.
METADATA = (
  "method",
  "dataset",
  "class_names",
  "range",
  "mean",
  "std",
  "formation",
  "ipc",
  "config",
  "seed",
  "version",
)
# Of the metadata, also of one that a method adds, as JSON has them.
TYPES: dict[str, tuple[type, str]] = {
  "method": (str, "a text"),
  "dataset": (str, "a text"),
  "version": (str, "a text"),
  "config": (dict, "a JSON object"),
  "formation": (dict, "a JSON object"),
  "ipc": (int, "a whole number"),
  "iteration": (int, "a whole number"),
  "format": (int, "a whole number"),
  "label_kind": (str, "a text"),
  "source": (dict, "a JSON object"),
}
MOST_METADATA = 2**25  # bytes; the indices of 50,000 real images take a twentieth of that
MOST = 1e30  # of a mean or a deviation
LONGEST = 300  # characters of a file's that an error quotes

Headers = Mapping[str, jax.ShapeDtypeStruct]


def read_metadata(path: Path, archive: Archive) -> Any:
  """What the metadata hold, whatever it is."""
  if missing := [key for key in KEYS if key not in archive.headers]:
    raise damaged(path, f"has no '{missing[0]}'")
  header = archive.headers["metadata"]
  if header.shape or header.dtype.kind != "U" or header.dtype.itemsize > MOST_METADATA:
    raise damaged(path, f"its metadata are {header.dtype} {list(header.shape)}, not a short text")
  return json.loads(str(archive.read("metadata")))


def weights_of(arrays: Mapping[str, Any]) -> Params:
  """The weights of a learnable formation among the arrays of a file."""
  return unflatten_dict(below(WEIGHTS, arrays), sep="/")


def below(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
  """The arrays whose names begin so, by what follows in their names."""
  return {
    name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)
  }


def damaged(path: Path, problem: str) -> UserError:
  """The error of a file that is not what it should be."""
  problem = "".join(filter(str.isprintable, " ".join(problem.split())))[:LONGEST]  # by anybody
  return UserError(f"synthetic set {path}: {problem}; give a synthetic.npz written by dcjax")


def first_line(error: Exception) -> str:
  """The first line of an error's message, or what the error is called."""
  return (str(error).splitlines() or [type(error).__name__])[0][:LONGEST]


def check_description(path: Path, headers: Headers, metadata: Any) -> None:
  """Raises `UserError` if a file does not say that it is a synthetic set."""

  def fail(problem):
    raise damaged(path, problem)

  if not isinstance(metadata, dict):
    fail("its metadata are not a JSON object")
  if type(version := metadata.get("format", 1)) is int and version > FORMAT:
    raise UserError(
      f"synthetic set {path}: of format {version}, which a later version of dcjax writes; this one "
      f"reads up to {FORMAT}; install a newer dcjax"
    )
  if missing := [key for key in METADATA if key not in metadata]:
    fail(f"its metadata have no '{missing[0]}'")
  for field, (kind, name) in TYPES.items():
    if type(metadata.get(field, kind())) is not kind:
      fail(f"its {field} is not {name}")
  images, labels = headers["images"], headers["labels"]
  if images.dtype != np.float32 or len(images.shape) != 5 or not images.size:
    fail(f"images are {images.dtype} {images.shape}, not float32 [classes, ipc, H, W, C]")
  if labels.dtype != np.int32 or labels.shape != images.shape[:2]:
    fail(f"labels are {labels.dtype} {labels.shape}, not int32 {images.shape[:2]}")
  classes, channels = images.shape[0], images.shape[-1]
  if metadata["ipc"] != images.shape[1]:
    fail(f"its ipc is {metadata['ipc']}, but it holds {images.shape[1]} images of each class")
  names = metadata["class_names"]
  if not isinstance(names, list) or [type(name) for name in names] != [str] * classes:
    fail(f"its class_names are not {classes} names")
  if metadata["range"] not in RANGES:
    fail(f"its range is '{metadata['range']}', not one of {', '.join(RANGES)}")
  for field, least in (("mean", -np.inf), ("std", 0.0)):
    if not _are_numbers(metadata[field], channels, least):
      fail(f"its {field} is not {channels} numbers, one for each channel")


def check_content(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
  """Raises `UserError` for numbers that are none, and for labels that are none."""
  for name, array in arrays.items():
    if not np.isfinite(array).all():
      raise damaged(path, f"{name} holds numbers that are not finite")
  labels = arrays["labels"]
  if (labels != np.arange(len(labels))[:, None]).any():
    raise damaged(path, "its labels are not the numbers of the rows that their images stand in")
  if SOFT in arrays and (problem := soft.problem(arrays[SOFT], metadata["label_kind"])):
    raise damaged(path, problem)


def check_whitening(path: Path, headers: Headers, metadata: dict[str, Any]) -> None:
  """Raises `UserError` if there is no whitening where there should be one, or one of other images.

  Files that were written before there were whitenings have no `zca`.
  """
  found, zca, kind = below(WHITENING, headers), metadata.get("zca", False), metadata["range"]
  if bool(found) != zca or kind == ("normalised" if zca else "whitened"):
    has = "a whitening" if found else "no whitening"
    raise damaged(path, f"its range is '{kind}' and its zca {zca}, but it has {has}")
  size = math.prod(headers["images"].shape[2:])
  shapes = {"mean": (size,), "matrix": (size, size), "inverse": (size, size)}
  if found and found.keys() - {"unit"} != shapes.keys():
    raise damaged(path, f"its whitening is not {', '.join(shapes)}")
  for name, shape in shapes.items():
    if found and (found[name].dtype != np.float32 or found[name].shape != shape):
      raise damaged(path, f"its {WHITENING}{name} is not finite float32 {shape}")
  if "unit" in found and (found["unit"].dtype != np.bool_ or found["unit"].shape):
    raise damaged(path, f"its {WHITENING}unit is not true or false")


def check_labels(path: Path, headers: Headers, metadata: dict[str, Any]) -> None:
  """Raises `UserError` if soft labels are not as the metadata say.

  Files that were written before there were any have no `label_kind`.
  """
  kind, shape = metadata.get("label_kind", "hard"), headers["labels"].shape
  if kind not in soft.KINDS:
    raise damaged(path, f"its label_kind is '{kind}', not one of {', '.join(soft.KINDS)}")
  found, expected = headers.get(SOFT), (*shape, shape[0])
  if (found is None) != (kind == "hard"):
    has = "no soft_labels" if found is None else "soft_labels"
    raise damaged(path, f"its label_kind is '{kind}', but it has {has}")
  if found is not None and (found.dtype != np.float32 or found.shape != expected):
    raise damaged(path, f"soft_labels are {found.dtype} {found.shape}, not float32 {expected}")
  for field in ("student_lr", "temperature"):
    value = metadata.get(field)
    if value is not None and not _are_numbers([value], 1, 0.0):
      raise damaged(path, f"its {field} is {value!r:.99}, not a positive number")


def check_formation(path: Path, synthetic: "SyntheticSet") -> None:
  """Raises `UserError` if a set does not say how to decode it."""
  fields = synthetic.metadata["formation"]
  if any(type(fields[name]) is not int for name in ("factor", "bound") if name in fields):
    raise damaged(path, f"its formation is not one ({fields})")
  try:
    decoder = synthetic.formation()
    expected = jax.eval_shape(decoder.init, jax.random.key(0))
  except (UserError, TypeError) as error:
    raise damaged(path, f"its formation is not one ({error})") from None
  shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), expected)
  if jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), synthetic.weights) != shapes:
    raise damaged(path, "its weights are not those of its formation")


def _are_numbers(values: Any, count: int, least: float) -> bool:
  """Whether `values` is a list of `count` numbers, finite and above `least` in float32."""
  if not isinstance(values, list) or len(values) != count:
    return False
  if not all(type(value) in (int, float) and abs(value) < MOST for value in values):
    return False
  return all(np.float32(value) > least for value in values)
