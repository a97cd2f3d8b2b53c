"""What is condensed for a given time, and how every set is evaluated."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import dm, dsa, fast, idc, idm
from dcjax import augment
from dcjax.commands.evaluate import bind

PROTOCOL = "dsa"
FOREVER = 10**6  # iterations; the clock stops a run long before
PRESETS = {
  "dm": dm,
  "dsa": dsa,
  "idc_i": idc,
  "idc": idc,
  "idm": idm,
  "idm_text": idm,
  "fast": fast,
}
FIELDS = {
  "idc_i": {"formation.factor": 1},  # IDC without multi-formation
  # As IDM's text has it: an accuracy that is a fraction, and a real image to start from
  "idm_text": {"queue.schedule": "paper", "regularisation": 0.005, "init": "real"},
}
OWN_BATCH = ("fast",)  # whose number of real images is part of what it is


def preset(method: str, ipc: int, real: int) -> ConfigDict:
  """A method's config for CIFAR-10, with `real` images of a class in one step."""
  config = PRESETS[method].get_config(f"cifar10,ipc={ipc}")
  config.update_from_flattened_dict(FIELDS.get(method, {}))
  if method not in OWN_BATCH:
    config.batch_real = real
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
