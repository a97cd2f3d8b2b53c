"""How long the presets' iterations take to compile: see `README.md` here.

python -m benchmarks.compiling [--presets dc:mnist --presets imagenet:idc10,ipc=10 ...]
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from benchmarks import report
from dcjax import config as config_lib
from dcjax import data
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
IMAGES = 4  # of a class, of noise
SHAPES = {"mnist": (28, 28, 1), "speech": (64, 64, 1)}

PRESETS = flags.DEFINE_multi_string("presets", list(ALL), "File of `configs/` and its argument.")


def seconds(preset: str) -> float:
  """What the iterations of a preset take to compile."""
  name, _, argument = preset.partition(":")
  config = importlib.import_module(f"configs.{name}").get_config(argument)
  dataset = noise(config)
  config = config_lib.resolve(config)
  layout, keys = experiment.strategy(config, dataset), Keys.from_seed(0)
  method = experiment.method(config, dataset, layout)
  loop = Loop(method, dataset, keys.loop, layout)
  state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), loop.abstract(keys.init))
  return loop.compile(state, 0)


def noise(config: ConfigDict) -> data.Dataset:
  """A data set of a preset's shapes."""
  name, side = config.dataset.name, config.dataset.get("side") or 32
  shape = SHAPES.get(name, (side, side, 3))
  labels = np.repeat(np.arange(100 if name == "cifar100" else 10), IMAGES)
  images = np.random.RandomState(0).randint(0, 256, (len(labels), *shape)).astype(np.uint8)
  return data.from_arrays(images, labels, images[::IMAGES], labels[::IMAGES], name=name)


def main(argv: list[str]) -> None:
  """Prints a row for each preset."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  jax.config.update("jax_enable_compilation_cache", False)
  rows = [(f"`{preset}`", f"{seconds(preset):.1f}") for preset in PRESETS.value]
  print(report.markdown(("preset", "s to compile"), rows))


if __name__ == "__main__":
  app.run(main)
