"""DSA: DC's update with the two batches of a class augmented alike."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import augment, data
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.methods.dc import DCSettings, dc, gradient_matching
from dcjax.methods.distances import DISTANCES
from dcjax.methods.setup import Setup
from dcjax.sets.formation import Stored
from tests.networks import two_layers

SETTINGS = DCSettings(
  ipc=2,
  init="real",
  distance="ours",
  inner_loop=2,
  network_epochs=1,
  batch_real=6,
  lr_image=0.1,
  lr_network=0.05,
)
STRATEGY = Strategy(image_block=4)
SCHEMES = {
  name: augment.augmentations(scheme=name, strategy="crop_flip") for name in augment.SCHEMES
}


@pytest.fixture(scope="module")
def dataset():
  return digits.load()


QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(scope="module")
def phi():
  return two_layers()


@pytest.fixture(scope="module")
def images(dataset):
  return jax.jit(data.random_subset, static_argnames="ipc")(dataset, jax.random.key(4), ipc=2)


def class_gradient(phi, params, images, label):
  def loss(params):
    logits = phi.apply(params, images)[0]
    return -jax.nn.log_softmax(logits)[:, label].mean()

  return jax.grad(loss)(params)


def by_hand(phi, params, images, dataset, key, scheme):
  """Lines 6 and 7 of Algorithm 1, class by class, with the keys of `match`."""
  batch_key, _, augment_key = jax.random.split(key, 3)

  def one(label, images):
    omega = jax.random.fold_in(augment_key, label)
    class_key = jax.random.fold_in(batch_key, label)
    index = data.sample(dataset, class_key, label, n=SETTINGS.batch_real)
    real = scheme.real(omega, dataset.normalise(dataset.images[index]))
    target = class_gradient(phi, params, real, label)
    synthetic = scheme.synthetic(omega, images)
    return DISTANCES["ours"](class_gradient(phi, params, synthetic, label), target)

  return jax.lax.map(lambda inputs: one(*inputs), (jnp.arange(10), images))


@pytest.mark.parametrize("name", SCHEMES)
def test_match_augments_by_the_scheme(phi, images, dataset, name):
  key, scheme = jax.random.key(5), SCHEMES[name]
  params = phi.init(jax.random.key(6))

  @partial(jax.jit, compiler_options=QUICK)
  def both(images):
    matching = gradient_matching(Setup(phi, STRATEGY, scheme), SETTINGS)
    ours = matching.match(params, Stored(images, {}), dataset, matching.draw(dataset, key), key)
    return ours, jax.value_and_grad(
      lambda images: by_hand(phi, params, images, dataset, key, scheme).sum()
    )(images)

  (losses, gradients), (total, expected) = both(images)
  np.testing.assert_allclose(losses.sum(), total, rtol=1e-4)
  np.testing.assert_allclose(gradients.images, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_classes_have_draws_of_their_own(phi, dataset):
  # Equal images of every class: without the augmentation their gradients would follow the label.
  scheme = augment.augmentations(scheme="siamese", strategy="crop")
  omegas = [jax.random.fold_in(jax.random.key(1), label) for label in range(10)]
  image = np.random.RandomState(0).standard_normal((1, 8, 8, 1)).astype(np.float32)
  outputs = np.stack([jax.jit(scheme.real)(omega, image) for omega in omegas])
  assert len(np.unique(outputs.reshape(10, -1), axis=0)) > 3


@pytest.mark.parametrize("class_map", ["scan", "vmap"])
def test_layouts_give_the_same_update(phi, dataset, class_map):
  scheme, key = SCHEMES["siamese"], jax.random.key(3)
  method = dc(Setup(phi, STRATEGY, scheme), SETTINGS)
  start = jax.jit(method.init)(jax.random.key(0), dataset)
  expected, _ = jax.jit(method.update, compiler_options=QUICK)(start, dataset, key, 0)
  layout = Strategy(class_map=class_map, image_block=0, mesh=(2, 1))
  other = dc(Setup(phi, layout, scheme), SETTINGS)
  actual, _ = jax.jit(other.update, compiler_options=QUICK)(start, dataset, key, 0)
  np.testing.assert_allclose(actual.stored.images, expected.stored.images, atol=1e-3)


def test_the_network_is_trained_on_augmented_images(phi, images, dataset):
  updates = [
    jax.jit(
      dc(Setup(phi, STRATEGY, augment.NOTHING._replace(network=apply)), SETTINGS).update,
      compiler_options=QUICK,
    )
    for apply in (augment.none, SCHEMES["siamese"].network)
  ]
  method = dc(Setup(phi, STRATEGY), SETTINGS)
  start = jax.jit(method.init)(jax.random.key(0), dataset)
  plain, augmented = (
    update(start, dataset, jax.random.key(1), 0)[0].stored.images for update in updates
  )
  assert np.abs(plain - augmented).max() > 1e-4
