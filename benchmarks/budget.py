"""Condensing for a given time, and what every set is evaluated by."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import dm, dsa, idc, idm
from dcjax import augment, data, experiment
from dcjax import config as config_lib
from dcjax.condense import Run
from dcjax.experiment import Evaluation, Keys
from dcjax.interrupt import Interrupts
from dcjax.synthetic import SyntheticSet
from dcjax.workdir import Workdir

PROTOCOL = "dsa"
FOREVER = 10**6  # iterations; the clock stops a run long before


def preset(method: str, ipc: int) -> ConfigDict:
  """The paper's config of a method; `idc_i` is IDC without multi-formation."""
  module = {"dm": dm, "dsa": dsa, "idc_i": idc, "idc": idc, "idm": idm}[method]
  config = module.get_config(f"cifar10,ipc={ipc}")
  if method == "idc_i":
    config.formation.factor = 1
  return config


class TimedRun(Run):
  """A run that ends before the iteration that would take it over its time."""

  def __init__(self, config: ConfigDict, folder: Workdir, seconds: float):
    super().__init__(config, data.load(config.dataset), folder)
    self._limit = seconds

  def _stop_if_converged(self) -> None:
    done = self.watch.seconds.get("condense", 0)
    if self.iteration and done + self.loop.seconds_per_iteration > self._limit:
      self.total = self.iteration


def condensed(config: ConfigDict, folder: Path, seconds: float) -> dict[str, Any]:
  """Condenses for a while; returns the summary."""
  workdir = Workdir(folder)
  try:
    workdir.check(config.to_dict())
    if summary := workdir.summary():
      return summary
    run = TimedRun(config, workdir, seconds)
    workdir.claim(config.to_dict())
    with Interrupts("all saved, and the same command goes on") as interrupts:
      return run.finish(interrupts)
  finally:
    workdir.close()


def accuracy(path: Path, networks: int, epochs: int, data_dir: str) -> dict[str, Any]:
  """The record of one set under the protocol that all sets share."""
  synthetic = SyntheticSet.load(path)
  config = config_lib.of_file(synthetic.metadata["config"])
  config.evaluation.update(
    protocol=PROTOCOL, augmentation=augment.STRATEGY, cutmix=0.0, networks=networks, epochs=epochs
  )
  config.dataset.data_dir = data_dir
  config = config_lib.resolve(config)
  dataset = data.load(config.dataset)
  layout = experiment.strategy(config, dataset)
  evaluation = Evaluation(config, dataset, layout, Keys.from_seed(config.seed))
  iteration = synthetic.metadata["iteration"]
  *_, (_, record) = evaluation.run(evaluation.tasks()[0], synthetic.decoded(), iteration)
  return record
