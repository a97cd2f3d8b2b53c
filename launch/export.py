"""`dcjax export`: the flags of a set for other programs."""

from absl import flags
from dcjax.launch import command_line

from dcjax.commands.exchange import exports
from dcjax.common.errors import UserError, check_name, gist
from dcjax.common.files import check_new, expand
from dcjax.sets.synthetic import SyntheticSet


def main(arguments: list[str]) -> None:
  """Runs `dcjax export` with its arguments, and says what it wrote."""
  values = command_line.parse(_flags, arguments, required=("synthetic", "format", "output"))
  check_name("--format", values.format, exports.FORMATS)
  synthetic, output = SyntheticSet.load(values.synthetic), expand("--output", values.output)
  check_new("--output", output)
  try:
    exports.FORMATS[values.format](synthetic, output)
  except (OSError, UnicodeError) as error:  # also names of classes that no file can have
    raise UserError(
      f"--output: cannot write {output} ({gist(error)}); mend that, give a new name, start again"
    ) from None
  print(f"Wrote {output}")
  if values.format in exports.LOSSY and (share := exports.clipped_share(synthetic)):
    print(
      f"{100 * share:.2f} % of the numbers are darker than black or brighter than white, and were "
      "clipped; --format=pt and safetensors keep them"
    )


def _flags() -> flags.FlagValues:
  text = {
    "synthetic": "File of the set: a run's synthetic.npz.",
    "format": f"One of {', '.join(exports.FORMATS)}.",
    "output": "What to write: a folder for png and hf, else a file; not there yet.",
  }
  return command_line.optional({flags.DEFINE_string: text})
