"""GSAM (Zhuang et al., ICLR 2022): gradients that lead to flat minima, as FTD trains experts."""

import jax
import jax.numpy as jnp
import optax

from dcjax.common.types import Params
from dcjax.nn.training import Refine

_LEAST = 1e-12  # of a norm that is divided by


def gsam(rho: float, alpha: float) -> Refine:
  """What a gradient becomes, for `training.Learner.refine`.

  The gradient is taken again where the loss of the same batch is higher, at most `rho` away by a
  distance that counts each weight by its size (adaptive). The part of the first gradient that this
  one does not have is then taken off `alpha` times.

  Args:
    rho: how far; 0: the place stays.
    alpha: how much of that part; 0: SAM.

  Returns:
    `refine(gradient_of, params, gradient) -> gradient`.
  """

  def refine(gradient_of, params, gradient):
    towards = jax.tree.map(lambda p, g: jnp.square(p) * g, params, gradient)
    length = optax.tree.norm(jax.tree.map(lambda p, g: jnp.abs(p) * g, params, gradient))
    scale = rho / (length + _LEAST)
    sharp = gradient_of(jax.tree.map(lambda p, e: p + scale * e, params, towards))
    along = _share(gradient, sharp)
    return jax.tree.map(lambda s, g: s - alpha * (g - along * s), sharp, gradient)

  return refine


def _share(gradient: Params, sharp: Params) -> jax.Array:
  """How many times `sharp` the part of a gradient along it is."""
  return optax.tree.vdot(gradient, sharp) / (optax.tree.vdot(sharp, sharp) + _LEAST**2)
