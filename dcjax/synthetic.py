"""`SyntheticSet`: condensed images with all that is needed to use them, and its file."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcjax.errors import UserError
from dcjax.files import expand, writing

RANGES = ("normalised", "unit")  # (pixel - mean) / std, or pixels in [0, 1]
KEYS = ("images", "labels", "metadata")
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
    images: `[classes, ipc, H, W, C]` float32, in the range that the metadata name.
    labels: `[classes, ipc]` int32; row k holds the images of class k.
    metadata: what the numbers mean and where they come from, as JSON holds it. `range` is
      'normalised', (pixel - mean) / std, or 'unit', pixels in [0, 1]; `mean` and `std` are
      those of pixels in [0, 1], one for each channel.
  """

  images: np.ndarray
  labels: np.ndarray
  metadata: dict[str, Any]

  def pixels(self) -> np.ndarray:
    """The images as a person sees them: uint8 `[classes, ipc, H, W, C]`."""
    unit = self.images
    if self.metadata["range"] == "normalised":
      unit = unit * np.float32(self.metadata["std"]) + np.float32(self.metadata["mean"])
    return np.round(np.clip(unit, 0, 1) * 255).astype(np.uint8)

  def normalised(self) -> np.ndarray:
    """The images as a network takes them: `[classes, ipc, H, W, C]`."""
    if self.metadata["range"] == "normalised":
      return self.images
    return (self.images - np.float32(self.metadata["mean"])) / np.float32(self.metadata["std"])

  def flat(self) -> tuple[np.ndarray, np.ndarray]:
    """What a network trains on: normalised images `[N, H, W, C]` and labels `[N]`."""
    images = self.normalised()
    return images.reshape(-1, *images.shape[2:]), self.labels.reshape(-1)

  def save(self, path: str | os.PathLike) -> None:
    """Writes the set to an `.npz` file, whole or not at all."""
    with writing(Path(path), "wb") as file:
      np.savez(
        file,
        images=np.asarray(self.images, np.float32),
        labels=np.asarray(self.labels, np.int32),
        metadata=np.array(json.dumps(self.metadata)),
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
      raise UserError(
        f"synthetic set {path}: has no 'metadata'; give a synthetic.npz written by dcjax"
      ) from None
    except Exception as error:  # a damaged file may raise anything
      raise UserError(
        f"synthetic set {path}: corrupt ({_first_line(error)}); use another"
      ) from None
    _check(path, arrays, metadata)
    return cls(arrays["images"], arrays["labels"], metadata)


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0]


def _check(path: Path, arrays: dict[str, np.ndarray], metadata: Any) -> None:
  """Raises `UserError` if the content of a file is not a synthetic set."""

  def fail(problem):
    raise UserError(f"synthetic set {path}: {problem}; give a synthetic.npz written by dcjax")

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


def _are_numbers(values: Any, count: int, least: float) -> bool:
  """Whether `values` is a list of `count` finite numbers greater than `least`."""
  if not isinstance(values, list) or len(values) != count:
    return False
  return all(isinstance(v, int | float) and np.isfinite(v) and v > least for v in values)
