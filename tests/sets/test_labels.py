"""Soft labels and step sizes: in the file, in what a loss takes, and in every training on a set."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcjax import evaluation, nn
from dcjax.common.errors import UserError
from dcjax.nn import training
from dcjax.sets import labels
from dcjax.sets.set_file import FORMAT
from dcjax.sets.synthetic import SyntheticSet
from tests.sets.test_synthetic import synthetic_set

LOGITS = np.log(np.array([[[9, 1], [3, 1], [1, 1]], [[1, 4], [1, 9], [2, 3]]], np.float32))


def soft_set(soft=LOGITS, kind="logit", **fields):
  return synthetic_set(label_kind=kind, **fields)._replace(soft_labels=soft)


def written(path, synthetic):
  synthetic.save(path)
  return SyntheticSet.load(path)


@pytest.fixture
def path(tmp_path):
  return tmp_path / "synthetic.npz"


# --- The file ------------------------------------------------------------------------------


def test_labels_and_step_size_come_back(path):
  found = written(path, soft_set(student_lr=0.03, temperature=2.0))
  np.testing.assert_array_equal(found.soft_labels, LOGITS)
  assert found.metadata["format"] == FORMAT
  assert found.training() == {"lr": 0.03, "temperature": 2.0}
  assert found.stored_bytes() == found.images.nbytes + LOGITS.nbytes


def test_a_set_with_hard_labels_asks_nothing(path):
  found = written(path, synthetic_set())
  assert found.soft_labels is None and found.training() == {}
  assert "soft_labels" not in np.load(path)
  assert found.flat()[1].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_file_of_the_first_format_reads_as_before(path):
  synthetic_set().save(path)
  arrays = dict(np.load(path))
  metadata = json.loads(str(arrays.pop("metadata")))
  del metadata["format"]
  np.savez(path, metadata=np.array(json.dumps(metadata)), **arrays)
  assert SyntheticSet.load(path).flat()[1].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"label_kind": "hard"}, "label_kind is 'hard', but it has soft_labels"),
    ({"label_kind": "softish"}, "label_kind is 'softish'"),
    ({"label_kind": 3}, "label_kind is not a text"),
    ({"source": "text"}, "source is not a JSON object"),
    ({"label_kind": "prob"}, "which are no probabilities"),
    ({"format": FORMAT + 1}, "later version"),
    ({"format": "2"}, "format is not a whole number"),
    ({"student_lr": 0.0}, "student_lr is 0.0, not a positive number"),
    ({"student_lr": "fast"}, "student_lr is 'fast'"),
    ({"student_lr": True}, "student_lr is True"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"temperature": [1.0]}, "temperature is [1.0]"),
  ],
)
def test_what_contradicts_itself_is_refused(path, change, words):
  soft_set().save(path)
  arrays = dict(np.load(path))
  metadata = json.loads(str(arrays.pop("metadata"))) | change
  np.savez(path, metadata=np.array(json.dumps(metadata)), **arrays)
  with pytest.raises(UserError, match="synthetic set") as caught:
    SyntheticSet.load(path)
  assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "soft",
  [LOGITS[:, :2], LOGITS[..., :1], LOGITS.astype(np.float64), np.full_like(LOGITS, np.nan)],
)
def test_labels_of_another_shape_or_without_numbers_are_refused(path, soft):
  soft_set().save(path)
  arrays = dict(np.load(path))
  np.savez(path, **arrays | {"soft_labels": soft})
  with pytest.raises(UserError, match="soft_labels"):
    SyntheticSet.load(path)


def test_missing_labels_are_not_taken_for_hard_ones(path):
  soft_set().save(path)
  arrays = dict(np.load(path))
  del arrays["soft_labels"]
  np.savez(path, **arrays)
  with pytest.raises(UserError, match="but it has no soft_labels"):
    SyntheticSet.load(path)


# --- What a loss takes -----------------------------------------------------------------------


def test_logits_become_probabilities():
  np.testing.assert_allclose(soft_set().flat()[1][0], [0.9, 0.1], rtol=1e-6)
  warm = soft_set(temperature=2.0).flat()[1][0]  # 9 to 1 becomes 3 to 1
  np.testing.assert_allclose(warm, [0.75, 0.25], rtol=1e-6)


def test_probabilities_weights_and_centred_labels_stay():
  prob = np.full_like(LOGITS, 0.5)
  np.testing.assert_array_equal(soft_set(prob, "prob").flat()[1], np.full((6, 2), 0.5))
  weight = soft_set(LOGITS, "weight")
  np.testing.assert_array_equal(weight.flat()[1], LOGITS.reshape(6, 2))
  assert weight.training() == {}
  centred = soft_set(LOGITS, "centred")
  np.testing.assert_array_equal(centred.flat()[1], LOGITS.reshape(6, 2))
  assert centred.training() == {"loss": "squared_error"}


@pytest.mark.parametrize("name", ["identity", "uniform", "multi_scale", "bounded", "time"])
def test_each_decoded_image_has_the_label_of_the_stored_one(name):
  """Stored images of one value each, which their tiles still have."""
  soft = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
  images = np.broadcast_to(soft[..., :1, None, None], (2, 3, 4, 5, 3)).astype(np.float32)
  formation = {"name": name, "factor": 1 if name == "identity" else 2, "bound": 9}
  found = soft_set(soft, "centred", formation=formation)._replace(images=images)
  decoded, targets = found.flat()
  assert len(decoded) == len(targets) >= 6
  np.testing.assert_allclose(decoded[:, 2, 2, 0], targets[:, 0], atol=1e-6)


def test_losses_equal_the_hand_calculation():
  logits = jnp.array([[2.0, 0.0], [0.0, 1.0]])
  soft = jnp.array([[0.75, 0.25], [0.5, 0.5]])
  first = -0.75 * np.log(1 / (1 + np.exp(-2))) - 0.25 * np.log(1 / (1 + np.exp(2)))
  second = -0.5 * np.log(1 / (1 + np.exp(1))) - 0.5 * np.log(1 / (1 + np.exp(-1)))
  np.testing.assert_allclose(training.cross_entropy(logits, soft), [first, second], rtol=1e-6)
  found = training.squared_error(logits, jnp.array([[0.5, -0.5], [0.5, -0.5]]))
  np.testing.assert_allclose(found, [(1.5**2 + 0.5**2) / 2, (0.5**2 + 1.5**2) / 2])


def test_centred_targets():
  found = evaluation.targets(jnp.array([0, 2]), 4, "squared_error")
  np.testing.assert_allclose(found, [[0.75, -0.25, -0.25, -0.25], [-0.25, -0.25, 0.75, -0.25]])
  assert evaluation.targets(jnp.array([0, 2]), 4, "cross_entropy").tolist() == [0, 2]


# --- Trainings -------------------------------------------------------------------------------


def _linear():
  """Logits of the mean of an image, by one weight for each class."""

  def apply(params, images, stats=None):
    return images.mean((1, 2, 3))[:, None] * params[None], images.mean((1, 2))

  return nn.Network(lambda key: jnp.array([0.3, -0.2]), apply, lambda params, images: {}, False)


IMAGES = np.stack([np.full((2, 2, 1), value, np.float32) for value in (1.0, -2.0, 0.5)])
SOFT = np.array([[0.8, 0.2], [0.1, 0.9], [0.6, 0.4]], np.float32)


def _by_hand(gradient, epochs, lr):
  """SGD with momentum 0.9 and decay 5e-4 on the whole batch; its rate a tenth after the half."""
  weights, velocity = np.array([0.3, -0.2]), np.zeros(2)
  for epoch in range(epochs):
    velocity = 0.9 * velocity + gradient(weights) + 5e-4 * weights
    weights = weights - lr * (1 if epoch < epochs // 2 else 0.1) * velocity
  return weights


def _softmax(logits):
  shares = np.exp(logits)
  return shares / shares.sum(1, keepdims=True)


@pytest.mark.parametrize(
  ("asked", "lr", "residual"),
  [
    ({}, 0.01, lambda logits: _softmax(logits) - SOFT),
    ({"lr": 0.3}, 0.3, lambda logits: _softmax(logits) - SOFT),
    ({"lr": 0.3, "temperature": 4.0}, 0.3, lambda z: (_softmax(z / 4) - SOFT) / 4),
    ({"lr": 0.3, "loss": "squared_error"}, 0.3, lambda logits: logits - SOFT),
  ],
)
def test_a_network_learns_from_soft_labels_as_by_hand(asked, lr, residual):
  values = IMAGES.mean((1, 2, 3))

  def gradient(weights):
    return (residual(values[:, None] * weights) * values[:, None]).mean(0)

  found = evaluation.train(_linear(), IMAGES, SOFT, jax.random.key(0), epochs=4, **asked)
  np.testing.assert_allclose(found, _by_hand(gradient, 4, lr), rtol=1e-5)


def test_one_hot_labels_teach_as_hard_ones_do():
  hard = np.array([0, 1, 0], np.int32)
  one_hot = np.eye(2, dtype=np.float32)[hard]
  found = [
    evaluation.train(_linear(), IMAGES, given, jax.random.key(0), epochs=4, cutmix=mixed)
    for given in (hard, one_hot)
    for mixed in (0.0, 1.0)
  ]
  np.testing.assert_allclose(found[0], found[2], rtol=1e-6)
  np.testing.assert_allclose(found[1], found[3], rtol=1e-6)
  assert not np.allclose(found[0], found[1])


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(lr):
  with pytest.raises(UserError, match=r"evaluation\.lr"):
    evaluation.train(_linear(), IMAGES, SOFT, jax.random.key(0), lr=lr)


def test_soft_targets_are_optax_own():
  logits = jax.random.normal(jax.random.key(1), (5, 3))
  probabilities = jax.nn.softmax(jax.random.normal(jax.random.key(2), (5, 3)))
  expected = optax.softmax_cross_entropy(logits, probabilities)
  np.testing.assert_array_equal(training.cross_entropy(logits, probabilities), expected)


def test_the_kinds_have_a_meaning_each():
  for kind in labels.KINDS[1:]:
    assert labels.targets(np.ones((1, 1, 2), np.float32), kind, None).shape == (1, 1, 2)
