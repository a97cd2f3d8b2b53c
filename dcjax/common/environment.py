"""What a run computes on, and with: hardware and versions."""

import os
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from dcjax.common.errors import UserError
from dcjax.common.version import __version__

_MAXRSS = 1 if sys.platform == "darwin" else 1024  # bytes in its unit


def hardware() -> dict[str, Any]:
  """What this process computes on."""
  device = jax.devices()[0]
  return {
    "backend": jax.default_backend(),
    "device": device.device_kind,
    "devices": jax.device_count(),
    "processor": processor(),
    "cores": cores(),
  }


def check_backend() -> None:
  """Raises `UserError` if jax was told to use a device that it does not find here."""
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # the latter without a word
    reason = (str(error).splitlines() or ["there is none"])[0]
    asked = jax.config.jax_platforms  # type: ignore[attr-defined]
    raise UserError(
      f"JAX_PLATFORMS: jax cannot compute on '{asked}' here ({reason}); unset "
      "it, or install the extra for the device, such as dcjax[cuda12]"
    ) from None


def cores() -> int | None:
  """How many cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def memory() -> int | None:
  """Bytes of a device's memory, or of this machine's where the device has none; None: unknown."""
  if limit := (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit"):
    return limit
  known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else None


def peak_memory() -> int:
  """The most bytes of the device's memory that were in use; of a CPU, that this process has had."""
  if peak := (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use"):
    return peak
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS


def processor() -> str:
  """The processor's name, where Linux tells it; else its kind."""
  information = Path("/proc/cpuinfo")
  lines = information.read_text().splitlines() if information.exists() else []
  names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
  """The versions of what the numbers depend on."""
  packages = ("jax", "jaxlib", "flax", "optax", "numpy")
  installed = {name: metadata.version(name) for name in packages}
  return {"dcjax": __version__, "python": platform.python_version(), **installed}
