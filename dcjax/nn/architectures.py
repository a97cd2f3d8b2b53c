"""Which networks an evaluation takes: networks with fields of their own, and sets of networks.

`vgg11` is a network, `convnet:width=64:norm=batch` one with some fields set, `nets.py:tiny` one of
a user's file, and `widths` a set, which stands for several (the modes of the authors' code).
"""

import re
from collections.abc import Mapping
from typing import Any

from dcjax.common.errors import UserError, check_name, nearest
from dcjax.common.registry import NETWORKS, names_object
from dcjax.nn import layers
from dcjax.nn.definition import find

# `FILE.py:NAME`, also where the path has colons, and the fields after it.
_OF_FILE = re.compile(r"(.*\.py:[^:]*)(?::(.*))?", re.DOTALL)


def _convnets(field: str, values: tuple[Any, ...]) -> tuple[str, ...]:
  return tuple(f"convnet:{field}={value}" for value in values)


# By name: what the papers compare networks by (DC, Table 2 and T6 to T10; DM for batch norm; IDC).
SETS: dict[str, tuple[str, ...]] = {
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
  # IDC, Tables 1 to 3: those that are trained only have batch norm, and ResNets an initialisation
  # of their own (authors' code)
  "idc": ("convnet", "resnet10:norm=batch:init=fan_out", "densenet121:norm=batch"),
  "idc_imagenet": (
    "resnet10_ap:init=fan_out",
    "resnet18:norm=batch:init=fan_out",
    "efficientnet_b0:norm=batch:init=torch",
  ),
}


def expand(names: tuple[str, ...]) -> tuple[str, ...]:
  """Replaces sets by what is in them; each network occurs once."""
  return tuple(dict.fromkeys(each for name in names for each in SETS.get(name, (name,))))


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
    text: `name`, or `name:field=value:...`; the file of `FILE.py:NAME` is run.

  Raises:
    UserError: the network is unknown, or has no such field.
  """
  name, settings = _split(text)
  if ".py" not in name:
    check_name("network", name, (*NETWORKS, *SETS))
  fields: dict[str, Any] = {"name": name}
  known = find("network", name).fields() if name not in SETS else {}
  for setting in settings:
    field, _, value = setting.partition("=")
    if field not in known:
      remedy = nearest(field, known) if known else "leave it out"
      raise UserError(f"network '{text}': {name} has no '{field}'; {remedy}")
    kind = known[field]
    if not value or (kind is int and not (value.isdecimal() and len(value) < 10)):
      raise UserError(f"network '{text}': '{setting}' is no setting; write {field}=VALUE")
    fields[field] = kind(value)
  return fields


def text_of(fields: Mapping[str, Any]) -> str:
  """What `parse` makes these arguments of `nn.create` of, as far as they are the network's own."""
  own = find("network", fields["name"]).fields()
  given = [f"{field}={fields[field]}" for field in own if fields.get(field) is not None]
  return ":".join([fields["name"], *given])


def is_trained(text: Any) -> bool:
  """Whether a text stands for the file of a network that is trained, see `run.teacher_file`."""
  return str(text).endswith(".npz")


def check_one(field: str, text: str) -> None:
  """Raises `UserError` for what is not one network, nor the file of one that is trained.

  Args:
    field: to blame.
    text: see `parse`; or a file, see `is_trained`, which is looked at when it is read.
  """
  if is_trained(text):
    return
  try:
    name = parse(text)["name"]
  except UserError as error:
    raise UserError(f"{field}: {error}") from None
  if name in SETS:
    raise UserError(
      f"{field}: '{name}' stands for several networks; name one, such as {SETS[name][0]}"
    )


def names_file(text: str) -> bool:
  """Whether the network is one of a Python file, which `parse` runs."""
  return names_object(_split(text)[0])


def _split(text: str) -> tuple[str, list[str]]:
  """The name and the settings of a network with fields."""
  if found := _OF_FILE.fullmatch(text):
    return found[1], found[2].split(":") if found[2] is not None else []
  name, *settings = text.split(":")
  return name, settings
