"""A teacher: a network trained on all real images, whose outputs label those of a set."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dcjax import evaluation
from dcjax.common.activity import working
from dcjax.common.errors import UserError
from dcjax.common.registry import content
from dcjax.common.types import Array, Key, Params
from dcjax.config.datasets import default_strategy
from dcjax.data import Dataset, OnDisk, base_name, cache
from dcjax.devices.strategy import Strategy
from dcjax.nn import Network, architectures
from dcjax.run import pretrained
from dcjax.run.progress import logger

Taught = tuple[Params, Params, Array]  # parameters, statistics of batch norm, test accuracy


class Teacher:
  """A teacher, which is trained when it is first asked for, and then kept in the cache.

  It is trained as DC's evaluation trains networks, with the transforms of DSA for the dataset.
  """

  def __init__(
    self,
    text: str,
    network: Network,
    config: ConfigDict,
    layout: Strategy,
    dataset: Dataset,
    key: Key,
  ):
    """Trains nothing yet.

    Args:
      text: what the network is called.
      network: what is trained.
      config: of the run; its `evaluation.teacher_epochs` are passes over the images.
      layout: how many images go together.
      dataset: whose training images teach it.
      key: of its parameters and its batches, from `config.seed`.

    Raises:
      UserError: the images are not in memory.
    """
    if isinstance(dataset.images, OnDisk):
      raise UserError(
        "evaluation.teacher: it is trained on all images, which do not fit in memory; leave it "
        "out, or raise compute.memory_limit"
      )
    self.network = network
    self._text, self._config = text, config
    self._layout, self._dataset, self._key = layout, dataset, key
    self._settings = evaluation.EvaluationSettings(
      "dc", config.evaluation.teacher_epochs, default_strategy(base_name(dataset.name)), 1, 1
    )
    self._taught: Taught | None = None
    self._record: dict[str, Any] = {}

  def trained(self, wait: Callable[[Any], Any]) -> tuple[Params, Params]:
    """Its parameters, and its statistics of batch norm (empty without)."""
    if self._taught is None:
      self._taught = self._from_cache(wait)
      self._record = self._describe(self._taught)
    return self._taught[:2]

  def record(self) -> dict[str, Any]:
    """What is said of it, once it is trained, beside the accuracies of those that it has taught."""
    return self._record

  def _from_cache(self, wait: Callable[[Any], Any]) -> Taught:
    name = architectures.parse(self._text)["name"]
    fields = self._config.network.to_dict() | {"teacher": self._text}
    fields |= content("evaluation.teacher", name)
    digest = pretrained.digest_of(fields, self._config.seed, self._settings, self._dataset)
    entry = cache.root(self._config.dataset.cache_dir) / "teachers" / digest
    template = jax.eval_shape(lambda: self._finish(self._dataset, self.network.init(self._key)))
    with working(f"training the teacher {self._text}, {self._settings.epochs} epochs"):
      return pretrained.kept(entry, template, lambda: self._train(wait))

  def _train(self, wait: Callable[[Any], Any]) -> Taught:
    carry = jax.jit(lambda dataset: self._trainer(dataset).start())(self._dataset)
    epoch = jax.jit(lambda dataset, carry, e: self._trainer(dataset).advance(carry, e, e + 1))
    for number in range(self._settings.epochs):
      carry = wait(epoch(self._dataset, carry, number))
      logger.info("teacher: epoch %d of %d", number + 1, self._settings.epochs)
    return wait(jax.jit(self._finish)(self._dataset, carry[0]))

  def _finish(self, dataset: Dataset, params: Params) -> Taught:
    stats = self._trainer(dataset).statistics(params)
    block = self._layout.blocks(evaluation.TEST_BLOCK)
    accuracy = evaluation.accuracy(self.network, params, dataset, block=block, stats=stats)
    return params, stats, accuracy

  def _trainer(self, dataset: Dataset) -> evaluation.Trainer:
    return evaluation.make_trainer(
      self.network, self._settings, self._layout, dataset.images, dataset.labels,
      key=self._key, decode=dataset.normalise,
    )  # fmt: skip

  def _describe(self, taught: Taught) -> dict[str, Any]:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(taught):
      digest.update(np.asarray(leaf).tobytes())
    return {
      "teacher": self._text,
      "teacher_epochs": self._settings.epochs,
      "teacher_accuracy": float(taught[2]),
      "teacher_digest": digest.hexdigest()[:16],
    }
