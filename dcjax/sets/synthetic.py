"""`SyntheticSet`: condensed images with all that is needed to use them, and its file.

An `.npz` file holds `images`, `labels`, `metadata` as JSON, `soft_labels` if there are any, each
array of `weights` under its path, `weights/...`, and those of a whitening, `whitening/mean`,
`whitening/matrix`, `whitening/inverse`, `whitening/unit`.
"""

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dcjax.common.archive import Archive
from dcjax.common.errors import UserError
from dcjax.common.files import expand, writing
from dcjax.common.types import Params
from dcjax.data.zca import Whitening
from dcjax.sets import formation
from dcjax.sets import labels as soft
from dcjax.sets.formation import Formation, Stored

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


class SyntheticSet(NamedTuple):
  """A condensed set.

  Attributes:
    images: `[classes, ipc, H, W, C]` float32, as stored, in the range that the metadata name.
    labels: `[classes, ipc]` int32; row k holds the images of class k.
    metadata: what the numbers mean and where they come from, as JSON holds it. `range` is
      'normalised', (pixel - mean) / std, or 'unit', pixels in [0, 1], or 'whitened', normalised
      and then whitened; `zca` is whether networks see whitened images; `mean` and `std` are
      those of pixels in [0, 1], one for each channel; `formation` is what turns the images into
      those that networks train on.
    weights: those of a learnable formation, as nested dicts of float32 arrays; else empty.
    whitening: of real images, and of those that a set of pixels in [0, 1] decodes to; None
      without `zca`.
    soft_labels: `[classes, ipc, classes]` float32 of the kind that `label_kind` names (see
      `sets.labels`), one for each stored image; None: labels are hard. `student_lr` is the learning
      rate that was learned with them, and `temperature` what logits are divided by.
  """

  images: np.ndarray
  labels: np.ndarray
  metadata: dict[str, Any]
  weights: Params = {}  # noqa: RUF012
  whitening: Whitening | None = None
  soft_labels: np.ndarray | None = None

  def pixels(self) -> np.ndarray:
    """The stored images as a person sees them: uint8 `[classes, ipc, H, W, C]`."""
    return np.round(np.clip(self.unit_pixels(), 0, 1) * 255).astype(np.uint8)

  def unit_pixels(self) -> np.ndarray:
    """The stored images with black at 0 and white at 1, float32, which some numbers are beyond."""
    images = self._unwhitened()
    if self.metadata["range"] == "unit":
      return images
    return images * np.float32(self.metadata["std"]) + np.float32(self.metadata["mean"])

  def _unwhitened(self) -> np.ndarray:
    """The stored images; where these are whitened, normalised ones."""
    if self.whitening is None or self.metadata["range"] == "unit":
      return self.images
    return np.asarray(self.formation().unwhiten_classes(self.stored(), self.whitening))

  def formation(self) -> Formation:
    """What turns the stored images into those that networks train on."""
    ipc, *shape = self.images.shape[1:]
    return formation.create(
      **self.metadata["formation"],
      shape=tuple(shape),
      ipc=ipc,
      mean=tuple(self.metadata["mean"]),
      std=tuple(self.metadata["std"]),
      unit=self.metadata["range"] == "unit",
      former=True,
    )

  def stored(self) -> Stored:
    """What a formation takes."""
    return Stored(jnp.asarray(self.images), self.weights)

  def decoded(self) -> np.ndarray:
    """The images that networks train on: normalised `[classes, decoded ipc, H, W, C]`."""
    return np.asarray(self.formation().decode_classes(self.stored(), self.whitening))

  def flat(self) -> tuple[np.ndarray, np.ndarray]:
    """What a network trains on: normalised images `[N, H, W, C]`, and their labels.

    Labels are int32 `[N]`; or of a set with soft ones float32 `[N, classes]`, as a loss takes them.
    What else such a set asks of a training is in `training()`.
    """
    images = self.decoded().reshape(-1, *self.images.shape[2:])
    of = self.formation().origins(self.images.shape[1])
    labels = self.labels if self.soft_labels is None else self.targets()
    return images, labels[:, of].reshape(-1, *labels.shape[2:])

  def targets(self) -> np.ndarray:
    """Soft labels as a loss takes them, float32 `[classes, ipc, classes]`."""
    assert self.soft_labels is not None
    kind, temperature = self.metadata["label_kind"], self.metadata.get("temperature")
    return soft.targets(self.soft_labels, kind, temperature)

  def to_torch(self) -> tuple[Any, Any]:
    """What a network in PyTorch trains on: images `[N, C, H, W]` and labels, as `flat` has them.

    Raises:
      ImportError: PyTorch is not installed.
    """
    import torch

    images, labels = self.flat()
    labels = labels.astype(np.int64) if labels.ndim == 1 else labels
    return torch.tensor(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)

  def training(self) -> dict[str, Any]:
    """What labels and step size ask of a training: arguments of `evaluation.train`."""
    return soft.training(self.metadata)

  def stored_bytes(self) -> int:
    """What the numbers take up: images, soft labels, and the weights of a learnable formation.

    A whitening is not of the set but of the dataset, as mean and deviation are, and not counted.
    """
    arrays = [self.images, self.soft_labels, self.weights]
    return sum(array.nbytes for array in jax.tree.leaves(arrays))

  def save(self, path: str | os.PathLike) -> None:
    """Writes the set to an `.npz` file, whole or not at all."""
    more: dict[str, Any] = {
      WEIGHTS + name: array for name, array in flatten_dict(self.weights, sep="/").items()
    }
    if self.whitening is not None:
      more |= {WHITENING + name: array for name, array in self.whitening._asdict().items()}
    if self.soft_labels is not None:
      more[SOFT] = np.asarray(self.soft_labels, np.float32)
    with writing(Path(path), "wb") as file:
      np.savez(
        file,
        images=np.asarray(self.images, np.float32),
        labels=np.asarray(self.labels, np.int32),
        metadata=np.array(json.dumps(self.metadata | {"format": FORMAT})),
        **more,
      )

  @classmethod
  def load(cls, path: str | os.PathLike) -> "SyntheticSet":
    """Reads a set from its file; never unpickles anything.

    Raises:
      UserError: the file is missing, cut short, or not a synthetic set.
    """
    path = expand("synthetic set", path)
    if not path.is_file():
      raise UserError(f"synthetic set: no file {path}; give the synthetic.npz of a finished run")
    if not zipfile.is_zipfile(path):
      raise UserError(f"synthetic set {path}: cut short, or not an .npz file; use another")
    try:
      with zipfile.ZipFile(path) as file:
        return cls._of(path, Archive(file, (*KEYS, SOFT, WEIGHTS, WHITENING)))
    except UserError:
      raise
    except Exception as error:  # a damaged file may raise anything
      raise UserError(
        f"synthetic set {path}: corrupt ({_first_line(error)}); use another"
      ) from None

  @classmethod
  def _of(cls, path: Path, archive: Archive) -> "SyntheticSet":
    """The set in a file, whose arrays are read when all has been checked that is said of them."""
    metadata = _metadata(path, archive)
    headers = archive.headers
    _check(path, headers, metadata)
    _check_labels(path, headers, metadata)
    _check_whitening(path, headers, metadata)
    described = cast(tuple[Any, Any], (headers["images"], headers["labels"]))
    _check_formation(path, cls(*described, metadata, _weights(headers)))
    arrays = {name: archive.read(name) for name in headers if name != "metadata"}
    _check_content(path, arrays, metadata)
    found = _below(WHITENING, arrays)
    whitening = Whitening(**found) if found else None
    weights, labels = _weights(arrays), arrays.get(SOFT)
    return cls(arrays["images"], arrays["labels"], metadata, weights, whitening, labels)


def _metadata(path: Path, archive: Archive) -> Any:
  """What the metadata hold, whatever it is."""
  if missing := [key for key in KEYS if key not in archive.headers]:
    raise _damaged(path, f"has no '{missing[0]}'")
  header = archive.headers["metadata"]
  if header.shape or header.dtype.kind != "U" or header.dtype.itemsize > MOST_METADATA:
    raise _damaged(path, f"its metadata are {header.dtype} {list(header.shape)}, not a short text")
  return json.loads(str(archive.read("metadata")))


def _weights(arrays: Mapping[str, Any]) -> Params:
  return unflatten_dict(_below(WEIGHTS, arrays), sep="/")


def _below(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
  """The arrays whose names begin so, by what follows in their names."""
  return {
    name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)
  }


def _damaged(path: Path, problem: str) -> UserError:
  problem = "".join(filter(str.isprintable, " ".join(problem.split())))[:LONGEST]  # by anybody
  return UserError(f"synthetic set {path}: {problem}; give a synthetic.npz written by dcjax")


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:LONGEST]


def _check(path: Path, headers: Headers, metadata: Any) -> None:
  """Raises `UserError` if a file does not say that it is a synthetic set."""

  def fail(problem):
    raise _damaged(path, problem)

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


def _check_content(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
  """Raises `UserError` for numbers that are none, and for labels that are none."""
  for name, array in arrays.items():
    if not np.isfinite(array).all():
      raise _damaged(path, f"{name} holds numbers that are not finite")
  labels = arrays["labels"]
  if (labels != np.arange(len(labels))[:, None]).any():
    raise _damaged(path, "its labels are not the numbers of the rows that their images stand in")
  if SOFT in arrays and (problem := soft.problem(arrays[SOFT], metadata["label_kind"])):
    raise _damaged(path, problem)


def _check_whitening(path: Path, headers: Headers, metadata: dict[str, Any]) -> None:
  """Raises `UserError` if there is no whitening where there should be one, or one of other images.

  Files that were written before there were whitenings have no `zca`.
  """
  found, zca, kind = _below(WHITENING, headers), metadata.get("zca", False), metadata["range"]
  if bool(found) != zca or kind == ("normalised" if zca else "whitened"):
    has = "a whitening" if found else "no whitening"
    raise _damaged(path, f"its range is '{kind}' and its zca {zca}, but it has {has}")
  size = math.prod(headers["images"].shape[2:])
  shapes = {"mean": (size,), "matrix": (size, size), "inverse": (size, size)}
  if found and found.keys() - {"unit"} != shapes.keys():
    raise _damaged(path, f"its whitening is not {', '.join(shapes)}")
  for name, shape in shapes.items():
    if found and (found[name].dtype != np.float32 or found[name].shape != shape):
      raise _damaged(path, f"its {WHITENING}{name} is not finite float32 {shape}")
  if "unit" in found and (found["unit"].dtype != np.bool_ or found["unit"].shape):
    raise _damaged(path, f"its {WHITENING}unit is not true or false")


def _check_labels(path: Path, headers: Headers, metadata: dict[str, Any]) -> None:
  """Raises `UserError` if soft labels are not as the metadata say.

  Files that were written before there were any have no `label_kind`.
  """
  kind, shape = metadata.get("label_kind", "hard"), headers["labels"].shape
  if kind not in soft.KINDS:
    raise _damaged(path, f"its label_kind is '{kind}', not one of {', '.join(soft.KINDS)}")
  found, expected = headers.get(SOFT), (*shape, shape[0])
  if (found is None) != (kind == "hard"):
    has = "no soft_labels" if found is None else "soft_labels"
    raise _damaged(path, f"its label_kind is '{kind}', but it has {has}")
  if found is not None and (found.dtype != np.float32 or found.shape != expected):
    raise _damaged(path, f"soft_labels are {found.dtype} {found.shape}, not float32 {expected}")
  for field in ("student_lr", "temperature"):
    value = metadata.get(field)
    if value is not None and not _are_numbers([value], 1, 0.0):
      raise _damaged(path, f"its {field} is {value!r:.99}, not a positive number")


def _check_formation(path: Path, synthetic: SyntheticSet) -> None:
  """Raises `UserError` if a set does not say how to decode it."""
  fields = synthetic.metadata["formation"]
  if any(type(fields[name]) is not int for name in ("factor", "bound") if name in fields):
    raise _damaged(path, f"its formation is not one ({fields})")
  try:
    decoder = synthetic.formation()
    expected = jax.eval_shape(decoder.init, jax.random.key(0))
  except (UserError, TypeError) as error:
    raise _damaged(path, f"its formation is not one ({error})") from None
  shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), expected)
  if jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), synthetic.weights) != shapes:
    raise _damaged(path, "its weights are not those of its formation")


def _are_numbers(values: Any, count: int, least: float) -> bool:
  """Whether `values` is a list of `count` numbers, finite and above `least` in float32."""
  if not isinstance(values, list) or len(values) != count:
    return False
  if not all(type(value) in (int, float) and abs(value) < MOST for value in values):
    return False
  return all(np.float32(value) > least for value in values)
