"""What is condensed for a given time, and how every set is evaluated."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import dc, dm, dsa, fast, frepo, idc, idm, kip, mtt, rat_bptt, rcig
from dcjax import augment
from dcjax.commands.evaluate import bind

PROTOCOL, NETWORK = "dsa", "convnet:width=128:norm=instance"
FOREVER = 10**6  # iterations; the clock stops a run long before
PRESETS = {
  "dc": dc,
  "dm": dm,
  "dsa": dsa,
  "idc_i": idc,
  "idc": idc,
  "idm": idm,
  "idm_text": idm,
  "fast": fast,
  "cafe": dm,
  "mtt": mtt,
  "rat_bptt": rat_bptt,
  "frepo": frepo,
  "kip": kip,
  "rcig": rcig,
}
EXPERT_EPOCHS = 5
FIELDS = {
  "idc_i": {"formation.factor": 1},  # IDC without multi-formation
  # As IDM's text has it: an accuracy that is a fraction, and a real image to start from
  "idm_text": {"queue.schedule": "paper", "regularisation": 0.005, "init": "real"},
  "cafe": {"distance": "layerwise"},
  # Ten times the rate of half a million iterations
  "frepo": {"network.width": 64, "network.init": "torch", "lr_image": 3e-3, "lr_decay": 5000},
  "mtt": {"network.width": 64, "experts.networks": 5, "experts.epochs": EXPERT_EPOCHS},
  "rat_bptt": {"network.width": 64},
  "rcig": {"network.width": 64},
}
# Whose real images are of all classes together, or are part of what the preset is
OWN_BATCH = ("fast", "mtt", "rat_bptt", "frepo", "kip", "rcig")


def preset(method: str, ipc: int, real: int) -> ConfigDict:
  """A method's config for CIFAR-10, with `real` images of a class in one step.

  The later families take longer for an iteration, and match networks of 64 filters.
  """
  config = PRESETS[method].get_config(f"cifar10,ipc={ipc}")
  config.update_from_flattened_dict(FIELDS.get(method, {}))
  if method not in OWN_BATCH:
    config.batch_real = real
  if method == "mtt":
    config.start.most = min(config.start.most, EXPERT_EPOCHS + 1 - config.expert_epochs)
  return config


def accuracy(path: Path, networks: int, epochs: int, data_dir: str) -> dict[str, Any]:
  """The record of one set under the protocol that all sets share."""
  return _last(
    path,
    data_dir=data_dir,
    protocol=PROTOCOL,
    architectures=NETWORK,
    augmentation=augment.STRATEGY,
    cutmix=0.0,
    networks=networks,
    epochs=epochs,
  )


def own_accuracy(path: Path, networks: int, data_dir: str) -> dict[str, Any]:
  """The record of one set as its own method evaluates it."""
  return _last(path, data_dir=data_dir, networks=networks)


def _last(path: Path, **changes: Any) -> dict[str, Any]:
  evaluation, images, iteration = bind(path, **changes)
  return evaluation.run(evaluation.tasks()[0], images, iteration)
