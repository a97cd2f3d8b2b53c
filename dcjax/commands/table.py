"""The driver of `dcjax table`: a table of a paper, cell by cell, with nothing done twice."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data
from dcjax.commands.condense import condense as condense_set
from dcjax.commands.select import select
from dcjax.common.errors import UserError, nearest
from dcjax.common.files import expand
from dcjax.common.json_files import holds, is_count, is_number, is_text, many, read_json
from dcjax.data import Dataset
from dcjax.devices import compilation
from dcjax.figures import formats
from dcjax.methods.setup import decoder
from dcjax.run import experiment
from dcjax.run.experiment import Evaluation, Keys
from dcjax.run.interrupt import Interrupts
from dcjax.run.progress import logger, working
from dcjax.run.so_far import NETWORKS, forget
from dcjax.run.workdir import Workdir, held, refuse_others, write_json
from dcjax.sets.shrink import shrunk
from dcjax.sets.synthetic import SyntheticSet
from dcjax.tables import TABLES, Cell, Result, Table, plan
from dcjax.tables.definition import choose
from dcjax.tables.layout import page, records
from dcjax.tables.plan import Trial

CellName = tuple[str, str]  # names of row and column


def find(name: str) -> Table:
  """A table by its name.

  Raises:
    UserError: there is none of that name.
  """
  found = {known.lower(): table for known, table in TABLES.items()}.get(name.lower())
  if found is None:
    paper = name.lower().partition("/")[0]
    known = [each for each in TABLES if each.startswith(f"{paper}/")] or TABLES
    raise UserError(f"--table: unknown '{name}'; {nearest(name, known)}")
  return found


def fill(
  table: Table,
  workdir: str | os.PathLike,
  *,
  rows: Sequence[str] | None = None,
  columns: Sequence[str] | None = None,
  seeds: Sequence[int] | None = None,
  collect: Sequence[str | os.PathLike] = (),
  condense: bool = True,
  changes: Mapping[str, str] | None = None,
) -> str:
  """Runs what is missing of a table, and writes it, also after each evaluation.

  `workdir` then holds `table.md`, `.html`, `.tex` and `.csv`, a file in `cells/` for each set and
  network, and the runs of the sets in `sets/`. What is there is not run again. The table has all
  that was run with this budget, also in rows and columns that are not asked for now.

  Args:
    table: an entry of `tables.TABLES`, or one like them.
    workdir: a folder that is empty or holds tables; it is made if need be.
    rows: names of those to run; None: all.
    columns: names of those to run; None: all.
    seeds: one for each set; by default 0, 1, ... for as many as the paper has.
    collect: folders to search for sets that other runs have made with the same config.
    condense: whether to make the sets that have not been found; otherwise their cells are not run.
    changes: texts of config fields by their dotted names, for all cells whose method has them.

  Returns:
    The content of `table.md`.

  Raises:
    UserError: bad input, found before any long work, or a cell that cannot be run.
    Interrupted: SIGTERM or Ctrl-C; all that was finished is kept.
  """
  chosen = _chosen(table, rows, columns)
  values = plan.parse_changes(table, chosen, changes or {})
  seeds = range(table.sets) if seeds is None else seeds
  _check_seeds(seeds)
  runnable = [cell for cell in table.cells() if cell.runnable]
  trials = {_name(cell): plan.trials(cell, values, seeds) for cell in runnable}
  budget = "; ".join(plan.differences(runnable, values, seeds, table.sets))
  sets = _collected(collect)
  with held(_open(workdir), "finished cells are kept") as folder:
    filling = Filling(table, trials, folder.path, sets, budget)
    # Sets of one kind differ by their seeds only, and run the same programs.
    with compilation.kept(values.get("compute.cache_dir"), folder.path):
      filling.run(list(map(_name, chosen)), condense)
    return filling.write()


def _name(cell: Cell) -> CellName:
  return cell.row, cell.column


def _chosen(table: Table, rows: Sequence[str] | None, columns: Sequence[str] | None) -> list[Cell]:
  """The cells that are asked for and can be run."""
  row_names = choose("--rows", table.rows, rows)
  column_names = choose("--columns", table.columns, columns)
  cells = [c for c in table.cells() if c.row in row_names and c.column in column_names]
  if not any(cell.runnable for cell in cells):
    reasons = dict.fromkeys(
      f"not in dcjax: {cell.missing}" if cell.missing else "the paper has no figure"
      for cell in cells
    )
    raise UserError(
      f"--rows, --columns: nothing there can be run ({'; '.join(reasons)}); choose others"
    )
  return [cell for cell in cells if cell.runnable]


def _check_seeds(seeds: Sequence[int]) -> None:
  if not seeds or len(set(seeds)) < len(seeds):
    given = ",".join(map(str, seeds))
    raise UserError(f"--seeds: '{given}' are not different numbers; give some, such as 0,1,2")


def _open(workdir: str | os.PathLike) -> Workdir:
  """Takes the folder, unless it holds something else."""
  path = expand("workdir", workdir)
  refuse_others(path, "cells", "tables")
  folder = Workdir(path)
  (path / "cells").mkdir(exist_ok=True)
  return folder


def _collected(folders: Sequence[str | os.PathLike]) -> dict[str, Path]:
  """The sets in some folders, by digests of their identities."""
  found: dict[str, Path] = {}
  for folder in folders:
    path = expand("--collect", folder)
    if not path.is_dir():
      raise UserError(f"--collect: no folder {path}; give one that holds workdirs of runs")
    for file in sorted(path.rglob("synthetic.npz")):
      try:
        about = SyntheticSet.load(file).metadata
        config = config_lib.of_file(about["config"])
        if about["method"] != config.method:  # an import, whose config is of random images
          raise UserError(f"made by {about['method']}, which no config tells")
        _check_length(about, config)
        made = plan.condensation(config_lib.resolve(config))
      except UserError as error:
        logger.warning("%s is left aside: %s", file, error)
        continue
      found.setdefault(plan.digest(plan.identity(made)), file)
  return found


def _check_length(about: dict[str, Any], config: ConfigDict) -> None:
  """Raises `UserError` for a set of fewer iterations than its config has, ended by a time limit."""
  done, all_of_them = about.get("iteration"), config.get("iterations")
  if done and all_of_them and done < all_of_them and not config.converged_after:
    raise UserError(f"of {done} iterations, though its config has {all_of_them}")


class Filling:
  """The work on a table: the finished cells, the cells to run, and their files."""

  def __init__(
    self,
    table: Table,
    trials: Mapping[CellName, list[Trial]],
    path: Path,
    sets: Mapping[str, Path],
    budget: str,
  ):
    """Reads what is done.

    Args:
      table: which.
      trials: of all cells that can be run.
      path: the folder.
      sets: those that were made elsewhere, by digests of their identities.
      budget: what of it is not the paper's.

    Raises:
      UserError: a file of a finished cell cannot be read.
    """
    self.table, self.trials, self.path, self.sets = table, trials, path, sets
    self.budget = f"Not as in the paper: {budget}." if budget else ""
    names = {trial.name for several in trials.values() for trial in several}
    files = {name: self._file(name) for name in sorted(names)}
    self.records = {name: _read(file) for name, file in files.items() if file.exists()}
    self._loaded: tuple[Any, Dataset] | None = None

  def run(self, cells: Sequence[CellName], condense: bool) -> None:
    """Runs what is missing in some cells.

    Args:
      cells: their names.
      condense: whether to make the sets that have not been found.
    """
    missing = [
      (cell, trial)
      for cell in cells
      for trial in self.trials[cell]
      if trial.name not in self.records and (condense or self._find_set(trial))
    ]
    logger.info("%s: %d evaluations to do", self.table.name, len(missing))
    self._check([trial for _, trial in missing])
    self.write()
    for number, (cell, trial) in enumerate(missing, 1):
      if trial.name in self.records:  # the same as in another cell
        continue
      what = f"{' x '.join(cell)}, seed {trial.config.seed}"
      logger.info("%s (%d of %d)", what, number, len(missing))
      try:
        self._run(trial)
      except UserError as error:
        raise UserError(f"{what}: {error}") from None
      self.write()

  def write(self) -> str:
    """Writes the table as it is now, and returns the Markdown."""
    results = dict(self._results())
    shown = page(self.table, results, self.budget)
    return formats.write(self.path, shown, records(self.table, results))

  def _results(self) -> Iterator[tuple[CellName, Result]]:
    for cell, trials in self.trials.items():
      found = [self.records[trial.name] for trial in trials if trial.name in self.records]
      if found:
        top = trials[0].top
        accuracies = tuple(value for record in found for value in _best(record["last"], top))
        settings = (found[0][field] for field in ("protocol", "epochs", "augmentation"))
        yield cell, Result(accuracies, len(found), len(trials), *settings)

  def _file(self, name: str) -> Path:
    return self.path / "cells" / f"{name}.json"

  def _find_set(self, trial: Trial) -> Path | None:
    """The file of the set of a trial, if it has been made."""
    if trial.condensation is None:
      return None
    folder = self.path / "sets" / trial.set_folder
    if (folder / "summary.json").exists() and (folder / "synthetic.npz").exists():
      return folder / "synthetic.npz"
    return self.sets.get(plan.digest(plan.identity(trial.condensation)))

  def _make_set(self, config: ConfigDict, trial: Trial) -> Path:
    folder = self.path / "sets" / trial.set_folder
    (select if config_lib.selects(config.method) else condense_set)(config, folder)
    return folder / "synthetic.npz"

  def _dataset(self, config: ConfigDict) -> Dataset:
    """The dataset of a config; the last one is kept."""
    wanted = config.dataset.to_dict(), experiment.memory(config)
    if self._loaded is None or self._loaded[0] != wanted:
      self._loaded = None
      self._loaded = wanted, data.load(config.dataset, wanted[1])
    return self._loaded[1]

  def _check(self, trials: Sequence[Trial]) -> None:
    """Builds datasets, networks and formations, which checks them; nothing is computed."""
    for trial in sorted(trials, key=lambda trial: trial.config.dataset.name):
      config = trial.config
      try:
        dataset = self._dataset(config)
      except UserError as error:
        raise UserError(f"{error}; or choose rows of other data with --rows") from None
      layout = experiment.strategy(config, dataset)
      experiment.network(config, dataset, layout)
      decoder(config, dataset)
      _evaluation(config, dataset)

  def _run(self, trial: Trial) -> None:
    """Makes the set unless it is found, trains networks on it, and saves their accuracies."""
    path, synthetic, dataset = None, None, self._dataset(trial.config)
    if trial.condensation is not None:
      path = self._find_set(trial) or self._make_set(trial.condensation, trial)
      synthetic = shrunk(_load(path, dataset), trial.shrink)
      dataset = dataset.whitened(synthetic.whitening)
    record = _evaluate(trial, synthetic, dataset, self.path / NETWORKS)
    if path is not None and path.is_relative_to(self.path):
      path = path.relative_to(self.path)
    made = None if path is None else str(path)
    content = {"experiment": trial.experiment, "synthetic": made, "record": record}
    write_json(self._file(trial.name), content)
    forget(self.path / NETWORKS)
    self.records[trial.name] = record


_CELL = holds({
  "record": holds({
    "last": many(is_number, least=1), "protocol": is_text, "epochs": is_count,
    "augmentation": is_text,
  })
})  # fmt: skip


def _read(file: Path) -> dict[str, Any]:
  """The record of a finished cell."""
  return read_json(file, _CELL, "delete it to have its cell run again")["record"]


def _best(accuracies: Sequence[float], top: int) -> Sequence[float]:
  """The highest `top` of some accuracies; all where that is 0."""
  return sorted(accuracies)[-top:] if top else accuracies


def _evaluation(
  config: ConfigDict, dataset: Dataset, synthetic: SyntheticSet | None = None
) -> Evaluation:
  layout = experiment.strategy(config, dataset)
  asked = {} if synthetic is None else synthetic.training()
  return Evaluation(config, dataset, layout, Keys.from_seed(config.seed), asked)


def _load(path: Path, dataset: Dataset) -> SyntheticSet:
  """A set, which must be one of a dataset's."""
  synthetic = SyntheticSet.load(path)
  shape = synthetic.images.shape
  if (shape[0], *shape[2:]) != (dataset.num_classes, *dataset.image_shape):
    raise UserError(f"{path}: made of other data than {dataset.name} is here; remove it")
  return synthetic


def _evaluate(
  trial: Trial, synthetic: SyntheticSet | None, dataset: Dataset, kept: Path
) -> dict[str, Any]:
  """Trains the networks of a trial, and returns the record as `summary.json` has it."""
  config = trial.config
  evaluation = _evaluation(config, dataset, synthetic)
  examples = (np.empty(0), np.empty(0)) if synthetic is None else synthetic.flat()
  task = trial.images, evaluation.tasks()[0][1]
  iteration = config.get("iterations", 0)
  with (
    working(f"training on the {task[0]} set: {task[1]}") as say,
    Interrupts("all finished cells are saved, and the same command goes on") as interrupts,
  ):
    return evaluation.run(task, examples, iteration, interrupts.wait, say, kept)
