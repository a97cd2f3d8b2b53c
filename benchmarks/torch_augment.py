"""DSA's six transforms in eager PyTorch (DSA, section 4.4), differentiable in the images.

Images are square, `[N, C, H, W]`; parameters are `[N, ...]`, or `[1, ...]` for all images alike.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CROP = 0.125  # of a side: the furthest shift, either way
CUTOUT = 0.5  # of a side: the side of the square
SCALE = 1.2  # sides are scaled within [1 / SCALE, SCALE]
DEGREES = 15.0  # of rotation, either way


def color(images: Tensor, u: Tensor) -> Tensor:
  """Brightness, saturation and contrast in this order, by u `[N, 3]` in [0, 1]."""
  brightness, saturation, contrast = u[:, :, None, None, None].unbind(1)
  images = images + (brightness - 0.5)
  mean = images.mean(1, keepdim=True)
  images = (images - mean) * (2 * saturation) + mean
  mean = images.mean((1, 2, 3), keepdim=True)
  return (images - mean) * (contrast + 0.5) + mean


def crop(images: Tensor, shift: Tensor) -> Tensor:
  """Moves the window by whole pixels `[N, 2]` of rows and columns; outside is zero."""
  side = images.shape[-1]
  furthest = _furthest(side)
  padded = functional.pad(images, (furthest,) * 4)
  if len(shift) == 1:
    row, col = (furthest + shift[0]).tolist()
    return padded[:, :, row : row + side, col : col + side]
  places = torch.arange(furthest, furthest + side, device=images.device)
  rows, cols = (places + shift[:, axis, None] for axis in (0, 1))
  number = torch.arange(len(images), device=images.device)[:, None, None]
  return padded[number, :, rows[:, :, None], cols[:, None]].permute(0, 3, 1, 2)


def _furthest(side: int) -> int:
  return int(side * CROP + 0.5)


def cutout(images: Tensor, centre: Tensor) -> Tensor:
  """Sets a square of half the side to zero, about rows and columns `[N, 2]`."""
  side = images.shape[-1]
  size = _cutout_size(side)
  offsets = torch.arange(side, device=images.device) - (centre[..., None] - size // 2)
  rows, cols = ((offsets >= 0) & (offsets < size)).unbind(1)
  return images.masked_fill((rows[:, :, None] & cols[:, None])[:, None], 0)


def _cutout_size(side: int) -> int:
  return int(side * CUTOUT + 0.5)


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
  """Mirrors left and right where `mirrored` `[N]` is true."""
  return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def scale(images: Tensor, factors: Tensor) -> Tensor:
  """Samples at places multiplied by `[N, 2]` factors of columns and rows about the centre."""
  return _warp(images, torch.diag_embed(factors))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
  """Samples at places turned by `[N]` degrees about the centre."""
  sine, cosine = torch.sin(torch.deg2rad(degrees)), torch.cos(torch.deg2rad(degrees))
  rows = [torch.stack(row, 1) for row in ((cosine, -sine), (sine, cosine))]
  return _warp(images, torch.stack(rows, 1))


def _warp(images: Tensor, matrices: Tensor) -> Tensor:
  """Bilinear sampling at places (column, row) multiplied by `[N, 2, 2]`; outside is zero."""
  shape = (len(matrices), *images.shape[1:])
  grid = functional.affine_grid(functional.pad(matrices, (0, 1)), shape, align_corners=False)
  return functional.grid_sample(images, grid.expand(len(images), -1, -1, -1), align_corners=False)


class Transform(NamedTuple):
  """One of the six.

  Attributes:
    draw: `draw(count, side, device)`, parameters `[count, ...]`.
    apply: `apply(images, parameters)`.
  """

  draw: Callable[[int, int, torch.device], Tensor]
  apply: Callable[[Tensor, Tensor], Tensor]


def _draw_shift(count: int, side: int, device: torch.device) -> Tensor:
  furthest = _furthest(side)
  return torch.randint(-furthest, furthest + 1, (count, 2), device=device)


def _draw_centre(count: int, side: int, device: torch.device) -> Tensor:
  # One more place for squares of an even side, which have no middle pixel.
  return torch.randint(0, side + 1 - _cutout_size(side) % 2, (count, 2), device=device)


def _uniform(low: float, high: float, *shape: int) -> Callable[[int, int, torch.device], Tensor]:
  return lambda count, _, device: low + (high - low) * torch.rand(count, *shape, device=device)


TRANSFORMS = {
  "color": Transform(_uniform(0, 1, 3), color),
  "crop": Transform(_draw_shift, crop),
  "cutout": Transform(_draw_centre, cutout),
  "flip": Transform(lambda count, _, device: torch.rand(count, device=device) < 0.5, flip),
  "scale": Transform(_uniform(1 / SCALE, SCALE, 2), scale),
  "rotate": Transform(_uniform(-DEGREES, DEGREES), rotate),
}


def draw(count: int, side: int, device: torch.device) -> Callable[[Tensor], Tensor]:
  """Draws one of the transforms, and its parameters for `count` images, or 1 for all alike."""
  transform = list(TRANSFORMS.values())[int(torch.randint(len(TRANSFORMS), ()))]
  parameters = transform.draw(count, side, device)
  return lambda images: transform.apply(images, parameters)


def sequence(
  strategy: str, count: int, side: int, device: torch.device
) -> Callable[[Tensor], Tensor]:
  """Draws the parameters of all transforms of a strategy, which are done in the order given."""
  steps = [TRANSFORMS[name] for name in strategy.split("_")]
  parameters = [transform.draw(count, side, device) for transform in steps]

  def apply(images):
    for transform, drawn in zip(steps, parameters, strict=True):
      images = transform.apply(images, drawn)
    return images

  return apply


def transformed(images: Tensor, name: str, parameters: np.ndarray) -> Tensor:
  """Images under one transform with given parameters."""
  return TRANSFORMS[name].apply(images, torch.from_numpy(parameters).to(images.device))


def numbers(images: Tensor, draws: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
  """What each transform makes of images, and of these in reverse order as a cotangent."""
  outputs, gradients = [], []
  for name, parameters in draws.items():
    inputs = images.clone().requires_grad_()
    output = transformed(inputs, name, parameters)
    outputs.append(_nhwc(output.detach()))
    gradients.append(_nhwc(torch.autograd.grad(output, inputs, images.flip(0))[0]))
  return {"transformed images": outputs, "gradients of transforms": gradients}


def _nhwc(images: Tensor) -> np.ndarray:
  return images.permute(0, 2, 3, 1).cpu().numpy()
