"""Tiny runs on the handwritten digits, for the tests of whole runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

import dcjax.config
from dcjax import methods
from dcjax.commands.experts import experts
from dcjax.config import presets
from dcjax.sets.formation import IDENTITY


def tiny(method="dc", **changes) -> ConfigDict:
  """A config whose run takes a second beyond its compilation; `changes` name fields by path."""
  config = presets.smoke(dcjax.config.default(method))
  config.dataset.name = "digits"
  config.network.depth, config.network.width = 1, 4
  config.iterations = 6
  if method == "dc":
    config.inner_loop = 1
  config.checkpoint_every = 2
  config.compute.mesh = "1x1"  # more devices take longer to compile for
  for path, value in changes.items():
    config.update_from_flattened_dict({path.replace("__", "."): value})
  return config


def with_experts(config: ConfigDict, folder: Path) -> ConfigDict:
  """The config of a method that has experts, with experts in a folder, trained if need be."""
  if "experts" in config:
    experts(config, folder)
    config.experts.folder = str(folder)
  return config


class Killed(BaseException):
  """What nothing catches, as nothing catches SIGKILL."""


def killed_again_and_again(monkeypatch: pytest.MonkeyPatch, start: Callable[[], Any]) -> Any:
  """What a command returns at last, whose n-th start is killed at its n-th file.

  By turns the file is not there under its name yet, and just there.
  """
  replace, left, starts = Path.replace, [0], 0

  def replacing(self, target):
    left[0] -= 1
    if not left[0] and starts % 2:
      raise Killed
    replace(self, target)
    if not left[0]:
      raise Killed

  monkeypatch.setattr(Path, "replace", replacing)
  while True:
    starts += 1
    left[0] = starts
    try:
      return start()
    except Killed:
      continue


def initial_images(key, dataset, *, ipc, init, formation=IDENTITY):
  """The images that a run starts with."""
  optimizer = methods.image_optimizer(1.0)
  step = methods.initialiser(optimizer, ipc=ipc, init=init, formation=formation)
  return methods.Method((step,), ()).init(key, dataset).stored.images
