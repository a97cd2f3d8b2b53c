"""The scenarios of continual learning: what arrives at each stage, and what is learned from it."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from dcjax import augment, data, evaluation
from dcjax.applications.continual import fields as config_lib
from dcjax.applications.continual.memories import Memory, join
from dcjax.common.errors import UserError
from dcjax.common.types import Array, Key, Params
from dcjax.config import selects
from dcjax.data import Dataset, statistics
from dcjax.devices.strategy import Strategy
from dcjax.nn import Network, architectures
from dcjax.run import experiment
from dcjax.run.experiment import Evaluation, Keys
from dcjax.tables import plan

Wait = Callable[[Any], Any]  # returns arrays once they are computed


class Task(NamedTuple):
  """What arrives at one stage.

  Attributes:
    name: of the memory's folder.
    memory: the config of the run that makes its memory, resolved.
  """

  name: str
  memory: ConfigDict


class Place(NamedTuple):
  """Where in all runs a network stands.

  Attributes:
    seed: of the run.
    stage: from 0.
    network: as `evaluation.architectures` has it.
  """

  seed: int
  stage: int
  network: str

  def key(self) -> Key:
    """Of all that is drawn there; memories have the keys of their own runs."""
    return jax.random.fold_in(Keys.from_seed(self.seed).evaluation, self.stage)


class Outcome(NamedTuple):
  """What a stage ends with.

  Attributes:
    accuracies: of each network, in [0, 1].
    tasks: on each data set so far, where the accuracy is a mean of those; else empty.
    params: of the network that goes on to the next stage; None where each has its own.
  """

  accuracies: list[float]
  tasks: list[float]
  params: Params | None


class Scenario(Protocol):
  """A scenario, bound to its config and data, which building it checks."""

  def tasks(self, seed: int) -> list[Task]:
    """What arrives at the stages of a run."""

  def label(self, stage: int) -> str:
    """What a stage is called in a figure."""

  def check_memory(self, memory: Memory) -> None:
    """Raises `UserError` for a memory with labels that are not learned here."""

  def learn(
    self, place: Place, memories: list[Memory], previous: Params | None, wait: Wait
  ) -> Outcome:
    """Trains and tests what belongs to one stage.

    Args:
      place: which.
      memories: of its task and all before.
      previous: the `params` of the previous stage; None at the first one.
      wait: returns arrays once they are computed.
    """


class InSteps:
  """Classes of one data set arrive in steps, in an order that the seed draws."""

  def __init__(self, config: ConfigDict):
    """Loads the data and checks everything; nothing is computed.

    Args:
      config: as `config.continual.resolve` returns it.

    Raises:
      UserError: the config does not fit the data.
    """
    self.config = config
    self.resolved = config_lib.memory(config, seed=config.seed)
    self.dataset = data.load(self.resolved.dataset)
    _check_steps(config.continual.steps, self.dataset)
    _check_statistics(config.dataset.name, self.dataset)
    check_size(config.ipc, self.dataset)
    for task in self.tasks(config.seed):
      check_method(task.memory, data.of_classes(self.dataset, task.memory.dataset.classes))

  def tasks(self, seed: int) -> list[Task]:
    """A task for each step; the steps are as even as they can be."""
    tasks = []
    for number, names in enumerate(self._names(seed), 1):
      config = config_lib.memory(self.config, seed=seed, classes=names)
      tasks.append(Task(f"step{number}", plan.condensation(config)))
    return tasks

  def label(self, stage: int) -> str:
    """How many classes there are by then."""
    return f"{sum(map(len, self._names(self.config.seed)[: stage + 1]))} classes"

  def seen(self, seed: int, stage: int) -> Dataset:
    """All classes that have arrived, in their order."""
    steps = self._names(seed)[: stage + 1]
    return data.of_classes(self.dataset, [name for names in steps for name in names])

  def _names(self, seed: int) -> list[tuple[str, ...]]:
    """The classes of each step."""
    order = jax.random.permutation(Keys.from_seed(seed).subset, self.dataset.num_classes)
    steps = np.array_split(np.asarray(order), self.config.continual.steps)
    return [tuple(self.dataset.class_names[k] for k in step) for step in steps]


def _check_steps(steps: int, dataset: Dataset) -> None:
  classes = dataset.num_classes
  if steps > classes // 2:
    raise UserError(
      f"continual.steps: {steps} steps of the {classes} classes of {dataset.name} leave some with "
      f"fewer than two; give {classes // 2} or fewer"
    )


def _check_statistics(name: str, dataset: Dataset) -> None:
  """Raises `UserError` for images that each step would normalise in another way."""
  of_imagenet = statistics.usual("imagenet2012")
  if name == "folder" and of_imagenet and not np.allclose(dataset.mean, of_imagenet[0]):
    raise UserError(
      "dataset.name: mean and deviation of a folder are measured on the classes that are read, "
      "hence differ from step to step; save its images as an .npz file and use dataset.name=npz"
    )


def check_size(ipc: int, dataset: Dataset) -> None:
  """Raises `UserError` for a memory that is larger than a class."""
  sizes = np.diff(np.asarray(dataset.offsets))
  smallest = int(sizes.argmin())
  if ipc > sizes[smallest]:
    raise UserError(
      f"ipc: a memory of {ipc} is more than the {sizes[smallest]} training images of class "
      f"'{dataset.class_names[smallest]}' of {dataset.name}; give {sizes[smallest]} or fewer"
    )


def check_method(config: ConfigDict, dataset: Dataset) -> None:
  """Raises `UserError` if the method of a memory does not fit the images of its task."""
  layout = experiment.strategy(config, dataset)
  if selects(config.method):
    experiment.network(config, dataset, layout)
  else:
    experiment.method(config, dataset, layout)


def learner(config: ConfigDict, dataset: Dataset, name: str) -> Network:
  """A network that goes from stage to stage.

  Args:
    config: resolved.
    dataset: with its classes so far.
    name: as `evaluation.architectures` has it.

  Raises:
    UserError: it or its augmentation cannot take the images, or it has batch norm, whose
      statistics would be those of one stage.
  """
  change = config.evaluation.augmentation
  augment.check_images("evaluation.augmentation", change, dataset.image_shape)
  fields = architectures.at_evaluation(config.network, name)
  network = experiment.network(config, dataset, experiment.strategy(config, dataset), **fields)
  if network.batch_norm:
    raise UserError(
      f"evaluation.architectures: '{name}' has batch norm, whose statistics change from stage to "
      "stage; take instance norm"
    )
  return network


def tester(network: Network, layout: Strategy) -> Callable[[Params, Dataset], Array]:
  """The test of a network: `test(params, dataset) -> accuracy`, a scalar in [0, 1]."""
  block = layout.blocks(evaluation.TEST_BLOCK)
  return jax.jit(partial(evaluation.accuracy, network, block=block))


class GDumb(InSteps):
  """Networks from scratch on the memory after each step (GDumb: Prabhu et al., ECCV 2020).

  DM's supplement, section 1.2; IDM, section 5.6. They are trained and tested as those of an
  evaluation are.
  """

  def __init__(self, config: ConfigDict):
    """See `InSteps`."""
    super().__init__(config)
    self._evaluation(self.dataset, Keys.from_seed(config.seed))

  def check_memory(self, memory: Memory) -> None:
    """See `Scenario`: evaluations learn all labels."""

  def learn(
    self, place: Place, memories: list[Memory], previous: Params | None, wait: Wait
  ) -> Outcome:
    """See `Scenario`."""
    del previous
    keys = Keys.from_seed(place.seed)._replace(evaluation=place.key())
    images, labels, asked = join(memories)
    bound = self._evaluation(self.seen(place.seed, place.stage), keys, asked)
    task = experiment.SYNTHETIC, place.network
    record = bound.run(task, (images, labels), 0, wait)
    return Outcome(record["last"], [], None)

  def _evaluation(
    self, dataset: Dataset, keys: Keys, asked: Mapping[str, Any] = MappingProxyType({})
  ) -> Evaluation:
    layout = experiment.strategy(self.resolved, dataset)
    return Evaluation(self.resolved, dataset, layout, keys, asked)
