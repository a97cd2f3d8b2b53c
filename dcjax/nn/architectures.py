"""Which networks an evaluation takes: pools by name, and networks with fields of their own.

`vgg11` is a network, `convnet:width=64:norm=batch` one with some fields set, and `widths` a pool,
which stands for several (the modes of the authors' code).
"""

from collections.abc import Mapping
from typing import Any

from dcjax.common.errors import UserError, check_name, nearest
from dcjax.nn import layers

# The fields that each network has, and the type of each.
COMMON: dict[str, type] = {"norm": str, "init": str}
FIELDS: dict[str, dict[str, type]] = {
  "convnet": {"width": int, "depth": int, "activation": str, "pooling": str, **COMMON},
  "lenet": {"init": str},
  "mlp": {"init": str},
  "alexnet": COMMON,
  "vgg11": COMMON,
  "resnet10": COMMON,
  "resnet10_ap": COMMON,
  "resnet18": COMMON,
  "resnet18_ap": COMMON,
  "densenet121": COMMON,
  "efficientnet_b0": COMMON,
}


def _convnets(field: str, values: tuple[Any, ...]) -> tuple[str, ...]:
  return tuple(f"convnet:{field}={value}" for value in values)


# By name: what the papers compare networks by (DC, Table 2 and T6 to T10; DM for batch norm).
POOLS: dict[str, tuple[str, ...]] = {
  "architectures": ("mlp", "convnet", "lenet", "alexnet", "vgg11", "resnet18"),
  "batch_norms": (
    "convnet:norm=batch",
    "convnet:activation=swish:norm=batch",
    "alexnet:norm=batch",
    "vgg11:norm=batch",
    "resnet18:norm=batch",
  ),
  "widths": _convnets("width", (32, 64, 128, 256)),
  "depths": _convnets("depth", (1, 2, 3, 4)),
  "activations": _convnets("activation", ("sigmoid", "relu", "leaky_relu")),
  "norms": _convnets("norm", layers.NORMS),
  "poolings": _convnets("pooling", ("none", "max", "average")),
}


def expand(names: tuple[str, ...]) -> tuple[str, ...]:
  """Replaces pools by what is in them; each network occurs once."""
  return tuple(dict.fromkeys(each for name in names for each in POOLS.get(name, (name,))))


def names(architectures: tuple[str, ...], network: Mapping[str, Any]) -> tuple[str, ...]:
  """The networks that an evaluation takes: those of `architectures`, or else the one given."""
  return expand(architectures) or (network["name"],)


def at_evaluation(network: Mapping[str, Any], text: str) -> dict[str, Any]:
  """The arguments of `nn.create` for a network that is trained on a set.

  Args:
    network: the fields of the network that the set was made with. Its batch norm gives way to the
      authors' norm: with few images batch statistics are not reliable (DC, Appendix A). Its
      precision gives way to float32, so that accuracies compare.
    text: see `parse`; what it says goes before what `network` says.
  """
  norm = None if network["norm"] == "batch" else network["norm"]
  return {**network, "norm": norm, "precision": "float32", **parse(text)}


def parse(text: str) -> dict[str, Any]:
  """The arguments of `nn.create` that a network with fields stands for.

  Args:
    text: `name`, or `name:field=value:...`.

  Raises:
    UserError: the network is unknown, or has no such field.
  """
  name, *settings = text.split(":")
  check_name("network", name, (*FIELDS, *POOLS))
  fields: dict[str, Any] = {"name": name}
  for setting in settings:
    field, _, value = setting.partition("=")
    if field not in FIELDS[name]:
      raise UserError(f"network '{text}': {name} has no '{field}'; {nearest(field, FIELDS[name])}")
    kind = FIELDS[name][field]
    if not value or (kind is int and not (value.isdecimal() and len(value) < 10)):
      raise UserError(f"network '{text}': '{setting}' is no setting; write {field}=VALUE")
    fields[field] = kind(value)
  return fields
