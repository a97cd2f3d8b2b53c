"""`SyntheticSet`: condensed images with all that is needed to use them, and its file.

An `.npz` file holds `images`, `labels`, `metadata` as JSON, each array of `weights` under its path,
`weights/...`, and those of a whitening, `whitening/mean`, `whitening/matrix`, `whitening/inverse`.
"""

import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dcjax import formation
from dcjax.errors import UserError
from dcjax.files import expand, writing
from dcjax.formation import Formation, Stored
from dcjax.types import Params
from dcjax.whitening import Whitening

# (pixel - mean) / std; pixels in [0, 1]; or what is normalised, and then whitened.
RANGES = ("normalised", "unit", "whitened")
KEYS = ("images", "labels", "metadata")
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
  """

  images: np.ndarray
  labels: np.ndarray
  metadata: dict[str, Any]
  weights: Params = {}  # noqa: RUF012
  whitening: Whitening | None = None

  def pixels(self) -> np.ndarray:
    """The stored images as a person sees them: uint8 `[classes, ipc, H, W, C]`."""
    unit = self._unwhitened()
    if self.metadata["range"] != "unit":
      unit = unit * np.float32(self.metadata["std"]) + np.float32(self.metadata["mean"])
    return np.round(np.clip(unit, 0, 1) * 255).astype(np.uint8)

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
    )

  def stored(self) -> Stored:
    """What a formation takes."""
    return Stored(jnp.asarray(self.images), self.weights)

  def decoded(self) -> np.ndarray:
    """The images that networks train on: normalised `[classes, decoded ipc, H, W, C]`."""
    return np.asarray(self.formation().decode_classes(self.stored(), self.whitening))

  def flat(self) -> tuple[np.ndarray, np.ndarray]:
    """What a network trains on: normalised images `[N, H, W, C]` and labels `[N]`."""
    images = self.decoded()
    labels = np.repeat(self.labels[:, 0], images.shape[1])
    return images.reshape(-1, *images.shape[2:]), labels

  def stored_bytes(self) -> int:
    """What the numbers take up: images, and the weights of a learnable formation.

    A whitening is not of the set but of the dataset, as mean and deviation are, and not counted.
    """
    return sum(array.nbytes for array in (self.images, *jax.tree.leaves(self.weights)))

  def save(self, path: str | os.PathLike) -> None:
    """Writes the set to an `.npz` file, whole or not at all."""
    whitening = {} if self.whitening is None else self.whitening._asdict()
    with writing(Path(path), "wb") as file:
      np.savez(
        file,
        images=np.asarray(self.images, np.float32),
        labels=np.asarray(self.labels, np.int32),
        metadata=np.array(json.dumps(self.metadata)),
        **{WEIGHTS + name: array for name, array in flatten_dict(self.weights, sep="/").items()},
        **{WHITENING + name: array for name, array in whitening.items()},
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
      with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
      metadata = json.loads(str(arrays["metadata"]))
    except KeyError:
      raise _damaged(path, "has no 'metadata'") from None
    except Exception as error:  # a damaged file may raise anything
      raise UserError(
        f"synthetic set {path}: corrupt ({_first_line(error)}); use another"
      ) from None
    _check(path, arrays, metadata)
    _check_whitening(path, arrays, metadata)
    weights, whitening = unflatten_dict(_below(WEIGHTS, arrays), sep="/"), None
    if found := _below(WHITENING, arrays):
      whitening = Whitening(*(found[name] for name in Whitening._fields))
    loaded = cls(arrays["images"], arrays["labels"], metadata, weights, whitening)
    _check_formation(path, loaded)
    return loaded


def _below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The arrays whose names begin so, by what follows in their names."""
  return {
    name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)
  }


def _damaged(path: Path, problem: str) -> UserError:
  return UserError(f"synthetic set {path}: {problem}; give a synthetic.npz written by dcjax")


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0]


def _check(path: Path, arrays: dict[str, np.ndarray], metadata: Any) -> None:
  """Raises `UserError` if the content of a file is not a synthetic set."""

  def fail(problem):
    raise _damaged(path, problem)

  if missing := [key for key in KEYS if key not in arrays]:
    fail(f"has no '{missing[0]}'")
  if not isinstance(metadata, dict):
    fail("its metadata are not a JSON object")
  if missing := [key for key in METADATA if key not in metadata]:
    fail(f"its metadata have no '{missing[0]}'")
  if not isinstance(metadata["config"], dict):
    fail("its config is not a JSON object")
  images, labels = arrays["images"], arrays["labels"]
  if images.dtype != np.float32 or images.ndim != 5 or not images.size:
    fail(f"images are {images.dtype} {images.shape}, not float32 [classes, ipc, H, W, C]")
  if labels.dtype != np.int32 or labels.shape != images.shape[:2]:
    fail(f"labels are {labels.dtype} {labels.shape}, not int32 {images.shape[:2]}")
  if not np.isfinite(images).all():
    fail("images hold numbers that are not finite")
  classes, channels = images.shape[0], images.shape[-1]
  names = metadata["class_names"]
  if not isinstance(names, list) or len(names) != classes:
    fail(f"its class_names are not {classes} names")
  if (labels != np.arange(classes)[:, None]).any():
    fail("its labels are not the numbers of the rows that their images stand in")
  if metadata["range"] not in RANGES:
    fail(f"its range is '{metadata['range']}', not one of {', '.join(RANGES)}")
  for field, least in (("mean", -np.inf), ("std", 0.0)):
    if not _are_numbers(metadata[field], channels, least):
      fail(f"its {field} is not {channels} numbers, one for each channel")


def _check_whitening(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
  """Raises `UserError` if there is no whitening where there should be one, or one of other images.

  Files that were written before there were whitenings have no `zca`.
  """
  found, zca, kind = _below(WHITENING, arrays), metadata.get("zca", False), metadata["range"]
  if bool(found) != zca or kind == ("normalised" if zca else "whitened"):
    has = "a whitening" if found else "no whitening"
    raise _damaged(path, f"its range is '{kind}' and its zca {zca}, but it has {has}")
  size = arrays["images"][0, 0].size
  shapes = {"mean": (size,), "matrix": (size, size), "inverse": (size, size)}
  for name, shape in shapes.items() if found else ():
    array = found.get(name, np.empty(()))
    if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
      raise _damaged(path, f"its {WHITENING}{name} is not finite float32 {shape}")


def _check_formation(path: Path, synthetic: SyntheticSet) -> None:
  """Raises `UserError` if a set does not say how to decode it."""
  try:
    decoder = synthetic.formation()
    expected = jax.eval_shape(decoder.init, jax.random.key(0))
  except (UserError, TypeError) as error:
    raise _damaged(path, f"its formation is not one ({error})") from None
  shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), expected)
  if jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), synthetic.weights) != shapes:
    raise _damaged(path, "its weights are not those of its formation")


def _are_numbers(values: Any, count: int, least: float) -> bool:
  """Whether `values` is a list of `count` finite numbers greater than `least`."""
  if not isinstance(values, list) or len(values) != count:
    return False
  return all(isinstance(v, int | float) and np.isfinite(v) and v > least for v in values)
