"""Networks trained on a condensed set as `dcjax evaluate` does it, with the default strategy."""

import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import jax_parts, layout, problem
from benchmarks.problem import Setting
from dcjax import augment, evaluation
from dcjax.common.types import Array, Key

PROTOCOL = "dsa"


class Training:
  """The networks of one evaluation, each tested once, on one image."""

  def __init__(self, setting: Setting):
    """Makes the set and the parameters of a network."""
    self._setting, strategy = setting, jax_parts.strategy(setting)
    self._network = jax_parts.network(setting, strategy)
    images = problem.synthetic_images(setting)
    self._images = jnp.asarray(images.reshape(-1, *setting.image_shape))
    self._labels = jnp.repeat(jnp.arange(setting.classes), setting.ipc)
    settings = evaluation.EvaluationSettings(
      protocol=PROTOCOL,
      epochs=problem.EPOCHS,
      augmentation=augment.STRATEGY if setting.augmented else "none",
      networks=problem.NETWORKS,
      checks=1,
    )
    dataset = jax_parts.dataset(setting)
    self._evaluate = evaluation.Evaluator(self._network, settings, strategy, dataset)
    self._params = self._network.init(jax.random.key(problem.SEED))
    jax.block_until_ready((self._images, self._labels, self._params, dataset))

  def parameters(self) -> list[np.ndarray]:
    """The network's parameters, as PyTorch keeps them."""
    return layout.to_torch(self._params)

  def numbers(self) -> dict[str, list[np.ndarray]]:
    """What some epochs of plain training change in the logits of the set.

    The set is one batch, whose order changes nothing. Where it is augmented, each transform is
    looked at alone, with parameters for each image (`jax_parts.transforms`).
    """
    network = self._network._replace(init=lambda key: self._params)
    trained = evaluation.train(
      network,
      self._images,
      self._labels,
      jax.random.key(problem.SEED),
      protocol=PROTOCOL,
      epochs=problem.CHECK_EPOCHS,
    )
    before, after = (network.apply(p, self._images)[0] for p in (self._params, trained))
    transforms = {}
    if self._setting.augmented:
      transforms = jax_parts.transforms(self._images, problem.draws(len(self._images)))
    return {"change of logits": [np.asarray(after - before)], **transforms}

  def compile(self) -> float:
    """What the first network, or block of networks, takes longer than a second one."""
    seconds = []
    for _ in range(2):
      start = time.perf_counter()
      jax.block_until_ready(next(self._accuracies(jax.random.key(problem.SEED))))
      seconds.append(time.perf_counter() - start)
    return max(seconds[0] - seconds[1], 0.0)

  def __call__(self, key: Key) -> float:
    """Trains all networks; returns their mean accuracy."""
    return float(np.mean(np.concatenate(list(self._accuracies(key)))))

  def _accuracies(self, key: Key) -> Iterator[Array]:
    return self._evaluate(self._images, self._labels, key)
