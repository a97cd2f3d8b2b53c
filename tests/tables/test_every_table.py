"""All tables of the papers: which there are, their shapes, their cells, a cell of each run."""

from collections import Counter
from functools import cache

import pytest

from dcjax import config as config_lib
from dcjax.commands import table
from dcjax.common.registry import NETWORKS
from dcjax.tables import TABLES, Cell, comma_separated, markdown, plan
from dcjax.tables.definition import SHRINK, TOP, WHOLE

SHAPES = {
  "dc/1": (12, 6), "dc/2": (6, 6), "dc/3": (4, 3), "dc/T6": (3, 3), "dc/T7": (3, 3),
  "dc/T8": (5, 5), "dc/T9": (4, 4), "dc/T10": (4, 4), "dc/T11": (3, 6), "dc/T12": (8, 6),
  "dc/T13": (2, 7), "dc/T14": (2, 6),
  "dsa/1": (12, 8), "dsa/2": (2, 6), "dsa/3": (6, 6), "dsa/4": (7, 4), "dsa/5": (4, 8),
  "dm/1": (12, 4), "dm/T1": (3, 6),
  "idc/1": (6, 8), "idc/2": (6, 5), "idc/3": (12, 7), "idc/4": (2, 7), "idc/5": (2, 5),
  "idc/6": (2, 3), "idc/7": (4, 4), "idc/8": (4, 2), "idc/9": (2, 4), "idc/10": (3, 20),
  "idc/11": (2, 9), "idc/12": (2, 5), "idc/13": (2, 3), "idc/14": (2, 3),
  "idm/1": (12, 12), "idm/2": (4, 2), "idm/3": (1, 3), "idm/4": (5, 4), "idm/5": (8, 4),
  "idm/F5": (1, 6), "idm/F6": (1, 5), "idm/F7": (1, 5),
}  # fmt: skip
# (sets, networks of each) of a paper's figures
SIZES = {"dc": (5, 20), "dsa": (5, 20), "dm": (5, 20), "idc": (1, 3), "idm": (1, 5)}


def test_which_tables_there_are():
  assert list(TABLES) == list(SHAPES)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_a_figure_for_each_cell(name):
  found = TABLES[name]
  assert (len(found.rows), len(found.columns)) == SHAPES[name]
  assert len(found.figures) == len(found.rows)
  assert all(len(row) == len(found.columns) for row in found.figures)
  assert all(len(row.labels) == len(found.headings) for row in found.rows)
  assert all(len(column.labels) == 1 for column in found.columns)
  for lines in (found.rows, found.columns):
    assert len({each.name for each in lines}) == len(lines)
  assert set(found.special) <= {(cell.row, cell.column) for cell in found.cells()}
  assert any(cell.runnable for cell in found.cells())


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_results_can_be_written(name):
  found = TABLES[name]
  text = markdown(found, {}, "")
  assert text.startswith(f"# {found.title}\n")
  whole = any(cell.fields.get("method") == WHOLE for cell in found.cells())
  assert ("one set, so one seed" in text) == whole
  assert comma_separated(found, {}).count("\n") == len(found.rows) * len(found.columns) + 1


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_a_config(name):
  sets, networks = SIZES[name.split("/")[0]]
  assert TABLES[name].sets == sets
  for cell in TABLES[name].cells():
    if not cell.runnable:
      continue
    (found,) = plan.trials(cell, {}, [0])
    assert found.network["name"] in NETWORKS.own
    assert found.config.evaluation.networks == (1000 if TOP in cell.fields else networks)
    assert (found.condensation is None) == (cell.fields["method"] == WHOLE or TOP in cell.fields)


# --- A cell of each table, from the set to the accuracy ----------------------------------------


CHEAPEST = ("random", "herding", "optimal_random", "dm", "dc", "dsa", "idc", "idm")


def small(cell: Cell) -> Cell:
  """A cell that takes seconds: on the digits, with a network that compiles in no time."""
  method = cell.fields["method"]
  known = dict(config_lib.flatten(config_lib.default(method).to_dict()))
  changes = {
    **config_lib.definition(method).smoke,
    "dataset.name": "digits", "ipc": 4, "inner_loop": 1, "network_epochs": 1, "regularisation": 0.5,
    "network.name": "convnet", "network.norm": "none", "network.width": 4, "network.depth": 1,
    "dsa.strategy": "crop", "training.augmentation": "none", "training.cutmix": 0.0,
    "evaluation.protocol": "dc", "evaluation.augmentation": "none", "evaluation.cutmix": 0.0,
    "evaluation.architectures": (), "evaluation.networks": 1, "evaluation.epochs": 1,
    "compute.mesh": "1x1",
  }  # fmt: skip
  kept = {key: value for key, value in cell.fields.items() if not key.startswith("dataset.")}
  fields = {**kept, **{key: value for key, value in changes.items() if key in known}}
  return cell._replace(fields=fields)


@cache
def chosen() -> dict[str, Cell]:
  """A small cell of each table: the cheapest method's, and of those one that is in many tables."""

  def cost(cell):
    return SHRINK not in cell.fields, CHEAPEST.index(cell.fields["method"])

  cells = {}
  for name, found in TABLES.items():
    runs = [cell for cell in found.cells() if cell.runnable and cell.fields["method"] in CHEAPEST]
    least = min(map(cost, runs))
    cheap = [small(cell) for cell in runs if cost(cell) == least]
    cells[name] = {plan.trials(cell, {}, [0])[0].name: cell for cell in cheap}
  often = Counter(trial for found in cells.values() for trial in found)
  return {name: found[max(found, key=often.__getitem__)] for name, found in cells.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """One for all tables, which share sets and cells there."""
  return tmp_path_factory.mktemp("tables")


@pytest.mark.parametrize("name", TABLES)
def test_a_cell_of_every_table_runs(name, folder):
  cell, whole = chosen()[name], TABLES[name]
  of_one = whole._replace(
    base=cell.fields,
    rows=tuple(row._replace(fields={}) for row in whole.rows if row.name == cell.row),
    columns=tuple(each._replace(fields={}) for each in whole.columns if each.name == cell.column),
    figures=((cell.paper,),),
    special={},
  )
  text = table.fill(of_one, folder, seeds=[0])
  assert text.startswith(f"# {whole.title}\n")
  assert "not run (" not in text and text.count("(paper ") == 1
