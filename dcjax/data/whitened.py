"""A dataset whose images are whitened; the whitening is kept, since it takes a minute to find."""

import hashlib
import os

import numpy as np

from dcjax.common.activity import working
from dcjax.data import cache
from dcjax.data.dataset import Dataset
from dcjax.data.zca import Whitening, check_size, fit

_CACHE_FORMAT = 2  # to be raised when what is cached changes


def whiten(
  dataset: Dataset, cache_dir: str | os.PathLike[str] | None = None, variant: str = "frepo"
) -> Dataset:
  """The same data, which `normalise` whitens as the training images are to be.

  Args:
    dataset: not whitened.
    cache_dir: where whitenings are kept; None or empty as `cache.root` says.
    variant: an entry of `zca.VARIANTS`.

  Raises:
    UserError: the images are too large, or all the same.
  """
  check_size(dataset.image_shape)
  images, mean, std = (np.asarray(part) for part in (dataset.images, dataset.mean, dataset.std))
  name = _digest(images, mean, std) + ("" if variant == "frepo" else f"-{variant}")
  entry = cache.root(cache_dir) / "whitenings" / name
  types = dict.fromkeys(Whitening._fields, np.float32) | {"unit": np.bool_}
  cached = cache.read(entry, types)
  if cached is None:
    with working(f"finding the whitening of {len(images)} images"):
      cached = fit(images, mean, std, variant)._asdict()
    cache.write(entry, cached)
  return dataset.whitened(Whitening(**cached))


def _digest(*arrays: np.ndarray) -> str:
  """A name for all that a whitening depends on."""
  digest = hashlib.sha256(str(_CACHE_FORMAT).encode())
  for array in arrays:
    digest.update(f"{array.shape}".encode() + array.tobytes())
  return digest.hexdigest()[:16]
