"""What `dcjax plot` reads of runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data
from dcjax.common.errors import UserError
from dcjax.common.files import expand
from dcjax.common.json_files import OBJECT, Shape, read_json
from dcjax.figures.curves import method_name
from dcjax.sets.synthetic import SyntheticSet

MATCHING = ("dc", "dsa")  # methods that compare gradients


def existing(path: str | os.PathLike) -> Path:
  """The folder of a run, which must be there."""
  folder = expand("workdirs", path)
  if not folder.is_dir():
    raise UserError(f"workdirs: no folder {folder}; give the --workdir of a run")
  return folder


def images(folder: Path) -> dict[int, Path]:
  """The sets that a run has saved, by iteration, in order."""
  files = (folder / "images").glob("*.npz")
  return {int(file.stem): file for file in sorted(files) if file.stem.isdecimal()}


def last(folder: Path) -> tuple[int, SyntheticSet]:
  """The latest images of a run, and how many iterations made them."""
  files = images(folder)
  if files:
    return max(files), SyntheticSet.load(files[max(files)])
  return 0, SyntheticSet.load(folder / "synthetic.npz")


def check_fits(folder: Path, synthetic: SyntheticSet, dataset: data.Dataset) -> None:
  """Raises `UserError` if the set of a run is not one of a dataset's."""
  names, shape = list(dataset.class_names), dataset.image_shape
  if synthetic.metadata["class_names"] != names or synthetic.images.shape[2:] != shape:
    raise UserError(
      f"data_dir: dataset '{dataset.name}' there has other classes or images than the run in "
      f"{folder}; give the data_dir of the dataset that it was made from"
    )


def matching_config(folder: Path) -> ConfigDict:
  """The config of a run that matches gradients, for this machine."""
  method = read(folder, "config.json").get("method")
  if method not in MATCHING:
    raise UserError(
      f"workdirs: {folder} is a run of {method}, which matches no gradients; give one of "
      f"{' or '.join(MATCHING)}"
    )
  return config_of(folder)


def config_of(folder: Path) -> ConfigDict:
  """The config of a run, for this machine."""
  config = config_lib.of_file(read(folder, "config.json"))
  config.dataset.zca = False  # the images' file holds the whitening
  return config_lib.resolve(config)


def titles(folders: Sequence[Path], labels: Sequence[str]) -> Sequence[str]:
  """The labels given, or else the methods if these differ, or the names of the folders."""
  if labels and len(labels) != len(folders):
    raise UserError(f"labels: {len(labels)} for {len(folders)} runs; give one for each")
  if labels:
    return labels
  configs = [read(folder, "config.json") for folder in folders]
  methods = [method_name(str(config.get("method", ""))) for config in configs]
  names = [folder.resolve().name for folder in folders]
  for found in (methods, names):
    if len(set(found)) == len(folders):
      return found
  return [str(folder) for folder in folders]


def read(folder: Path, name: str, shape: Shape = OBJECT) -> dict[str, Any]:
  """A JSON file of a run."""
  if not (folder / name).exists():
    remedy = "let the run finish" if name == "summary.json" else "give the --workdir of a run"
    raise UserError(f"workdirs: {folder} holds no {name}; {remedy}")
  return read_json(folder / name, shape, "give another run", field="workdirs")
