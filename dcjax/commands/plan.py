"""The driver of `dcjax plan`: will a run fit, and how fast can it be."""

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from dcjax import config as config_lib
from dcjax import data
from dcjax.common import environment
from dcjax.common.errors import UserError, check_least, check_positive
from dcjax.data import Dataset, stand_in
from dcjax.devices import target as target_lib
from dcjax.devices.target import Target
from dcjax.run import experiment
from dcjax.run.plan import ITERATION, START, Part, Plan
from dcjax.run.progress import logger

EVALUATION = "evaluation on "  # and an architecture
_STREAMING = "compute.streaming"
_LEAST_BLOCK, _LEAST_BATCH = 8, 16  # images
_WORTH = 0.95  # of the memory before; what helps less is not proposed
_MOST_DATA = 0.5  # of the memory; where data take more, training images should stay on disk


def plan(
  config: ConfigDict, device: str | None = None, devices: int | None = None, seconds: float = 20.0
) -> dict[str, Any]:
  """Compiles the parts of a run, and says what they take; nothing is condensed.

  A dataset of the papers need not be there, unless `dataset.data_dir` is given: what matters of it
  is its size. Classes of ImageNet are taken to have 1300 images each.

  Args:
    config: made by a preset or `dcjax.config.default()`.
    device: an entry of `target.DESCRIBED`, or a file that describes a GPU, see `target.described`;
      None or 'cpu': what this process computes on.
    devices: how many of those that are described; None: one. What is here is used as a run would
      use it, see `compute.mesh`.
    seconds: for which iterations are timed, and epochs of each evaluation; only where they can run.

  Returns:
    `device`, `dataset`, `strategy`; `parts`, with bytes, seconds to compile and work of each;
    `fits`, and if not, the fields of `remedy`; `bound`, the time of an iteration that no program of
    this arithmetic can be under; `seconds` of the run as they are expected, and `peak_bytes`, the
    most memory that this process has taken meanwhile. What is not known is None.

  Raises:
    UserError: bad input; or the plugin that compiles for the device is not there.
  """
  check_positive("--seconds", seconds)
  config = config_lib.resolve(config)
  if config_lib.selects(config.method):
    raise UserError(f"method: {config.method} selects real images, which is not planned")
  target = _target(device, devices)
  dataset, is_read = _dataset(config, target)
  planned = Plan(config, dataset, target)
  parts = dict(_parts(planned))
  fits = None
  if target.memory is not None:
    fits = max(part.bytes for part in parts.values()) <= target.memory
  layout = planned.layout._asdict()
  del layout["described"]
  return {
    "method": config.method,
    "ipc": config.ipc,
    "iterations": config.iterations,
    "device": {
      "name": target.name,
      "devices": planned.layout.devices,
      "memory": target.memory,
      "is_here": target.is_here,
    },
    "dataset": {
      "name": dataset.name,
      "classes": dataset.num_classes,
      "train": dataset.images.shape[0],
      "test": len(dataset.test_labels),
      "image": list(dataset.image_shape),
      "is_read": is_read,
      "streams": isinstance(dataset.images, data.OnDisk),
    },
    "strategy": layout,
    "parts": {name: _record(part) for name, part in parts.items()},
    "fits": fits,
    "remedy": _remedy(config, dataset, target, parts, target.memory) if fits is False else None,
    "bound": _bound(parts[ITERATION], target),
    "seconds": _seconds(planned, parts, seconds) if target.is_here and fits else None,
    "peak_bytes": environment.peak_memory() if target.is_here else None,
  }


def _target(device: str | None, devices: int | None) -> Target:
  if device is not None and device != target_lib.OWN:
    count = 1 if devices is None else devices
    check_least("--devices", count, 1)
    return target_lib.described(device, count)
  if devices is not None:
    raise UserError(
      f"--devices: how many of the devices here are used, compute.mesh says; leave it out, or give "
      f"--device {' or '.join(target_lib.DESCRIBED)}"
    )
  environment.check_backend()
  importlib.import_module("dcjax.commands.condense")  # for the memory that a run's modules take
  return target_lib.here()


def _dataset(config: ConfigDict, target: Target) -> tuple[Dataset, bool]:
  """The dataset, and whether it was read; else it is one of its size."""
  size, memory = stand_in.size_of(config.dataset), experiment.memory(config)
  if size is None or config.dataset.data_dir:
    return data.load(config.dataset, memory), True
  return stand_in.stand_in(config.dataset, size, memory, filled=target.is_here), False


def _parts(planned: Plan) -> Iterator[tuple[str, Part]]:
  yield START, planned.start()
  yield ITERATION, planned.iteration()
  for architecture in planned.architectures:
    yield EVALUATION + architecture, planned.trained(architecture)


def _record(part: Part) -> dict[str, Any]:
  least, most = part.work
  return {
    **part._asdict(),
    "bytes": part.bytes,
    "work": {"least": least._asdict(), "most": most._asdict()},
  }


def _bound(part: Part, target: Target) -> dict[str, Any] | None:
  """The seconds below which an iteration cannot be, and what sets them: never an estimate."""
  if (peak := target.peak) is None:
    return None
  least = part.work[0]
  rounded = least.products - least.exact - least.half
  arithmetic = least.exact / peak.exact + rounded / peak.rounded + least.half / peak.half
  memory = least.beyond / peak.bandwidth
  by = "arithmetic" if arithmetic >= memory else "memory"
  return {"seconds": max(arithmetic, memory), "by": by, "arithmetic": arithmetic, "memory": memory}


def _seconds(planned: Plan, parts: dict[str, Part], limit: float) -> dict[str, Any]:
  """What a run takes on this process's devices, by what it is spent on: expected, least and most.

  Data that is read, networks that are trained before the start and those of `evaluation.whole` are
  not in it.
  """
  if planned.config.evaluation.whole:
    logger.warning("the trainings on all images (evaluation.whole) are not counted")
  every, iterations = planned.config.evaluate_every, planned.config.iterations
  sets = 1 + (-(-iterations // every) if every else 1)  # random ones, and those that are made
  compiling = sum(part.seconds for part in parts.values())
  found = {
    "compile": (compiling,) * 3,
    ITERATION: planned.time_iterations(limit),
    **{
      EVALUATION + name: tuple(sets * each for each in planned.time_training(name, limit))
      for name in planned.architectures
    },
  }
  total = [float(sum(column)) for column in zip(*found.values(), strict=True)]
  return {name: list(map(float, each)) for name, each in found.items()} | {"together": total}


# --- A lighter run ---------------------------------------------------------------------------


def _remedy(
  config: ConfigDict, dataset: Dataset, target: Target, parts: dict[str, Part], memory: int | None
) -> dict[str, Any]:
  """The fields with which all parts fit, if any do, and the bytes that are taken then."""
  assert memory is not None
  fields: dict[str, Any] = {}
  found = dict(parts)
  for name in parts:
    much_data = parts[name].data > _MOST_DATA * memory
    for field, values in _lighter(name, Plan(config, dataset, target), much_data):
      if found[name].bytes <= memory:
        break
      build = partial(_compile, config, dataset, target, name, fields, field)
      value, part = _highest_that_fits(values, build, memory)
      if part.bytes < _WORTH * found[name].bytes:
        fields[field], found[name] = value, part
  most = max(part.bytes for part in found.values())
  return {"fields": fields, "bytes": most, "fits": most <= memory}


def _highest_that_fits(
  values: list[Any], build: Callable[[Any], Part], memory: int
) -> tuple[Any, Part]:
  """Of falling values the first whose part fits, and the part; the last one if none does."""
  least = build(values[-1])
  if least.bytes <= memory:
    for value in values[:-1]:
      part = build(value)
      if part.bytes <= memory:
        return value, part
  return values[-1], least


def _compile(
  config: ConfigDict,
  dataset: Dataset,
  target: Target,
  name: str,
  fields: dict[str, Any],
  field: str,
  value: Any,
) -> Part:
  fields = fields | {field: value}
  logger.info("looking for what fits: %s", " ".join(f"{k}={v}" for k, v in fields.items()))
  lighter = config.copy_and_resolve_references()
  lighter.update_from_flattened_dict(fields)
  if _STREAMING in fields:
    dataset, _ = _dataset(lighter, target)
  planned = Plan(lighter, dataset, target)
  if name.startswith(EVALUATION):
    return planned.trained(name.removeprefix(EVALUATION))
  return planned.start() if name == START else planned.iteration()


def _lighter(part: str, planned: Plan, much_data: bool) -> Iterator[tuple[str, list[Any]]]:
  """Fields, and falling values, with which a part takes less; first what changes no numbers.

  Args:
    part: its name.
    planned: the run that does not fit.
    much_data: whether the data alone take much of the memory.
  """
  layout, config = planned.layout, planned.config
  if layout.real_images == "everywhere":
    yield "compute.real_images", ["by_class"]
  in_memory = not isinstance(planned.dataset.images, data.OnDisk)
  if much_data and in_memory and data.can_stream(config.dataset):
    yield _STREAMING, [True]
  if part.startswith(EVALUATION):
    fields = [("compute.network_block", layout.network_block, 1)]
  else:
    if layout.class_map == "vmap":
      yield "compute.class_map", ["scan"]
    real = config.get("batch_real") or 0
    fields = [
      ("compute.image_block", layout.image_block or real, _LEAST_BLOCK),
      ("compute.synthetic_block", layout.synthetic_block or config.ipc, 1),
      ("batch_real", real, _LEAST_BATCH),
    ]
  for field, value, least in fields:
    if values := [value // 2**n for n in range(1, value.bit_length()) if value // 2**n >= least]:
      yield field, values
