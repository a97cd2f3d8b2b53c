"""Steps of a training that a gradient goes through, with few of its networks in memory."""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from dcjax.common import environment
from dcjax.common.errors import UserError
from dcjax.common.types import Array
from dcjax.devices.strategy import Strategy

T = TypeVar("T")
PLENTY = 2**30  # bytes of networks that are all kept


def unroll(step: Callable[[T, Array], T], theta: T, count: int, segment: int = 1) -> T:
  """What `count` steps make of a network.

  A gradient through them keeps the network before each segment, and of one segment at a time those
  before each step; all else is computed again. So memory grows by a network for each segment. With
  more than one step in each, every step is computed once more.

  Args:
    step: `step(theta, number) -> theta`, from the number 0 on.
    theta: parameters, and what else a step changes.
    count: steps; a constant.
    segment: steps of a segment; those that are left over are segments of one step.
  """

  @jax.checkpoint
  def one(theta, number):
    return step(theta, number), None

  @jax.checkpoint
  def several(theta, numbers):
    return jax.lax.scan(one, theta, numbers)

  numbers, whole = jnp.arange(count, dtype=jnp.int32), count // segment * segment
  if segment > 1:
    theta, _ = jax.lax.scan(several, theta, numbers[:whole].reshape(-1, segment))
    numbers = numbers[whole:]
  return jax.lax.scan(one, theta, numbers)[0]


def segment_for(count: int, size: int) -> int:
  """Steps of a segment: one where all networks take little memory, else what keeps the fewest.

  Args:
    count: steps.
    size: bytes of what a step changes.
  """
  return 1 if count * size <= PLENTY else fewest(count)


def segment_that_fits(
  layout: Strategy, count: int, segment: int | None, size: int, field: str, section: str
) -> int:
  """Steps of a segment: those that are given, or that `segment_for` chooses.

  Args:
    layout: of the run; the memory of devices that are not here is for `dcjax plan` to look at.
    count: steps.
    segment: of a config; None: to be chosen.
    size: bytes of what a step changes.
    field: that holds the number of steps.
    section: that holds the field `segment`.

  Raises:
    UserError: the networks alone take more memory than there is, or a segment has more steps than
      there are.
  """
  if segment and segment > max(count, 1):
    raise UserError(
      f"{section}.segment: {segment} steps are more than {field}={count}; give {count} or fewer"
    )
  segment = segment or segment_for(count, size)
  taken, there = kept(count, segment) * size, None if layout.described else environment.memory()
  if there is not None and taken > there:
    raise UserError(
      f"{field}: {count} steps keep {kept(count, segment)} networks of {size:,} bytes, "
      f"{taken / 2**30:.3g} GiB, but there are {there / 2**30:.3g}; lower it, or set "
      f"{section}.segment={fewest(count)}"
    )
  return segment


def fewest(count: int) -> int:
  """Steps of a segment with which the fewest networks are in memory at once."""
  return max(1, math.isqrt(count))


def kept(count: int, segment: int) -> int:
  """How many networks are in memory at once, at most."""
  return -(-count // segment) + (segment if segment > 1 else 0)
