"""What is timed: the shapes, the random images, and the arithmetic that one step needs.

NumPy alone: both frameworks' workers and their parent import this.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

PROBLEMS = ("dc", "dsa", "dm", "training")
CLASSES = 10
WIDTH = 128  # filters of each block of the ConvNet
DEPTH = 3  # blocks
KERNEL = 3
IMAGES_PER_CLASS = 600  # real images to draw from
MEAN, STD = 0.5, 0.29  # of pixels in [0, 1], in every channel; the images are uniform noise
LR_IMAGE = {"dc": 0.1, "dsa": 0.1, "dm": 1.0}
MOMENTUM_IMAGE = 0.5
NETWORKS, EPOCHS = 5, 10  # trained in one step of the problem 'training'
PRODUCTS = ((2048, 2048, 2048), (2048, 1152, 128))  # rows, inner, columns: how fast can it be?
PRODUCT_REPEATS = 5
CHECK_IMAGES = 12  # real images a class where the frameworks are compared; no whole blocks
CHECK_EPOCHS = 4  # of training where they are compared
# Of a whole step there. The others fill in zeros: large areas whose ReLU inputs are all the same
# number, which may round to either side of zero.
CHECK_TRANSFORMS = ("color", "flip")
SEED = 0


class Setting(NamedTuple):
  """One row of the table.

  Attributes:
    problem: one of `PROBLEMS`.
    name: whose shapes these are.
    image_shape: `(H, W, C)`.
    ipc: synthetic images of each class.
    real: real images of each class in one step; 0 where there are none.
    per_class: real images of each class to draw them from.
    augmented: whether images go through DSA's transforms.
  """

  problem: str
  name: str
  image_shape: tuple[int, int, int]
  ipc: int
  real: int
  per_class: int
  augmented: bool

  def label(self) -> str:
    """What the row is called."""
    where = f"{self.name}, ipc {self.ipc}"
    if self.problem != "training":
      return f"{self.problem.upper()}, {where}, {self.real} real"
    how = "augmented" if self.augmented else "plain"
    return f"training, {where}, {how}, {NETWORKS} networks, {EPOCHS} epochs"


def settings(problems: Sequence[str], real: int) -> list[Setting]:
  """The rows of the table for some of `PROBLEMS`, with `real` images a class in a step."""
  per_class = max(IMAGES_PER_CLASS, real)
  cifar = ("CIFAR-10", (32, 32, 3), 10)
  rows = [
    Setting("dc", "MNIST", (28, 28, 1), 1, real, per_class, augmented=False),
    Setting("dc", *cifar, real, per_class, augmented=False),
    Setting("dsa", *cifar, real, per_class, augmented=True),
    Setting("dm", *cifar, real, per_class, augmented=True),
    Setting("training", *cifar, 0, 1, augmented=False),
    Setting("training", *cifar, 0, 1, augmented=True),
  ]
  return [row for row in rows if row.problem in problems]


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


def draws(count: int) -> dict[str, np.ndarray]:
  """What the frameworks are compared with: parameters `[count, ...]` of each transform of DSA.

  `color` three numbers in [0, 1]; `crop` a shift of rows and columns; `cutout` the row and column
  of the centre; `flip` whether; `scale` factors of columns and rows; `rotate` degrees.
  """
  random = np.random.RandomState(SEED + 2)
  return {
    "color": random.uniform(0, 1, (count, 3)).astype(np.float32),
    "crop": random.randint(-4, 5, (count, 2), dtype=np.int32),
    "cutout": random.randint(0, 33, (count, 2), dtype=np.int32),
    "flip": np.arange(count) % 2 == 0,
    "scale": random.uniform(1 / 1.2, 1.2, (count, 2)).astype(np.float32),
    "rotate": random.uniform(-15, 15, count).astype(np.float32),
  }


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
  """Floating-point operations that one step needs, of convolutions and linear layer only.

  With F a layer's forward product (`products`), an image needs F for the forward pass, F for the
  gradient to the weights, and, in every layer but the first, F for the gradient to its inputs: 3F,
  in the first layer 2F. So does an image that a network is trained on, and a real image of DC and
  DSA. A synthetic image of theirs needs the same once, and then the gradient of that gradient.
  The weight gradient is a product of two arrays that both depend on the images, which costs 2F to
  go back through; the gradient to the inputs costs F more, to its cotangent (the network's weights
  are constants here); the forward pass costs F more, to its inputs: 7F, in the first layer, which
  has no gradient to its inputs to go back through, 5F. DM does without the linear layer: F for a
  real image; 2F for a synthetic one, whose gradient goes to the inputs alone.
  """
  first, *others = products(setting.image_shape)
  trained = 2 * first + 3 * sum(others)
  if setting.problem == "training":
    return float(NETWORKS * EPOCHS * CLASSES * setting.ipc * trained)
  if setting.problem == "dm":
    return float(CLASSES * (setting.real + 2 * setting.ipc) * (first + sum(others[:-1])))
  twice = 5 * first + 7 * sum(others)
  return float(CLASSES * (setting.real * trained + setting.ipc * twice))
