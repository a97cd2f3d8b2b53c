"""What a method works with, beside the data and its hyper-parameters; made from a config."""

from typing import Any, NamedTuple, TypeVar

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from dcjax import augment, nn
from dcjax.augment import Augmentation, Augmentations
from dcjax.config import definition
from dcjax.data import Dataset
from dcjax.devices.strategy import Strategy
from dcjax.nn import Network
from dcjax.nn.training import steps_per_epoch
from dcjax.sets import formation
from dcjax.sets.formation import IDENTITY, Formation

T = TypeVar("T")


class Setup(NamedTuple):
  """What every function of a method needs.

  Attributes:
    network: its parameters are no part of it.
    strategy: how the work is laid out on the machine.
    augmentations: of the images that are matched, and of those that networks are trained on.
    formation: from stored images to the synthetic ones that are matched.
  """

  network: Network
  strategy: Strategy = Strategy()
  augmentations: Augmentations = augment.NOTHING
  formation: Formation = IDENTITY


def setup(config: ConfigDict, dataset: Dataset, layout: Strategy, *, first_block: int = 0) -> Setup:
  """The setup of a config of a method that condenses, for the images of a dataset.

  Args:
    config: as `config.resolve` returns it.
    dataset: the real images.
    layout: how the work is laid out.
    first_block: see `nn.create`; `layout.first_block` where gradients are matched.

  Raises:
    UserError: the network or the formation does not fit the images.
  """
  phi = network(config, dataset, layout, first_block=first_block)
  return Setup(phi, layout, augmentations(config, dataset), _formation(config, dataset))


def network(config: ConfigDict, dataset: Dataset, layout: Strategy, **changes: Any) -> Network:
  """The network of a config for the images of a dataset; `changes` replace its fields."""
  return nn.create(
    image_shape=dataset.image_shape,
    num_classes=dataset.num_classes,
    convolution=layout.convolution,
    **{**config.network.to_dict(), **changes},
  )


def warn_all_taken(batch_real: int, dataset: Dataset) -> None:
  """Warns if a batch of all classes together is to have more real images than there are."""
  if batch_real > (count := len(dataset.labels)):
    logging.warning(
      "batch_real: %d, but there are %d real images: all are taken", batch_real, count
    )


def augmentations(config: ConfigDict, dataset: Dataset) -> Augmentations:
  """What DSA does to images that are matched, and that networks are trained on.

  Raises:
    UserError: it does not fit the images.
  """
  if "dsa" not in config:
    return augment.NOTHING
  augment.check_images("dsa.strategy", config.dsa.strategy, dataset.image_shape)
  return augment.augmentations(**config.dsa)


def network_augmentation(
  field: str, names: str, dataset: Dataset, draw: str = "one"
) -> Augmentation:
  """What a method does to the real images that train its networks, image by image.

  Args:
    field: that holds the names.
    names: 'none', or as `augment.transform` takes them.
    dataset: whose images they are.
    draw: as `augment.transform` takes it.

  Raises:
    UserError: it does not fit the images.
  """
  augment.check_images(field, names, dataset.image_shape)
  return augment.none if names == "none" else augment.transform(names, draw=draw, shared=False)


def decoder(config: ConfigDict, dataset: Dataset) -> Formation:
  """What turns the images that a config's set stores into those that networks train on.

  Raises:
    UserError: it does not fit the images.
  """
  return _formation(config, dataset).at_evaluation()


def _formation(config: ConfigDict, dataset: Dataset) -> Formation:
  """What turns the images that a config's set stores into those that are matched."""
  fields = config.formation if "formation" in config else {"name": "identity", "factor": 1}
  return formation.create(
    **fields,
    shape=dataset.image_shape,
    ipc=config.ipc,
    mean=tuple(np.asarray(dataset.mean).tolist()),
    std=tuple(np.asarray(dataset.std).tolist()),
    unit=definition(config.method).unit(config),
  )


def in_steps(training: T, dataset: Dataset) -> T:
  """Hyper-parameters with `pretraining` in steps of SGD, not in passes over a dataset's images."""
  steps = steps_per_epoch(len(dataset.labels), training.batch)  # type: ignore[attr-defined]
  return training._replace(pretraining=training.pretraining * steps)  # type: ignore[attr-defined]
