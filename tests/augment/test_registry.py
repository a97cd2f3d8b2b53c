"""Transforms are found by name: dcjax' own, a package's, and those in a Python file."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dcjax.config
from dcjax import UserError, augment, data
from dcjax.augment import transforms
from dcjax.commands import select
from dcjax.commands.condense import condense
from dcjax.commands.evaluate import bind, evaluate
from dcjax.common.registry import TRANSFORMS
from dcjax.config.datasets import warn_of_flips
from dcjax.run import experiment, pretrained
from tests.packages import install
from tests.runs import tiny

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "my_transform.py"
IMAGES = np.random.RandomState(0).standard_normal((5, 8, 6, 3)).astype(np.float32)
KEY = jax.random.key(3)
SHAPE = (8, 6, 3)
FIELDS = ("dsa.strategy", "training.augmentation", "evaluation.augmentation")


@pytest.fixture
def example(tmp_path):
  """The path of the tutorial's file, in a folder whose name has underscores."""
  (tmp_path / "a_folder").mkdir()
  return shutil.copy(EXAMPLE, tmp_path / "a_folder")


@pytest.fixture
def named(tmp_path):
  """`named(code) -> name` of the object `f` in a file of this code."""

  def write(code):
    file = tmp_path / f"file_{len(list(tmp_path.iterdir()))}.py"
    file.write_text(f"import numpy as np\nimport jax.numpy as jnp\n{code}\n")
    return f"{file}:f"

  return write


# --- Names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFORMS.own)
def test_each_own_transform_is_one_line_of_the_registry(name):
  found = TRANSFORMS.find("x", name)
  assert isinstance(found, augment.Transform) and found is getattr(transforms, name.upper())


@pytest.mark.parametrize(
  ("strategy", "names"),
  [
    ("crop", ["crop"]),
    ("color_crop", ["color", "crop"]),
    ("color_crop+flip", ["color", "crop", "flip"]),
    ("a_b/c_d.py:e_f", ["a_b/c_d.py:e_f"]),
    ("crop_flip+a_b.py:c+d_e.py:f_g", ["crop", "flip", "a_b.py:c", "d_e.py:f_g"]),
    ("a_b.py:c+crop_flip", ["a_b.py:c", "crop", "flip"]),
    ("", [""]),
    ("crop+", ["crop", ""]),
  ],
)
def test_strategies_are_joined(strategy, names):
  assert augment.names_in(strategy) == names


def test_flips_are_seen_beside_a_file(caplog):
  warn_of_flips("x", "a_b.py:c+flip", "digits")
  assert "flips images of digits" in caplog.text


# --- What a user's transform does ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["noise", "FADE"])
def test_shared_and_own_draws(example, kind):
  images = np.repeat(IMAGES[:1], 5, 0)
  for draw in augment.DRAWS:
    change = jax.jit(augment.transform(f"{example}:{kind}", draw=draw, shared=True))
    alike = np.asarray(change(KEY, images))
    assert (alike == alike[:1]).all() and not np.allclose(alike, images)
    np.testing.assert_array_equal(change(KEY, images[:2]), alike[:2])  # whatever the batch
    each = jax.jit(augment.transform(f"{example}:{kind}", draw=draw, shared=False))(KEY, images)
    assert len(np.unique(np.asarray(each).reshape(5, -1), axis=0)) == 5


def test_a_function_gets_the_key_of_its_step(example):
  change = augment.transform(f"{example}:noise", draw="sequence", shared=True)
  (key,) = jax.random.split(KEY, 1)
  noise = 0.1 * jax.random.normal(key, SHAPE, jnp.float32)
  np.testing.assert_allclose(change(KEY, IMAGES), IMAGES + np.asarray(noise)[None], atol=1e-6)


def test_it_is_one_of_those_that_are_drawn(example):
  strategy = f"flip+{example}:FADE"
  change = jax.jit(augment.transform(strategy, shared=True))
  kinds = set()
  for seed in range(20):
    ratio = np.asarray(change(jax.random.key(seed), IMAGES)) / IMAGES
    kinds.add("fade" if np.ptp(ratio) < 1e-5 and ratio.max() < 1 - 1e-5 else "flip")
  assert kinds == {"fade", "flip"}


def test_parameters_may_be_any_tree(named):
  name = named(
    "from dcjax.augment import Transform\n"
    "f = Transform(lambda key, h, w: {'a': 2.0, 'b': (h, w)},\n"
    "              lambda image, p: image * p['a'] + p['b'][0])"
  )
  for shared in (True, False):
    change = augment.transform(name, draw="sequence", shared=shared)
    np.testing.assert_allclose(change(KEY, IMAGES), 2 * IMAGES + 8, atol=1e-5)


def test_its_derivative_reaches_the_images(example):
  change = augment.transform(f"{example}:FADE", draw="sequence", shared=True)
  slope = jax.grad(lambda images: change(KEY, images).sum())(IMAGES)
  assert (np.asarray(slope) == np.asarray(slope).flat[0]).all() and 0.5 <= slope[0, 0, 0, 0] < 1


def test_a_package_brings_one(tmp_path, monkeypatch):
  code = EXAMPLE.read_text() + "\nbroken = 3\n"
  points = {"noise": "noise", "fade": "FADE", "crop": "FADE", "bad": "broken", "my_fade": "FADE"}
  install(monkeypatch, tmp_path, code, "dcjax.transforms", **points)
  assert augment.names_in("crop_noise_fade") == ["crop", "noise", "fade"]
  assert augment.names_in("crop_noise+my_fade") == ["crop", "noise", "my_fade"]
  augment.check_strategy("x", "crop_noise_fade")
  augment.check_images("x", "crop_noise_fade", SHAPE)
  changed = augment.transform("noise_fade", draw="sequence", shared=False)(KEY, IMAGES)
  assert changed.shape == IMAGES.shape and not np.allclose(changed, IMAGES)
  assert TRANSFORMS.find("x", "crop") is transforms.CROP  # which no package replaces
  assert dcjax.config.of_file({"method": "dsa", "dsa": {"strategy": "noise_crop"}})
  with pytest.raises(UserError, match=r"^x: bad is of type int"):
    augment.check_strategy("x", "bad_crop")
  with pytest.raises(UserError, match=r"^x: unknown transform 'nois' in .*did you mean 'noise'"):
    augment.check_strategy("x", "nois_crop")


# --- What is refused -------------------------------------------------------------------------


def configured(field, name):
  config = tiny("idc")
  config.update_from_flattened_dict({field: name})
  return dcjax.config.resolve(config)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
  ("code", "problem"),
  [
    ("f = 'blur'", "is of type str; name a function f(key, image), or an augment.Transform"),
    ("g = 1", "that file has no 'f'"),
    ("f = 1 / 0", "line 3, fails with ZeroDivisionError: division by zero; mend it"),
  ],
)
def test_what_is_no_transform_is_refused_without_data(named, field, code, problem):
  with pytest.raises(UserError) as caught:
    configured(field, "crop+" + named(code))
  message = str(caught.value)
  assert message.startswith(f"{field}: /") and problem in message and "\n" not in message


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
  ("code", "problem"),
  [
    ("f = lambda key, image: image[1:]", "makes float32 [7, 8, 1] of an image, float32 [8, 8, 1]"),
    ("f = lambda key, image: image.astype('bfloat16')", "makes bfloat16 [8, 8, 1] of an image"),
    ("f = lambda key, image: image > 0", "makes bool [8, 8, 1] of an image"),
    ("f = lambda key, image: None", "fails with ValueError: None is not a valid value"),
    ("f = lambda image: image", "fails with TypeError: <lambda>() takes 1 positional argument"),
    ("f = lambda key, image:\\\n  np.sin(image)", "line 4, fails with TracerArrayConversionError"),
  ],
)
def test_what_does_not_keep_images_is_refused_before_it_runs(named, digits, field, code, problem):
  name = named(code)
  config = configured(field, f"crop+{name}")
  layout = experiment.strategy(config, digits)
  with pytest.raises(UserError) as caught:
    experiment.method(config, digits, layout)
    experiment.Evaluation(config, digits, layout, experiment.Keys.from_seed(0))
  message = str(caught.value)
  assert message.startswith(f"{field}: {name}") and problem in message and "\n" not in message


@pytest.fixture(scope="module")
def digits():
  return data.load(tiny().dataset)


# --- Whole runs ------------------------------------------------------------------------------


def test_the_example_condenses_and_its_set_evaluates_where_the_user_names_it(example, tmp_path):
  quick = {"network__name": "mlp", "iterations": 1, "evaluation__networks": 0}
  strategy = f"crop+{example}:noise+{example}:FADE"
  condense(tiny("dm", dsa__strategy=strategy, **quick), tmp_path / "run")
  file = tmp_path / "run" / "synthetic.npz"
  with pytest.raises(UserError, match=r"^synthetic set: its evaluation.augmentation is 'crop\+/"):
    bind(file, networks=1)
  shape = {"networks": 1, "epochs": 1, "checks": 1}
  (found, _) = evaluate(file, augmentation=f"{example}:noise", **shape)
  assert found["augmentation"] == f"{example}:noise"
  bind(file, protocol="dc", networks=1)  # which brings its own augmentation


def test_networks_that_a_file_augments_for_are_not_kept(example, tmp_path, monkeypatch):
  trained, train = [], pretrained.train
  monkeypatch.setattr(
    pretrained, "train", lambda *given, **more: trained.append(1) or train(*given, **more)
  )
  config = dcjax.config.default("herding")
  config.dataset.update({"name": "digits", "cache_dir": str(tmp_path / "cache")})
  config.network.name, config.training.epochs = "mlp", 1
  config.evaluation.update({"networks": 0, "augmentation": f"{example}:noise"})
  for number in range(2):
    select.select(config, tmp_path / f"selection{number}")
  assert len(trained) == 2 and not (tmp_path / "cache").exists()
