"""A set written for other programs: image files, tensors, a Hugging Face table; and its card."""

import csv
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcjax.commands.exchange.card import card
from dcjax.common.errors import UserError, gist
from dcjax.common.files import writing
from dcjax.sets.synthetic import SyntheticSet


def clipped_share(synthetic: SyntheticSet) -> float:
  """The share of the stored numbers that are no pixels in [0, 1], which image files cannot hold."""
  unit = synthetic.unit_pixels()
  return float(((unit < 0) | (unit > 1)).mean())


def png(synthetic: SyntheticSet, folder: Path) -> None:
  """`CLASS/000.png` as stored, `labels.csv` with each file's labels, and the card."""
  pixels, names = synthetic.pixels(), _folders(synthetic.metadata["class_names"])
  rows: list[list[Any]] = []
  for label, (name, images) in enumerate(zip(names, pixels, strict=True)):
    (folder / name).mkdir(parents=True)
    for number, image in enumerate(images):
      file = f"{name}/{number:03d}.png"
      _picture(image).save(folder / file)
      soft = synthetic.soft_labels
      rows.append([file, label, *([] if soft is None else soft[label, number].tolist())])
  with writing(folder / "labels.csv") as stream:
    soft_names = [] if synthetic.soft_labels is None else [f"soft_{name}" for name in names]
    csv.writer(stream, lineterminator="\n").writerows([["file", "label", *soft_names], *rows])
  _write(folder / "README.md", card(synthetic))


def pt(synthetic: SyntheticSet, file: Path) -> None:
  """A dict of plain tensors, `images` [N, C, H, W] and what `tensors` names; `metadata` as JSON."""
  torch = _library("torch", "pip install 'dcjax[torch]'")
  content = {name: torch.tensor(array) for name, array in tensors(synthetic).items()}
  with writing(file, "wb") as stream:
    torch.save({**content, "metadata": _metadata(synthetic)}, stream)


def safetensors(synthetic: SyntheticSet, file: Path) -> None:
  """The same as safetensors."""
  library = _library("safetensors.numpy", "pip install safetensors")
  content = library.save(tensors(synthetic), {"metadata": _metadata(synthetic)})
  with writing(file, "wb") as stream:
    stream.write(content)


def hf(synthetic: SyntheticSet, folder: Path) -> None:
  """A parquet file of `image`, `label` and, if there are any, `soft_label`; and the card."""
  library = _library("datasets", "pip install 'dcjax[hf]'")
  names, pixels = synthetic.metadata["class_names"], synthetic.pixels()
  flat = pixels.reshape(-1, *pixels.shape[2:])
  columns: dict[str, Any] = {
    "image": [_picture(image) for image in flat],
    "label": synthetic.labels.reshape(-1).tolist(),
  }
  features = {"image": library.Image(), "label": library.ClassLabel(names=names)}
  if synthetic.soft_labels is not None:
    columns["soft_label"] = synthetic.soft_labels.reshape(len(flat), -1).tolist()
    features["soft_label"] = library.Sequence(library.Value("float32"), length=len(names))
  folder.mkdir(parents=True)
  table = library.Dataset.from_dict(columns, features=library.Features(features))
  table.to_parquet(str(folder / "train-00000-of-00001.parquet"))
  _write(folder / "README.md", card(synthetic))


def data_card(synthetic: SyntheticSet, file: Path) -> None:
  """The card alone."""
  _write(file, card(synthetic))


# By what `dcjax export --format` takes.
FORMATS: Mapping[str, Callable[[SyntheticSet, Path], None]] = {
  "png": png,
  "pt": pt,
  "safetensors": safetensors,
  "hf": hf,
  "card": data_card,
}
_LONGEST = 200  # bytes of a folder's name
LOSSY = ("png", "hf")  # those that store whole pixels


def tensors(synthetic: SyntheticSet) -> dict[str, np.ndarray]:
  """What a program in PyTorch trains on.

  Returns:
    `images` float32 `[N, C, H, W]`, decoded and normalised (and whitened) as networks see them;
    `labels`, int64 `[N]` or of soft ones float32 `[N, classes]` as a loss takes them; `mean` and
    `std` of pixels; of a whitened set `whitening.mean`, `whitening.matrix` and `whitening.unit`.
  """
  images, labels = synthetic.flat()
  found = {
    "images": np.ascontiguousarray(images.transpose(0, 3, 1, 2)),
    "labels": labels.astype(np.int64) if labels.ndim == 1 else labels,
    "mean": np.asarray(synthetic.metadata["mean"], np.float32),
    "std": np.asarray(synthetic.metadata["std"], np.float32),
  }
  if synthetic.whitening is not None:
    parts = synthetic.whitening._asdict()
    found |= {f"whitening.{name}": np.asarray(parts[name]) for name in ("mean", "matrix", "unit")}
  return found


def _picture(pixels: np.ndarray) -> Image.Image:
  """Pixels uint8 `[H, W, C]` as Pillow has them, in grey if there is one channel."""
  return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _metadata(synthetic: SyntheticSet) -> str:
  return json.dumps(synthetic.metadata | {"training": synthetic.training()})


def _folders(names: list[str]) -> list[str]:
  """Names of folders: those of the classes, or numbers where one cannot be a folder's name."""
  usual = all(map(_is_folder, names)) and len(set(map(str.casefold, names))) == len(names)
  return names if usual else [str(k) for k in range(len(names))]


def _is_folder(name: str) -> bool:
  """Whether a folder can be called so, also beside the other files."""
  ours = name.casefold() in ("labels.csv", "readme.md")
  fits = 0 < len(name.encode(errors="replace")) <= _LONGEST and name.isprintable()
  return fits and not ours and "/" not in name and not name.startswith(".")


def _library(name: str, remedy: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise UserError(f"--format: it needs {name} ({gist(error)}); {remedy}") from error


def _write(file: Path, text: str) -> None:
  with writing(file) as stream:
    stream.write(text)
