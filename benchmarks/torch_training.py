"""Networks trained on a condensed set in PyTorch, one after another."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import problem, torch_augment, torch_network
from benchmarks.problem import Setting

BATCH = 256
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4


class Training:
  """The evaluation of DC, DSA and DM: SGD, its rate cut to a tenth half way through the epochs."""

  def __init__(self, setting: Setting, device: torch.device, block: int, compiled: bool):
    """Makes the set; `block` images of a batch go through together, 0 for the whole batch."""
    self._apply = torch_network.caller(compiled)
    self._setting, self._device, self._block = setting, device, block or BATCH
    images = torch.from_numpy(problem.synthetic_images(setting)).flatten(0, 1)
    self._images = images.permute(0, 3, 1, 2).contiguous().to(device)
    self._labels = torch.arange(setting.classes, device=device).repeat_interleave(setting.ipc)

  def __call__(self) -> float:
    """Trains all networks; returns the mean of their last losses."""
    losses = []
    for _ in range(problem.NETWORKS):
      network = torch_network.convnet(self._setting, self._device)
      losses.append(self._train(network, problem.EPOCHS, self._setting.augmented))
    return torch.stack(losses).mean().item()

  def numbers(self, params: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Change of the logits, and the transforms, as in `jax_training.Training.numbers`."""
    network = torch_network.convnet(self._setting, self._device)
    torch_network.load(network, params)
    before = network(self._images).detach()
    self._train(network, problem.CHECK_EPOCHS, augmented=False)
    change = network(self._images).detach() - before
    transforms = {}
    if self._setting.augmented:
      transforms = torch_augment.numbers(self._images, problem.draws(len(self._images)))
    return {"change of logits": [change.cpu().numpy()], **transforms}

  def _train(self, network: nn.Sequential, epochs: int, augmented: bool) -> Tensor:
    optimizer = torch.optim.SGD(
      network.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 2])
    for _ in range(epochs):
      for index in torch.randperm(len(self._images), device=self._device).split(BATCH):
        images, labels = self._images[index], self._labels[index]
        if augmented:
          images = torch_augment.draw(len(images), images.shape[-1], self._device)(images)
        optimizer.zero_grad()
        loss = self._backward(network, images, labels)
        optimizer.step()
      schedule.step()
    return loss

  def _backward(self, network: nn.Sequential, images: Tensor, labels: Tensor) -> Tensor:
    """The mean loss; adds its gradient to that of the parameters."""
    total = torch.zeros((), device=self._device)
    for part, part_labels in zip(images.split(self._block), labels.split(self._block), strict=True):
      logits = self._apply(network, part)
      loss = functional.cross_entropy(logits, part_labels, reduction="sum") / len(images)
      loss.backward()
      total += loss.detach()
    return total
