"""What labels cost a step of an evaluation: hard, a set's own soft ones, a teacher's.

python -m benchmarks.soft_labels [--batch 100] [--rounds 7] [--out FILE.json]
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import report
from dcjax import evaluation, nn
from dcjax.devices.strategy import Strategy, choose
from dcjax.nn import Network

SIDE, CLASSES = 32, 10  # as CIFAR-10 has them
STEPS = 5  # between two looks at the clock

BATCH = flags.DEFINE_integer("batch", 100, "Images of a step.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 7, "Times that each is timed.", lower_bound=1)
OUT = flags.DEFINE_string("out", None, "JSON file for the figures.")


def network(layout: Strategy) -> Network:
  """ConvNet-3 with batch norm, as RDED has student and teacher."""
  convolution = layout.convolution
  return nn.create("convnet", (SIDE, SIDE, 3), CLASSES, norm="batch", convolution=convolution)


def programs(batch: int) -> dict[str, Callable[[], Any]]:
  """By name, what takes `STEPS` steps, compiled; and the teacher's pass over as many batches."""
  layout = choose(jax.default_backend(), CLASSES, SIDE)
  student = teacher = network(layout)
  settings = evaluation.EvaluationSettings("soft", STEPS, "flip", 1, 1, cutmix=1.0, batch=batch)
  image_key, teacher_key = jax.random.split(jax.random.key(0))
  images = jax.random.normal(image_key, (batch, SIDE, SIDE, 3), jnp.float32)
  hard = jnp.arange(batch, dtype=jnp.int32) % CLASSES
  soft = jax.nn.one_hot(hard, CLASSES, dtype=jnp.float32)
  taught = teacher.init(teacher_key)
  stats = teacher.statistics(taught, images)

  def teach(images, targets):
    del targets
    return jax.nn.softmax(teacher.apply(taught, images, stats)[0] / settings.division)

  def steps(labels, **more):
    trainer = evaluation.make_trainer(
      student, settings, layout, images, labels, key=jax.random.key(1), **more
    )
    advance = jax.jit(partial(trainer.advance, start=0, stop=STEPS))
    carry = jax.jit(trainer.start)()
    return lambda: advance(carry)

  @jax.jit
  def forward(images):
    numbers = jnp.arange(STEPS, dtype=jnp.float32)
    return jax.lax.map(lambda number: teach(images + number, None), numbers)

  return {
    "hard": steps(hard),
    "own": steps(soft),
    "teacher": steps(hard, teach=teach),
    "forward": lambda: forward(images),
  }


def run(batch: int, rounds: int) -> dict[str, Any]:
  """Times all of them in turns; seconds of a step, and ratios within a round."""
  made = programs(batch)
  seconds: dict[str, list[float]] = {name: [] for name in made}
  for number in range(rounds + 1):
    for name, program in made.items():
      start = time.perf_counter()
      jax.block_until_ready(program())
      if number:  # the first one compiles
        seconds[name].append((time.perf_counter() - start) / STEPS)
  found = {name: np.array(times) for name, times in seconds.items()}
  ratios = {
    "own / hard": found["own"] / found["hard"],
    "teacher / hard": found["teacher"] / found["hard"],
    "teacher / (hard + forward)": found["teacher"] / (found["hard"] + found["forward"]),
  }
  return {
    "hardware": report.hardware(),
    "arguments": {"batch": batch, "rounds": rounds},
    "seconds": {name: statistics.median(times) for name, times in seconds.items()},
    "ratios": {name: sorted(each.tolist()) for name, each in ratios.items()},
  }


def main(argv: list[str]) -> None:
  """Times, prints the table and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unknown argument: {argv[1]}")
  results = run(BATCH.value, ROUNDS.value)
  print(report.markdown(("labels", "seconds of a step"), [
    (name, f"{each:.3f}") for name, each in results["seconds"].items()
  ]))  # fmt: skip
  print(report.markdown(("ratio", "median", "least", "greatest"), [
    (name, *(f"{each:.2f}" for each in (statistics.median(r), r[0], r[-1])))
    for name, r in results["ratios"].items()
  ]))  # fmt: skip
  report.save(results, OUT.value)


if __name__ == "__main__":
  app.run(main)
