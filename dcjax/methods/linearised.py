"""Networks that are linear in their parameters: what a set makes of one, which RCIG differentiates.

With F the features of a network at some parameters, J its Jacobian there, and r n the ridge, w is
to be the tangent of the parameters that makes the least of

  g(w) = r n / (2 n C) ((Y - J w)' (F F' + r n)^-1 (Y - J w) + |w|^2)

the squared error of the best last layer beside it, with a ridge for that layer and for w. g is
quadratic, so that its second derivative times a tangent is the gradient of g there without labels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax.common.errors import UserError
from dcjax.common.products import product
from dcjax.common.types import Array, Params
from dcjax.nn import Network, training

Move = Callable[[Params], Array]  # how far a tangent moves the logits, `[N, classes]`
# Of the search for a rate (RCIG's code)
HIGHER, BACK = 1.2, 0.7  # the next rate that is tried; and what is taken of the one after the last
MOST_RATE = 1.0  # where the search ends in any case


def linearised(network: Network, params: Params, images: Array) -> tuple[Array, Move]:
  """The features of a network, `[N, d]`, and how the tangent of its parameters moves its logits.

  The last layer's weights stay: they are solved for.
  """
  (logits, features), back = jax.vjp(lambda p: network.apply(p, images), params)
  nothing = jnp.zeros_like(features)
  # What goes forth is the transpose of what goes back: convolutions have rules for that alone
  _, forth = jax.vjp(lambda cotangent: back((cotangent, nothing))[0], jnp.zeros_like(logits))
  head = _head(logits, features)

  def move(tangent):
    body = jax.tree.map(lambda x: jnp.zeros_like(x) if x.shape == head else x, tangent)
    return forth(body)[0]

  return features, move


def _head(logits: Any, features: Any) -> tuple[int, int]:
  """The shape of the last layer's weights, by which they are known."""
  return features.shape[1], logits.shape[1]


def check_network(network: Network, image_shape: tuple[int, int, int]) -> None:
  """Raises `UserError` for a network whose last layer cannot be solved for by itself."""
  if network.batch_norm:
    raise UserError(
      "network.norm: networks of RCIG are linear in their parameters, which batch norm is not "
      "with its averages; set network.norm=none"
    )
  params = jax.eval_shape(network.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  head = _head(*jax.eval_shape(network.apply, params, image))
  if (count := sum(leaf.shape == head for leaf in jax.tree.leaves(params))) != 1:
    raise UserError(
      f"network: RCIG solves for the weights of a last layer, {list(head)} from features to "
      f"logits, and there are {count} arrays of that shape; take network.name=frepo_conv, or "
      "another network.width"
    )


class Problem(NamedTuple):
  """g, of a set as a network sees it.

  Attributes:
    features: of its images, `[n, d]`.
    move: of its logits.
    targets: its labels, `[n, classes]`.
    ridge: r n.
    factor: the Cholesky factor of F F' + r n, as `cho_solve` takes it.
  """

  features: Array
  move: Move
  targets: Array
  ridge: float
  factor: Any

  def weights(self, left: Array) -> Array:
    """(F F' + r n)^-1 of what w leaves of the labels, `[n, classes]`."""
    return jax.scipy.linalg.cho_solve(self.factor, left)

  def left(self, tangent: Params) -> Array:
    """Y - J w."""
    return self.targets - self.move(tangent)

  def loss(self, tangent: Params) -> Array:
    """g."""
    left = self.left(tangent)
    squares = (left * self.weights(left)).sum() + optax.tree.norm(tangent, squared=True)
    return self.ridge * squares / (2 * left.size)

  def curved(self, tangent: Params) -> Params:
    """The second derivative of g times a tangent."""
    return jax.grad(self._replace(targets=jnp.zeros_like(self.targets)).loss)(tangent)


def pose(network: Network, params: Params, images: Array, targets: Array, ridge: float) -> Problem:
  """The problem that images `[n, H, W, C]` with labels `[n, classes]` are to a network."""
  features, move = linearised(network, params, images)
  kernel = product(features, features.T)
  regular = kernel + ridge * jnp.eye(len(kernel), dtype=kernel.dtype)
  return Problem(features, move, targets, ridge, jax.scipy.linalg.cho_factor(regular))


# --- Steps towards its optimum -------------------------------------------------------------


def train(problem: Problem, like: Params, rate: Array, steps: int) -> tuple[Params, Array]:
  """w, shaped as `like`, after steps of Adam, and the losses on the way to it."""
  return _descend(jax.value_and_grad(problem.loss), like, rate, steps)


def solve(problem: Problem, slope: Params, rate: Array, steps: int) -> tuple[Params, Array]:
  """h with g'' h = slope, and h'(g'' h - 2 slope) on the way, which falls to its least there."""

  def gradient_of(h):
    curved = problem.curved(h)
    twice = optax.tree.add_scale(curved, -2, slope)
    return optax.tree.vdot(h, twice), optax.tree.sub(curved, slope)

  return _descend(gradient_of, slope, rate, steps)


def _descend(gradient_of: Any, like: Params, rate: Array, steps: int) -> tuple[Params, Array]:
  """Steps of Adam from zero.

  Args:
    gradient_of: `gradient_of(x) -> (value, gradient)`.
    like: what x is shaped as.
    rate: of Adam.
    steps: how many.

  Returns:
    x after them, and the value before each, `[steps]`.
  """
  adam = training.promoting(optax.scale_by_adam())
  zero = jax.tree.map(jnp.zeros_like, like)

  def step(carry, _):
    x, state = carry
    value, gradient = gradient_of(x)
    updates, state = adam.update(gradient, state, x)
    x = jax.tree.map(lambda leaf, update: leaf - rate * update, x, updates)
    return (x, state), value

  (x, _), values = jax.lax.scan(step, (zero, adam.init(zero)), length=steps)
  return x, values


def falls(values: Array) -> Array:
  """Whether each is below the one before it."""
  return (values[1:] < values[:-1]).all()


def highest(values_of: Any, rate: float) -> Array:
  """0.84 times the first rate, a fifth above the one before, at which values do not fall.

  Args:
    values_of: `values_of(rate)`, one for each step.
    rate: the first that is tried.
  """
  found = jax.lax.while_loop(
    lambda rate: (rate < MOST_RATE) & falls(values_of(rate)),
    lambda rate: rate * HIGHER,
    jnp.float32(rate),
  )
  return found * HIGHER * BACK
