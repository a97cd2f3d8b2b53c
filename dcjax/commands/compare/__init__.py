"""The driver of `dcjax compare`: sets and real images, trained on with one budget.

Every row has the same network, steps, batches, augmentation and kind of labels, and stores as many
images or bytes. `budget` says what that is, `table` what is made of the accuracies.
"""

import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dcjax import config as config_lib
from dcjax import data, evaluation
from dcjax.commands.compare import budget
from dcjax.commands.compare.budget import SOFT, Source
from dcjax.commands.compare.options import Options, check, config_for
from dcjax.commands.compare.table import row_shape, write
from dcjax.commands.evaluate import load
from dcjax.common.errors import UserError
from dcjax.common.json_files import OBJECT, holds, many, read_json
from dcjax.common.registry import content
from dcjax.data import Dataset
from dcjax.nn import architectures
from dcjax.run import experiment, teacher_file
from dcjax.run.experiment import Keys
from dcjax.run.interrupt import Interrupts
from dcjax.run.progress import logger, working
from dcjax.run.teacher import Teacher
from dcjax.run.teacher_file import FromFile
from dcjax.run.workdir import Workdir, held, refuse_others, write_json
from dcjax.sets.synthetic import SyntheticSet

FILE = "compare.json"
# What tells the rows of a comparison apart
IDENTITY = ("set", "digest", "labels", "augmented", "taught_by")


def compare(options: Options, workdir: str | os.PathLike) -> dict[str, Any]:
  """Trains on every row, and writes `compare.json`, tables and `figure.png` into a folder.

  Rows that an earlier start has finished are not trained again.

  Returns:
    The content of `compare.json`.

  Raises:
    UserError: bad input, found before any long work.
    Interrupted: SIGTERM or Ctrl-C.
  """
  check(options)
  sets = budget.read(options.sets)
  interrupts = Interrupts("finished rows are saved, and the same command goes on")
  with held(Workdir(workdir)) as folder:
    refuse_others(folder.path, FILE, "comparison")
    comparison = Comparison(options, sets, interrupts.wait)
    with interrupts:
      return _finish(comparison, folder.path)


def _finish(comparison: "Comparison", folder: Path) -> dict[str, Any]:
  """Trains on the rows that a folder lacks, and writes its files."""
  of = comparison.of
  done = _finished(folder, of)
  rows = {row.identity(): row for row in comparison.rows()}
  for identity, row in rows.items():
    if identity not in done:
      with working(f"{row.source.name}, {row.variant}"):
        done[identity] = comparison.run(row)
      write_json(folder / FILE, {"of": of, "rows": list(done.values()), "others": []})
  found = {
    "of": of,
    "rows": [done[identity] for identity in rows],
    "others": [row for identity, row in done.items() if identity not in rows],
    "whole": comparison.whole(),
  }
  return write(folder, found, comparison.options.weight)


def _finished(folder: Path, of: dict[str, Any]) -> dict[tuple, dict[str, Any]]:
  """The rows that are in the folder already."""
  file = folder / FILE
  if not file.exists():
    return {}
  ours = holds({"of": OBJECT, **dict.fromkeys(("rows", "others"), many(row_shape(of)))})
  found = read_json(
    file,
    lambda content: holds({"of": OBJECT})(content) and (content["of"] != of or ours(content)),
    "move it away, or give another folder",
  )
  different = sorted(name for name in of | found["of"] if found["of"].get(name) != of.get(name))
  if different:
    raise UserError(
      f"workdir: {file} is of another comparison ({', '.join(different)}); give a new folder"
    )
  return {tuple(row[name] for name in IDENTITY): row for row in found["rows"] + found["others"]}


class Row(NamedTuple):
  """A source, how its images are labelled, and whether they are augmented."""

  source: Source
  labels: str
  augmented: bool = True
  taught_by: str = ""  # of soft labels: what tells the teacher

  @property
  def variant(self) -> str:
    """What tells the rows of a source apart."""
    return f"{self.labels} labels" + ("" if self.augmented else ", no augmentation")

  def identity(self) -> tuple:
    """The values of `IDENTITY`."""
    return self.source.name, self.source.digest, self.labels, self.augmented, self.taught_by


class Comparison:
  """The objects that all rows share.

  Attributes:
    options: what was asked for.
    of: what all rows have in common, those of a later start with more rows, too; as JSON has it.
  """

  def __init__(self, options: Options, sets: dict[str, SyntheticSet], wait: Callable[[Any], Any]):
    """Loads the dataset, and builds what checks the options; trains nothing.

    Raises:
      UserError: sets and dataset do not fit, or a network cannot take the images.
    """
    self.options, self._wait = options, wait
    first = next(iter(sets.values()))
    ipc, smallest = budget.control_ipc(sets, options.equal), budget.smallest(sets)
    self._configs = {labels: config_for(first, options, labels) for labels in options.labels}
    self._config = config = self._configs[options.labels[0]]  # which the others differ little from
    self._architecture = options.network or config.network.name
    loaded = load(
      config, first.metadata["config"], options.data_dir, options.cache_dir,
      experiment.memory(config),
    ).whitened(first.whitening)  # fmt: skip
    sources = budget.of_sets(sets, loaded)
    _check_in_memory(options, loaded)
    self._dataset, self._held = loaded, None
    if options.validation:
      self._dataset, self._held = budget.split(loaded, options.validation, options.seed)
    self._layout = experiment.strategy(config, loaded)
    self._keys = Keys.from_seed(options.seed)
    self._stored = loaded.num_classes * smallest
    controls = budget.of_controls(options.controls, config, self._dataset, ipc, options.draws, wait)
    self._sources = sources + controls
    self._network = experiment.evaluation_network(config, loaded, self._layout, self._architecture)
    self._teacher, self._taught_by = None, ""
    if SOFT in options.labels:
      self._teacher = self._trained_on_all(options.teacher, "--teacher")
      self._taught_by = teacher_file.named("--teacher", options.teacher)
      if not architectures.is_trained(options.teacher):
        self._taught_by += f", {options.teacher_epochs} epochs"
    self._evaluate = cache(self._evaluator)  # rows of as many images share a compiled program
    self.of = self._in_common(control_ipc=ipc, smallest=smallest, data=first.metadata["dataset"])

  def _in_common(self, **more: Any) -> dict[str, Any]:
    apart = {"sets", "controls", "labels", "scores", "weight", "data_dir", "cache_dir"}
    apart |= {"teacher", "teacher_epochs"}  # which rows with soft labels say themselves
    asked = {name: value for name, value in self.options._asdict().items() if name not in apart}
    fields = architectures.at_evaluation(self._config.network, self._architecture)
    more |= {
      "network": architectures.text_of(fields),
      "code": content("--network", fields["name"]),
    }
    return json.loads(json.dumps(asked | more))

  def rows(self) -> list[Row]:
    """All rows; those without augmentation, which only scores need, at the end."""
    scored = [source for source in self._sources if not source.control or source.name == "random"]
    parts = [(self._sources, True)] + [(scored, False)] * self.options.scores
    return [
      Row(source, labels, augmented, self._taught_by if labels == SOFT else "")
      for sources, augmented in parts
      for labels in self.options.labels
      for source in sources
    ]

  def run(self, row: Row) -> dict[str, Any]:
    """Trains on a row, and says what came of it."""
    options, source = self.options, row.source
    draws = list(source.draws())
    settings, steps, least = budget.alike(self._settings(row), self._stored, len(draws[0]))
    if steps != least:
      logger.warning(
        "%s takes %d steps where others take %d: whole passes over its %d images are not as many; "
        "give other --epochs", source.name, steps, least, len(draws[0]),
      )  # fmt: skip
    rate, check, validated = self._chosen(row, settings, draws)
    accuracies = self._accuracies(row, settings._replace(lr=rate), draws)
    tests, attacked = np.split(accuracies, [settings.checks], axis=2)
    record = {
      "set": source.name,
      "digest": source.digest,
      "control": source.control,
      "labels": row.labels,
      "augmented": row.augmented,
      "taught_by": row.taught_by,
      "network": self._architecture,
      "protocol": settings.protocol,
      "augmentation": settings.augmentation,
      "cutmix": settings.cutmix,
      "ipc": source.ipc,
      "decoded_ipc": len(draws[0]) // self._dataset.num_classes,
      "stored_bytes": source.stored_bytes,
      "epochs": settings.epochs,
      "steps": steps,
      "batch": settings.batch,
      "lr": settings._replace(lr=rate).learning_rate,
      "last": np.round(tests[:, :, -1], 6).tolist(),  # of each draw, of each network
      "best": np.round(tests.max(2), 6).tolist(),
      "attacks": {
        name: np.round(attacked[:, :, number], 6).tolist()
        for number, name in enumerate(settings.attacks)
      },
      **(self._teacher.record() if row.labels == SOFT and self._teacher else {}),
    }
    if options.validation:
      record |= {
        "chosen": np.round(tests[:, :, check], 6).tolist(),
        "chosen_epoch": round(settings.epochs * (check + 1) / settings.checks),
        "validation": validated,
      }
    return record

  def whole(self) -> dict[str, Any] | None:
    """A network of the same kind trained on all images with hard labels, if LRS is asked for."""
    if not self.options.scores:
      return None
    trained = self._trained_on_all(self._architecture, "--network")
    trained.trained(self._wait)
    found = trained.record()
    return {"accuracy": found["teacher_accuracy"], "epochs": found["teacher_epochs"]}

  def _trained_on_all(self, text: str, field: str) -> Teacher | FromFile:
    epochs = self.options.teacher_epochs
    return experiment.teacher(
      self._config, self._dataset, self._layout, self._keys, text, epochs, field
    )

  def _settings(self, row: Row) -> evaluation.EvaluationSettings:
    settings = config_lib.evaluation_settings(self._configs[row.labels].evaluation)
    settings = settings._replace(attacks=self.options.attacks, epsilon=self.options.epsilon)
    return settings if row.augmented else settings._replace(augmentation="none", cutmix=0.0)

  def _chosen(
    self, row: Row, settings: evaluation.EvaluationSettings, draws: Sequence[np.ndarray]
  ) -> tuple[float | None, int, float | None]:
    """The learning rate and the check that are best on the images held out, and how good."""
    rates: tuple[float | None, ...] = self.options.rates or (None,)
    if self._held is None:
      return rates[0], settings.checks - 1, None
    found = []
    for rate in rates:
      tried = settings._replace(lr=rate, attacks=())
      found.append(self._accuracies(row, tried, draws, held_out=True).mean((0, 1)))
    means = np.stack(found)
    best, check = divmod(int(means.argmax()), settings.checks)
    return rates[best], check, float(means[best, check])

  def _accuracies(
    self,
    row: Row,
    settings: evaluation.EvaluationSettings,
    draws: Sequence[np.ndarray],
    *,
    held_out: bool = False,
  ) -> np.ndarray:
    """Accuracies `[draws, networks, checks]`, and behind the checks those under attacks.

    On the test images, or on the training images that are `held_out`.
    """
    evaluate = self._evaluate(row.labels, settings, held_out)
    taught = self._teacher.trained(self._wait) if row.labels == SOFT and self._teacher else ()
    found = []
    for number, images in enumerate(draws):
      classes = self._dataset.num_classes
      labels = jnp.repeat(jnp.arange(classes, dtype=jnp.int32), len(images) // classes)
      blocks = evaluate(jnp.asarray(images), labels, self._keys.evaluation, taught=taught)
      each = np.concatenate([np.asarray(self._wait(block)) for block in blocks])
      logger.info(
        "%s, %s, draw %d of %d%s: last %.4f", row.source.name, row.variant, number + 1, len(draws),
        ", on images held out" if held_out else "", each[:, settings.checks - 1].mean(),
      )  # fmt: skip
      found.append(each)
    return np.stack(found)

  def _evaluator(
    self, labels: str, settings: evaluation.EvaluationSettings, held_out: bool
  ) -> evaluation.Evaluator:
    dataset = self._held if held_out else self._dataset
    assert dataset is not None  # as something is held out
    teacher = self._teacher.network if labels == SOFT and self._teacher else None
    return evaluation.Evaluator(self._network, settings, self._layout, dataset, teacher)


def _check_in_memory(options: Options, dataset: Dataset) -> None:
  """Raises `UserError` for what looks at all images at once, where they are on disk."""
  if not isinstance(dataset.images, data.OnDisk):
    return
  looks = [name for name in options.controls if name != "random"]
  if options.validation or looks:
    what = "--validation" if options.validation else f"--controls: {looks[0]}"
    raise UserError(
      f"{what} looks at all images, which do not fit in memory; leave it out, or raise "
      "compute.memory_limit"
    )
