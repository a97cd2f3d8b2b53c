"""The driver of `dcjax doctor`: what this machine has for runs, and what looks wrong.

It downloads nothing, and leaves nothing behind. It needs no jax to say that there is none.
"""

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from dcjax.common import quantities
from dcjax.common.activity import working
from dcjax.common.errors import UserError, gist
from dcjax.common.files import expand
from dcjax.common.version import __version__

PACKAGES = (
  "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "grain", "numpy",
)  # fmt: skip
LOW_DISK = 5 * 10**9  # bytes; the largest of the papers' datasets takes less, decoded
FULL_DISK = 10**8  # bytes with which a run cannot save its set and its checkpoints
LOW_MEMORY = 4 * 10**9  # bytes of the machine, or of a device
SMALLEST, LARGEST = 1024, 16_384  # sides of the product that is timed
STEP = 256  # of the side
GPU_SECONDS = 20  # to wait for the driver


def examine(
  *, data_dir: str = "", cache_dir: str = "", runs: str = "runs", side: int | None = None
) -> dict[str, Any]:
  """Looks at the machine.

  Args:
    data_dir: where datasets may be, as `dataset.data_dir`.
    cache_dir: as `dataset.cache_dir`.
    runs: the folder in which runs lie, beside which compiled programs are kept.
    side: of the matrices whose product is timed; None: so that it takes about a second.

  Returns:
    What `--json` prints: `versions`, `devices`, `folders`, `datasets`, `product` and `problems`,
    each with its `remedy`, and whether a run would fail for it (`broken`).

  Raises:
    UserError: there is no folder `data_dir`, or a path cannot be one.
  """
  report: dict[str, Any] = {
    "versions": versions(), "devices": [], "folders": {}, "datasets": {}, "product": None,
    "problems": [],
  }  # fmt: skip
  problems = report["problems"]
  problems += installation_problems()
  if problems:  # as the rest takes these packages
    return report
  report["devices"] = devices()
  problems += _device_problems(report["devices"])
  report["folders"] = folders(cache_dir, runs)
  problems += _folder_problems(report["folders"])
  report["datasets"] = datasets(data_dir, cache_dir)
  try:
    report["product"] = product(side)
  except Exception as error:  # whatever a driver raises
    remedy = "update its driver, or set JAX_PLATFORMS=cpu to do without"
    what = f"the device cannot multiply matrices ({gist(error)})"
    problems.append(_problem(what, remedy, broken=True))
  return report


def _problem(what: str, remedy: str, broken: bool = False) -> dict[str, Any]:
  return {"what": what, "remedy": remedy, "broken": broken}


def versions() -> dict[str, str | None]:
  """Of what numbers depend on; None: not installed."""
  found: dict[str, str | None] = {"dcjax": __version__, "python": platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      found[name] = None
  return found


def installation_problems() -> list[dict[str, Any]]:
  """Packages that are missing, and what keeps jax from computing here."""
  missing = [name for name, version in versions().items() if version is None]
  found = [_problem(f"{n} is not installed", f"pip install {n}", broken=True) for n in missing]
  try:
    import jax
  except Exception as error:  # of jaxlib, numpy or a driver, which may raise anything
    remedy = "pip install --upgrade --force-reinstall jax jaxlib"
    return [*found, _problem(f"jax cannot be loaded ({gist(error)})", remedy, broken=True)]
  try:
    jax.devices()
  except Exception as error:
    asked = os.environ.get("JAX_PLATFORMS", "")
    remedy = "unset that, or install the extra for the device, such as dcjax[cuda12]"
    what = f"jax finds no device with JAX_PLATFORMS={asked} ({gist(error)})"
    found.append(_problem(what, remedy, broken=True))
  return found


# --- Devices -----------------------------------------------------------------------------------


def devices() -> list[dict[str, Any]]:
  """The devices of this process by kind, with the memory of one, or of the machine, in bytes."""
  import jax

  from dcjax.common import environment

  kinds = Counter((each.platform, each.device_kind) for each in jax.local_devices())
  memory = environment.memory()
  found = []
  for (name, kind), number in kinds.items():
    shown = environment.processor() if name == "cpu" else kind
    found.append({"platform": name, "kind": shown, "number": number, "memory_bytes": memory})
  return found


def _device_problems(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
  unused = gpus() if {each["platform"] for each in found} == {"cpu"} else []
  if unused:
    asked = os.environ.get("JAX_PLATFORMS")
    remedy = f"unset JAX_PLATFORMS, which is {asked}" if asked else "pip install 'dcjax[cuda12]'"
    yield _problem(f"{unused[0]} is here, but jax computes on the CPU", remedy)
  for each in found:
    memory = each["memory_bytes"]
    if memory is not None and memory < LOW_MEMORY:
      remedy = "lower compute.image_block and compute.network_block, or take fewer images per class"
      yield _problem(f"{each['kind']} has little memory ({quantities.size(memory)})", remedy)


def gpus() -> list[str]:
  """The GPUs that NVIDIA's driver lists, whether or not jax can use them."""
  if not (command := shutil.which("nvidia-smi")):
    return []
  asking = [command, "--query-gpu=name", "--format=csv,noheader"]
  try:
    done = subprocess.run(asking, capture_output=True, text=True, timeout=GPU_SECONDS, check=True)
  except (OSError, subprocess.SubprocessError):  # a driver without a GPU
    return []
  return done.stdout.split("\n")[:-1]


def product(side: int | None = None) -> dict[str, Any]:
  """Times the product of two square matrices, once it has been compiled.

  Args:
    side: of the matrices; None: so that it takes about a second, as far as memory goes.

  Raises:
    ValueError: the product is wrong.
  """
  with working("timing a matrix product"):
    if side is None:
      side = _side_of_a_second(_seconds(SMALLEST))
    seconds = _seconds(side)
  return {
    "dtype": "float32", "side": side, "seconds": seconds, "gflops": 2 * side**3 / seconds / 1e9,
  }  # fmt: skip


def _side_of_a_second(seconds: float) -> int:
  """The side of matrices whose product takes a second, where one of `SMALLEST` takes so long."""
  from dcjax.common import environment

  matrix = (environment.memory() or 2**32) / 16  # bytes, of which there are three
  side = min(SMALLEST / seconds ** (1 / 3), LARGEST, (matrix / 4) ** 0.5)
  return max(STEP, int(side) // STEP * STEP)


def _seconds(side: int) -> float:
  """How long a product takes, of which the beginning of a row is checked."""
  import jax
  import numpy as np

  left, right = jax.random.normal(jax.random.key(0), (2, side, side))
  jax.block_until_ready(left @ right)  # compiles
  start = time.perf_counter()
  found = jax.block_until_ready(left @ right)
  seconds = time.perf_counter() - start
  exact = np.asarray(left[0], np.float64) @ np.asarray(right[:, :STEP], np.float64)
  error = np.abs(np.asarray(found[0, :STEP]) - exact).max()
  if not error < 0.05 * side**0.5:  # bfloat16 is within that, nan is not
    raise ValueError("the product of two matrices is wrong")
  return seconds


# --- Files -------------------------------------------------------------------------------------


def folders(cache_dir: str, runs: str) -> dict[str, dict[str, Any]]:
  """The folders that are written to, which need not be there yet."""
  import jax

  from dcjax.data import cache
  from dcjax.devices.compilation import NAME

  compiled = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
  folder = expand("--runs", runs).absolute()
  return {
    "datasets": _folder(cache.root(cache_dir).absolute()),
    "compiled programs": _folder(Path(compiled).absolute() if compiled else folder / NAME),
    "runs": _folder(folder),
  }


def _folder(path: Path) -> dict[str, Any]:
  """A folder, what is in it, and what its disk, or that of what is to hold it, has room for."""
  there = next(each for each in (path, *path.parents) if os.path.exists(each))
  try:
    with tempfile.TemporaryFile(dir=there):
      pass
    writable = True
  except OSError:
    writable = False
  return {
    "path": shown(path), "bytes": _bytes(path), "free_bytes": shutil.disk_usage(there).free,
    "writable": writable,
  }  # fmt: skip


def _bytes(folder: Path) -> int:
  """What the files below a folder take."""
  total = 0
  for at, _, names in os.walk(folder):
    for name in names:
      try:
        total += os.lstat(os.path.join(at, name)).st_size
      except OSError:  # gone meanwhile
        continue
  return total


def _folder_problems(found: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
  fields = {
    "datasets": "dataset.cache_dir", "compiled programs": "compute.cache_dir", "runs": "--workdir",
  }  # fmt: skip
  for name, each in found.items():
    other = f"give another folder in {fields[name]}"
    if not each["writable"]:
      what = f"{each['path']} cannot be written to"
      yield _problem(what, f"see to its permissions, or {other}", broken=name == "runs")
    elif each["free_bytes"] < LOW_DISK:
      what = f"the disk of {each['path']} has little room ({quantities.size(each['free_bytes'])})"
      full = each["free_bytes"] < FULL_DISK and name == "runs"
      yield _problem(what, f"free some, or {other}", broken=full)


def datasets(data_dir: str, cache_dir: str) -> dict[str, dict[str, Any]]:
  """The papers' datasets: where each is (None: not here), and bytes that it is downloaded as."""
  from dcjax.data import originals

  if data_dir and not expand("--data_dir", data_dir).exists():
    raise UserError(f"--data_dir: no folder {data_dir}; give one that is there, or none")
  found = {}
  for name in (*originals.NAMES, originals.SPEECH):
    try:
      path = originals.here(name, data_dir=data_dir, cache_dir=cache_dir)
    except OSError as error:
      raise UserError(
        f"{name}: cannot look into {error.filename} ({error.strerror}); see to its permissions, or "
        "give other --data_dir and --cache_dir"
      ) from None
    download = originals.published_size(name)
    found[name] = {"path": None if path is None else shown(path), "download_bytes": download}
  return found


def shown(path: Path) -> str:
  """A path, with `~` for the user's home."""
  try:
    home = Path.home()
  except RuntimeError:  # of a user without one
    return str(path)
  inside = home != Path(home.root) and path.is_relative_to(home)
  return str("~" / path.relative_to(home)) if inside else str(path)
