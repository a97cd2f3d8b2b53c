"""What a user's network may be, and how others are refused."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dcjax import UserError
from dcjax.common.registry import NETWORKS
from dcjax.nn import Definition, Network, architectures, create, layers
from dcjax.nn.definition import BLOCKS

NET, SHAPE, CLASSES, WIDTH = "my.py:net", (4, 4, 1), 3, 5


def flat(images):
  return images.reshape(images.shape[0], -1)


class Linen(nn.Module):
  num_classes: int
  width: int
  initializer: str = "zeros"

  @nn.compact
  def __call__(self, images):
    features = nn.relu(layers.Linear(self.width, self.initializer)(flat(images)))
    return nn.Dense(self.num_classes)(features), features


class BatchNorm(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images):
    return nn.Dense(self.num_classes)(flat(layers.Norm("batch")(images)))


class Nnx(nnx.Module):
  def __init__(self, num_classes, image_shape, width, *, rngs):
    self.inner = nnx.List([nnx.Linear(image_shape[0] * image_shape[1], width, rngs=rngs)])
    self.last = nnx.Linear(width, num_classes, rngs=rngs)

  def __call__(self, images):
    features = nnx.relu(self.inner[0](flat(images)))
    return self.last(features), features


def linear(num_classes, image_shape, init):
  shape = image_shape[0] * image_shape[1] * image_shape[2], num_classes
  assert init == "torch"
  return lambda key: jax.random.normal(key, shape), lambda kernel, images: flat(images) @ kernel


def whole(num_classes, image_shape):
  init, apply = linear(num_classes, image_shape, "torch")

  def both(params, images, stats=None):
    return apply(params, images), flat(images)

  return Network(init, both, lambda params, images: {}, batch_norm=False)


@pytest.fixture
def users(monkeypatch):
  """`users(thing, ...)`: the network that a user's thing makes, by the name 'my.py:net'."""

  def make(thing, **options):
    found = NETWORKS.find
    monkeypatch.setattr(NETWORKS, "find", lambda f, name: thing if name == NET else found(f, name))
    return create(NET, SHAPE, CLASSES, **{"width": WIDTH} | options)

  return make


def gradients(network, params, images):
  """Second derivatives, of two networks at once, as matching of gradients takes them."""

  def matched(images, params):
    return jax.grad(lambda p: (network.apply(p, images)[0] ** 2).sum())(params)

  def length(images, params):
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(matched(images, params)))

  return jax.jit(jax.vmap(jax.grad(length), in_axes=(None, 0)))(images, params)


@pytest.mark.parametrize(
  ("thing", "features"),
  [
    (Linen, WIDTH),
    (lambda num_classes, width: Linen(num_classes, width), WIDTH),
    (Definition(Linen), WIDTH),
    (BatchNorm, CLASSES),
    (Nnx, WIDTH),
    (linear, CLASSES),
    (whole, 16),
  ],
)
def test_what_a_network_may_be(users, thing, features):
  network = users(thing)
  keys = jax.random.split(jax.random.key(0))
  images = jax.random.normal(jax.random.key(1), (6, 4, 4, 1))
  params = jax.vmap(network.init)(keys)
  logits, found = jax.jit(jax.vmap(network.apply, in_axes=(0, None)))(params, images)
  assert logits.shape == (2, 6, CLASSES) and found.shape == (2, 6, features)
  assert not np.array_equal(logits[0], logits[1])
  moved = gradients(network, params, images)
  assert moved.shape == (2, *images.shape) and np.abs(moved).max() > 0
  low = users(thing, precision="bfloat16").apply(network.init(keys[0]), images)[0]
  assert low.dtype == jnp.float32
  np.testing.assert_allclose(low, logits[0], atol=0.1)


def test_an_nnx_network_computes_what_its_class_does(users):
  images = jax.random.normal(jax.random.key(1), (6, 4, 4, 1))
  network, key = users(Nnx), jax.random.key(3)
  expected = Nnx(CLASSES, SHAPE, WIDTH, rngs=nnx.Rngs(key))(images)
  for one, other in zip(network.apply(network.init(key), images), expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_batch_norm_as_a_layer_of_dcjax_freezes(users):
  network = users(BatchNorm)
  images = 3 + jax.random.normal(jax.random.key(1), (6, 4, 4, 1))
  params = network.init(jax.random.key(0))
  stats = network.statistics(params, images)
  logits = network.apply(params, images)[0]
  assert network.batch_norm and not users(Linen).batch_norm
  assert np.abs(network.apply(params, images[:2])[0] - logits[:2]).max() > 0.01
  np.testing.assert_allclose(network.apply(params, images[:2], stats)[0], logits[:2], atol=1e-5)


def test_it_gets_the_fields_that_it_names(users):
  shapes = jax.eval_shape(users(Linen, width=7, init="kaiming").init, jax.random.key(0))
  assert shapes["Linear_0"]["Dense_0"]["kernel"].shape == (16, 7)
  bias = users(Linen, init="kaiming").init(jax.random.key(0))["Linear_0"]["Dense_0"]["bias"]
  assert not bias.any()
  assert architectures.parse("my.py:net:width=3:init=kaiming")["width"] == 3
  with pytest.raises(UserError, match=r"my.py:net has no 'norm'; choose one of: init, width$"):
    architectures.parse("my.py:net:norm=batch")


def test_its_definition_holds(users):
  def check(image_shape, *, num_classes, width, initializer):
    raise UserError(f"network.width: {width} is odd; take an even one")

  def told(num_classes, norm):
    assert norm == "layer"
    return Linen(num_classes, 2)

  with pytest.raises(UserError, match=r"^network.name: my.py:net takes images of 5 pixels or more"):
    users(Definition(Linen, smallest_side=5))
  with pytest.raises(UserError, match=r"^network.width: 5 is odd; take an even one$"):
    users(Definition(Linen, check=check))
  users(Definition(told, norm="layer"))
  users(Definition(told, norm="layer", check=lambda image_shape, num_classes, norm: None))
  with pytest.raises(UserError, match=r"fails on images of \[4, 4, 1\]: TypeError"):
    users(Definition(told, norm="layer", check=lambda: None))
  with pytest.raises(UserError, match=r"^network.norm: unknown 'rms'"):
    users(Definition(told, norm="rms"))


class FlaxBatchNorm(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images, train: bool = False):
    return nn.Dense(self.num_classes)(flat(nn.BatchNorm(use_running_average=not train)(images)))


class Dropout(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images):
    return nn.Dense(self.num_classes)(nn.Dropout(0.5, deterministic=False)(flat(images)))


class NnxState(nnx.Module):
  def __init__(self, layer, num_classes, *, rngs):
    self.layer, self.last = layer(rngs), nnx.Linear(16, num_classes, rngs=rngs)

  def __call__(self, images):
    return self.last(flat(self.layer(images)))


class NnxBatchNorm(NnxState):
  def __init__(self, num_classes, *, rngs):
    super().__init__(lambda rngs: nnx.BatchNorm(1, rngs=rngs), num_classes, rngs=rngs)


class NnxDropout(NnxState):
  def __init__(self, num_classes, *, rngs):
    super().__init__(lambda rngs: nnx.Dropout(0.5, rngs=rngs), num_classes, rngs=rngs)


@pytest.mark.parametrize("thing", [FlaxBatchNorm, Dropout, NnxBatchNorm, NnxDropout])
def test_what_has_state_is_refused(users, thing):
  with pytest.raises(UserError) as caught:
    users(thing)
  assert str(caught.value) == (
    "network.name: my.py:net needs more than its parameters, as flax' BatchNorm and Dropout do; "
    "take dcjax.nn.layers.Norm('batch') or another norm, and dcjax.nn.layers.Dropout with "
    "Definition(..., dropout=True)"
  )


def returning(function):
  """A network that returns this of flat images."""
  return lambda num_classes: (lambda key: {}, lambda params, images: function(flat(images)))


@pytest.mark.parametrize(
  ("function", "seen"),
  [
    (lambda x: x, "('float32[2, 16]', 'float32[2, 16]')"),
    (lambda x: x[:1, :3], "('float32[1, 3]', 'float32[1, 3]')"),
    (lambda x: (x[:, :3], x[:, None]), "('float32[2, 3]', 'float32[2, 1, 16]')"),
    (lambda x: (x[:, :3], x.T), "('float32[2, 3]', 'float32[16, 2]')"),
    (lambda x: (x[:, :3], x, x), "('float32[2, 3]', 'float32[2, 16]', 'float32[2, 16]')"),
    (lambda x: x[:, :3].astype(jnp.bfloat16), "('bfloat16[2, 3]', 'bfloat16[2, 3]')"),
    (lambda x: None, "(None, None)"),
    (lambda x: {"x": x[:, :3]}, "({'x': 'float32[2, 3]'}, {'x': 'float32[2, 3]'})"),
  ],
)
def test_other_outputs_are_refused(users, function, seen):
  with pytest.raises(UserError) as caught:
    users(returning(function))
  assert str(caught.value) == (
    f"network.name: my.py:net returns {seen} for 2 images; let it return logits float32[2, 3] and "
    "features float32[2, ...], both of two dimensions"
  )


def fails(num_classes):
  raise RuntimeError("no\nweights")


LINE = fails.__code__.co_firstlineno + 1


@pytest.mark.parametrize(
  ("thing", "message"),
  [
    ({"a": 1}, "my.py:net is of type dict; give a flax Module class, or a function"),
    (Linen(3, 4), "my.py:net is of type Linen; give a flax Module class, or a function"),
    (Definition("Linen"), "my.py:net is of type str; give a flax Module class, or a function"),
    (lambda: Linen(4, 4), "my.py:net returns ('float32[2, 4]', 'float32[2, 4]')"),
    (lambda num_classes: 3, "my.py:net makes a int; let it make a flax.linen module, functions"),
    (lambda num_classes, heads: 3, "my.py:net fails on images of [4, 4, 1]: TypeError: "),
    (fails, f"my.py:net, line {LINE}, fails on images of [4, 4, 1]: RuntimeError: no weights; m"),
    (returning(lambda x: x @ x), "my.py:net, line "),
    (partial(fails), "my.py:net fails on images of [4, 4, 1]: RuntimeError: no weights; mend it"),
  ],
)
def test_what_makes_no_network_is_one_line(users, thing, message):
  with pytest.raises(UserError) as caught:
    users(thing)
  assert str(caught.value).startswith(f"network.name: {message}")
  assert "\n" not in str(caught.value)


class Dropping(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images):
    return nn.Dense(self.num_classes)(layers.Dropout(0.5)(flat(images)))


def test_dropout_of_dcjax_drops_in_training_where_the_definition_says_so(users):
  network = users(Definition(Dropping, dropout=True))
  images = jax.random.normal(jax.random.key(1), (6, *SHAPE))
  params = network.init(jax.random.key(0))
  trained = [network.train(params, images, jax.random.key(seed))[0] for seed in (0, 1)]
  assert trained[0].shape == (6, CLASSES) and not np.allclose(*trained)
  assert users(Dropping).train is None


def test_a_network_has_its_own_default_for_a_size_that_is_not_given(users):
  def make(num_classes, filters=WIDTH + 1):
    return Linen(num_classes, filters)

  def features(**options):
    network = users(make, **options)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.eval_shape(network.apply, shapes, jnp.zeros((2, *SHAPE)))[1].shape[1]

  assert features() == WIDTH + 1 and features(filters=3) == 3


def test_blocks_of_a_users_module_are_shown(monkeypatch):
  class Blocks(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images):
      features = nn.Dense(WIDTH)(flat(images))
      self.sow(*BLOCKS, features)
      return nn.Dense(self.num_classes)(features), features

  monkeypatch.setattr(NETWORKS, "find", lambda field, name: Definition(Blocks, blocks=True))
  monkeypatch.setattr(type(NETWORKS), "__contains__", lambda self, name: True)
  network = create(NET, SHAPE, num_classes=CLASSES)
  images = jnp.ones((2, *SHAPE))
  assert network.blocks is not None
  (block,) = network.blocks(network.init(jax.random.key(0)), images)[1]
  assert block.shape == (2, WIDTH)
