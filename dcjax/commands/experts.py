"""The driver of `dcjax experts`: networks trained on real images, kept after each epoch."""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

from dcjax import augment, data, evaluation
from dcjax import config as config_lib
from dcjax.common import digests
from dcjax.common.errors import UserError
from dcjax.common.files import writing
from dcjax.common.types import Array, Key, Params
from dcjax.common.version import __version__
from dcjax.data import Dataset, OnDisk
from dcjax.devices import compilation
from dcjax.methods import trajectories
from dcjax.methods.trajectories import MANIFEST
from dcjax.nn import training
from dcjax.nn.gsam import gsam
from dcjax.run import experiment, pretrained
from dcjax.run.experiment import Keys
from dcjax.run.interrupt import Interrupts
from dcjax.run.progress import logger, working
from dcjax.run.workdir import Workdir, held, write_json

_UNFINISHED = "unfinished-"  # what folders of epochs so far begin with
TIMED = 4  # steps whose time says how long all will take
Carry = tuple[Array, Array]  # parameters [size] float32, and those kept [epochs kept, size]


def experts(config: ConfigDict, workdir: str | os.PathLike) -> dict[str, Any]:
  """Trains the experts of a config, or goes on with those that are not done.

  Writes `NNNN.npy` for each, and `experts.json`, into `workdir`. With a higher `experts.networks`
  more are added.

  Args:
    config: of a method that has experts, as `configs/mtt.py` makes it.
    workdir: a folder; it is made if need be.

  Returns:
    The content of `experts.json`.

  Raises:
    UserError: bad input, found before any long work; or no room on the disk.
    Interrupted: SIGTERM or Ctrl-C; the epochs that are done are kept.
  """
  if isinstance(config, ConfigDict) and "experts" not in config:
    raise UserError(
      f"config: {config.get('method')} has no experts; give configs/mtt.py, ftd.py or datm.py"
    )
  config = config_lib.resolve(config)
  with held(Workdir(workdir), "the same command goes on") as folder:
    work = Training(config, data.load(config.dataset, experiment.memory(config)), folder.path)
    with (
      compilation.kept(config.compute.cache_dir, folder.path),
      Interrupts("the same command goes on after the last epoch") as interrupts,
    ):
      return work.finish(interrupts.wait)


def _unfinished(number: int) -> str:
  return f"{_UNFINISHED}{number:04d}"


class Training:
  """The experts of a folder, and how they are trained."""

  def __init__(self, config: ConfigDict, dataset: Dataset, path: Path):
    """Builds and checks everything; nothing is written.

    Raises:
      UserError: the config does not fit the data, or the folder holds other experts.
    """
    self.dataset, self.path, self.fields = dataset, path, config.experts
    self.layout = experiment.strategy(config, dataset)
    self.network = experiment.network(config, dataset, self.layout)
    self.key = Keys.from_seed(config.seed).loop
    augment.check_images("dsa.strategy", config.dsa.strategy, dataset.image_shape)
    self.augment = augment.transform(config.dsa.strategy, draw=config.dsa.draw, shared=False)
    needed = config.start.most - 1 + config.expert_epochs
    self.manifest = self._manifest(config, needed)
    self.size = ravel_pytree(self.network.init(self.key))[0].size
    self._check_room()

  def _manifest(self, config: ConfigDict, needed: int) -> dict[str, Any]:
    """What the folder has, which must be what the config says; or the beginning of that."""
    trained = trajectories.trained_by(config, self.dataset)
    new = {
      "version": __version__,
      "seed": config.seed,
      "trained": trained,
      "kept": trajectories.epochs_kept(self.fields, needed),
      "dtype": self.fields.dtype,
      "experts": [],
    }
    found = trajectories.read_manifest(self.path)
    if found is None:
      return new
    trajectories.check_same(found, trained, self.path)
    for name in ("seed", "kept", "dtype"):
      if found.get(name) != new[name]:
        raise UserError(
          f"workdir: {self.path} holds experts with {name}: {found.get(name)}, this config has "
          f"{new[name]}; give another folder"
        )
    while found["experts"] and not self._file(len(found["experts"]) - 1).exists():
      found["experts"].pop()  # of which the file was deleted
    return found

  def _check_room(self) -> None:
    """Says how much the experts will take; raises `UserError` if there is not that much."""
    one = len(self.manifest["kept"]) * self.size * np.dtype(self.fields.dtype).itemsize
    left = max(0, self.fields.networks - len(self.manifest["experts"]))
    free = shutil.disk_usage(self.path).free
    logger.info(
      "%d experts of %d epochs, %d of them done; %.3g MB to write", self.fields.networks,
      self.fields.epochs, self.fields.networks - left, left * one / 1e6,
    )  # fmt: skip
    if left * one > free:
      raise UserError(
        f"experts.networks: {left} experts of {one:,} bytes do not fit into the {free:,} bytes "
        f"that are free in {self.path}; give {int(free // one)}, or experts.kept=needed, or "
        "experts.dtype=float16"
      )

  def finish(self, wait: Callable[[Any], Any]) -> dict[str, Any]:
    """Trains what is not done; returns the manifest."""
    done = len(self.manifest["experts"])
    self._clear(done)
    if done < self.fields.networks:
      self._say_how_long(self.fields.networks - done, wait)
    for number in range(done, self.fields.networks):
      began = time.monotonic()
      unfinished = self.path / _unfinished(number)
      with working(f"training expert {number + 1} of {self.fields.networks}"):
        flat, kept = pretrained.passes(
          unfinished, self.fields.epochs, partial(self._start, number),
          partial(self._epoch, number, wait=wait),
        )  # fmt: skip
        accuracy = float(wait(self._accuracy(self.dataset, flat)))
      self._keep(number, np.asarray(kept), accuracy, time.monotonic() - began)
      shutil.rmtree(unfinished, ignore_errors=True)
      logger.info(
        "expert %d of %d: %.4f of the test images right", number + 1, self.fields.networks, accuracy
      )
    return self.manifest

  def _clear(self, done: int) -> None:
    """Deletes what killed starts have left, but for the epochs of the expert that is next."""
    for path in self.path.glob(f"{_UNFINISHED}*"):
      if path.name != _unfinished(done):
        shutil.rmtree(path, ignore_errors=True)

  def _keep(self, number: int, kept: np.ndarray, accuracy: float, seconds: float) -> None:
    with writing(self._file(number), "wb") as stream:
      np.save(stream, kept, allow_pickle=False)
    self.manifest["experts"].append(
      {
        "sha256": digests.sha256([kept]),
        "accuracy": round(accuracy, 6),
        "seconds": round(seconds, 3),
      }
    )
    write_json(self.path / MANIFEST, self.manifest)

  def _file(self, number: int) -> Path:
    return self.path / trajectories.file_name(number)

  def _start(self, number: int) -> Carry:
    """An expert before its training."""
    flat = ravel_pytree(self.network.init(self._keys(number)[0]))[0].astype(jnp.float32)
    kept = jnp.zeros((len(self.manifest["kept"]), self.size), self.fields.dtype)
    return flat, kept.at[0].set(flat.astype(self.fields.dtype))

  def _epoch(self, number: int, carry: Carry, epoch: int, wait: Callable[[Any], Any]) -> Carry:
    """An expert after another epoch; raises `UserError` if it does not stay finite."""
    flat, kept = carry
    flat = self._once_through(flat, jax.random.fold_in(self._keys(number)[1], epoch), wait)
    if not np.isfinite(flat).all() or not np.isfinite(flat.astype(self.fields.dtype)).all():
      raise UserError(
        f"experts.lr: {self.fields.lr} leads to parameters that are not finite in epoch "
        f"{epoch + 1}; lower it"
      )
    if epoch + 1 in self.manifest["kept"]:
      row = self.manifest["kept"].index(epoch + 1)
      kept = kept.at[row].set(flat.astype(kept.dtype))
    return wait((flat, kept))

  def _once_through(self, flat: Array, key: Key, wait: Callable[[Any], Any]) -> Array:
    """Parameters after all images; of images on disk each batch is read as it is needed."""
    images: Any = self.dataset.images
    if not isinstance(images, OnDisk):
      return wait(self._trained(self.dataset, flat, key))
    order = np.asarray(jax.random.permutation(key, images.shape[0]))
    for first in range(0, len(order), self.fields.batch):
      some = np.sort(order[first : first + self.fields.batch])
      read = jnp.asarray(images.read(some))
      batch = dataclasses.replace(self.dataset, images=read, labels=self.dataset.labels[some])
      flat = wait(self._trained(batch, flat, jax.random.fold_in(key, first)))
    return flat

  @partial(jax.jit, static_argnums=0)
  def _trained(self, dataset: Dataset, flat: Array, key: Key) -> Array:
    """Parameters after once through the images of a dataset in memory."""
    fields, batch = self.fields, self.fields.batch
    decode, block = dataset.normalise, self.layout.blocks(batch)
    batching = training.Batching(batch, block, decode, self.augment)
    learner = training.Learner(self.network, optax.sgd(fields.lr), batching)
    if fields.rho or fields.alpha:
      learner = learner._replace(refine=gsam(fields.rho, fields.alpha))
    params = self._unravel(flat)
    carry = params, learner.optimizer.init(params)
    params, _ = training.epoch(learner, carry, dataset.images, dataset.labels, key)
    return ravel_pytree(params)[0]

  @partial(jax.jit, static_argnums=0)
  def _accuracy(self, dataset: Dataset, flat: Array) -> Array:
    block = self.layout.blocks(evaluation.TEST_BLOCK)
    return evaluation.accuracy(self.network, self._unravel(flat), dataset, block=block)

  def _unravel(self, flat: Array) -> Params:
    return trajectories.unraveller(self.network)(flat)

  def _keys(self, number: int) -> Key:
    """Of an expert's initial parameters, and of its training."""
    return jax.random.split(jax.random.fold_in(self.key, number))

  def _say_how_long(self, left: int, wait: Callable[[Any], Any]) -> None:
    """Logs how long so many experts will take, from the time of a few steps."""
    count, (flat, _) = TIMED * self.fields.batch, jax.jit(partial(self._start, 0))()
    images, labels = self.dataset.images, self.dataset.labels
    if count >= images.shape[0]:
      return
    some = np.arange(count)
    few = jnp.asarray(data.images_at(self.dataset, some))
    dataset = dataclasses.replace(self.dataset, images=few, labels=labels[some])
    with working(f"timing {TIMED} steps"):
      wait(self._trained(dataset, flat, self.key))
      began = time.monotonic()
      wait(self._trained(dataset, flat, self.key))
    seconds = (time.monotonic() - began) * images.shape[0] / count
    hours = left * self.fields.epochs * seconds / 3600
    logger.info("%.1f s an epoch, about %.1f hours for %d experts", seconds, hours, left)
