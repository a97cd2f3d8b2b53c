"""The driver of `dcjax continual`: runs of a scenario, stage by stage, with nothing done twice."""

import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from dcjax.applications.continual import fields as config_lib
from dcjax.applications.continual.growing import Growing
from dcjax.applications.continual.memories import Memory, check_alike
from dcjax.applications.continual.rehearsal import Rehearsal
from dcjax.applications.continual.scenarios import GDumb, Outcome, Place, Scenario, Task
from dcjax.commands.condense import condense
from dcjax.commands.select import select
from dcjax.common import environment
from dcjax.common.errors import UserError
from dcjax.common.files import expand, writing
from dcjax.common.json_files import AGAIN, holds, is_number, is_text, many, maybe, read_json
from dcjax.common.types import Params
from dcjax.config import selects
from dcjax.devices import compilation
from dcjax.figures import forgetting, style
from dcjax.nn import architectures
from dcjax.run.interrupt import Interrupts
from dcjax.run.progress import logger, working
from dcjax.run.workdir import Workdir, held, refuse_others, write_json
from dcjax.sets.synthetic import SyntheticSet
from dcjax.tables.definition import slug

SCENARIOS: dict[str, Callable[[ConfigDict], Scenario]] = {
  "rehearsal": Rehearsal,
  "gdumb": GDumb,
  "growing": Growing,
}


def continual(
  config: ConfigDict, workdir: str | os.PathLike, memories: str | os.PathLike | None = None
) -> dict[str, Any]:
  """Runs continual learning as a config says, or goes on after the last finished stage.

  `workdir` then holds `config.json`, a JSON file in `stages/` for each stage of each run and
  network, with its accuracies and what the next one needs beside it, `summary.json`, and the
  paper's figure, `accuracy.png` and `accuracy.pdf`.

  Args:
    config: made by `configs/continual.py` or `dcjax.applications.continual.fields.default()`.
    workdir: a folder; it is made if need be.
    memories: the folder of the memories, each a run of its own; by default `memories` in
      `workdir`. Runs that differ in how networks learn, only, can share it.

  Returns:
    The content of `summary.json`.

  Raises:
    UserError: bad input, found before any long work, or a memory that cannot be made.
    Interrupted: SIGTERM or Ctrl-C; all that was finished is kept.
  """
  config = config_lib.resolve(config)
  with held(Workdir(workdir), "finished stages are kept") as folder:
    refuse_others(folder.path, "config.json", "stages")
    folder.check(config.to_dict(), lambda config: config_lib.resolve(config).to_dict())
    sets = folder.path / "memories" if memories is None else expand("memories", memories)
    learning = Learning(config, folder.path, sets)
    if learning.left():
      scenario = SCENARIOS[config.continual.scenario](config)
      folder.claim(config.to_dict())
      # Memories of one kind differ by their images only, and run the same programs.
      with compilation.kept(config.compute.cache_dir, folder.path):
        learning.finish(scenario)
    return learning.summarise()


class Learning:
  """All runs of a scenario: what is done, what is to be done, and where it lies."""

  def __init__(self, config: ConfigDict, path: Path, memories: Path):
    """Reads what is done.

    Args:
      config: as `config.continual.resolve` returns it.
      path: the folder of the runs.
      memories: the folder of the memories.

    Raises:
      UserError: a file of a finished stage cannot be read.
    """
    self.config, self.path, self.memories = config, path, memories
    fields = config.continual
    self.stages = fields.steps if "steps" in fields else len(config_lib.sequence(config))
    self.networks = architectures.names(config.evaluation.architectures, config.network)
    self.seeds = range(config.seed, config.seed + fields.runs)
    self.records: dict[Place, dict[str, Any]] = {}
    for place in self._places():
      file = self._file(place, ".json")
      if file.exists():
        self.records[place] = _read(file, config.evaluation.networks)

  def _places(self) -> list[Place]:
    return [Place(*place) for place in product(self.seeds, range(self.stages), self.networks)]

  def _file(self, place: Place, suffix: str) -> Path:
    name = f"seed{place.seed}-stage{place.stage + 1}-{slug(place.network)}{suffix}"
    return self.path / "stages" / name

  def left(self) -> list[Place]:
    """The stages that are not finished, in the order in which they are run."""
    return [place for place in self._places() if place not in self.records]

  def finish(self, scenario: Scenario) -> None:
    """Runs all stages that are left."""
    (self.path / "summary.json").unlink(missing_ok=True)  # some of its stages were taken away
    (self.path / "stages").mkdir(exist_ok=True)
    for seed, stage in dict.fromkeys((place.seed, place.stage) for place in self.left()):
      tasks = scenario.tasks(seed)[: stage + 1]
      memories = [self._memory(scenario, seed, task) for task in tasks]
      check_alike(memories)
      for place in [place for place in self.left() if place[:2] == (seed, stage)]:
        self._learn(scenario, place, memories)

  def _memory(self, scenario: Scenario, seed: int, task: Task) -> Memory:
    """The memory of a task, made unless it is there."""
    folder = self.memories / f"seed{seed}" / task.name
    make = select if selects(task.memory.method) else condense
    try:
      if (folder / "config.json").exists():  # others may share it: it must not become longer
        with held(Workdir(folder)) as memory:
          memory.check(task.memory.to_dict())
      make(task.memory, folder)
      kept = Memory.of(SyntheticSet.load(folder / "synthetic.npz"))
      scenario.check_memory(kept)
      return kept
    except UserError as error:
      raise UserError(f"memory in {folder}: {error}") from None

  def _learn(self, scenario: Scenario, place: Place, memories: list[Memory]) -> None:
    """Runs a stage, and keeps what it ends with."""
    previous = self._params(place._replace(stage=place.stage - 1)) if place.stage else None
    with (
      working(f"learning stage {place.stage + 1} of {self.stages} with {place.network}"),
      Interrupts("finished stages are saved, and the same command goes on") as interrupts,
    ):
      outcome = scenario.learn(place, memories, previous, interrupts.wait)
    self._write(place, scenario.label(place.stage), outcome)
    logger.info(
      "seed %d, stage %d of %d (%s), %s: accuracy %.4f",
      place.seed, place.stage + 1, self.stages, scenario.label(place.stage), place.network,
      np.mean(outcome.accuracies),
    )  # fmt: skip

  def _params(self, place: Place) -> Params | None:
    """What a stage has left to the next one; None if nothing."""
    if not self.records[place]["params"]:
      return None
    file = self._file(place, ".npz")
    try:
      with np.load(file, allow_pickle=False) as arrays:
        params = dict(arrays)
      if not all(np.isfinite(array).all() for array in params.values()):
        raise ValueError
      return unflatten_dict(params, sep="/")
    except Exception:  # a damaged file may raise anything
      raise UserError(
        f"workdir: {file} is missing or damaged; delete {file.with_suffix('.json')} to have its "
        "stage run again"
      ) from None

  def _write(self, place: Place, label: str, outcome: Outcome) -> None:
    """Writes a finished stage; what it says goes last, hence is never there without the rest."""
    file = self._file(place, ".npz")
    if outcome.params is not None:
      with writing(file, "wb") as stream:
        np.savez(stream, **flatten_dict(outcome.params, sep="/"))
    record = {
      **place._asdict(),
      "stage": place.stage + 1,
      "label": label,
      "accuracies": outcome.accuracies,
      "tasks": outcome.tasks,
      "params": None if outcome.params is None else file.name,
    }
    write_json(self._file(place, ".json"), record)
    self.records[place] = record

  def summarise(self) -> dict[str, Any]:
    """Writes the figure and the summary, unless that is there; returns the summary."""
    file = self.path / "summary.json"
    if file.exists():
      return read_json(file, forgetting.is_summary, AGAIN)
    labels = [
      self.records[Place(self.seeds[0], stage, self.networks[0])]["label"]
      for stage in range(self.stages)
    ]
    summary = {
      "scenario": self.config.continual.scenario,
      "method": self.config.method,
      "ipc": self.config.ipc,
      "seeds": list(self.seeds),
      "stages": labels,
      "accuracy": {network: self._accuracy(network) for network in self.networks},
      "hardware": environment.hardware(),
      "versions": environment.versions(),
    }
    drawn = forgetting.draw([(forgetting.title(summary), summary)])
    for suffix in (".png", ".pdf"):
      style.save(drawn, self.path / f"accuracy{suffix}")
    write_json(file, summary)
    return summary

  def _accuracy(self, network: str) -> dict[str, Any]:
    """Of each run by stage `[runs][stages]`, and mean and deviation over runs and networks."""
    found = [
      [self.records[Place(seed, stage, network)]["accuracies"] for stage in range(self.stages)]
      for seed in self.seeds
    ]
    accuracies = np.array(found)  # [runs, stages, networks]
    return {
      "mean": accuracies.mean((0, 2)).tolist(),
      "std": accuracies.std((0, 2)).tolist(),
      "runs": accuracies.mean(2).tolist(),
    }


def _read(file: Path, networks: int) -> dict[str, Any]:
  """The record of a finished stage, with an accuracy for each network."""

  def accuracies(value: Any) -> bool:
    return many(is_number)(value) and len(value) == networks

  shape = holds({"label": is_text, "params": maybe(is_text), "accuracies": accuracies})
  return read_json(file, shape, "delete it to have its stage run again")
