"""The pictures for which networks see sets again, against numbers by plain NumPy."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax.augment import Augmentations
from dcjax.commands import plot
from dcjax.commands.condense import condense
from dcjax.common.errors import UserError
from dcjax.data import digits
from dcjax.devices.strategy import Strategy
from dcjax.figures import consistency, matching_loss
from dcjax.methods import dc
from dcjax.methods.setup import Setup
from tests.commands.test_plot import CLASSES, linear_gradient, linear_network
from tests.runs import tiny


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  """Finished runs with one and two images per class."""
  folders = []
  for count in (2, 1):
    folder = tmp_path_factory.mktemp("runs") / f"dc-{count}"
    condense(tiny(ipc=count, network_epochs=1, iterations=2, evaluation__networks=0), folder)
    folders.append(folder)
  return folders


def test_images_are_made_smaller_and_enlarged():
  slope = jnp.broadcast_to(jnp.arange(8.0).reshape(1, 1, 1, 8, 1), (2, 3, 8, 8, 1))
  assert matching_loss.resized(slope, 8) is slope
  one = np.asarray(matching_loss.resized(slope, 1))
  np.testing.assert_allclose(one, np.full((2, 3, 8, 8, 1), 3.5), rtol=1e-6)
  four = np.asarray(matching_loss.resized(slope, 4))[0, 0, 0, :, 0]
  # Halved by a triangle of weights 1, 3, 3, 1, the inner pixels are means 2.5 and 4.5; between
  # these, enlarging interpolates by quarters.
  np.testing.assert_allclose(four[3:5], [3.0, 4.0], rtol=1e-5)


def test_the_matching_loss_is_that_of_a_linear_network():
  dataset, network, key = digits.load(), linear_network(), jax.random.key(3)
  settings = dc.DCSettings(ipc=2, distance="mse", batch_real=5)
  plain = Augmentations(*(lambda key, images: images,) * 3)
  images = jax.random.normal(jax.random.key(4), (CLASSES, 2, 8, 8, 1))
  measure = matching_loss.loss(Setup(network, Strategy(image_block=2), plain), settings)
  found = measure(images, dataset, key)

  network_key, match_key = jax.random.split(key)
  params, total = np.asarray(network.init(network_key)), 0.0
  matching = dc.gradient_matching(Setup(network, Strategy(image_block=2), plain), settings)
  indices = np.asarray(matching.draw(dataset, match_key).matched)
  for label in range(CLASSES):
    real = dataset.normalise(dataset.images[indices[label]])
    ours = linear_gradient(params, images[label], label)
    total += np.square(ours - linear_gradient(params, real, label)).sum()
  np.testing.assert_allclose(found, total / CLASSES, rtol=1e-4)


def test_neighbours_are_counted_as_by_hand():
  draw = np.random.default_rng(0)
  real, labels = draw.normal(size=(40, 3)), draw.integers(0, 4, 40)
  ours, of_ours = draw.normal(size=(6, 3)), draw.integers(0, 4, 6)
  expected = []
  for count in (1, 3, 40):
    shares = []
    for feature, label in zip(ours, of_ours, strict=True):
      nearest = np.argsort(np.linalg.norm(real - feature, axis=1))[:count]
      shares.append((labels[nearest] == label).mean())
    expected.append(np.mean(shares))
  as_float, as_int = (lambda x: jnp.asarray(x, jnp.float32)), (lambda x: jnp.asarray(x, jnp.int32))
  found = consistency.ratios(
    as_float(ours), as_int(of_ours), as_float(real), as_int(labels), counts=(1, 3, 40)
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_matching_loss_has_a_row_for_each_run_and_a_column_for_each_side(pair):
  figure = plot.KINDS["matching"](pair, sides=["8", "2"], networks=2)
  left, right, _ = figure.axes
  assert [line.get_label() for line in left.lines] == ["1 per class", "2 per class"]
  assert [label.get_text() for label in right.get_yticklabels()] == ["1", "2"]
  assert [label.get_text() for label in right.get_xticklabels()] == ["2", "8"]
  losses = np.asarray(right.images[0].get_array())
  assert (
    losses.shape == (2, 2) and np.isfinite(losses).all() and (losses[:, 0] != losses[:, 1]).all()
  )


@pytest.mark.parametrize("epochs", [0, 1])
def test_real_images_have_neighbours_of_their_class(pair, tmp_path, epochs):
  files = plot.write("consistency", pair, tmp_path / "x", labels=["a", "b"], epochs=epochs)
  assert all(file.is_file() for file in files)
  (axes,) = plot.KINDS["consistency"](pair, labels=["a", "b"], epochs=epochs).axes
  assert [line.get_label() for line in axes.lines] == ["a", "b"]
  assert all(
    (line.get_ydata() >= 0).all() and (line.get_ydata() <= 100).all() for line in axes.lines
  )


@pytest.mark.parametrize(
  ("kind", "options", "message"),
  [
    ("matching", {"sides": ["9"]}, "sides: '9' is no number of pixels from 1 to 8"),
    ("matching", {"sides": ["x"]}, "sides: 'x' is no number"),
    ("matching", {"networks": 0}, "networks: 0 is too small"),
    ("consistency", {"epochs": -1}, "epochs: -1 is too small"),
    ("consistency", {"labels": ["a"]}, "labels: 1 for 2 runs"),
  ],
)
def test_mistakes_in_options(pair, kind, options, message):
  with pytest.raises(UserError) as caught:
    plot.KINDS[kind](pair, **options)
  assert message in str(caught.value)


def test_runs_that_cannot_be_compared(pair, tmp_path):
  with pytest.raises(UserError, match="two runs have 2 images per class"):
    plot.KINDS["matching"]([pair[0], pair[0]])
  other = shutil.copytree(pair[1], tmp_path / "other")
  config = json.loads((other / "config.json").read_text())
  config["network"]["width"] = 8
  (other / "config.json").write_text(json.dumps(config))
  with pytest.raises(UserError, match=r"differ in network\.width; name runs that do not"):
    plot.KINDS["matching"]([pair[0], other])
  config["method"] = "dm"
  (other / "config.json").write_text(json.dumps(config))
  with pytest.raises(UserError, match="is a run of dm, which matches no gradients"):
    plot.KINDS["matching"]([pair[0], other])
  silent = shutil.copytree(pair[1], tmp_path / "silent")
  (silent / "metrics.jsonl").unlink()
  with pytest.raises(UserError, match=r"silent holds no metrics\.jsonl with losses"):
    plot.KINDS["matching"]([pair[0], silent], networks=1)
