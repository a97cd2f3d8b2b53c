"""What has to be run for a table: a config for each set and each training on it, and their names.

A set is made without evaluation, so that all cells that train on it share it. Its name, and that
of an evaluation, is a digest of all that the numbers depend on: another budget is another name.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax.common.errors import UserError, check_least, nearest
from dcjax.common.registry import METHODS, content, label
from dcjax.nn import architectures
from dcjax.nn.definition import find
from dcjax.run.experiment import RANDOM, SYNTHETIC
from dcjax.run.experiment import WHOLE as WHOLE_SET
from dcjax.tables.definition import OWN_FIELDS, SHRINK, TOP, WHOLE, Cell, Table, slug

# Fields on which no figure of a table depends, which are those of the last epoch.
INDIFFERENT = (*config_lib.INDIFFERENT, "evaluation.checks")
# Fields that a table has to itself, and what to give instead.
_OWN = {
  "method": "choose rows and columns with --rows and --columns",
  "seed": "give --seeds",
  "evaluation.architectures": "choose rows and columns with --rows and --columns",
  "evaluation.whole": "choose the row or column 'whole'",
}
# How the network is trained that looks for the images of a coreset.
_OF_CORESETS = ("evaluation.protocol", "evaluation.augmentation", "evaluation.cutmix")
# What the accuracies of networks depend on, beside the networks.
OF_EVALUATION = ("protocol", "augmentation", "cutmix", "epochs", "networks")
# Likewise, where they are not as the protocol has them.
_OF_PROTOCOL = ("lr", "temperature", "batch", "teacher")
# Fields of `optimal_random` that do nothing where each network has a subset of its own.
_UNUSED_BY_TOP = {"evaluation.networks", "selection.validation", "training.epochs"}
_DIGITS = 10  # of a digest
_MANY = 10**4  # images of a class of a whole training set, as a protocol's epochs depend on them


class Trial(NamedTuple):
  """One set of a cell, and the networks that are trained on it.

  Attributes:
    config: with which they are trained, resolved.
    condensation: of the set; None where none is made.
    images: what they are trained on, a name of a set in `experiment`.
    top: how many of the best networks count; 0: all.
    shrink: by which factor the set is stored smaller.
  """

  config: ConfigDict
  condensation: ConfigDict | None
  images: str
  top: int
  shrink: int

  @property
  def set_folder(self) -> str:
    """Where the set lies among all sets."""
    if self.condensation is None:
      return ""
    name = f"{_title(self.condensation)}-{digest(_without_seed(self.condensation))}"
    return f"{name}/seed{self.config.seed}"

  @property
  def network(self) -> dict[str, Any]:
    """The network that is trained, as `experiment.Evaluation` makes it."""
    fields = self.config.network.to_dict()
    (text,) = architectures.names(self.config.evaluation.architectures, fields)
    return _network(architectures.at_evaluation(fields, text))

  @property
  def experiment(self) -> dict[str, Any]:
    """All that its accuracies depend on."""
    evaluation = self.config.evaluation
    return {
      "set": self._set(),
      "seed": self.config.seed,
      "network": self.network,
      **{name: evaluation[name] for name in OF_EVALUATION},
      **unlike_protocol(self.config),
    }

  @property
  def name(self) -> str:
    """Of its file among all cells."""
    if self.condensation is not None:
      made = _title(self.condensation) + (f"-shrunk{self.shrink}" if self.shrink > 1 else "")
    else:
      of = "whole" if self.images == WHOLE_SET else f"subsets-ipc{self.config.ipc}"
      made = f"{slug(label(self.config.dataset.name))}-{of}"
    on = slug(self.network["name"])
    return f"{made}-seed{self.config.seed}-on-{on}-{digest(self.experiment)}"

  def _set(self) -> str | dict[str, Any]:
    """What the networks are trained on."""
    if self.condensation is not None:
      shrunk = {SHRINK: self.shrink} if self.shrink > 1 else {}
      return identity(self.condensation) | shrunk
    dataset = self.config.dataset
    text = f"whole {dataset.name}{' whitened' if dataset.zca else ''}"
    usual = dict(config_lib.flatten(config_lib.default("random").to_dict()))
    others = {
      name: value
      for name, value in config_lib.flatten({"dataset": dataset.to_dict()})
      if name not in ("dataset.name", "dataset.zca") and not name.startswith(config_lib.LOCAL)
      if value != usual[name]
    }
    if self.images == RANDOM:
      others["ipc"] = self.config.ipc
    return " ".join([text, *(f"{name}={value}" for name, value in others.items())])


def trials(cell: Cell, changes: Mapping[str, Any], seeds: Sequence[int]) -> list[Trial]:
  """The trials of a cell that can be run.

  Args:
    cell: which.
    changes: config fields that replace the paper's, where the cell's method has them; epochs are
      passes over the stored images where a cell has `evaluation.same_steps`.
    seeds: one for each set; the whole training set is one set, and has the first seed only, as
      have random subsets of each network's own.

  Raises:
    UserError: a field has no such value.
  """
  if cell.fields["method"] == WHOLE or TOP in cell.fields:
    seeds = seeds[:1]
  return [_trial(cell, changes, seed) for seed in seeds]


def _trial(cell: Cell, changes: Mapping[str, Any], seed: int) -> Trial:
  config = cell_config(cell, changes)
  config.seed = seed
  top, shrink = cell.fields.get(TOP, 0), cell.fields.get(SHRINK, 1)
  if cell.fields["method"] == WHOLE:
    config.evaluation.whole = True
    return Trial(config_lib.resolve(config), None, WHOLE_SET, top, shrink)
  if top:
    config.evaluation.networks = config.selection.candidates
    return Trial(config_lib.resolve(config), None, RANDOM, top, shrink)
  config = config_lib.resolve(config)
  if config.evaluation.same_steps and changes.get("evaluation.epochs") is not None:
    config.evaluation.epochs = config_lib.fewer_epochs(config, config.evaluation.epochs)
  return Trial(config, condensation(config), SYNTHETIC, top, shrink)


def cell_config(cell: Cell, changes: Mapping[str, Any]) -> ConfigDict:
  """The config of a cell, not resolved yet; that of the whole set is like that of a coreset."""
  fields = {name: value for name, value in cell.fields.items() if name not in OWN_FIELDS}
  if fields["method"] == WHOLE:
    fields |= {"method": "random", "ipc": _MANY}
  given = {name: value for name, value in changes.items() if name in _own_fields(cell)}
  # The papers report the last epoch only.
  return config_lib.complete({"evaluation.checks": 1, **fields, **given})


def condensation(config: ConfigDict) -> ConfigDict:
  """The config of the run that makes a set; the same for all that need the same set.

  Args:
    config: resolved.
  """
  fields = config.to_dict()
  fields["evaluation"] = {"networks": 0}
  if config_lib.selects(config.method):
    names = [name.removeprefix("evaluation.") for name in _OF_CORESETS]
    fields["evaluation"] |= {name: config.evaluation[name] for name in names}
    fields["evaluation"] |= unlike_protocol(config)
  if config.get("dsa", {}).get("scheme") == "none":  # then the transforms do not matter
    fields["dsa"] = {"scheme": "none"}
  return config_lib.resolve(config_lib.complete(fields))


def identity(config: ConfigDict) -> dict[str, Any]:
  """All that a set depends on: fields of its `condensation`, by their dotted names."""
  network = _network(config.network.to_dict())
  if config.network.precision != "float32":  # that of evaluations always is
    network["precision"] = config.network.precision
  kept: tuple[str, ...] = ()
  if config_lib.selects(config.method):
    kept = (*_OF_CORESETS, *(f"evaluation.{name}" for name in unlike_protocol(config)))
  left_out = (*INDIFFERENT, "evaluation.")
  return {
    name: value
    for name, value in config_lib.flatten(config.to_dict() | {"network": network})
    if name in kept or not name.startswith(left_out)
  }


def unlike_protocol(config: ConfigDict) -> dict[str, Any]:
  """Fields of a resolved `config.evaluation` that are not as its protocol fills them in."""
  usual = config.copy_and_resolve_references()
  with usual.unlocked():
    usual.evaluation.update(dict.fromkeys(_OF_PROTOCOL))
    config_lib.fill_evaluation(usual)
    if config.evaluation.teacher:
      usual.evaluation.teacher_epochs = config_lib.default("random").evaluation.teacher_epochs
  return {
    name: config.evaluation[name]
    for name in (*_OF_PROTOCOL, "teacher_epochs")
    if config.evaluation[name] != usual.evaluation[name]
  }


def _network(fields: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of `config.network` that a network has, with the norm that None stands for."""
  name = fields["name"]
  definition = find("network.name", name)
  own = {field: fields[field] for field in ("name", *definition.fields())}
  if "norm" in own and own["norm"] is None:
    own["norm"] = definition.norm
  own = {field: value for field, value in own.items() if value is not None}
  return own | content("network.name", name)


def digest(fields: Mapping[str, Any]) -> str:
  """A short name for some fields and their values."""
  text = json.dumps(fields, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _without_seed(config: ConfigDict) -> dict[str, Any]:
  return {name: value for name, value in identity(config).items() if name != "seed"}


def _title(config: ConfigDict) -> str:
  """What a person wants to know of a set."""
  parts = (label(config.dataset.name), config.method, config.network.name, f"ipc{config.ipc}")
  return "-".join(map(slug, parts))


def _known(method: str) -> dict[str, Any]:
  """The fields of a method, with their defaults."""
  return dict(config_lib.flatten(config_lib.default(method).to_dict()))


def _own_fields(cell: Cell) -> set[str]:
  """The fields that a cell's figure depends on, or where it is computed."""
  known = set(_known(_method(cell)))
  return known - _UNUSED_BY_TOP if TOP in cell.fields else known


def _method(cell: Cell) -> str:
  """Whose fields a cell has."""
  name = cell.fields["method"]
  return "random" if name == WHOLE else name


def parse_changes(table: Table, cells: Sequence[Cell], texts: Mapping[str, str]) -> dict[str, Any]:
  """Config fields that replace the paper's, with values of the right types.

  Args:
    table: whose cells they are for.
    cells: those that are to be run.
    texts: by dotted name, as a user writes them.

  Raises:
    UserError: a field is the table's own, or none of these cells has it, or not such a value.
  """
  runnable = [cell for cell in cells if cell.runnable]
  methods = list(dict.fromkeys(map(_method, runnable)))
  known = set[str]().union(*map(_own_fields, runnable))
  elsewhere = {name for method in METHODS for name in _known(method)} - known
  for name in texts:
    _check_free(table, name)
    if name not in known:
      remedy = "leave it out" if name in elsewhere else nearest(name, known)
      raise UserError(f"--config: no cell that is to be run has a field '{name}'; {remedy}")
  return {name: _value(methods, name, text) for name, text in texts.items()}


def _check_free(table: Table, name: str) -> None:
  """Raises `UserError` for a field that a user cannot change."""
  if name in _OWN:
    raise UserError(f"--config: '{name}' belongs to the table; {_OWN[name]}")
  if name in table.varied():
    raise UserError(
      f"--config: '{name}' is what tells the cells of {table.name} apart; choose some of them with "
      "--rows and --columns"
    )


def _value(methods: Sequence[str], name: str, text: str) -> Any:
  """A value as the config has it, by the type of the field."""
  value: Any = text
  for method in methods:
    if name not in _known(method):
      continue
    *groups, field = name.split(".")
    section = config_lib.default(method)
    for group in groups:
      section = section[group]
    if section.get_type(field) is not str or text == "None":
      value = _literal(text)
    complete = config_lib.complete({"method": method, name: value})  # which checks its type
    value = dict(config_lib.flatten(complete.to_dict()))[name]
  if name == "evaluation.networks":
    check_least(name, value, 1)
  return value


def _literal(text: str) -> Any:
  """A number, a boolean, None or a tuple; else the text itself."""
  try:
    return ast.literal_eval(text.capitalize() if text.lower() in ("true", "false") else text)
  except (ValueError, SyntaxError):
    return text


def differences(
  cells: Iterable[Cell], changes: Mapping[str, Any], seeds: Sequence[int], paper_sets: int
) -> Iterator[str]:
  """What of the budget is not the paper's, such as 'iterations 2 (paper: 1000)'.

  Args:
    cells: those that can be run.
    changes: see `trials`.
    seeds: see `trials`.
    paper_sets: of each cell.
  """
  configs = [config_lib.resolve(cell_config(cell, {})) for cell in cells]
  flat = [dict(config_lib.flatten(config.to_dict())) for config in configs]
  for name, value in changes.items():
    theirs = dict.fromkeys(fields[name] for fields in flat if name in fields)
    if not name.startswith(INDIFFERENT) and list(theirs) != [value]:
      yield f"{name} {value} (paper: {', '.join(map(str, theirs))})"
  if len(seeds) != paper_sets:
    yield f"{len(seeds)} set{'s' * (len(seeds) > 1)} (paper: {paper_sets})"
