"""Several processes that run as one: each starts the same command, and all hold one mesh.

All do the same work in the same order, so that none waits for what another does not do; files are
written by the first alone.
"""

import ipaddress
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dcjax.common.errors import UserError, check_least, check_most

MOST = 10**6  # processes
AUTOMATIC = "auto"  # the coordinator, where the cluster's environment tells


def join(coordinator: str | None, count: int | None, number: int | None) -> None:
  """Makes this process one of several; before anything is computed.

  Args:
    coordinator: `HOST:PORT` of the first process, 'auto' for what SLURM, Open MPI or a TPU pod
      tells of all three, or None for a process alone.
    count: of processes.
    number: of this one, from 0.

  Raises:
    UserError: the arguments do not fit each other, or the others cannot be reached.
  """
  if coordinator is None:
    if count is not None or number is not None:
      raise UserError("--coordinator: missing; give HOST:PORT of the first process, or auto")
    return
  arguments: dict[str, Any] = {}
  if coordinator != AUTOMATIC:
    if count is None or number is None:
      raise UserError("--processes, --process: missing; give how many there are and which is this")
    check_least("--processes", count, 1)
    check_most("--processes", count, MOST)
    check_least("--process", number, 0)
    check_most("--process", number, count - 1)
    arguments = {"coordinator_address": coordinator, "num_processes": count, "process_id": number}
    arguments |= _listening(coordinator)
  try:
    jax.distributed.initialize(**arguments)
  except (RuntimeError, ValueError) as error:
    reason = (str(error).splitlines() or [""])[0]
    raise UserError(f"--coordinator: cannot join the other processes ({reason})") from None


def _listening(coordinator: str) -> dict[str, str]:
  """Where the first process listens: where an address is given as numbers, there alone.

  A name may stand for another address here than on the other machines: then jax listens on all.

  Raises:
    UserError: there is no port.
  """
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdecimal() or not 0 < int(port[:6]) < 2**16:
    raise UserError(f"--coordinator: '{coordinator}' has no port; write HOST:PORT, or auto")
  try:
    ipaddress.ip_address(host.strip("[]"))
  except ValueError:
    return {}
  return {"coordinator_bind_address": coordinator}


def is_first() -> bool:
  """Whether this process is the one that writes files."""
  return not several() or jax.process_index() == 0


def several() -> bool:
  """Whether this process has joined others."""
  return jax.distributed.is_initialized()


def highest(number: float) -> float:
  """The highest of the numbers that all processes give; each must call this."""
  if not several():
    return number
  return float(multihost_utils.process_allgather(np.float32(number)).max())


def meet(place: str) -> None:
  """Goes on when all processes are here; `place` names where."""
  if several():
    multihost_utils.sync_global_devices(place)


def to_host(array: jax.Array) -> np.ndarray:
  """An array whose parts may lie with several processes, whole; then each must call this."""
  if array.is_fully_addressable or array.is_fully_replicated:
    return np.asarray(array)
  return np.asarray(multihost_utils.process_allgather(array, tiled=True))
