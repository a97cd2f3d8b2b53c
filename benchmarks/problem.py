"""What is timed: the shapes, the random images, and the arithmetic that one step needs.

NumPy alone: both frameworks' workers and their parent import this.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

METHODS = ("dc", "dsa", "dm", "idc", "idm")
GRADIENTS = ("dc", "dsa", "idc")  # those that match gradients
PROBLEMS = (*METHODS, "training")
REAL = dict.fromkeys(PROBLEMS, 256) | {"idc": 64}  # the papers' real images a class in one step
WIDTH = 128  # filters of each block of the ConvNet
DEPTH = 3  # blocks
KERNEL = 3
IMAGES_PER_CLASS = 600  # real images to draw from
MEAN, STD = 0.5, 0.29  # of pixels in [0, 1], in every channel; the images are uniform noise
LR_IMAGE = {"dc": 0.1, "dsa": 0.1, "dm": 1.0, "idc": 0.005, "idm": 0.2}
MOMENTUM_IMAGE = 0.5
LR_NETWORK, MOMENTUM_NETWORK, WEIGHT_DECAY = 0.01, 0.9, 5e-4  # of networks trained on real images
NETWORKS, EPOCHS = 5, 10  # trained in one step of the problem 'training'
# IDC (Appendix C.1, authors' code): steps of SGD after each matching, and how images go into them.
IDC_STEPS, IDC_BATCH, IDC_CUTMIX = 32, 64, 0.5
IDC_MATCHING, IDC_TRAINING = "color_crop_cutout", "color_crop"  # transforms, in sequence
# IDM (authors' code): networks in the queue, every how many iterations one is pushed, how many
# are trained in an iteration, and how each of these is.
IDM_INITIAL, IDM_SIZE, IDM_INTERVAL, IDM_TRAINED = 3, 100, 30, 2
IDM_STEPS, IDM_BATCH = 10, 256
IDM_REGULARISATION = 0.5  # lambda_reg of Eq. 5, of an accuracy in per cent
CHECK_ACCURACY = 0.3  # of a network, where the frameworks are compared
PRODUCTS = ((2048, 2048, 2048), (2048, 1152, 128))  # rows, inner, columns: how fast can it be?
PRODUCT_REPEATS = 5
COPY_FLOATS, COPY_REPEATS = 2**26, 5  # negated in place of a copy: how fast is memory?
CHECK_IMAGES = 12  # real images a class where the frameworks are compared; no whole blocks
CHECK_EPOCHS = 4  # of training where they are compared
# Of a whole step there. The others fill in zeros: large areas whose ReLU inputs are all the same
# number, which may round to either side of zero.
CHECK_TRANSFORMS = ("color", "flip")
SCALING = {"classes": 10, "ipc": 10, "side": 32, "real": 64}  # where each axis starts from
AXES = {"classes": (10, 100), "ipc": (1, 10, 50), "side": (32, 64, 128), "real": (64, 256)}
CORNER = {"classes": 100, "ipc": 50}  # both at their largest
# What `choices` tries, by field of the strategy.
CHOICES = {
  "convolution": ("lax", "patches", "winograd"),
  "class_map": ("scan", "vmap"),
  "image_block": (0, 8, 16, 32),
  "first_block": (0, 4, 8),
}
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
    factor: of the formation, which makes factor^2 synthetic images of each that is stored.
    classes: of the dataset.
    strategy: fields of `devices.strategy.Strategy`, with values other than the backend's default.
    precision: of the network's activations, on dcjax's side.
  """

  problem: str
  name: str
  image_shape: tuple[int, int, int]
  ipc: int
  real: int
  per_class: int
  augmented: bool
  factor: int = 1
  classes: int = 10
  strategy: tuple[tuple[str, Any], ...] = ()
  precision: str = "float32"

  @property
  def unit(self) -> bool:
    """Whether stored pixels are in [0, 1], and normalised when they are decoded."""
    return self.problem == "idc"

  @property
  def synthetic(self) -> int:
    """Synthetic images of each class."""
    return self.ipc * self.factor**2

  def label(self) -> str:
    """What the row is called."""
    where = f"{self.name}, ipc {self.ipc}"
    if self.problem != "training":
      return f"{self.problem.upper()}, {where}, {self.real} real"
    how = "augmented" if self.augmented else "plain"
    return f"training, {where}, {how}, {NETWORKS} networks, {EPOCHS} epochs"


def settings(problems: Sequence[str], real: int | None) -> list[Setting]:
  """The rows of the table for some of `PROBLEMS`.

  Args:
    problems: which ones.
    real: real images a class in a step; None: as many as in the papers.
  """

  def matching(problem, *shapes, **formation):
    count = real or REAL[problem]
    per_class = max(IMAGES_PER_CLASS, count)
    return Setting(problem, *shapes, count, per_class, augmented=problem != "dc", **formation)

  cifar = ("CIFAR-10", (32, 32, 3), 10)
  rows = [
    matching("dc", "MNIST", (28, 28, 1), 1),
    matching("dc", *cifar),
    matching("dsa", *cifar),
    matching("dm", *cifar),
    matching("idc", *cifar, factor=2),
    matching("idm", *cifar, factor=2),
    Setting("training", *cifar, 0, 1, augmented=False),
    Setting("training", *cifar, 0, 1, augmented=True),
  ]
  return [row for row in rows if row.problem in problems]


def along_axes(problem: str) -> Iterator[tuple[str, Setting]]:
  """The rows of `scaling` for one method: `SCALING` with numbers changed, and which ones."""
  along = [(axis, {axis: value}) for axis, values in AXES.items() for value in values]
  for axis, change in (*along, ("classes, ipc", {}), ("classes, ipc", CORNER)):
    at = SCALING | change
    yield (
      axis,
      Setting(
        problem,
        f"{at['classes']} classes, {at['side']} px",
        (at["side"], at["side"], 3),
        at["ipc"],
        at["real"],
        per_class=at["real"],
        augmented=problem != "dc",
        factor=2 if problem in ("idc", "idm") else 1,
        classes=at["classes"],
      ),
    )


def choices(setting: Setting, default: Mapping[str, Any]) -> dict[str, Setting]:
  """A setting with one choice other than the default strategy's, by what it changes."""
  fields = dict(CHOICES)
  if setting.problem not in GRADIENTS:
    del fields["first_block"]
  changed = {
    f"{field}={value}": setting._replace(strategy=((field, value),))
    for field, values in fields.items()
    for value in values
    if value != default[field]
  }
  return changed | {"precision=bfloat16": setting._replace(precision="bfloat16")}


def small(setting: Setting) -> Setting:
  """The same shapes with few real images: each class has as many as a step takes of it."""
  return setting._replace(real=CHECK_IMAGES, per_class=CHECK_IMAGES)


def real_images(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
  """Noise: uint8 `[classes * per_class, H, W, C]` sorted by class, and its labels."""
  labels = np.repeat(np.arange(setting.classes), setting.per_class)
  random = np.random.RandomState(SEED)
  shape = (len(labels), *setting.image_shape)
  return random.randint(0, 256, shape, dtype=np.uint8), labels


def synthetic_images(setting: Setting) -> np.ndarray:
  """Noise: float32 `[classes, ipc, H, W, C]`, standard normal or, of `unit` sets, in [0, 1]."""
  random = np.random.RandomState(SEED + 1)
  shape = (setting.classes, setting.ipc, *setting.image_shape)
  if setting.unit:
    return random.uniform(size=shape).astype(np.float32)
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


def first_side(side: int) -> int:
  """Height and width of the first convolution's output for images of `side` pixels."""
  return side + 2 * first_padding(side) - 2


def last_side(side: int) -> int:
  """Height and width of the last block's output for images of `side` pixels."""
  return first_side(side) >> DEPTH


def products(setting: Setting) -> list[int]:
  """Multiplications and additions of each layer's forward product for one image."""
  side = first_side(setting.image_shape[0])
  channels, counts = setting.image_shape[2], []
  for _ in range(DEPTH):
    counts.append(2 * side**2 * KERNEL**2 * channels * WIDTH)
    side, channels = side // 2, WIDTH
  return [*counts, 2 * side**2 * WIDTH * setting.classes]


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
  real image; 2F for a synthetic one, whose gradient goes to the inputs alone. IDC is DSA with more
  synthetic images, and trains a network; IDM is DM, and trains two.
  """
  first, *others = products(setting)
  trained = 2 * first + 3 * sum(others)
  if setting.problem == "training":
    return float(NETWORKS * EPOCHS * setting.classes * setting.ipc * trained)
  if setting.problem in ("dm", "idm"):
    matched = setting.classes * (setting.real + 2 * setting.synthetic) * (first + sum(others[:-1]))
    if setting.problem == "dm":
      return float(matched)
    return float(matched + IDM_TRAINED * IDM_STEPS * IDM_BATCH * trained)
  twice = 5 * first + 7 * sum(others)
  steps = IDC_STEPS * IDC_BATCH * trained if setting.problem == "idc" else 0
  return float(setting.classes * (setting.real * trained + setting.synthetic * twice) + steps)


def traffic(setting: Setting) -> float:
  """Bytes that one step moves if each convolution's output goes to memory and comes back once.

  So does its cotangent, and each of both once more where a gradient is differentiated: of the
  passes that `arithmetic` counts, an image has two when it is trained on, four when it is
  synthetic, in DM one and two. Who keeps small blocks in the caches moves less.
  """
  sides = [first_side(setting.image_shape[0]) >> block for block in range(DEPTH)]
  output = 2 * 4 * WIDTH * sum(side**2 for side in sides)
  if setting.problem == "training":
    return float(NETWORKS * EPOCHS * setting.classes * setting.ipc * 2 * output)
  if setting.problem in ("dm", "idm"):
    matched = setting.classes * (setting.real + 2 * setting.synthetic) * output
    if setting.problem == "dm":
      return float(matched)
    return float(matched + IDM_TRAINED * IDM_STEPS * IDM_BATCH * 2 * output)
  steps = IDC_STEPS * IDC_BATCH * 2 if setting.problem == "idc" else 0
  return float((setting.classes * (2 * setting.real + 4 * setting.synthetic) + steps) * output)
