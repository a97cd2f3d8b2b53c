"""Sets of networks, and networks with fields of their own."""

import jax
import pytest

from dcjax import UserError, nn
from dcjax.common.registry import NETWORKS
from dcjax.nn import architectures
from dcjax.nn.definition import find


def resnet10(filters):
  """Parameters of a ResNet-10 for small images: a stem, four blocks, a last layer."""
  widths, total = [filters * times for times in (1, 2, 4, 8)], 27 * filters + 2 * filters
  for before, after in zip([filters, *widths], widths, strict=False):
    total += 9 * after * (before + after) + 4 * after
    total += before * after + 2 * after if before != after else 0
  return total + 10 * widths[-1] + 10


@pytest.mark.parametrize(
  ("text", "fields"),
  [
    ("vgg11", {"name": "vgg11"}),
    ("convnet:width=64:norm=batch", {"name": "convnet", "width": 64, "norm": "batch"}),
    ("mlp:init=kaiming", {"name": "mlp", "init": "kaiming"}),
  ],
)
def test_fields_follow_the_name(text, fields):
  assert architectures.parse(text) == fields


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("vgg", "network: unknown 'vgg'; did you mean 'vgg11'"),
    ("width", "network: unknown 'width'; did you mean 'widths'"),
    ("mlp:width=3", "network 'mlp:width=3': mlp has no 'width'; choose one of: init"),
    ("convnet:width", "network 'convnet:width': 'width' is no setting; write width=VALUE"),
    ("convnet:width=x", "'width=x' is no setting"),
    ("widths:norm=batch", "network 'widths:norm=batch': widths has no 'norm'; leave it out"),
  ],
)
def test_what_is_no_network_is_named(text, message):
  with pytest.raises(UserError, match=message):
    architectures.parse(text)


def test_every_network_of_every_set_builds():
  for name in architectures.expand(tuple(architectures.SETS)):
    nn.create(image_shape=(32, 32, 3), num_classes=10, **architectures.parse(name))


@pytest.mark.parametrize("name", NETWORKS.own)
def test_every_network_takes_fields(name):
  assert architectures.parse(f"{name}:init=kaiming") == {"name": name, "init": "kaiming"}


def test_the_fields_of_a_network_are_those_that_its_keywords_name():
  convnet = ("width", "depth", "activation", "pooling", "norm", "init")
  for name in ("convnet", "frepo_conv"):
    assert set(find("", name).fields()) == set(convnet)
  assert find("", "mlp").fields() == find("", "lenet").fields() == {"init": str}
  sizes = {name: {"filters": int} for name in NETWORKS.own if "resnet" in name}
  sizes["densenet121"] = {"growth": int}
  for name in set(NETWORKS.own) - {"convnet", "frepo_conv", "mlp", "lenet"}:
    assert find("", name).fields() == {"norm": str, "init": str} | sizes.get(name, {})


def test_sets_are_expanded_in_place_and_nothing_is_taken_twice():
  assert architectures.expand(("mlp", "architectures"))[:3] == ("mlp", "convnet", "lenet")
  assert architectures.expand(("depths", "convnet:depth=1")) == architectures.SETS["depths"]


def test_networks_are_evaluated_in_float32_and_without_batch_norm():
  network = {"name": "convnet", "norm": "batch", "precision": "bfloat16"}
  fields = architectures.at_evaluation(network, "convnet:width=64")
  assert fields == {"name": "convnet", "norm": None, "precision": "float32", "width": 64}


@pytest.mark.parametrize(
  ("text", "total"),
  [
    # IDC's authors' ResNet of CIFAR and DenseNet, counted by layer, and as they print it.
    ("resnet10", resnet10(32)),
    ("resnet10:filters=64", resnet10(64)),
    ("densenet121", 1_000_618),
    ("densenet121:growth=32", 6_956_298),
  ],
)
def test_sizes_follow_the_name(text, total):
  network = nn.create(image_shape=(32, 32, 3), num_classes=10, **architectures.parse(text))
  params = jax.eval_shape(network.init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == total


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("resnet10:filters=0", "network.filters: 0 is too small; give 1 or more"),
    ("densenet121:growth=0", "network.growth: 0 is too small"),
    ("densenet121:growth=99999", "network.growth: 99999 is too large"),
    ("resnet18:filters=6:norm=group", "network.filters: 6 is not a multiple of the 4 groups"),
    ("resnet18:width=64", "network 'resnet18:width=64': resnet18 has no 'width'"),
  ],
)
def test_sizes_that_cannot_be_are_refused(text, message):
  with pytest.raises(UserError, match=message):
    nn.create(image_shape=(32, 32, 3), num_classes=10, **architectures.parse(text))


@pytest.mark.parametrize(
  ("name", "init", "expected"),
  [
    ("idc", "torch", [(None, "torch"), ("batch", "fan_out"), ("batch", "torch")]),
    ("idc_imagenet", "fan_out", [(None, "fan_out"), ("batch", "fan_out"), ("batch", "torch")]),
    ("idc_imagenet", "torch", [(None, "fan_out"), ("batch", "fan_out"), ("batch", "torch")]),
  ],
)
def test_the_networks_of_idc_keep_their_batch_norm_and_begin_as_its_authors(name, init, expected):
  network = {"name": "x", "norm": None, "precision": "float32", "filters": None, "init": init}
  made = [architectures.at_evaluation(network, text) for text in architectures.SETS[name]]
  assert [(each["norm"], each["init"]) for each in made] == expected
