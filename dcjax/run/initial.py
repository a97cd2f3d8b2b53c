"""Where a run starts from a saved set (`init=FILE.npz`): the set, fitted to the run."""

from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcjax.common.errors import UserError
from dcjax.data import Dataset
from dcjax.data.zca import Whitening
from dcjax.methods import Method
from dcjax.methods.definition import names_file
from dcjax.methods.setup import decoder
from dcjax.run import experiment
from dcjax.sets.formation import Stored
from dcjax.sets.synthetic import SyntheticSet

COPY = "init.npz"  # of the set, in the folder of the run: the file itself may go


def find(config: ConfigDict, folder: Path) -> SyntheticSet | None:
  """The set that a run starts from, if its config names one.

  Args:
    config: of the run.
    folder: of the run; the copy there counts, once the run has started.
  """
  if not names_file(config.init):
    return None
  copy = folder / COPY
  started = copy.exists() and (folder / "config.json").exists()
  try:
    return SyntheticSet.load(copy if started else config.init)
  except UserError as error:
    raise UserError(f"init: {error}") from None


def stored(synthetic: SyntheticSet, config: ConfigDict, dataset: Dataset) -> Stored:
  """What a set stores, in the range in which a run stores its own.

  Raises:
    UserError: the set has other classes or shapes, another formation, or a range that cannot be
      turned into the run's.
  """

  def differ(what: str, theirs: Any, ours: Any) -> NoReturn:
    raise UserError(
      f"init: {config.init} has {what} {theirs}, this run {ours}; give a set that fits"
    )

  if synthetic.soft_labels is not None:
    differ("labels of kind", synthetic.metadata["label_kind"], "hard ones")
  forming, metadata = decoder(config, dataset), synthetic.metadata
  ours = (dataset.num_classes, config.ipc, *dataset.image_shape)
  if synthetic.images.shape != ours:
    differ("[classes, ipc, H, W, C]", list(synthetic.images.shape), list(ours))
  for theirs, name in zip(metadata["class_names"], dataset.class_names, strict=True):
    if theirs != name:
      differ("the class", theirs, name)
  sides = dataset.image_shape[:2]
  of_file, of_run = (
    _formation(fields, sides) for fields in (metadata["formation"], forming.metadata())
  )
  if of_file != of_run:
    differ("the formation", of_file, of_run)
  known, wanted = metadata["range"], experiment.image_range(forming, dataset)
  scale = [metadata["mean"], metadata["std"]]
  same = known == wanted and np.allclose(scale, [forming.mean, forming.std], atol=1e-4)
  if "whitened" in (known, wanted):
    if not same or not same_whitening(synthetic, dataset.whitening):
      differ("the range", f"{known} by its own whitening", f"{wanted} by another or none")
    return synthetic.stored()
  if same or known == wanted == "unit":
    return synthetic.stored()
  if forming.name == "learnable":  # its weights are for images of their range
    differ(
      "weights for other images,", f"{known} {scale}", f"{wanted} {[forming.mean, forming.std]}"
    )
  mean, std = np.asarray(scale, np.float32)
  pixels = synthetic.images if known == "unit" else synthetic.images * std + mean
  ours_mean, ours_std = np.asarray([forming.mean, forming.std], np.float32)
  images = np.clip(pixels, 0, 1) if wanted == "unit" else (pixels - ours_mean) / ours_std
  return Stored(jnp.asarray(images), synthetic.weights)


def begin_with(stored: Stored, method: Method) -> Method:
  """A method whose first step puts a saved set in place of what it draws."""
  first, *others = method.start

  def run(nothing: None, *arguments: Any) -> Any:
    state, metrics = first.run(nothing, *arguments)
    return state._replace(stored=jax.tree.map(jnp.asarray, stored)), metrics

  return method._replace(start=(first._replace(run=run), *others))


def _formation(fields: dict[str, Any], sides: tuple[int, ...]) -> dict[str, Any]:
  """The fields of a formation that matter, under a name that all names of the same one share."""
  if fields["factor"] == 1 and fields["name"] != "learnable":
    return {"name": "identity"}
  if fields["name"] == "partition" and not any(side % fields["factor"] for side in sides):
    fields = fields | {"name": "uniform"}
  return {k: v for k, v in fields.items() if k != "bound" or fields["name"] == "bounded"}


def same_whitening(synthetic: SyntheticSet, whitening: Whitening | None) -> bool:
  """Whether a set is whitened so, up to rounding; not where there is none."""
  if synthetic.whitening is None or whitening is None:
    return False
  pairs = zip(synthetic.whitening, jax.tree.map(np.asarray, whitening), strict=True)
  return all(np.allclose(*pair, atol=1e-4) for pair in pairs)
