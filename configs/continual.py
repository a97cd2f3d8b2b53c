"""Continual learning with condensed memories: does a memory of condensed images forget less?

  dcjax continual --config configs/continual.py:digits,memory=dsa --workdir runs/digits-dsa
  dcjax continual --config configs/continual.py:gdumb,memory=dm,steps=10 --workdir runs/gdumb-dm
  dcjax continual --config configs/continual.py:growing,memory=idc --workdir runs/growing-idc

`digits` (DC, section 3.2; DSA, section 4.5; IDC, Appendix C.3): SVHN, MNIST and USPS in turn, 10
images per class, with distillation (`--config.continual.distillation=0`: without). Other datasets:
`--config.continual.sequence=digits,mnist,PATH/mine.npz`. Accuracy in DSA after the last stage,
without distillation: DSA 94.4, 1.4 more than DC and 3.7 more than herding. Memories of herding are
greedy, as iCaRL's; `--config.selection.herding=nearest` is DC's baseline.

`gdumb` (DM's supplement, section 1.2; IDM, section 5.6): CIFAR-100 in 5 or 10 steps, 20 images per
class, a network from scratch on the memory at each. Accuracy in IDM at the end, 5 / 10 steps:
random 24.8 / 25.2, DSA 31.0 / 29.8, DM 33.8 / 33.7, IDM 39.3 / 39.3.

`growing` (IDC, section 5.3): the same, but ConvNet-3 and ResNet-10, of 32 to 256 filters as in the
authors' code (`--config.network.filters=64` for more) and initialised as there, go on learning from
stage to stage, held by distillation. IDC-I: `--config.formation.factor=1`.

All are means over five runs, `--config.continual.runs=5`.
"""

from ml_collections import ConfigDict

from dcjax.applications.continual.fields import default
from dcjax.common.errors import UserError, nearest
from dcjax.config import presets

SCENARIOS = {"digits": "rehearsal", "gdumb": "gdumb", "growing": "growing"}


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset.

  The argument names a scenario, `memory=METHOD`, for classes in steps `steps=N` and a dataset, and
  `ipc=N` and `smoke`, all optional.
  """
  given = _words(argument)
  scenario = given.get("scenario", "gdumb")
  config = default(SCENARIOS[scenario], given.get("memory", "dm"))
  if scenario == "digits" and given.keys() & {"dataset", "steps"}:
    raise UserError(
      "config argument: digits has neither a dataset nor steps; give --config.continual.sequence"
    )
  if "dataset" in given:
    presets.take_dataset(config, given["dataset"])
  if "ipc" in given:
    config.ipc = int(given["ipc"])
  if "steps" in given:
    config.continual.steps = int(given["steps"])
  if "smoke" in given:
    presets.smoke(config)
    config.continual.runs = 1
    if scenario != "digits" and "steps" not in given:
      config.continual.steps = 2  # each compiles
    if scenario == "growing":
      config.evaluation.architectures = ("convnet", "mlp")  # resnet10 takes long to compile
    if scenario == "digits":
      config.continual.training.iterations = config.continual.finetuning.iterations = 2
  return config


def _words(argument: str | None) -> dict[str, str]:
  """The words of the argument of continual learning, by what each of them says."""
  given: dict[str, str] = {}
  kinds = dict.fromkeys(SCENARIOS, "scenario") | dict.fromkeys(presets.DATASETS, "dataset")
  for word in filter(None, (argument or "").replace(" ", "").split(",")):
    name, _, value = word.partition("=")
    kind = kinds.get(word, name)
    number = kind in ("ipc", "steps") and value.isdecimal()
    if word not in (*kinds, "smoke") and not number and not (kind == "memory" and value):
      known = (*kinds, "memory=dsa", "steps=5", "ipc=20", "smoke")
      raise UserError(f"config argument: unknown '{word}'; {nearest(word, known)}")
    if kind in given:
      raise UserError(f"config argument: '{word}' comes second; name one {kind}")
    given[kind] = value or word
  return given
