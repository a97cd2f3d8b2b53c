"""The command to repeat a run: read by the command line, it gives the same config."""

import json
import shlex

import pytest
from dcjax.configs import coreset, dm, frepo, idc, mtt, quickstart, speech
from dcjax.launch import command_line

import dcjax.config
from dcjax import UserError
from dcjax.commands.report import Follower
from dcjax.pages import repeat
from dcjax.tables import published
from tests.pages.made import fields, make


def as_file(config):
  """What `config.json` of a run holds."""
  return json.loads(json.dumps(dcjax.config.resolve(config).to_dict()))


def changed(config, **changes):
  config.update_from_flattened_dict({name.replace("__", "."): v for name, v in changes.items()})
  return config


def parsed(command):
  """The config that the command line makes of a command, resolved."""
  _, name, *arguments = shlex.split(command.text("again").replace("\\\n", " "))
  define = lambda: command_line.preset_flags([name, *arguments], workdir="run")  # noqa: E731
  values = command_line.parse(define, [name, *arguments], required=("config", "workdir"))
  assert values.workdir == "again"
  return dcjax.config.resolve(values.config)


@pytest.mark.parametrize(
  ("config", "words"),
  [
    (lambda: quickstart.get_config(), "condense --config=configs/quickstart.py"),
    (lambda: dm.get_config("cifar100,ipc=10"), "condense --config=configs/dm.py:cifar100,ipc=10"),
    (lambda: mtt.get_config("cifar10"), "condense --config=configs/mtt.py"),
    (lambda: speech.get_config("idc,ipc=10"), "condense --config=configs/speech.py:ipc=10"),
    (
      lambda: changed(
        idc.get_config("mnist,ipc=2"), seed=3, evaluation__lr=0.02, formation__factor=1,
        dataset__classes=("1", "7"), dataset__data_dir="it's here", network__norm="batch",
        evaluation__architectures=("convnet", "mlp"), evaluation__whole=True,
      ),
      "condense --config=configs/idc.py:mnist,ipc=2 --config.dataset.classes=1,7",
    ),
    (lambda: changed(coreset.get_config("cifar10,ipc=3"), method="herding"), "select "),
    (lambda: changed(frepo.get_config("mnist"), iterations=7, compute__chunk=2), "condense "),
  ],
)  # fmt: skip
def test_it_gives_the_same_config(config, words):
  config = config()
  command = repeat.command(repeat.resolved(as_file(config)))
  assert not command.missing
  assert " ".join(command.words).startswith(words)
  assert parsed(command) == dcjax.config.resolve(config)


def test_what_no_flag_can_set_is_named():
  config = dcjax.config.resolve(dm.get_config("cifar10"))
  with config.unlocked():
    config.newer = None
  assert list(repeat.command(config).missing) == ["newer"]


@pytest.mark.parametrize(
  "changes",
  [
    {"method": "none"},
    {"method": "mine.py:METHOD"},
    {"ipc": -1},
    {"dataset": {"name": "huggingface:a/b"}},
    {"network": {"name": "mine.py:NET"}},
    {"unknown": 1},
  ],
)
def test_a_config_that_cannot_be_followed_runs_nothing(changes):
  with pytest.raises(UserError):
    repeat.resolved({**fields("dc"), **changes})


# --- The papers' figures -------------------------------------------------------------------


def found(config, images="synthetic", network="convnet"):
  return published.find(dcjax.config.resolve(config), images, network)


def test_the_figure_of_the_paper_s_own_experiment():
  figure = found(dm.get_config("cifar10,ipc=10"))
  assert figure.table.startswith("DM, Table 1") and tuple(figure.figure) == (48.9, 0.6)
  assert not figure.differing


def test_what_differs_is_named():
  figure = found(changed(dm.get_config("cifar10,ipc=10"), iterations=300, seed=4))
  assert figure.figure.mean == 48.9 and figure.differing == {"iterations": (20000, 300)}


def test_no_paper_has_figures_for_other_classes():
  photographs = changed(dm.get_config("cifar10,ipc=10"), dataset__name="folder")
  two = changed(dm.get_config("cifar10,ipc=10"), dataset__classes=("cat", "dog"))
  for config in (photographs, two):
    for images in ("synthetic", "random", "whole"):
      assert found(config, images) is None


def test_a_whitening_of_real_images_is_named():
  config = changed(dm.get_config("cifar10,ipc=10"), dataset__zca=True)
  assert found(config, "random").differing["dataset.zca"] == (False, True)


def test_real_images_and_other_networks():
  config = dm.get_config("cifar10,ipc=10")
  assert found(config, "random").figure.mean == 26.0
  assert found(config, "whole").figure.mean == 84.8
  assert found(config, network="alexnet") is not None


@pytest.mark.parametrize(
  ("config", "images", "network"),
  [
    (lambda: quickstart.get_config(), "synthetic", "convnet"),
    (lambda: dm.get_config("cifar10,ipc=7"), "synthetic", "convnet"),
    (lambda: dm.get_config("cifar10,ipc=10"), "synthetic", "mine.py:NET"),
    (lambda: dm.get_config("cifar10,ipc=10"), "synthetic", "mlp"),
  ],
)
def test_none_where_no_table_has_one(config, images, network):
  assert found(config(), images, network) is None  # no file of code is run


def test_nothing_is_said_of_configs_that_are_only_tried(tmp_path, caplog):
  make(tmp_path / "run", method="dm", dataset__name="cifar10")
  assert Follower([tmp_path / "run"]).look()[0][0].command is not None
  assert not caplog.records


def test_the_page_names_the_table(tmp_path):
  make(tmp_path / "run", dataset__name="mnist", network__width=128, network__depth=3)
  run = Follower([tmp_path / "run"]).look()[0][0]
  assert run.paper("synthetic", "convnet").table.startswith("DC, Table")
