"""Folders as runs write them, without the work of a run."""

import json
from pathlib import Path

import numpy as np

import dcjax.config
from dcjax.run.workdir import write_json
from dcjax.sets.synthetic import SyntheticSet
from tests.runs import tiny


def make(
  folder: Path,
  *,
  method: str = "dc",
  names: tuple[str, ...] = ("cat", "dog", "owl"),
  ipc: int = 1,
  side: int = 8,
  channels: int = 1,
  iterations: tuple[int, ...] = (0, 5, 10),
  factor: int = 1,
  soft: bool = False,
  evaluated: bool = True,
  finished: bool = True,
  confused: bool = True,
  **changes,
) -> Path:
  """A run or selection, with images of random pixels; `changes` are those of `tiny`."""
  selects = dcjax.config.selects(method)
  more = {} if selects else {"iterations": iterations[-1], "formation__factor": factor}
  config = fields(method, ipc=ipc, **more, **changes)
  (folder / "images").mkdir(parents=True)
  write_json(folder / "config.json", config)
  for iteration in iterations:
    made = synthetic(config, names, (side, side, channels), factor, soft, seed=iteration)
    if not selects:
      made.save(folder / "images" / f"{iteration:06d}.npz")
  records = [record(len(names), iteration, confused) for iteration in iterations[1:]]
  records = [*records, record(len(names), 0, confused, "random")] if evaluated else []
  losses = (
    [] if selects else [{"iteration": i + 1, "loss": 9 / (i + 1)} for i in range(iterations[-1])]
  )
  log = [*losses, *({"iteration": len(losses), "evaluation": each} for each in records)]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in log))
  if finished:
    made.save(folder / "synthetic.npz")
    summary = {
      "method": method, "dataset": "digits", "ipc": ipc, "iterations": iterations[-1],
      "evaluations": records, "seconds": {"condense": 1.5}, "versions": {"jax": "0.10"},
      "hardware": {"processor": "of a test"},
    }  # fmt: skip
    write_json(folder / "summary.json", summary)
  return folder


def fields(method: str, **changes) -> dict:
  """The content of `config.json`."""
  if not dcjax.config.selects(method):
    return dcjax.config.resolve(tiny(method, **changes)).to_dict()
  config = dcjax.config.default(method)
  config.dataset.name = "digits"
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  return dcjax.config.resolve(config).to_dict()


def synthetic(config, names, shape, factor, soft, seed=0) -> SyntheticSet:
  """A set of random pixels."""
  rng = np.random.default_rng(seed)
  images = rng.normal(size=(len(names), config["ipc"], *shape)).astype(np.float32)
  labels = np.repeat(np.arange(len(names), dtype=np.int32)[:, None], config["ipc"], 1)
  metadata = {
    "method": config["method"], "dataset": "digits", "config": config, "class_names": list(names),
    "range": "normalised", "zca": False, "mean": [0.5] * shape[2], "std": [0.25] * shape[2],
    "formation": {"name": "uniform" if factor > 1 else "identity", "factor": factor, "bound": 128},
    "ipc": config["ipc"], "version": "0.1.0", "seed": 0,
  }  # fmt: skip
  given = None
  if soft:
    metadata["label_kind"] = "logit"
    given = rng.normal(size=(*labels.shape, len(names))).astype(np.float32)
  return SyntheticSet(images, labels, metadata, soft_labels=given)


def record(classes: int, iteration: int, confused: bool = True, name: str = "synthetic") -> dict:
  """An evaluation; of each class nine of ten test images are right, the others of the next one."""
  counts = 9 * np.eye(classes, dtype=int) + np.roll(np.eye(classes, dtype=int), 1, 1)
  texts = {"confusion": [" ".join(map(str, row)) for row in counts]} if confused else {}
  return {
    "iteration": iteration, "set": name, "network": "convnet", "augmentation": "none", "epochs": 2,
    "networks": 5, "ipc": 1, "decoded_ipc": 1, "last_mean": 0.9, "last_std": 0.01,
    "best_mean": 0.9, "best_std": 0.01, **texts,
  }  # fmt: skip
