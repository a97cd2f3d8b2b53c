"""`dcjax compare`: the flags of a comparison of sets and real images."""

from absl import flags
from dcjax.launch import command_line

from dcjax.commands import compare
from dcjax.commands.compare import budget
from dcjax.commands.compare.options import Options
from dcjax.common.files import expand
from dcjax.evaluation.attacks import ATTACKS
from dcjax.evaluation.protocols import PROTOCOLS


def main(arguments: list[str]) -> None:
  """Runs `dcjax compare` with its arguments, and prints the table."""
  values = command_line.parse(_flags, arguments, required=("sets", "workdir"))
  given = command_line.given(values)
  workdir = expand("--workdir", given.pop("workdir"))
  lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
  if "rates" in lists:
    lists["rates"] = command_line.numbers("rates", given["rates"], "give 0.1,0.01")
  compare.compare(Options(**{**given, **lists}), workdir)
  print((workdir / "table.md").read_text(), end="")
  print(f"Everything is in {workdir}")


def _flags() -> flags.FlagValues:
  """The flags; those that are not given leave what `Options` says."""
  lists = {
    "sets": "Files of sets, each a run's synthetic.npz, with commas between them.",
    "controls": f"Real images beside them: {', '.join(budget.CONTROLS)}; by default random.",
    "labels": "hard, soft or both: soft ones a teacher gives each batch; by default hard.",
    "rates": "Learning rates, of which --validation chooses one for each row.",
    "attacks": f"Also test under: {', '.join(ATTACKS)}.",
  }
  text = {
    "equal": "What all rows store as much of: images (by default) or bytes.",
    "network": "Network that is trained; by default that of the first set: convnet:norm=batch.",
    "protocol": f"By which, with hard labels: {', '.join(PROTOCOLS)}; by default dsa.",
    "teacher": "Network that is trained on all real images and labels each batch.",
    "workdir": "Folder for compare.json, table.md, .html, .tex and .csv, and figure.png; the same "
    "command goes on in it.",
    "dataset": "The sets' dataset, where that is a function in a Python file: FILE.py:NAME.",
    "data_dir": "Where the dataset is on this machine; what a set's run had is not followed.",
    "cache_dir": "Where the decoded dataset is kept; by default ~/.cache/dcjax.",
  }
  number = {
    "networks": "How many networks to train on each set and on each draw of a control.",
    "draws": "Draws of each control.",
    "epochs": "Passes over the images that a set stores; all rows take the steps of these.",
    "checks": "How often each network is tested, evenly over its training.",
    "validation": "Training images held out, by which learning rate and check are chosen.",
    "teacher_epochs": "Passes of the teacher over the real images.",
    "seed": "Seed of networks, draws and teacher.",
  }
  share = {
    "epsilon": "Most that an attack changes a pixel in [0, 1] by; by default 2/255.",
    "weight": "Of the improvement over random images in the scores; by default 0.5.",
  }
  scores = "Also compute the label-robust and the augmentation-robust score of each set."
  return command_line.optional(
    {
      flags.DEFINE_list: lists,
      flags.DEFINE_string: text,
      flags.DEFINE_integer: number,
      flags.DEFINE_float: share,
      flags.DEFINE_bool: {"scores": scores},
    }
  )
