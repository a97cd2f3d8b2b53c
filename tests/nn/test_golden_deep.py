"""The deep networks against the numbers of the authors' PyTorch code, whose weights are drawn."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcjax import nn
from dcjax.methods.distances import DISTANCES

TOLERANCE = 1e-3  # relative to the largest number of an array
CASES = {  # the argument of `nn.create`
  "alexnet_mnist": "alexnet",
  "alexnet_cifar": "alexnet",
  "vgg11_cifar": "vgg11",
  "resnet18_mnist": "resnet18",
  "resnet18_cifar": "resnet18",
  "resnet18_ap_cifar": "resnet18_ap",
}
LAST = {"alexnet": (192, 4, 4), "vgg11": (512, 1, 1), "resnet18": (512, 1, 1)}
LAST["resnet18_ap"] = (512, 4, 4)  # channels, height, width of the last feature map
# Compiling is what takes the time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

pytestmark = pytest.mark.golden


def drawn(index, name, shape):
  """Parameter `index` of a file, as `golden/` defines it, in PyTorch's layout."""
  values = np.random.RandomState(index).standard_normal(shape)
  if len(shape) > 1:
    return values / np.sqrt(np.prod(shape[1:]))
  return 1 + 0.1 * values if name.endswith("weight") else 0.1 * values


def parameters(file, last):
  """The file's parameters in Flax's tree, where layers of one kind are numbered as they come."""
  params, layers = {}, {}
  shapes = [tuple(map(int, shape.split(","))) for shape in file["parameter_shapes"]]
  for index, (name, shape) in enumerate(zip(file["parameter_names"], shapes, strict=True)):
    values = drawn(index, name, shape)
    layer, kind = name.rsplit(".", 1)
    block = re.match(r"layer(\d)\.(\d)", layer)
    tree = params
    if block:
      tree = params.setdefault(f"Block_{2 * int(block[1]) + int(block[2]) - 2}", {})
    if kind == "weight":
      layers[layer] = tree.setdefault(numbered(tree, values.ndim), {})
    place(layers[layer], values, kind, last)
  return params


def numbered(tree, rank):
  kind = {4: "Convolution", 1: "Norm", 2: "Linear"}[rank]
  return f"{kind}_{sum(name.startswith(kind) for name in tree)}"


def place(leaf, values, kind, last):
  if values.ndim == 4:
    leaf["kernel"] = values.transpose(2, 3, 1, 0)
  elif values.ndim == 2:  # its inputs go from CHW to HWC
    rows = values.reshape(-1, *last).transpose(0, 2, 3, 1).reshape(len(values), -1)
    leaf["Dense_0"] = {"kernel": rows.T}
  elif "Dense_0" in leaf:
    leaf["Dense_0"]["bias"] = values
  else:
    leaf["bias" if kind == "bias" else "scale"] = values


def images(seed, count, shape):
  channels, *sides = shape
  values = np.random.RandomState(seed).standard_normal((count, channels, *sides))
  return values.transpose(0, 2, 3, 1)


def assert_close(actual, expected):
  np.testing.assert_allclose(actual, expected, atol=TOLERANCE * np.abs(expected).max(), rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_logits_distance_and_image_gradient(shared, case):
  name = CASES[case]
  with np.load(shared / "golden" / f"deep_{case}.npz") as file:
    file = {key: file[key] for key in file.files}
  shape = file["image_gradient_ours"].shape[1:]
  network = nn.create(name, (*shape[1:], shape[0]), 10, convolution="patches")
  params, label = parameters(file, LAST[name]), int(file["label"])

  def gradient(params, x):
    def loss(params):
      logits = network.apply(params, x)[0]
      labels = jnp.full(len(x), label)
      return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    return jax.grad(loss, has_aux=True)(params)

  def distance(synthetic, params, real):
    target, logits = gradient(params, real)
    return DISTANCES["ours"](gradient(params, synthetic)[0], target), logits

  # In float32 a ReLU whose input rounds to the other side of zero is seen in the image gradient.
  with jax.enable_x64(True):
    compiled = jax.jit(jax.value_and_grad(distance, has_aux=True), compiler_options=QUICK)
    arguments = images(1001, 2, shape), params, images(1000, 4, shape)
    (value, logits), image_gradient = compiled(*arguments)
  assert_close(logits, file["logits_real"])
  assert_close(value, file["distance_ours"])
  assert_close(image_gradient, file["image_gradient_ours"].transpose(0, 2, 3, 1))
