"""How long the presets' iterations take to compile: see `README.md` here.

python -m benchmarks.compiling [--presets dc:mnist --presets imagenet:idc10,ipc=10 ...]
"""

import importlib

import jax
from absl import app, flags
from ml_collections import ConfigDict

from benchmarks import report
from dcjax import config as config_lib
from dcjax.data import IN_MEMORY, stand_in
from dcjax.run import experiment
from dcjax.run.experiment import Keys
from dcjax.run.loop import Loop

ALL = (
  "dc:mnist,ipc=1",
  "dc:cifar10,ipc=10",
  "dsa:cifar10,ipc=10",
  "dm:cifar100,ipc=10",
  "idc:cifar10,ipc=10",
  "idm:cifar10,ipc=10",
  "speech:idc,ipc=10",
  "imagenet:idc10,ipc=10",
  "imagenet:idm10,ipc=10",
)

PRESETS = flags.DEFINE_multi_string("presets", list(ALL), "File of `configs/` and its argument.")


def config_of(preset: str) -> ConfigDict:
  """The config of a preset, by its file and argument."""
  name, _, argument = preset.partition(":")
  return importlib.import_module(f"dcjax.configs.{name}").get_config(argument)


def seconds(preset: str) -> float:
  """What the iterations of a preset take to compile."""
  config = config_lib.resolve(config_of(preset))
  size = stand_in.size_of(config.dataset)
  assert size is not None
  dataset = stand_in.stand_in(config.dataset, size, IN_MEMORY, filled=False)
  layout, keys = experiment.condensing(config, dataset), Keys.from_seed(0)
  method = experiment.method(config, dataset, layout)
  loop = Loop(method, dataset, keys.loop, layout)
  return loop.compile(loop.abstract(keys.init), 0)


def main(argv: list[str]) -> None:
  """Prints a row for each preset."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  jax.config.update("jax_enable_compilation_cache", False)
  rows = [(f"`{preset}`", f"{seconds(preset):.1f}") for preset in PRESETS.value]
  print(report.markdown(("preset", "s to compile"), rows))


if __name__ == "__main__":
  app.run(main)
