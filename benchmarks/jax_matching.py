"""The steps of the five methods as `dcjax` does them, with the default strategy."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import jax_parts, layout, problem
from benchmarks.problem import Setting
from dcjax import augment, methods
from dcjax.augment import Augmentations
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.methods import Method, State, dc, dm, idc, idm
from dcjax.methods.distances import euclidean, on_convolutions
from dcjax.methods.feature_matching import FeatureMatching
from dcjax.methods.gradient_matching import GradientMatching
from dcjax.methods.setup import Setup
from dcjax.sets.formation import Stored


class Matching:
  """What the methods share; a subclass says what it compares, and what a step is."""

  def __init__(self, setting: Setting):
    """Makes the data and the parameters of a network."""
    self._setting, self._strategy = setting, jax_parts.strategy(setting)
    self._network = jax_parts.network(setting, self._strategy)
    self._dataset = jax_parts.dataset(setting)
    self._formation = jax_parts.decoder(setting, self._dataset)
    self._stored = Stored(jnp.asarray(problem.synthetic_images(setting)), weights={})
    self._params = self._network.init(jax.random.key(problem.SEED))
    self._state, self._iteration = self._initial_state(), 0
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
    dataset, images = jax_parts.dataset(setting), self._stored.images
    augmentations, transforms = augment.NOTHING, {}
    if setting.augmented:
      augmentations = Augmentations(_fixed, _fixed, augment.none)
      transforms = jax_parts.transforms(images.reshape(-1, *setting.image_shape), problem.draws(1))

    @jax.jit
    def match(params, stored, dataset, key):
      return self._match(setting.real, augmentations, params, stored, dataset, key)

    key = jax.random.key(problem.SEED)
    distances, gradients = match(self._params, self._stored, dataset, key)
    return {
      "distances": [np.asarray(distances)],
      "image gradients": list(np.asarray(gradients.images)),
      **transforms,
    }

  def compile(self) -> float:
    """Compiles the step; returns the seconds that it took."""
    key, first = jax.random.key(problem.SEED), np.int32(0)
    arguments = (self._state, self._params, self._dataset, key, first)
    start = time.perf_counter()
    self._step = jax.jit(self._update, donate_argnums=0).lower(*arguments).compile()
    return time.perf_counter() - start

  def __call__(self, key: Key) -> float:
    """One image step; returns the mean distance."""
    arguments = (self._state, self._params, self._dataset, key, np.int32(self._iteration))
    self._state, loss = self._step(*arguments)
    self._iteration += 1
    jax.block_until_ready(self._state)
    return float(loss)

  def _setup(self, augmentations: Augmentations) -> Setup:
    return Setup(self._network, self._strategy, augmentations, self._formation)

  def _augmentations(self) -> Augmentations:
    """Those of a step."""
    scheme = "siamese" if self._setting.augmented else "none"
    return augment.augmentations(scheme=scheme, strategy=augment.STRATEGY)

  def _optimizer(self) -> optax.GradientTransformation:
    return methods.image_optimizer(problem.LR_IMAGE[self._setting.problem])

  def _initial_state(self) -> Any:
    return State(self._stored, self._optimizer().init(self._stored))

  def _match(
    self,
    real: int,
    augmentations: Augmentations,
    params: Params,
    stored: Stored,
    dataset: Dataset,
    key: Key,
  ) -> tuple[Array, Stored]:
    """The distances and their gradient, with `real` images of each class."""
    raise NotImplementedError

  def _update(
    self, state: Any, params: Params, dataset: Dataset, key: Key, t: Array
  ) -> tuple[Any, Array]:
    """One step: the new state and the mean distance."""
    raise NotImplementedError


class Dc(Matching):
  """DC and DSA: one matching step, and SGD."""

  def _match(self, real, augmentations, params, stored, dataset, key):
    settings = dc.DCSettings(
      ipc=self._setting.ipc,
      init="noise",
      distance="ours",
      inner_loop=1,
      network_epochs=1,
      batch_real=real,
      lr_image=problem.LR_IMAGE["dc"],
      lr_network=problem.LR_NETWORK,
    )
    matching = dc.gradient_matching(self._setup(augmentations), settings)
    return matching.match(params, stored, dataset, matching.draw(dataset, key), key)

  def _update(self, state, params, dataset, key, t):
    found = self._match(
      self._setting.real, self._augmentations(), params, state.stored, dataset, key
    )
    return methods.step_images(self._optimizer(), state, found[1]), found[0].mean()


class Dm(Matching):
  """DM: one iteration, which draws a network of its own."""

  def _match(self, real, augmentations, params, stored, dataset, key):
    matching = FeatureMatching(self._setup(augmentations), real)
    return matching.match(params, stored, dataset, matching.draw(dataset, key), key)

  def _update(self, state, params, dataset, key, t):
    del params
    settings = dm.DMSettings(
      ipc=self._setting.ipc,
      init="noise",
      embedding="network",
      batch_real=self._setting.real,
      lr_image=problem.LR_IMAGE["dm"],
    )
    method = dm.dm(self._setup(self._augmentations()), settings)
    return _one(method, state, dataset, key, t)


class Idc(Matching):
  """IDC: one inner step, which also trains its network on real images."""

  def _match(self, real, augmentations, params, stored, dataset, key):
    distance = on_convolutions(euclidean)
    matching = GradientMatching(self._setup(augmentations), distance, real)
    return matching.match(params, stored, dataset, matching.draw(dataset, key), key)

  def _initial_state(self):
    key = jax.random.key(problem.SEED)
    state = jax.jit(self._method().init)(key, self._dataset)
    return state._replace(stored=self._stored)

  def _update(self, state, params, dataset, key, t):
    del params
    return _one(self._method(), state, dataset, key, t)

  def _augmentations(self):
    siamese = augment.augmentations(
      scheme="siamese", strategy=problem.IDC_MATCHING, draw="sequence"
    )
    each = augment.transform(problem.IDC_TRAINING, draw="sequence", shared=False)
    return siamese._replace(network=each)

  def _method(self):
    settings = idc.IDCSettings(
      ipc=self._setting.ipc,
      init="noise",
      distance="mse",
      inner_loop=100,
      batch_real=self._setting.real,
      batch_synthetic=self._setting.synthetic,
      lr_image=problem.LR_IMAGE["idc"],
    )
    training = idc.TrainingSettings(
      data="real",
      steps=problem.IDC_STEPS,
      batch=problem.IDC_BATCH,
      lr=problem.LR_NETWORK,
      weight_decay=problem.WEIGHT_DECAY,
      cutmix=problem.IDC_CUTMIX,
      pretraining=0,
      networks=0,
    )
    return idc.idc(self._setup(self._augmentations()), settings._replace(training=training))


class Idm(Idc):
  """IDM: one iteration, with the training of networks of its queue."""

  def _match(self, real, augmentations, params, stored, dataset, key):
    matching = FeatureMatching(self._setup(augmentations), real)
    weight = jnp.float32(problem.IDM_REGULARISATION * 100 * problem.CHECK_ACCURACY)
    return matching.match(params, stored, dataset, matching.draw(dataset, key), key, weight)

  def _augmentations(self):
    return Matching._augmentations(self)

  def _method(self):
    settings = idm.IDMSettings(
      ipc=self._setting.ipc,
      init="noise",
      batch_real=self._setting.real,
      lr_image=problem.LR_IMAGE["idm"],
      regularisation=problem.IDM_REGULARISATION,
    )
    queue = idm.QueueSettings(
      initial=problem.IDM_INITIAL,
      size=problem.IDM_SIZE,
      trained=problem.IDM_TRAINED,
      interval=problem.IDM_INTERVAL,
      train_every=1,
      accuracy="running",
      steps=problem.IDM_STEPS,
      batch=problem.IDM_BATCH,
      lr=problem.LR_NETWORK,
      pretrained=0,
      pretraining=0,
      classes=1.0,
    )
    return idm.idm(self._setup(self._augmentations()), settings._replace(queue=queue))


def _one(method: Method, state: Any, dataset: Dataset, key: Key, t: Array) -> tuple[Any, Array]:
  """One iteration of a method: the new state and the loss."""
  state, metrics = method.update(state, dataset, key, t)
  return state, metrics["loss"]


def _fixed(key: Key, images: Array) -> Array:
  del key
  draws = problem.draws(1)
  for name in problem.CHECK_TRANSFORMS:
    images = jax_parts.transformed(images, name, draws[name])
  return images
