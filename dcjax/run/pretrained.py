"""A network trained on the full training set, and how often it forgot each image.

Training it takes minutes where using it takes seconds: it is kept in the cache, so that all
coresets of one seed share it.
"""

import hashlib
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcjax import evaluation
from dcjax.common.errors import UserError
from dcjax.common.registry import content
from dcjax.common.types import Array, Key, Params
from dcjax.common.version import __version__
from dcjax.config import own_code
from dcjax.data import Dataset, OnDisk, cache
from dcjax.devices import processes
from dcjax.devices.strategy import Strategy
from dcjax.methods import coreset
from dcjax.nn import Network, training
from dcjax.run.progress import Pieces, logger

T = TypeVar("T")
_CACHE_FORMAT = 1  # to be raised when what is cached changes


class Trained(NamedTuple):
  """The result of training on the full training set."""

  params: Params  # of the network, after the last epoch
  events: Array  # [N] int32: how often each image was forgotten, see `coreset.forgetting_events`


def train(
  network: Network,
  settings: evaluation.EvaluationSettings,
  strategy: Strategy,
  dataset: Dataset,
  key: Key,
  *,
  wait: Callable[[Any], Any] = jax.block_until_ready,
) -> Trained:
  """Trains a network on all training images, and looks at all of them after each epoch.

  Args:
    network: one whose logits for an image do not depend on others: without batch norm.
    settings: protocol, epochs and augmentation, as an evaluation has them.
    strategy: its block of images.
    dataset: whose training split is used.
    key: of the initial parameters, the order and the augmentation.
    wait: returns arrays once they are computed.

  Raises:
    UserError: the parameters do not stay finite.
  """

  def trainer(dataset):
    return evaluation.make_trainer(
      network, settings, strategy, dataset.images, dataset.labels,
      key=key, decode=dataset.normalise,
    )  # fmt: skip

  @jax.jit
  def epoch(dataset, carry, number):
    carry = trainer(dataset).advance(carry, number, number + 1)
    block = strategy.blocks(evaluation.TEST_BLOCK)
    return carry, training.correct(
      network, carry[0], dataset.images, dataset.labels, block=block, decode=dataset.normalise
    )

  logger.info("training on all %d images, %d epochs", len(dataset.labels), settings.epochs)
  carry = jax.jit(lambda dataset: trainer(dataset).start())(dataset)
  history: list[Array] = []
  epochs = Pieces(settings.epochs, "epochs")
  for number in range(settings.epochs):
    carry, correct = wait(epoch(dataset, carry, number))
    _check_finite(carry[0], number + 1)
    history.append(correct)
    logger.info(epochs.far(number + 1, f"{correct.mean():.4f} of the training images right"))
  return Trained(carry[0], coreset.forgetting_events(jnp.stack(history)))


def _check_finite(params: Params, epoch: int) -> None:
  if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
    raise UserError(
      f"network: its parameters are not finite after epoch {epoch} on the full training set; "
      "choose another network.norm or network.activation"
    )


def cached(
  network: Network,
  config: ConfigDict,
  settings: evaluation.EvaluationSettings,
  strategy: Strategy,
  dataset: Dataset,
  *,
  key: Key,
  wait: Callable[[Any], Any] = jax.block_until_ready,
) -> Trained:
  """What `train` returns, from the cache if it is there; a cache only saves time.

  Args:
    network: see `train`, as are all that are not named here.
    config: of the run; what the network depends on names the entry.
    settings: see `train`.
    strategy: see `train`.
    dataset: see `train`.
    key: see `train`; from `config.seed`.
    wait: see `train`.
  """
  make = partial(train, network, settings, strategy, dataset, key, wait=wait)
  if own_code(settings._asdict()):  # a transform, whose file may change
    return make()
  fields = config.network.to_dict() | content("network.name", config.network.name)
  entry = cache.root(config.dataset.cache_dir) / "networks"
  template = jax.eval_shape(lambda: Trained(network.init(key), jnp.zeros_like(dataset.labels)))
  return kept(entry / digest_of(fields, config.seed, settings, dataset), template, make)


def kept(entry: Path, template: T, make: Callable[[], T]) -> T:
  """A tree of arrays from the cache; made, and put there, where it is not.

  Args:
    entry: its folder, named by all that it depends on.
    template: its shapes and types, as `jax.eval_shape` returns them.
    make: makes it.
  """
  found = _read(entry, template)
  lacking = processes.highest(found is None)  # in any process: all must do the same work
  if found is not None and not lacking:
    logger.info("the network trained on all images is in the cache: %s", entry)
    return found
  made = make()
  _write(entry, made)
  return made


def passes(
  entry: Path,
  count: int,
  start: Callable[[], T],
  once: Callable[[T, int], T],
) -> T:
  """What so many passes over the images make of a start; one that was stopped goes on.

  Args:
    entry: a folder for what is done so far; who keeps the result deletes it then.
    count: of passes.
    start: `start() -> carry`.
    once: `once(carry, number) -> carry`, one pass, computed when it returns.
  """
  template = jax.eval_shape(lambda: (start(), jnp.int32(0)))
  found = _read(entry, template)
  carry, done = (start(), 0) if found is None else (found[0], int(found[1]))
  if processes.highest(done) != -processes.highest(-done):
    carry, done = start(), 0
  epochs = Pieces(count, "epochs", done)
  if done:
    logger.info("going on after %s: %s", epochs.far(done), entry)
  for number in range(done, count):
    carry = once(carry, number)
    logger.info(epochs.far(number + 1))
    _write(entry, (carry, np.int32(number + 1)))
  return carry


def digest_of(
  network: dict[str, Any], seed: int, settings: evaluation.EvaluationSettings, dataset: Dataset
) -> str:
  """A name for all that a trained network depends on; `network` are the fields that tell it."""
  fields = {
    "format": _CACHE_FORMAT,
    "version": __version__,
    "dataset": dataset.name,
    "seed": seed,
    "network": network,
    "training": settings._asdict(),
  }
  digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
  images: Any = dataset.images
  if isinstance(images, OnDisk):  # which are too many to look at: where each of them is
    digest.update(pickle.dumps(images.reader))
    images = None
  seen = images, dataset.labels, dataset.mean, dataset.std, dataset.whitening
  for array in jax.tree.leaves(seen):
    digest.update(np.asarray(array).tobytes())
  return digest.hexdigest()[:16]


def _names(template: Any) -> tuple[str, ...]:
  """The names of the arrays in the cache."""
  return tuple(f"{number:03d}" for number in range(len(jax.tree.leaves(template))))


def _write(entry: Path, tree: Any) -> None:
  """Puts the arrays of a tree into the cache."""
  leaves = map(np.asarray, jax.tree.leaves(tree))
  cache.write(entry, dict(zip(_names(tree), leaves, strict=True)))


def _read(entry: Path, template: T) -> T | None:
  """An entry of the cache, if there is one with arrays like those of `template`."""
  leaves, tree = jax.tree.flatten(template)
  dtypes = {name: leaf.dtype for name, leaf in zip(_names(template), leaves, strict=True)}
  arrays = cache.read(entry, dtypes)
  if arrays is None:
    return None
  if [array.shape for array in arrays.values()] != [leaf.shape for leaf in leaves]:
    logger.warning("%s: not used (arrays of other shapes); making it anew", entry)
    return None
  return jax.tree.unflatten(tree, map(jnp.asarray, arrays.values()))
