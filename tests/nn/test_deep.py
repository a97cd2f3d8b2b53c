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
  """Two blocks with shortcuts, of which number 1 is dropped from a tenth of the images."""
  monkeypatch.setattr(efficientnet, "STAGES", ((6, 3, 32, 2),))
  network = nn.create("efficientnet_b0", (SIDE, SIDE, 3), 3)
  params, images = drawn(network), jax.random.normal(jax.random.key(1), (2, SIDE, SIDE, 3))

  def trained(params, images):
    keys = jax.random.split(jax.random.key(0), 400)
    return jax.lax.map(lambda key: network.train(params, images, key), keys)

  logits, features = map(np.asarray, compiled(trained, params, images))
  plain = np.asarray(compiled(network.apply, params, images)[1])
  for image in (0, 1):
    values, counts = np.unique(features[:, image].round(4), axis=0, return_counts=True)
    assert len(values) == 2 and 0.84 < counts.max() / 400 < 0.96
    assert np.abs(values - plain[image]).max(1).min() > 1e-3  # what is kept is divided by its share
  # On average the last layer sees what it sees without dropout.
  last = params["Linear_0"]["Dense_0"]
  expected = features.mean(0) @ last["kernel"] + last["bias"]
  deviation = logits.std(0) / np.sqrt(400)
  assert (np.abs(logits.mean(0) - expected) < 4 * deviation).all()
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
