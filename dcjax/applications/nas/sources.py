"""What the networks of an architecture search are trained on, and what they are chosen by."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data, evaluation
from dcjax.applications.nas.fields import EARLY_STOPPING, WHOLE
from dcjax.commands.evaluate import check_fits
from dcjax.commands.select import Selection, Wait
from dcjax.common.errors import UserError
from dcjax.common.types import Array, Key
from dcjax.data import Dataset
from dcjax.figures.curves import method_name
from dcjax.run.experiment import Keys
from dcjax.run.initial import same_whitening
from dcjax.sets.synthetic import SyntheticSet


class Split(NamedTuple):
  """Training images, and those that networks are chosen by.

  Attributes:
    train: the dataset without what is held out.
    scored: the same, with what is held out before its test images.
    held: how many images are held out.
  """

  train: Dataset
  scored: Dataset
  held: int


def split(dataset: Dataset, key: Key, share: float) -> Split:
  """Holds a random share of the training images out.

  Raises:
    UserError: nothing is held out, or nothing is left of a class.
  """
  labels = np.asarray(dataset.labels)
  held = round(share * len(labels))
  order = np.asarray(jax.random.permutation(key, len(labels)))
  out, kept = order[:held], np.sort(order[held:])  # sorted by class again
  sizes = np.bincount(labels[kept], minlength=dataset.num_classes)
  if not held or not sizes.all():
    raise UserError(
      f"search.validation: {share} of {len(labels)} training images are {held}, which leaves "
      f"{sizes.min()} of some class to train on; give another share"
    )
  train = data.take(dataset, kept, labels[kept], dataset.num_classes)
  scored = replace(
    train,
    test_images=jnp.concatenate([dataset.images[out], dataset.test_images]),
    test_labels=jnp.concatenate([dataset.labels[out], dataset.test_labels]),
  )
  return Split(train, scored, held)


class Source(NamedTuple):
  """What networks are trained on, and how.

  Attributes:
    name: for people.
    folder: for files; named by what is in the set.
    images: `[N, H, W, C]`, float32 normalised, or uint8 of the dataset.
    labels: int32 `[N]`, or soft ones `[N, classes]`.
    settings: of the training, with what the set asks of it.
    stored: how many images must be kept for it.
    drawn: images of an epoch that are drawn from all; None: an epoch is all of them.
  """

  name: str
  folder: str
  images: Array
  labels: Array
  settings: evaluation.EvaluationSettings
  stored: int
  drawn: int | None = None

  @property
  def steps(self) -> int:
    """Steps of one training."""
    epoch = len(self.images) if self.drawn is None else self.drawn
    return self.settings.epochs * evaluation.batches(self.settings, epoch)[1]

  @property
  def program(self) -> Any:
    """What sets have in common that one program trains on: also their labels, unless soft."""
    labels = self.folder if self.labels.ndim > 1 else ""
    return self.images.shape, self.images.dtype, labels, self.settings, self.drawn


class Sources:
  """All that a config names, and saved sets beside it."""

  def __init__(
    self, config: ConfigDict, dataset: Dataset, files: Mapping[str, SyntheticSet], path: Path
  ):
    """Checks everything; nothing is chosen or written yet.

    Args:
      config: of the search.
      dataset: as it was loaded.
      files: saved sets, by their paths.
      path: the folder for coresets.

    Raises:
      UserError: the config or a file does not fit the data.
    """
    self._config, self._files, self._path = config, files, path
    # A stream of its own beside the two that a selection splits off.
    key = jax.random.fold_in(Keys.from_seed(config.seed).loop, 2)
    self.split = split(dataset, key, config.search.validation)
    self.settings = config_lib.evaluation_settings(config.evaluation)
    for file, synthetic in files.items():
      _check(file, synthetic, dataset)
    methods = [name for name in config.search.sets if name not in (EARLY_STOPPING, WHOLE)]
    self._selections = {method: self._selection(method) for method in methods}

  def proxies(self, wait: Wait) -> Iterator[Source]:
    """All but the whole training set; coresets that are not there yet are chosen first."""
    sets = {name: self._coreset(name, wait) for name in self._selections} | dict(self._files)
    methods = {name: method_name(synthetic.metadata["method"]) for name, synthetic in sets.items()}
    times = Counter(methods.values())
    for name, synthetic in sets.items():
      method = methods[name]
      yield self._of_set(method if times[method] == 1 else f"{method} ({name})", synthetic)
    if EARLY_STOPPING in self._config.search.sets:
      yield self._early_stopping()

  def whole(self) -> Source:
    """All images that are left to train on, in full."""
    fields, train = self._config.search, self.split.train
    settings = self.settings._replace(
      epochs=fields.whole_epochs, augmentation=fields.whole_augmentation, cutmix=0.0
    )
    return Source(WHOLE, WHOLE, train.images, train.labels, settings, len(train.labels))

  def _of_set(self, name: str, synthetic: SyntheticSet) -> Source:
    images, labels = synthetic.flat()
    content = images.tobytes()
    if synthetic.soft_labels is not None:
      content += labels.tobytes()
    folder = f"set-{hashlib.sha256(content + _asked(synthetic)).hexdigest()[:12]}"
    arrays = jnp.asarray(images), jnp.asarray(labels)
    settings = self.settings.asked(synthetic.training())
    return Source(name, folder, *arrays, settings, synthetic.labels.size)

  def _early_stopping(self) -> Source:
    """All images, for as many steps as a coreset takes (DC, section 3.2; DSA, section 4.6)."""
    train, drawn = self.split.train, self._config.ipc * self.split.train.num_classes
    stored = min(len(train.labels), self.settings.epochs * drawn)
    name, arrays = EARLY_STOPPING.replace("_", " "), (train.images, train.labels)
    return Source(name, EARLY_STOPPING, *arrays, self.settings, stored, drawn)

  def _selection(self, method: str) -> Selection:
    """A coreset of the images that are left to train on."""
    fields = self._config.to_dict()
    del fields["search"]
    fields["method"], fields["evaluation"]["networks"] = method, 0
    config = config_lib.resolve(config_lib.complete(fields))
    return Selection(config, self.split.train, self._path / method)

  def _coreset(self, method: str, wait: Wait) -> SyntheticSet:
    folder = self._path / method
    if not (folder / "summary.json").exists():
      folder.mkdir(parents=True, exist_ok=True)
      self._selections[method].finish(None, wait)
    return SyntheticSet.load(folder / "synthetic.npz")


def _asked(synthetic: SyntheticSet) -> bytes:
  """What a set asks of a training; nothing of most."""
  asked = synthetic.training()
  return json.dumps(asked, sort_keys=True).encode() if asked else b""


def _check(file: str, synthetic: SyntheticSet, dataset: Dataset) -> None:
  """Raises `UserError` if a saved set is not one of a dataset."""
  try:
    check_fits(synthetic, dataset)
  except UserError as error:
    raise UserError(f"{file}: {error}") from None
  zca = synthetic.whitening is not None
  if zca != (dataset.whitening is not None):
    raise UserError(f"{file}: its zca is {zca}; set dataset.zca={zca}, for all sets alike")
  if zca and not same_whitening(synthetic, dataset.whitening):
    variant = synthetic.metadata.get("zca_variant")
    raise UserError(
      f"{file}: it is whitened otherwise; set dataset.zca_variant={variant}, for all sets alike"
    )
