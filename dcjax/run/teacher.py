"""A teacher: a network trained on all real images, whose outputs label those of a set."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcjax import evaluation
from dcjax.common.activity import working
from dcjax.common.errors import UserError
from dcjax.common.types import Key, Params
from dcjax.common.version import __version__
from dcjax.config.datasets import default_strategy
from dcjax.data import Dataset, OnDisk, base_name, cache
from dcjax.devices.strategy import Strategy
from dcjax.nn import Network
from dcjax.run.progress import logger

_CACHE_FORMAT = 1  # to be raised when what is cached changes


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
      key: of its parameters and its batches.

    Raises:
      UserError: the images are not in memory.
    """
    if isinstance(dataset.images, OnDisk):
      raise UserError(
        "evaluation.teacher: it is trained on all images, which do not fit in memory; leave it "
        "out, or raise compute.memory_limit"
      )
    self.text, self.network = text, network
    self._layout, self._dataset, self._key = layout, dataset, key
    self._settings = evaluation.EvaluationSettings(
      "dc", config.evaluation.teacher_epochs, default_strategy(base_name(dataset.name)), 1, 1
    )
    fields = config.network.to_dict(), self.text, self._settings._asdict(), config.seed
    self._fields = json.dumps([_CACHE_FORMAT, __version__, dataset.name, *fields])
    self._cache_dir = config.dataset.cache_dir
    self._content: dict[str, np.ndarray] = {}  # arrays by their number, the accuracy last

  def trained(self, wait: Callable[[Any], Any]) -> tuple[Params, Params]:
    """Its parameters, and its statistics of batch norm (empty without)."""
    template = jax.eval_shape(lambda dataset: self._train(dataset), self._dataset)
    leaves, tree = jax.tree.flatten(template)
    names = [f"{number:03d}" for number in range(len(leaves))]
    if not self._content:
      entry = cache.root(self._cache_dir) / "teachers" / self._digest()
      found = cache.read(entry, {n: leaf.dtype for n, leaf in zip(names, leaves, strict=True)})
      if found is None:
        with working(f"training the teacher {self.text}, {self._settings.epochs} epochs"):
          arrays = jax.tree.leaves(self._train(self._dataset, wait))
        found = dict(zip(names, map(np.asarray, arrays), strict=True))
        cache.write(entry, found)
      self._content = found
    params, stats, _ = jax.tree.unflatten(tree, [jnp.asarray(self._content[n]) for n in names])
    return params, stats

  def record(self) -> dict[str, Any]:
    """What is said of it beside the accuracies of those that it has taught."""
    digest = hashlib.sha256()
    for name in sorted(self._content):
      digest.update(self._content[name].tobytes())
    return {
      "teacher": self.text,
      "teacher_epochs": self._settings.epochs,
      "teacher_accuracy": float(self._content[max(self._content)]),
      "teacher_digest": digest.hexdigest()[:16],
    }

  def _train(
    self, dataset: Dataset, wait: Callable[[Any], Any] | None = None
  ) -> tuple[Params, Params, jax.Array]:
    """Parameters, statistics and the accuracy on the test images; without `wait` of no epochs."""

    def trainer(dataset):
      return evaluation.make_trainer(
        self.network, self._settings, self._layout, dataset.images, dataset.labels,
        key=self._key, decode=dataset.normalise,
      )  # fmt: skip

    @jax.jit
    def finish(dataset, params):
      stats, block = trainer(dataset).statistics(params), self._layout.blocks(evaluation.TEST_BLOCK)
      return stats, evaluation.accuracy(self.network, params, dataset, block=block, stats=stats)

    epoch = jax.jit(lambda dataset, carry, e: trainer(dataset).advance(carry, e, e + 1))
    carry = jax.jit(lambda dataset: trainer(dataset).start())(dataset)
    if wait is not None:
      for number in range(self._settings.epochs):
        carry = wait(epoch(dataset, carry, number))
        logger.info("teacher: epoch %d of %d", number + 1, self._settings.epochs)
    return carry[0], *finish(dataset, carry[0])

  def _digest(self) -> str:
    """A name for all that it depends on."""
    digest = hashlib.sha256(self._fields.encode())
    seen = self._dataset
    for array in jax.tree.leaves((seen.images, seen.labels, seen.mean, seen.std, seen.whitening)):
      digest.update(np.asarray(array).tobytes())
    return digest.hexdigest()[:16]
