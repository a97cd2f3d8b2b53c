"""Sets of networks, and networks with fields of their own."""

import pytest

from dcjax import UserError, nn
from dcjax.common.registry import NETWORKS
from dcjax.nn import architectures
from dcjax.nn.definition import find


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
  assert set(find("", "convnet").fields()) == set(convnet)
  assert find("", "mlp").fields() == find("", "lenet").fields() == {"init": str}
  sizes = {name: {"filters": int} for name in NETWORKS.own if "resnet" in name}
  sizes["densenet121"] = {"growth": int}
  for name in set(NETWORKS.own) - {"convnet", "mlp", "lenet"}:
    assert find("", name).fields() == {"norm": str, "init": str} | sizes.get(name, {})


def test_sets_are_expanded_in_place_and_nothing_is_taken_twice():
  assert architectures.expand(("mlp", "architectures"))[:3] == ("mlp", "convnet", "lenet")
  assert architectures.expand(("depths", "convnet:depth=1")) == architectures.SETS["depths"]


def test_networks_are_evaluated_in_float32_and_without_batch_norm():
  network = {"name": "convnet", "norm": "batch", "precision": "bfloat16"}
  fields = architectures.at_evaluation(network, "convnet:width=64")
  assert fields == {"name": "convnet", "norm": None, "precision": "float32", "width": 64}
