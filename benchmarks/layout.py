"""The ConvNet's parameters as both frameworks can compare them."""

from typing import Any

import numpy as np

from benchmarks import problem


def to_torch(params: dict[str, Any]) -> list[np.ndarray]:
  """dcjax's parameters in the order and layout of PyTorch's `network.parameters()`.

  Args:
    params: of the default ConvNet, as flax keeps them.

  Returns:
    Weight and bias of each convolution and norm, then of the linear layer: kernels HWIO become
    OIHW, and the linear layer's inputs HWC become CHW.
  """
  arrays = []
  for block in range(problem.DEPTH):
    conv, norm = params[f"Convolution_{block}"], params[f"Norm_{block}"]
    kernel = np.asarray(conv["kernel"]).transpose(3, 2, 0, 1)
    arrays += [kernel, conv["bias"], norm["scale"], norm["bias"]]
  linear = params["Linear_0"]["Dense_0"]
  side = round((len(linear["kernel"]) / problem.WIDTH) ** 0.5)
  classes = len(linear["bias"])
  kernel = np.asarray(linear["kernel"]).reshape(side, side, problem.WIDTH, classes)
  kernel = kernel.transpose(3, 2, 0, 1).reshape(classes, -1)
  return [np.asarray(array) for array in (*arrays, kernel, linear["bias"])]
