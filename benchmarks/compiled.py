"""What XLA makes of an iteration for GPUs and TPUs that are not here: see `README.md` here.

python -m benchmarks.compiled [--only dc:cifar10,ipc=10 ...] [--devices v5e ...] [--out FILE.md]

`compiled.md` has what it printed. Nothing runs, and nothing is timed. It needs the extras `cuda12`
and `tpu`, and no GPU or TPU.
"""

from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from benchmarks import report
from benchmarks.compiling import config_of
from dcjax.commands.plan import plan
from dcjax.common.quantities import amount, size

GRADIENTS = ("dc:cifar10,ipc=10", "dsa:cifar10,ipc=10", "idc:cifar10,ipc=10")
FEATURES = ("dm:cifar10,ipc=10", "idm:cifar10,ipc=10")
CIFAR = GRADIENTS + FEATURES
LARGE = (
  "dsa:cifar100,ipc=10",
  "dm:cifar100,ipc=50",
  "idm:cifar100,ipc=50",
  "dm:tiny_imagenet,ipc=50",
)
IMAGENET = ("imagenet:idc10,ipc=10", "imagenet:idm10,ipc=10")
# What `dcjax.devices.strategy` chooses, and others
DEFAULT = "the default"
APART = "ungrouped, one class after another"  # the default of GRADIENTS
TOGETHER = "ungrouped, all classes together"  # the default of FEATURES
PATCHES = "patches, all classes together"
OTHERS: dict[str, dict[str, Any]] = {
  "lax, all classes together": {"compute.convolution": "lax", "compute.class_map": "vmap"},
  PATCHES: {"compute.convolution": "patches", "compute.class_map": "vmap"},
}
CHOICES: dict[str, dict[str, Any]] = {
  DEFAULT: {},
  APART: {"compute.class_map": "scan"},
  TOGETHER: {"compute.class_map": "vmap"},
  **OTHERS,
}
# Presets, devices, how many, and choices
CASES = (
  (GRADIENTS, "h100", 1, [DEFAULT, TOGETHER, *OTHERS]),
  (FEATURES, "h100", 1, [DEFAULT, APART, *OTHERS]),
  (CIFAR, "h100", 8, [DEFAULT]),
  (CIFAR + LARGE, "t4", 1, [DEFAULT]),
  (IMAGENET, "a100", 1, [DEFAULT]),
  (GRADIENTS[:2] + FEATURES, "v5e", 1, [DEFAULT]),
  (FEATURES[:1], "v5e", 1, [TOGETHER, PATCHES]),
  (FEATURES, "v5e", 8, [DEFAULT]),
)
HEAD = (
  "preset", "device", "choice", "temporaries", "all of a device", "kernels", "grouped",
  "read and written", "collectives", "s at least",
)  # fmt: skip

ONLY = flags.DEFINE_multi_string("only", None, "Presets; by default all.")
DEVICES = flags.DEFINE_multi_string("devices", None, "Kinds of them; by default all.")
OUT = flags.DEFINE_string("out", None, "File for the table, as Markdown.")


def rows() -> list[tuple[str, ...]]:
  """A row for each preset, device and choice; they are logged as they are found."""
  found = []
  for presets, device, count, choices in CASES:
    if DEVICES.value and device not in DEVICES.value:
      continue
    for preset in presets:
      for choice in choices:
        if not ONLY.value or preset in ONLY.value:
          found.append(_row(preset, device, count, choice))
          print(report.markdown(HEAD, found[-1:]).splitlines()[-1], flush=True)
  return found


def _row(preset: str, device: str, count: int, choice: str) -> tuple[str, ...]:
  config = config_of(preset)
  config.update_from_flattened_dict(CHOICES[choice])
  config.evaluation.networks = 0
  found = plan(config, device, count)
  part = found["parts"]["iteration"]
  least, most = part["work"]["least"], part["work"]["most"]
  between = size(most["collective_bytes"])
  return (
    f"`{preset}`",
    f"{count} x {device}" if count > 1 else device,
    choice,
    size(part["temporaries"]),
    size(part["bytes"]) + ("" if found["fits"] else " (too much)"),
    _range(amount(least["kernels"]), amount(most["kernels"])),
    amount(most["grouped"]),
    _range(size(least["bytes"]), size(most["bytes"])),
    f"{amount(most['collectives'])}, {between}" if most["collectives"] else "-",
    f"{found['bound']['seconds']:.2g}",
  )


def _range(low: str, high: str) -> str:
  return low if low == high else f"{low} to {high}"


def main(argv: list[str]) -> None:
  """Compiles, prints the table and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  jax.config.update("jax_platforms", "cpu")
  table = report.markdown(HEAD, rows())
  if OUT.value:
    Path(OUT.value).write_text(f"{table}\n")


if __name__ == "__main__":
  app.run(main)
