"""The driver of `dcjax select`: real images of each class instead of synthetic ones."""

import dataclasses
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data, evaluation
from dcjax.common import environment
from dcjax.common.errors import UserError, check_name
from dcjax.common.types import Array, Key
from dcjax.data import Dataset
from dcjax.devices import compilation
from dcjax.figures.accuracies import Summary
from dcjax.methods import coreset, rded
from dcjax.methods.definition import from_fields
from dcjax.nn import architectures
from dcjax.run import experiment, pretrained
from dcjax.run.experiment import Evaluation, Examples, Keys
from dcjax.run.interrupt import Interrupts
from dcjax.run.pretrained import Trained
from dcjax.run.progress import LOG_SECONDS, Pieces, Stopwatch, logger, working
from dcjax.run.so_far import NETWORKS, SoFar, forget, identity
from dcjax.run.teacher import Teacher
from dcjax.run.workdir import Workdir, held, write_json
from dcjax.sets import sheet
from dcjax.sets.formation import Stored
from dcjax.sets.synthetic import SyntheticSet

RDED = "rded"
SELECTIONS = (*coreset.SELECTIONS, RDED)
CANDIDATES = "candidates.json"
_SECONDS = ("train", "select", "evaluate")  # what `summary.json` counts
Wait = Callable[[Any], Any]  # returns arrays once they are computed


def select(config: ConfigDict, workdir: str | os.PathLike) -> Summary:
  """Chooses real images as a config says, and evaluates them as `condense` does.

  Writes `config.json`, `synthetic.npz`, `images/000000.png` and `summary.json` into `workdir`, and
  for 'optimal_random' `candidates.json`, the accuracies of the random subsets so far.
  The metadata of the set also have `indices`, `[classes][ipc]` in the training split as it was
  loaded, and for 'optimal_random' `selection`: what the subsets were ranked by, and accuracies.

  Args:
    config: made by `configs/coreset.py` or `dcjax.config.default("herding")`.
    workdir: a folder; it is made if need be.

  Returns:
    The content of `summary.json`.

  Raises:
    UserError: bad input, found before any long work.
    Interrupted: SIGTERM or Ctrl-C.
  """
  if isinstance(config, ConfigDict):
    check_name("method", str(config.get("method")), SELECTIONS)
  config = config_lib.resolve(config)
  config_lib.check_steps(config)
  memory = data.IN_MEMORY
  if config.method == RDED:
    memory = experiment.memory(config)
  else:
    config_lib.check_untaught(config, "a selection")
    if config.compute.streaming:
      raise UserError("compute.streaming: a selection looks at all images in memory; leave it out")
  with held(Workdir(workdir)) as folder:
    folder.check(config.to_dict())
    summary = folder.summary()
    if summary and not tasks_left(config, summary):
      return Summary(summary)
    selection = Selection(config, data.load(config.dataset, memory), folder.path)
    folder.claim(config.to_dict())
    with (
      compilation.kept(config.compute.cache_dir, folder.path),
      Interrupts("the same command goes on from what is saved") as interrupts,
    ):
      return Summary(selection.finish(summary, interrupts.wait))


def tasks_left(config: ConfigDict, summary: dict[str, Any]) -> list[tuple[str, str]]:
  """The pairs (set, network) that a summary lacks.

  Random images are a selection of their own, but for those that a teacher labels as it does RDED's.
  """
  if not config.evaluation.networks:
    return []
  sets = [experiment.SYNTHETIC] + [experiment.RANDOM] * (config.method == RDED)
  sets += [experiment.WHOLE] * config.evaluation.whole
  networks = architectures.names(config.evaluation.architectures, config.network)
  done = {(record["set"], record["network"]) for record in summary["evaluations"]}
  tasks = [(name, architecture) for name in sets for architecture in networks]
  return [task for task in tasks if task not in done]


class Selection:
  """One selection: the objects that its config describes, the choice, and its evaluation."""

  def __init__(self, config: ConfigDict, dataset: Dataset, path: Path):
    """Builds everything, which checks everything; nothing is written.

    Raises:
      UserError: the config does not fit the data.
    """
    self.config, self.dataset, self.path = config, dataset, path
    self.keys = Keys.from_seed(config.seed)
    self.layout = experiment.strategy(config, dataset)
    # As at evaluation: the logits of an image must not depend on its batch.
    fields = architectures.at_evaluation(config.network, config.network.name)
    self.network = experiment.network(config, dataset, self.layout, **fields)
    self.settings = config_lib.evaluation_settings(config.evaluation)
    self.evaluation = Evaluation(config, dataset, self.layout, self.keys)
    self.watch = Stopwatch(dict.fromkeys(_SECONDS, 0.0))
    self.network_key, held_key = jax.random.split(self.keys.loop)
    self.held = _held_out(config, dataset, held_key)
    if config.method == RDED:
      rded.check(dataset, from_fields(rded.RDEDSettings(), config.rded), config.ipc)
    else:
      _check_sizes(config, dataset, self.held)

  def finish(self, summary: dict[str, Any] | None, wait: Wait) -> dict[str, Any]:
    """Chooses, unless `summary` says that this is done, and evaluates; returns the summary."""
    file = self.path / "synthetic.npz"
    if summary is None:
      with working(f"choosing {self.config.ipc} of each class by {self.config.method}"):
        synthetic = self.choose(wait)
      synthetic.save(file)
      (self.path / "images").mkdir(exist_ok=True)
      sheet.save(synthetic, self.path / "images" / "000000.png")
      summary = self._summary()
      write_json(self.path / "summary.json", summary)
    examples = SyntheticSet.load(file).flat()
    for task in tasks_left(self.config, summary):
      self._evaluate(task, examples, summary, wait)
    return summary

  def choose(self, wait: Wait) -> SyntheticSet:
    """The chosen images as a set."""
    method, more = self.config.method, dict[str, Any]()
    if method == RDED:
      return self._of_crops(wait)
    network = self._trained(wait) if method in ("herding", "k_center", "forgetting") else None
    with self.watch("select"):
      if network is not None:
        chosen = self._by_network(network, wait)
      elif method == "random":
        choose = partial(self._random, rule=self.config.selection.random)
        chosen = jax.jit(choose)(self.dataset, self.keys.subset)
      else:
        chosen, more["selection"] = self._optimal_random(wait)
      images = self.dataset.normalise(jnp.asarray(data.images_at(self.dataset, chosen)))
    more["indices"] = np.asarray(self.dataset.source)[np.asarray(chosen)].tolist()
    stored = Stored(images, weights={})
    return experiment.synthetic_set(self.config, self.dataset, stored, **more)

  def _of_crops(self, wait: Wait) -> SyntheticSet:
    """RDED's set, whose crops a teacher has scored."""
    config, settings = self.config, from_fields(rded.RDEDSettings(), self.config.rded)
    teacher = experiment.teacher(
      config, self.dataset, self.layout, self.keys,
      settings.teacher, settings.teacher_epochs, "rded.teacher",
    )  # fmt: skip
    with self.watch("train"):
      taught = teacher.trained(wait)
    if isinstance(teacher, Teacher):
      teacher.save(self.path / "teacher.npz")
    with self.watch("select"):
      choice = rded.choose(
        self.dataset, self.keys.subset, settings, ipc=config.ipc, teacher=teacher.network,
        taught=taught, block=self.layout.blocks(evaluation.TEST_BLOCK), wait=wait,
      )  # fmt: skip
    stored, more = Stored(choice.images, weights={}), teacher.record()
    return experiment.synthetic_set(config, self.dataset, stored, indices=choice.indices, **more)

  def _trained(self, wait: Wait) -> Trained:
    """The network that a method chooses with, trained by the protocol of evaluation."""
    config, key = self.config, self.keys.init
    settings = self.settings._replace(epochs=config.training.epochs, networks=1, checks=1)
    with self.watch("train"):
      return pretrained.cached(
        self.network, config, settings, self.layout, self.dataset, key=key, wait=wait
      )

  def _by_network(self, network: Trained, wait: Wait) -> Array:
    """The choice by a trained network: indices `[classes, ipc]`, one class after another."""
    choose = jax.jit(
      partial(
        coreset.by_network,
        network=self.network,
        method=self.config.method,
        rule=self.config.selection.herding,
        ipc=self.config.ipc,
        block=self.layout.blocks(evaluation.TEST_BLOCK),
      )
    )
    key, labels = self.keys.subset, range(self.dataset.num_classes)
    choices = [
      wait(choose(self.dataset, network.params, network.events, key, label)) for label in labels
    ]
    return jnp.stack(choices)

  def _random(self, dataset: Dataset, key: Key, rule: str = "drawn") -> Array:
    free = ~jnp.asarray(self.held)
    return coreset.by_chance(dataset, free, key, ipc=self.config.ipc, rule=rule)

  def _optimal_random(self, wait: Wait) -> tuple[Array, dict[str, Any]]:
    """The best of many random subsets (ORS: DC, Table T12), and its accuracy.

    A network is trained on each by the protocol of evaluation. They are ranked by its accuracy on
    training images that are held out. The paper does not say on which images, most likely the test
    images. But a set that is chosen by them must not be tested on them.
    """
    dataset, count = self.dataset, self.config.selection.candidates
    keys = jax.vmap(jax.random.fold_in, (None, 0))(self.keys.subset, jnp.arange(count))
    draw = jax.jit(lambda dataset, keys: jax.lax.map(partial(self._random, dataset), keys))
    indices = draw(dataset, keys)
    accuracies = self._accuracies(indices, wait)
    return indices[int(accuracies.argmax())], {
      "ranked_by": f"accuracy on {self.held.sum()} held-out training images",
      "candidates": count,
      "accuracy": float(accuracies.max()),
      "accuracy_mean": float(accuracies.mean()),
      "accuracy_std": float(accuracies.std()),
    }

  def _accuracies(self, indices: Array, wait: Wait) -> np.ndarray:
    """Accuracies `[candidates]` on the images held out, of subsets `[candidates, classes, ipc]`."""
    count, classes, ipc = indices.shape
    held, images, labels = np.flatnonzero(self.held), self.dataset.images, self.dataset.labels
    ranked_by = dataclasses.replace(
      self.dataset, test_images=images[held], test_labels=labels[held]
    )
    settings = self.settings._replace(networks=count, checks=1)
    evaluate = evaluation.Evaluator(self.network, settings, self.layout, ranked_by)
    subsets = _Subsets(images, indices.reshape(count, -1))
    subset_labels = jnp.repeat(jnp.arange(classes, dtype=jnp.int32), ipc)
    of, logged = identity(settings._asdict(), (indices, held)), 0.0
    with SoFar(self.path / CANDIDATES, of) as so_far:
      done = len(so_far.accuracies)
      tried = Pieces(count, "random subsets", done)
      options: dict[str, Any] = {"own_sets": True, "first": done}
      for block in evaluate(subsets, subset_labels, self.network_key, **options):
        so_far.add(wait(block))
        done = len(so_far.accuracies)
        if time.monotonic() - logged >= LOG_SECONDS or done == count:
          logged = time.monotonic()
          logger.info(tried.far(done, f"best {so_far.last.max():.4f}"))
    return so_far.last

  def _summary(self) -> dict[str, Any]:
    """The content of `summary.json` before any evaluation."""
    return {
      "method": self.config.method,
      "dataset": self.dataset.name,
      "ipc": self.config.ipc,
      "seed": self.config.seed,
      "hardware": environment.hardware(),
      "versions": environment.versions(),
      "seconds": {name: round(self.watch.seconds[name], 3) for name in _SECONDS},
      "evaluations": [],
    }

  def _evaluate(
    self,
    task: tuple[str, str],
    examples: Examples,
    summary: dict[str, Any],
    wait: Wait,
  ) -> None:
    """Adds an evaluation to the summary, and writes it."""
    start = time.monotonic()
    with working(f"training on the {task[0]} set: {task[1]}") as say:
      record = self.evaluation.run(task, examples, 0, wait, say, self.path / NETWORKS)
    seconds = summary.setdefault("seconds", {})
    seconds["evaluate"] = round(seconds.get("evaluate", 0.0) + time.monotonic() - start, 3)
    summary["evaluations"].append(record)
    write_json(self.path / "summary.json", summary)
    forget(self.path / NETWORKS)


class _Subsets:
  """Subsets `[networks, N, H, W, C]` that are gathered only when they are indexed."""

  def __init__(self, images: Array, indices: Array):
    self._images, self._indices = images, indices

  def __getitem__(self, numbers: np.ndarray) -> Array:
    return self._images[self._indices[numbers]]


def _held_out(config: ConfigDict, dataset: Dataset, key: Key) -> np.ndarray:
  """The training images by which 'optimal_random' ranks, so does not choose, bool `[N]`."""
  held = np.zeros(len(dataset.labels), bool)
  if config.method == "optimal_random":
    order = np.asarray(jax.random.permutation(key, len(held)))
    held[order[: config.selection.validation]] = True
  return held


def _check_sizes(config: ConfigDict, dataset: Dataset, held: np.ndarray) -> None:
  """Raises `UserError` if a class has fewer images than are to be chosen."""
  labels, ipc = np.asarray(dataset.labels), config.ipc
  sizes = np.bincount(labels, minlength=dataset.num_classes)
  smallest = int(sizes.argmin())
  if ipc > sizes[smallest]:
    raise UserError(
      f"ipc: {ipc} is more than the {sizes[smallest]} training images of class "
      f"'{dataset.class_names[smallest]}'; give {sizes[smallest]} or fewer"
    )
  left = np.bincount(labels[~held], minlength=dataset.num_classes)
  smallest = int(left.argmin())
  if ipc > left[smallest]:
    raise UserError(
      f"selection.validation: {config.selection.validation} of {len(labels)} training images leave "
      f"{left[smallest]} of class '{dataset.class_names[smallest]}', fewer than ipc={ipc}; give "
      "fewer"
    )
