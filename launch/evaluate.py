"""`dcjax evaluate`: the flags of an evaluation of a saved set."""

from typing import Any

from absl import flags
from dcjax.launch import command_line

from dcjax.commands.evaluate import keep, records
from dcjax.common.files import check_new, expand
from dcjax.common.registry import NETWORKS
from dcjax.evaluation.protocols import PROTOCOLS
from dcjax.figures import accuracies
from dcjax.nn.architectures import SETS


def main(arguments: list[str]) -> None:
  """Runs `dcjax evaluate` with its arguments, and prints the table of accuracies."""
  values = command_line.parse(_flags, arguments, required=("synthetic",))
  options = command_line.given(values)
  path, output = options.pop("synthetic"), options.pop("output", None)
  unfinished = None
  if output:
    output = expand("--output", output)
    check_new("--output", output)
    unfinished = output.with_name(f"{output.name}.unfinished")
  found: list[dict[str, Any]] = []
  try:
    found.extend(records(path, unfinished=unfinished, **options))
  finally:  # also of an evaluation that is stopped
    if found:
      print(accuracies.table(found))
  if unfinished:
    keep(output, {"synthetic": path, "evaluations": found})
    unfinished.unlink()


def _flags() -> flags.FlagValues:
  """The flags; those that are not given leave what the set's own run had."""
  text = {
    "synthetic": "File of the set: a run's synthetic.npz.",
    "data_dir": "Where the dataset is on this machine; what the set's run had is not followed.",
    "dataset": "The set's dataset, where that is a function in a Python file: FILE.py:NAME.",
    "cache_dir": "Where the decoded dataset is kept; by default ~/.cache/dcjax.",
    "protocol": f"Protocol of the evaluation: {', '.join(PROTOCOLS)}.",
    "augmentation": "What networks are trained with: none, dc, imagenet, or transforms: crop_flip.",
    "teacher": "Network that is trained on all real images and labels each batch; '': none.",
    "output": "JSON file for the results, not there yet; until all are done it is FILE.unfinished.",
  }
  number = {
    "networks": "How many networks to train on each set.",
    "epochs": "Passes over the set.",
    "batch": "Images of a step.",
    "teacher_epochs": "Passes of the teacher over the real images.",
    "checks": "How often each network is tested, for the best accuracy.",
    "seed": "Seed of the networks and of the random subsets.",
  }
  networks = (
    f"Networks ({', '.join(NETWORKS)}; convnet:width=64; FILE.py:NAME) or sets of them: "
    f"{', '.join(SETS)}."
  )
  divided = "What logits are divided by in the loss; by default the set's or the protocol's."
  real = {
    "lr": "Learning rate at first; by default that of the set if it has one, else the protocol's.",
    "temperature": divided,
    "cutmix": "Probability of CutMix for each batch; 0: never.",
  }
  yes = {
    "same_steps": "No more training steps than on the stored images, where a set decodes to more.",
    "whole": "Also train on the full training set.",
  }
  return command_line.optional(
    {
      flags.DEFINE_string: text,
      flags.DEFINE_integer: number,
      flags.DEFINE_list: {"architectures": networks},
      flags.DEFINE_float: real,
      flags.DEFINE_bool: yes,
    }
  )
