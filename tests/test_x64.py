"""JAX_ENABLE_X64: everything can be traced, and is computed in float32 as without it."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import dcjax.config
from dcjax import data, evaluation, nn
from dcjax.applications.continual import stages
from dcjax.augment import NAMED, STRATEGY
from dcjax.common.registry import TRANSFORMS
from dcjax.methods import coreset
from dcjax.run import experiment
from tests.runs import tiny, with_experts


@pytest.fixture(autouse=True)
def _as_users_have_it():
  with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
    yield


@pytest.fixture(scope="module")
def dataset():
  with jax.enable_x64(True):
    return data.load(tiny(dataset__rgb_side=8).dataset)  # RGB, which ImageNet's augmentation takes


def shapes(function, *arguments):
  """Shapes and types of what a function returns; none is of 64 bits."""
  found = jax.eval_shape(function, *arguments)
  for path, leaf in jax.tree_util.tree_leaves_with_path(found):
    assert leaf.dtype != jnp.float64, jax.tree_util.keystr(path)
  return found


def key():
  return jax.random.key(0)


@pytest.mark.parametrize(
  ("method", "fields"),
  [
    ("dc", {"init": "noise"}),
    ("dc", {"init": "real", "formation__factor": 2}),
    ("dsa", {}),
    ("dsa", {"dsa__scheme": "independent", "compute__class_map": "vmap"}),
    ("dm", {}),
    ("dm", {"dsa__draw": "sequence", "network__precision": "bfloat16"}),
    ("dm", {"trained__low": 0.0, "trained__networks": 2}),
    ("dm", {"embedding": "pixels"}),
    ("idc", {}),
    ("idc", {"training__data": "synthetic", "training__cutmix": 0.5, "distance": "ours"}),
    ("idc", {"training__pretraining": 1, "training__networks": 2, "distance": "cos"}),
    ("bptt", {"learn": "both", "inner__classes": 4, "inner__per_class": 1, "ipc": 2}),
    ("bptt", {"inner__optimizer": "sgd", "formation__factor": 2}),
    ("bptt", {"inner__optimizer": "sgd", "inner__turns": True, "inner__learn_lr": True}),
    ("frepo", {"pool__networks": 2, "flip": True, "ipc": 2}),
    ("frepo", {"pool__steps": 0, "loss": "platt", "optimizer": "adabelief"}),
    ("rcig", {"flip": True}),
    ("kip", {}),
    ("tm", {"learn": "both", "init": "correct", "average": 0.5, "skip_above": 1.0, "ipc": 2}),
    pytest.param("tm", {"gradient": "tesla", "formation__factor": 2}, marks=pytest.mark.slow),
    ("idm", {"formation__name": "learnable"}),
    ("idm", {"formation__name": "multi_scale"}),
    ("idm", {"queue__pretrained": 2, "queue__pretraining": 1, "queue__classes": 0.5}),
  ],
)
def test_methods(dataset, method, fields, tmp_path):
  fields |= {"dataset__rgb_side": 8}
  config = dcjax.config.resolve(with_experts(tiny(method, **fields), tmp_path))
  bound = experiment.method(config, dataset, experiment.strategy(config, dataset))
  state = shapes(bound.init, key(), dataset)
  after, _ = shapes(bound.update, state, dataset, key(), jnp.int32(0))
  assert jax.tree.leaves(after) == jax.tree.leaves(state)


@pytest.mark.parametrize("name", [*NAMED, *TRANSFORMS.own, STRATEGY])
def test_evaluation(dataset, name):
  network = network_of("convnet", dataset.image_shape, "batch")
  settings = evaluation.EvaluationSettings("dc", 2, name, 1, 1, cutmix=0.5)
  layout = experiment.strategy(tiny(), dataset)
  images, labels = jnp.zeros((10, *dataset.image_shape), jnp.float32), dataset.labels[:10]
  evaluate = evaluation.Evaluator(network, settings, layout, dataset)
  accuracies = shapes(lambda *args: list(evaluate(*args)), images, labels, key())
  assert [each.dtype for each in accuracies] == [jnp.float32]


def network_of(name, image_shape, norm=None):
  return nn.create(name, image_shape=image_shape, num_classes=10, width=4, depth=1, norm=norm)


@pytest.mark.parametrize("name", ["alexnet", "mlp", "resnet10_ap", "efficientnet_b0"])
def test_networks(name):
  network = network_of(name, (32, 32, 1))
  params = shapes(network.init, key())
  shapes(network.apply, params, jnp.zeros((2, 32, 32, 1), jnp.float32))


@pytest.mark.parametrize("method", ["herding", "k_center", "forgetting"])
def test_coresets(dataset, method):
  network = network_of("convnet", dataset.image_shape)
  choose = partial(coreset.by_network, network=network, method=method, ipc=2, block=64)
  events = jnp.zeros(len(dataset.labels), jnp.int32)
  params = shapes(network.init, key())
  chosen = shapes(choose, dataset, params, events, key(), 1)
  assert chosen.dtype == jnp.int32


@pytest.mark.parametrize("soft", [False, True])
def test_stages(dataset, soft):
  network = network_of("convnet", dataset.image_shape)
  layout = experiment.strategy(tiny(), dataset)
  params = shapes(network.init, key())
  labels = jnp.full((10, 1, 10), 0.1, jnp.float32) if soft else jnp.zeros((10, 1), jnp.int32)
  memory = jnp.zeros((10, 1, *dataset.image_shape), jnp.float32), labels
  phase = stages.Phase(2, 0.01)
  rehearsal = stages.Rehearsal(phase, phase, 8, "color_crop_cutout_flip_scale_rotate")
  static = {"layout": layout, "distillation": stages.Distillation(1.0, 2.0)}
  rehearse = partial(stages.rehearse, network, settings=rehearsal, **static)
  shapes(
    lambda *args: rehearse(*args[:-1], previous=args[-1]), dataset, [memory], memory, key(), params
  )
  settings = evaluation.EvaluationSettings("idc_continual", 2, "none", 1, 1)
  learn = partial(stages.learn_memory, network, classes=10, settings=settings, **static)
  smaller = network._replace(apply=lambda *a: (network.apply(*a)[0][:, :5], None))

  def learned(images, labels, key, params):
    return learn(images, labels, key, stages.Previous(smaller, params, 5))

  shapes(learned, memory[0][:, 0], labels[:, 0], key(), params)
