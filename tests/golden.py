"""Reads the expected numbers, which keep PyTorch's layout, into Flax's."""

from pathlib import Path
from typing import Any

import numpy as np

from dcjax import nn

# Each file's network: the arguments of `nn.create`, and its PyTorch layers in Flax's names.
CONVNET_LAYERS = {
  'features.0': 'Convolution_0', 'features.1': 'Norm_0',
  'features.4': 'Convolution_1', 'features.5': 'Norm_1',
  'features.8': 'Convolution_2', 'features.9': 'Norm_2',
  'classifier': 'Linear_0',
}  # fmt: skip
LINEAR_LAYERS = {"fc_1": "Linear_0", "fc_2": "Linear_1", "fc_3": "Linear_2"}
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
  "convnet_mnist": ({"name": "convnet", "width": 16}, CONVNET_LAYERS),
  "convnet_cifar_groupnorm_leakyrelu": (
    {"name": "convnet", "width": 16, "norm": "group", "activation": "leaky_relu"},
    CONVNET_LAYERS,
  ),
  "convnet_mnist_layernorm_sigmoid_max": (
    {"name": "convnet", "width": 8, "norm": "layer", "activation": "sigmoid", "pooling": "max"},
    CONVNET_LAYERS,
  ),
  "lenet_cifar": (
    {"name": "lenet"},
    {"features.0": "Convolution_0", "features.3": "Convolution_1", **LINEAR_LAYERS},
  ),
  "mlp_mnist": ({"name": "mlp"}, LINEAR_LAYERS),
}
LENET_LAST = (16, 5, 5)  # channels, height, width of LeNet's last feature map


class Golden:
  """One file: `arrays` as stored, images in NHWC, and parameters in Flax's tree."""

  def __init__(self, folder: Path, name: str, dtype=np.float32, **overrides):
    with np.load(folder / f"{name}.npz") as file:
      self.arrays = {key: file[key] for key in file.files}
    self.dtype = dtype
    self.options, self.layers = NETWORKS[name]
    self.real = self.images("x_real")
    self.synthetic = self.images("x_syn")
    self.label = int(self.arrays["label"])
    self.network = nn.create(
      image_shape=self.real.shape[1:], num_classes=10, **{**self.options, **overrides}
    )
    self.params = self.tree("param")

  def images(self, key: str) -> np.ndarray:
    """Images from NCHW to NHWC."""
    return self.arrays[key].transpose(0, 2, 3, 1).astype(self.dtype)

  def tree(self, prefix: str) -> dict[str, Any]:
    """All arrays `prefix/layer.weight` and `prefix/layer.bias` as Flax's parameters."""
    params: dict[str, Any] = {}
    for torch_name, name in self.layers.items():
      weight = self.arrays[f"{prefix}/{torch_name}.weight"].astype(self.dtype)
      bias = self.arrays[f"{prefix}/{torch_name}.bias"].astype(self.dtype)
      if name.startswith("Norm"):
        params[name] = {"scale": np.moveaxis(weight, 0, -1), "bias": np.moveaxis(bias, 0, -1)}
      elif name.startswith("Convolution"):
        params[name] = {"kernel": weight.transpose(2, 3, 1, 0), "bias": bias}
      else:
        params[name] = {"Dense_0": {"kernel": self._linear(weight, torch_name), "bias": bias}}
    return params

  def _linear(self, weight: np.ndarray, torch_name: str) -> np.ndarray:
    """`[out, in]` to `[in, out]`; after a feature map, inputs go from CHW to HWC."""
    if torch_name == "classifier":
      return self._from_chw(weight, self.feature_map()).T
    if torch_name == "fc_1" and self.options["name"] == "lenet":
      return self._from_chw(weight, LENET_LAST).T
    if torch_name == "fc_1":
      height, width, channels = self.real.shape[1:]
      return self._from_chw(weight, (channels, height, width)).T
    return weight.T

  def features(self) -> np.ndarray:
    """The expected features of the real images, flattened in HWC order."""
    return self._from_chw(self.arrays["features_real"], self.feature_map())

  def feature_map(self) -> tuple[int, int, int]:
    return (self.options["width"], 4, 4)

  @staticmethod
  def _from_chw(rows: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return rows.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(len(rows), -1)
