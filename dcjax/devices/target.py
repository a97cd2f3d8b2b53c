"""The devices that a run is planned for: this process's own, or a GPU or TPU that is not there.

XLA compiles for a GPU from a description of it; what it has compiled cannot run, but its memory and
its kernels can be read. That takes the CUDA plugin of jax, and no GPU; for a TPU, libtpu (`tpus`).
"""

import os
import re
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from dcjax.common import environment
from dcjax.common.errors import UserError, check_positive
from dcjax.common.files import expand
from dcjax.devices import tpus

OWN = "cpu"
GPUS = ("h100", "a100", "t4")  # files of `descriptions/`
DESCRIBED = (*GPUS, *tpus.CHIPS)
# Multiplications with additions of one multiprocessor in a cycle, in TF32 on tensor cores, by
# compute capability (NVIDIA's data sheets of A100, RTX 3090 and 4090, H100 and B200, without
# sparsity); what is not here has none. In 16 bits tensor cores do twice as many.
_TENSOR_CORES = {(8, 0): 512, (8, 6): 128, (8, 9): 128, (9, 0): 1024, (10, 0): 2048}
SHARE, _USUAL_SHARE = "XLA_PYTHON_CLIENT_MEM_FRACTION", "0.75"
_HALF = 2
_BY_LIBRARY = "--xla_gpu_enable_triton_gemm=false"
_HALF_ALONE = 512  # of tensor cores that know 16 bits alone, as a T4's


class Peak(NamedTuple):
  """What a device can do at most.

  Attributes:
    exact: additions and multiplications in a second, of numbers of 32 bits.
    rounded: likewise of numbers that are rounded first, to TF32, or on a TPU to 16 bits.
    half: likewise of numbers of 16 bits.
    bandwidth: bytes to and from its memory in a second.
    cache: bytes that it keeps beside its memory.
  """

  exact: float
  rounded: float
  half: float
  bandwidth: float
  cache: int


class Target(NamedTuple):
  """Devices of one kind.

  Attributes:
    name: of the kind.
    backend: 'cpu', 'gpu' or 'tpu'.
    devices: those of a description; empty: this process's own.
    memory: bytes of each device that jax takes; None: not known.
    peak: None: not known.
  """

  name: str
  backend: str
  devices: tuple[jax.Device, ...]
  memory: int | None
  peak: Peak | None = None

  @property
  def is_here(self) -> bool:
    """Whether it is this process's own, so that programs can run."""
    return not self.devices


def here() -> Target:
  """The devices of this process."""
  device = jax.devices()[0]
  name = environment.processor() if device.platform == "cpu" else device.device_kind
  return Target(name, jax.default_backend(), (), environment.memory())


def described(device: str, count: int = 1) -> Target:
  """GPUs or TPUs that need not be there.

  Args:
    device: an entry of `DESCRIBED`, or a file with a text of XLA's `GpuTargetConfigProto`.
    count: how many.

  Raises:
    UserError: there is no such description, it is none, or what compiles for it is not installed.
  """
  return _tpu(device, count) if device in tpus.CHIPS else _gpu(device, count)


def _tpu(name: str, count: int) -> Target:
  chip, devices = tpus.CHIPS[name], tpus.devices(name, count)
  peak = Peak(chip.half / tpus.PASSES, chip.half, chip.half, chip.bandwidth, chip.cache)
  return Target(devices[0].device_kind, "tpu", devices, chip.memory, peak)


def _gpu(device: str, count: int) -> Target:
  text = _text(device)
  os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # the plugin asks for a driver otherwise
  # Kernels of Triton are chosen by timing them; without, XLA fails at some products
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_BY_LIBRARY}".strip()
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else it warns that nothing was timed
  try:
    topology = topologies.get_topology_desc(
      device, "cuda", target_config=text, topology=f"1x1x{count}"
    )
  except NotImplementedError:
    raise UserError(
      f"--device: to compile for {device} takes the CUDA plugin of jax, but no GPU; "
      "pip install 'dcjax[cuda12]'"
    ) from None
  except jax.errors.JaxRuntimeError as error:
    raise UserError(
      f"--device: {device} describes no GPU ({str(error).splitlines()[0]}); give "
      f"{', '.join(DESCRIBED)}, or a file like those of GPUs"
    ) from None
  cores, clock = _number(text, "core_count"), _number(text, "clock_rate_ghz") * 1e9
  version = int(_number(text, "major")), _minor(text)
  first: Any = topology.devices[0]
  plain = _number(text, "fpus_per_core")
  rate = 2 * cores * clock
  tensor = _TENSOR_CORES.get(version)
  return Target(
    name=first.device_kind,
    backend="gpu",
    devices=tuple(topology.devices),
    memory=int(_number(text, "device_memory_size") * _share()),
    peak=Peak(
      exact=rate * plain,
      rounded=rate * (tensor or plain),
      half=rate * (tensor * _HALF if tensor else max(plain, _HALF_ALONE)),
      bandwidth=_number(text, "memory_bandwidth"),
      cache=int(_number(text, "l2_cache_size")),
    ),
  )


def _share() -> float:
  """Of a GPU's memory, what jax takes."""
  return _positive(SHARE, os.environ.get(SHARE, _USUAL_SHARE))


def _text(device: str) -> str:
  if device in GPUS:
    return (resources.files("dcjax.devices") / "descriptions" / f"{device}.txtpb").read_text()
  file = expand("--device", device)
  try:
    return Path(file).read_text()
  except (OSError, UnicodeDecodeError):
    raise UserError(
      f"--device: no '{device}'; give {OWN}, {', '.join(DESCRIBED)}, or a file that describes a GPU"
    ) from None


def _number(text: str, field: str) -> float:
  """The value of a field of a description, the first of its name, which is above 0."""
  found = re.search(rf"\b{field}: *([^\s}}]+)", text)
  if not found:
    raise UserError(f"--device: the description of the GPU has no {field}; add it")
  return _positive(f"--device: {field} of the description", found[1])


def _positive(field: str, text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    raise UserError(f"{field}: '{text}' is no number; give a positive one") from None
  check_positive(field, value)
  return value


def _minor(text: str) -> int:
  """The minor number of the compute capability, which is left out where it is 0."""
  found = re.search(r"cuda_compute_capability *\{[^}]*minor: *(\d+)", text)
  return int(found[1]) if found else 0
