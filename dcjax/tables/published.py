"""The figure that a paper has printed for a run, found among the tables' cells."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax.config.datasets import class_names
from dcjax.nn import architectures
from dcjax.run.experiment import RANDOM, SYNTHETIC
from dcjax.run.experiment import WHOLE as WHOLE_SET
from dcjax.tables import TABLES, plan
from dcjax.tables.definition import SHRINK, TOP, WHOLE, Cell, Figure, Table
from dcjax.tables.plan import Trial


class Published(NamedTuple):
  """A paper's figure, and how its experiment differs.

  Attributes:
    table: the paper's number and subject of it.
    cell: row and column, by their names.
    figure: mean and deviation, in percent.
    differing: config fields with pairs of values, the paper's first.
  """

  table: str
  cell: str
  figure: Figure
  differing: dict[str, tuple[Any, Any]]


def find(config: ConfigDict, images: str, network: str) -> Published | None:
  """The printed figure whose experiment is nearest to an evaluation of a run.

  Method, dataset, classes, images per class and the names of the networks are the same. Of several
  cells that one counts which has fewest other fields, and then one of the method's own paper.

  Args:
    config: of the run, resolved.
    images: what networks are trained on, a name of a set in `experiment`.
    network: what is trained, as `evaluation.architectures` names it.

  Returns:
    The figure; None where no table has one.
  """
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.evaluation.architectures = (network,)
  if architectures.is_trained(network) or config_lib.own_code(config.to_dict()):
    return None
  ours = _trial(config, images)
  found = []
  for table, cell, figure in _cells(config, images):
    theirs = _trial(plan.trials(cell, {}, (config.seed,))[0].config, images)
    if _networks(theirs) == _networks(ours):
      found.append(
        Published(table.title, f"{cell.row}, {cell.column}", figure, _differing(theirs, ours))
      )
  own = f"{config.method.upper()},"
  order = lambda each: (len(each.differing), not each.table.startswith(own))  # noqa: E731
  return min(found, key=order, default=None)


def _trial(config: ConfigDict, images: str) -> Trial:
  """An evaluation; of real images it does not matter how others are made."""
  made = plan.condensation(config) if images == SYNTHETIC else None
  return Trial(config, made, images, top=0, shrink=1)


def _cells(config: ConfigDict, images: str) -> Iterator[tuple[Table, Cell, Figure]]:
  """The cells with a figure for a method, a dataset and a number of images per class."""
  method = {SYNTHETIC: config.method, RANDOM: "random", WHOLE_SET: WHOLE}[images]
  for table in TABLES.values():
    for cell in table.cells():
      fields, figure = cell.fields, cell.paper
      if figure is None or figure.mean is None or cell.missing:
        continue
      if fields["method"] != method or TOP in fields or SHRINK in fields:
        continue
      if fields.get("dataset.name") in (None, config.dataset.name) and _is_of(config, cell):
        yield table, cell, figure


def _is_of(config: ConfigDict, cell: Cell) -> bool:
  theirs = plan.cell_config(cell, {})
  whole = cell.fields["method"] == WHOLE
  classes = class_names(theirs.dataset.classes) == tuple(config.dataset.classes)
  named = theirs.dataset.name == config.dataset.name and classes
  return named and (whole or theirs.ipc == config.ipc)


def _networks(trial: Trial) -> tuple[str | None, str]:
  """The network that condenses, and the one that is trained on the set."""
  made = trial.condensation
  return None if made is None else made.network.name, trial.network["name"]


def _differing(theirs: Trial, ours: Trial) -> dict[str, tuple[Any, Any]]:
  first, second = _fields(theirs), _fields(ours)
  return {
    name: (first.get(name), second.get(name))
    for name in {**first, **second}
    if first.get(name) != second.get(name)
  }


def _fields(trial: Trial) -> dict[str, Any]:
  """All that an accuracy depends on but method and seed, by the names of config fields."""
  if trial.condensation is None:
    flat = config_lib.flatten({"dataset": trial.config.dataset.to_dict()})
    made = {name: value for name, value in flat if not name.startswith(config_lib.LOCAL)}
  else:
    made = plan.identity(trial.condensation)
  names = plan.OF_EVALUATION
  evaluation = {f"evaluation.{name}": trial.config.evaluation[name] for name in names}
  evaluation |= {
    f"evaluation.{name}": value for name, value in plan.unlike_protocol(trial.config).items()
  }
  trained = {f"trained network.{name}": value for name, value in trial.network.items()}
  return {
    name: value
    for name, value in {**made, **evaluation, **trained}.items()
    if name not in ("seed", "method")
  }
