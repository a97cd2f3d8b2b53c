"""A method as configs and commands know it: its fields, their checks, and how it is built.

Each method's file ends with its `Definition`, which `dcjax.common.registry.METHODS` finds by name.
"""

import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from dcjax import augment
from dcjax.common.errors import UserError, check_least, check_name
from dcjax.common.registry import guarded
from dcjax.config.datasets import default_strategy, warn_of_flips
from dcjax.config.meanings import of_function, of_settings
from dcjax.data import Dataset, base_name
from dcjax.devices.strategy import Strategy
from dcjax.methods import INITS, Method
from dcjax.sets import formation

T = TypeVar("T")
# Fields of a run that takes seconds, of every method that condenses.
SMOKE = {"iterations": 2, "batch_real": 8, "checkpoint_every": 1}


class Definition(NamedTuple):
  """A method, beside its arithmetic.

  Attributes:
    fields: `fields() -> ConfigDict`, those of a config that it has, with their defaults.
    build: `build(config, dataset, layout) -> Method`; None if it selects real images.
    resolve: `resolve(config)` checks its fields as far as that goes without data and fills in
      those that are None, in place.
    smoke: fields of a run that takes seconds, by their dotted names.
    protocol: by which networks are trained on its sets, an entry of `evaluation.PROTOCOLS`.
    label_kind: of the labels that it learns, if any; an entry of `sets.labels.KINDS`.
    per_class: whether `batch_real` counts the images of each class, and not of all together.
    unit: `unit(config)`, whether its sets store pixels in [0, 1] and not normalised ones.
    together: `together(config, dataset, layout)`, about how many bytes of a device an iteration
      takes with all classes together, where that is the better layout on a GPU; None: it is not.
    settings: a NamedTuple of hyper-parameters, whose comments say what its fields mean.
    earlier: `earlier(fields)`, what newer fields of it were in a run of an earlier version, whose
      config lacks them, where the default is another now; both by their dotted names.
  """

  fields: Callable[[], ConfigDict]
  build: Callable[[ConfigDict, Dataset, Strategy], Method] | None
  resolve: Callable[[ConfigDict], None] = lambda config: check_condensation(config)
  smoke: Mapping[str, Any] = SMOKE
  protocol: str = "dsa"
  label_kind: str = "hard"
  per_class: bool = True
  unit: Callable[[ConfigDict], bool] = lambda config: False
  together: Callable[[ConfigDict, Dataset, Strategy], int] | None = None
  settings: type | None = None
  earlier: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda fields: {}


def of_user(name: str, found: Any) -> Definition:
  """A user's object as a definition, whose errors become `UserError`s of one line.

  Raises:
    UserError: it is none.
  """
  if not isinstance(found, Definition):
    raise UserError(
      f"method: {name} is of type {type(found).__name__}; name a methods.definition.Definition"
    )

  def fields():
    config = ConfigDict()
    config.update(found.fields())
    return config

  build = found.build and guarded("method", name, found.build)
  resolve, unit = (guarded("method", name, each) for each in (found.resolve, found.unit))
  together = found.together and guarded("method", name, found.together)
  return found._replace(
    fields=guarded("method", name, fields),
    build=build,
    resolve=resolve,
    unit=unit,
    together=together,
  )


def meanings(method: Definition) -> dict[str, str]:
  """What the fields of a method mean, by their dotted names; those of all configs are left out."""
  own = of_settings(method.settings) if method.settings else {}
  if method.build is None:
    return own
  forming, augmenting = of_settings(Forming, "formation."), of_settings(Augmenting, "dsa.")
  return of_function(condensation, "config") | forming | augmenting | own


# --- Fields ----------------------------------------------------------------------------------


class Rule(NamedTuple):
  """The default of a field that is None in a config until `resolve` fills it in."""

  kind: type


def by_rule(kind: type[T]) -> T:
  """A field whose value depends on other fields."""
  return cast(T, Rule(kind))


def as_fields(settings: Any) -> ConfigDict:
  """The fields of a config that hyper-parameters stand for; those in them become sections."""
  fields, hints = ConfigDict(), typing.get_type_hints(type(settings))
  for name, value in settings._asdict().items():
    if hasattr(value, "_asdict") and not isinstance(value, Rule):
      fields[name] = as_fields(value)
    elif value is None:
      fields[name] = placeholder(_other_than_none(hints[name]))
    else:
      fields[name] = placeholder(value.kind) if isinstance(value, Rule) else value
  return fields


def from_fields(settings: T, config: Any) -> T:
  """Hyper-parameters with the values of a config.

  Args:
    settings: a NamedTuple, whose values say no more than what kind they are.
    config: has a field for each of them.
  """
  values = {
    name: from_fields(value, config[name]) if isinstance(config[name], ConfigDict) else config[name]
    for name, value in settings._asdict().items()  # type: ignore[attr-defined]
  }
  return type(settings)(**values)


def _other_than_none(kind: Any) -> type:
  return next(each for each in typing.get_args(kind) if each is not types.NoneType)


class Augmenting(NamedTuple):
  """How images that are matched are augmented (DSA, section 4)."""

  # Which images: 'siamese', 'independent', 'real', 'synthetic' or 'none' (DSA, Table 4)
  scheme: str = "siamese"
  # Transforms joined by '_', and by '+' your own, FILE.py:NAME; in groups with commas between them
  # that may say their draw, 'sequence:color,one:crop_scale'; None: all six, without flip for digits
  # (DSA, section 4.4)
  strategy: str = by_rule(str)
  # Of groups that say none: 'one' transform for each batch, or all of them in 'sequence'
  draw: str = "one"


class Forming(NamedTuple):
  """How synthetic images come from those stored (IDC, section 3.2)."""

  # 'uniform', 'multi_scale', 'bounded', 'learnable', 'time', 'partition' or 'identity'
  # (sets/formation.py); 'bounded' is for matching, and the set is decoded as 'uniform' says; None:
  # 'bounded' on ImageNet from 20 images a class and factor 3 on, else 'uniform' (IDC)
  name: str = "uniform"
  factor: int = 1  # tiles along a side of a stored image; 1: none
  bound: int = formation.BOUND  # decoded images a class that 'bounded' leaves to match


SIAMESE, NO_TILES = Augmenting(), Forming()


def condensation(
  settings: Any,
  *,
  iterations: int | None,
  checkpoint_every: int,
  dsa: Augmenting | None = SIAMESE,
  forming: Forming = NO_TILES,
) -> ConfigDict:
  """The fields of a method that condenses.

  Args:
    settings: its hyper-parameters, a NamedTuple; `ipc`, `init` and `lr_image` are among them, and
      `batch_real` if it matches real images. `init` may also be the .npz file of a saved set of the
      same classes, ipc, shape and formation: its images, and the weights of a learnable formation.
      Pixels in [0, 1] (IDC) are turned into normalised ones, and the other way round. The set is
      kept as init.npz in the workdir, so that the file may go.
    iterations: outer ones; None: by rule.
    checkpoint_every: so many of them.
    dsa: how images are augmented that are matched; None: not at all.
    forming: of the sets.
  """
  config = as_fields(settings)
  # Outer iterations; None: by dataset (IDC)
  config.iterations = placeholder(int) if iterations is None else iterations
  config.checkpoint_every = checkpoint_every  # outer iterations between checkpoints
  config.evaluate_every = 0  # outer iterations between evaluations; 0: only at the end
  # Outer iterations between pictures, besides those at evaluations; 0: no more than those
  config.picture_every = 0
  # Stop once the mean loss of so many iterations is no lower than that of as many before it;
  # 0: never
  config.converged_after = 0
  config.formation = as_fields(forming)
  if dsa is not None:
    config.dsa = as_fields(dsa)
  return config


# --- Checks ----------------------------------------------------------------------------------


def check_condensation(
  config: ConfigDict, lr_image: str = "0.1 (DC) to 1 (DM)", inits: tuple[str, ...] = INITS
) -> None:
  """Checks the fields of `condensation`, and fills in DSA's strategy, in place.

  Args:
    config: all else of which is filled in.
    lr_image: what the papers have, for an error.
    inits: what `init` may be beside a file.

  Raises:
    UserError: names the field, the value and the remedy.
  """
  if not names_file(config.init):
    check_name("init", config.init, (*inits, "FILE.npz of a saved set"))
  formation.check(**config.formation, ipc=config.ipc)
  for field in ("iterations", "batch_real", "checkpoint_every"):
    if field in config:  # a method may match no real images
      check_least(field, config[field], 1)
  for field in ("evaluate_every", "picture_every", "converged_after"):
    check_least(field, config[field], 0)
  check_rate("lr_image", config.lr_image, lr_image)
  if "dsa" not in config:
    return
  fields, dataset = config.dsa, base_name(config.dataset.name)
  check_name("dsa.scheme", fields.scheme, augment.SCHEMES)
  check_name("dsa.draw", fields.draw, augment.DRAWS)
  if fields.strategy is None:
    fields.strategy = default_strategy(dataset)
  augment.check_strategy("dsa.strategy", fields.strategy)
  warn_of_flips("dsa.strategy", fields.strategy, dataset)


def names_file(init: str) -> bool:
  """Whether `init` is the file of a saved set, which is looked at when the run starts."""
  return init.endswith(".npz")


def check_rate(field: str, value: float, papers: str) -> None:
  """Raises `UserError` for a learning rate that is not positive; says what the papers have."""
  if not 0 < value < math.inf:
    raise UserError(f"{field}: {value} is not a positive number; the papers have {papers}")
