"""`dcjax plan`: the flags of a plan, and what it prints."""

import json
from collections.abc import Iterator
from typing import Any

import jax
from absl import flags
from dcjax.launch import command_line
from dcjax.launch.field_help import CONDENSING, help_on_fields

from dcjax.commands import plan
from dcjax.common.quantities import amount, duration, size
from dcjax.devices.target import DESCRIBED, OWN
from dcjax.figures import markdown


def main(arguments: list[str]) -> None:
  """Runs `dcjax plan` with its arguments, and prints what it finds."""
  values = command_line.parse(
    lambda: _flags(arguments),
    arguments,
    required=("config",),
    more=lambda: help_on_fields(*CONDENSING),
  )
  if values.device is not None:
    jax.config.update("jax_platforms", OWN)  # what is not on the device that is described
  report = plan.plan(values.config, values.device, values.devices, values.seconds)
  print(json.dumps(report, indent=2) if values.json else "\n".join(lines(report)))


def _flags(arguments: list[str]) -> flags.FlagValues:
  values = command_line.preset_flags(arguments)
  flags.DEFINE_string(
    "device",
    None,
    f"{OWN}, {', '.join(DESCRIBED)}, or a file that describes a GPU as XLA does; by default what "
    "is here. GPUs and TPUs need not be here, but 'dcjax[cuda12]' or 'dcjax[tpu]' is needed.",
    flag_values=values,
  )
  flags.DEFINE_integer("devices", None, "How many of these; by default 1.", flag_values=values)
  flags.DEFINE_float(
    "seconds", 20.0, "For which iterations are timed, if it is here.", flag_values=values
  )
  flags.DEFINE_bool("json", False, "Prints the same as JSON, and more.", flag_values=values)
  return values


def lines(report: dict[str, Any]) -> Iterator[str]:
  """The report as text."""
  yield from _heading(report)
  yield ""
  yield _memory(report["parts"])
  yield ""
  yield _fits(report)
  yield from _work(report)
  yield from _times(report)


def _heading(report: dict[str, Any]) -> Iterator[str]:
  device, dataset = report["device"], report["dataset"]
  several = f"{device['devices']} x " if device["devices"] > 1 else ""
  memory = "" if device["memory"] is None else f", {size(device['memory'])} of memory each"
  kind = f"{several}{device['name']}{memory}"
  yield f"{report['method']}, {report['ipc']} images per class, on {kind}"
  where = "read" if dataset["is_read"] else "not read, for its size is known"
  if dataset["streams"]:
    where += "; training images stay on disk"
  sides = "x".join(map(str, dataset["image"]))
  yield (
    f"{dataset['name']}: {dataset['train']} training and {dataset['test']} test images of {sides} "
    f"in {dataset['classes']} classes ({where})"
  )
  yield " ".join(f"compute.{name}={_plain(value)}" for name, value in report["strategy"].items())


def _plain(value: Any) -> str:
  return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _memory(parts: dict[str, Any]) -> str:
  columns = ("data", "state", "results", "temporaries", "bytes")
  head = ("on each device", "data", "state", "results", "temporaries", "together", "to compile")
  rows = [
    (name, *(size(part[column]) for column in columns), f"{part['seconds']:.1f} s")
    for name, part in parts.items()
  ]
  return markdown.table([head, *rows])


def _fits(report: dict[str, Any]) -> str:
  most = size(max(part["bytes"] for part in report["parts"].values()))
  memory, remedy = report["device"]["memory"], report["remedy"]
  if report["fits"] is None:
    return f"It takes {most}; how much there is, is not known."
  if report["fits"]:
    return f"It fits: {most} of {size(memory)}."
  lower = " ".join(f"--config.{name}={value}" for name, value in remedy["fields"].items())
  if remedy["fits"]:
    return (
      f"It does not fit: {most} of {size(memory)}. With {lower} it takes {size(remedy['bytes'])}."
    )
  tried = f"; with {lower} it still takes {size(remedy['bytes'])}" if lower else ""
  return (
    f"It does not fit: {most} of {size(memory)}{tried}; take a smaller network, or more devices."
  )


def _work(report: dict[str, Any]) -> Iterator[str]:
  work = report["parts"]["iteration"]["work"]
  least, most = work["least"], work["most"]

  def between(name, text):
    low, high = text(least[name]), text(most[name])
    return low if low == high else f"{low} to {high}"

  yield (
    f"An iteration: {between('products', amount)} additions and multiplications in products, "
    f"{between('bytes', size)} read and written, {between('kernels', amount)} kernels, "
    f"{between('grouped', amount)} of them grouped convolutions."
  )
  if most["collectives"]:
    yield (
      f"Between devices: {between('collectives', amount)} collectives, "
      f"{between('collective_bytes', size)}."
    )
  if bound := report["bound"]:
    yield (
      f"It takes {_short(bound['seconds'])} or more, for its {bound['by']} at the device's peak "
      "rate: a bound, and no estimate."
    )


def _short(seconds: float) -> str:
  return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _times(report: dict[str, Any]) -> Iterator[str]:
  if not (found := report["seconds"]):
    return
  yield ""
  head = ("expected here, without reading data", "time", "at the fastest", "at the slowest")
  yield markdown.table([head, *((name, *map(duration, each)) for name, each in found.items())])
  yield ""
  yield f"Meanwhile this process has taken {size(report['peak_bytes'])} of memory at most."
