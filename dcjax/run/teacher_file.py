"""The file of a teacher, `teacher.npz`: its parameters, what it saw, and how good it is."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcjax.common.archive import Archive
from dcjax.common.digests import of_arrays
from dcjax.common.errors import UserError, gist
from dcjax.common.files import expand, writing
from dcjax.common.json_files import holds, is_number, is_share, is_some, is_text, many
from dcjax.common.registry import content, file_digest
from dcjax.common.types import Array, Params
from dcjax.data import Dataset
from dcjax.nn import Network, architectures

Taught = tuple[Params, Params, Array]  # parameters, statistics of batch norm, test accuracy
DESCRIBED = ("teacher", "teacher_epochs", "teacher_accuracy", "teacher_digest")
ARRAYS = "arrays/"
LONGEST = 2**20  # bytes of the metadata
METADATA = holds(
  {
    "network": is_text,
    "class_names": many(is_text),
    "image_shape": many(is_some),
    "mean": many(is_number),
    "std": many(is_number),
    "whitening": is_text,
    "epochs": is_some,
    "accuracy": is_share,
  }
)


def named(field: str, text: str) -> str:
  """A teacher's name with what tells it from others of that name: the content of its file.

  Raises:
    UserError: there is no such file; `field` is to blame.
  """
  if architectures.is_trained(text):
    return f"{text} {file_digest(field, text)}"
  return " ".join([text, *content(field, architectures.parse(text)["name"]).values()])


def described(text: str, epochs: int, accuracy: float, taught: Taught) -> dict[str, Any]:
  """What is said of a teacher beside the accuracies of those that it has taught: `DESCRIBED`."""
  return dict(zip(DESCRIBED, (text, epochs, accuracy, of_arrays(taught)), strict=True))


def _seen(dataset: Dataset) -> dict[str, Any]:
  """What a teacher of a dataset has seen."""
  return {
    "class_names": list(dataset.class_names),
    "image_shape": list(dataset.image_shape),
    "mean": np.asarray(dataset.mean).tolist(),
    "std": np.asarray(dataset.std).tolist(),
    "whitening": "" if dataset.whitening is None else of_arrays(dataset.whitening),
  }


def save(file: Path, network: str, dataset: Dataset, taught: Taught, epochs: int) -> None:
  """Writes a teacher, whole or not at all.

  Args:
    file: where to.
    network: with all its fields, as `architectures.parse` takes it.
    dataset: that taught it.
    taught: what it has learned.
    epochs: its passes over the images.
  """
  about = {"network": network, **_seen(dataset), "epochs": epochs, "accuracy": float(taught[2])}
  leaves = enumerate(map(np.asarray, jax.tree.leaves(taught)))
  arrays: dict[str, Any] = {f"{ARRAYS}{number:04d}": leaf for number, leaf in leaves}
  with writing(file, "wb") as stream:
    np.savez(stream, metadata=np.array(json.dumps(about)), **arrays)


class FromFile:
  """A teacher of a file, which `Teacher` trains otherwise."""

  def __init__(self, field: str, path: str, dataset: Dataset, build: Callable[[str], Network]):
    """Reads it.

    Args:
      field: to blame.
      path: of the file.
      dataset: whose images it is to label.
      build: makes a network of its text.

    Raises:
      UserError: there is no such file, it is damaged, or its teacher has seen something else.
    """
    self._fail = lambda problem: UserError(f"{field}: {path} {problem}; give another teacher.npz")
    file = expand(field, path)
    if not file.is_file():
      raise self._fail("is not there")
    try:
      with zipfile.ZipFile(file) as opened:
        self._read(Archive(opened, ("metadata", ARRAYS)), dataset, build)
    except UserError:
      raise
    except Exception as error:  # a damaged file may raise anything
      raise self._fail(f"is damaged ({gist(error)})") from None

  def _read(self, archive: Archive, dataset: Dataset, build: Callable[[str], Network]) -> None:
    header = archive.headers.get("metadata")
    if header is None or header.shape or header.dtype.itemsize > LONGEST:
      raise self._fail("is no teacher")
    about = json.loads(str(archive.read("metadata")))
    if not METADATA(about) or architectures.names_file(about["network"]):
      raise self._fail("is no teacher")
    for name, here in _seen(dataset).items():
      if not _agree(about[name], here):
        raise self._fail(f"has seen images of another {name.replace('_', ' ')}")
    self.network = build(about["network"])
    template = jax.eval_shape(lambda: untaught(self.network, dataset))
    arrays = [archive.read(name) for name in sorted(archive.headers) if name != "metadata"]
    leaves, tree = jax.tree.flatten(template)
    if [(a.shape, a.dtype) for a in arrays] != [(leaf.shape, leaf.dtype) for leaf in leaves]:
      raise self._fail("does not hold the parameters of its network")
    if not all(np.isfinite(array).all() for array in arrays):
      raise self._fail("holds numbers that are not finite")
    self._taught: Taught = jax.tree.unflatten(tree, map(jnp.asarray, arrays))
    self._about = about

  def trained(self, wait: Callable[[Any], Any]) -> tuple[Params, Params]:
    """Its parameters, and its statistics of batch norm (empty without)."""
    del wait
    return self._taught[:2]

  def record(self) -> dict[str, Any]:
    """What is said of it beside the accuracies of those that it has taught."""
    about = self._about
    return described(about["network"], about["epochs"], about["accuracy"], self._taught)


def untaught(network: Network, dataset: Dataset) -> Taught:
  """What a teacher is before it has learned anything."""
  params = network.init(jax.random.key(0))
  images = jnp.zeros((2, *dataset.image_shape), jnp.float32)
  stats = network.statistics(params, images) if network.batch_norm else {}
  return params, stats, jnp.float32(0)


def _agree(theirs: Any, ours: Any) -> bool:
  if isinstance(ours, list) and ours and isinstance(ours[0], float):
    return len(theirs) == len(ours) and np.allclose(theirs, ours, atol=1e-4)
  return theirs == ours
