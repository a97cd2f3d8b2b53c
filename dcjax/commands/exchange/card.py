"""The data card of a set, in Markdown: what it is, where it comes from, how to train on it."""

from typing import Any

from dcjax.figures import markdown
from dcjax.sets.synthetic import SyntheticSet

_JAX = """```python
import jax
from dcjax import SyntheticSet, evaluation, nn

synthetic = SyntheticSet.load("synthetic.npz")
images, labels = synthetic.flat()
network = nn.create("convnet", images.shape[1:], num_classes={classes})
params = evaluation.train(network, images, labels, jax.random.key(0), **synthetic.training())
```"""

_WHITENED = (
  " Networks are trained on whitened images. Test images have to be whitened alike:"
  " `(row - whitening.mean) @ whitening.matrix`, where a row is a normalised image `[H, W, C]`,"
  " brought to mean zero and norm one first if `whitening.unit` is true. `dcjax evaluate` does so."
)

_TORCH = """```python
import torch
from torch.nn.functional import {loss}

data = torch.load("synthetic.pt", weights_only=True)  # dcjax export --format pt
images, labels = data["images"], data["labels"]
optimizer = torch.optim.SGD(network.parameters(), lr={lr}, momentum=0.9, weight_decay=5e-4)
for step in range(1000):
  index = torch.randperm(len(images))[:256]
  loss = {call}
  optimizer.zero_grad(); loss.backward(); optimizer.step()
```"""


def card(synthetic: SyntheticSet) -> str:
  """The card of a set."""
  metadata, classes = synthetic.metadata, len(synthetic.images)
  source: dict[str, Any] = metadata.get("source", {})
  rows = [
    ("method", metadata["method"]),
    ("dataset", f"{metadata['dataset']}, {classes} classes"),
    ("images", _images(synthetic)),
    ("labels", _labels(metadata)),
    ("learning rate", str(metadata.get("student_lr") or "of the evaluation")),
    ("whitening", metadata.get("zca_variant", "frepo") if metadata.get("zca") else "none"),
    ("stored bytes", f"{synthetic.stored_bytes():,}"),
    ("seed", str(metadata["seed"])),
    ("from", _from(source)),
    ("licence", source.get("licence") or "not stated; that of the dataset holds besides"),
    ("written by", f"dcjax {metadata['version']}"),
  ]
  table = markdown.table([("", ""), *((name, str(text)) for name, text in rows)], align="left")
  return (
    f"# {metadata['dataset']}, condensed by {metadata['method']}\n\n{table}\n\n"
    f"Pixels are normalised by the mean {_numbers(metadata['mean'])} and the deviation "
    f"{_numbers(metadata['std'])}.{_WHITENED if metadata.get('zca') else ''}\n\n"
    f"## Train on it\n\nIn JAX:\n\n{_JAX.format(classes=classes)}\n\n"
    f"In PyTorch, for a `network` of yours:\n\n{_torch(synthetic)}\n"
  )


def _torch(synthetic: SyntheticSet) -> str:
  asked = synthetic.training()
  call = "cross_entropy(network(images[index]), labels[index])"
  if temperature := asked.get("temperature"):
    call = f"cross_entropy(network(images[index]) / {temperature:g}, labels[index])"
  squared = asked.get("loss") == "squared_error"
  if squared:
    call = f"{len(synthetic.images) / 2:g} * mse_loss(network(images[index]), labels[index])"
  loss = "mse_loss" if squared else "cross_entropy"
  return _TORCH.format(loss=loss, call=call, lr=f"{asked.get('lr', 0.01):g}")


def _images(synthetic: SyntheticSet) -> str:
  _, ipc, height, width, channels = synthetic.images.shape
  decoded = synthetic.formation().decoded(ipc)
  more = f", decoded to {decoded}" if decoded != ipc else ""
  return f"{ipc} of each class{more}, {height}x{width}x{channels}"


def _labels(metadata: dict[str, Any]) -> str:
  kind = metadata.get("label_kind", "hard")
  temperature = metadata.get("temperature")
  return kind if temperature is None else f"{kind}, at temperature {temperature:g}"


def _from(source: dict[str, Any]) -> str:
  if not source:
    return "dcjax"
  return f"{source.get('file')}, sha256 {str(source.get('sha256'))[:16]}"


def _numbers(values: list[float]) -> str:
  return ", ".join(f"{value:.4f}" for value in values)
