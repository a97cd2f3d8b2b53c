"""What the problems share on dcjax's side."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import problem
from benchmarks.problem import Setting
from dcjax import data, nn
from dcjax.common.registry import TRANSFORMS
from dcjax.common.types import Array
from dcjax.devices.strategy import Strategy, choose
from dcjax.nn import Network
from dcjax.sets import formation


def strategy(setting: Setting) -> Strategy:
  """The backend's default, with what the setting changes, on one device, as PyTorch takes one."""
  changes = dict(setting.strategy)
  side = setting.image_shape[0]
  return choose(jax.default_backend(), setting.classes, side, mesh="1x1", **changes)


def network(setting: Setting, strategy: Strategy) -> Network:
  """The default ConvNet."""
  return nn.create(
    "convnet",
    setting.image_shape,
    setting.classes,
    convolution=strategy.convolution,
    first_block=strategy.first_block if setting.problem in problem.GRADIENTS else 0,
    precision=setting.precision,
  )


def dataset(setting: Setting) -> data.Dataset:
  """The real images, and one image to test networks on."""
  images, labels = problem.real_images(setting)
  mean, std = (np.full(images.shape[-1], x, np.float32) for x in (problem.MEAN, problem.STD))
  return data.from_arrays(
    images, labels, images[:1], labels[:1], name=setting.name, mean=mean, std=std
  )


def decoder(setting: Setting, dataset: data.Dataset) -> formation.Formation:
  """What makes the synthetic images of those that are stored."""
  mean, std = (tuple(np.asarray(x).tolist()) for x in (dataset.mean, dataset.std))
  return formation.create(
    "uniform",
    setting.factor,
    shape=setting.image_shape,
    ipc=setting.ipc,
    mean=mean,
    std=std,
    unit=setting.unit,
  )


def transformed(images: Array, name: str, parameters: np.ndarray) -> Array:
  """Images `[N, ...]` under a transform of DSA with parameters `[N, ...]`, or `[1, ...]`."""
  shape = (images.shape[0], *parameters.shape[1:])
  each = jnp.broadcast_to(jnp.asarray(parameters), shape)
  return jax.vmap(TRANSFORMS.find("transform", name).apply)(images, each)


def transforms(images: Array, draws: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
  """What each transform makes of images, and of these in reverse order as a cotangent."""
  outputs, gradients = [], []
  for name, parameters in draws.items():
    output, pull = jax.vjp(partial(transformed, name=name, parameters=parameters), images)
    outputs.append(np.asarray(output))
    gradients.append(np.asarray(pull(images[::-1])[0]))
  return {"transformed images": outputs, "gradients of transforms": gradients}
