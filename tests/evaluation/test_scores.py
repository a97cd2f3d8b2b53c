"""Scores by hand, and attacks on a network whose gradient is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import nn
from dcjax.data import from_arrays
from dcjax.evaluation import attacks, scores


@pytest.mark.parametrize(
  ("improvement", "recovery", "expected"),
  # alpha = (0.20 - 0.30) / 2 = -0.05: (0.951229 - 0.367879) / 2.350402; and so on
  [(0.2, 0.3, 0.248192), (0.0, 0.0, 0.268941), (1.0, -1.0, 1.0), (-1.0, 1.0, 0.0)],
)
def test_the_label_robust_score(improvement, recovery, expected):
  assert scores.label_robust(improvement, recovery) == pytest.approx(expected, abs=1e-6)


def test_the_weight_is_that_of_the_improvement():
  assert scores.label_robust(0.2, 0.3, weight=1) == scores.normalised(0.2)
  assert scores.label_robust(0.2, 0.3, weight=0) == scores.normalised(-0.3)


def test_the_augmentation_robust_score():
  # 0.25 x 0.1 + 0.75 x 0.3 = 0.25: (1.284025 - 0.367879) / 2.350402
  assert scores.augmentation_robust(0.1, 0.3, weight=0.25) == pytest.approx(0.389783, abs=1e-6)


def pixels():
  return jnp.array([[0.0, 0.5, 1.0]]).reshape(1, 1, 3, 1)


def gradient(pixels):
  return jnp.array([-2.0, 3.0, 0.1]).reshape(1, 1, 3, 1) * jnp.ones_like(pixels)


def test_fgsm_moves_each_pixel_by_epsilon_inside_the_range():
  found = attacks.fgsm(gradient, pixels(), jax.random.key(0), epsilon=0.1)
  np.testing.assert_allclose(np.ravel(found), [0.0, 0.6, 1.0], atol=1e-7)


def test_pgd_ends_at_the_border_where_the_gradient_does_not_turn():
  found = attacks.pgd(gradient, pixels(), jax.random.key(0), epsilon=0.1)
  np.testing.assert_allclose(np.ravel(found), [0.0, 0.6, 1.0], atol=1e-7)


def test_pgd_is_no_farther_than_epsilon_where_it_turns():
  def turning(pixels):
    return -(pixels - 0.52)

  found = attacks.pgd(turning, pixels(), jax.random.key(0), epsilon=0.1)
  assert (np.abs(found - pixels()) <= 0.1 + 1e-6).all()
  np.testing.assert_allclose(np.ravel(found), [0.1, 0.52, 0.9], atol=0.03)


@pytest.fixture
def dataset():
  generator = np.random.default_rng(0)
  images = generator.integers(0, 256, (30, 4, 4, 1)).astype(np.uint8)
  labels = np.arange(30) % 3
  return from_arrays(images, labels, images, labels, name="noise")


def accuracy(dataset, attack, epsilon, block=7):
  network = nn.create("mlp", (4, 4, 1), 3)
  params = network.init(jax.random.key(0))
  return float(
    attacks.accuracy(
      attack, network, params, dataset, jax.random.key(1), epsilon=epsilon, block=block
    )
  )


@pytest.mark.parametrize("attack", attacks.ATTACKS)
def test_what_is_not_changed_is_classified_as_before(dataset, attack):
  network = nn.create("mlp", (4, 4, 1), 3)
  logits, _ = network.apply(network.init(jax.random.key(0)), dataset.normalise(dataset.test_images))
  plain = float((logits.argmax(-1) == dataset.test_labels).mean())
  assert accuracy(dataset, attack, 0.0) == pytest.approx(plain)
  assert accuracy(dataset, attack, 0.5) < plain or plain == 0


def test_blocks_do_not_count_images_twice(dataset):
  assert accuracy(dataset, "fgsm", 0.05, block=7) == accuracy(dataset, "fgsm", 0.05, block=30)
