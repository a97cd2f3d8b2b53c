"""Builds what a config describes: dataset, networks, method, evaluations."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcjax import augment, data, evaluation, nn
from dcjax import config as config_lib
from dcjax.common.activity import Pieces
from dcjax.common.errors import UserError
from dcjax.common.registry import content
from dcjax.common.types import Array, Key
from dcjax.common.version import __version__
from dcjax.data import Dataset
from dcjax.devices import processes
from dcjax.devices.strategy import Strategy, choose
from dcjax.devices.target import Target, here
from dcjax.methods import Method
from dcjax.methods.setup import decoder, network
from dcjax.nn import architectures
from dcjax.run.readers import MOST_CLASSES
from dcjax.run.so_far import SoFar, identity
from dcjax.run.teacher import Teacher
from dcjax.run.teacher_file import FromFile, untaught
from dcjax.sets.formation import Formation, Stored
from dcjax.sets.synthetic import SyntheticSet

# The sets that networks are trained on, as `summary.json` names them.
SYNTHETIC, RANDOM, WHOLE = "synthetic", "random", "whole"
# Of a GPU's memory, the share that activations of all classes together may take by default.
MOST_TOGETHER = 1 / 3
MOST_COPIED = 1 / 10  # likewise, that real images may take on each of several GPUs or TPUs
# Normalised images `[N, H, W, C]`, and labels as `SyntheticSet.flat` returns them
Examples = tuple[Array | np.ndarray, Array | np.ndarray]


class Keys(NamedTuple):
  """The streams of randomness of a run, all from its seed."""

  init: Key  # initial synthetic images
  loop: Key  # outer iteration t draws from fold_in(loop, t)
  evaluation: Key  # networks: the same ones for every set and iteration
  subset: Key  # random real subsets

  @classmethod
  def from_seed(cls, seed: int) -> "Keys":
    """All streams."""
    return cls(*jax.random.split(jax.random.key(seed), len(cls._fields)))


def strategy(config: ConfigDict, dataset: Dataset, target: Target | None = None) -> Strategy:
  """How the work is laid out here, or on other devices, with what `config.compute` sets by hand."""
  target = target or here()
  overrides = {name: config.compute[name] for name in Strategy._fields if name in config.compute}
  classes, side = dataset.num_classes, dataset.image_shape[0]
  return choose(target.backend, classes, side, target.devices, **overrides)


def condensing(config: ConfigDict, dataset: Dataset, target: Target | None = None) -> Strategy:
  """As `strategy`, for a config that condenses, with what an accelerator's memory allows.

  That is all real images on each of several devices, and on a GPU all classes together.
  """
  target = target or here()
  layout = strategy(config, dataset, target)
  if target.backend == "cpu":
    return layout

  def fits(taken: float, share: float) -> bool:
    too_much = taken > (target.memory or 0) * share
    return not processes.highest(too_much)  # all compile the same program, also if memories differ

  def all_together() -> bool:
    together = config_lib.definition(config.method).together
    if target.backend != "gpu" or together is None:
      return False
    return fits(together(config, dataset, layout), MOST_TOGETHER)

  def everywhere() -> bool:
    in_memory = not isinstance(dataset.images, data.OnDisk)
    numbers = math.prod(dataset.images.shape)  # of a byte each
    return layout.devices > 1 and in_memory and fits(numbers, MOST_COPIED)

  if config.compute.class_map is None and all_together():
    layout = layout._replace(class_map="vmap")
  if config.compute.real_images is None and everywhere():
    layout = layout._replace(real_images="everywhere")
  return layout


def memory(config: ConfigDict) -> data.Memory:
  """What of the dataset may be in memory."""
  return data.Memory(*(config.compute[name] for name in data.Memory._fields))


def method(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  """The method of a config that condenses."""
  build = config_lib.definition(config.method).build
  assert build is not None  # a selection has been refused
  return build(config, dataset, layout)


class Evaluation:
  """The evaluations of a run: every architecture on the sets that are asked for."""

  def __init__(
    self,
    config: ConfigDict,
    dataset: Dataset,
    layout: Strategy,
    keys: Keys,
    asked: Mapping[str, Any] = MappingProxyType({}),
  ):
    """Binds networks and protocol; nothing is computed yet.

    Args:
      config: of the run.
      dataset: whose test images count.
      layout: how many networks and images go together.
      keys: of the run.
      asked: what the set asks of a training, see `SyntheticSet.training`; also random real images
        are trained on so. The config's own learning rate goes before it.

    Raises:
      UserError: an architecture is unknown, or it or the augmentation cannot take the images.
    """
    self._config, self._dataset, self._keys = config, dataset, keys
    if config.evaluation.whole and isinstance(dataset.images, data.OnDisk):
      raise UserError(
        "evaluation.whole: all training images together do not fit in memory; leave it out, or "
        "raise compute.memory_limit"
      )
    settings = config_lib.evaluation_settings(config.evaluation)
    # With a teacher the set's own labels do not count, nor what was learned with them.
    asked = {} if config.evaluation.teacher else asked
    self._settings = settings.asked(asked)
    name = self._settings.augmentation
    augment.check_images("evaluation.augmentation", name, dataset.image_shape)
    augment.warn_of_colours("evaluation.augmentation", name, dataset.mean, dataset.std)
    self._teacher: Teacher | FromFile | None = None
    if text := config.evaluation.teacher:
      self._teacher = teacher(
        config, dataset, layout, keys, text, config.evaluation.teacher_epochs, "evaluation.teacher"
      )
    names = architectures.names(config.evaluation.architectures, config.network)
    self._evaluators = {
      name: evaluation.Evaluator(
        evaluation_network(config, dataset, layout, name), self._settings, layout, dataset,
        self._teacher.network if self._teacher else None,
        confusion=True,
      )
      for name in names
    }  # fmt: skip

  def code(self) -> list[dict[str, str]]:
    """What tells users' code that accuracies depend on from what it was before."""
    names = [architectures.parse(name)["name"] for name in self._evaluators]
    names += [self._config.dataset.name, *augment.names_in(self._settings.augmentation)]
    return [content("evaluation", name) for name in names]

  def tasks(self) -> list[tuple[str, str]]:
    """The pairs (set, network) to evaluate, the synthetic set first."""
    sets = [SYNTHETIC, RANDOM] + [WHOLE] * self._config.evaluation.whole
    return [(name, architecture) for name in sets for architecture in self._evaluators]

  def bound(
    self, architecture: str, examples: Examples
  ) -> tuple[jax.stages.Compiled, tuple[Any, ...]]:
    """What evaluates sets of a shape with an architecture, compiled: see `Evaluator.bound`.

    A teacher is one that has learned nothing.
    """
    taught: Any = ()
    if (teacher := self._teacher) is not None:
      shapes = jax.eval_shape(lambda: untaught(teacher.network, self._dataset)[:2])
      taught = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return self._evaluators[architecture].bound(*examples, self._keys.evaluation, taught)

  def run(
    self,
    task: tuple[str, str],
    examples: Examples,
    iteration: int,
    wait: Callable[[Any], Any] = jax.block_until_ready,
    say: Callable[[str], None] = lambda text: None,
    kept: Path | None = None,
  ) -> dict[str, Any]:
    """Evaluates one task.

    Args:
      task: (set, network).
      examples: of the synthetic set, as its `flat` returns them.
      iteration: at which they were made.
      wait: returns arrays once they are computed.
      say: is told after each block of networks how far it is, and how long the rest takes.
      kept: a file for the networks so far, from which one that was stopped goes on; whoever has
        stored the record deletes it by `so_far.forget`.

    Returns:
      The record of `summary.json`.
    """
    name, architecture = task
    evaluate: Callable[..., Iterator[Any]] = self._evaluators[architecture]
    dataset, key = self._dataset, self._keys.evaluation
    taught = self._teacher.trained(wait) if self._teacher else ()
    if name == WHOLE:
      labels = evaluation.targets(dataset.labels, dataset.num_classes, self._settings.loss)
      evaluate = partial(evaluate, dataset.images, labels, key)
    elif name == RANDOM:
      evaluate = partial(evaluate, *self._random_subsets(), key, own_sets=True)
    else:
      evaluate = partial(evaluate, *map(jnp.asarray, examples), key)
    few = dataset.num_classes <= MOST_CLASSES
    with SoFar(kept, self._identity(task, examples, taught)) as so_far:
      networks = Pieces(self._settings.networks, "networks", len(so_far.accuracies))
      for block in evaluate(taught=taught, first=len(so_far.accuracies)):
        found, counts = wait(block)
        so_far.add(found, counts if few else None)
        far = networks.far(len(so_far.accuracies), f"accuracy {so_far.last.mean():.4f}")
        say(f"{name} set on {architecture}: {far}")
    decoded = len(examples[0]) // dataset.num_classes
    record = self._record(task, decoded, iteration, np.stack(so_far.accuracies))
    return record | ({} if so_far.confusion is None else _confusion(so_far.confusion))

  def _identity(self, task: tuple[str, str], examples: Examples, taught: Any) -> str:
    """What the accuracies of a task depend on; of real images, labels and statistics."""
    dataset, settings = self._dataset, self._settings
    network = architectures.at_evaluation(self._config.network, task[1])
    about = [task, dataset.name, self._config.ipc, settings._asdict(), network, self.code()]
    keys = jax.tree.map(jax.random.key_data, (self._keys.evaluation, self._keys.subset))
    real = dataset.labels, dataset.test_labels, dataset.mean, dataset.std, dataset.whitening
    return identity(about, (examples if task[0] == SYNTHETIC else (), keys, taught, real))

  def _random_subsets(self) -> tuple[Array, Array]:
    """A random real subset for each network: `[networks, N, H, W, C]`, and their labels."""
    keys = jax.random.split(self._keys.subset, self._settings.networks)
    draw = jax.vmap(partial(data.subset_indices, ipc=self._config.ipc), in_axes=(None, 0))
    indices = np.asarray(jax.jit(draw)(self._dataset, keys))
    classes = jnp.arange(self._dataset.num_classes, dtype=jnp.int32)
    labels = jnp.repeat(classes, self._config.ipc)
    labels = evaluation.targets(labels, self._dataset.num_classes, self._settings.loss)
    return cast(Array, _Subsets(self._dataset, indices.reshape(len(keys), -1))), labels

  def _record(
    self, task: tuple[str, str], decoded: int, iteration: int, accuracies: np.ndarray
  ) -> dict[str, Any]:
    name, architecture = task
    ipc = None if name == WHOLE else self._config.ipc
    return {
      "iteration": iteration if name == SYNTHETIC else 0,
      "set": name,
      "network": architecture,
      "protocol": self._settings.protocol,
      "augmentation": self._settings.augmentation,
      "cutmix": self._settings.cutmix,
      "epochs": self._settings.epochs,
      "lr": self._settings.learning_rate,
      "loss": self._settings.loss,
      "temperature": self._settings.division,
      **(self._teacher.record() if self._teacher else {}),
      "networks": len(accuracies),
      "ipc": ipc,
      "decoded_ipc": decoded if name == SYNTHETIC else ipc,
      **evaluation.summarise(accuracies),
      "last": np.round(accuracies[:, -1], 6).tolist(),  # of each network
    }


def _confusion(counts: np.ndarray) -> dict[str, list[str]]:
  """What a record says of a confusion `[classes, classes]`: a text for each true class.

  The counts are sums over networks, after the last epoch. As texts they are a line each in
  `summary.json`.
  """
  return {"confusion": [" ".join(map(str, row)) for row in counts.tolist()]}


def teacher(
  config: ConfigDict,
  dataset: Dataset,
  layout: Strategy,
  keys: Keys,
  text: str,
  epochs: int,
  field: str,
) -> Teacher | FromFile:
  """A network that `field` names and all real images teach, or one of a file; trains nothing."""
  if architectures.is_trained(text):
    build = partial(evaluation_network, config, dataset, layout, field=field)
    return FromFile(field, text, dataset, build)
  of_teacher = evaluation_network(config, dataset, layout, text, field)
  return Teacher(text, of_teacher, config, layout, dataset, keys.init, epochs)


class _Subsets:
  """Subsets `[networks, N, H, W, C]`, normalised, that are gathered only when they are indexed."""

  def __init__(self, dataset: Dataset, indices: np.ndarray):
    self._dataset, self._indices = dataset, indices
    self._gather = jax.jit(lambda dataset, indices: dataset.normalise(dataset.images[indices]))

  def __getitem__(self, numbers: np.ndarray) -> Array:
    indices = self._indices[numbers]
    if isinstance(self._dataset.images, data.OnDisk):
      return self._dataset.normalise(jnp.asarray(self._dataset.images.read(indices)))
    return self._gather(self._dataset, indices)


def evaluation_network(
  config: ConfigDict,
  dataset: Dataset,
  layout: Strategy,
  text: str,
  field: str = "evaluation.architectures",
) -> nn.Network:
  """A network that `field` names; what it does not say is as in the config."""
  try:
    return network(config, dataset, layout, **architectures.at_evaluation(config.network, text))
  except UserError as error:
    raise UserError(f"{field}: '{text}': {error}") from None


def synthetic_set(
  config: ConfigDict,
  dataset: Dataset,
  stored: Stored,
  labels: Array | np.ndarray | None = None,
  **more: Any,
) -> SyntheticSet:
  """A set with all that is known about it; `labels` are soft, `more` are further metadata."""
  about = {"method": config.method, "config": config.to_dict(), "seed": config.seed}
  if labels is not None:
    about["label_kind"] = config_lib.definition(config.method).label_kind
  forming, variant = decoder(config, dataset), config.dataset.zca_variant
  return set_of(dataset, forming, stored, variant, labels, **about, **more)


def set_of(
  dataset: Dataset,
  forming: Formation,
  stored: Stored,
  zca_variant: str,
  labels: Array | np.ndarray | None = None,
  **about: Any,
) -> SyntheticSet:
  """A set, with what a dataset and a formation say of it.

  Args:
    dataset: that it is of, whitened if networks see it so.
    forming: what the stored images are decoded by.
    stored: them.
    zca_variant: of the whitening, if there is one; an entry of `zca.VARIANTS`.
    labels: soft ones, if there are any.
    **about: further metadata: `method`, `config`, `seed`, of soft labels `label_kind`, and what
      else is known.
  """
  classes, ipc = stored.images.shape[:2]
  hard = np.repeat(np.arange(classes, dtype=np.int32)[:, None], ipc, axis=1)
  metadata = {
    "dataset": dataset.name,
    "class_names": list(dataset.class_names),
    "range": image_range(forming, dataset),
    "zca": dataset.whitening is not None,
    **({} if dataset.whitening is None else {"zca_variant": zca_variant}),
    "mean": np.asarray(dataset.mean).tolist(),
    "std": np.asarray(dataset.std).tolist(),
    "formation": forming.metadata(),
    "ipc": ipc,
    "version": __version__,
    **about,
  }
  (images, weights), soft = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float32), (stored, labels)
  )
  whitening = jax.tree.map(np.asarray, dataset.whitening)
  return SyntheticSet(images, hard, metadata, weights, whitening, soft)


def image_range(forming: Formation, dataset: Dataset) -> str:
  """What the numbers are that a set stores, an entry of `set_file.RANGES`."""
  if forming.unit:
    return "unit"
  return "normalised" if dataset.whitening is None else "whitened"
