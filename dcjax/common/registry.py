"""What is found by name: methods, networks, transforms and datasets; dcjax' own, and users'.

A name is an entry of one of the tables below, an entry point of an installed package, or
`FILE.py:NAME`, an object in a Python file. A module is loaded when it is first asked for.
"""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from dcjax.common.errors import UserError, check_name, gist, nearest
from dcjax.common.files import expand

OF_FILE = "dcjax_file_"  # what the names of modules begin with that files are made into


class Registry:
  """The things of one kind, by name."""

  def __init__(self, group: str, own: dict[str, str]):
    """Loads nothing.

    Args:
      group: of the entry points by which packages offer theirs.
      own: where dcjax' own are, `MODULE:NAME`. No package can take the place of one.
    """
    self.group, self.own = group, own

  def __iter__(self) -> Iterator[str]:
    """All names, of dcjax and of installed packages."""
    yield from self.own
    yield from (name for name in self._points() if name not in self.own)

  def __contains__(self, name: object) -> bool:
    """Whether the name is known without a file."""
    return name in self.own or name in self._points()

  def find(self, field: str, name: str) -> Any:
    """The object of a name.

    Raises:
      UserError: there is none, or its module fails; `field` is to blame.
    """
    if not isinstance(name, str):  # from a damaged file
      check_name(field, name, self)
    if names_object(name):
      path, _, attribute = name.rpartition(":")
      return _attribute(field, name, _module_of_file(field, name, expand(field, path)), attribute)
    if name in self.own:
      module, _, attribute = self.own[name].partition(":")
      return getattr(importlib.import_module(module), attribute)
    if name.endswith(".py"):
      raise UserError(f"{field}: {name} is a file; say which object of it: {name}:NAME")
    check_name(field, name, self)
    try:
      return self._points()[name].load()
    except (Exception, SystemExit) as error:  # of another package, which may raise anything
      raise UserError(
        f"{field}: {name}, from {self._points()[name].value}, cannot be loaded: "
        f"{type(error).__name__}: {gist(error)}; mend that package"
      ) from error

  def source(self, field: str, name: str) -> dict[str, str]:
    """The digest of the file that an installed package has the object of a name in."""
    try:
      spec = importlib.util.find_spec(self._points()[name].module)
    except Exception:  # of another package; who loads it is told
      return {}
    return {"file": file_digest(field, spec.origin)} if spec and spec.origin else {}

  def _points(self) -> dict[str, metadata.EntryPoint]:
    return _entry_points(self.group, tuple(sys.path))


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, metadata.EntryPoint]:
  """Those of the packages on `sys.path`."""
  del path  # which `metadata` looks at itself
  return {point.name: point for point in metadata.entry_points(group=group)}


def names_object(name: str) -> bool:
  """Whether a name is `FILE.py:NAME`."""
  return name.rpartition(":")[0].endswith(".py")


def label(name: str) -> str:
  """What to call the thing of a name, which may be `FILE.py:NAME` with a long path."""
  return Path(name).name if names_object(name) else name


def guarded(field: str, name: str, function: Callable) -> Callable:
  """A user's function, whose errors become `UserError`s of one line; `field` is to blame."""

  def call(*arguments: Any) -> Any:
    try:
      return function(*arguments)
    except UserError:
      raise
    except (Exception, SystemExit) as error:  # which may be any
      raise _failure(field, name, error) from error

  return call


def _failure(field: str, name: str, error: BaseException) -> UserError:
  """What to say where a user's code fails: with the line of its file."""
  line = ""
  if names_object(name):
    line = line_of(error, expand(field, name.rpartition(":")[0]).resolve())
  remedy = "mend it"
  if isinstance(error, ModuleNotFoundError):
    remedy = "install it, or put the folder of a module of your own into PYTHONPATH"
  return UserError(
    f"{field}: {name}{line} fails with {type(error).__name__}: {gist(error)}; {remedy}"
  )


def content(field: str, name: str) -> dict[str, str]:
  """What tells apart two objects of the same name: the digest of the file that has it.

  Empty for dcjax' own. Of a package or a file that takes its object from others, these are not
  looked at.

  Raises:
    UserError: that file cannot be read; `field` is to blame.
  """
  if names_object(name):
    return {"file": file_digest(field, name.rpartition(":")[0])}
  for registry in (DATASETS, METHODS, NETWORKS, TRANSFORMS):
    if name not in registry.own and name in registry:
      return registry.source(field, name)
  return {}


def file_digest(field: str, path: str) -> str:
  """What tells a file's content; raises `UserError` if it cannot be read, and blames `field`."""
  return _digest(_read(field, expand(field, path))[1])


def _read(field: str, path: Path) -> tuple[Path, bytes]:
  """Where a file is, and what is in it."""
  try:
    source = path.resolve(strict=True)
    return source, source.read_bytes()
  except (OSError, RuntimeError, ValueError):  # a circle of links, a NUL
    raise UserError(f"{field}: no file {path}; give the path of a Python file") from None


def _digest(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:16]


def _attribute(field: str, name: str, module: ModuleType, attribute: str) -> Any:
  if hasattr(module, attribute):
    return getattr(module, attribute)
  known = [each for each in vars(module) if not each.startswith("_")]
  raise UserError(f"{field}: {name}: that file has no '{attribute}'; {nearest(attribute, known)}")


def _module_of_file(field: str, name: str, path: Path) -> ModuleType:
  """The module that a Python file makes, which is run once, and again when it has changed."""
  source, text = _read(field, path)
  key = f"{OF_FILE}{_digest(bytes(source) + text)}"
  if key in sys.modules:
    return sys.modules[key]
  spec = importlib.util.spec_from_file_location(key, source)
  assert spec is not None and spec.loader is not None  # as the name ends in .py
  module = importlib.util.module_from_spec(spec)
  sys.modules[key] = module
  try:
    guarded(field, name, spec.loader.exec_module)(module)
  except UserError:
    del sys.modules[key]
    raise
  return module


def line_of(error: BaseException, source: str | Path) -> str:
  """Where in a file an error comes from, as a part of a sentence; empty where that is not known."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == str(source)]
  if isinstance(error, SyntaxError) and error.filename == str(source):
    lines = [error.lineno]
  return f", line {lines[-1]}," if lines else ""


DATASETS = Registry(
  "dcjax.datasets",  # `data.Source`, or a function; other names are those of TensorFlow Datasets
  {
    "digits": "dcjax.data.digits:SOURCE",
    "folder": "dcjax.data.folder:SOURCE",
    "hf": "dcjax.data.hf:SOURCE",
    "npz": "dcjax.data.npz:SOURCE",
    "speech": "dcjax.data.speech:SOURCE",
    "mini_speech_commands": "dcjax.data.speech:SOURCE",
    "mnist": "dcjax.data.originals:SOURCE",
    "fashion_mnist": "dcjax.data.originals:SOURCE",
    "svhn_cropped": "dcjax.data.originals:SOURCE",
    "cifar10": "dcjax.data.originals:SOURCE",
    "cifar100": "dcjax.data.originals:SOURCE",
    "tiny_imagenet": "dcjax.data.originals:SOURCE",
    "usps": "dcjax.data.originals:SOURCE",
  },
)
METHODS = Registry(
  "dcjax.methods",  # `methods.definition.Definition`
  {
    "dc": "dcjax.methods.dc:DC",
    "dsa": "dcjax.methods.dc:DSA",
    "dm": "dcjax.methods.dm:DM",
    "idc": "dcjax.methods.idc:IDC",
    "idm": "dcjax.methods.idm:IDM",
    "random": "dcjax.methods.coreset:SELECTION",
    "herding": "dcjax.methods.coreset:SELECTION",
    "k_center": "dcjax.methods.coreset:SELECTION",
    "forgetting": "dcjax.methods.coreset:SELECTION",
    "optimal_random": "dcjax.methods.coreset:SELECTION",
    "rded": "dcjax.methods.rded:RDED",
    "bptt": "dcjax.methods.bptt:BPTT",
    "tm": "dcjax.methods.tm:TM",
    "frepo": "dcjax.methods.frepo:FREPO",
    "rcig": "dcjax.methods.rcig:RCIG",
    "kip": "dcjax.methods.kip:KIP",
  },
)

NETWORKS = Registry(
  "dcjax.networks",  # `nn.Definition`, and more from users: `nn.users.network`
  {
    "convnet": "dcjax.nn.convnet:DEFINITION",
    "frepo_conv": "dcjax.nn.frepo_conv:DEFINITION",
    "lenet": "dcjax.nn.lenet:DEFINITION",
    "mlp": "dcjax.nn.mlp:DEFINITION",
    "alexnet": "dcjax.nn.alexnet:DEFINITION",
    "vgg11": "dcjax.nn.vgg:DEFINITION",
    "resnet10": "dcjax.nn.resnet:RESNET10",
    "resnet10_ap": "dcjax.nn.resnet:RESNET10_AP",
    "resnet18": "dcjax.nn.resnet:RESNET18",
    "resnet18_ap": "dcjax.nn.resnet:RESNET18_AP",
    "densenet121": "dcjax.nn.densenet:DEFINITION",
    "efficientnet_b0": "dcjax.nn.efficientnet:DEFINITION",
  },
)
TRANSFORMS = Registry(
  "dcjax.transforms",  # `augment.Transform`, or a function; one with '_' stands between '+'
  {
    "color": "dcjax.augment.transforms:COLOR",
    "crop": "dcjax.augment.transforms:CROP",
    "cutout": "dcjax.augment.transforms:CUTOUT",
    "flip": "dcjax.augment.transforms:FLIP",
    "scale": "dcjax.augment.transforms:SCALE",
    "rotate": "dcjax.augment.transforms:ROTATE",
  },
)
