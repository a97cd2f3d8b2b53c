"""The gradient through a training: its memory by length and images, and its time beside PyTorch.

python -m benchmarks.unrolled [--steps 50] [--rounds 3] [--real 256] [--[no]memory] [--out F.json]
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import errors, layout, problem, report
from dcjax import nn
from dcjax.data import Dataset, from_arrays
from dcjax.devices.strategy import choose
from dcjax.methods.bptt import BPTTSettings, Inner, Window, bptt
from dcjax.methods.setup import Setup
from dcjax.nn import Network

SHAPE, CLASSES = (32, 32, 3), 10  # as CIFAR-10 has them
LENGTHS, IPCS = (10, 50), (1, 10)  # of the table of memory
OPTIMIZERS = ("sgd", "adam")
RATES = {"sgd": 0.01, "adam": 1e-3}
TOLERANCE = 0.03  # of the gradient's norm, which many steps in float32 part
UNDER_ROOT = 1e-8  # with less, what is rounded decides the norm

STEPS = flags.DEFINE_integer("steps", 50, "Steps of the training that is timed.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Times that each is timed.", lower_bound=1)
REAL = flags.DEFINE_integer("real", 256, "Real images of the loss.", lower_bound=1)
MEMORY = flags.DEFINE_bool("memory", True, "Also the compiler's table of memory.")
ONLY = flags.DEFINE_enum("only", None, ("dcjax", "torch"), "Runs one once and prints its memory.")
OUT = flags.DEFINE_string("out", None, "JSON file for the figures.")


def noise(count: int) -> Dataset:
  """Images of noise."""
  rng = np.random.default_rng(problem.SEED)
  images = rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
  labels = np.arange(count) % CLASSES
  return from_arrays(images, labels, images, labels, name="noise")


def network() -> Network:
  """The default ConvNet, with the same parameters in every iteration."""
  strategy = choose(jax.default_backend(), CLASSES, SHAPE[0])
  made = nn.create("convnet", SHAPE, CLASSES, convolution=strategy.convolution)
  params = made.init(jax.random.key(problem.SEED))
  return made._replace(init=lambda key: params)


def method(steps: int, ipc: int, real: int, optimizer: str, segment: int = 1) -> Any:
  """RaT-BPTT whose window is a whole training, on all images at once, without augmentation."""
  inner = Inner(optimizer, RATES[optimizer], ipc, under_root=UNDER_ROOT)
  window = Window(steps, steps, renew=1, segment=segment)
  settings = BPTTSettings(ipc, "noise", real, lr_label=1e-3, inner=inner, window=window)
  return bptt(Setup(network(), choose(jax.default_backend(), CLASSES, SHAPE[0])), settings)


def begin(made: Any, real: int) -> tuple[Any, ...]:
  """What an iteration is called with: a state, images, a key, and its number."""
  dataset, key = noise(real), jax.random.key(1)
  return jax.jit(made.init)(key, dataset), dataset, key, 0


def program(made: Any, arguments: tuple[Any, ...]) -> Any:
  """An iteration, compiled."""
  return jax.jit(made.update).lower(*arguments).compile()


def memory() -> list[dict[str, Any]]:
  """What the compiler says of temporaries, over optimisers, segments, images and steps."""
  leaves = jax.tree.leaves(network().init(jax.random.key(0)))
  size = sum(leaf.nbytes for leaf in leaves)
  rows = []
  for optimizer, ipc, root in ((o, i, r) for o in OPTIMIZERS for i in IPCS for r in (False, True)):
    found = []
    for steps in LENGTHS:
      made = method(steps, ipc, 64, optimizer, int(steps**0.5) if root else 1)
      compiled = program(made, begin(made, 64))
      found.append(compiled.memory_analysis().temp_size_in_bytes)
    growth = (found[1] - found[0]) / (LENGTHS[1] - LENGTHS[0]) / size
    row = {"optimizer": optimizer, "ipc": ipc, "segments": "root" if root else "1"}
    rows.append({**row, "bytes": found, "growth": growth})
  return rows


def in_torch(steps: int, ipc: int, optimizer: str, arguments: Any) -> Callable[[], Any]:
  """The same iteration by PyTorch, whose graph is of the whole training: loss and gradient."""
  import torch
  from torch.func import functional_call

  from benchmarks.torch_network import convnet, load

  state, dataset, _, _ = arguments
  setting = problem.Setting("dm", "", SHAPE, ipc, 0, 0, False)
  made = convnet(setting, torch.device("cpu"))
  load(made, layout.to_torch(network().init(jax.random.key(0))))
  names = [name for name, _ in made.named_parameters()]

  def tensor(array):
    return torch.tensor(np.array(array)).reshape(-1, *SHAPE).permute(0, 3, 1, 2)

  stored, real = tensor(state.stored.images), tensor(dataset.normalise(dataset.images))
  real_labels = torch.tensor(np.array(dataset.labels)).long()
  labels = torch.arange(CLASSES).repeat_interleave(ipc)
  rate = RATES[optimizer]

  def loss(params, images, labels):
    logits = functional_call(made, dict(zip(names, params, strict=True)), (images,))
    return torch.nn.functional.cross_entropy(logits, labels)

  def run() -> tuple[float, float]:
    images = stored.clone().requires_grad_()
    params = [p.detach().requires_grad_() for p in made.parameters()]
    first, second = [[torch.zeros_like(p) for p in params] for _ in range(2)]
    for step in range(1, steps + 1):
      gradients = torch.autograd.grad(loss(params, images, labels), params, create_graph=True)
      if optimizer == "sgd":
        params = [p - rate * g for p, g in zip(params, gradients, strict=True)]
        continue
      first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
      second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
      powers = 1 - 0.9**step, 1 - 0.999**step
      params = [
        p - rate * (m / powers[0]) / ((v / powers[1] + UNDER_ROOT).sqrt() + 1e-8)
        for p, m, v in zip(params, first, second, strict=True)
      ]
    value = loss(params, real, real_labels)
    (gradient,) = torch.autograd.grad(value, images)
    return value.item(), gradient.norm().item()

  return run


def timed(steps: int, real: int, rounds: int) -> dict[str, Any]:
  """Both in turns, one image a class; seconds of an iteration, and ratios within a round."""
  found: dict[str, Any] = {}
  for optimizer in OPTIMIZERS:
    made = method(steps, 1, real, optimizer)
    arguments = begin(made, real)
    compiled = program(made, arguments)
    theirs = in_torch(steps, 1, optimizer, arguments)
    seconds: dict[str, list[float]] = {"dcjax": [], "torch": []}
    for number in range(rounds + 1):
      begun = time.perf_counter()
      metrics = jax.block_until_ready(compiled(*arguments)[1])
      between = time.perf_counter()
      loss, norm = theirs()
      ended = time.perf_counter()
      if not number:  # the first round is for both to warm up, and to agree
        ours = float(metrics["loss"]), float(metrics["norm"])
        if not np.allclose(ours, (loss, norm), rtol=TOLERANCE):
          raise errors.BenchmarkError(f"{optimizer}: {ours} here, {(loss, norm)} by PyTorch")
        continue
      seconds["dcjax"].append(between - begun)
      seconds["torch"].append(ended - between)
    ratios = sorted((np.array(seconds["torch"]) / np.array(seconds["dcjax"])).tolist())
    found[optimizer] = {
      "seconds": {name: statistics.median(each) for name, each in seconds.items()},
      "ratios": ratios,
    }
  return found


def _peak(name: str, steps: int, real: int) -> int:
  """Bytes of a process that runs one of both with Adam, at its height."""
  flags_of = [f"--only={name}", f"--steps={steps}", f"--real={real}"]
  command = [sys.executable, "-m", "benchmarks.unrolled", *flags_of]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return int(done.stdout.split()[-1])


def once(name: str, steps: int, real: int) -> int:
  """Runs one of both, once; the bytes of this process at its height."""
  import resource

  made = method(steps, 1, real, "adam")
  arguments = begin(made, real)
  if name == "torch":
    in_torch(steps, 1, "adam", arguments)()
  else:
    jax.block_until_ready(program(made, arguments)(*arguments))
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(argv: list[str]) -> None:
  """Measures, prints the tables and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  if ONLY.value:
    print(once(ONLY.value, STEPS.value, REAL.value))
    return
  results: dict[str, Any] = {"hardware": report.hardware(), "steps": STEPS.value}
  try:
    results["timed"] = timed(STEPS.value, REAL.value, ROUNDS.value)
    results["peak"] = {name: _peak(name, STEPS.value, REAL.value) for name in ("dcjax", "torch")}
  except (errors.BenchmarkError, ImportError) as error:
    errors.leave("unrolled", error)
  print(report.markdown(
    ("inner optimiser", "s dcjax", "s PyTorch", "PyTorch / dcjax"),
    [(
      name, *(f"{each:.3g}" for each in row["seconds"].values()),
      f"{statistics.median(row['ratios']):.2f} ({row['ratios'][0]:.2f}..{row['ratios'][-1]:.2f})",
    ) for name, row in results["timed"].items()],
  ))  # fmt: skip
  peaks = ", ".join(f"{name} {each / 2**20:.0f}" for name, each in results["peak"].items())
  print(f"MiB of a process at its height, Adam: {peaks}")
  if MEMORY.value:
    results["memory"] = memory()
    print(report.markdown(
      ("inner optimiser", "images per class", "steps of a segment",
       *(f"MiB, {each} steps" for each in LENGTHS), "networks a step"),
      [(
        row["optimizer"], str(row["ipc"]), row["segments"],
        *(f"{each / 2**20:.0f}" for each in row["bytes"]), f"{row['growth']:.2f}",
      ) for row in results["memory"]],
    ))  # fmt: skip
  report.save(results, OUT.value)


if __name__ == "__main__":
  app.run(main)
