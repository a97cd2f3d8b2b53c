"""A finished set stored smaller: IDC's comparison to downsampling afterwards (Table 6)."""

import numpy as np

from dcjax.common.errors import UserError
from dcjax.sets import formation
from dcjax.sets.synthetic import SyntheticSet


def shrunk(synthetic: SyntheticSet, factor: int) -> SyntheticSet:
  """A set whose images are made smaller, and brought back to their size when they are decoded.

  Its networks see as many images as before, of which `factor**2` take the room of one. Both ways
  are bilinear (IDC, Table 6, does not say how it resizes).

  Args:
    synthetic: a set without formation, images `[classes, n, H, W, C]`.
    factor: by which their sides shrink; 1: not at all.

  Returns:
    A set of images `[classes, n / factor**2, H, W, C]`, each of `factor**2` tiles, with the
    formation 'uniform'.

  Raises:
    UserError: the set has a formation or soft labels, or `factor**2` does not divide n.
  """
  if factor == 1:
    return synthetic
  if synthetic.soft_labels is not None:
    raise UserError("synthetic set: its images have soft labels, which one for several has not")
  _, count, *shape = synthetic.images.shape
  stored, left = divmod(count, factor**2)
  if left:
    raise UserError(
      f"synthetic set: {count} images per class are no multiple of the {factor**2} that take the "
      "room of one; give another ipc"
    )
  before = synthetic.formation()
  if before.decoded(count) != count:
    raise UserError("synthetic set: it has a formation already; give one with formation.factor=1")
  forming = formation.create(
    "uniform", factor, shape=tuple(shape), ipc=stored, mean=before.mean, std=before.std,
    unit=before.unit,
  )  # fmt: skip
  normalised = before.decode_classes(synthetic.stored())
  smaller = [forming.mosaic(images, stored, blend=True) for images in normalised]
  images = np.stack([np.asarray(sheets) for sheets in smaller])
  metadata = {**synthetic.metadata, "formation": forming.metadata(), "ipc": stored}
  return synthetic._replace(images=images, labels=synthetic.labels[:, :stored], metadata=metadata)
