"""An inner step of IDC and an iteration of IDM in PyTorch, written from the papers."""

import random

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


class Trained:
  """A network of IDM's queue, and the accuracy on the batches that have trained it."""

  def __init__(self, network: nn.Sequential, accuracy: float = 0.0):
    self.network, self.sgd = network, _sgd(network)
    self.accuracy, self.steps = accuracy, 0

  def count(self, share: float) -> None:
    """Takes what it had right of one more batch into the mean."""
    self.accuracy = (self.accuracy * self.steps + share) / (self.steps + 1)
    self.steps += 1


class Idm(Dm):
  """IDM: the distance of mean features and the weighted cross-entropy, with networks of a queue.

  The oldest network would leave the queue when it is full, which no benchmark lasts for.
  """

  def __init__(self, setting: Setting, device: torch.device, block: int, compiled: bool):
    super().__init__(setting, device, block, compiled)
    self._serving = Trained(self.network, problem.CHECK_ACCURACY)
    self._iterations = 0
    self._queue: list[Trained] = []

  def __call__(self) -> float:
    """One matching of all classes, one image step, the networks' training; a new one if due."""
    if not self._queue:
      self._queue = [self._fresh() for _ in range(problem.IDM_INITIAL)]
    self._serving = random.choice(self._queue)
    loss = self._image_step()
    for trained in random.sample(self._queue, problem.IDM_TRAINED):
      for _ in range(problem.IDM_STEPS):
        images, labels = self._batch(problem.IDM_BATCH)
        right = _step(self._apply, trained.network, trained.sgd, images, labels)
        trained.count(right.item())
    if self._iterations % problem.IDM_INTERVAL == 0:
      self._queue.append(self._fresh())
    self._iterations += 1
    return loss

  def _distance(self, label: int, real: Tensor, synthetic: Tensor) -> Tensor:
    labels = torch.full((len(synthetic),), label, device=self._device)
    self.network = self._serving.network
    *embedding, classifier = self.network
    features = self._apply(nn.Sequential(*embedding), synthetic)
    distance = ((features.mean(0) - self._mean_features(real)) ** 2).sum()
    weight = problem.IDM_REGULARISATION * 100 * self._serving.accuracy
    return distance + weight * functional.cross_entropy(classifier(features), labels)

  def _fresh(self) -> Trained:
    return Trained(torch_network.convnet(self._setting, self._device))


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
) -> Tensor:
  """One step, and the share of the batch that was right before it, for labels as targets."""
  sgd.zero_grad()
  logits = apply(network, images)
  functional.cross_entropy(logits, targets).backward()
  sgd.step()
  return (
    (logits.argmax(1) == targets).float().mean() if targets.dim() == 1 else logits.new_zeros(())
  )
