"""Test images that are changed by a little so that a network errs: FGSM and PGD.

FGSM: Goodfellow et al., ICLR 2015, section 4. PGD: Madry et al., ICLR 2018, section 2.1.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.nn import Network, training

EPSILON = 2 / 255  # most that a pixel in [0, 1] is changed by
STEPS = 10  # of PGD
STEP = 1 / 4  # of one, as a share of epsilon

# `gradient(pixels) -> [N, H, W, C]` of the losses of images to their pixels in [0, 1]
Gradient = Callable[[Array], Array]


def fgsm(gradient: Gradient, pixels: Array, key: Key, *, epsilon: float) -> Array:
  """One step of epsilon by the sign of the gradient; pixels stay in [0, 1]."""
  del key
  return jnp.clip(pixels + epsilon * jnp.sign(gradient(pixels)), 0, 1)


def pgd(gradient: Gradient, pixels: Array, key: Key, *, epsilon: float) -> Array:
  """Ten steps of a quarter of epsilon from a random start, never farther than epsilon."""
  low, high = jnp.maximum(pixels - epsilon, 0), jnp.minimum(pixels + epsilon, 1)
  noise = jax.random.uniform(key, pixels.shape, pixels.dtype, -epsilon, epsilon)

  def step(_, changed):
    return jnp.clip(changed + STEP * epsilon * jnp.sign(gradient(changed)), low, high)

  return jax.lax.fori_loop(0, STEPS, step, jnp.clip(pixels + noise, low, high))


ATTACKS = {"fgsm": fgsm, "pgd": pgd}


def accuracy(
  attack: str,
  network: Network,
  params: Params,
  dataset: Dataset,
  key: Key,
  *,
  epsilon: float,
  block: int,
  stats: Params | None = None,
) -> Array:
  """Fraction of the attacked test images that a network classifies right, a scalar in [0, 1].

  Args:
    attack: an entry of `ATTACKS`.
    network: any.
    params: its parameters, which the attack knows.
    dataset: whose test split is used.
    key: of a random start; block b draws from `fold_in(key, b)`.
    epsilon: most that a pixel in [0, 1] is changed by.
    block: test images that go through together.
    stats: frozen statistics for batch norm.
  """
  count = len(dataset.test_labels)
  places = jnp.arange(-(-count // block) * block).reshape(-1, block)

  def logits(pixels):
    return network.apply(params, dataset.normalise(255 * pixels), stats)[0]

  def right(number_and_places):
    number, places = number_and_places
    inside = jnp.minimum(places, count - 1)
    labels = dataset.test_labels[inside]
    pixels = dataset.test_images[inside].astype(jnp.float32) / 255
    gradient = jax.grad(lambda pixels: training.cross_entropy(logits(pixels), labels).sum())
    change = partial(ATTACKS[attack], gradient, epsilon=epsilon)
    changed = change(pixels, jax.random.fold_in(key, number))
    return ((logits(changed).argmax(-1) == labels) & (places < count)).sum()

  return jax.lax.map(right, (jnp.arange(len(places)), places)).sum() / count
