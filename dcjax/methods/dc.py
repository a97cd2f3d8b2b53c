"""DC: dataset condensation with gradient matching (Zhao, Mopuri and Bilen, ICLR 2021).

And DSA, which is DC with differentiable siamese augmentation (Zhao and Bilen, ICML 2021): its
Algorithm 1 differs from DC's in the augmentations A_omega of line 7 and A of line 9 alone.

Algorithm 1, in the names of this file:

  1  S: `ipc` images of each class
  2  for k = 0 .. K-1:                             an iteration, see `dcjax.run.loop`
  3    theta_0: network parameters, drawn anew
  4    for t = 0 .. T-1:                           `inner_loop`
  5      for each class c:
  6        draw real images of c, all synthetic ones
  7        their mean losses at theta_t            under A_omega
  8        move S_c against the gradient of D      one step of SGD, rate eta_S: `lr_image`
  9      theta_{t+1}: train theta_t on S           `network_epochs` passes, rate eta_theta:
                                                   `lr_network`
D is the distance of two gradients (`dcjax.methods.distances`).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dcjax import data
from dcjax.common.errors import UserError, check_least, check_name
from dcjax.common.types import Array, Key, Params
from dcjax.data import Dataset, base_name
from dcjax.devices.sharding import whole
from dcjax.devices.strategy import Strategy
from dcjax.methods import Method, State, Step, image_optimizer, initialiser, step_images
from dcjax.methods.definition import (
  SMOKE,
  Augmenting,
  Definition,
  by_rule,
  check_condensation,
  check_rate,
  condensation,
  from_fields,
)
from dcjax.methods.distances import DISTANCES, note_new
from dcjax.methods.gradient_matching import STATISTICS, Batches, GradientMatching
from dcjax.methods.setup import Setup, setup
from dcjax.nn import training
from dcjax.sets.formation import Stored

# (inner_loop, network_epochs) by images per class.
SCHEDULE = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
# Of DSA, by dataset and images per class, where the authors' figures are of other loops
OTHER_SCHEDULE = {("cifar100", 50): (10, 10)}
BATCH_SYNTHETIC = 256  # images of one network step


class DCSettings(NamedTuple):
  """DC's hyper-parameters, and DSA's."""

  ipc: int = 1  # images per class
  # Start: 'noise' (DC, Appendix A), 'real' images (DSA, section 4.1), 'mix', or FILE.npz of a saved
  # set
  init: str = "noise"
  distance: str = "ours"  # D of gradients: 'ours' (DC, Eq. 10), 'mse', 'cos' (Table T11) or 'l1'
  inner_loop: int = by_rule(int)  # T, matchings with one network; None: by ipc (authors' code)
  network_epochs: int = by_rule(int)  # passes over the set between two matchings; None: by ipc
  # What a network with batch norm is frozen with while gradients match: 'running' averages, which
  # a batch of real images has moved before, and those that trained it (authors' code), or the
  # moments of that 'batch' (DC, Appendix A)
  batch_norm: str = "running"
  batch_real: int = 256  # real images of each class in one matching (authors' code)
  lr_image: float = 0.1  # eta_S, of images (authors' code)
  lr_network: float = 0.01  # eta_theta, of networks (authors' code)


class Averaged(NamedTuple):
  """A network between two matchings."""

  params: Params  # theta_t
  # Running averages of batch norm, which every pass in training mode moves (authors' code); empty
  # without, or with `batch_norm` 'batch'
  averages: Params


def dc(setup: Setup, settings: DCSettings) -> Method:
  """Dataset condensation with gradient matching (DC and DSA, Algorithm 1 of each).

  Args:
    setup: the network phi, whose parameters are drawn anew in every outer iteration; layout,
      augmentations (nothing in DC) and formation.
    settings: hyper-parameters.

  Returns:
    The method; its metrics are `loss`, the distance D averaged over classes and inner steps.
  """
  optimizer = image_optimizer(settings.lr_image)
  matching = gradient_matching(setup, settings)

  # Line 6: what all inner steps match is known before the first of them.
  def draw(dataset: Dataset, key: Key, number: Array) -> Batches:
    return _draw(matching, settings.inner_loop, dataset, key)

  def match_and_train(state: State, dataset: Dataset, batches: Batches, key: Key, number: Array):
    def move(state, found):  # line 8
      losses, gradients = found
      return step_images(optimizer, state, gradients), losses.mean()

    step, network = _inner_loop(matching, settings, dataset, matching.match, move, key)
    steps = jnp.arange(settings.inner_loop), batches
    (state, _), losses = jax.lax.scan(step, (state, network), steps)  # line 4
    return state, {"loss": losses.mean()}

  return Method(
    start=(
      initialiser(optimizer, ipc=settings.ipc, init=settings.init, formation=setup.formation),
    ),  # line 1
    iteration=(Step(match_and_train, draw),),  # lines 3 to 9
  )


def gradient_matching(setup: Setup, settings: DCSettings) -> GradientMatching:
  """Lines 5 to 8 of Algorithm 1, with the arguments of `dc`."""
  return GradientMatching(
    setup, DISTANCES[settings.distance], settings.batch_real, statistics=settings.batch_norm
  )


def gradient_norms(
  setup: Setup, settings: DCSettings, stored: Stored, dataset: Dataset, key: Key
) -> tuple[Array, Array]:
  """The magnitudes of the gradients that one outer iteration compares (DSA, Figure 5).

  The inner loop is that of `update` with the same key, except that the images stay as they are.

  Args:
    setup: as of `dc`.
    settings: hyper-parameters.
    stored: of S, images `[classes, ipc, H, W, C]`.
    dataset: the real images T.
    key: of one outer iteration.

  Returns:
    For real and for synthetic images `[inner_loop, classes]`: l2 norms, over all parameters, of
    the gradient of one class' mean loss.
  """
  matching = gradient_matching(setup, settings)

  def norms(stored, ours, target):
    return optax.tree.norm(target), optax.tree.norm(ours(stored))

  match = partial(matching.match, compare=norms)  # in place of D and its gradient
  step, network = _inner_loop(matching, settings, dataset, match, lambda *each: each, key)
  steps = jnp.arange(settings.inner_loop), _draw(matching, settings.inner_loop, dataset, key)
  return jax.lax.scan(step, (State(stored, optimizer=()), network), steps)[1]


def _draw(matching: GradientMatching, inner_loop: int, dataset: Dataset, key: Key) -> Batches:
  """Line 6 for all inner steps, which are a leading axis of the indices."""
  steps_key = jax.random.split(key)[1]
  draw = jax.vmap(lambda t: matching.draw(dataset, _step_keys(steps_key, t)[0]))
  return draw(jnp.arange(inner_loop))


def _inner_loop(
  matching: GradientMatching,
  settings: DCSettings,
  dataset: Dataset,
  match: Any,
  move: Any,
  key: Key,
) -> tuple[Callable[..., Any], Averaged]:
  """The inner loop of an outer iteration, for `jax.lax.scan`: lines 3 to 9 of Algorithm 1.

  Args:
    matching: lines 5 to 8, as of `gradient_matching`.
    settings: hyper-parameters.
    dataset: the real images.
    match: as `GradientMatching.match`; lines 5 to 8, all classes at once, since they do not depend
      on each other.
    move: `move(state, found) -> (state, results)`, from what `match` has found.
    key: of the outer iteration.

  Returns:
    `step((state, network), (t, batches)) -> ((state, network), results)`, and theta_0.
  """
  network_key, steps_key = jax.random.split(key)

  def step(carry, each):
    (state, (params, averages)), (t, batches) = carry, each
    match_key, train_key = _step_keys(steps_key, t)
    stats = matching.freeze(params, dataset, batches, averages)
    found = match(params, state.stored, dataset, batches, match_key, stats=stats)  # lines 5 to 7
    state, results = move(state, found)  # line 8
    network = Averaged(params, stats if averages else {})
    # Line 9. The last network would not be used: line 3 draws a new one (DC, Appendix A).
    network = jax.lax.cond(
      t < settings.inner_loop - 1,
      lambda: _train(matching.setup, settings, dataset, network, state.stored, train_key),
      lambda: network,
    )
    return (state, network), results

  params = matching.setup.network.init(network_key)  # line 3: theta_0 ~ P
  return step, Averaged(params, matching.averages(params, dataset))


def _step_keys(key: Key, t: Array) -> tuple[Key, Key]:
  """The keys of matching and of training in inner step t."""
  match_key, train_key = jax.random.split(jax.random.fold_in(key, t))
  return match_key, train_key


def _train(
  setup: Setup, settings: DCSettings, dataset: Dataset, before: Averaged, stored: Stored, key: Key
) -> Averaged:
  """Line 9 of Algorithm 1: trains a network on all of S."""
  network, strategy, augmentations, formation = setup
  optimizer = optax.sgd(settings.lr_network)
  state = optimizer.init(before.params)
  if before.averages:
    optimizer = training.with_averages(optimizer, network.statistics)
    state = state, before.averages
  # All classes in one set, in batches of at most 256 (DSA, hyper-parameters).
  decoded = formation.decode_classes(whole(strategy, stored), dataset.whitening)
  images, labels = data.as_batch(decoded)
  batch = min(BATCH_SYNTHETIC, len(labels))
  batching = training.Batching(batch, strategy.blocks(batch), augment=augmentations.network)
  params, state = training.epochs(
    training.Learner(network, optimizer, batching),
    (before.params, state),
    images,
    labels,
    key,
    start=0,
    stop=settings.network_epochs,
  )
  return Averaged(params, state[1] if before.averages else {})


# --- As configs and commands know it -----------------------------------------------------------


def _build(config: ConfigDict, dataset: Dataset, layout: Strategy) -> Method:
  bound = setup(config, dataset, layout, first_block=layout.first_block)
  return dc(bound, from_fields(DCSettings(), config))


def _resolve(
  config: ConfigDict,
  in_papers: tuple[str, ...],
  other_schedule: Mapping[tuple[str, int], tuple[int, int]],
) -> None:
  check_name("distance", config.distance, DISTANCES)
  check_name("batch_norm", config.batch_norm, STATISTICS)
  check_rate("lr_network", config.lr_network, "0.01")
  of_dataset = other_schedule.get((base_name(config.dataset.name), config.ipc))
  _fill_schedule(config, of_dataset or SCHEDULE.get(config.ipc))
  check_condensation(config, lr_image="0.1")
  note_new(config, in_papers if config.formation.factor == 1 else ())


def _fill_schedule(config: ConfigDict, schedule: tuple[int, int] | None) -> None:
  """The inner and network loops of the schedule, unless given; it is None where there is none."""
  loops = ("inner_loop", "network_epochs")
  missing = [field for field in loops if config[field] is None]
  if missing and schedule is None:
    listed = ", ".join(str(ipc) for ipc in SCHEDULE)
    raise UserError(
      f"ipc: {config.ipc} is not on the schedule ({listed}); set {' and '.join(missing)} by hand"
    )
  for field, value in zip(loops, schedule or (), strict=False):
    if field in missing:
      config[field] = value
  for field in loops:
    check_least(field, config[field], 1)


def _fields(init: str, dsa: Augmenting | None) -> ConfigDict:
  settings = DCSettings(init=init)
  # The outer loop K (DC, Appendix B)
  return condensation(settings, iterations=1000, checkpoint_every=50, dsa=dsa)


DC = Definition(
  fields=partial(_fields, "noise", None),
  build=_build,
  resolve=partial(  # the distances of DC, Table T11
    _resolve, in_papers=("ours", "mse", "cos"), other_schedule={}
  ),
  smoke=SMOKE | {"inner_loop": 2, "network_epochs": 1},
  protocol="dc",
  settings=DCSettings,
  earlier=lambda fields: {"batch_norm": "batch"} if fields.get("network.norm") == "batch" else {},
)
DSA = DC._replace(
  fields=partial(_fields, "real", Augmenting()),
  resolve=partial(_resolve, in_papers=("ours",), other_schedule=OTHER_SCHEDULE),
  protocol="dsa",
)
