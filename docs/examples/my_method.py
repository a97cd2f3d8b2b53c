"""A method of one's own: DM with a Gaussian kernel in place of the distance of means."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dcjax import data
from dcjax.methods import Method, Step, image_optimizer, initialiser, step_images
from dcjax.methods.definition import Definition, condensation, from_fields
from dcjax.methods.setup import setup


class Settings(NamedTuple):
  """The hyper-parameters; each is a field of the config."""

  ipc: int = 1  # images per class
  init: str = "real"
  batch_real: int = 64  # real images of each class in one iteration
  lr_image: float = 10.0
  bandwidth: float = 1.0  # of the kernel


def kernel_dm(bound, settings):
  """Each iteration draws a network, and moves the images to where its features differ less."""
  optimizer = image_optimizer(settings.lr_image)

  def draw(dataset, key, number):  # int32 [classes, batch_real]
    return data.subset_indices(dataset, key, ipc=settings.batch_real)

  def kernel(x, y):  # the mean similarity of features [n, D] and [m, D]
    squares = ((x[:, None] - y[None]) ** 2).mean(-1)
    return jnp.exp(-squares / (2 * settings.bandwidth**2)).mean()

  def match(state, dataset, indices, key, number):
    params, omegas = bound.network.init(key), jax.random.split(key, dataset.num_classes)

    def discrepancy(omega, indices, images):
      real = bound.augmentations.real(omega, dataset.normalise(dataset.images[indices]))
      images = bound.augmentations.synthetic(omega, images)
      x, y = bound.network.apply(params, real)[1], bound.network.apply(params, images)[1]
      return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)

    def loss(stored):
      images = bound.formation.decode_classes(stored, dataset.whitening)  # [classes, n, H, W, C]
      return jax.vmap(discrepancy)(omegas, indices, images).sum()

    total, gradients = jax.value_and_grad(loss)(state.stored)
    return step_images(optimizer, state, gradients), {"loss": total / dataset.num_classes}

  start = initialiser(optimizer, ipc=settings.ipc, init=settings.init, formation=bound.formation)
  return Method(start=(start,), iteration=(Step(match, draw),))


KERNEL_DM = Definition(
  fields=lambda: condensation(Settings(), iterations=1000, checkpoint_every=100),
  build=lambda config, *where: kernel_dm(setup(config, *where), from_fields(Settings(), config)),
)
