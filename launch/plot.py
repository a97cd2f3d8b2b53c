"""`dcjax plot`: the flags of a picture."""

from collections.abc import Callable
from functools import partial

from absl import flags
from dcjax.launch import command_line

from dcjax.commands.plot import KINDS, write
from dcjax.common.errors import UserError, check_name

HELP = """dcjax plot KIND --workdirs W[,W2 ...] --output FILE
  grid         the images of a run before its first iteration and after its last
  strip        one image of each class over the iterations
  loss         loss and accuracy over the iterations, also of runs that go on
  gradients    norms of the gradients of real and synthetic images, of DC or DSA
  ipc          accuracy against images per class
  stages       accuracy after each stage of continual learning
  matching     the matching loss by images per class and resolution, of DC or DSA
  consistency  share of a synthetic image's real neighbours that are of its class
  dcjax plot KIND --help shows the flags of a kind.
"""


def main(arguments: list[str]) -> None:
  """Runs `dcjax plot` with its arguments, and says what it wrote."""
  command, *rest = arguments
  if rest[:1] in (["--help"], ["-help"], ["-h"]):
    print(HELP)
    return
  if not rest or rest[0].startswith("-"):
    raise UserError(f"plot: no kind of picture; begin with one of: {', '.join(KINDS)}")
  kind = rest.pop(0)
  check_name("plot", kind, KINDS)
  values = command_line.parse(
    partial(_flags, kind), [f"{command} {kind}", *rest], required=("workdirs", "output")
  )
  options = command_line.given(values)
  files = write(kind, options.pop("workdirs"), options.pop("output"), **options)
  print(f"Wrote {' and '.join(map(str, files))}")


def _flags(kind: str) -> flags.FlagValues:
  """The flags of a kind; those that are not given leave the defaults of its function."""
  values = flags.FlagValues()
  several = "Folder of the run." if kind == "grid" else "Folders of runs, with commas between."
  flags.DEFINE_list("workdirs", None, several, flag_values=values)
  text = "File to write as .png and as .pdf; neither must be there yet."
  flags.DEFINE_string("output", None, text, flag_values=values)
  for name, (define, kinds, meaning) in _OPTIONS.items():
    if kind in kinds:
      define(name, None, meaning, flag_values=values)
  return values


_LOADING = ("gradients", "matching", "consistency")  # kinds that need the dataset
_OPTIONS: dict[str, tuple[Callable[..., object], tuple[str, ...], str]] = {
  "classes": (flags.DEFINE_list, ("grid", "strip"), "Names of the classes to show."),
  "labels": (
    flags.DEFINE_list,
    ("strip", "gradients", "loss", "stages", "consistency"),
    "Titles, one a run.",
  ),
  "networks": (
    flags.DEFINE_integer,
    ("gradients", "matching"),
    "Networks whose gradients are taken.",
  ),
  "sides": (flags.DEFINE_list, ("matching",), "Resolutions in pixels, such as 8,16,32."),
  "epochs": (
    flags.DEFINE_integer,
    ("consistency",),
    "Passes over the real images of the network that compares; 0: a random one.",
  ),
  "data_dir": (
    flags.DEFINE_string,
    _LOADING,
    "Where the dataset is on this machine; what the run had is not followed.",
  ),
  "cache_dir": (
    flags.DEFINE_string,
    _LOADING,
    "Where the decoded dataset is kept; by default ~/.cache/dcjax.",
  ),
}
