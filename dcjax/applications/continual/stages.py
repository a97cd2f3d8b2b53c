"""What a network learns at one stage of continual learning, as pure functions of arrays and keys.

A network goes from stage to stage, and is held to what it said before by distillation (Hinton et
al., 2015; Li and Hoiem, "Learning without forgetting", 2017).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcjax import augment, evaluation
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.devices.strategy import Strategy
from dcjax.nn import Network, training

Teach = Callable[[Array, Array], Array]  # see `training.Batching`
Examples = tuple[Array, Array]  # images and labels
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # of rehearsal, on which the papers say nothing


class Distillation(NamedTuple):
  """How a network is held to the one of the stage before.

  Attributes:
    weight: of that loss beside the one of the labels; 0: none.
    temperature: by which the logits of both are divided.
  """

  weight: float
  temperature: float


class Previous(NamedTuple):
  """The network after the previous stage.

  Attributes:
    network: which knows the first classes only, or all of them.
    params: its parameters.
    classes: how many it knows.
  """

  network: Network
  params: Params
  classes: int


class Phase(NamedTuple):
  """So many iterations at one learning rate."""

  iterations: int
  lr: float


class Rehearsal(NamedTuple):
  """How a network learns new images beside a memory of old ones (DC, Appendix A).

  Attributes:
    training: on new images and the memory.
    finetuning: on the memories of all tasks, which are balanced.
    batch: images of an iteration, drawn at random.
    augmentation: as `augment.by_name` takes it.
  """

  training: Phase
  finetuning: Phase
  batch: int
  augmentation: str


def distilling(
  network: Network, classes: int, previous: Previous, distillation: Distillation
) -> tuple[Network, Teach]:
  """A network that learns from labels and from a previous one at once.

  Its logits are log-probabilities: those of all classes and, beside them, those of the previous
  classes alone, softened by the temperature. Targets are like that, too. Since each of the two sums
  to one, the cross-entropy is that of the labels and that of the previous network (times
  its weight), and a multiple of log(2) that has no gradient.

  Args:
    network: with logits `[N, classes]`.
    classes: how many it is to know.
    previous: with logits `[N, previous.classes]`.
    distillation: weight and temperature.

  Returns:
    The network, which has the parameters of `network`, and what teaches it.
  """
  temperature = distillation.temperature

  def both(outputs):
    logits, features = outputs
    softened = logits[:, : previous.classes] / temperature
    parts = jax.nn.log_softmax(logits), jax.nn.log_softmax(softened)
    return jnp.concatenate(parts, axis=1), features

  def apply(params, images, stats=None):
    return both(network.apply(params, images, stats))

  def train(params, images, key):
    assert network.train is not None
    return both(network.train(params, images, key))

  def teach(images, targets):
    logits, _ = previous.network.apply(previous.params, images)
    if targets.ndim == 1:
      targets = jax.nn.one_hot(targets, classes)
    if targets.shape[1] == classes:  # CutMix gives them as many columns as there are logits
      targets = jnp.pad(targets, ((0, 0), (0, previous.classes)))
    soft = jax.nn.softmax(logits / temperature)
    return targets.at[:, classes:].set(distillation.weight * soft)

  return network._replace(apply=apply, train=network.train and train), teach


def grow(params: Params, larger: Params) -> Params:
  """Parameters of a network with more classes that does what the smaller one did.

  Args:
    params: of the smaller one.
    larger: of one with more classes, which come last; those of the new classes are kept.
  """

  def join(old, new):
    return new.at[tuple(map(slice, old.shape))].set(old)

  return jax.tree.map(join, params, larger)


def learn_memory(
  network: Network,
  images: Array,
  labels: Array,
  key: Key,
  previous: Previous | None,
  *,
  classes: int,
  settings: evaluation.EvaluationSettings,
  layout: Strategy,
  distillation: Distillation,
) -> Params:
  """Trains on the memory alone, from the previous network with a grown last layer (IDC, C.3).

  Args:
    network: what is trained.
    images: of the memory of all classes, normalised `[N, H, W, C]`.
    labels: int32 `[N]`, or probabilities `[N, classes]`.
    key: of new parameters, the order, the augmentation and CutMix.
    previous: None at the first stage.
    classes: how many it is to know.
    settings: how; `networks` and `checks` do not matter.
    layout: its block of images.
    distillation: from the previous network.

  Returns:
    The parameters.
  """
  learner = network
  teach: Teach = training.no_teacher
  if previous is not None:
    if distillation.weight:
      learner, teach = distilling(network, classes, previous, distillation)
    learner = learner._replace(init=lambda key: grow(previous.params, network.init(key)))
  trainer = evaluation.make_trainer(learner, settings, layout, images, labels, key=key, teach=teach)
  return trainer.advance(trainer.start(), 0, settings.epochs)[0]


class Mixed:
  """New images and a memory as one set, which is normalised only where it is indexed."""

  def __init__(self, dataset: Dataset, memory: Array):
    """Joins the training split of a data set, and normalised images `[N, H, W, C]`."""
    self._dataset, self._memory = dataset, memory
    self._new = dataset.images.shape[0]
    self.shape = (self._new + memory.shape[0], *dataset.image_shape)

  def __getitem__(self, index: Array) -> Array:
    """Normalised images `[n, H, W, C]`; the memory comes after the new ones."""
    new = self._dataset.normalise(self._dataset.images[jnp.minimum(index, self._new - 1)])
    old = self._memory[jnp.maximum(index - self._new, 0)]
    return jnp.where((index < self._new)[:, None, None, None], new, old)


def rehearse(
  network: Network,
  dataset: Dataset,
  old: Sequence[Examples],
  chosen: Examples,
  key: Key,
  *,
  previous: Params | None,
  settings: Rehearsal,
  layout: Strategy,
  distillation: Distillation,
) -> Params:
  """Trains on a task's images and the memory of those before, then on a balanced memory (DC).

  Castro et al., "End-to-end incremental learning" (2018), with classes that stay the same: a
  batch is drawn from new images and memory alike, and after that as many images of each task and
  class. The first stage has nothing to balance, and no previous network.

  Args:
    network: what is trained.
    dataset: of this task, whose training split is used.
    old: the memories of the tasks before, one after another: normalised images
      `[classes, n, H, W, C]` and labels, int32 `[classes, n]` or probabilities
      `[classes, n, classes]`; none at the first one.
    chosen: the memory of this task.
    key: of new parameters, the batches and the augmentation.
    previous: the network's parameters after the previous stage; None at the first one.
    settings: how long, and how fast.
    layout: its block of images.
    distillation: from the previous network, in both phases.

  Returns:
    The parameters.
  """
  init_key, train_key, tune_key = jax.random.split(key, 3)
  change, block = augment.by_name(settings.augmentation), layout.blocks(settings.batch)
  batching = training.Batching(settings.batch, block, dataset.normalise, change)
  if previous is None:
    params, new = network.init(init_key), (dataset.images, dataset.labels)
    return _train(network, params, *new, train_key, phase=settings.training, batching=batching)
  learner, batching = network, batching._replace(decode=training.identity)
  if distillation.weight:
    classes = dataset.num_classes
    known = Previous(network, previous, classes)
    learner, teach = distilling(network, classes, known, distillation)
    batching = batching._replace(teach=teach)
  train = partial(_train, learner, batching=batching)
  images, old_labels = _as_batch(old)
  labels = dataset.labels
  if old_labels.ndim == 2:
    labels = jax.nn.one_hot(labels, dataset.num_classes, dtype=old_labels.dtype)
  labels = jnp.concatenate([labels, old_labels])
  params = train(previous, Mixed(dataset, images), labels, train_key, phase=settings.training)
  balanced = _as_batch([*old, chosen])
  return train(params, *balanced, tune_key, phase=settings.finetuning)


def _train(
  network: Network,
  params: Params,
  images: Any,
  labels: Array,
  key: Key,
  *,
  phase: Phase,
  batching: training.Batching,
) -> Params:
  """The parameters after a phase; `images` are indexed by int32 `[n]`."""
  optimizer = training.sgd(phase.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
  learner, carry = training.Learner(network, optimizer, batching), (params, optimizer.init(params))
  stop = phase.iterations
  carry, _ = training.random_steps(learner, carry, images, labels, key, start=0, stop=stop)
  return carry[0]


def _as_batch(memories: Sequence[Examples]) -> Examples:
  """Memories of tasks with the same classes as one batch of images, and its labels."""

  def joined(parts):
    return jnp.concatenate([part.reshape(-1, *part.shape[2:]) for part in parts])

  images, labels = zip(*memories, strict=True)
  return joined(images), joined(labels)
