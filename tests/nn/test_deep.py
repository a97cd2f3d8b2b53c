"""The deep networks at work: second derivatives, and statistics of every batch norm."""

import jax
import numpy as np
import pytest

from dcjax import nn
from dcjax.nn import densenet, efficientnet, layers, resnet

NAMES = ("resnet10", "resnet10_ap", "densenet121", "efficientnet_b0")
SIDE = 16
# Compiling is what takes the time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(autouse=True)
def _few_layers_and_a_reducing_stem(monkeypatch):
  """Cuts the networks to what compiles soon, in the form that they have for large images."""
  monkeypatch.setattr(layers, "LARGE_SIDE", SIDE)
  monkeypatch.setattr(resnet, "STAGES", (1, 2))
  monkeypatch.setattr(resnet, "FEW_FILTERS", 8)
  monkeypatch.setattr(densenet, "STAGES", (1, 1))
  monkeypatch.setattr(efficientnet, "STAGES", ((6, 3, 32, 1),))
  monkeypatch.setattr(efficientnet, "STRIDES", (2, 1))


def compiled(function, *arguments):
  return jax.jit(function, compiler_options=QUICK)(*arguments)


def drawn(network):
  """Random parameters; the network's own `init` takes longer to compile."""
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  generator = np.random.default_rng(0)
  return jax.tree.map(lambda x: np.float32(0.3 * generator.standard_normal(x.shape)), shapes)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_are_finite(name):
  network = nn.create(name, (SIDE, SIDE, 3), 3)
  images = jax.random.normal(jax.random.key(1), (2, SIDE, SIDE, 3))

  def norm_of_gradient(images, params):
    gradient = jax.grad(lambda params: (network.apply(params, images)[0] ** 2).sum())(params)
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient))

  params = drawn(network)
  gradient = compiled(jax.grad(norm_of_gradient), images, params)
  assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_statistics_free_an_image_from_its_batch(name):
  network = nn.create(name, (SIDE, SIDE, 3), 3, norm="batch")
  images = jax.random.normal(jax.random.key(1), (4, SIDE, SIDE, 3))

  def both(params, images):
    stats = network.statistics(params, images)
    live, alone = network.apply(params, images)[0], network.apply(params, images[:2], stats)[0]
    return live[:2], alone

  live, alone = compiled(both, drawn(network), images)
  np.testing.assert_allclose(alone, live, atol=1e-4)


def test_efficientnet_drops_in_training_alone(monkeypatch):
  """Two blocks with shortcuts: one of them, of number 1 of 2, is dropped from a tenth of images."""
  monkeypatch.setattr(efficientnet, "STAGES", ((6, 3, 32, 2),))
  network = nn.create("efficientnet_b0", (SIDE, SIDE, 3), 3)
  params, images = drawn(network), jax.random.normal(jax.random.key(1), (2, SIDE, SIDE, 3))
  train = jax.jit(network.train, compiler_options=QUICK)
  # Only the last block is dropped by whole images: without it the features are others.
  found = [train(params, images, jax.random.key(seed)) for seed in range(60)]
  logits, features = (np.stack(each) for each in zip(*found, strict=True))
  plain, kept_features = compiled(network.apply, params, images)
  np.testing.assert_array_equal(plain, compiled(network.apply, params, images)[0])
  for image in (0, 1):
    values = {tuple(each.round(3)) for each in features[:, image]}
    assert len(values) == 2  # with the block, divided by the share, and without
  assert not np.allclose(logits[0], logits[1]) and not np.allclose(logits.mean(0), logits[0])
  with_block = min(features[:, 0].tolist(), key=lambda f: np.abs(f - kept_features[0]).max())
  share = np.mean([np.allclose(each, with_block, atol=1e-3) for each in features[:, 0]])
  assert 0.75 < share <= 1
  assert nn.create("resnet18", (SIDE, SIDE, 3), 3).train is None


def test_a_training_pass_in_bfloat16_drops_too():
  network = nn.create("efficientnet_b0", (SIDE, SIDE, 3), 3, precision="bfloat16")
  images = jax.random.normal(jax.random.key(1), (2, SIDE, SIDE, 3))
  logits, features = jax.eval_shape(network.train, drawn(network), images, jax.random.key(0))
  assert logits.dtype == features.dtype == np.float32
  assert nn.create("convnet", (SIDE, SIDE, 3), 3, precision="bfloat16").train is None


def test_stochastic_depth_grows_evenly_and_norms_have_the_authors_epsilon(monkeypatch):
  """Of the 16 blocks of EfficientNet-B0 number i is dropped from i / 80 of the images."""
  monkeypatch.undo()
  rates, epsilons = [], []
  dropout, norm = layers.Dropout.__call__, layers.Norm.__call__

  def drop(self, inputs):
    rates.append((self.rate, self.whole))
    return dropout(self, inputs)

  def normalise(self, images):
    epsilons.append(self.epsilon)
    return norm(self, images)

  monkeypatch.setattr(layers.Dropout, "__call__", drop)
  monkeypatch.setattr(layers.Norm, "__call__", normalise)
  network = nn.create("efficientnet_b0", (32, 32, 3), 10)
  jax.eval_shape(network.init, jax.random.key(0))
  # Those without a shortcut are the first of each stage.
  shortcuts = [2, 4, 6, 7, 9, 10, 12, 13, 14]
  np.testing.assert_allclose([rate for rate, whole in rates if whole], [i / 80 for i in shortcuts])
  assert [rate for rate, whole in rates if not whole] == [0.2]
  assert set(epsilons) == {1e-3} and len(epsilons) == 49
