"""Evaluation: keys, layouts and sets, accuracies counted by hand, and the learning rate."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcjax import data, evaluation, nn
from dcjax.common.errors import UserError
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.evaluation import (
  EvaluationSettings,
  Evaluator,
  accuracy,
  check_settings,
  confusion_of,
  summarise,
)
from dcjax.evaluation.protocols import PROTOCOLS, Kind, same_steps
from dcjax.evaluation.trainer import make_optimizer
from dcjax.nn import training

SETTINGS = EvaluationSettings(protocol="dc", epochs=60, augmentation="none", networks=4, checks=3)
KEY = jax.random.key(0)
IPC = 10


@pytest.fixture(scope="module")
def dataset():
  """The digits, with the first hundred test images only."""
  whole = digits.load()
  return whole.replace(test_images=whole.test_images[:100], test_labels=whole.test_labels[:100])


@pytest.fixture(scope="module")
def sets(dataset):
  """Real images of every class: four sets `[4, N, 8, 8, 1]` normalised, and their labels."""
  draw = functools.partial(data.random_subset, dataset, ipc=IPC)
  images = jax.vmap(draw)(jax.random.split(jax.random.key(1), 4))
  return images.reshape(4, -1, 8, 8, 1), jnp.repeat(jnp.arange(10, dtype=jnp.int32), IPC)


def linear_apply(params, images, stats=None):
  features = images.reshape(-1, 64)
  return features @ params, features


# Compiles in no time and learns the digits in a few epochs.
LINEAR = nn.Network(
  init=lambda key: 0.2 * jax.random.normal(key, (64, 10)),
  apply=linear_apply,
  statistics=lambda params, images: {},
  batch_norm=False,
)


def all_of(evaluate, *args, **options):
  """The accuracies of all networks `[networks, checks]`."""
  return np.concatenate([np.asarray(block) for block in evaluate(*args, **options)])


@pytest.fixture(scope="module")
def one_by_one(dataset):
  return Evaluator(LINEAR, SETTINGS, Strategy(network_block=1), dataset)


@pytest.fixture(scope="module")
def three_together(dataset):
  return Evaluator(LINEAR, SETTINGS, Strategy(network_block=3), dataset)


@pytest.fixture(scope="module")
def expected(one_by_one, sets):
  """What the other layouts must give: on the first of the sets."""
  return all_of(one_by_one, sets[0][0], sets[1], KEY)


def assert_same_accuracies(actual, expected):
  """Rounding may turn one of the hundred test images."""
  assert actual.shape == expected.shape
  np.testing.assert_allclose(actual, expected, atol=0.0101)


# --- Networks and sets ---------------------------------------------------------------------


def test_networks_learn_and_differ_from_each_other(expected):
  assert expected.shape == (4, 3)
  assert expected[:, -1].min() > 0.5  # chance is a tenth
  assert len({tuple(row) for row in expected}) > 1


def test_the_key_decides(one_by_one, sets, expected):
  again = all_of(one_by_one, sets[0][0], sets[1], KEY)
  other = all_of(one_by_one, sets[0][0], sets[1], jax.random.key(1))
  np.testing.assert_array_equal(again, expected)
  assert not np.array_equal(other, expected)


def test_networks_trained_together_are_those_trained_alone(three_together, sets, expected):
  blocks = [np.asarray(block) for block in three_together(sets[0][0], sets[1], KEY)]
  assert [block.shape for block in blocks] == [(3, 3), (1, 3)]
  assert_same_accuracies(np.concatenate(blocks), expected)


def test_a_block_larger_than_all_networks_yields_each_once(dataset, sets, expected):
  settings = SETTINGS._replace(networks=2)
  evaluate = Evaluator(LINEAR, settings, Strategy(network_block=20), dataset)
  (block,) = evaluate(sets[0][0], sets[1], KEY)
  assert_same_accuracies(np.asarray(block), expected[:2])


def test_each_network_can_have_a_set_of_its_own(one_by_one, three_together, sets):
  images, labels = sets
  alone = [all_of(one_by_one, each, labels, KEY)[i] for i, each in enumerate(images)]
  together = all_of(three_together, images, labels, KEY, own_sets=True)
  assert_same_accuracies(together, np.stack(alone))


def test_one_program_serves_a_set_for_all_and_sets_of_their_own(dataset, sets):
  chex.clear_trace_counter()
  network = LINEAR._replace(init=chex.assert_max_traces(LINEAR.init, n=1))
  settings = SETTINGS._replace(epochs=1, networks=2, checks=1)
  evaluate = Evaluator(network, settings, Strategy(network_block=1), dataset)
  all_of(evaluate, sets[0][0], sets[1], KEY)
  all_of(evaluate, *sets, KEY, own_sets=True)


def test_stored_pixels_are_normalised_on_the_way(one_by_one, dataset):
  index = np.concatenate([np.flatnonzero(dataset.labels == label)[:IPC] for label in range(10)])
  pixels, labels = dataset.images[index], dataset.labels[index]
  assert pixels.dtype == jnp.uint8
  normalised = all_of(one_by_one, dataset.normalise(pixels), labels, KEY)
  assert_same_accuracies(all_of(one_by_one, pixels, labels, KEY), normalised)


@pytest.mark.parametrize("block", [1, 3])
def test_what_is_taken_for_what_adds_up_to_the_last_accuracy(dataset, sets, expected, block):
  evaluate = Evaluator(LINEAR, SETTINGS, Strategy(network_block=block), dataset, confusion=True)
  blocks = list(evaluate(sets[0][0], sets[1], KEY))
  accuracies = np.concatenate([found for found, _ in blocks])
  counts = np.concatenate([counts for _, counts in blocks])
  assert counts.shape == (4, 10, 10) and counts.dtype == np.int32
  assert_same_accuracies(accuracies, expected)
  of_class = np.bincount(dataset.test_labels, minlength=10)
  np.testing.assert_array_equal(counts.sum(2), np.broadcast_to(of_class, (4, 10)))
  right = np.trace(counts, axis1=1, axis2=2) / of_class.sum()
  np.testing.assert_allclose(right, accuracies[:, -1], atol=1e-6)


def test_true_classes_are_rows():
  counts = confusion_of(jnp.array([0, 0, 2]), jnp.array([1, 1, 2]), 3)
  np.testing.assert_array_equal(counts, [[0, 2, 0], [0, 0, 0], [0, 0, 1]])


def test_more_checks_do_not_change_the_last(dataset, sets, expected):
  settings = SETTINGS._replace(checks=1, networks=1)
  evaluate = Evaluator(LINEAR, settings, Strategy(), dataset)
  assert_same_accuracies(all_of(evaluate, sets[0][0], sets[1], KEY), expected[:1, -1:])


def test_a_shuffled_set_with_its_labels_is_learned_too(one_by_one, sets):
  order = np.random.default_rng(0).permutation(10 * IPC)
  accuracies = all_of(one_by_one, sets[0][0][order], sets[1][order], KEY)
  assert accuracies[:, -1].min() > 0.5


def test_batches_can_be_drawn_from_all_images(dataset):
  """Two epochs of 300 images are two steps of 256 each, and the rate drops between them."""
  images, labels, settings = dataset.images, dataset.labels, SETTINGS._replace(epochs=2)
  init_key, train_key = jax.random.split(KEY)
  rate = optax.join_schedules(list(map(optax.constant_schedule, (0.01, 0.001))), [2])
  optimizer = training.sgd(rate, momentum=0.9, weight_decay=5e-4)
  batching = training.Batching(256, 16, dataset.normalise)

  @jax.jit
  def both():
    trainer = evaluation.make_trainer(
      LINEAR, settings, Strategy(), images, labels,
      key=KEY, decode=dataset.normalise, drawn=300,
    )  # fmt: skip
    pieces = trainer.advance(trainer.advance(trainer.start(), 0, 1), 1, 2)
    start = LINEAR.init(init_key)
    carry = start, optimizer.init(start)
    learner = training.Learner(LINEAR, optimizer, batching)
    trained, _ = training.random_steps(learner, carry, images, labels, train_key, start=0, stop=4)
    return pieces[0], trained[0]

  np.testing.assert_allclose(*both(), rtol=1e-5, atol=1e-7)


def test_batch_norm_is_tested_with_statistics_of_the_set(dataset, sets):
  """Else the accuracy would depend on which test images go through together."""
  phi = nn.create("convnet", (8, 8, 1), 10, width=4, depth=1, norm="batch")
  settings = SETTINGS._replace(networks=1, epochs=30, checks=1)
  layouts = (Strategy(image_block=0), Strategy(image_block=7))
  accuracies = [
    all_of(Evaluator(phi, settings, layout, dataset), sets[0][0], sets[1], KEY)
    for layout in layouts
  ]
  assert accuracies[0].min() > 0.3
  assert_same_accuracies(accuracies[0], accuracies[1])


# --- Accuracy ------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 16, 100, 256])
def test_accuracy_is_the_fraction_that_is_right(dataset, block):
  subset = dataset.replace(
    test_images=dataset.test_images[:50], test_labels=dataset.test_labels[:50]
  )
  weights = jax.random.normal(jax.random.key(2), (64, 10))
  pixels = np.asarray(subset.test_images, np.float64) / 255
  normalised = (pixels - np.asarray(dataset.mean)) / np.asarray(dataset.std)
  guesses = (normalised.reshape(50, 64) @ np.asarray(weights)).argmax(1)
  right = (guesses == np.asarray(subset.test_labels)).mean()
  assert 0 < right < 1
  np.testing.assert_allclose(accuracy(LINEAR, weights, subset, block=block), right, atol=1e-6)


def test_best_is_of_each_network_and_last_is_the_last():
  summary = summarise(np.array([[0.2, 0.8, 0.4], [0.5, 0.1, 0.6]]))
  expected = {"last_mean": 0.5, "last_std": 0.1, "best_mean": 0.7, "best_std": 0.1}
  assert summary == pytest.approx(expected)


def test_best_is_at_least_last(expected):
  summary = summarise(expected)
  assert summary["best_mean"] >= summary["last_mean"] > 0


# --- Protocol ------------------------------------------------------------------------------


def half(epochs):
  return {0: 0.01, epochs // 2: 0.001}


def two_cuts(epochs):
  return {0: 0.01, 2 * epochs // 3: 0.002, 5 * epochs // 6: 0.0004}


def two_cuts_of_a_hundred_classes(epochs):
  return {0: 0.1, 2 * epochs // 3: 0.02, 5 * epochs // 6: 0.004}


def earlier_cuts(epochs):
  return {0: 0.01, 3 * epochs // 5: 0.002, 4 * epochs // 5: 0.0004}


@pytest.mark.parametrize(
  ("protocol", "rates", "epochs", "steps"),
  [
    ("dc", half, 6, 2),
    ("idm", half, 7, 1),
    ("idc", two_cuts, 12, 2),
    ("idc", two_cuts, 8, 1),
    ("idc_continual", earlier_cuts, 10, 1),
    ("idc_hundred", two_cuts_of_a_hundred_classes, 12, 2),
  ],
)
def test_sgd_equals_pytorchs_and_its_rate_drops_as_the_paper_says(protocol, rates, epochs, steps):
  optimizer = make_optimizer(SETTINGS._replace(protocol=protocol, epochs=epochs), steps)
  rng = np.random.default_rng(0)
  params = jnp.float32(rng.standard_normal(4))
  state, update = optimizer.init(params), jax.jit(optimizer.update)
  expected, velocity = np.asarray(params, np.float64), 0
  for step in range(epochs * steps):
    gradient = jnp.float32(rng.standard_normal(4))
    updates, state = update(gradient, state, params)
    params = params + updates
    rate = next(rate for start, rate in reversed(rates(epochs).items()) if step // steps >= start)
    decay = 1e-4 if protocol == "idc_hundred" else 5e-4
    velocity = 0.9 * velocity + np.asarray(gradient) + decay * expected
    expected = expected - rate * velocity
    np.testing.assert_allclose(params, expected, atol=1e-6)


@pytest.mark.parametrize(("protocol", "batch"), [("dc", 256), ("idc", 64), ("idc_hundred", 128)])
def test_batches_of_a_protocol_and_of_what_there_is(protocol, batch):
  settings = SETTINGS._replace(protocol=protocol)
  assert evaluation.batches(settings, 1000) == (batch, -(-1000 // batch))
  assert evaluation.batches(settings, 30) == (30, 1)


STRATEGY = "color_crop_cutout_scale_rotate"


@pytest.mark.parametrize(
  ("protocol", "dataset", "augmentation"),
  [
    ("dc", "mnist", ("dc", 0)),
    ("dc", "mnist_corrupted", ("none", 0)),
    ("dc", "cifar10", ("none", 0)),
  ]
  + [
    (name, dataset, (STRATEGY, 0))
    for name in ("dsa", "dm", "idm")
    for dataset in ("mnist", "folder")
  ]
  + [("idc", dataset, ("sequence:color,one:crop_scale_rotate", 0.5)) for dataset in ("mnist", "x")]
  + [
    ("idc", dataset, ("idc_imagenet", 1))
    for dataset in ("folder", "imagenet2012_subset", "imagenette")
  ]
  + [("idc", "speech", ("none", 0))],
)
def test_datasets_are_augmented_as_the_paper_says(protocol, dataset, augmentation):
  kind = Kind(dataset, STRATEGY, 10, 10)
  cutmix = PROTOCOLS[protocol].cutmix(kind)
  assert (PROTOCOLS[protocol].augmentation(kind, cutmix), cutmix) == augmentation


@pytest.mark.parametrize(
  ("strategy", "expected"),
  [
    ("flip_rotate", "flip_rotate"),
    ("sequence:flip_rotate", "flip_rotate"),
    ("sequence:flip_color,one:crop_scale_rotate", "flip_rotate"),
    ("one:color_crop", "one:color_crop"),
  ],
)
def test_transforms_of_groups_are_found(strategy, expected):
  assert PROTOCOLS["bptt"].augmentation(Kind("cifar10", strategy, 10, 10), 0) == expected


@pytest.mark.parametrize("ipc", [1, 7, 10, 11, 15, 25, 50])
def test_networks_of_bptt_take_three_thousand_steps(ipc):
  epochs = PROTOCOLS["bptt"].epochs(Kind("cifar10", "flip", ipc, ipc), "flip")
  steps = epochs * -(-10 * ipc // 100)
  assert 2900 < steps <= 3000


def test_labels_of_a_training_are_as_its_loss_takes_them(dataset):
  network = nn.create("mlp", dataset.image_shape, num_classes=dataset.num_classes)
  key = jax.random.key(0)
  images, labels = dataset.normalise(dataset.images[:9]), dataset.labels[:9]
  train = functools.partial(evaluation.train, network, images, key=key, epochs=2)
  centred = np.eye(dataset.num_classes, dtype=np.float32)[labels] - np.float32(
    1 / dataset.num_classes
  )
  found = [train(labels=given, loss="squared_error") for given in (labels, centred)]
  jax.tree.map(np.testing.assert_array_equal, *found)
  for wrong, words in (
    ({"loss": "mse", "labels": labels}, "loss: unknown 'mse'"),
    ({"labels": labels[:5]}, "labels: 5 for 9 images"),
  ):
    with pytest.raises(UserError, match=words):
      train(**wrong)


def test_tiny_imagenet_takes_as_many_steps_as_the_others():
  kinds = [Kind("tiny_imagenet", "flip", n, n, hundred_classes=True) for n in (1, 10, 50)]
  assert [PROTOCOLS["bptt"].epochs(kind, "flip") for kind in kinds] == [1500, 150, 30]


ONE = "one:crop_scale_rotate"


@pytest.mark.parametrize(
  ("dataset", "ipc", "decoded", "augmentation", "cutmix"),
  [
    ("cifar10", 1, 1, f"sequence:flip_color,{ONE}", 0.5),
    ("cifar10", 10, 40, f"sequence:flip_color,{ONE}", 0.5),
    ("fashion_mnist", 1, 4, f"sequence:flip_color,{ONE}", 0.5),
    ("mnist", 1, 1, f"sequence:color,{ONE}", 0.5),
    ("mnist", 10, 40, f"sequence:color,{ONE}", 0),  # neither CutMix nor cutout with tiles
    ("svhn_cropped", 1, 1, f"sequence:color,{ONE},sequence:cutout", 0),
    ("svhn_cropped", 1, 4, f"sequence:color,{ONE}", 0.5),
    ("svhn_cropped", 10, 10, f"sequence:color,{ONE}", 0.5),
  ],
)
def test_idc_cuts_out_where_it_does_not_mix_but_on_mnist(
  dataset, ipc, decoded, augmentation, cutmix
):
  flips = "_flip" if dataset in ("cifar10", "fashion_mnist") else ""
  kind = Kind(dataset, f"color_crop_cutout{flips}_scale_rotate", ipc, decoded)
  protocol = PROTOCOLS["idc"]
  assert (protocol.augmentation(kind, protocol.cutmix(kind)), protocol.cutmix(kind)) == (
    augmentation, cutmix,
  )  # fmt: skip


@pytest.mark.parametrize(("augmentation", "epochs"), [("none", 300), ("dc", 1000), ("crop", 1000)])
def test_augmentation_takes_longer(augmentation, epochs):
  protocols = [PROTOCOLS[name] for name in ("dc", "dsa", "dm", "idm")]
  kinds = [Kind("cifar10", augmentation, ipc, ipc) for ipc in (1, 50)]
  assert all(p.epochs(kind, augmentation) == epochs for p in protocols for kind in kinds)


@pytest.mark.parametrize(
  ("ipc", "epochs", "of_hundred"),
  [
    (1, 3000, 2000), (4, 2000, 1300), (10, 2000, 1300), (11, 1500, 1000), (40, 1500, 1000),
    (50, 1500, 1000), (90, 1000, 600), (200, 1000, 600), (500, 500, 300), (501, 300, 200),
  ],
)  # fmt: skip
def test_idc_trains_longer_on_fewer_images_of_imagenet(ipc, epochs, of_hundred):
  kind = Kind("folder", "crop", 1, ipc)
  assert PROTOCOLS["idc"].epochs(kind, "crop") == epochs
  assert PROTOCOLS["idc"].epochs(kind._replace(hundred_classes=True), "crop") == of_hundred
  for dataset in ("cifar100", "mnist", "tiny_imagenet", "speech"):
    small = kind._replace(dataset=dataset, hundred_classes=True)
    assert PROTOCOLS["idc"].epochs(small, "crop") == 1000


@pytest.mark.parametrize(
  ("epochs", "stored", "decoded", "expected"),
  [(2000, 10, 10, 2000), (2000, 10, 40, 500), (1000, 10, 90, 111), (3, 1, 4, 1)],
)
def test_as_many_steps_as_on_the_stored_images(epochs, stored, decoded, expected):
  assert same_steps(epochs, stored=stored, decoded=decoded) == expected


def test_augmentation_reaches_the_training(dataset, sets, expected):
  settings = SETTINGS._replace(augmentation="dc", networks=1)
  augmented = all_of(Evaluator(LINEAR, settings, Strategy(), dataset), sets[0][0], sets[1], KEY)
  assert augmented.shape == (1, 3) and not np.allclose(augmented, expected[:1], atol=0.02)


def test_cutmix_reaches_the_training(dataset, sets, expected):
  settings = SETTINGS._replace(cutmix=1.0, networks=1)
  mixed = all_of(Evaluator(LINEAR, settings, Strategy(), dataset), sets[0][0], sets[1], KEY)
  assert mixed.shape == (1, 3) and not np.allclose(mixed, expected[:1], atol=0.02)
  assert mixed[:, -1].min() > 0.3


def test_batch_norm_has_statistics_of_mixed_images():
  phi = nn.create("convnet", (4, 4, 1), 2, width=2, depth=1, norm="batch")
  images = jnp.array([-1.0, 1.0])[:, None, None, None] * jnp.ones((2, 4, 4, 1))

  @functools.partial(jax.jit, static_argnums=0)
  def statistics(cutmix):
    settings = SETTINGS._replace(cutmix=cutmix)
    trainer = evaluation.make_trainer(phi, settings, Strategy(), images, jnp.arange(2), key=KEY)
    return trainer.statistics(trainer.start()[0])

  plain, mixed = (jax.tree.leaves(statistics(cutmix)) for cutmix in (0.0, 1.0))
  assert any(not np.allclose(a, b, atol=1e-3) for a, b in zip(plain, mixed, strict=True))


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("protocol", "dcc", "unknown 'dcc'; did you mean 'dc'?"),
    ("augmentation", "nine", "unknown 'nine'; did you mean 'none'?"),
    ("epochs", 0, "0 is too small; give 1 or more"),
    ("networks", -1, "-1 is too small; give 0 or more"),
    ("checks", -1, "-1 is too small; give 1 or more"),
    ("cutmix", 1.5, "1.5 is no probability; give one in [0, 1]"),
    ("cutmix", float("nan"), "nan is no probability; give one in [0, 1]"),
  ],
)
def test_an_error_names_the_field_the_value_and_the_remedy(field, value, message):
  check_settings(SETTINGS)
  with pytest.raises(UserError) as caught:
    check_settings(SETTINGS._replace(**{field: value}))
  assert str(caught.value) == f"evaluation.{field}: {message}"
