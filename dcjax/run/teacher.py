"""A teacher: a network trained on all real images, whose outputs label those of a set."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcjax import evaluation
from dcjax.common.activity import working
from dcjax.common.digests import of_arrays
from dcjax.common.registry import content
from dcjax.common.types import Key, Params
from dcjax.config.datasets import default_strategy
from dcjax.data import Dataset, OnDisk, base_name, cache
from dcjax.devices.strategy import Strategy
from dcjax.evaluation.trainer import STATISTICS_BATCHES
from dcjax.nn import Network, architectures
from dcjax.run import pretrained, teacher_file
from dcjax.run.teacher_file import Taught


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
    epochs: int,
  ):
    """Trains nothing yet.

    Args:
      text: what the network is called.
      network: what is trained.
      config: of the run.
      layout: how many images go together.
      dataset: whose training images teach it, in memory or on disk.
      key: of its parameters and its batches, from `config.seed`.
      epochs: passes over the images.
    """
    self.network = network
    self._text, self._config = text, config
    self._layout, self._dataset, self._key = layout, dataset, key
    self._settings = evaluation.EvaluationSettings(
      "dc", epochs, default_strategy(base_name(config.dataset.name)), 1, 1
    )
    self._taught: Taught | None = None
    self._record: dict[str, Any] = {}

  def trained(self, wait: Callable[[Any], Any]) -> tuple[Params, Params]:
    """Its parameters, and its statistics of batch norm (empty without)."""
    if self._taught is None:
      self._taught = self._from_cache(wait)
      self._record = teacher_file.described(
        self._text, self._settings.epochs, float(self._taught[2]), self._taught
      )
    return self._taught[:2]

  def record(self) -> dict[str, Any]:
    """What is said of it, once it is trained, beside the accuracies of those that it has taught."""
    return self._record

  def _from_cache(self, wait: Callable[[Any], Any]) -> Taught:
    fields = architectures.at_evaluation(self._config.network, self._text)
    fields |= content("evaluation.teacher", fields["name"])
    fields["tested"] = of_arrays((self._dataset.test_images, self._dataset.test_labels))
    digest = pretrained.digest_of(fields, self._config.seed, self._settings, self._dataset)
    entry = cache.root(self._config.dataset.cache_dir) / "teachers" / digest
    template = jax.eval_shape(lambda: self._finish(self._few(), self.network.init(self._key)))
    unfinished = entry.with_name(f"{entry.name}-unfinished")
    train = self._train_from_disk if isinstance(self._dataset.images, OnDisk) else self._train
    with working(f"training the teacher {self._text}, {self._settings.epochs} epochs"):
      taught = pretrained.kept(entry, template, lambda: train(unfinished, wait))
    shutil.rmtree(unfinished, ignore_errors=True)
    return taught

  def _train(self, unfinished: Path, wait: Callable[[Any], Any]) -> Taught:
    epoch = jax.jit(lambda dataset, carry, e: self._trainer(dataset).advance(carry, e, e + 1))
    params, _ = pretrained.passes(
      unfinished, self._settings.epochs, self._start,
      lambda carry, number: wait(epoch(self._dataset, carry, number)),
    )  # fmt: skip
    return wait(jax.jit(self._finish)(self._dataset, params))

  def _start(self) -> tuple[Params, Any]:
    return jax.jit(lambda: self._trainer(self._few()).start())()

  def _train_from_disk(self, unfinished: Path, wait: Callable[[Any], Any]) -> Taught:
    """The same with batches that are read as they are needed: each is an epoch of its own."""
    images: Any = self._dataset.images
    batch, steps = evaluation.batches(self._settings, images.shape[0])
    of_batch = self._settings._replace(epochs=self._settings.epochs * steps)

    def read(indices):
      some = jnp.asarray(images.read(indices))
      return dataclasses.replace(self._dataset, images=some, labels=self._dataset.labels[indices])

    @jax.jit
    def step(dataset, carry, number):
      return self._trainer(dataset, of_batch).advance(carry, number, number + 1)

    def order(number):
      key = jax.random.fold_in(jax.random.fold_in(self._key, 1), number)
      return np.asarray(jax.random.permutation(key, images.shape[0]))

    def epoch(carry, number):
      for each, indices in enumerate(np.resize(order(number), (steps, batch))):
        carry = wait(step(read(indices), carry, number * steps + each))
      return carry

    params, _ = pretrained.passes(unfinished, self._settings.epochs, self._start, epoch)
    many = STATISTICS_BATCHES * batch
    return wait(jax.jit(self._finish)(read(order(self._settings.epochs)[:many]), params))

  def _few(self) -> Dataset:
    """One image in place of all, where only shapes matter."""
    one = jnp.zeros((1, *self._dataset.image_shape), jnp.uint8)
    return dataclasses.replace(self._dataset, images=one, labels=self._dataset.labels[:1])

  def _finish(self, dataset: Dataset, params: Params) -> Taught:
    stats = self._trainer(dataset).statistics(params)
    block = self._layout.blocks(evaluation.TEST_BLOCK)
    accuracy = evaluation.accuracy(self.network, params, dataset, block=block, stats=stats)
    return params, stats, accuracy

  def _trainer(
    self, dataset: Dataset, settings: evaluation.EvaluationSettings | None = None
  ) -> evaluation.Trainer:
    return evaluation.make_trainer(
      self.network, settings or self._settings, self._layout, dataset.images, dataset.labels,
      key=self._key, decode=dataset.normalise,
    )  # fmt: skip

  def save(self, file: Path) -> None:
    """Writes it, once it is trained, for other runs; not one of a user's code."""
    assert self._taught is not None
    fields = architectures.at_evaluation(self._config.network, self._text)
    if not architectures.names_file(self._text):
      text = architectures.text_of(fields)
      teacher_file.save(file, text, self._dataset, self._taught, self._settings.epochs)
