"""What is condensed for a given time, and how every set is evaluated."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import dm, dsa, idc, idm
from dcjax import augment
from dcjax.commands.evaluate import bind

PROTOCOL = "dsa"
FOREVER = 10**6  # iterations; the clock stops a run long before


def preset(method: str, ipc: int) -> ConfigDict:
  """The paper's config of a method; `idc_i` is IDC without multi-formation."""
  module = {"dm": dm, "dsa": dsa, "idc_i": idc, "idc": idc, "idm": idm}[method]
  config = module.get_config(f"cifar10,ipc={ipc}")
  if method == "idc_i":
    config.formation.factor = 1
  return config


def accuracy(path: Path, networks: int, epochs: int, data_dir: str) -> dict[str, Any]:
  """The record of one set under the protocol that all sets share."""
  evaluation, images, iteration = bind(
    path,
    data_dir=data_dir,
    protocol=PROTOCOL,
    augmentation=augment.STRATEGY,
    cutmix=0.0,
    networks=networks,
    epochs=epochs,
  )
  *_, (_, record) = evaluation.run(evaluation.tasks()[0], images, iteration)
  return record
