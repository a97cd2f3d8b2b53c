"""The driver of `dcjax experts`: networks trained on real images, kept after each epoch."""

import dataclasses
import os
import re
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
from dcjax.run.workdir import Workdir, held, refuse_others, write_json

_UNFINISHED = "unfinished-"  # what folders of epochs so far begin with
TIMED = 4  # steps whose time says how long all will take


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
    refuse_others(folder.path, MANIFEST, "experts")
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
    trajectories.check_network(self.network)
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
    found = trajectories.read_manifest(self.path, "workdir")
    if found is None:
      return new
    trajectories.check_same(found, trained, self.path, "workdir")
    for name in ("seed", "kept", "dtype"):
      if found.get(name) != new[name]:
        raise UserError(
          f"workdir: {self.path} holds experts with {name}: {found.get(name)}, this config has "
          f"{new[name]}; give another folder"
        )
    return found

  def _check_room(self) -> None:
    """Says how much the experts will take; raises `UserError` if there is not that much."""
    one = len(self.manifest["kept"]) * self.size * np.dtype(self.fields.dtype).itemsize
    left = len(self._missing())
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

  def _missing(self) -> list[int]:
    """The numbers of the experts that are not done, or whose file was deleted."""
    done = len(self.manifest["experts"])
    numbers = range(self.fields.networks)
    return [number for number in numbers if number >= done or not self._file(number).exists()]

  def finish(self, wait: Callable[[Any], Any]) -> dict[str, Any]:
    """Trains what is not done; returns the manifest."""
    write_json(self.path / MANIFEST, self.manifest)  # so that no other config goes on with them
    missing = self._missing()
    self._clear(missing)
    if missing:
      self._say_how_long(len(missing), wait)
    for number in missing:
      began = time.monotonic()
      with working(f"training expert {number + 1} of {self.fields.networks}"):
        flat = pretrained.passes(
          self.path / _unfinished(number), self.fields.epochs, partial(self._start, number),
          partial(self._epoch, number, wait=wait),
        )  # fmt: skip
        accuracy = float(wait(self._accuracy(self.dataset, flat)))
      self._keep(number, accuracy, time.monotonic() - began)
      logger.info(
        "expert %d of %d: %.4f of the test images right", number + 1, self.fields.networks, accuracy
      )
    return self.manifest

  def _clear(self, missing: list[int]) -> None:
    """Deletes what killed starts have left, but for the epochs of experts that go on."""
    going_on = {f"{_unfinished(number)}{end}" for number in missing for end in ("", ".npy")}
    for path in self.path.glob(f"{_UNFINISHED}*"):
      if re.match(_UNFINISHED + r"\d{4}", path.name) and path.name not in going_on:
        self._delete(path)
    for number in missing:
      if not self._rows(number).exists():  # without which it cannot go on
        self._delete(self.path / _unfinished(number))

  def _delete(self, path: Path) -> None:
    if path.is_dir():
      shutil.rmtree(path, ignore_errors=True)
    else:
      path.unlink(missing_ok=True)

  def _rows(self, number: int) -> Path:
    """What is kept so far of an expert that is being trained."""
    return self.path / f"{_unfinished(number)}.npy"

  def _keep(self, number: int, accuracy: float, seconds: float) -> None:
    """Puts a finished expert in its place."""
    kept = np.load(self._rows(number))
    with writing(self._file(number), "wb") as stream:
      np.save(stream, kept, allow_pickle=False)
    about = {
      "sha256": digests.sha256([kept]),
      "accuracy": round(accuracy, 6),
      "seconds": round(seconds, 3),
    }
    self.manifest["experts"][number : number + 1] = [about]
    write_json(self.path / MANIFEST, self.manifest)
    self._delete(self.path / _unfinished(number))
    self._delete(self._rows(number))

  def _file(self, number: int) -> Path:
    return self.path / trajectories.file_name(number)

  def _start(self, number: int) -> Array:
    """An expert's parameters before its training, float32 `[size]`."""
    return ravel_pytree(self.network.init(self._keys(number)[0]))[0].astype(jnp.float32)

  def _epoch(self, number: int, flat: Array, epoch: int, wait: Callable[[Any], Any]) -> Array:
    """An expert's parameters after another epoch, which are then in the file of its rows.

    Raises:
      UserError: they do not stay finite.
    """
    kept, dtype = self.manifest["kept"], np.dtype(self.fields.dtype)
    if not epoch:
      shape = len(kept), self.size
      rows = np.lib.format.open_memmap(self._rows(number), "w+", dtype, shape)
      rows[0] = np.asarray(flat)
    else:
      rows = np.load(self._rows(number), mmap_mode="r+")
    flat = self._once_through(flat, jax.random.fold_in(self._keys(number)[1], epoch), wait)
    row = np.asarray(flat).astype(dtype)
    if not np.isfinite(row).all():
      raise UserError(
        f"experts.lr: {self.fields.lr} leads to parameters that are not finite in epoch "
        f"{epoch + 1}; lower it"
      )
    if epoch + 1 in kept:
      rows[kept.index(epoch + 1)] = row
    rows.flush()
    return flat

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
    count, flat = TIMED * self.fields.batch, jax.jit(partial(self._start, 0))()
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
