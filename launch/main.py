"""The command `dcjax`."""

import importlib
import os
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType

from dcjax.common.activity import Lines, working
from dcjax.common.errors import Interrupted, UserError, nearest
from dcjax.common.version import __version__

USAGE = f"""dcjax {__version__}: dataset condensation in JAX.

  dcjax condense --config configs/X.py --workdir W [--config.field=value ...]
      Condenses a dataset into W. The same command goes on with a run that was stopped; with more
      --config.iterations, also with a finished one.
  dcjax experts --config configs/mtt.py:cifar10,ipc=1 --workdir W [--config.experts.networks=10 ...]
      Trains networks on real images and keeps them after each epoch, for MTT, FTD and DATM:
      dcjax condense with the same --config and --config.experts.folder=W.
  dcjax select --method herding --workdir W [--config configs/coreset.py:cifar10,ipc=10 ...]
      Chooses real images instead: random, herding, k_center, forgetting or optimal_random; or
      rded, crops of them (--config configs/rded.py:cifar10,ipc=10).
  dcjax evaluate --synthetic W/synthetic.npz [--architectures convnet,mlp,lenet ...]
      Trains networks on a saved set and tests them on real images.
  dcjax compare --sets A.npz,B.npz --controls random,herding --labels hard,soft --workdir FOLDER
      Trains on sets and on real images with one budget: differences, intervals, scores.
  dcjax import FILE --dataset cifar10 --output set.npz [--range unit --factor 2 ...]
      Makes a set of the file of another program: DC's line, IDC, MTT, KIP, folders of images ...
  dcjax export --synthetic W/synthetic.npz --format png --output FOLDER
      Writes a set as PNG files, tensors for PyTorch, a table for Hugging Face, or a data card.
  dcjax status W [W2 ...]
      Shows the progress of runs: iterations, speed, accuracies. W may be a folder of runs.
  dcjax doctor [--json --data_dir FOLDER ...]
      Says what this machine has: versions, devices, datasets, speed, and what looks wrong.
  dcjax plan --config configs/X.py [--device h100 --devices 8 ...]
      Says whether a run fits in memory, and what it takes, here or on a GPU that is not here.
  dcjax plot KIND --workdirs W[,W2 ...] --output FILE
      Draws runs as PNG and PDF: grid, strip, loss, gradients, ipc, stages, matching or consistency.
  dcjax report W [W2 ...] --output report.html
      Makes one page of runs: numbers beside the papers', images over the iterations, curves,
      classes, configs. With --serve in place of --output it is live on this machine.
  dcjax table [--table dc/2 --workdir W --rows convnet --columns mlp,convnet --seeds 0,1 ...]
      Fills a table of the papers, cell by cell; without --table it lists them.
  dcjax continual --config configs/continual.py:digits,memory=dsa --workdir W
      Continual learning with memories of condensed or selected images.
  dcjax nas --config configs/nas.py --synthetic W/synthetic.npz --workdir W2
      Ranks 720 ConvNets by training them on small sets, and compares with the ranking on all data.
  dcjax COMMAND --help
      Shows the flags of a command.

Presets: configs/quickstart.py (handwritten digits, half a minute on two cores),
configs/fast.py:DATASET,ipc=N (a good set within minutes on two cores), and configs/dc.py, dsa.py,
dm.py, idc.py, idm.py, mtt.py, ftd.py, datm.py, rat_bptt.py, dd.py, ld.py, frepo.py, rcig.py,
kip.py, rded.py and coreset.py:DATASET,ipc=N, as in the papers. DATASET is mnist, fashion_mnist,
svhn, cifar10, cifar100, tiny_imagenet or usps (downloaded once). Further,
configs/speech.py:METHOD,ipc=N for spoken words, configs/imagenet.py:idc10,ipc=N for
folders of ImageNet, configs/method.py:NAME,DATASET for any method, also your own
(docs/extending.md); add `smoke` to try one within a minute. For the applications,
configs/continual.py and configs/nas.py likewise.
Outside a checkout the same names mean the presets of the package.
"""
COMMANDS = (
  "condense",
  "experts",
  "select",
  "evaluate",
  "compare",
  "import",
  "export",
  "status",
  "doctor",
  "plan",
  "plot",
  "report",
  "table",
  "continual",
  "nas",
)
BAD_INPUT = 2  # exit code
OUT_OF_MEMORY = (  # what `condense` does not say in its own words
  "compute: out of memory; take fewer or smaller images or networks at a time, for instance by "
  "compute.image_block or compute.network_block, and start the command again"
)
STOPPED = 130  # by Ctrl-C, as shells count
CLOSED = 141  # by SIGPIPE, likewise


def main() -> None:
  """Runs a command and exits; a user's mistake is one line and exit code 2."""
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)  # so soon that this module must import little
  try:
    run(sys.argv[1:])
    sys.stdout.flush()
  except UserError as error:
    print(f"dcjax: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(BAD_INPUT)
  except Interrupted as interrupted:
    print(f"dcjax: stopped by {interrupted}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(interrupted.exit_code)  # not waiting for what the device still computes
  except BrokenPipeError:
    if not _output_is_closed():
      raise
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(CLOSED)
  except Exception as error:
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
      raise
    print(f"dcjax: {OUT_OF_MEMORY}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def _output_is_closed() -> bool:
  """Whether nobody reads what is printed any more, as behind `| head`."""
  poll = select.poll()
  poll.register(sys.stdout.fileno(), 0)
  return any(event & select.POLLERR for _, event in poll.poll(0))


def _stop(number: int, frame: FrameType | None) -> None:
  """Ends the process where nothing is to be saved; modules that load would swallow an exception."""
  os.write(sys.stderr.fileno(), b"dcjax: stopped by SIGINT\n")
  os._exit(STOPPED)


def run(arguments: list[str]) -> None:
  """Runs `dcjax` with the arguments that follow its name."""
  if not arguments or arguments[0] in ("help", "--help", "-h", "--helpfull"):
    print(USAGE)
    return
  if arguments[0] == "--version":
    print(__version__)
    return
  command = arguments[0]
  if command not in COMMANDS:
    raise UserError(f"command: unknown '{command}'; {nearest(command, COMMANDS)}")
  _log_plainly()
  main_of(command)(arguments)


def main_of(command: str) -> Callable[[list[str]], None]:
  """The main function of a command, whose module is loaded first; with most, jax as well."""
  name = f"dcjax.launch.{'import_' if command == 'import' else command}"
  if name in sys.modules:
    return sys.modules[name].main
  with working("loading jax and the rest"):
    return importlib.import_module(name).main


def _log_plainly() -> None:
  """Shows dcjax' own progress, and of other packages only what they warn of."""
  import logging

  from absl import logging as absl_logging

  logging.basicConfig(handlers=[Lines()])
  absl_logging.set_verbosity(absl_logging.WARNING)
  # Orbax' threads and tasks log with a traceback what Orbax raises as well.
  # TensorFlow Datasets recommends OpenCV, which changes pixels of JPEG files.
  absl_logging.get_absl_logger().addFilter(
    lambda record: "orbax" not in record.pathname and "OpenCV" not in record.getMessage()
  )
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  shown = sys.unraisablehook
  # What tensorstore's threads say of a loop that Orbax has closed at the first error.
  closed = "Event loop is closed"
  sys.unraisablehook = lambda error: None if str(error.exc_value) == closed else shown(error)


if __name__ == "__main__":
  main()
