"""`dcjax import`: the flags of a set of another program."""

from absl import flags
from dcjax.launch import command_line

from dcjax.commands.exchange.importing import import_set
from dcjax.commands.exchange.meaning import FORMATIONS
from dcjax.commands.exchange.readers import LAYOUTS
from dcjax.common.errors import UserError
from dcjax.config.presets import DATASETS
from dcjax.data.zca import VARIANTS
from dcjax.sets import labels

HELP = "\n".join([
  "dcjax import FILE takes",
  *(f"  {name:8} {what}" for name, what in LAYOUTS.items()),
])  # fmt: skip


def main(arguments: list[str]) -> None:
  """Runs `dcjax import` with its arguments, and says what it wrote."""
  command, *rest = arguments
  source = rest.pop(0) if rest and not rest[0].startswith("-") else None
  values = command_line.parse(
    _flags, [command, *rest], required=("dataset", "output"), more=lambda: HELP
  )
  if not source:
    raise UserError("import: no file; begin with one: dcjax import FILE --dataset=... --output=...")
  options = command_line.given(values)
  for name in ("mean", "std"):
    if name in options:
      options[name] = command_line.numbers(name, options[name], "give one a channel")
  output = options.pop("output")
  synthetic = import_set(source, output, **options)
  shape = "x".join(map(str, synthetic.images.shape[2:]))
  kind = synthetic.metadata.get("label_kind", "hard")
  print(
    f"Wrote {output}: {synthetic.images.shape[0]} classes of {synthetic.images.shape[1]} images of "
    f"{shape}, {synthetic.metadata['range']}, labels {kind}, {synthetic.stored_bytes():,} bytes"
  )


def _flags() -> flags.FlagValues:
  """The flags; those that are not given leave what the layout says."""
  text = {
    "dataset": f"What it was made of: {', '.join(DATASETS)}, or a dataset.name.",
    "output": "File to write, .npz, not there yet.",
    "data_dir": "Where the dataset is on this machine.",
    "cache_dir": "Where the decoded dataset is kept; by default ~/.cache/dcjax.",
    "range": "What the numbers are: unit (pixels in [0, 1]), normalised or whitened.",
    "whitening": f"Whose whitening it is: {', '.join(VARIANTS)}.",
    "labels": f"What labels are that are no integers: {', '.join(labels.KINDS[1:])}.",
    "formation": f"How stored images are cut: {', '.join(FORMATIONS)}; uniform by default.",
    "method": "What made it, for tables.",
    "licence": "Of the file, for the data card.",
  }
  number = {
    "factor": "Tiles along a side of a stored image: 2 of IDC, NCFM, DREAM and IDM.",
    "side": "Height and width of images from folders, as dataset.side: 128 of MTT's from ImageNet.",
    "test_resize": "Short side of test images from folders before their centre is cut out, as "
    "dataset.test_resize: 256 of RDED's from ImageNet.",
    "experiment": "Which of the sets in a res_*.pt, counted from 0.",
    "check_epochs": "Of the network that checks the set, 100 by default; 0: no check.",
  }
  each = "The {} that pixels were normalised with, one a channel, with commas between."
  lists = {name: each.format(name) for name in ("mean", "std")} | {
    "classes": "Of the dataset, in the order in which the file counts them, or a .txt that has one "
    "a line."
  }
  return command_line.optional(
    {flags.DEFINE_string: text, flags.DEFINE_integer: number, flags.DEFINE_list: lists}
  )
