"""The protocol `soft`: a teacher labels each batch as networks see it, of random images, too."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dcjax.config
from dcjax import UserError, augment, data, evaluation, nn
from dcjax.applications.continual import fields as continual_fields
from dcjax.applications.nas import fields as nas_fields
from dcjax.commands.evaluate import evaluate
from dcjax.commands.select import select
from dcjax.config import presets
from dcjax.devices.strategy import Strategy
from dcjax.evaluation import EvaluationSettings
from dcjax.evaluation.protocols import PROTOCOLS, Kind
from dcjax.run import experiment
from dcjax.sets.formation import Stored
from tests.runs import tiny

WEIGHTS = np.float32([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.2]])
IMAGES = np.random.default_rng(0).normal(size=(4, 1, 3, 1)).astype(np.float32)


def linear(weights=WEIGHTS):
  """Logits of three numbers; its weights are a kernel, beside a bias."""

  def apply(params, images, stats=None):
    features = images.reshape(-1, 3)
    return features @ params["kernel"] + params["bias"][None], features

  def init(key):
    return {"kernel": jnp.asarray(weights), "bias": jnp.ones(2, jnp.float32)}

  return nn.Network(init, apply, lambda params, images: {}, batch_norm=False)


def settings(**changes):
  return EvaluationSettings("soft", 3, "none", networks=1, checks=1, cutmix=0.0)._replace(**changes)


def trained(given, teach=None):
  """The weights after training on all images at once."""
  network, more = linear(), {} if teach is None else {"teach": teach}
  trainer = evaluation.make_trainer(
    network, given, Strategy(), jnp.asarray(IMAGES), jnp.array([0, 1, 1, 0]),
    key=jax.random.key(0), **more,
  )  # fmt: skip
  return jax.jit(lambda: trainer.advance(trainer.start(), 0, given.epochs)[0])()


def softmax(logits):
  shares = np.exp(logits - logits.max(-1, keepdims=True))
  return shares / shares.sum(-1, keepdims=True)


def test_adamw_and_its_half_of_a_cosine_as_by_hand():
  """Gradients of the cross-entropy at temperature 2 to soft labels; bias without decay."""
  soft = np.float32([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5], [0.2, 0.8]])
  network, epochs, lr = linear(), 3, 0.1
  trainer = evaluation.make_trainer(
    network, settings(lr=lr, temperature=2.0), Strategy(), jnp.asarray(IMAGES), jnp.asarray(soft),
    key=jax.random.key(0),
  )  # fmt: skip
  found = jax.jit(lambda: trainer.advance(trainer.start(), 0, epochs)[0])()
  x = IMAGES.reshape(4, 3).astype(np.float64)
  values = {"kernel": WEIGHTS.astype(np.float64), "bias": np.ones(2)}
  first, second = ({name: np.zeros_like(v) for name, v in values.items()} for _ in range(2))
  for epoch in range(epochs):
    residual = (softmax((x @ values["kernel"] + values["bias"]) / 2) - soft) / 2 / 4
    gradients = {"kernel": x.T @ residual, "bias": residual.sum(0)}
    rate = lr * 0.5 * (1 + np.cos(np.pi * epoch / (2 * epochs)))
    for name, g in gradients.items():
      first[name] = 0.9 * first[name] + 0.1 * g
      second[name] = 0.999 * second[name] + 0.001 * g**2
      m, v = first[name] / (1 - 0.9 ** (epoch + 1)), second[name] / (1 - 0.999 ** (epoch + 1))
      decay = 0.01 * values[name] if name == "kernel" else 0
      values[name] = values[name] - rate * (m / (np.sqrt(v) + 1e-8) + decay)
  for name, value in values.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4)


def test_a_teacher_that_is_the_student_moves_nothing_but_by_decay():
  """Then the gradient is zero: the loss is at its least, the entropy of the labels."""
  student, given = linear(), settings(lr=0.1)
  params = student.init(jax.random.key(0))

  def loss(params):
    logits = student.apply(params, jnp.asarray(IMAGES))[0] / 20
    labels = jax.nn.softmax(student.apply(student.init(None), jnp.asarray(IMAGES))[0] / 20)
    return -(labels * jax.nn.log_softmax(logits)).sum(-1).mean()

  assert given.division == 20
  gradient = jax.grad(loss)(params)
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) < 1e-6
  teach = evaluation.teaching(student, given, params, {})
  np.testing.assert_allclose(
    teach(jnp.asarray(IMAGES), None), softmax((IMAGES.reshape(4, 3) @ WEIGHTS + 1) / 20), rtol=1e-5
  )
  still = trained(settings(lr=1e-3), teach)["kernel"]
  # Adam's steps do not shrink with the gradient, but those of one sign are at most the rate.
  assert np.abs(still - WEIGHTS).max() <= 3 * 1e-3 * 1.01


def test_the_teacher_sees_what_the_network_sees():
  seen = []

  def teach(images, targets):
    seen.append(targets.shape)
    return jax.nn.softmax(images.reshape(-1, 3)[:, :2])

  trained(settings(cutmix=1.0), teach)
  assert seen[0] == (4, 2)  # after CutMix, which makes probabilities of labels


@pytest.mark.parametrize(
  ("ipc", "hundred", "batch"),
  [(1, False, 10), (10, False, 50), (50, False, 100), (1, True, 20), (10, True, 100)],
)
def test_the_batch_by_images_per_class(ipc, hundred, batch):
  kind = Kind("cifar10", augment.STRATEGY, ipc, ipc, hundred)
  assert PROTOCOLS["soft"].batch_of(kind) == batch
  assert PROTOCOLS["soft"].batch_of(kind._replace(dataset="tiny_imagenet")) == 100


def test_what_the_protocol_says_is_filled_in():
  config = dcjax.config.default("dm")
  presets.take_dataset(config, "cifar10")
  config.ipc, config.evaluation.protocol = 10, "soft"
  fields = dcjax.config.resolve(config).evaluation
  assert (fields.epochs, fields.augmentation, fields.cutmix, fields.batch) == (300, "flip", 1, 50)
  assert fields.teacher == "convnet:norm=batch"
  config.evaluation.protocol = "dsa"
  fields = dcjax.config.resolve(config).evaluation
  assert (fields.teacher, fields.batch) == ("", 256)


@pytest.mark.parametrize(
  ("field", "value", "words"),
  [
    ("teacher", "convent", "evaluation.teacher: network: unknown 'convent'"),
    ("teacher", "widths", "evaluation.teacher: 'widths' stands for several networks"),
    ("teacher_epochs", 10**5, "evaluation.teacher_epochs: 100000 is too large"),
    ("teacher_epochs", 0, "evaluation.teacher_epochs: 0"),
    ("batch", 0, "evaluation.batch: 0"),
    ("temperature", 0.0, "evaluation.temperature: 0"),
  ],
)
def test_what_no_teacher_can_be(field, value, words):
  config = tiny("dm")
  config.evaluation.protocol = "soft"
  config.evaluation[field] = value
  with pytest.raises(UserError) as caught:
    dcjax.config.resolve(config)
  assert words in str(caught.value)


@pytest.mark.slow
def test_sets_and_random_images_have_the_same_teacher(tmp_path, monkeypatch):
  """Images of the wrong classes: their labels are the teacher's, who knows better."""
  rng = np.random.default_rng(0)
  labels = np.arange(80) % 2
  images = (labels[:, None, None] * 130 + rng.integers(0, 120, (80, 4, 4))).astype(np.uint8)
  file = tmp_path / "toy.npz"
  np.savez(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
  config = tiny("dm", dataset__name="npz", dataset__data_dir=str(file), ipc=4)
  config.evaluation.networks = 2
  config = dcjax.config.resolve(config)
  dataset = data.load(config.dataset)
  chosen = data.random_subset(dataset, jax.random.key(0), ipc=4)
  made = experiment.synthetic_set(config, dataset, Stored(chosen[::-1], {}), student_lr=3.0)
  made.save(tmp_path / "set.npz")
  options = {"data_dir": str(file), "cache_dir": str(tmp_path / "cache"), "protocol": "soft"}
  options |= {"teacher": "convnet:width=4:norm=batch", "teacher_epochs": 20, "lr": 0.02}
  ours, random = evaluate(tmp_path / "set.npz", **options, epochs=60)
  assert ours["last_mean"] > 0.9 and random["last_mean"] > 0.9
  assert ours["teacher"] == "convnet:width=4:norm=batch" and ours["teacher_accuracy"] > 0.9
  assert ours["teacher_digest"] == random["teacher_digest"] and ours["temperature"] == 20
  (again, _) = evaluate(tmp_path / "set.npz", **options, epochs=60)  # from the cache
  assert again == ours
  hard, _ = evaluate(tmp_path / "set.npz", **options | {"teacher": "", "epochs": 60})
  assert hard["last_mean"] < 0.1 and "teacher" not in hard


@pytest.mark.slow
def test_a_teacher_of_a_file_is_trained_again_when_the_file_has_changed(tmp_path):
  """It is the same name, and arrays of the same shapes."""
  code = (Path(__file__).parents[2] / "docs" / "examples" / "my_network.py").read_text()
  config = tiny("dm")
  config.evaluation.teacher_epochs, config.dataset.cache_dir = 1, str(tmp_path / "cache")
  dataset = data.load(config.dataset)
  digests, file = [], tmp_path / "nets.py"
  for text in (code, code.replace("nn.relu", "nn.silu"), code):
    file.write_text(text)
    config.evaluation.teacher = f"{file}:Small"
    taught = experiment.Evaluation(
      dcjax.config.resolve(config), dataset, Strategy(), experiment.Keys.from_seed(0)
    )
    record = taught.run(taught.tasks()[1], (np.empty(0), np.empty(0)), 0)
    digests.append(record["teacher_digest"])
  assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize("field", ["protocol", "teacher"])
@pytest.mark.parametrize("command", ["select", "nas", "continual"])
def test_commands_without_a_teacher_refuse_one(command, field, tmp_path):
  config = {
    "select": lambda: dcjax.config.default("random"),
    "nas": nas_fields.default_search,
    "continual": lambda: continual_fields.default("gdumb"),
  }[command]()
  config.evaluation[field] = {"protocol": "soft", "teacher": "mlp"}[field]
  run = {
    "select": lambda config: select(config, tmp_path / "run"),
    "nas": nas_fields.resolve_search,
    "continual": continual_fields.resolve,
  }[command]
  with pytest.raises(UserError, match=r"evaluation\.\w+: .* brings a teacher"):
    run(config)
