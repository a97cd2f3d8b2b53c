"""The driver of `dcjax plot`: gathers from runs what `figures.pictures` draws."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data
from dcjax.commands import measured, runs
from dcjax.commands.evaluate import load
from dcjax.common.activity import counted
from dcjax.common.errors import UserError, check_least, check_most, check_name, nearest
from dcjax.common.files import check_new, expand
from dcjax.common.json_files import OBJECT, holds, is_count, is_text
from dcjax.common.quantities import spread
from dcjax.config import flatten
from dcjax.config.numbers import MOST
from dcjax.figures import curves, forgetting, pictures, style
from dcjax.figures import losses as losses_lib
from dcjax.figures.curves import method_name
from dcjax.methods import dc
from dcjax.methods.definition import from_fields
from dcjax.methods.setup import setup
from dcjax.run import experiment
from dcjax.run.experiment import Keys
from dcjax.run.readers import EVALUATIONS, read_log
from dcjax.sets.synthetic import SyntheticSet

PathLike = str | os.PathLike
SUFFIXES = (".png", ".pdf")
# Fields of a config, or beginnings of them, that may differ between runs that are averaged.
HARMLESS = (
  *config_lib.INDIFFERENT,
  "seed",
  "evaluation.networks",
  "evaluation.architectures",
  "evaluation.whole",
)


def plot(kind: str, workdirs: PathLike | Sequence[PathLike], **options: Any) -> Figure:
  """Draws a picture of runs, which a notebook displays.

  Args:
    kind: an entry of `KINDS`.
    workdirs: the folder of a run, or several.
    **options: of the function in `KINDS`.

  Returns:
    A figure of matplotlib.

  Raises:
    UserError: a folder or an option is not usable.
  """
  check_name("plot", kind, KINDS)
  folders = [workdirs] if isinstance(workdirs, PathLike) else workdirs
  if not folders:
    raise UserError("workdirs: none given; name at least one folder of a run")
  return KINDS[kind]([runs.existing(path) for path in folders], **options)


def write(
  kind: str,
  workdirs: PathLike | Sequence[PathLike],
  output: PathLike,
  **options: Any,
) -> list[Path]:
  """Draws a picture of runs, as PNG and as PDF.

  Args:
    kind, workdirs, **options: of `plot`.
    output: the file; `.png` and `.pdf` are put in place of either suffix, or behind any other.

  Returns:
    The two files.

  Raises:
    UserError: as `plot`, or one of the files is there already.
  """
  files = _files(output)
  figure = plot(kind, workdirs, **options)
  for file in files:
    style.save(figure, file)
  return files


def _files(output: PathLike) -> list[Path]:
  """The files to write, which must not be there yet."""
  path = expand("--output", output)
  if not path.name:
    raise UserError(f"--output: {path} is no name of a file; give one")
  base = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
  files = [base.with_name(f"{base.name}{suffix}") for suffix in SUFFIXES]
  for file in files:
    check_new("--output", file)
  return files


# --- Images --------------------------------------------------------------------------------


def grid(folders: Sequence[Path], *, classes: Sequence[str] = ()) -> Figure:
  """The images of one run before its first iteration and now; of a coreset, its images.

  Args:
    folders: of the run.
    classes: names of the classes to show; all by default.
  """
  if len(folders) > 1:
    raise UserError(f"workdirs: a grid shows one run, not {len(folders)}; name one")
  files = runs.images(folders[0])
  shown = {"before": min(files), _after(max(files)): max(files)} if len(files) > 1 else {}
  sets = [(title, SyntheticSet.load(files[iteration])) for title, iteration in shown.items()]
  if not sets:
    final = SyntheticSet.load(folders[0] / "synthetic.npz")
    sets = [(method_name(final.metadata["method"]), final)]
  return pictures.grid([(title, _choose(synthetic, classes)) for title, synthetic in sets])


def _after(iteration: int) -> str:
  return f"after {iteration} iteration{'s' if iteration > 1 else ''}"


def strip(
  folders: Sequence[Path], *, labels: Sequence[str] = (), classes: Sequence[str] = ()
) -> Figure:
  """The first image of each class over the iterations (DSA, Figure 6).

  Args:
    folders: of the runs, one panel each.
    labels: titles of the panels; by default the methods, or the folders.
    classes: names of the classes to show; all by default.
  """
  titles = runs.titles(folders, labels)
  sequences = []
  for folder in folders:
    files = runs.images(folder)
    if len(files) < 2:
      raise UserError(
        f"workdirs: {folder} holds images of fewer than two iterations; give a run of dcjax "
        "condense, with picture_every for more of them"
      )
    shown = spread(list(files), pictures.MOST_COLUMNS)
    sequences.append({i: _choose(SyntheticSet.load(files[i]), classes) for i in shown})
  return pictures.strip(list(zip(titles, sequences, strict=True)))


def _choose(synthetic: SyntheticSet, classes: Sequence[str]) -> SyntheticSet:
  """The rows of some classes only, in the order asked for."""
  if not classes:
    return synthetic
  stored, names = list(synthetic.metadata["class_names"]), synthetic.class_names()
  for name in classes:
    if name not in stored and name not in names:
      raise UserError(f"classes: no class '{name}'; {nearest(name, names)}")
  rows = [(names if name in names else stored).index(name) for name in classes]
  metadata = {**synthetic.metadata, "class_names": [names[row] for row in rows]}
  return synthetic._replace(
    images=synthetic.images[rows], labels=synthetic.labels[rows], metadata=metadata
  )


# --- Gradients -----------------------------------------------------------------------------


def gradients(
  folders: Sequence[Path],
  *,
  labels: Sequence[str] = (),
  networks: int = 10,
  data_dir: str = "",
  cache_dir: str = "",
) -> Figure:
  """The norms of the gradients that the last iteration matches (DSA, Figure 5).

  Args:
    folders: of the runs, one panel each.
    labels: titles of the panels; by default the methods, or the folders.
    networks: how many are drawn, those of the iterations that would come next. Each gives
      `inner_loop` times the number of classes gradients.
    data_dir: where the dataset is on this machine; empty: the default.
    cache_dir: where it is kept once it is decoded; empty: the default.
  """
  check_least("networks", networks, 1)
  check_most("networks", networks, MOST)
  titles = runs.titles(folders, labels)
  configs = [runs.matching_config(folder) for folder in folders]
  norms = []
  for folder, config in zip(folders, configs, strict=True):
    dataset = load(config, runs.read(folder, "config.json"), data_dir, cache_dir)
    norms.append(_gradient_norms(config, dataset, folder, networks))
  return pictures.gradient_histogram(
    [(title, *both) for title, both in zip(titles, norms, strict=True)]
  )


def _gradient_norms(
  config: ConfigDict, dataset: data.Dataset, folder: Path, networks: int
) -> tuple[np.ndarray, np.ndarray]:
  """For real and for synthetic images `[networks, inner_loop, classes]`."""
  iteration, synthetic = runs.last(folder)
  runs.check_fits(folder, synthetic, dataset)
  dataset = dataset.whitened(synthetic.whitening)
  bound = setup(config, dataset, experiment.strategy(config, dataset))
  bound = bound._replace(formation=synthetic.formation())
  settings = from_fields(dc.DCSettings(), config)

  @jax.jit
  def norms(stored, dataset, key):
    return dc.gradient_norms(bound, settings, stored, dataset, key)

  stored = synthetic.stored()
  loop, found = Keys.from_seed(config.seed).loop, []
  for number in counted(range(networks), f"{folder}: gradients of networks", networks):
    key = jax.random.fold_in(loop, iteration + number)
    found.append(jax.device_get(norms(stored, dataset, key)))
  real, ours = map(np.stack, zip(*found, strict=True))
  return real, ours


# --- Accuracies ----------------------------------------------------------------------------


def ipc(folders: Sequence[Path]) -> Figure:
  """Accuracy against images per class (DC, Figure 3), one line a dataset and method.

  Runs that differ by their seed alone are averaged. The relative accuracies need the full
  dataset's, from any run of that dataset with `evaluation.whole`.

  Args:
    folders: of finished runs.
  """
  summaries = [_summary(folder) for folder in folders]
  _check_alike(folders, summaries)
  return pictures.accuracies(curves.from_summaries(summaries))


_EVALUATED = holds({
  "dataset": is_text, "method": is_text, "ipc": is_count, "evaluations": EVALUATIONS,
})  # fmt: skip


def _summary(folder: Path) -> dict[str, Any]:
  shape = _EVALUATED if "evaluations" in runs.read(folder, "summary.json") else OBJECT
  summary = runs.read(folder, "summary.json", shape)
  if not any(record["set"] == experiment.SYNTHETIC for record in summary.get("evaluations", ())):
    raise UserError(f"workdirs: {folder} was not evaluated; give a run with evaluation.networks")
  return summary


def _check_alike(folders: Sequence[Path], summaries: Sequence[dict[str, Any]]) -> None:
  """Raises `UserError` for two runs to average that differ by more than their seeds."""
  seen: dict[Any, tuple[Path, dict[str, Any]]] = {}
  for folder, summary in zip(folders, summaries, strict=True):
    fields = dict(flatten(runs.read(folder, "config.json")))
    point = tuple(summary[name] for name in ("dataset", "method", "ipc"))
    other, others = seen.setdefault(point, (folder, fields))
    different = sorted(
      name
      for name in fields.keys() | others.keys()
      if fields.get(name) != others.get(name) and not name.startswith(HARMLESS)
    )
    if different:
      raise UserError(
        f"workdirs: {other} and {folder} are both {' '.join(map(str, point))} but differ in "
        f"{', '.join(different)}; name one of them"
      )


def loss(folders: Sequence[Path], *, labels: Sequence[str] = ()) -> Figure:
  """Loss and accuracy over the iterations, also of runs that are not finished.

  Args:
    folders: of the runs.
    labels: names of the runs; by default the methods, or the folders.
  """
  found = []
  for name, folder in zip(runs.titles(folders, labels), folders, strict=True):
    records, _ = read_log(folder / "metrics.jsonl")
    losses = [record["loss"] for record in records if "loss" in record]
    if not losses:
      raise UserError(f"workdirs: {folder} has no iteration yet; give a run of dcjax condense")
    evaluations = [record["evaluation"] for record in records if "evaluation" in record]
    found.append(losses_lib.Course(name, losses, evaluations))
  return losses_lib.draw(found)


# --- Continual learning ----------------------------------------------------------------------


def stages(folders: Sequence[Path], *, labels: Sequence[str] = ()) -> Figure:
  """Accuracy after each stage of continual learning (DC, Figure 4; IDC, Figure 7; IDM, Figure 8).

  Args:
    folders: of finished runs of `dcjax continual`, with the same stages.
    labels: names of the runs; by default the methods, or the folders.
  """
  titles = runs.titles(folders, labels)
  for folder in folders:
    if "stages" not in runs.read(folder, "summary.json"):
      raise UserError(f"workdirs: {folder} is no run of dcjax continual; give one")
  summaries = [runs.read(folder, "summary.json", forgetting.is_summary) for folder in folders]
  for folder, summary in zip(folders, summaries, strict=True):
    if summary["stages"] != summaries[0]["stages"]:
      raise UserError(
        f"workdirs: {folders[0]} has the stages {', '.join(summaries[0]['stages'])}, {folder} "
        f"{', '.join(summary['stages'])}; draw them in two figures"
      )
  return forgetting.draw(list(zip(titles, summaries, strict=True)))


KINDS: dict[str, Callable[..., Figure]] = {
  "grid": grid,
  "strip": strip,
  "loss": loss,
  "gradients": gradients,
  "ipc": ipc,
  "stages": stages,
  "matching": measured.matching,
  "consistency": measured.consistency,
}
