"""What a comparison is asked for, and the config that follows from it."""

from typing import NamedTuple

from ml_collections import ConfigDict

from dcjax.commands.compare import budget
from dcjax.commands.compare.budget import HARD, SOFT
from dcjax.commands.evaluate import config_of
from dcjax.common.errors import (
  UserError,
  check_least,
  check_name,
  check_positive,
  check_probability,
)
from dcjax.config import SEEDS
from dcjax.evaluation.attacks import ATTACKS, EPSILON
from dcjax.evaluation.protocols import PROTOCOLS
from dcjax.evaluation.scores import WEIGHT
from dcjax.nn import architectures
from dcjax.sets.synthetic import SyntheticSet


class Options(NamedTuple):
  """What a comparison is asked for.

  Attributes:
    sets: files of sets.
    controls: entries of `budget.CONTROLS`.
    labels: 'hard', and 'soft' that a teacher gives each batch.
    equal: an entry of `budget.EQUAL`.
    networks: trained on each set, and on each draw of a control.
    draws: of each control.
    network: that is trained; empty: that of the first set.
    protocol: of hard labels; soft ones have 'soft'.
    epochs: passes over the stored images of a row; None: the protocol's.
    checks: tests of each network, evenly over its training.
    validation: training images by which learning rate and check are chosen; 0: neither is.
    rates: learning rates; empty: the protocol's.
    teacher: see `config.evaluation`.
    teacher_epochs: of the teacher, and of the networks trained on all images for `scores`.
    scores: whether to compute LRS and ARS.
    weight: of the improvement over random images in those.
    attacks: entries of `attacks.ATTACKS`.
    epsilon: see `evaluation.EvaluationSettings`.
    seed: of networks, draws and teacher.
    data_dir: where the dataset is on this machine.
    cache_dir: where it is kept once it is decoded.
    dataset: `FILE.py:NAME`, where the sets' dataset is one.
  """

  sets: tuple[str, ...]
  controls: tuple[str, ...] = ("random",)
  labels: tuple[str, ...] = (HARD,)
  equal: str = "images"
  networks: int = 5
  draws: int = 3
  network: str = ""
  protocol: str = budget.LABELS[HARD]
  epochs: int | None = None
  checks: int = 4
  validation: int = 0
  rates: tuple[float, ...] = ()
  teacher: str = "convnet:norm=batch"
  teacher_epochs: int = 50
  scores: bool = False
  weight: float = WEIGHT
  attacks: tuple[str, ...] = ()
  epsilon: float = EPSILON
  seed: int = 0
  data_dir: str = ""
  cache_dir: str = ""
  dataset: str = ""


def check(options: Options) -> None:
  """Raises `UserError` for options that no comparison can have."""
  if not options.sets:
    raise UserError("--sets: names no file; give the synthetic.npz of one run or more")
  for name in options.controls:
    check_name("--controls", name, budget.CONTROLS)
  for name in options.labels:
    check_name("--labels", name, budget.LABELS)
  if not options.labels:
    raise UserError("--labels: empty; give hard, soft or both")
  check_name("--equal", options.equal, budget.EQUAL)
  for name in options.attacks:
    check_name("--attacks", name, ATTACKS)
  for field in ("networks", "draws", "checks", "teacher_epochs"):
    check_least(f"--{field}", getattr(options, field), 1)
  if options.epochs is not None:
    check_least("--epochs", options.epochs, 1)
  check_least("--seed", options.seed, 0)
  check_name("--protocol", options.protocol, PROTOCOLS)
  if options.network:
    architectures.check_one("--network", options.network)
  if SOFT in options.labels:
    if not options.teacher:
      raise UserError("--teacher: empty, but --labels has soft; name a network")
    architectures.check_one("--teacher", options.teacher)
    if options.validation and architectures.is_trained(options.teacher):
      raise UserError(
        f"--validation: the teacher {options.teacher} has seen the images that would be held out; "
        "leave one of them out"
      )
  if options.seed + options.draws > SEEDS:
    raise UserError(
      f"--seed: {options.seed} has no {options.draws} seeds up to {SEEDS - 1} from it on, one for "
      "each of --draws; give less"
    )
  check_least("--validation", options.validation, 0)
  for rate in options.rates:
    check_positive("--rates", rate)
  if len(options.rates) > 1 and not options.validation:
    raise UserError(
      f"--rates: {len(options.rates)} of them, and nothing to choose one by; give --validation, "
      "how many training images are held out for it"
    )
  check_probability("--weight", options.weight)
  check_probability("--epsilon", options.epsilon)
  if options.scores and not ({"random"} <= set(options.controls) and HARD in options.labels):
    raise UserError(
      "--scores: LRS and ARS are made of random images and of hard labels; have random among "
      "--controls, and hard among --labels"
    )
  if options.protocol == SOFT:
    raise UserError("--protocol: soft is that of soft labels; give --labels=soft")


def config_for(synthetic: SyntheticSet, options: Options, labels: str) -> ConfigDict:
  """The config that all rows of one kind of labels are trained by."""
  changes = {
    "protocol": SOFT if labels == SOFT else options.protocol,
    "networks": options.networks,
    "checks": options.checks,
    "architectures": (options.network,) if options.network else (),
    "teacher": options.teacher if labels == SOFT else "",
    "teacher_epochs": options.teacher_epochs,
    "same_steps": False,
  }
  if options.epochs is not None:
    changes["epochs"] = options.epochs
  try:
    return config_of(synthetic, options.seed, changes, options.dataset, any_method=True)
  except UserError as error:
    raise UserError(str(error).replace("--architectures", "--network")) from None
