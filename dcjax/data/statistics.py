"""Mean and standard deviation of each channel: the usual ones, or measured."""

import numpy as np

Statistics = tuple[np.ndarray, np.ndarray]  # mean [C], std [C], float32

# The least standard deviation, one grey level: a constant channel divides by this.
MIN_STD = 1 / 255

BLOCK = 1 << 24  # values counted at a time, which bounds the memory used

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# (mean, std) of pixels in [0, 1] that the papers normalise with, by name in TFDS.
_USUAL = {
  "mnist": ((0.1307,), (0.3081,)),
  "fashion_mnist": ((0.2861,), (0.3530,)),
  "svhn_cropped": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
  "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
  "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
  "downsampled_imagenet": IMAGENET,
  "imagenet2012": IMAGENET,
  "imagenet2012_subset": IMAGENET,
  "imagenet_resized": IMAGENET,
  "imagenette": IMAGENET,
  "imagewang": IMAGENET,
  "tiny_imagenet": IMAGENET,
}


def usual(name: str) -> Statistics | None:
  """Returns the statistics that papers use for a data set, if there are such.

  Args:
    name: the name in TFDS, without configuration and version.

  Returns:
    Mean and standard deviation, float32 `[C]`, of pixels in [0, 1]; or None.
  """
  if name not in _USUAL:
    return None
  mean, std = _USUAL[name]
  return np.asarray(mean, np.float32), np.asarray(std, np.float32)


def measure(images: np.ndarray) -> Statistics:
  """Measures every channel's mean and standard deviation over all pixels.

  Counts how often each of the 256 levels occurs, block by block, so that the result
  is exact and no float copy of the images is ever made.

  Args:
    images: uint8 `[N, H, W, C]`, not empty.

  Returns:
    Mean and standard deviation, float32 `[C]`, of pixels in [0, 1]. The deviation is
    at least `MIN_STD`.
  """
  return of_levels(levels(images))


def levels(images: np.ndarray) -> np.ndarray:
  """Counts how often each level occurs in each channel of `[N, H, W, C]`: int64 `[C, 256]`."""
  return np.stack([_histogram(images[..., c]) for c in range(images.shape[-1])])


def of_levels(counts: np.ndarray) -> Statistics:
  """What `measure` returns, from the sum of the `levels` of all images."""
  mean, std = np.asarray([_moments(channel) for channel in counts], np.float32).T
  return mean, np.maximum(std, np.float32(MIN_STD))


def _histogram(images: np.ndarray) -> np.ndarray:
  """Counts the levels of `[N, H, W]` images: int64 `[256]`."""
  counts = np.zeros(256, np.int64)
  block = max(1, BLOCK // images[0].size)
  for start in range(0, len(images), block):
    counts += np.bincount(images[start : start + block].ravel(), minlength=256)
  return counts


def _moments(counts: np.ndarray) -> tuple[float, float]:
  """Turns counts of levels into mean and standard deviation, in [0, 1]."""
  level = np.arange(256) / 255
  weight = counts / counts.sum()
  mean = float(weight @ level)
  return mean, float(np.sqrt(weight @ (level - mean) ** 2))
