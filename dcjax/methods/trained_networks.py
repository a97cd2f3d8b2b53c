"""Networks that real data have trained up to an accuracy, in place of random ones.

DM learns images with such networks as well (supplement, section 3, Figure F2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcjax.common.errors import UserError
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.methods.setup import Setup
from dcjax.nn import Network, training

BATCH = 256  # real images of a step
RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4  # of SGD, as networks are trained on a set
SAMPLE = 1000  # training images that the accuracy is measured on
EVERY = 5  # steps between two measurements
LONGEST = 20_000  # steps after which a network will not get any better


class TrainedSettings(NamedTuple):
  """Which networks to train; training ends as soon as the least accuracy is reached."""

  low: float | None = None  # least accuracy of networks, in [0, 1]; None: random ones instead
  high: float = 1.0  # highest accuracy of networks, in [0, 1]
  networks: int = 20  # how many, of which each iteration draws one


def train(
  setup: Setup, settings: TrainedSettings, dataset: Dataset, key: Key
) -> tuple[Params, Array]:
  """Trains networks from scratch, each until it is as accurate as `settings.low`.

  Args:
    setup: what is trained, and how many images go together.
    settings: how many networks, and how far.
    dataset: whose training images are used.
    key: of initial parameters, batches and samples.

  Returns:
    Parameters with a leading axis of networks, and accuracies `[networks]` on `SAMPLE` training
    images, which are below `settings.low` where that was not reached in `LONGEST` steps.
  """
  network, block = setup.network, setup.strategy.blocks(BATCH)
  optimizer = training.sgd(RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
  batching = training.Batching(BATCH, block, decode=dataset.normalise)
  learner = training.Learner(network, optimizer, batching)

  def one(key):
    init_key, sample_key, steps_key = jax.random.split(key, 3)
    sample = jax.random.permutation(sample_key, len(dataset.labels))[:SAMPLE]
    params = network.init(init_key)

    def measure(params):
      return accuracy(network, params, dataset, sample, block=block)

    def further(carry):
      trained, number, _ = carry
      trained, _ = training.random_steps(
        learner, trained, dataset.images, dataset.labels, steps_key,
        start=number, stop=number + EVERY,
      )  # fmt: skip
      return trained, number + EVERY, measure(trained[0])

    def wanting(carry):
      return (carry[2] < settings.low) & (carry[1] < LONGEST)

    start = ((params, optimizer.init(params)), jnp.int32(0), measure(params))
    (params, _), _, reached = jax.lax.while_loop(wanting, further, start)
    return params, reached

  return jax.lax.map(one, jax.random.split(key, settings.networks))


def accuracy(
  network: Network, params: Params, dataset: Dataset, indices: Array, *, block: int
) -> Array:
  """Fraction of some training images that a network classifies right, a scalar in [0, 1].

  Args:
    network: any.
    params: its parameters.
    dataset: whose training images are used.
    indices: int32 `[n]`, theirs.
    block: images that go through together; at most n.
  """
  images, labels = dataset.images[indices], dataset.labels[indices]
  return training.correct(
    network, params, images, labels, block=block, decode=dataset.normalise
  ).mean()


def check(accuracies: Array, settings: TrainedSettings) -> None:
  """Raises `UserError` if a network has missed the range of accuracies `[networks]`."""
  found = np.asarray(accuracies)
  if (found < settings.low).any():
    raise UserError(
      f"trained.low: {settings.low} was not reached in {LONGEST} steps, only {found.min():.3f}; "
      "lower it"
    )
  if (found > settings.high).any():
    raise UserError(
      f"trained.high: {settings.high} was passed within {EVERY} steps, which ended at "
      f"{found.max():.3f}; widen the range"
    )
