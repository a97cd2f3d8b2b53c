"""Pictures of `dcjax plot` for which networks see the sets of runs once more."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data, evaluation
from dcjax.commands import runs
from dcjax.commands.evaluate import load
from dcjax.common.activity import counted
from dcjax.common.errors import UserError, check_least, check_most
from dcjax.common.types import Array
from dcjax.config import flatten
from dcjax.config.numbers import MOST
from dcjax.data import Dataset
from dcjax.figures import consistency as of_neighbours
from dcjax.figures import matching_loss
from dcjax.methods import dc
from dcjax.methods.definition import from_fields
from dcjax.methods.setup import setup
from dcjax.nn import architectures, training
from dcjax.run import experiment, pretrained
from dcjax.run.experiment import Keys
from dcjax.run.initial import same_whitening
from dcjax.run.readers import read_log
from dcjax.sets.synthetic import SyntheticSet

# What runs must have in common to be measured by the same networks.
_DATA = ("dataset.",)
_MATCHING = (*_DATA, "method", "network.", "distance", "dsa.", "batch_real")


def matching(
  folders: Sequence[Path],
  *,
  sides: Sequence[str] = (),
  networks: int = 10,
  data_dir: str = "",
  cache_dir: str = "",
) -> Figure:
  """The matching loss of runs, by their images per class and by resolution (IDC, Figure 2).

  On the left it is that of the iterations. On the right it is measured on new networks, the same
  for all sets and resolutions, after the images have been made smaller and enlarged again.

  Args:
    folders: of runs of DC or DSA that differ in their images per class.
    sides: resolutions, in pixels; by default a quarter, a half, three quarters and all of a side.
    networks: how many are drawn.
    data_dir: where the dataset is on this machine; empty: the default.
    cache_dir: where it is kept once it is decoded; empty: the default.
  """
  _check_count("networks", networks)
  configs = [runs.matching_config(folder) for folder in folders]
  _check_alike(folders, configs, _MATCHING)
  counts = [config.ipc for config in configs]
  if len(set(counts)) < len(counts):
    raise UserError(f"workdirs: two runs have {_double(counts)} images per class; name one of them")
  config, dataset, sets = _sets(folders, configs, data_dir, cache_dir)
  resolutions = _sides(sides, dataset.image_shape[0])
  layout = experiment.strategy(config, dataset)
  measure = matching_loss.loss(setup(config, dataset, layout), from_fields(dc.DCSettings(), config))
  keys = [jax.random.fold_in(Keys.from_seed(config.seed).loop, n) for n in range(networks)]
  order = np.argsort(counts)
  curves = [(counts[number], _losses(folders[number])) for number in order]
  losses = np.zeros((len(folders), len(resolutions)))
  for row, number in counted(enumerate(order), "matching losses of runs", len(folders)):
    images = jnp.asarray(sets[number].decoded())
    for column, side in enumerate(resolutions):
      smaller = matching_loss.resized(images, side)
      losses[row, column] = np.mean([measure(smaller, dataset, key) for key in keys])
  return matching_loss.draw(curves, resolutions, losses)


def consistency(
  folders: Sequence[Path],
  *,
  labels: Sequence[str] = (),
  epochs: int = 5,
  data_dir: str = "",
  cache_dir: str = "",
) -> Figure:
  """How many neighbours of a synthetic image are real images of its class (IDM, Figure 4).

  The neighbours are the nearest by the features of the first run's network, trained on all real
  images. The paper does not say what network it takes.

  Args:
    folders: of runs on one dataset, a line each.
    labels: names of the lines; by default the methods, or the folders.
    epochs: passes over the real images; 0: a random network.
    data_dir: where the dataset is on this machine; empty: the default.
    cache_dir: where it is kept once it is decoded; empty: the default.
  """
  check_least("epochs", epochs, 0)
  check_most("epochs", epochs, MOST)
  titles = runs.titles(folders, labels)
  configs = [runs.config_of(folder) for folder in folders]
  _check_alike(folders, configs, _DATA)
  config, dataset, sets = _sets(folders, configs, data_dir, cache_dir)
  features = _features(config, dataset, epochs)
  real = features(dataset.images)
  counts = tuple(n for n in of_neighbours.COUNTS if n <= len(dataset.labels))
  found = []
  for title, synthetic in zip(titles, sets, strict=True):
    images, of_class = data.as_batch(synthetic.decoded())
    seen = features(images)
    shares = of_neighbours.ratios(seen, of_class, real, dataset.labels, counts=counts)
    found.append((title, np.asarray(shares)))
  return of_neighbours.draw(counts, found)


def _features(config: ConfigDict, dataset: Dataset, epochs: int) -> Callable[[Array], Array]:
  """What a network trained for so many epochs makes of images `[N, H, W, C]`,
  uint8 of the dataset or normalised.
  """
  layout = experiment.strategy(config, dataset)
  fields = architectures.at_evaluation(config.network, config.network.name)
  network = experiment.network(config, dataset, layout, **fields)
  key = Keys.from_seed(config.seed).init
  params = network.init(key)
  if epochs:
    settings = config_lib.evaluation_settings(config.evaluation)
    settings = settings._replace(epochs=epochs, networks=1, checks=1)
    params = pretrained.train(network, settings, layout, dataset, key).params
  block = layout.blocks(evaluation.TEST_BLOCK)

  def of_block(images):
    stored = images.dtype == jnp.uint8
    return network.apply(params, dataset.normalise(images) if stored else images)[1]

  return jax.jit(lambda images: training.in_blocks(of_block, images, block=block))


def _sets(
  folders: Sequence[Path], configs: Sequence[ConfigDict], data_dir: str, cache_dir: str
) -> tuple[ConfigDict, Dataset, list[SyntheticSet]]:
  """The first config, the dataset of all runs, and their latest sets."""
  config = configs[0]
  dataset = load(config, runs.read(folders[0], "config.json"), data_dir, cache_dir)
  sets = [runs.last(folder)[1] for folder in folders]
  for folder, synthetic in zip(folders, sets, strict=True):
    runs.check_fits(folder, synthetic, dataset)
    alike = synthetic.whitening is None and sets[0].whitening is None
    if not alike and not same_whitening(synthetic, sets[0].whitening):
      raise UserError(
        f"workdirs: {folder} is whitened otherwise than {folders[0]}; give runs that are alike"
      )
  return config, dataset.whitened(sets[0].whitening), sets


def _check_alike(
  folders: Sequence[Path], configs: Sequence[ConfigDict], fields: tuple[str, ...]
) -> None:
  """Raises `UserError` for runs that differ in some fields, named by how they begin."""
  local = config_lib.LOCAL
  kept = [
    {
      name: value
      for name, value in flatten(config.to_dict())
      if name.startswith(fields) and not name.startswith(local)
    }
    for config in configs
  ]
  for folder, found in zip(folders, kept, strict=True):
    different = sorted(name for name in found if found[name] != kept[0].get(name))
    if different:
      raise UserError(
        f"workdirs: {folders[0]} and {folder} differ in {', '.join(different)}; name runs that do "
        "not"
      )


def _losses(folder: Path) -> list[float]:
  """The losses of all iterations of a run."""
  losses = [record["loss"] for record in read_log(folder / "metrics.jsonl")[0] if "loss" in record]
  if not losses:
    raise UserError(f"workdirs: {folder} holds no metrics.jsonl with losses; give another run")
  return losses


def _sides(texts: Sequence[str], height: int) -> list[int]:
  """Resolutions as a user writes them."""
  if not texts:
    return sorted({max(1, quarter * height // 4) for quarter in (1, 2, 3, 4)})
  for text in texts:
    if not text.isdecimal() or not 1 <= int(text) <= height:
      raise UserError(f"sides: '{text}' is no number of pixels from 1 to {height}; give some")
  return sorted({int(text) for text in texts})


def _double(values: Sequence[int]) -> int:
  return next(value for value in values if list(values).count(value) > 1)


def _check_count(field: str, value: int) -> None:
  check_least(field, value, 1)
  check_most(field, value, MOST)
