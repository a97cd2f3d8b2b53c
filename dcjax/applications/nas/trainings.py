"""The trainings of an architecture search: the networks that are missing, vmapped."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcjax import evaluation
from dcjax.applications.nas.records import Records
from dcjax.applications.nas.sources import Source, Split
from dcjax.commands.select import Wait
from dcjax.common.types import Array, Key
from dcjax.devices.strategy import Strategy
from dcjax.nn import Network, training
from dcjax.run.progress import LOG_SECONDS, Pieces, logger, working


class Trainings(NamedTuple):
  """Trains networks on sets, and keeps each that is finished.

  One program trains the networks of one architecture on all sets of one size, as many vmapped as
  the layout says: they differ in their keys and images alone.

  Attributes:
    networks: by the names of the architectures.
    copies: networks of each architecture on each set.
    split: the images to train on, and those to score on.
    layout: its blocks of networks and of images.
    key: network i of every architecture and set draws from `fold_in(key, i)`.
    records: what is done.
  """

  networks: Mapping[str, Network]
  copies: int
  split: Split
  layout: Strategy
  key: Key
  records: Records

  def run(self, names: Sequence[str], sources: Sequence[Source], wait: Wait) -> None:
    """Trains what is missing of some architectures on some sets."""
    work = [(name, group) for name in names for group in _groups(sources)]
    total = sum(len(self._pending(*item)) for item in work)
    networks, logged, done = Pieces(total, "networks"), time.monotonic(), 0
    if total:
      logger.info("%d networks to train: %s", total, ", ".join(s.name for s in sources))
    for name, group in work:
      for count in self._train(name, group, wait):
        done, now = done + count, time.monotonic()
        if now - logged >= LOG_SECONDS or done == total:
          logged = now
          logger.info(networks.far(done, f"now {name}"))

  def _pending(self, name: str, group: Sequence[Source]) -> list[tuple[Source, int]]:
    """The trainings of an architecture that are missing: sets, and numbers of networks."""
    return [
      (source, number)
      for source in group
      for number in range(len(self.records.get(source.folder, name).test), self.copies)
    ]

  def _train(self, name: str, group: Sequence[Source], wait: Wait) -> Iterator[int]:
    """Trains one architecture on sets of one size; yields how many networks each time."""
    pending, program, compile_seconds = self._pending(name, group), None, 0.0
    # However many are missing, so that a search that goes on runs the same program.
    vmapped = min(self.layout.network_block, self.copies * len(group))
    for first in range(0, len(pending), vmapped):
      block = pending[first : first + vmapped]
      # A block that is not full trains copies and drops them, rather than compile again.
      filled = [*block, *block[-1:] * (vmapped - len(block))]
      arguments = self._arguments(filled, several=len(group) > 1 and vmapped > 1)
      start = time.monotonic()
      if program is None:
        function = _train_and_score(self.networks[name], group[0], self.split, self.layout)
        with working(f"compiling {name}"):
          program = jax.jit(function).lower(*arguments).compile()
        compile_seconds, start = time.monotonic() - start, time.monotonic()
      with working(f"training {name}"):
        accuracies = np.asarray(wait(program(*arguments)))
      seconds = (time.monotonic() - start) / len(block)
      for (source, _), each in zip(block, accuracies, strict=False):
        self.records.add(source.folder, name, each, seconds, compile_seconds)
      yield len(block)

  def _arguments(self, block: Sequence[tuple[Source, int]], several: bool) -> tuple[Any, ...]:
    """What a program takes: data, images, which are each network's own for several sets, keys."""
    keys = jnp.stack([jax.random.fold_in(self.key, number) for _, number in block])
    first = block[0][0]
    images = jnp.stack([source.images for source, _ in block]) if several else first.images
    return self.split.scored, images, first.labels, keys


def _groups(sources: Sequence[Source]) -> list[list[Source]]:
  """The sets that one program trains on; what is there twice, once."""
  groups: dict[Any, dict[str, Source]] = {}
  for source in sources:
    groups.setdefault(source.program, {})[source.folder] = source
  return [list(group.values()) for group in groups.values()]


def _train_and_score(
  network: Network, source: Source, split: Split, layout: Strategy
) -> Callable[..., Array]:
  """A function for jit that trains networks that differ in their keys and images alone.

  Args:
    network: what is trained.
    source: one of the sets that it is trained on; the others are like it.
    split: says how many of the scored images are held out.
    layout: its block of images.

  Returns:
    `train(scored, images, labels, keys)`, for n keys and images `[N, H, W, C]`, or `[n, N, H, W,
    C]` for a set each; it returns accuracies on what is held out and on the test split, `[n, 2]`.
  """

  def one(scored, images, labels, key):
    decode = scored.normalise if images.dtype == jnp.uint8 else training.identity
    trainer = evaluation.make_trainer(
      network, source.settings, layout, images, labels,
      key=key, decode=decode, drawn=source.drawn,
    )  # fmt: skip
    params, _ = trainer.advance(trainer.start(), 0, source.settings.epochs)
    right = training.correct(
      network,
      params,
      scored.test_images,
      scored.test_labels,
      block=layout.blocks(evaluation.TEST_BLOCK),
      decode=scored.normalise,
      stats=trainer.statistics(params),
    )
    return jnp.stack([right[: split.held].mean(), right[split.held :].mean()])

  def train(scored, images, labels, keys):
    if len(keys) == 1:
      # Under `vmap` every branch of an augmentation would be taken.
      return one(scored, images, labels, keys[0])[None]
    axes = None, 0 if images.ndim == 5 else None, None, 0
    return jax.vmap(one, axes)(scored, images, labels, keys)

  return train
