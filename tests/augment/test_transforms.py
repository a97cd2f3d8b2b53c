"""DSA's transforms: the authors' numbers, derivatives, and who gets which draw."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcjax import UserError, augment
from dcjax.augment import transforms
from dcjax.common.registry import TRANSFORMS

IMAGES = np.random.RandomState(0).standard_normal((5, 8, 6, 3)).astype(np.float32)
KEY = jax.random.key(3)
EACH = list(TRANSFORMS.own)


# --- The authors' numbers ------------------------------------------------------------------

PARAMETERS = {
  "brightness": "u",
  "saturation": "u",
  "contrast": "u",
  "crop": "rows_cols",
  "cutout": "centre_rows_cols",
  "scale": "sx_sy",
  "rotate": "degrees",
}


@pytest.mark.golden
@pytest.mark.parametrize("name", [*PARAMETERS, "flip"])
def test_transform_is_the_authors(shared, name):
  with np.load(shared / "golden" / "dsa_transforms.npz") as file:
    images, expected = (np.moveaxis(file[key], -3, -1) for key in ("x", f"{name}/y"))
    drawn = file[f"{name}/{PARAMETERS[name]}"] if name in PARAMETERS else np.array(True)
  if expected.ndim == 4:
    drawn, expected = drawn[None], expected[None]
  apply = jax.vmap(getattr(transforms, name), (0, None))
  with jax.enable_x64(True):
    drawn = drawn.astype(np.float64) if drawn.dtype == np.float32 else drawn
    for parameters, images_expected in zip(drawn, expected, strict=True):
      outputs = jax.jit(apply)(images.astype(np.float64), parameters)
      np.testing.assert_allclose(outputs, images_expected, atol=1e-5)


# --- Derivatives ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_gradient_to_the_images_by_finite_differences(name):
  with jax.enable_x64(True):
    images = IMAGES[:2].astype(np.float64)
    weights = np.random.RandomState(1).standard_normal(images.shape)
    direction = np.random.RandomState(2).standard_normal(images.shape)
    apply = augment.transform(name, shared=True)
    loss = jax.jit(lambda images: (jnp.tanh(apply(KEY, images)) * weights).sum())
    step = 1e-5
    slope = (loss(images + step * direction) - loss(images - step * direction)) / (2 * step)
    np.testing.assert_allclose((jax.grad(loss)(images) * direction).sum(), slope, rtol=1e-6)


# --- Draws ---------------------------------------------------------------------------------

DRAWS = [
  (augment.STRATEGY, "one"),
  (augment.STRATEGY, "sequence"),
  ("color_crop_cutout", "sequence"),
]


@functools.cache
def compiled(strategy, draw):
  """One compiled program for each shape, whatever the test."""
  return jax.jit(augment.transform(strategy, draw=draw, shared=True))


@pytest.mark.parametrize(("strategy", "draw"), DRAWS)
@pytest.mark.parametrize("seed", range(8))
def test_a_shared_draw_does_not_depend_on_the_batch(strategy, draw, seed):
  apply, key = compiled(strategy, draw), jax.random.key(seed)
  whole = apply(key, IMAGES)
  for size in (1, 4):
    np.testing.assert_allclose(apply(key, IMAGES[:size]), whole[:size], atol=1e-5)


@pytest.mark.parametrize(("strategy", "draw"), DRAWS)
def test_a_shared_draw_is_the_same_under_vmap_over_keys(strategy, draw):
  keys = jax.random.split(KEY, 12)
  pairs = jnp.broadcast_to(IMAGES[:2], (12, *IMAGES[:2].shape))
  together = jax.jit(jax.vmap(augment.transform(strategy, draw=draw, shared=True)))(keys, pairs)
  for key, pair in zip(keys, together, strict=True):
    np.testing.assert_allclose(compiled(strategy, draw)(key, IMAGES)[:2], pair, atol=1e-5)


@pytest.mark.parametrize("name", EACH)
def test_each_image_has_a_draw_of_its_own_unless_shared(name):
  images = np.repeat(IMAGES[:1], 16, 0)
  alike = jax.jit(augment.transform(name, shared=True))(KEY, images)
  np.testing.assert_allclose(alike, np.broadcast_to(alike[:1], alike.shape), atol=1e-5)
  each = np.asarray(jax.jit(augment.transform(name, shared=False))(KEY, images))
  assert len(np.unique(each.round(4).reshape(16, -1), axis=0)) > (1 if name == "flip" else 4)


def test_one_transform_of_a_strategy_is_drawn_and_all_of_them_in_turn():
  apply = jax.jit(augment.transform("flip_cutout", shared=True))
  flips = [transforms.flip(image, jnp.array(True)) for image in jnp.asarray(IMAGES)]
  kinds = set()
  for seed in range(40):
    outputs = np.asarray(apply(jax.random.key(seed), IMAGES))
    if (outputs == IMAGES).all():
      kinds.add("flip, not mirrored")
    elif (outputs == np.stack(flips)).all():
      kinds.add("flip, mirrored")
    elif ((outputs == 0) | (outputs == IMAGES)).all():
      kinds.add("cutout")
    else:
      kinds.add("other")
  assert kinds == {"flip, not mirrored", "flip, mirrored", "cutout"}


def test_a_sequence_does_all_transforms_in_the_order_given():
  outputs = np.asarray(
    jax.jit(augment.transform("cutout_color", draw="sequence", shared=True))(KEY, IMAGES)
  )
  cutout_key, color_key = jax.random.split(KEY)
  hole = transforms.CUTOUT.draw(cutout_key, 8, 6)
  u = transforms.COLOR.draw(color_key, 8, 6)
  expected = [transforms.color(transforms.cutout(image, hole), u) for image in jnp.asarray(IMAGES)]
  np.testing.assert_allclose(outputs, np.stack(expected), atol=1e-5)


def by_hand(name, key, images):
  """One transform with parameters for each image."""
  transform = TRANSFORMS.find("name", name)
  keys = jax.random.split(key, len(images))
  drawn = jax.vmap(lambda key: transform.draw(key, *images.shape[1:3]))(keys)
  return jax.vmap(transform.apply)(images, drawn)


@pytest.mark.parametrize("seed", range(6))
def test_groups_change_images_one_after_the_other(seed):
  """Flip and colours of each image, and then one of the other three for all."""
  apply = jax.jit(augment.by_name("sequence:flip_color,one:crop_scale_rotate"))
  outputs = apply(jax.random.key(seed), jnp.asarray(IMAGES))
  first, second = jax.random.split(jax.random.key(seed))
  flip_key, color_key = jax.random.split(first)
  expected = by_hand("color", color_key, by_hand("flip", flip_key, jnp.asarray(IMAGES)))
  choice_key, key = jax.random.split(second)
  name = ("crop", "scale", "rotate")[int(jax.random.randint(choice_key, (), 0, 3))]
  np.testing.assert_allclose(outputs, by_hand(name, key, expected), atol=1e-5)


def test_each_of_the_transforms_that_one_is_drawn_of_comes_up_alone():
  """Of images of ones a cutout clears a part, and a flip nothing."""
  apply = jax.jit(augment.by_name("sequence:flip,one:flip_cutout"))
  ones = jnp.ones((6, 8, 8, 1))
  zeros = [np.asarray(apply(jax.random.key(seed), ones) == 0).sum((1, 2, 3)) for seed in range(20)]
  cut = [(counts > 0).all() for counts in zeros]
  assert any(cut) and not all(cut)
  assert all((counts > 0).all() or not counts.any() for counts in zeros)


@pytest.mark.parametrize(
  ("strategy", "draw", "same", "same_draw"),
  [
    ("one:crop_flip", "sequence", "crop_flip", "one"),
    ("sequence:crop_flip", "one", "crop_flip", "sequence"),
    ("crop_flip,one:scale", "sequence", "sequence:crop_flip,one:scale", "one"),
  ],
)
def test_a_group_that_does_not_say_it_is_drawn_as_the_field_says(strategy, draw, same, same_draw):
  one, other = (
    jax.jit(augment.transform(text, draw=kind, shared=True))(KEY, IMAGES)
    for text, kind in ((strategy, draw), (same, same_draw))
  )
  np.testing.assert_array_equal(one, other)


def test_names_of_a_strategy_in_groups():
  assert augment.names_in("color_crop") == ["color", "crop"]
  assert augment.names_in("a_b.py:c+flip,one:crop_d.py:e") == ["a_b.py:c", "flip", "crop_d.py:e"]
  assert augment.names_in("one:crop+d.py:e,scale") == ["crop", "d.py:e", "scale"]


@pytest.mark.parametrize(
  ("name", "low", "high"),
  [
    ("color", [0, 0, 0], [1, 1, 1]),
    ("crop", [-4, -4], [4, 4]),
    ("cutout", [0, 0], [32, 32]),
    ("scale", [1 / 1.2, 1 / 1.2], [1.2, 1.2]),
    ("rotate", -15, 15),
  ],
)
def test_parameters_fill_their_ranges_at_32_pixels(name, low, high):
  draw = jax.vmap(lambda key: TRANSFORMS.find("name", name).draw(key, 32, 32))
  drawn = np.asarray(draw(jax.random.split(KEY, 2000)))
  assert (drawn >= np.array(low) - 1e-6).all() and (drawn <= np.array(high) + 1e-6).all()
  reach = 0.01 * (np.array(high) - np.array(low))
  assert (drawn.min(0) <= low + reach).all() and (drawn.max(0) >= high - reach).all()


def test_a_small_cutout_covers_half_a_side():
  outputs = transforms.cutout(jnp.ones((8, 8, 1)), jnp.array([4, 4]))
  np.testing.assert_array_equal(np.argwhere(outputs[..., 0] == 0).min(0), [2, 2])
  np.testing.assert_array_equal(np.argwhere(outputs[..., 0] == 0).max(0), [5, 5])


# --- Schemes (Table 4) ---------------------------------------------------------------------


def changes(apply, images):
  """Whether an augmentation changes images, and whether it treats equal ones alike."""
  if apply is augment.none:
    return "nothing"
  outputs = np.asarray(jax.jit(apply)(KEY, images))
  return "alike" if np.allclose(outputs, outputs[:1], atol=1e-5) else "each"


@pytest.mark.parametrize(
  ("scheme", "real", "synthetic", "network"),
  [
    ("none", "nothing", "nothing", "nothing"),
    ("siamese", "alike", "alike", "each"),
    ("independent", "each", "each", "each"),
    ("real", "each", "nothing", "nothing"),
    ("synthetic", "nothing", "each", "each"),
  ],
)
def test_schemes_augment_what_the_paper_says(scheme, real, synthetic, network):
  found = augment.augmentations(scheme=scheme, strategy="crop")
  images = np.repeat(IMAGES[:1], 16, 0)
  assert [changes(apply, images) for apply in found] == [real, synthetic, network]


def test_independent_batches_are_not_alike():
  found = augment.augmentations(scheme="independent", strategy="color")
  real, synthetic = (jax.jit(apply)(KEY, IMAGES) for apply in found[:2])
  assert not np.allclose(real, synthetic, atol=1e-2)


# --- Names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("color_corp", "x: unknown transform 'corp' in 'color_corp'; did you mean 'crop'"),
    ("noen", "x: unknown 'noen'; did you mean 'none'"),
    ("crop_", "x: unknown transform ''"),
    ("sequence:color,", "x: unknown transform '' in 'sequence:color,'"),
    (
      "all:color,one:crop",
      "x: unknown draw 'all' in 'all:color,one:crop'; choose one of: one, sequ",
    ),
    ("one:color_corp,sequence:crop", "x: unknown transform 'corp'"),
  ],
)
def test_unknown_names_are_errors(name, message):
  with pytest.raises(UserError, match=message):
    augment.check_name("x", name)


@pytest.mark.parametrize(
  "name",
  [
    "none",
    "dc",
    "dc_batch_norm",
    "idc_imagenet",
    "frepo",
    "frepo_unflipped",
    "crop",
    augment.STRATEGY,
    "one:crop,sequence:flip",
  ],
)
def test_known_names_make_augmentations(name):
  augment.check_name("x", name)
  outputs = jax.eval_shape(augment.by_name(name), KEY, IMAGES)
  assert (outputs.shape, outputs.dtype) == (IMAGES.shape, IMAGES.dtype)
