"""The papers' settings as the presets have them, and the docs' tables of them.

python -m benchmarks.settings

Writes the tables into `docs/settings.md`, between its marks. Nothing is computed, and no data are
read: a preset is asked for its config, and the fields that follow from others are filled in.
"""

import importlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import app
from dcjax.launch.field_help import meanings_of, own_fields
from ml_collections import ConfigDict

from benchmarks.records import MARKS, ROOT
from dcjax.config import default, flatten, resolve
from dcjax.figures import markdown

DOCS = ROOT / "docs" / "settings.md"
# Shown of every preset, beside the fields that it states and those that its cells do not share
SHOWN = (
  "iterations", "batch_real", "lr_image", "network.name", "network.width", "network.depth",
  "evaluation.protocol", "evaluation.networks", "evaluation.epochs", "evaluation.batch",
  "evaluation.augmentation", "evaluation.cutmix",
)  # fmt: skip
# Of what a preset says of published figures
BEGINNING = re.compile(r"^(Accuracy|Published)|(?<=[.:] )(Accuracy|Published)", re.MULTILINE)
# Of one machine, or said by the name of the cell
HIDDEN = re.compile(
  r"compute\..*|dataset\.(name|classes|data_dir|mirror|cache_dir)|checkpoint_every|ipc|method|seed"
)


class Preset(NamedTuple):
  """A preset, and the cells of the paper that it is for."""

  name: str  # of its file in configs/
  title: str
  datasets: tuple[str, ...]  # or what else its argument names, of one method
  ipcs: tuple[int, ...] = (1, 10, 50)


PRESETS = (
  Preset("dc", "DC", ("mnist", "fashion_mnist", "svhn", "cifar10")),
  Preset("dsa", "DSA", ("mnist", "fashion_mnist", "svhn", "cifar10", "cifar100")),
  Preset("dm", "DM", ("cifar10", "cifar100", "tiny_imagenet")),
  Preset("idc", "IDC", ("mnist", "fashion_mnist", "svhn", "cifar10")),
  Preset("idm", "IDM", ("cifar10", "cifar100", "tiny_imagenet")),
  Preset("rat_bptt", "RaT-BPTT", ("cifar10", "cifar100", "tiny_imagenet")),
  Preset("mtt", "MTT", ("cifar10", "cifar100", "tiny_imagenet")),
  Preset("ftd", "FTD", ("cifar10", "cifar100", "tiny_imagenet")),
  Preset("datm", "DATM", ("cifar10", "cifar100", "tiny_imagenet")),
  Preset("frepo", "FRePo", ("cifar10", "cifar100", "tiny_imagenet")),
  Preset("rcig", "RCIG", ("cifar10", "cifar100", "tiny_imagenet")),
  Preset("kip", "KIP", ("cifar10",), (10,)),
  Preset("dd", "DD", ("mnist", "cifar10"), (10,)),
  Preset("ld", "LD", ("mnist", "cifar10", "cifar100")),
  Preset("rded", "RDED", ("cifar10", "cifar100", "tiny_imagenet")),
  Preset("coreset", "Coresets", ("mnist", "fashion_mnist", "svhn", "cifar10")),
  Preset("imagenet", "IDC on ImageNet", ("idc10", "idc100"), (10, 20)),
  Preset("imagenet", "IDM on ImageNet", ("idm10", "idm100"), (10, 50)),
  Preset("speech", "DSA on speech", ("dsa",), (10, 20)),
  Preset("speech", "DM on speech", ("dm",), (10, 20)),
  Preset("speech", "IDC on speech", ("idc",), (10, 20)),
  Preset("fast", "Minutes on two cores", ("cifar10",), (10,)),
)


def section(preset: Preset, published: bool) -> str:
  """What the page has of a preset, with its published figures or without."""
  module = importlib.import_module(f"dcjax.configs.{preset.name}")
  doc = module.__doc__ or ""
  configs = {
    (dataset, ipc): resolve(module.get_config(f"{dataset},ipc={ipc}"))
    for dataset in preset.datasets
    for ipc in preset.ipcs
  }
  (method,) = {config.method for config in configs.values()}
  stated = {*getattr(module, "STATED", {}), *getattr(module, "FIELDS", ())}
  stated |= {name for config in configs.values() for name in changed(config)}
  cells = {cell: values(config) for cell, config in configs.items()}
  same, differing = fields(cells, stated)
  known, own = meanings_of(method), own_fields(method)
  rows = [("field", "value", "meaning")]
  rows += [(f"`{name}`", shown(same[name]), known[name] if name in own else "") for name in same]
  parts = [
    f"## {preset.title}",
    f"{sentence(doc)} Preset: [`configs/{preset.name}.py`](../configs/{preset.name}.py).",
    *(accuracies(doc) if published else ()),
    table(rows),
    table(by_cell(cells, differing)) if differing else "",
    "\n".join(f"- `{name}`: {known[name]}" for name in differing if name in own and known[name]),
  ]
  return "\n\n".join(filter(None, parts))


def values(config: ConfigDict) -> dict[str, Any]:
  """The fields of a config, by dotted names; of a whitening that is not done no variant."""
  found = dict(flatten(config.to_dict()))
  return found if found["dataset.zca"] else found | {"dataset.zca_variant": None}


def table(rows: list[tuple]) -> str:
  """A table whose cells are not padded: some meanings are long."""
  return re.sub(" {2,}", " ", re.sub("-{3,}", "---", markdown.table(rows, align="left")))


def changed(config: ConfigDict) -> list[str]:
  """The fields that are not as they are by default."""
  before = dict(flatten(resolve(default(config.method)).to_dict()))
  return [name for name, value in flatten(config.to_dict()) if value != before[name]]


def fields(cells: dict[Any, dict[str, Any]], stated: set[str]) -> tuple[dict[str, Any], list[str]]:
  """The fields to show: those with one value in all cells, with it; and the names of the others."""
  same, differing = {}, []
  for name in next(iter(cells.values())):
    if HIDDEN.fullmatch(name):
      continue
    values = [cell[name] for cell in cells.values()]
    if any(value != values[0] for value in values):
      differing.append(name)
    elif name in {*stated, *SHOWN} and values[0] not in (None, ""):
      same[name] = values[0]
  return same, differing


def by_cell(cells: dict[tuple[str, int], dict[str, Any]], names: list[str]) -> list[tuple]:
  """A row for each group of cells that have the same values."""
  groups: dict[tuple, dict[str, list[int]]] = {}
  for (dataset, ipc), cell in cells.items():
    values = tuple(shown(cell[name]) for name in names)
    groups.setdefault(values, {}).setdefault(dataset, []).append(ipc)
  return [
    ("dataset: images per class", *(f"`{name}`" for name in names)),
    *((named(group), *values) for values, group in groups.items()),
  ]


def named(group: dict[str, list[int]]) -> str:
  """Cells in words: 'mnist, svhn: 1, 10; cifar10: 1'."""
  alike: dict[tuple[int, ...], list[str]] = {}
  for dataset, ipcs in group.items():
    alike.setdefault(tuple(ipcs), []).append(dataset)
  return "; ".join(
    f"{', '.join(datasets)}: {', '.join(map(str, ipcs))}" for ipcs, datasets in alike.items()
  )


def shown(value: Any) -> str:
  """A value as the command line takes it."""
  if value is None:
    return "-"
  if isinstance(value, Sequence) and not isinstance(value, str):
    return ",".join(map(str, value))
  text = f"{value:.10g}" if isinstance(value, float) else str(value)
  return re.sub(r"e-0+", "e-", text)


def sentence(doc: str) -> str:
  """What a docstring begins with."""
  return " ".join(doc.split("\n\n")[0].split()).partition(";")[0].rstrip(".") + "."


def accuracies(doc: str) -> list[str]:
  """What a preset says of accuracies: from 'Accuracy' or 'Published' on, with its table."""
  first, *others = doc[found.start() :].split("\n\n") if (found := BEGINNING.search(doc)) else [""]
  texts = [" ".join(first.split())]
  for paragraph in others:
    if paragraph.startswith("  ") and "dcjax" not in paragraph:
      texts.append(f"```\n{paragraph.rstrip()}\n```")
    elif len(texts) > 1 and paragraph[0].islower():
      texts.append(" ".join(paragraph.split()))
    else:
      break
  if len(texts) == 1 and first.endswith(":"):  # a command comes next
    texts = [texts[0].rpartition(". ")[0] + "."]
  return texts


def filled(text: str) -> str:
  """The docs with the tables between their marks."""
  begin, end = (mark.format("settings") for mark in MARKS)
  before, rest = text.split(begin)
  names = [preset.name for preset in PRESETS]
  sections = [section(each, each.name not in names[:n]) for n, each in enumerate(PRESETS)]
  tables = "\n\n".join(sections)
  return f"{before}{begin}\n\n{tables}\n\n{end}{rest.split(end)[1]}"


def main(argv: list[str]) -> None:
  """Writes the docs' tables anew."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument {argv[1]!r}")
  DOCS.write_text(filled(DOCS.read_text()))


if __name__ == "__main__":
  app.run(main)
