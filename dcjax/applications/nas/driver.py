"""The driver of `dcjax nas`: a search among ConvNets by training them on small sets.

DC (Table 4), DSA (Table 6) and DM (supplement, Figure F1) ask so whether the networks that are best
when trained on a condensed set are best when trained on everything.
"""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dcjax import augment, data, evaluation
from dcjax.applications.nas import ranking
from dcjax.applications.nas.fields import AXES, WHOLE, resolve_search
from dcjax.applications.nas.ranking import Scores
from dcjax.applications.nas.records import Records
from dcjax.applications.nas.sources import Source, Sources
from dcjax.applications.nas.trainings import Trainings
from dcjax.commands.select import Wait
from dcjax.common import environment
from dcjax.common.errors import UserError
from dcjax.data import Dataset
from dcjax.devices.strategy import Strategy
from dcjax.figures import style
from dcjax.nn import Network, architectures
from dcjax.run import experiment
from dcjax.run.experiment import Keys
from dcjax.run.interrupt import Interrupts
from dcjax.run.workdir import Workdir, held, refuse_others, write_json, write_text
from dcjax.sets.synthetic import SyntheticSet

# Fields of `search` that may change in a workdir, besides evaluation.networks: what was trained
# for other values still holds.
_GROWING = ("sets", *AXES)


def search(
  config: ConfigDict,
  workdir: str | os.PathLike,
  synthetic: Sequence[str | os.PathLike] = (),
) -> dict[str, Any]:
  """Trains all networks of a space on each set, and says which are best and whether that holds.

  `workdir` then holds `summary.json`, `table.md`, `ranking.csv`, `correlation.png` and `.pdf`, the
  coresets in `sets/`, and a file in `networks/` for each set and architecture. What is there is
  not trained again, also when the space, the sets or the number of networks have changed.

  Args:
    config: made by `configs/nas.py` or `dcjax.applications.nas.fields.default_search`.
    workdir: a folder; it is made if need be.
    synthetic: files of sets to train on besides `search.sets`.

  Returns:
    The content of `summary.json`.

  Raises:
    UserError: bad input, found before any long work.
    Interrupted: SIGTERM or Ctrl-C; all networks that were finished are kept.
  """
  config = resolve_search(config)
  files = {str(path): SyntheticSet.load(path) for path in synthetic}
  if not files and not config.search.sets:
    raise UserError("search.sets: empty, and no saved set is given; name something to train on")
  with held(Workdir(workdir), "finished networks are kept") as folder:
    refuse_others(folder.path, "config.json", "search")
    fields = _lasting(config)
    folder.check(fields, lambda config: _lasting(resolve_search(config)))
    found = Search(config, data.load(config.dataset), files, folder.path)
    folder.claim(fields)
    with Interrupts("finished networks are saved, the same command goes on") as interrupts:
      return found.run(interrupts.wait)


def _lasting(config: ConfigDict) -> dict[str, Any]:
  """The fields that must stay the same in a workdir."""
  fields = config.to_dict()
  for name in _GROWING:
    del fields["search"][name]
  del fields["evaluation"]["networks"]
  return fields


def candidates(fields: ConfigDict) -> tuple[str, ...]:
  """The networks of a space, named as `dcjax evaluate --architectures` takes them."""
  return tuple(
    ":".join(["convnet", *(f"{axis}={value}" for axis, value in zip(AXES, values, strict=True))])
    for values in itertools.product(*(fields[axis] for axis in AXES))
  )


class Search:
  """One search: what the config stands for, the trainings, and what they say."""

  def __init__(
    self, config: ConfigDict, dataset: Dataset, files: dict[str, SyntheticSet], path: Path
  ):
    """Builds everything, which checks everything; nothing is written.

    Raises:
      UserError: the config or a file does not fit the data.
    """
    self.config, self.path = config, path
    self.names = candidates(config.search)
    self.count = config.evaluation.networks
    self.records = Records(path / "networks")
    layout = experiment.strategy(config, dataset)
    networks = {name: _network(config, dataset, layout, name) for name in self.names}
    for section, field in (("evaluation", "augmentation"), ("search", "whole_augmentation")):
      augment.check_images(f"{section}.{field}", config[section][field], dataset.image_shape)
    self.sources = Sources(config, dataset, files, path / "sets")
    self.trainings = Trainings(
      networks,
      self.count,
      self.sources.split,
      layout,
      Keys.from_seed(config.seed).evaluation,
      self.records,
    )

  def run(self, wait: Wait) -> dict[str, Any]:
    """Trains what is missing, and writes what all of it says; returns the summary."""
    proxies, whole = list(self.sources.proxies(wait)), self.sources.whole()
    self.trainings.run(self.names, proxies, wait)
    in_full = WHOLE in self.config.search.sets
    self.trainings.run(self.names if in_full else self._best(proxies), [whole], wait)
    on_everything = self._scores(whole)
    scores = {source.name: self._scores(source) for source in proxies}
    shown = [*proxies, whole] if in_full else proxies
    entries = [self._entry(source, whole, on_everything) for source in shown]
    everything = {**scores, whole.name: on_everything}
    write_text(self.path / "ranking.csv", ranking.comma_separated(self.names, everything))
    write_text(self.path / "table.md", ranking.table(entries))
    for suffix in (".png", ".pdf") if proxies else ():
      figure = ranking.scatter(scores, on_everything)
      style.save(figure, self.path / f"correlation{suffix}")
    summary = self._summary(whole, entries)
    write_json(self.path / "summary.json", summary)
    return summary

  def _best(self, proxies: Sequence[Source]) -> tuple[str, ...]:
    """The networks that must be trained on everything for the correlations of the best."""
    count = ranking.shortlist(len(self.names))
    chosen = {place for source in proxies for place in ranking.best(self._scores(source), count)}
    return tuple(self.names[place] for place in sorted(chosen))

  def _scores(self, source: Source) -> Scores:
    """Means over the networks of each architecture; nan unless all of them are trained."""
    found = [self.records.get(source.folder, name).first(self.count) for name in self.names]
    means = [
      (np.mean(r.validation), np.mean(r.test)) if len(r.test) == self.count else (np.nan, np.nan)
      for r in found
    ]
    return Scores(*np.array(means).T)

  def _entry(self, source: Source, whole: Source, on_everything: Scores) -> dict[str, Any]:
    """What `summary.json` says of a set."""
    scores = self._scores(source)
    chosen = self.names[ranking.best(scores, 1)[0]]
    accuracies = np.array(self.records.get(whole.folder, chosen).first(self.count).test)
    done = [self.records.get(source.folder, name).first(self.count) for name in self.names]
    return {
      "set": source.name,
      "records": f"networks/{source.folder}",
      "images": source.stored,
      "steps": source.steps,
      "chosen": chosen,
      "accuracy_mean": float(accuracies.mean()),
      "accuracy_std": float(accuracies.std()),
      "correlations": ranking.correlations(scores, on_everything),
      "seconds": round(sum(sum(record.seconds) for record in done), 3),
      "compile_seconds": round(sum(record.compile_seconds for record in done), 3),
    }

  def _summary(self, whole: Source, entries: list[dict[str, Any]]) -> dict[str, Any]:
    split = self.sources.split
    return {
      "dataset": split.train.name,
      "candidates": len(self.names),
      "space": {axis: list(self.config.search[axis]) for axis in AXES},
      "training_images": len(split.train.labels),
      "validation_images": split.held,
      "networks": self.count,
      "training": _training(self.sources.settings),
      "whole_training": _training(whole.settings),
      "seed": self.config.seed,
      "hardware": environment.hardware(),
      "versions": environment.versions(),
      "sets": entries,
    }


def _training(settings: evaluation.EvaluationSettings) -> dict[str, Any]:
  names = ("protocol", "epochs", "augmentation", "cutmix")
  return {name: getattr(settings, name) for name in names}


def _network(config: ConfigDict, dataset: Dataset, layout: Strategy, name: str) -> Network:
  try:
    return experiment.network(config, dataset, layout, **architectures.parse(name))
  except UserError as error:
    raise UserError(f"search: {name}: {error}") from None
