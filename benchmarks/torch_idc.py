"""An inner step of IDC and an iteration of IDM in PyTorch, written from the papers."""

import random
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import problem, torch_augment, torch_network
from benchmarks.problem import Setting
from benchmarks.torch_matching import Augment, Dc, Dm, Gradients
from benchmarks.torch_network import Apply


class Idc(Dc):
  """IDC: the squared distance of the gradients of convolutions; then the network is trained."""

  dimensions = 4

  def __init__(self, setting: Setting, device: torch.device, block: int, compiled: bool):
    super().__init__(setting, device, block, compiled)
    self._sgd = _sgd(self.network)

  def __call__(self) -> float:
    """One matching of all classes, one image step, and steps of SGD on real images."""
    loss = self._image_step()
    for _ in range(problem.IDC_STEPS):
      images, labels = self._batch(problem.IDC_BATCH)
      images = torch_augment.sequence(
        problem.IDC_TRAINING, len(images), images.shape[-1], self._device
      )(images)
      targets = functional.one_hot(labels, self._setting.classes).float()
      if random.random() < problem.IDC_CUTMIX:
        images, targets = cutmix(images, targets)
      _step(self._apply, self.network, self._sgd, images, targets)
    return loss

  def _compare(self, ours: Gradients, target: Gradients) -> Tensor:
    differences = [((a - b) ** 2).sum() for a, b in zip(ours, target, strict=True)]
    return torch.stack(differences).sum()

  def _draw(self) -> Augment:
    side = self._setting.image_shape[0]
    return torch_augment.sequence(problem.IDC_MATCHING, 1, side, self._device)


class Trained(NamedTuple):
  """A network of IDM's queue."""

  network: nn.Sequential
  sgd: torch.optim.Optimizer
  accuracy: float


class Idm(Dm):
  """IDM: the distance of mean features and the weighted cross-entropy, with a network of a queue.

  The oldest network would leave the queue when it is full, which no benchmark lasts for.
  """

  def __init__(self, setting: Setting, device: torch.device, block: int, compiled: bool):
    super().__init__(setting, device, block, compiled)
    self._accuracy = problem.CHECK_ACCURACY
    self._iterations = 0
    self._queue: list[Trained] = []

  def __call__(self) -> float:
    """One matching of all classes and one image step; training and a new network if due."""
    if not self._queue:
      self._queue = [self._fresh() for _ in range(problem.IDM_INITIAL)]
    place = random.randrange(len(self._queue))
    self.network, sgd, self._accuracy = self._queue[place]
    loss = self._image_step()
    if self._iterations % problem.IDM_INTERVAL == 0:
      for _ in range(problem.IDM_STEPS):
        images, labels = self._batch(problem.IDM_BATCH)
        draw = torch_augment.draw(len(images), images.shape[-1], self._device)
        _step(self._apply, self.network, sgd, draw(images), labels)
      self._queue[place] = Trained(self.network, sgd, self._measured(self.network))
      self._queue.append(self._fresh())
    self._iterations += 1
    return loss

  def _distance(self, label: int, real: Tensor, synthetic: Tensor) -> Tensor:
    *embedding, classifier = self.network
    features = self._apply(nn.Sequential(*embedding), synthetic)
    labels = torch.full((len(synthetic),), label, device=self._device)
    regulariser = functional.cross_entropy(classifier(features), labels)
    distance = ((features.mean(0) - self._mean_features(real)) ** 2).sum()
    return distance + problem.IDM_REGULARISATION * self._accuracy * regulariser

  def _fresh(self) -> Trained:
    network = torch_network.convnet(self._setting, self._device)
    return Trained(network, _sgd(network), self._measured(network))

  @torch.no_grad()
  def _measured(self, network: nn.Sequential) -> float:
    """The accuracy of a network on a sample of real images."""
    images, labels = self._batch(problem.IDM_SAMPLE)
    found = [self._apply(network, part).argmax(1) for part in images.split(self._block)]
    return (torch.cat(found) == labels).float().mean().item()


def cutmix(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
  """CutMix (Yun et al., ICCV 2019) with one box and one order for the batch."""
  height, width = images.shape[-2:]
  root = random.random() ** 0.5  # of 1 - lambda, which Beta(1, 1) makes uniform
  rows, columns = (
    _span(random.randrange(side), int(root * side), side) for side in (height, width)
  )
  order = torch.randperm(len(images), device=images.device)
  mixed = images.clone()
  mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
  area = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
  return mixed, (1 - area) * targets + area * targets[order]


def _span(centre: int, size: int, side: int) -> slice:
  start = centre - size // 2
  return slice(max(start, 0), min(start + size, side))


def _sgd(network: nn.Sequential) -> torch.optim.Optimizer:
  return torch.optim.SGD(
    network.parameters(),
    problem.LR_NETWORK,
    momentum=problem.MOMENTUM_NETWORK,
    weight_decay=problem.WEIGHT_DECAY,
  )


def _step(
  apply: Apply,
  network: nn.Sequential,
  sgd: torch.optim.Optimizer,
  images: Tensor,
  targets: Tensor,
) -> None:
  sgd.zero_grad()
  functional.cross_entropy(apply(network, images), targets).backward()
  sgd.step()
