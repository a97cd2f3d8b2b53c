"""The steps of DC, DSA and DM in PyTorch, written from the papers: a loop over the classes.

They take what is fastest among ways that eager code is written: the real images are normalised
and in memory as floats before the clock starts; gradients that are not needed are not asked for
(those that Eq. 10 does not count, that of the distance to the parameters, and any to the
parameters in DM). A class' real images go through as a whole batch, as the algorithms have it,
unless `block` says otherwise. They are eager, unless networks and their gradients are to be
compiled.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import problem, torch_augment, torch_network
from benchmarks.problem import Setting

EPSILON = 1e-6  # in the denominator of Eq. 10
Augment = Callable[[Tensor], Tensor]
Gradients = tuple[Tensor, ...]
Parameters = dict[str, Tensor]  # by name


class Matching:
  """What the methods share: the real images of a class, the synthetic ones and their optimiser."""

  def __init__(self, setting: Setting, device: torch.device, block: int, compiled: bool):
    """Makes the data; `block` real images go through together, 0 for the whole batch."""
    self._compiled, self._apply = compiled, torch_network.caller(compiled)
    self.network = torch_network.convnet(setting, device)
    self._setting, self._device, self._block = setting, device, block or setting.real
    self._data, self._labels = _normalised(setting, device)
    self._places = [torch.nonzero(self._labels == c).flatten() for c in range(setting.classes)]
    images = torch.from_numpy(problem.synthetic_images(setting)).permute(0, 1, 4, 2, 3)
    self.images = images.contiguous().to(device).requires_grad_()
    self._optimizer = torch.optim.SGD(
      [self.images], lr=problem.LR_IMAGE[setting.problem], momentum=problem.MOMENTUM_IMAGE
    )

  def __call__(self) -> float:
    """One image step; returns the mean distance."""
    return self._image_step()

  def match(self, draw: Callable[[], Augment]) -> Tensor:
    """Leaves the gradient in `images.grad`; returns the distances `[classes]`.

    Args:
      draw: for each class, what its real and its synthetic images both go through.
    """
    self.images.grad = torch.empty_like(self.images)
    distances = []
    for label, images in enumerate(self.images.detach()):
      augment = draw()
      real = augment(self._real(label))
      images.requires_grad_()
      found = self._distance(label, real, augment(self._decode(images)))
      self.images.grad[label] = torch.autograd.grad(found, images)[0]
      distances.append(found.detach())
    return torch.stack(distances)

  def numbers(self, params: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Distances and image gradients of `jax_matching.Matching.numbers`."""
    step = type(self)(problem.small(self._setting), self._device, self._block, self._compiled)
    torch_network.load(step.network, params)
    distances = step.match(step._fixed if self._setting.augmented else step._nothing)
    gradients = step.images.grad.permute(0, 1, 3, 4, 2)
    transforms = {}
    if self._setting.augmented:
      transforms = torch_augment.numbers(self.images.detach().flatten(0, 1), problem.draws(1))
    return {
      "distances": [distances.cpu().numpy()],
      "image gradients": list(gradients.cpu().numpy()),
      **transforms,
    }

  def _image_step(self) -> float:
    loss = self.match(self._draw).mean()
    self._optimizer.step()
    return loss.item()

  def _batch(self, count: int) -> tuple[Tensor, Tensor]:
    """Real images of any class, drawn with replacement, and their labels."""
    places = torch.randint(len(self._data), (count,), device=self._device)
    return self._data[places], self._labels[places]

  def _real(self, label: int) -> Tensor:
    places = self._places[label]
    order = torch.randperm(len(places), device=self._device)[: self._setting.real]
    return self._data[places[order]]

  def _decode(self, images: Tensor) -> Tensor:
    """The synthetic images of a class, `[n * factor^2, C, H, W]`: its tiles at full size."""
    if self._setting.factor > 1:
      side = images.shape[-1] // self._setting.factor
      tiles = images.unfold(2, side, side).unfold(3, side, side)  # [n, C, rows, columns, ...]
      tiles = tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
      images = functional.interpolate(tiles, size=images.shape[-2:], mode="bilinear")
    if self._setting.unit:
      images = (images - problem.MEAN) / problem.STD
    return images

  def _draw(self) -> Augment:
    if not self._setting.augmented:
      return self._nothing()
    return torch_augment.draw(1, self._setting.image_shape[0], self._device)

  def _nothing(self) -> Augment:
    return lambda images: images

  def _fixed(self) -> Augment:
    draws = problem.draws(1)

    def apply(images):
      for name in problem.CHECK_TRANSFORMS:
        images = torch_augment.transformed(images, name, draws[name])
      return images

    return apply

  def _distance(self, label: int, real: Tensor, synthetic: Tensor) -> Tensor:
    raise NotImplementedError


class Dc(Matching):
  """DC and DSA: the distance of the gradients of one class' mean loss."""

  dimensions = 2  # of a parameter whose gradient is matched, or more

  def __init__(self, setting: Setting, device: torch.device, block: int, compiled: bool):
    super().__init__(setting, device, block, compiled)
    named = self.network.named_parameters()
    self._weights = {name: p for name, p in named if p.dim() >= self.dimensions}

  def _distance(self, label: int, real: Tensor, synthetic: Tensor) -> Tensor:
    target = self._real_gradient(label, real)
    ours = self._gradient(synthetic, label, len(synthetic), create_graph=True)
    return self._compare(ours, target)

  def _compare(self, ours: Gradients, target: Gradients) -> Tensor:
    """Eq. 10 of DC: 1 - cos for each output unit, summed over units and layers."""
    total = torch.zeros((), device=self._device)
    for a, b in zip(ours, target, strict=True):
      a, b = a.flatten(1), b.flatten(1)
      norms = a.norm(dim=1) * b.norm(dim=1)
      total = total + (1 - (a * b).sum(1) / (norms + EPSILON)).sum()
    return total

  def _real_gradient(self, label: int, real: Tensor) -> Gradients:
    first, *others = real.split(self._block)
    total = self._gradient(first, label, len(real))
    for images in others:
      gradient = self._gradient(images, label, len(real))
      total = tuple(a + b for a, b in zip(total, gradient, strict=True))
    return total

  def _gradient(
    self, images: Tensor, label: int, count: int, create_graph: bool = False
  ) -> Gradients:
    labels = torch.full((len(images),), label, device=self._device)
    if self._compiled:
      others = {name: p.detach() for name, p in self.network.named_parameters()}
      weights = {name: others.pop(name) for name in self._weights}
      with torch.set_grad_enabled(create_graph):
        return tuple(self._weight_gradient(weights, others, images, labels, count).values())
    loss = functional.cross_entropy(self.network(images), labels, reduction="sum") / count
    return torch.autograd.grad(loss, tuple(self._weights.values()), create_graph=create_graph)

  @functools.cached_property
  def _weight_gradient(self) -> Callable[..., Parameters]:
    return torch.compile(torch.func.grad(self._loss), dynamic=False)

  def _loss(
    self, weights: Parameters, others: Parameters, images: Tensor, labels: Tensor, count: int
  ) -> Tensor:
    """The mean loss. A compiled backward pass has no gradient, but its gradient compiled has."""
    logits = torch.func.functional_call(self.network, weights | others, (images,))
    return functional.cross_entropy(logits, labels, reduction="sum") / count


class Dm(Matching):
  """DM: the squared distance of a class' mean features, under a new network in every step."""

  def __call__(self) -> float:
    """One image step of a network drawn for it; returns the mean distance."""
    self.network = torch_network.convnet(self._setting, self._device)
    return self._image_step()

  def _distance(self, label: int, real: Tensor, synthetic: Tensor) -> Tensor:
    del label
    features = self._apply(self.network[:-1], synthetic)
    return ((features.mean(0) - self._mean_features(real)) ** 2).sum()

  @torch.no_grad()
  def _mean_features(self, real: Tensor) -> Tensor:
    embed = self.network[:-1]
    return sum(self._apply(embed, part).sum(0) for part in real.split(self._block)) / len(real)


def _normalised(setting: Setting, device: torch.device) -> tuple[Tensor, Tensor]:
  images, labels = problem.real_images(setting)
  images = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
  images = (images.float().contiguous() / 255 - problem.MEAN) / problem.STD
  return images, torch.from_numpy(labels).to(device)
