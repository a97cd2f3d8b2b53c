"""What every row of a comparison has in common, and the images that each row trains on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data, evaluation
from dcjax.commands.evaluate import check_fits
from dcjax.commands.select import Selection
from dcjax.common.digests import of_arrays
from dcjax.common.errors import UserError
from dcjax.common.files import expand
from dcjax.data import Dataset
from dcjax.methods import coreset
from dcjax.nn import training
from dcjax.run.progress import logger
from dcjax.sets.synthetic import SyntheticSet

EQUAL = ("images", "bytes")
CONTROLS = tuple(name for name in coreset.SELECTIONS if name != "optimal_random")
HARD, SOFT = "hard", "soft"
LABELS = {HARD: "dsa", SOFT: "soft"}  # by whose protocol networks are trained, by default


class Source(NamedTuple):
  """Where the images of a row come from.

  Attributes:
    name: what it is called in the table.
    digest: of the set; empty for real images that were selected.
    ipc: stored images per class.
    stored_bytes: of the images as float32, labels, and weights that decode them.
    draws: `draws() -> each images [N, H, W, C]`, normalised, class by class; of a set one.
  """

  name: str
  digest: str
  ipc: int
  stored_bytes: int
  draws: Callable[[], Iterable[np.ndarray]]

  @property
  def control(self) -> bool:
    """Whether the images are real ones that were selected."""
    return not self.digest


def read(paths: Sequence[str]) -> dict[str, SyntheticSet]:
  """The sets, by names that tell them apart.

  Raises:
    UserError: one is named twice, or they are not of one dataset, whitening and shape.
  """
  sets: dict[str, SyntheticSet] = {}
  for path in paths:
    file = expand("--sets", path)
    name = file.parent.name if file.name == "synthetic.npz" else file.stem
    if name in sets or name in CONTROLS:
      name = str(file)
    if name in sets:
      raise UserError(f"--sets: {name} is named twice; name each set once")
    sets[name] = SyntheticSet.load(file)
  first, *others = sets.items()
  for name, other in others:
    for what, of in _MUST_AGREE.items():
      ours, theirs = of(first[1]), of(other)
      if ours != theirs:
        raise UserError(
          f"--sets: {first[0]} has {what} {ours}, {name} {theirs}; compare sets that agree"
        )
  return sets


_MUST_AGREE: dict[str, Callable[[SyntheticSet], Any]] = {
  "the dataset": lambda found: found.metadata["dataset"],
  "images of": lambda found: list(found.images.shape[2:]),
  "classes": lambda found: list(found.metadata["class_names"]),
  "the whitening": lambda found: _named_whitening(found),
}


def _named_whitening(synthetic: SyntheticSet) -> str:
  if synthetic.whitening is None:
    return "none"
  return str(synthetic.metadata.get("zca_variant", "frepo"))


def control_ipc(sets: dict[str, SyntheticSet], equal: str) -> int:
  """Real images of each class that are as much as each of the sets.

  Args:
    sets: by their names.
    equal: 'images' that are stored, or 'bytes'.

  Raises:
    UserError: the sets are not equal.
  """
  amounts = {
    name: each.images.shape[1] if equal == "images" else each.stored_bytes()
    for name, each in sets.items()
  }
  first = next(iter(sets.values()))
  image = first.images[0, 0].nbytes * first.images.shape[0] if equal == "bytes" else 1
  least, most = min(amounts, key=amounts.__getitem__), max(amounts, key=amounts.__getitem__)
  if amounts[least] // image != amounts[most] // image:
    unit = "images of each class" if equal == "images" else "bytes"
    raise UserError(
      f"--equal: {least} stores {amounts[least]} {unit}, {most} {amounts[most]}; compare sets that "
      "store as much"
    )
  return max(1, amounts[least] // image)


def smallest(sets: dict[str, SyntheticSet]) -> int:
  """Stored images of a class in the set that has the fewest, by which batches and steps go."""
  return min(each.images.shape[1] for each in sets.values())


def of_sets(sets: dict[str, SyntheticSet], dataset: Dataset) -> list[Source]:
  """The sets as rows; what they ask of labels and step size is left out, and that is said.

  Raises:
    UserError: one is not of the dataset, or two are the same.
  """
  found: dict[str, Source] = {}
  for name, synthetic in sets.items():
    check_fits(synthetic, dataset)
    if synthetic.training() or synthetic.soft_labels is not None:
      logger.warning(
        "%s: its own soft labels and step size are not used here, where all rows are trained "
        "alike; `dcjax evaluate` uses them", name,
      )  # fmt: skip
    digest = of_arrays((synthetic.images, synthetic.weights, synthetic.whitening))
    if digest in found:
      raise UserError(f"--sets: {found[digest].name} and {name} hold the same; name each set once")
    images, stored, ipc = synthetic.flat()[0], synthetic.stored_bytes(), synthetic.images.shape[1]
    found[digest] = Source(name, digest, ipc, stored, partial(tuple, [images]))
  return list(found.values())


def of_controls(
  names: Sequence[str],
  config: ConfigDict,
  dataset: Dataset,
  ipc: int,
  draws: int,
  wait: Callable[[Any], Any],
) -> list[Source]:
  """Selections of real images as rows; draw d is that of the seed after the d-th."""

  def chosen(name: str, draw: int) -> Selection:
    chooser = config_lib.default(name)
    for section in ("dataset", "network", "compute"):
      chooser[section] = config[section]
    chooser.seed, chooser.ipc = config.seed + draw, ipc
    try:
      return Selection(config_lib.resolve(chooser), dataset, Path())
    except UserError as error:
      raise UserError(f"--controls: {name}: {error}; or leave it out") from None

  def images(name: str) -> Iterator[np.ndarray]:
    for draw in range(draws):
      yield chosen(name, draw).choose(wait).flat()[0]

  for name in names:
    chosen(name, 0)  # what no draw can be is refused before the work
  stored = dataset.num_classes * ipc * int(np.prod(dataset.image_shape)) * 4
  return [Source(name, "", ipc, stored, partial(images, name)) for name in names]


def split(dataset: Dataset, count: int, seed: int) -> tuple[Dataset, Dataset]:
  """A dataset without `count` of its training images, and the same that is tested on those.

  Args:
    dataset: with images in memory.
    count: of images, drawn from all classes together.
    seed: decides which.

  Raises:
    UserError: too few are left.
  """
  total = len(dataset.labels)
  if count > total // 2:
    raise UserError(f"--validation: {count} of {total} training images; give half or fewer")
  order = np.asarray(jax.random.permutation(jax.random.key(seed), total))
  kept, held = np.sort(order[count:]), order[:count]
  labels = np.asarray(dataset.labels)
  left = np.bincount(labels[kept], minlength=dataset.num_classes)
  if not left.all():
    raise UserError(
      f"--validation: {count} images leave none of class "
      f"'{dataset.class_names[int(left.argmin())]}'; give fewer"
    )
  rest = data.take(dataset, kept, labels[kept], dataset.num_classes)
  return rest, rest.replace(test_images=dataset.images[held], test_labels=dataset.labels[held])  # type: ignore[attr-defined]


def alike(
  settings: evaluation.EvaluationSettings, stored: int, decoded: int
) -> tuple[evaluation.EvaluationSettings, int, int]:
  """Settings by which a row takes the batches and the steps of all others, its steps, and theirs.

  Its own are fewer where that many are no whole passes over its images, and more where they are
  less than one.

  Args:
    settings: of the protocol, for as many images as are stored.
    stored: images of a set, all classes together.
    decoded: images that networks see of the row.
  """
  batch, steps = evaluation.batches(settings, stored)
  each = training.steps_per_epoch(decoded, batch)
  epochs = max(1, settings.epochs * steps // each)
  checks = min(settings.checks, epochs)
  alike = settings._replace(batch=batch, epochs=epochs, checks=checks)
  return alike, epochs * each, settings.epochs * steps
