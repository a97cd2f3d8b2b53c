"""The driver of `dcjax evaluate`: networks trained on a saved set, tested on real images."""

import hashlib
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data
from dcjax.common.errors import UserError, check_least
from dcjax.common.json_files import OBJECT, holds, read_json
from dcjax.common.registry import METHODS
from dcjax.figures.accuracies import Evaluations
from dcjax.nn import architectures
from dcjax.run import experiment
from dcjax.run.experiment import Evaluation, Examples, Keys
from dcjax.run.interrupt import Interrupts
from dcjax.run.progress import logger, working
from dcjax.run.readers import EVALUATIONS
from dcjax.run.so_far import NETWORKS, forget
from dcjax.run.workdir import write_json
from dcjax.sets.set_file import LONGEST
from dcjax.sets.synthetic import SyntheticSet

# By the fields of a config: with what the user gives in place of what a set has.
_FLAGS = {
  "dataset.name": "--dataset",
  "evaluation.architectures": "--architectures",
  "evaluation.augmentation": "--augmentation",
  "evaluation.teacher": "--teacher",
  "network.name": "--architectures",
}
# What a set was matched with is not run: here no image is.
_UNUSED = {"dsa.strategy": None, "training.augmentation": "none", "rded.teacher": "convnet"}


def evaluate(
  path: str | os.PathLike,
  *,
  data_dir: str = "",
  cache_dir: str = "",
  seed: int | None = None,
  **changes: Any,
) -> Evaluations:
  """Evaluates a saved set beside a random real subset of the same size.

  Args:
    path: a `synthetic.npz`.
    data_dir: where the dataset is on this machine; empty: the default.
    cache_dir: where it is kept once it is decoded; empty: the default.
    seed: of networks and random subsets; by default the run's.
    **changes: fields of `config.evaluation`, see `bind`; its `dataset` may be among them.

  Returns:
    The records that `summary.json` calls `evaluations`; the iteration is the run's last. A
    notebook shows them as a table.

  Raises:
    UserError: the file, the data or a change is not usable.
    Interrupted: SIGTERM or Ctrl-C.
  """
  found = records(path, data_dir=data_dir, cache_dir=cache_dir, seed=seed, **changes)
  return Evaluations(found)


def records(
  path: str | os.PathLike,
  *,
  data_dir: str = "",
  cache_dir: str = "",
  seed: int | None = None,
  unfinished: Path | None = None,
  **changes: Any,
) -> Iterator[dict[str, Any]]:
  """Does what `evaluate` does, and yields each record as soon as it is there.

  Args:
    path, data_dir, cache_dir, seed, **changes: see `bind`; its `dataset` may be among the changes.
    unfinished: a file for the records so far, from which a later call with the same arguments goes
      on.

  Raises:
    UserError: as `evaluate`, or `unfinished` is not of this evaluation.
    Interrupted: SIGTERM or Ctrl-C.
  """
  evaluation, examples, iteration = bind(
    path, data_dir=data_dir, cache_dir=cache_dir, seed=seed, **changes
  )
  digest = hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
  code = {"code": found} if any(found := evaluation.code()) else {}
  of = json.loads(json.dumps({"set": digest, "seed": seed, **changes, **code}))
  done = _unfinished(unfinished, of) if unfinished and unfinished.exists() else []
  networks = unfinished and unfinished.with_name(f"{unfinished.name}-{NETWORKS}")
  yield from done
  left = "what is finished is kept, and the same command goes on"
  with Interrupts(left if unfinished else "nothing was saved") as interrupts:
    for task in evaluation.tasks()[len(done) :]:
      with working(f"training on the {task[0]} set: {task[1]}") as say:
        record = evaluation.run(task, examples, iteration, interrupts.wait, say, networks)
      done.append(record)
      if unfinished and networks:
        keep(unfinished, {"of": of, "evaluations": done})
        forget(networks)
      yield record


def keep(file: Path, content: dict[str, Any]) -> None:
  """Writes the records of an evaluation; raises `UserError` where that cannot be done."""
  try:
    write_json(file, content)
  except OSError as error:
    raise UserError(
      f"--output: cannot write {file} ({error.strerror}); mend that and start again"
    ) from None


def _unfinished(file: Path, of: dict[str, Any]) -> list[dict[str, Any]]:
  """The records of an evaluation that was stopped."""
  remedy = "delete it, or give another --output"
  content = read_json(file, holds({"of": OBJECT, "evaluations": EVALUATIONS}), remedy, "--output")
  if content["of"] != of:
    raise UserError(f"--output: {file} is of another evaluation that was stopped; {remedy}")
  return content["evaluations"]


def bind(
  path: str | os.PathLike,
  *,
  data_dir: str = "",
  cache_dir: str = "",
  dataset: str = "",
  seed: int | None = None,
  **changes: Any,
) -> tuple[Evaluation, Examples, int]:
  """The evaluation of a saved set; nothing is computed yet.

  Args:
    path: a `synthetic.npz`; it names the dataset, the network and the protocol of its run.
    data_dir: see `load`.
    cache_dir: see `load`.
    dataset: the name of the dataset, where that of the run is a function in a Python file: a set
      does not decide what code is run.
    seed: of networks and random subsets; by default the run's.
    **changes: fields of `config.evaluation` that replace those of the run. A new protocol brings
      its own augmentation, CutMix, batch, teacher, temperature and learning rate (that of a set
      goes before it in SGD); a new protocol
      or augmentation, or `same_steps`, the protocol's number of epochs; unless these are given.

  Returns:
    The evaluation, and what its `run` takes: the images that networks train on with their labels,
    as `SyntheticSet.flat` returns them, and the iteration that they are of.

  Raises:
    UserError: the file, the data or a change is not usable.
  """
  synthetic = SyntheticSet.load(path)
  config = config_of(synthetic, seed, changes, dataset)
  check_least("evaluation.networks", config.evaluation.networks, 1)
  fields, memory = synthetic.metadata["config"], experiment.memory(config)
  loaded = load(config, fields, data_dir, cache_dir, memory)
  check_fits(synthetic, loaded)
  loaded = loaded.whitened(synthetic.whitening)
  layout = experiment.strategy(config, loaded)
  keys = Keys.from_seed(config.seed)
  evaluation = Evaluation(config, loaded, layout, keys, synthetic.training())
  # A coreset has no iterations.
  iteration = synthetic.metadata.get("iteration", config.get("iterations", 0))
  return evaluation, synthetic.flat(), iteration


def config_of(
  synthetic: SyntheticSet,
  seed: int | None,
  changes: dict[str, Any],
  dataset: str = "",
  *,
  any_method: bool = False,
) -> ConfigDict:
  """The config of the run that made a set, with the changes; for its arguments see `bind`.

  Args:
    any_method: whether what is the method's own is left out.
  """
  fields = synthetic.metadata["config"]
  method = fields.get("method")
  if any_method or (isinstance(method, str) and method not in METHODS):
    fields = config_lib.of_any_method(fields)
  code, given = config_lib.own_code(fields), {"dataset.name": dataset} if dataset else {}
  replaced = _UNUSED | {f"evaluation.{name}": value for name, value in changes.items()}
  if "protocol" in changes:
    replaced.setdefault("evaluation.augmentation", None)
    replaced.setdefault("evaluation.teacher", None)
  if config_lib.names(changes.get("architectures") or ()):
    replaced["network.name"] = "convnet"  # the run's own does not matter where others are named
  files = {name for name, value in config_lib.flatten(fields) if architectures.is_trained(value)}
  given |= {name: value for name, value in replaced.items() if name in code.keys() | files}
  if missing := sorted(_FLAGS.keys() & code.keys() - given.keys()):
    name = missing[0]
    raise UserError(
      f"synthetic set: its {name} is {code[name]!r:.99}, in a Python file, which is run only if "
      f"you name it; give {_FLAGS[name]}=FILE.py:NAME"
    )
  try:
    config = config_lib.of_file(fields, given)
  except UserError as error:
    raise UserError(
      f"synthetic set: its config cannot be followed ({error}); "
      f"it was written by version {synthetic.metadata['version']}"
    ) from None
  if config.ipc != synthetic.images.shape[1]:
    raise UserError(
      f"synthetic set: its config has ipc {config.ipc}, but it holds {synthetic.images.shape[1]} "
      "images of each class; give a synthetic.npz written by dcjax"
    )
  config.dataset.zca = False  # the file holds the whitening
  if {"protocol", "augmentation", "same_steps"} & changes.keys():
    config.evaluation.epochs = None
  if "protocol" in changes:
    for field in ("augmentation", "cutmix", "batch", "teacher", "lr", "temperature"):
      config.evaluation[field] = None
  config.evaluation.update(changes)
  if seed is not None:
    config.seed = seed
  config = config_lib.resolve(config)
  if {"same_steps", "epochs"} <= changes.keys():
    config_lib.check_steps(config)
  return config


def load(
  config: ConfigDict,
  fields: dict[str, Any],
  data_dir: str = "",
  cache_dir: str = "",
  memory: data.Memory = data.IN_MEMORY,
) -> data.Dataset:
  """Loads the dataset of a run from wherever it is on this machine.

  Args:
    config: as `config.of_file` and `resolve` return it; it is told where the dataset is.
    fields: what the run's file has for a config. It may be anybody's, so what it says of
      `data_dir` and `cache_dir` is not followed, but quoted where the dataset is not found.
    data_dir: where the dataset is on this machine; empty: the default.
    cache_dir: where it is kept once it is decoded; empty: the default.
    memory: what of it may be in memory.

  Raises:
    UserError: the dataset cannot be had.
  """
  config.dataset.update({"data_dir": data_dir, "cache_dir": cache_dir})
  had = fields.get("dataset", {}).get("data_dir")
  if data_dir or not had or not _is_shown(had):
    return data.load(config.dataset, memory)
  hint = f"--data_dir={shlex.quote(had)}"
  logger.info("its run had %s, which is not followed; give it if that is where the data are", hint)
  try:
    return data.load(config.dataset, memory)
  except UserError as error:
    raise UserError(f"{error} (its run had {hint})") from None


def _is_shown(text: Any) -> bool:
  """Whether a file's text can be shown on a terminal."""
  return isinstance(text, str) and text.isprintable() and len(text) < LONGEST


def check_fits(synthetic: SyntheticSet, dataset: data.Dataset) -> None:
  """Raises `UserError` for a set that was made of other data."""
  shape, classes = synthetic.images.shape[2:], synthetic.images.shape[0]
  if shape != dataset.image_shape or classes != dataset.num_classes:
    raise UserError(
      f"synthetic set: {classes} classes of {list(shape)} images do not fit dataset "
      f"'{dataset.name}' with {dataset.num_classes} classes of {list(dataset.image_shape)}; "
      "give the data_dir of the dataset that it was made from"
    )
  for field in ("class_names", "mean", "std"):
    ours, theirs = np.asarray(getattr(dataset, field)).tolist(), synthetic.metadata[field]
    same = ours == theirs if field == "class_names" else np.allclose(ours, theirs, atol=1e-4)
    if not same:
      raise UserError(
        f"synthetic set: its {field} is {theirs}, that of dataset '{dataset.name}' {ours}; "
        "give the data_dir of the dataset that it was made from"
      )
