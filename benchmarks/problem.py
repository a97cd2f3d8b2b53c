"""What is timed: the shapes, the random images, and the arithmetic that one step needs.

NumPy alone: both frameworks' workers and their parent import this.
"""

from typing import NamedTuple

import numpy as np

CLASSES = 10
WIDTH = 128  # filters of each block of the ConvNet
DEPTH = 3  # blocks
KERNEL = 3
IMAGES_PER_CLASS = 600  # real images to draw from
MEAN, STD = 0.5, 0.29  # of pixels in [0, 1], in every channel; the images are uniform noise
LR_IMAGE, MOMENTUM_IMAGE = 0.1, 0.5
EPSILON = 1e-6  # in the denominator of Eq. 10
PRODUCTS = ((2048, 2048, 2048), (2048, 1152, 128))  # rows, inner, columns: how fast can it be?
PRODUCT_REPEATS = 5
CHECK_IMAGES = 12  # real images a class where the frameworks are compared; no whole blocks
SEED = 0


class Setting(NamedTuple):
  """One row of the table.

  Attributes:
    name: whose shapes these are.
    image_shape: `(H, W, C)`.
    ipc: synthetic images of each class.
    real: real images of each class in one step.
    per_class: real images of each class to draw them from.
  """

  name: str
  image_shape: tuple[int, int, int]
  ipc: int
  real: int
  per_class: int


def settings(real: int) -> list[Setting]:
  """The settings of the table, with `real` images a class in a step."""
  per_class = max(IMAGES_PER_CLASS, real)
  return [
    Setting("MNIST", (28, 28, 1), 1, real, per_class),
    Setting("CIFAR-10", (32, 32, 3), 10, real, per_class),
  ]


def small(setting: Setting) -> Setting:
  """The same shapes with few real images: each class has as many as a step takes of it."""
  return setting._replace(real=CHECK_IMAGES, per_class=CHECK_IMAGES)


def real_images(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
  """Noise: uint8 `[classes * per_class, H, W, C]` sorted by class, and its labels."""
  labels = np.repeat(np.arange(CLASSES), setting.per_class)
  random = np.random.RandomState(SEED)
  shape = (len(labels), *setting.image_shape)
  return random.randint(0, 256, shape, dtype=np.uint8), labels


def synthetic_images(setting: Setting) -> np.ndarray:
  """Standard normal float32 `[classes, ipc, H, W, C]`, DC's initial images."""
  random = np.random.RandomState(SEED + 1)
  shape = (CLASSES, setting.ipc, *setting.image_shape)
  return random.standard_normal(shape).astype(np.float32)


def first_padding(side: int) -> int:
  """Padding of the first convolution, which brings images of 28 pixels to 32."""
  return 3 if side == 28 else 1


def last_side(side: int) -> int:
  """Height and width of the last block's output for images of `side` pixels."""
  return (side + 2 * first_padding(side) - 2) >> DEPTH


def products(image_shape: tuple[int, int, int]) -> list[int]:
  """Multiplications and additions of each layer's forward product for one image."""
  side = image_shape[0] + 2 * first_padding(image_shape[0]) - 2
  channels, counts = image_shape[2], []
  for _ in range(DEPTH):
    counts.append(2 * side**2 * KERNEL**2 * channels * WIDTH)
    side, channels = side // 2, WIDTH
  return [*counts, 2 * side**2 * WIDTH * CLASSES]


def arithmetic(setting: Setting) -> float:
  """Floating-point operations that one image step needs, of convolutions and linear layer only.

  With F a layer's forward product (`products`), a real image needs F for the forward pass and F
  for the weight gradient, and, in every layer but the first, F for the gradient to its inputs:
  3F, in the first layer 2F. A synthetic image needs the same once, and then the gradient of that
  gradient. The weight gradient is a product of two arrays that both depend on the images, which
  costs 2F to go back through; the gradient to the inputs costs F more, to its cotangent (the
  network's weights are constants here); the forward pass costs F more, to its inputs: 7F, in the
  first layer, which has no gradient to its inputs to go back through, 5F.
  """
  first, *others = products(setting.image_shape)
  real = 2 * first + 3 * sum(others)
  synthetic = 5 * first + 7 * sum(others)
  return float(CLASSES * (setting.real * real + setting.ipc * synthetic))
