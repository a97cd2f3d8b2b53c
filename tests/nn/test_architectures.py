"""Pools of networks, and networks with fields of their own."""

import pytest

from dcjax import UserError, nn
from dcjax.nn import architectures


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
  ],
)
def test_what_is_no_network_is_named(text, message):
  with pytest.raises(UserError, match=message):
    architectures.parse(text)


def test_every_network_of_every_pool_builds():
  for name in architectures.expand(tuple(architectures.POOLS)):
    nn.create(image_shape=(32, 32, 3), num_classes=10, **architectures.parse(name))


def test_every_network_is_known_to_the_pools():
  assert set(architectures.FIELDS) == set(nn.NETWORKS)


def test_pools_are_expanded_in_place_and_nothing_is_taken_twice():
  assert architectures.expand(("mlp", "architectures"))[:3] == ("mlp", "convnet", "lenet")
  assert architectures.expand(("depths", "convnet:depth=1")) == architectures.POOLS["depths"]


def test_networks_are_evaluated_in_float32_and_without_batch_norm():
  network = {"name": "convnet", "norm": "batch", "precision": "bfloat16"}
  fields = architectures.at_evaluation(network, "convnet:width=64")
  assert fields == {"name": "convnet", "norm": None, "precision": "float32", "width": 64}
