"""Data sets of one label space in turn, learned beside a memory of those before (DC, DSA)."""

import dataclasses
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from dcjax import data
from dcjax.applications.continual import fields as config_lib
from dcjax.applications.continual import stages
from dcjax.applications.continual.memories import Memory
from dcjax.applications.continual.scenarios import (
  Outcome,
  Place,
  Task,
  Wait,
  check_method,
  check_size,
  learner,
  tester,
)
from dcjax.applications.continual.stages import Distillation, Phase
from dcjax.common.errors import UserError
from dcjax.common.types import Params
from dcjax.data import Dataset
from dcjax.nn import architectures
from dcjax.run import experiment
from dcjax.run.experiment import Keys
from dcjax.tables import plan

SHOWN = 10  # classes that an error names


class Rehearsal:
  """Networks that learn one data set after another (DC, section 3.2; DSA, section 4.5).

  Each data set is normalised by its own mean and deviation, as its memory is.
  """

  def __init__(self, config: ConfigDict):
    """Loads the data and checks everything; nothing is computed.

    Args:
      config: as `config.continual.resolve` returns it.

    Raises:
      UserError: the config does not fit the data, or these do not fit each other.
    """
    self.config, self.resolved = config, config_lib.memory(config, seed=config.seed)
    self.datasets = [data.load(task.memory.dataset) for task in self.tasks(config.seed)]
    _check_alike(self.datasets)
    for task, dataset in zip(self.tasks(config.seed), self.datasets, strict=True):
      check_size(config.ipc, dataset)
      check_method(task.memory, dataset)
    for name in architectures.names(config.evaluation.architectures, config.network):
      learner(self.resolved, self.datasets[0], name)

  def tasks(self, seed: int) -> list[Task]:
    """A task for each data set."""
    tasks = []
    for number, name in enumerate(config_lib.sequence(self.config), 1):
      source = {"name": "npz", "data_dir": name} if name.endswith(".npz") else {"name": name}
      memory = plan.condensation(config_lib.memory(self.config, seed=seed, **source))
      tasks.append(Task(f"task{number}", memory))
    return tasks

  def label(self, stage: int) -> str:
    """The name of the data set that comes last."""
    return self.datasets[stage].name

  def check_memory(self, memory: Memory) -> None:
    """See `Scenario`; a learned step size is for a memory alone, and not taken here."""
    memory.check_cross_entropy()

  def learn(
    self, place: Place, memories: list[Memory], previous: Params | None, wait: Wait
  ) -> Outcome:
    """See `Scenario`."""
    dataset, fields = self.datasets[place.stage], self.config.continual
    network = learner(self.resolved, dataset, place.network)
    layout = experiment.strategy(self.resolved, dataset)
    settings = stages.Rehearsal(
      Phase(**fields.training),
      Phase(**fields.finetuning),
      fields.batch,
      self.resolved.evaluation.augmentation,
    )
    distillation = Distillation(fields.distillation, fields.temperature)
    rehearse = partial(
      stages.rehearse, network, settings=settings, layout=layout, distillation=distillation
    )
    *old, chosen = [(memory.images, memory.labels) for memory in memories]
    params = wait(jax.jit(rehearse)(dataset, old, chosen, place.key(), previous=previous))
    test = tester(network, layout)
    seen = [self._tested(stage, place.seed) for stage in range(place.stage + 1)]
    accuracies = [wait(test(params, dataset)).item() for dataset in seen]
    return Outcome([float(np.mean(accuracies))], accuracies, params)

  def _tested(self, stage: int, seed: int) -> Dataset:
    """A data set with the test images that count, the same at all stages of a run."""
    dataset = self.datasets[stage]
    key = jax.random.fold_in(Keys.from_seed(seed).subset, stage)
    order = jax.random.permutation(key, len(dataset.test_labels))
    chosen = order[: self.config.continual.test_images]
    return dataclasses.replace(
      dataset, test_images=dataset.test_images[chosen], test_labels=dataset.test_labels[chosen]
    )


def _check_alike(datasets: list[Dataset]) -> None:
  """Raises `UserError` for data sets that one network cannot learn in turn."""
  first = datasets[0]
  for other in datasets[1:]:
    if other.class_names != first.class_names:
      raise UserError(
        f"continual.sequence: {first.name} has the classes {_few(first.class_names)}, {other.name} "
        f"{_few(other.class_names)}; name data sets of one label space, or choose classes that all "
        "have with dataset.classes"
      )
    if other.image_shape != first.image_shape:
      raise UserError(
        f"dataset.rgb_side: {first.name} has images of {list(first.image_shape)}, {other.name} of "
        f"{list(other.image_shape)}; give a side for all, such as 32"
      )


def _few(names: tuple[str, ...]) -> str:
  """The first names of a label space, and how many there are."""
  shown = ", ".join(names[:SHOWN])
  return shown if len(names) <= SHOWN else f"{shown}, ... ({len(names)})"
