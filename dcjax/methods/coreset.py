"""Coresets: which real images of a class to keep (the baselines of DC, section 3.1, and of DSA).

Each selection is a pure function of one class. Its rows may be padded, so that one compilation
serves classes of all sizes: `valid` marks those that can be chosen, at least `ipc` of them.
Distances are l2 and taken from one point to all rows at a time, O(n D) memory for n rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dcjax.common.errors import UserError, check_least, check_name
from dcjax.common.registry import METHODS
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset
from dcjax.methods.definition import Definition, as_fields
from dcjax.nn import Network, training

SELECTIONS = tuple(name for name, where in METHODS.own.items() if __name__ in where)


def random(key: Key, valid: Array, *, ipc: int) -> Array:
  """Chooses uniformly, without replacement.

  Args:
    key: the same key chooses the same rows.
    valid: bool `[n]`.
    ipc: how many; static.

  Returns:
    int32 `[ipc]`: distinct rows, in random order.
  """
  priority = jax.random.uniform(key, valid.shape, jnp.float32)
  return jax.lax.top_k(jnp.where(valid, priority, -1.0), ipc)[1].astype(jnp.int32)


def first(valid: Array, *, ipc: int) -> Array:
  """Chooses the first rows, as IDC's authors do for their random baseline.

  Args:
    valid: bool `[n]`.
    ipc: how many; static.

  Returns:
    int32 `[ipc]`: rows in their order.
  """
  return _least(jnp.arange(valid.size), valid, ipc)


def nearest(features: Array, valid: Array, *, ipc: int) -> Array:
  """Chooses those that are closest to the mean of the class (herding as DC and IDM describe it).

  DC, section 3.1; IDM, supplement.

  Args:
    features: `[n, D]`.
    valid: bool `[n]`.
    ipc: how many; static.

  Returns:
    int32 `[ipc]`: distinct rows, the closest first.
  """
  return _least(_squared_distances(features, _mean(features, valid)), valid, ipc)


def greedy(features: Array, valid: Array, *, ipc: int) -> Array:
  """Chooses greedily so that the mean of the chosen stays closest to the mean of the class.

  Welling, "Herding dynamical weights to learn" (2009), in the form of Rebuffi et al., "iCaRL"
  (2017), Algorithm 4, without their normalisation of the features.

  Args:
    features: `[n, D]`.
    valid: bool `[n]`.
    ipc: how many; static.

  Returns:
    int32 `[ipc]`: distinct rows, in the order in which they were chosen.
  """
  center = _mean(features, valid)

  def step(total, free, number):
    means = (total[None] + features) / (number + 1).astype(features.dtype)
    chosen = _first_least(_squared_distances(means, center), free)
    return total + features[chosen], chosen

  return _greedy(step, jnp.zeros_like(center), valid, ipc)


def k_center(features: Array, valid: Array, *, ipc: int) -> Array:
  """Chooses greedily what is farthest from all that is chosen: an approximate k-center.

  Wolf (2011), Sener and Savarese (2018). The first one is the closest to the mean of the class
  (DC, "Analysis of coreset performances").

  Args:
    features: `[n, D]`.
    valid: bool `[n]`.
    ipc: how many; static.

  Returns:
    int32 `[ipc]`: distinct rows, in the order in which they were chosen.
  """

  to_mean = _squared_distances(features, _mean(features, valid))

  def step(nearest, free, number):
    chosen = _first_least(jnp.where(number == 0, to_mean, -nearest), free)
    return jnp.minimum(nearest, _squared_distances(features, features[chosen])), chosen

  return _greedy(step, jnp.full_like(to_mean, jnp.inf), valid, ipc)


def forgetting(key: Key, events: Array, valid: Array, *, ipc: int) -> Array:
  """Chooses what a network forgot most often while it learned.

  Toneva et al., "An empirical study of example forgetting" (2019).

  Args:
    key: decides between rows that were forgotten equally often.
    events: int32 `[n]`, as `forgetting_events` counts them.
    valid: bool `[n]`.
    ipc: how many; static.

  Returns:
    int32 `[ipc]`: distinct rows, the most forgotten first.
  """
  ties = jax.random.uniform(key, valid.shape, jnp.float32)
  order = jnp.lexsort((ties, jnp.where(valid, -events, 1)))
  return order[:ipc].astype(jnp.int32)


def forgetting_events(correct: Array) -> Array:
  """Counts how often each image was classified right and then wrong.

  Toneva et al. (2019) look at an image when it is in a batch, once an epoch; here all are looked
  at after each epoch. What was never right counts as forgotten more often than anything else.

  Args:
    correct: bool `[epochs, N]`, after each epoch.

  Returns:
    int32 `[N]`: times, or `epochs` for what was never right.
  """
  forgotten = (correct[:-1] & ~correct[1:]).sum(0, dtype=jnp.int32)
  return jnp.where(correct.any(0), forgotten, correct.shape[0])


def by_chance(dataset: Dataset, free: Array, key: Key, *, ipc: int, rule: str = "drawn") -> Array:
  """Random images of each class.

  Args:
    dataset: what to choose from.
    free: bool `[N]`, which images can be chosen: `ipc` or more of each class.
    key: class k draws from `fold_in(key, k)`.
    ipc: images per class; static.
    rule: an entry of `RANDOM`: 'drawn', or the 'first' of each class; static.

  Returns:
    int32 `[classes, ipc]`: places in `dataset.images`.
  """

  def choose(label):
    places, valid = _class_places(dataset, label)
    chosen = RANDOM[rule](jax.random.fold_in(key, label), valid & free[places], ipc=ipc)
    return places[chosen]

  return jax.vmap(choose)(jnp.arange(dataset.num_classes, dtype=jnp.int32))


def by_network(
  dataset: Dataset,
  params: Params,
  events: Array,
  key: Key,
  label: Array | int,
  *,
  network: Network,
  method: str,
  rule: str = "nearest",
  ipc: int,
  block: int,
) -> Array:
  """What a trained network points out in one class.

  Args:
    dataset: what to choose from.
    params: of the network.
    events: int32 `[N]`, what it forgot.
    key: decides ties of 'forgetting', with `fold_in(key, label)`.
    label: the class.
    network: that was trained; its second output are the features.
    method: 'herding', 'k_center' or 'forgetting'.
    rule: of herding, an entry of `HERDING`; static.
    ipc: images per class; static.
    block: images that go through the network together; static.

  Returns:
    int32 `[ipc]`: places in `dataset.images`.
  """
  places, valid = _class_places(dataset, label)
  if method == "forgetting":
    tie_key = jax.random.fold_in(key, label)
    return places[forgetting(tie_key, events[places], valid, ipc=ipc)]

  def features(images):
    return network.apply(params, dataset.normalise(images))[1]

  choose = HERDING[rule] if method == "herding" else k_center
  all_features = training.in_blocks(features, dataset.images[places], block=block)
  return places[choose(all_features, valid, ipc=ipc)]


def _class_places(dataset: Dataset, label: Array | int) -> tuple[Array, Array]:
  """The places of a class, padded to the largest one, and which of them are its: both `[n]`."""
  offsets = dataset.offsets
  places = offsets[label] + jnp.arange(dataset.largest_class, dtype=jnp.int32)
  return jnp.minimum(places, offsets[-1] - 1), places < offsets[label + 1]


RANDOM: dict[str, Callable[..., Array]] = {
  "drawn": random,
  "first": lambda key, valid, *, ipc: first(valid, ipc=ipc),
}
HERDING = {"nearest": nearest, "greedy": greedy}


def _greedy(
  step: Callable[[Array, Array, Array], tuple[Array, Array]], state: Array, valid: Array, ipc: int
) -> Array:
  """Chooses one row after another: `step(state, free, number) -> (state, chosen)`."""

  def choose(carry, number):
    state, free = carry
    state, chosen = step(state, free, number)
    return (state, free.at[chosen].set(False)), chosen

  return jax.lax.scan(choose, (state, valid), jnp.arange(ipc))[1]


def _least(values: Array, valid: Array, ipc: int) -> Array:
  """The rows whose values are least, from the least on; of equal ones the first."""
  return jnp.lexsort((values, ~valid))[:ipc].astype(jnp.int32)


def _first_least(values: Array, free: Array) -> Array:
  """The first row of those that are free whose value is least."""
  return jnp.where(free, values, jnp.inf).argmin().astype(jnp.int32)


def _squared_distances(points: Array, center: Array) -> Array:
  return jnp.square(points - center[None]).sum(1)


def _mean(features: Array, valid: Array) -> Array:
  return jnp.where(valid[:, None], features, 0.0).sum(0) / valid.sum().astype(features.dtype)


# --- As configs and commands know it -----------------------------------------------------------


class NetworkSettings(NamedTuple):
  """The network that a selection looks with."""

  # Passes over the full training set, for features and forgetting events. The papers do not say
  # how many; these take minutes on two cores, and with a GPU more cost little
  epochs: int = 5


class ChoiceSettings(NamedTuple):
  """How a selection chooses."""

  # Which images herding takes: those 'nearest' to the mean of their class (the words of DC and IDM,
  # and DC's figures), or 'greedy', so that the mean of all is near it (Welling, iCaRL, DSA's words,
  # IDC's authors' code)
  herding: str = "nearest"
  # Which images 'random' takes: 'drawn' ones, or the 'first' of each class (IDC's authors' code)
  random: str = "drawn"
  candidates: int = 1000  # random subsets that 'optimal_random' tries (DC, Table T12)
  validation: int = 5000  # training images that 'optimal_random' ranks them on, and does not choose


class SelectionSettings(NamedTuple):
  """The fields of coresets."""

  training: NetworkSettings = NetworkSettings()
  selection: ChoiceSettings = ChoiceSettings()


def _resolve(config: ConfigDict) -> None:
  check_least("training.epochs", config.training.epochs, 1)
  for field in ("candidates", "validation"):
    check_least(f"selection.{field}", config.selection[field], 1)
  check_name("selection.herding", config.selection.herding, HERDING)
  check_name("selection.random", config.selection.random, RANDOM)


def check_used(config: ConfigDict) -> None:
  """Raises `UserError` for a rule that is not of the method that chooses."""
  for method in ("herding", "random"):
    rule = config.get("selection", {}).get(method, "")
    if rule and config.get("method") != method and rule != getattr(ChoiceSettings(), method):
      raise UserError(
        f"selection.{method}: '{rule}' is a rule of {method}, but the method is {config.method}; "
        f"leave it out, or set method={method}"
      )


SELECTION = Definition(
  fields=lambda: as_fields(SelectionSettings()),
  build=None,
  resolve=_resolve,
  smoke={"training.epochs": 1, "selection.candidates": 2, "selection.validation": 100},
  protocol="dc",  # whose baselines they are
  settings=SelectionSettings,
  earlier=lambda fields: {"selection.herding": "greedy"} if fields["method"] == "herding" else {},
)
