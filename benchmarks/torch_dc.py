"""The image step of DC in eager PyTorch, written from the paper: a loop over the classes.

It takes what is fastest among ways that eager code is written: the real images are normalised
and in memory as floats before the clock starts; group norm with one group for each channel
stands for instance norm (the same numbers; `nn.InstanceNorm2d` is slower); gradients that Eq. 10
does not count (biases, norms) are not asked for, nor is the gradient of the distance to the
parameters. A class' gradient is that of its whole batch, as Algorithm 1 has it, unless `block`
says otherwise.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import problem
from benchmarks.problem import Setting


def convnet(image_shape: tuple[int, int, int]) -> nn.Sequential:
  """The default ConvNet of DC: three blocks of 128 filters, then one linear layer."""
  layers: list[nn.Module] = []
  channels, padding = image_shape[2], problem.first_padding(image_shape[0])
  for _ in range(problem.DEPTH):
    layers += [
      nn.Conv2d(channels, problem.WIDTH, problem.KERNEL, padding=padding),
      nn.GroupNorm(problem.WIDTH, problem.WIDTH),
      nn.ReLU(),
      nn.AvgPool2d(2),
    ]
    channels, padding = problem.WIDTH, 1
  features = problem.WIDTH * problem.last_side(image_shape[0]) ** 2
  return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, problem.CLASSES))


@torch.no_grad()
def load(network: nn.Sequential, params: dict[str, Any]) -> None:
  """Copies dcjax's parameters: kernels HWIO to OIHW, the linear layer's inputs HWC to CHW."""
  for block in range(problem.DEPTH):
    conv, norm = network[4 * block], network[4 * block + 1]
    kernel = params[f"Convolution_{block}"]["kernel"].transpose(3, 2, 0, 1)
    _copy(conv, kernel, params[f"Convolution_{block}"]["bias"])
    _copy(norm, params[f"Norm_{block}"]["scale"], params[f"Norm_{block}"]["bias"])
  linear = params["Linear_0"]["Dense_0"]
  side = round((len(linear["kernel"]) / problem.WIDTH) ** 0.5)
  kernel = linear["kernel"].reshape(side, side, problem.WIDTH, problem.CLASSES)
  kernel = kernel.transpose(3, 2, 0, 1).reshape(problem.CLASSES, -1)
  _copy(network[-1], kernel, linear["bias"])


def _copy(layer: nn.Module, weight: np.ndarray, bias: np.ndarray) -> None:
  layer.weight.copy_(torch.tensor(weight))
  layer.bias.copy_(torch.tensor(bias))


def distance(ours: tuple[Tensor, ...], targets: tuple[Tensor, ...]) -> Tensor:
  """Eq. 10: 1 - cos for each output unit, summed over units and layers."""
  total = torch.zeros((), device=ours[0].device)
  for a, b in zip(ours, targets, strict=True):
    a, b = a.flatten(1), b.flatten(1)
    norms = a.norm(dim=1) * b.norm(dim=1)
    total = total + (1 - (a * b).sum(1) / (norms + problem.EPSILON)).sum()
  return total


class Step:
  """The image step at one setting."""

  def __init__(self, network: nn.Sequential, setting: Setting, device: torch.device, block: int):
    """Makes the data; `block` real images go through together, 0 for the whole batch."""
    self.network, self._device = network, device
    self._weights = [p for p in network.parameters() if p.dim() > 1]
    self._real, self._block = setting.real, block or setting.real
    self._data, labels = _normalised(setting, device)
    self._places = [torch.nonzero(labels == c).flatten() for c in range(problem.CLASSES)]
    images = torch.from_numpy(problem.synthetic_images(setting)).permute(0, 1, 4, 2, 3)
    self.images = images.contiguous().to(device).requires_grad_()
    self._optimizer = torch.optim.SGD(
      [self.images], lr=problem.LR_IMAGE, momentum=problem.MOMENTUM_IMAGE
    )

  def match(self) -> Tensor:
    """Steps 5 to 8: leaves the gradient in `images.grad`; returns the distances `[classes]`."""
    self.images.grad = torch.empty_like(self.images)
    distances = []
    for label, images in enumerate(self.images.detach()):
      target = self._real_gradient(label)
      images.requires_grad_()
      ours = self._gradient(images, label, len(images), create_graph=True)
      found = distance(ours, target)
      self.images.grad[label] = torch.autograd.grad(found, images)[0]
      distances.append(found.detach())
    return torch.stack(distances)

  def __call__(self) -> float:
    """One image step; returns the mean distance."""
    loss = self.match().mean()
    self._optimizer.step()
    return loss.item()

  def _real_gradient(self, label: int) -> tuple[Tensor, ...]:
    places = self._places[label]
    order = torch.randperm(len(places), device=self._device)[: self._real]
    first, *others = self._data[places[order]].split(self._block)
    total = self._gradient(first, label, self._real)
    for images in others:
      gradient = self._gradient(images, label, self._real)
      total = tuple(a + b for a, b in zip(total, gradient, strict=True))
    return total

  def _gradient(
    self, images: Tensor, label: int, count: int, create_graph: bool = False
  ) -> tuple[Tensor, ...]:
    labels = torch.full((len(images),), label, device=self._device)
    loss = functional.cross_entropy(self.network(images), labels, reduction="sum") / count
    return torch.autograd.grad(loss, self._weights, create_graph=create_graph)


def _normalised(setting: Setting, device: torch.device) -> tuple[Tensor, Tensor]:
  images, labels = problem.real_images(setting)
  images = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
  images = (images.float().contiguous() / 255 - problem.MEAN) / problem.STD
  return images, torch.from_numpy(labels).to(device)
