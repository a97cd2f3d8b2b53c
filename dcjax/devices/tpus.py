"""TPUs that need not be here: libtpu compiles for them by their names."""

import os
from typing import NamedTuple

import jax
from jax.experimental import topologies

from dcjax.common.errors import UserError

_HOST = 8  # chips of one machine
# What libtpu asks of the machine it believes to be on, and waits for otherwise
_ELSEWHERE = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # it is for one process at a time otherwise
}


class Chip(NamedTuple):
  """A kind of TPU (Google's data sheets).

  Attributes:
    memory: bytes that programs may take, as libtpu says where there are too few.
    half: additions and multiplications in a second, of numbers of 16 bits.
    bandwidth: bytes to and from its memory in a second.
    cache: bytes of its vector memory.
  """

  memory: int
  half: float
  bandwidth: float
  cache: int


CHIPS = {
  "v5e": Chip(int(15.75 * 2**30), 197e12, 819e9, 128 * 2**20),
  "v6e": Chip(int(31.25 * 2**30), 918e12, 1640e9, 128 * 2**20),
}
PASSES = 6  # products of 16 bits, by which one of 32 bits is made


def devices(name: str, count: int) -> tuple[jax.Device, ...]:
  """Chips of one machine, to compile for.

  Args:
    name: an entry of `CHIPS`.
    count: how many.

  Raises:
    UserError: a machine has fewer, or libtpu is not installed.
  """
  if count > _HOST:
    raise UserError(f"--devices: {count}, but a machine has {_HOST} {name} at most; lower it")
  for variable, value in _ELSEWHERE.items():
    os.environ.setdefault(variable, value)
  sides, more = ("1x1", {"chips_per_host_bounds": (1, 1, 1)}) if count == 1 else ("2x4", {})
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=f"{name}:{sides}", **more
    ).devices
  except RuntimeError as error:
    if "not installed" in str(error):
      problem = "takes libtpu, but no TPU; pip install 'dcjax[tpu]'"
    else:
      problem = f"libtpu must start ({str(error).splitlines()[0]}); mend that"
    raise UserError(f"--device: to compile for {name} {problem}") from None
  return tuple(found[:count])
