"""Experts: networks whose parameters were kept while real images trained them, epoch by epoch.

`dcjax experts` trains them; trajectory matching (`methods/tm.py`) reads them. A folder of experts
has a file `NNNN.npy` for each, `[epochs kept, parameters]` in the order of jax.tree, and a manifest
`experts.json` that says what they are.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

from dcjax.common import digests
from dcjax.common.activity import working
from dcjax.common.errors import UserError, check_least, check_most, check_name, gist
from dcjax.common.files import expand
from dcjax.common.json_files import (
  by_name,
  holds,
  is_count,
  is_number,
  is_share,
  is_text,
  many,
  read_json,
)
from dcjax.common.registry import content
from dcjax.common.types import Array, Params
from dcjax.data import Dataset
from dcjax.methods.definition import check_rate
from dcjax.nn import Network

MANIFEST = "experts.json"
FORMAT = 1  # of a folder
KEPT = ("all", "needed")
DTYPES = ("float32", "float16")
_SHAPE = holds(
  {
    "trained": by_name(lambda value: True),
    "kept": lambda value: many(is_count, 2)(value) and value == sorted(set(value)),
    "dtype": lambda value: value in DTYPES,
    "experts": many(holds({"sha256": is_text, "accuracy": is_share, "seconds": is_number})),
  }
)


class Experts(NamedTuple):
  """How experts are trained by SGD without momentum (authors' code of MTT), and kept."""

  folder: str = ""  # where experts are: the workdir of `dcjax experts`
  networks: int = 100  # how many experts
  epochs: int = 50  # passes of each over the real images
  lr: float = 0.01  # of SGD
  batch: int = 256  # real images of a step
  rho: float = 0.0  # how far GSAM looks for a higher loss (FTD: 0.01); 0 with alpha=0: SGD
  alpha: float = 0.0  # how much GSAM takes off of what leads to a sharp minimum
  # 'all' epochs, or those that are 'needed': where students begin and end, and the last one
  kept: str = "all"
  dtype: str = "float32"  # of the files; 'float16' takes half, and three digits stay


def resolve(fields: ConfigDict) -> None:
  """Checks the section `experts` of a config; raises `UserError`."""
  check_name("experts.kept", fields.kept, KEPT)
  check_name("experts.dtype", fields.dtype, DTYPES)
  for field in ("networks", "epochs", "batch"):
    check_least(f"experts.{field}", fields[field], 1)
  check_most("experts.epochs", fields.epochs, 10**4)
  check_most("experts.networks", fields.networks, 10**4)
  check_rate("experts.lr", fields.lr, "0.01 (MTT)")


def epochs_kept(fields: ConfigDict, needed: int) -> list[int]:
  """The epochs after which parameters are kept, 0 being the initial ones.

  Args:
    fields: the section `experts`.
    needed: the last epoch that a student ends at.
  """
  last = fields.epochs
  if fields.kept == "all":
    return list(range(last + 1))
  return [*range(min(needed, last - 1) + 1), last]


def trained_by(config: ConfigDict, dataset: Dataset) -> dict[str, Any]:
  """What tells experts from others, by the names of a config's fields; as JSON holds it."""
  names = ("name", "classes", "rgb_side", "zca")
  fields = {f"dataset.{name}": config.dataset[name] for name in names}
  if config.dataset.zca:
    fields["dataset.zca_variant"] = config.dataset.zca_variant
  seen = dataset.labels, dataset.source, dataset.mean, dataset.std  # also if images are on disk
  fields["dataset"] = digests.of_arrays(seen)
  fields |= {f"network.{name}": value for name, value in config.network.to_dict().items()}
  fields |= content("network.name", config.network.name)
  fields |= {f"dsa.{name}": config.dsa[name] for name in ("strategy", "draw")}
  fields |= {f"experts.{name}": config.experts[name] for name in ("lr", "batch", "rho", "alpha")}
  return json.loads(json.dumps(fields))


class Trajectories:
  """The experts of a folder, of which parts are read as they are needed."""

  def __init__(self, files: list[np.ndarray], kept: list[int], about: dict[str, Any]):
    """Reads nothing.

    Args:
      files: of each expert, `[epochs kept, parameters]`, mapped from disk.
      kept: the epochs.
      about: for the metadata of a set that they teach.
    """
    self._files, self._kept, self.about = files, np.asarray(kept), about
    self.count, self.size = len(files), files[0].shape[1]

  def at(self, expert: Array, epoch: Array) -> jax.Array:
    """The parameters `[size]` of an expert after some epochs, float32; also inside jit."""
    return self._row(expert, jnp.searchsorted(jnp.asarray(self._kept), epoch).astype(jnp.int32))

  def last(self, expert: Array) -> jax.Array:
    """Those after its last epoch."""
    return self._row(expert, jnp.int32(len(self._kept) - 1))

  def _row(self, expert: Array, row: Array) -> jax.Array:
    def read(expert, row):
      return np.asarray(self._files[int(expert)][int(row)], np.float32)

    return jax.pure_callback(read, jax.ShapeDtypeStruct((self.size,), jnp.float32), expert, row)


def unraveller(network: Network) -> Callable[[Array], Params]:
  """`unravel(vector) -> params`, of a network's parameters as files have them."""
  return ravel_pytree(_zeros(network))[1]


def _zeros(network: Network) -> Params:
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def read_manifest(folder: Path, field: str = "experts.folder") -> dict[str, Any] | None:
  """What a folder of experts says of them; None: it has no manifest.

  Raises:
    UserError: it is damaged; `field` is to blame.
  """
  file = folder / MANIFEST
  if not file.exists():
    return None
  return read_json(file, _SHAPE, field=field)


def check_same(
  manifest: dict[str, Any], trained: dict[str, Any], folder: Path, field: str = "experts.folder"
) -> None:
  """Raises `UserError` if the experts of a folder were trained otherwise; `field` is to blame."""
  theirs = manifest["trained"]
  for name in sorted(theirs.keys() | trained.keys()):
    if theirs.get(name) != trained.get(name):
      what = "training images, by their digest" if name == "dataset" else name
      raise UserError(
        f"{field}: {what}: {theirs.get(name)} there, {trained.get(name)} here ({folder}); "
        "give a folder of experts that were trained as this config says"
      )


def check_network(network: Network) -> None:
  """Raises `UserError` for a network whose parameters are not all that it is after an epoch."""
  if network.batch_norm:
    raise UserError(
      "network.norm: batch norm has averages beside its parameters, which experts do not keep; "
      "set network.norm=instance"
    )


def longest(kept: list[int]) -> int:
  """The last epoch of those that are kept from the first one on without a gap."""
  return next((number - 1 for number, epoch in enumerate(kept) if number != epoch), len(kept) - 1)


def find(config: ConfigDict, dataset: Dataset, network: Network, needed: int) -> Trajectories:
  """The experts of a config, whose files are all looked through.

  Args:
    config: as `config.resolve` returns it, with a section `experts`.
    dataset: that taught them.
    network: what they are.
    needed: the last epoch that a student ends at.

  Raises:
    UserError: there are none, or others, or not for as many epochs, or they are damaged.
  """
  fields = config.experts
  check_network(network)
  if not fields.folder:
    raise UserError(
      "experts.folder: empty; train experts by 'dcjax experts --workdir FOLDER' with the same "
      "--config, and give --config.experts.folder=FOLDER"
    )
  folder = expand("experts.folder", fields.folder)
  manifest = read_manifest(folder)
  if manifest is None:
    raise UserError(f"experts.folder: no {MANIFEST} in {folder}; give a workdir of dcjax experts")
  check_same(manifest, trained_by(config, dataset), folder)
  if (there := len(manifest["experts"])) < fields.networks:
    raise UserError(
      f"experts.networks: {fields.networks}, but {there} are done in {folder}; give the number to "
      "be used, or let dcjax experts train more"
    )
  if needed > longest(manifest["kept"]):
    raise UserError(
      f"start.most: students end at epoch {needed} (start.most + expert_epochs - 1), but experts "
      f"in {folder} are kept up to epoch {longest(manifest['kept'])}; lower it, or give others"
    )
  some = manifest["experts"][: fields.networks]
  size = ravel_pytree(_zeros(network))[0].size
  with working(f"looking through {len(some)} experts in {folder}"):
    files = [_opened(folder, number, manifest, size) for number in range(len(some))]
  digest = hashlib.sha256("".join(expert["sha256"] for expert in some).encode())
  accuracy = sum(expert["accuracy"] for expert in some) / len(some)
  about = {"digest": digest.hexdigest()[:16], "networks": len(some), "accuracy": accuracy}
  return Trajectories(files, manifest["kept"], {"experts": about})


def file_name(number: int) -> str:
  """Of an expert."""
  return f"{number:04d}.npy"


def _opened(folder: Path, number: int, manifest: dict[str, Any], size: int) -> np.ndarray:
  file, about = folder / file_name(number), manifest["experts"][number]
  try:
    opened = np.load(file, mmap_mode="r", allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise _damaged(file, gist(error)) from None
  shape = len(manifest["kept"]), size
  if opened.shape != shape or opened.dtype != manifest["dtype"]:
    raise _damaged(file, f"{opened.dtype} {list(opened.shape)}, not {list(shape)}")
  if digests.sha256([opened]) != about["sha256"]:
    raise _damaged(file, "its content has changed since it was written")
  return opened


def _damaged(file: Path, problem: str) -> UserError:
  return UserError(
    f"experts.folder: {file} is damaged ({problem}); delete it, and start dcjax experts again"
  )
