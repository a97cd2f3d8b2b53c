"""The driver of `dcjax import`: a set of another program's file, and a short check of it."""

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data
from dcjax.commands.evaluate import bind
from dcjax.commands.exchange.adopt import adopt
from dcjax.commands.exchange.meaning import Meaning, settle
from dcjax.commands.exchange.readers import Found, read
from dcjax.common.errors import UserError, check_least, check_most, gist
from dcjax.common.files import check_new, expand
from dcjax.common.registry import names_object
from dcjax.config import presets
from dcjax.config.numbers import SMALLER
from dcjax.data.whitened import whiten
from dcjax.data.zca import VARIANTS
from dcjax.run.interrupt import Interrupts
from dcjax.run.progress import logger, working
from dcjax.sets.synthetic import SyntheticSet

# By layout: who writes it, unless the user or the file's name says so; and how they evaluate.
_METHODS = {"pair": "idc", "parts": "mtt"}
_PROTOCOLS = {"pair": "idc", "parts": "tm", "h5": "bptt"}
_RESULTS = re.compile(r"res_([A-Za-z]+)_")  # res_DM_CIFAR10_ConvNet_10ipc.pt
_NEAR_CHANCE = 1.3  # times it
_FAR_BEHIND = 0.7  # of what as many random images give
# How rough un-whitened images are beside real ones: where `kornia` is named for another variant of
# CIFAR-10's images, or another one for it, it is 0.55 to 0.58 and 2.7 to 3.1; crops that were
# enlarged have 0.7, mosaics of small images 2.4.
_SMOOTH, _ROUGH = 0.62, 2.5
_REAL = 1000  # images that they are compared with


def import_set(
  source: str,
  output: str,
  *,
  dataset: str,
  classes: Sequence[str] = (),
  side: int | None = None,
  test_resize: int = 0,
  data_dir: str = "",
  cache_dir: str = "",
  experiment: int = 0,
  method: str = "",
  licence: str = "",
  check_epochs: int = 100,
  **meaning: Any,
) -> SyntheticSet:
  """Reads a file of another program, writes it as a set, and trains one network on it.

  Args:
    source: the file or folder, of one of `readers.LAYOUTS`.
    output: the `.npz` file to write, not there yet.
    dataset: that the set was made of: as in presets, or a `dataset.name`.
    classes: of the dataset, in the order in which the file counts them, or a text file that names
      them, as `dataset.classes`; by default all, in the dataset's own order.
    side: height and width of a folder's images, as `dataset.side`.
    test_resize: short side of a folder's test images at first, as `dataset.test_resize`.
    data_dir: where that is on this machine.
    cache_dir: where it is kept once it is decoded.
    experiment: which, of a file of several.
    method: what made it, for tables; by default as the layout or the file's name says.
    licence: of the file, for the data card.
    check_epochs: of the network that is trained to see whether the set teaches anything; 0: none.
    **meaning: fields of `Meaning`.

  Returns:
    The set.

  Raises:
    UserError: the file or the dataset cannot be read, or they contradict what is said of them.
  """
  check_least("--check_epochs", check_epochs, 0)
  check_most("--check_epochs", check_epochs, SMALLER["evaluation.epochs"])
  if side is not None and not data.find(dataset).sided:
    raise UserError(
      f"--side: of images in folders and of hf, but --dataset={dataset} has its own; leave it out"
    )
  file = _new(output)
  found = read(source, experiment)
  where = {
    "data_dir": data_dir,
    "cache_dir": cache_dir,
    "classes": tuple(classes),
    "test_resize": test_resize,
  }
  if side is not None:
    where["side"] = side
  config = _config(dataset, where, _PROTOCOLS.get(found.layout, "dsa"))
  loaded = data.load(config.dataset)
  if dataset not in presets.DATASETS:
    config.network.depth = _depth(min(loaded.image_shape[:2]))
  settled = settle(Meaning(**meaning), found, loaded)
  whitening = None
  if settled.whitening:
    whitening = whiten(loaded, cache_dir, settled.whitening).whitening
  method = method or _method(found, Path(source).name)
  # The config is one of real images, whatever made the set: its fields are those of all methods.
  fields = config.to_dict() | {"ipc": len(found.images) // loaded.num_classes}
  about = {
    "method": method,
    "config": fields,
    "seed": config.seed,
    "source": {
      "file": Path(source).name,
      "sha256": _digest(expand("import", source)),
      "layout": found.layout,
      "licence": licence,
    },
  }
  synthetic = adopt(found, settled, loaded, whitening, about)
  if whitening is not None:
    _check_whitening(synthetic, loaded)
  try:
    synthetic.save(file)
  except OSError as error:
    raise UserError(
      f"--output: cannot write {file} ({gist(error)}); mend that and start again"
    ) from None
  if check_epochs:
    own = dataset if names_object(dataset) else ""
    _check(file, loaded.num_classes, check_epochs, data_dir, cache_dir, own)
  return synthetic


def _new(output: str) -> Path:
  file = expand("--output", output)
  check_new("--output", file)
  if file.suffix != ".npz":
    raise UserError(f"--output: {file} is no .npz file by its name; give one that is")
  return file


def _config(dataset: str, where: dict[str, Any], protocol: str) -> ConfigDict:
  """A config of the dataset, as that of a selection of real images.

  Args:
    dataset: as in presets, or a `dataset.name`.
    where: fields of `dataset` that say where it lies and which part of it is meant.
    protocol: of the evaluation.
  """
  config = config_lib.default("random")
  if dataset in presets.DATASETS:
    presets.take_dataset(config, dataset)
  else:
    config.dataset.name = dataset
  config.dataset.update(where)
  config.evaluation.protocol = protocol
  return config_lib.resolve(config)


def _depth(side: int) -> int:
  """Blocks of a ConvNet for images of so many pixels: 3 for 32, one more each time they double."""
  return max(1, round(math.log2(side / 4)))


def _method(found: Found, name: str) -> str:
  named = _RESULTS.match(name)
  return named.group(1).lower() if named else _METHODS.get(found.layout, "imported")


def _digest(path: Path) -> str:
  """Of a file; of a folder, of all files in it and their names."""
  digest = hashlib.sha256()
  files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
  for file in files:
    if path.is_dir():
      digest.update(str(file.relative_to(path)).encode())
    try:
      digest.update(file.read_bytes())
    except OSError as error:
      raise UserError(f"import: cannot read {file} ({gist(error)}); mend that") from None
  return digest.hexdigest()


def _check_whitening(synthetic: SyntheticSet, dataset: data.Dataset) -> None:
  """Warns where un-whitened images have too little, or too much, of what is fine in real ones.

  Real images of another variant do, but networks may learn from them all the same. What noise a
  distilled set has is its method's, so that a wrong variant of one may not be seen here.
  """
  every = max(1, len(dataset.images) // _REAL)
  real = _roughness(np.asarray(dataset.images[::every]).astype(np.float32))
  if not real:  # each image is of one colour
    return
  ratio = _roughness(synthetic.unit_pixels().reshape(-1, *dataset.image_shape)) / real
  if not _SMOOTH < ratio < _ROUGH:
    logger.warning(
      "--whitening: images of %s would be %.2g times as rough as real ones (the squares of the "
      "differences of neighbouring pixels, beside their variance); is it one of the others, %s?",
      synthetic.metadata["zca_variant"], ratio,
      ", ".join(name for name in VARIANTS if name != synthetic.metadata["zca_variant"]),
    )  # fmt: skip


def _roughness(images: np.ndarray) -> float:
  """How much neighbouring pixels of images `[N, H, W, C]` differ, beside its variance."""
  centred = images - images.mean((1, 2, 3), keepdims=True)
  steps = sum(float(np.square(np.diff(images, axis=axis)).sum()) for axis in (1, 2))
  return steps / float(np.square(centred).sum()) if steps else 0.0


def _check(
  file: Path, classes: int, epochs: int, data_dir: str, cache_dir: str, dataset: str
) -> None:
  """Trains a network on the set and one on random images, and warns where the set teaches little.

  So does a set whose range, whitening or labels were named wrongly.
  """
  evaluation, examples, iteration = bind(
    file, data_dir=data_dir, cache_dir=cache_dir, dataset=dataset,
    networks=1, epochs=epochs, checks=1,
  )  # fmt: skip
  accuracies = []
  with Interrupts(f"the set is in {file}, unchecked") as interrupts:
    for task in evaluation.tasks():
      with working(f"checking: training on the {task[0]} set"):
        record = evaluation.run(task, examples, iteration, interrupts.wait)
      accuracies.append(record["last_mean"])
  ours, random = accuracies
  chance = 1 / classes
  text = (
    f"one network of {epochs} epochs on it is right for {100 * ours:.1f} % of the test images, on "
    f"as many random real ones {100 * random:.1f}"
  )
  if ours < _NEAR_CHANCE * chance or ours < _FAR_BEHIND * random:
    logger.warning(
      "%s: chance is %.1f; are --range, --whitening, --factor and the dataset right?",
      text, 100 * chance,
    )  # fmt: skip
  else:
    logger.info("%s", text)
