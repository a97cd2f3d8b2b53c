"""The default ConvNet in PyTorch, and how it is called, eagerly or compiled.

Group norm with one group for each channel stands for instance norm: the same numbers, and
`nn.InstanceNorm2d` is slower.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import problem
from benchmarks.problem import Setting

Apply = Callable[[nn.Module, Tensor], Tensor]


def convnet(setting: Setting, device: torch.device) -> nn.Sequential:
  """DC's default: three blocks of 128 filters, then one linear layer; drawn by `torch`'s seed."""
  layers: list[nn.Module] = []
  side, _, channels = setting.image_shape
  padding = problem.first_padding(side)
  for _ in range(problem.DEPTH):
    layers += [
      nn.Conv2d(channels, problem.WIDTH, problem.KERNEL, padding=padding),
      nn.GroupNorm(problem.WIDTH, problem.WIDTH),
      nn.ReLU(),
      nn.AvgPool2d(2),
    ]
    channels, padding = problem.WIDTH, 1
  features = problem.WIDTH * problem.last_side(side) ** 2
  return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, setting.classes)).to(device)


def apply(network: nn.Module, images: Tensor) -> Tensor:
  """What a network makes of images."""
  return network(images)


def caller(compiled: bool) -> Apply:
  """`apply`, or what PyTorch's compiler makes of it."""
  return torch.compile(apply, dynamic=False) if compiled else apply


@torch.no_grad()
def load(network: nn.Sequential, params: Sequence[np.ndarray]) -> None:
  """Copies parameters as `layout.to_torch` gives them."""
  for parameter, array in zip(network.parameters(), params, strict=True):
    parameter.copy_(torch.tensor(array))
