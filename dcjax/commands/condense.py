"""The driver: condenses a dataset into a folder, from a config, with nothing lost on the way."""

import math
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data
from dcjax.common import environment
from dcjax.common.errors import Interrupted, UserError
from dcjax.common.json_files import read_json
from dcjax.devices import compilation, processes
from dcjax.figures import accuracies
from dcjax.figures.accuracies import Summary
from dcjax.run import experiment, initial, plan, weights_and_biases
from dcjax.run.checkpoint import Checkpoints
from dcjax.run.experiment import Evaluation, Examples, Keys
from dcjax.run.interrupt import Interrupts
from dcjax.run.progress import Progress, Stopwatch, logger, working
from dcjax.run.readers import SUMMARY
from dcjax.run.so_far import NETWORKS, forget
from dcjax.run.streaming import loop_for
from dcjax.run.workdir import Metrics, Workdir, held, write_json
from dcjax.sets import labels, sheet
from dcjax.sets.synthetic import SyntheticSet


def condense(
  config: ConfigDict, workdir: str | os.PathLike, seconds: float = math.inf, *, wandb: str = ""
) -> Summary:
  """Condenses a dataset as a config says, or goes on with a run that was stopped.

  Everything is written into `workdir`: `config.json`, `metrics.jsonl`, `progress.json`,
  TensorBoard events, `checkpoints/`, `images/`, `synthetic.npz` and `summary.json`.

  With more `iterations` than before, a finished run goes on. It ends with the results of one run
  of that length. The previous summary is kept as `summary-N.json`, N being its iterations, with the
  evaluations that only the shorter run has. A run that has converged does not go on.

  Args:
    config: made by a preset or `dcjax.config.default()`.
    workdir: a folder; it is made if need be.
    seconds: limit of the time that iterations take, over all starts of the run. The run ends
      before the iteration that would exceed it. With a higher limit it goes on, as with more
      `iterations`.
    wandb: project in Weights & Biases that the run is shown in, beside TensorBoard; empty: none.

  Returns:
    The content of `summary.json`; a notebook shows it as a table.

  Raises:
    UserError: bad input, found before any long work. Later: no memory or disk space, or a loss
      that is not finite.
    Interrupted: SIGTERM or Ctrl-C, after a checkpoint was saved.
  """
  weights_and_biases.check(wandb)
  config = config_lib.resolve(config)
  config_lib.check_steps(config)
  if config_lib.selects(config.method):
    raise UserError(f"method: {config.method} selects real images; use dcjax select")
  fields = config.to_dict()
  with held(Workdir(workdir), "it goes on from the last checkpoint") as folder:
    changed = folder.check(fields, free=("iterations",))
    _check_length(config, folder)
    summary = folder.summary()
    if summary and not changed and _is_over(summary, config, seconds, folder.losses()):
      return Summary(summary)
    try:
      run = Run(config, data.load(config.dataset, experiment.memory(config)), folder, seconds)
      run.claim(longer=changed or summary is not None)
      with (
        compilation.kept(config.compute.cache_dir, folder.path),
        Interrupts("all saved, and the same command goes on") as interrupts,
      ):
        return Summary(run.finish(interrupts, wandb))
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      raise UserError(
        "compute: out of memory; set a lower compute.synthetic_block or compute.image_block, or "
        "compute.class_map=scan, and start the command again, it goes on from the last checkpoint; "
        "or lower batch_real in a new workdir"
      ) from None


def _check_length(config: ConfigDict, folder: Workdir) -> None:
  done = folder.iterations_done()
  if config.iterations < done:
    raise UserError(
      f"iterations: {config.iterations} are fewer than the {done} that are done in {folder.path}; "
      f"give {done} or more, or another workdir"
    )


def _is_over(
  summary: dict[str, Any], config: ConfigDict, seconds: float, losses: Sequence[float]
) -> bool:
  """Whether a run with this summary is finished; a higher limit of seconds lets it go on."""
  done, used = summary.get("iterations", 0), summary.get("seconds", {}).get("condense", 0.0)
  every = config.converged_after
  if done >= config.iterations or (every and done % every == 0 and converged(losses, every)):
    return True
  return used + used / max(done, 1) > seconds


def converged(losses: Sequence[float], window: int) -> bool:
  """Whether the loss has stopped falling (DC, Appendix A: the optimisation can stop by itself).

  Args:
    losses: of all iterations so far.
    window: iterations of a mean; of two windows, the later must be lower to go on.

  Returns:
    Whether the mean of the last window is no lower than that of the one before it.
  """
  if len(losses) < 2 * window:
    return False
  return np.mean(losses[-window:]) >= np.mean(losses[-2 * window : -window])


class Run:
  """One run: the objects that its config describes, and its progress."""

  def __init__(self, config: ConfigDict, dataset: data.Dataset, folder: Workdir, seconds: float):
    """Builds everything, which checks everything; nothing is written.

    Raises:
      UserError: the config does not fit the data.
    """
    self.config, self.dataset, self.folder, self.path = config, dataset, folder, folder.path
    self.keys = Keys.from_seed(config.seed)
    self.layout = layout = experiment.condensing(config, dataset)
    self.saved = initial.find(config, self.path)
    self.initial = None if self.saved is None else initial.stored(self.saved, config, dataset)
    drawn = config.copy_and_resolve_references()
    if self.initial is not None:
      drawn.init = "real"  # replaced by the saved set
    self.method = experiment.method(drawn, dataset, layout)
    if self.initial is not None:
      self.method = initial.begin_with(self.initial, self.method)
    definition = config_lib.definition(config.method)
    loss = labels.training({"label_kind": definition.label_kind})  # also of real images beside it
    self.evaluation = Evaluation(config, dataset, layout, self.keys, loss)
    self.loop = loop_for(config, self.method, dataset, self.keys.loop, layout)
    self.iteration, self.total = 0, config.iterations
    self.seconds = seconds
    self.watch = Stopwatch()
    per_class = config_lib.definition(config.method).per_class
    data.warn_small_classes(
      dataset, max(config.get("batch_real", 1) if per_class else 1, config.ipc)
    )

  def claim(self, longer: bool) -> None:
    """Writes what a run begins with, or its new length."""
    fields = self.config.to_dict()
    if longer:
      self.folder.lengthen(fields)
    self.folder.claim(fields)  # first, so that a kill leaves a folder that goes on
    copy = self.path / initial.COPY
    if self.saved is not None and processes.is_first() and not copy.exists():
      self.saved.save(copy)

  def finish(self, interrupts: Interrupts, wandb: str) -> dict[str, Any]:
    """Runs from the last checkpoint, or the start, to the end; `wandb` is a project or empty."""
    self.interrupts = interrupts
    self.checkpoints = Checkpoints(self.path / "checkpoints")
    self.state = self._start()
    self.metrics = Metrics(self.path / "metrics.jsonl", self.iteration)
    writers = weights_and_biases.writers(wandb, self.path, self.config.to_dict())
    self.progress = Progress(self.path, self.config.iterations, self.iteration, writers)
    summary = None
    try:
      self._take_up()
      if self.iteration < self.total:
        self.progress.say("compiling", force=True)
        self.watch.add("compile", self.loop.compile(self.state, self.iteration))
        plan.warn_if_too_large(self.dataset, self.layout, self.state, self.loop)
      self._iterate()
      summary = self._summarise()
      return summary
    finally:
      self.loop.close()
      self.progress.close(summary)
      self.metrics.close()
      self.checkpoints.close()

  def _start(self) -> Any:
    """The state of the last checkpoint, or the initial one."""
    if not self.checkpoints.latest:
      with working("making the initial images"):
        state = self.loop.start(self.keys.init, self.interrupts.wait)
      self.method.check(state)
      return state
    state, seconds = self.checkpoints.restore(self.loop.abstract(self.keys.init))
    self.iteration = self.checkpoints.latest
    self.watch = Stopwatch(seconds)
    return state

  def _take_up(self) -> None:
    """What is due before the first iteration of this start."""
    self._stop_if_due()
    if not self._is_due(self.config.evaluate_every):
      self.metrics.drop_evaluations(self.iteration)
    self._draw_if_due()

  def _iterate(self) -> None:
    """All iterations that are left, with what is due between them."""
    self._evaluate_if_due()
    while self.iteration < self.total:
      self._advance(min(self.total, *(self._next(every) for every in self._periods())))
      self._stop_if_due()
      if self._is_due(self.config.checkpoint_every):
        self._save()
      self._draw_if_due()
      self._evaluate_if_due()

  def _periods(self) -> list[int]:
    fields = ("checkpoint_every", "evaluate_every", "picture_every", "converged_after")
    return [self.config[field] for field in fields if self.config[field]]

  def _next(self, every: int) -> int:
    """The next iteration after this one that is a multiple of `every`."""
    return (self.iteration // every + 1) * every

  def _is_due(self, every: int) -> bool:
    """Whether this is the last iteration, or a multiple of `every` (0: never)."""
    if self.iteration == self.total:
      return True
    return bool(every and self.iteration) and self.iteration % every == 0

  def _stop_if_due(self) -> None:
    """Makes this iteration the last one if the loss has converged, or the time limit is reached."""
    every = self.config.converged_after
    if every and self.iteration % every == 0 and converged(self.metrics.losses(), every):
      self.total = self.iteration
    if self.iteration and self.seconds < math.inf:
      used = self.watch.seconds.get("condense", 0.0) + self.loop.seconds_per_iteration
      if processes.highest(used) > self.seconds:
        self.total = self.iteration

  def _advance(self, limit: int) -> None:
    """Runs one chunk and logs it; if it is interrupted or fails, saves the state before it."""
    waited = self.loop.waited
    try:
      with self.watch("condense"):
        done = self.loop.run(self.state, self.iteration, limit, self.interrupts.wait)
    except (Interrupted, UserError):  # UserError: an image on disk cannot be read
      self._save()
      raise
    if self.loop.waited is not None:
      self.watch.add("wait", self.loop.waited - (waited or 0.0))
    first = self.iteration + 1
    self.state, self.iteration, metrics = done
    columns = {name: values.tolist() for name, values in metrics.items()}
    for iteration, loss in enumerate(columns["loss"], first):
      self._check_finite(loss, iteration)
      values = {name: column[iteration - first] for name, column in columns.items()}
      self.metrics.append({"iteration": iteration, **values})
      self.progress.loss(
        iteration, loss, self.loop.seconds_per_iteration, self.watch.seconds.get("wait")
      )

  def _check_finite(self, values: Any, iteration: int) -> None:
    if not np.isfinite(values).all():
      last = self.checkpoints.latest
      kept = f"the checkpoint of iteration {last} is kept" if last else "there is no checkpoint yet"
      rates = [name for name in ("lr_image", "lr_network", "lr_label") if self.config.get(name)]
      remedy = f"lower {' or '.join(rates)}"
      if config_lib.definition(self.config.method).label_kind == "centred":
        remedy += ", or raise regularisation,"
      raise UserError(
        f"iteration {iteration}: the loss or the images are not finite; {remedy} in a new workdir "
        f"({kept})"
      )

  def _save(self) -> None:
    self._check_finite(processes.to_host(self.state.stored.images), self.iteration)
    self.folder.check_there()  # Orbax would create it again
    self.metrics.sync()
    self.checkpoints.save(self.iteration, self.state, self.watch.seconds)

  def _evaluate_if_due(self) -> None:
    """Does the evaluations of this iteration that the log does not hold yet."""
    if not self.config.evaluation.networks or not self._is_due(self.config.evaluate_every):
      return
    self._save()
    iteration = self.iteration
    done = {(r["iteration"], r["set"], r["network"]) for r in self.metrics.evaluations()}
    synthetic = self._synthetic_set()
    if iteration == self.total:  # the set is there, whether or not its evaluation comes to an end
      self._write_set(synthetic)
    examples, asked = synthetic.flat(), synthetic.training()
    of_set = self.evaluation  # the step size that a set has learned is its own
    if "lr" in asked:
      of_set = Evaluation(self.config, self.dataset, self.layout, self.keys, asked)
    for task in self.evaluation.tasks():
      is_set = task[0] == experiment.SYNTHETIC
      if (iteration if is_set else 0, *task) not in done:
        self._evaluate(of_set if is_set else self.evaluation, task, examples)

  def _evaluate(self, evaluation: Evaluation, task: tuple[str, str], examples: Examples) -> None:
    if known := self._known().get(task):
      self.metrics.append({"iteration": self.iteration, "evaluation": known})
      return
    say = self.progress.say
    say(f"training on the {task[0]} set: {task[1]}")
    with self.watch("evaluate"):
      record = evaluation.run(
        task, examples, self.iteration, self.interrupts.wait, say, self.path / NETWORKS
      )
    self.metrics.append({"iteration": self.iteration, "evaluation": record})
    forget(self.path / NETWORKS)
    self.progress.evaluation(self.iteration, record)

  def _known(self) -> dict[tuple[str, str], dict[str, Any]]:
    """Evaluations on real images by a shorter run, which do not depend on the iterations."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file in sorted(self.path.glob("summary-*.json")):
      try:
        records = read_json(file, SUMMARY)["evaluations"]
      except UserError as error:
        logger.warning("%s; its evaluations are done again", str(error).partition(";")[0])
        continue
      real = (record for record in records if record["set"] != experiment.SYNTHETIC)
      found |= {(record["set"], record["network"]): record for record in real}
    return found

  def _draw_if_due(self) -> None:
    """Saves the set and its picture: at the start, at each evaluation, every `picture_every`."""
    periods = (self.config.evaluate_every, self.config.picture_every)
    file = self.path / "images" / f"{self.iteration:06d}.png"
    if self.iteration and not any(map(self._is_due, periods)):
      return
    synthetic = self._synthetic_set()
    if file.exists() or not processes.is_first():
      return
    file.parent.mkdir(exist_ok=True)
    synthetic.save(file.with_suffix(".npz"))
    sheet.save(synthetic, file)
    self.progress.picture(file, self.iteration)

  def _synthetic_set(self) -> SyntheticSet:
    learned = self.state.stored, self.method.labels(self.state)
    stored, labels = jax.tree.map(processes.to_host, learned)
    more = {"iteration": self.iteration, **self.method.about(self.state)}
    return experiment.synthetic_set(self.config, self.dataset, stored, labels, **more)

  def _write_set(self, synthetic: SyntheticSet) -> None:
    """Writes the finished set."""
    self.folder.check_there()
    if processes.is_first():
      synthetic.save(self.path / "synthetic.npz")

  def _summarise(self) -> dict[str, Any]:
    """Writes the set and the summary."""
    synthetic, config = self._synthetic_set(), self.config
    evaluations = self.metrics.evaluations()
    summary = {
      "method": config.method,
      "dataset": self.dataset.name,
      "ipc": config.ipc,
      "decoded_ipc": synthetic.formation().decoded(config.ipc),
      "stored_bytes": synthetic.stored_bytes(),
      "iterations": self.iteration,
      "seed": config.seed,
      "hardware": environment.hardware(),
      "versions": environment.versions(),
      "seconds": {name: round(value, 3) for name, value in self.watch.seconds.items()},
      "evaluations": evaluations,
      "best": accuracies.best(evaluations),
    }
    self._write_set(synthetic)
    if processes.is_first():
      write_json(self.path / "summary.json", summary)
    processes.meet("summary")
    return summary
