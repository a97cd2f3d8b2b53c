"""The steps of DC, DSA and DM as `dcjax` does them, with the default strategy."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import jax_parts, layout, problem
from benchmarks.problem import Setting
from dcjax import augment, methods
from dcjax.augment import Augmentations
from dcjax.data import Dataset
from dcjax.formation import Stored
from dcjax.methods import State, dc, dm, feature_matching, gradient_matching
from dcjax.types import Array, Key, Params


class Matching:
  """What the methods share; a subclass says what it compares, and by which settings."""

  def __init__(self, setting: Setting):
    """Makes the data and the parameters of a network."""
    self._setting, self._settings = setting, self._method_settings(setting)
    self._strategy = jax_parts.strategy()
    self._network = jax_parts.network(setting, self._strategy)
    self._dataset = jax_parts.dataset(setting)
    scheme = "siamese" if setting.augmented else "none"
    self._augmentations = augment.augmentations(scheme=scheme, strategy=augment.STRATEGY)
    self._optimizer = methods.image_optimizer(problem.LR_IMAGE[setting.problem])
    images = jnp.asarray(problem.synthetic_images(setting))
    stored = Stored(images, weights={})
    self._state = State(stored, self._optimizer.init(stored))
    self._params = self._network.init(jax.random.key(problem.SEED))
    jax.block_until_ready((self._state, self._params))

  def parameters(self) -> list[np.ndarray]:
    """The network's parameters, as PyTorch keeps them."""
    return layout.to_torch(self._params)

  def numbers(self) -> dict[str, list[np.ndarray]]:
    """The distances and, for each class, its image gradient, with few real images.

    Where the method augments, all images go through `problem.CHECK_TRANSFORMS` with the parameters
    of `problem.draws`; and each transform is looked at alone (`jax_parts.transforms`).
    """
    setting = problem.small(self._setting)
    settings, dataset = self._method_settings(setting), jax_parts.dataset(setting)
    images = self._state.stored.images
    augmentations, transforms = augment.NOTHING, {}
    if setting.augmented:
      augmentations = Augmentations(_fixed, _fixed, augment.none)
      transforms = jax_parts.transforms(images.reshape(-1, *setting.image_shape), problem.draws(1))

    @jax.jit
    def match(params, images, dataset, key):
      matching = self._matching(settings, augmentations)
      return matching.match(params, Stored(images, weights={}), dataset, key)

    distances, gradients = match(self._params, images, dataset, jax.random.key(problem.SEED))
    return {
      "distances": [np.asarray(distances)],
      "image gradients": list(np.asarray(gradients.images)),
      **transforms,
    }

  def compile(self) -> float:
    """Compiles the step; returns the seconds that it took."""
    arguments = (self._state, self._params, self._dataset, jax.random.key(problem.SEED))
    start = time.perf_counter()
    self._step = jax.jit(self._update).lower(*arguments).compile()
    return time.perf_counter() - start

  def __call__(self, key: Key) -> float:
    """One image step; returns the mean distance."""
    self._state, loss = self._step(self._state, self._params, self._dataset, key)
    jax.block_until_ready(self._state)
    return float(loss)

  def _method_settings(self, setting: Setting) -> Any:
    raise NotImplementedError

  def _matching(self, settings: Any, augmentations: Augmentations) -> Any:
    raise NotImplementedError

  def _update(
    self, state: State, params: Params, dataset: Dataset, key: Key
  ) -> tuple[State, Array]:
    raise NotImplementedError


class GradientMatching(Matching):
  """DC and DSA: one matching step, and SGD."""

  def _matching(
    self, settings: dc.Settings, augmentations: Augmentations
  ) -> gradient_matching.GradientMatching:
    return dc.gradient_matching(self._network, settings, self._strategy, augmentations)

  def _method_settings(self, setting: Setting) -> dc.Settings:
    return dc.Settings(
      ipc=setting.ipc,
      init="noise",
      distance="ours",
      inner_loop=1,
      network_epochs=1,
      batch_real=setting.real,
      lr_image=problem.LR_IMAGE[setting.problem],
      lr_network=0.01,
    )

  def _update(
    self, state: State, params: Params, dataset: Dataset, key: Key
  ) -> tuple[State, Array]:
    matching = self._matching(self._settings, self._augmentations)
    losses, gradients = matching.match(params, state.stored, dataset, key)
    return methods.step_images(self._optimizer, state, gradients), losses.mean()


class DistributionMatching(Matching):
  """DM: one iteration, which draws a network of its own."""

  def _matching(
    self, settings: dm.Settings, augmentations: Augmentations
  ) -> feature_matching.FeatureMatching:
    return feature_matching.FeatureMatching(
      self._network, settings.batch_real, self._strategy, augmentations
    )

  def _method_settings(self, setting: Setting) -> dm.Settings:
    return dm.Settings(
      ipc=setting.ipc,
      init="noise",
      embedding="network",
      batch_real=setting.real,
      lr_image=problem.LR_IMAGE[setting.problem],
    )

  def _update(
    self, state: State, params: Params, dataset: Dataset, key: Key
  ) -> tuple[State, Array]:
    del params
    method = dm.dm(self._network, self._settings, self._strategy, self._augmentations)
    state, metrics = method.update(state, dataset, key)
    return state, metrics["loss"]


def _fixed(key: Key, images: Array) -> Array:
  del key
  draws = problem.draws(1)
  for name in problem.CHECK_TRANSFORMS:
    images = jax_parts.transformed(images, name, draws[name])
  return images
