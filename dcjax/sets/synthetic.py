"""`SyntheticSet`: condensed images with all that is needed to use them."""

import base64
import html
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from PIL import Image

from dcjax.common.archive import Archive
from dcjax.common.errors import UserError
from dcjax.common.files import expand, writing
from dcjax.common.types import Params
from dcjax.data import class_names
from dcjax.data.zca import Whitening
from dcjax.sets import formation, set_file, sheet
from dcjax.sets import labels as soft
from dcjax.sets.formation import Formation, Stored
from dcjax.sets.set_file import FORMAT, KEYS, SOFT, WEIGHTS, WHITENING


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

  def class_names(self) -> list[str]:
    """The names of the classes as people read them."""
    return class_names.readable(self.metadata["dataset"], self.metadata["class_names"])

  def show(self) -> Image.Image:
    """The stored images as one picture, a row for each class; a notebook displays it."""
    return sheet.picture(self)

  def _repr_html_(self) -> str:
    """What a notebook shows of a set: what it is, and its images."""
    stream = io.BytesIO()
    self.show().save(stream, "PNG")
    picture = base64.b64encode(stream.getvalue()).decode()
    text = html.escape(self.describe())
    return (
      f'<figure style="margin: 0"><figcaption>{text}</figcaption>'
      f'<img alt="{text}" src="data:image/png;base64,{picture}" style="max-width: 100%"></figure>'
    )

  def describe(self) -> str:
    """What the set is, in one line."""
    about, (classes, ipc, *shape) = self.metadata, self.images.shape
    iterations = f" after {about['iteration']} iterations" if about.get("iteration") else ""
    decoded = self.formation().decoded(ipc)
    images = f"{ipc} images" + (f", decoded to {decoded}," if decoded != ipc else "")
    return (
      f"{about['method']} on {about['dataset']}{iterations}: {classes} classes, {images} each, "
      f"{'x'.join(map(str, shape))}, {about.get('label_kind', 'hard')} labels, "
      f"{self.stored_bytes():,} bytes"
    )

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
        f"synthetic set {path}: corrupt ({set_file.first_line(error)}); use another"
      ) from None

  @classmethod
  def _of(cls, path: Path, archive: Archive) -> "SyntheticSet":
    """The set in a file, whose arrays are read when all has been checked that is said of them."""
    metadata = set_file.read_metadata(path, archive)
    headers = archive.headers
    set_file.check_description(path, headers, metadata)
    set_file.check_labels(path, headers, metadata)
    set_file.check_whitening(path, headers, metadata)
    described = cast(tuple[Any, Any], (headers["images"], headers["labels"]))
    set_file.check_formation(path, cls(*described, metadata, set_file.weights_of(headers)))
    arrays = {name: archive.read(name) for name in headers if name != "metadata"}
    set_file.check_content(path, arrays, metadata)
    found = set_file.below(WHITENING, arrays)
    whitening = Whitening(**found) if found else None
    weights, labels = set_file.weights_of(arrays), arrays.get(SOFT)
    return cls(arrays["images"], arrays["labels"], metadata, weights, whitening, labels)
