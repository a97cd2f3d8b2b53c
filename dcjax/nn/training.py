"""Gradients over many images, and networks trained on a set."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcjax.augment import cutmix
from dcjax.common.types import Array, Key, Params
from dcjax.nn import Network
from dcjax.nn.layers import running_statistics

CHUNK = 16  # steps on real images whose batches are in memory at the same time


def chunks(steps: int) -> int:
  """How many chunks so many steps are cut into."""
  return -(-steps // CHUNK)


def chunk_bounds(chunk: Array, steps: int) -> tuple[Array, Array]:
  """The first of the steps of a chunk, and the one after its last."""
  start = chunk * CHUNK
  return start, jnp.minimum(start + CHUNK, steps)


def identity(images: Array) -> Array:
  """Decodes nothing: the set holds what the network takes."""
  return images


def no_teacher(images: Array, targets: Array) -> Array:
  """The targets of the set."""
  del images
  return targets


class Batching(NamedTuple):
  """How the images of a set become the batches that train a network.

  Attributes:
    batch: images of one step; the last batch of an epoch may be smaller.
    block: images of a batch whose activations are in memory at the same time.
    decode: `decode(images) -> images`, from what the set holds to what the network takes.
    augment: `augment(key, images) -> images`, for each batch.
    cutmix: the probability with which a batch is then mixed, see `augment.cutmix`; 0: never.
    teach: `teach(images, targets) -> targets` for the images that the network then sees.
  """

  batch: int
  block: int
  decode: Callable[[Array], Array] = identity
  augment: Callable[[Key, Array], Array] = lambda key, images: images
  cutmix: float = 0.0
  teach: Callable[[Array, Array], Array] = no_teacher


# `loss(logits, targets) -> [N]`, of logits `[N, classes]`
Loss = Callable[[Array, Array], Array]


def cross_entropy(logits: Array, targets: Array) -> Array:
  """The cross-entropy of each image, `[N]`.

  Args:
    logits: `[N, classes]`.
    targets: labels int32 `[N]`, or probabilities `[N, classes]`.
  """
  if targets.ndim == 1:
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
  return optax.softmax_cross_entropy(logits, targets)


def squared_error(logits: Array, targets: Array) -> Array:
  """Half the squared distance of each image's logits to its target, `[N]`, both `[N, classes]`."""
  return 0.5 * jnp.square(logits - targets).sum(-1)


# `refine(gradient_of, params, gradient) -> gradient`, with `gradient_of(params)` of the same batch
Refine = Callable[[Callable[[Params], Params], Params, Params], Params]


def unrefined(gradient_of: Callable[[Params], Params], params: Params, gradient: Params) -> Params:
  """The gradient of a batch as it is."""
  del gradient_of, params
  return gradient


class Learner(NamedTuple):
  """A network with all that its training takes beside images.

  An optimiser with extra arguments is given `images`, those that the network has seen in a step.
  """

  network: Network
  optimizer: optax.GradientTransformation
  batching: Batching
  loss: Loss = cross_entropy
  refine: Refine = unrefined  # what the optimiser is given in place of a batch's gradient


def sgd(
  rate: optax.ScalarOrSchedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
  """PyTorch's SGD: the decay is added to the gradient, hence goes through the momentum."""
  return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=momentum))


def promoting(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """An optimiser of optax that raises a number to that of a step, which strict types forbid."""

  def update(*arguments):
    with jax.numpy_dtype_promotion("standard"):
      return optimizer.update(*arguments)

  return optax.GradientTransformation(optimizer.init, update)


def adam(rate: float, *, under_root: float = 0.0) -> optax.GradientTransformation:
  """Adam, with what is added to the second moment before its root is taken."""
  return promoting(optax.adam(rate, eps_root=under_root))


def with_averages(
  optimizer: optax.GradientTransformation, moments: Callable[[Params, Array], Params]
) -> optax.GradientTransformationExtraArgs:
  """An optimiser that keeps the running averages of batch norm, too, as PyTorch's networks do.

  Args:
    optimizer: what the network learns by.
    moments: `moments(params, images)`, see `Network.statistics`.

  Returns:
    The optimiser; its state is `(state of the other, averages)`, and has to be made by hand.
  """

  def update(gradients, state, params=None, *, images, **extra):
    inner, before = state
    updates, inner = optimizer.update(gradients, inner, params)
    return updates, (inner, running_statistics(moments(params, images), before))

  return optax.GradientTransformationExtraArgs(optimizer.init, update)


def in_blocks(function: Callable[[Array], Any], images: Array, *, block: int) -> Any:
  """Applies a function of a batch to many images, a block at a time.

  Args:
    function: takes `[block, H, W, C]`; its results have a leading axis of that length, too. A
      gradient through it computes it again, in place of keeping what is inside.
    images: `[N, H, W, C]`.
    block: images that go through together; at most N.

  Returns:
    What the function returns for all images, `[N, ...]`.
  """
  count = images.shape[0]
  if block >= count:
    return function(images)
  blocks = _fill(images, block).reshape(-1, block, *images.shape[1:])
  results = jax.lax.map(jax.checkpoint(function), blocks)
  return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], results)


def predicted(
  network: Network,
  params: Params,
  images: Array,
  *,
  block: int,
  decode: Callable[[Array], Array],
  stats: Params | None = None,
) -> Array:
  """The class that a network gives each image, int32 `[N]`.

  Args:
    network: any.
    params: its parameters.
    images: `[N, H, W, C]` as `decode` takes them.
    block: images that go through together; at most N.
    decode: `decode(images) -> images`, normalised.
    stats: frozen statistics for batch norm.
  """

  def predict(images):
    return network.apply(params, decode(images), stats)[0].argmax(-1)

  return in_blocks(predict, images, block=block)


def correct(network: Network, params: Params, images: Array, labels: Array, **more: Any) -> Array:
  """Which images a network classifies right, bool `[N]`; for labels int32 `[N]`."""
  return predicted(network, params, images, **more) == labels


def _fill(array: Array, block: int) -> Array:
  """Appends zeros until the length is a multiple of `block`."""
  fill = -array.shape[0] % block
  return jnp.pad(array, ((0, fill),) + ((0, 0),) * (array.ndim - 1)) if fill else array


def summed_loss(
  network: Network,
  params: Params,
  images: Array,
  targets: Array,
  weights: Array,
  *,
  stats: Params | None = None,
  key: Key | None = None,
  loss: Loss = cross_entropy,
) -> tuple[Array, Array]:
  """Sum of the losses of images, and of those that are classified right.

  Args:
    network: any.
    params: its parameters.
    images: normalised `[N, H, W, C]`.
    targets: labels int32 `[N]`, or what else the loss takes, `[N, classes]`.
    weights: `[N]`, of each image in both sums.
    stats: frozen statistics for batch norm.
    key: of the dropout of a training step; None: nothing is dropped.
    loss: of each image.

  Returns:
    Two scalars.
  """
  if key is None or network.train is None:
    logits, _ = network.apply(params, images, stats)
  else:
    logits, _ = network.train(params, images, key)
  labels = targets if targets.ndim == 1 else targets.argmax(-1)
  losses = loss(logits, targets)
  return (losses * weights).sum(), jnp.where(logits.argmax(-1) == labels, weights, 0).sum()


def gradient(
  network: Network,
  params: Params,
  images: Array,
  targets: Array,
  weights: Array,
  *,
  block: int,
  stats: Params | None = None,
) -> Params:
  """Gradient of `summed_loss` to the parameters; for its arguments see `gradient_and_right`."""
  return gradient_and_right(network, params, images, targets, weights, block=block, stats=stats)[0]


def gradient_and_right(
  network: Network,
  params: Params,
  images: Array,
  targets: Array,
  weights: Array,
  *,
  block: int,
  stats: Params | None = None,
  key: Key | None = None,
  loss: Loss = cross_entropy,
) -> tuple[Params, Array]:
  """Gradient of `summed_loss` to the parameters, and what is classified right, over all blocks.

  Args:
    network: any; batch norm without `stats` takes the batch as one block, whatever `block` says.
    params: its parameters.
    images: normalised `[N, H, W, C]`.
    targets: labels int32 `[N]`, or what else the loss takes, `[N, classes]`.
    weights: `[N]`; 1/N for the gradient of the mean loss, and a share of what is right.
    block: how many images at a time; memory grows with it, also that of a gradient of this one,
      and the result does not change.
    stats: frozen statistics for batch norm.
    key: of the dropout of a training step, which each block draws anew; None: nothing is dropped.
    loss: of each image.

  Returns:
    The gradient, shaped as the parameters, and a scalar.
  """

  count = images.shape[0]
  gradient_of = jax.grad(partial(summed_loss, network, stats=stats, loss=loss), has_aux=True)
  undivided = network.batch_norm and stats is None
  if undivided or block >= count:
    return gradient_of(params, images, targets, weights, key=key)
  # Images of weight zero fill up the last block.
  blocks = jax.tree.map(
    lambda x: _fill(x, block).reshape(-1, block, *x.shape[1:]), (images, targets, weights)
  )

  keys = None if key is None else jax.random.split(key, len(blocks[0]))

  @jax.checkpoint
  def add(total, each):
    batch, key = each
    return jax.tree.map(jnp.add, total, gradient_of(params, *batch, key=key)), None

  nothing = jax.tree.map(jnp.zeros_like, params), jnp.zeros_like(weights[0])
  return jax.lax.scan(add, nothing, (blocks, keys))[0]


def steps_per_epoch(count: int, batch: int) -> int:
  """Steps that go once through `count` images."""
  return -(-count // batch)


def epoch(
  learner: Learner,
  carry: tuple[Params, Any],
  images: Array,
  labels: Array,
  key: Key,
) -> tuple[Params, Any]:
  """Trains once through the set, shuffled, in batches (opt-alg_theta of DC, Algorithm 1).

  Args:
    learner: the network, its optimiser, and how batches are made.
    carry: `(params, optimizer state)`.
    images: `[N, H, W, C]` as `batching.decode` takes them.
    labels: int32 `[N]`, or soft ones `[N, classes]` as the learner's loss takes them.
    key: of the order, the augmentation and CutMix.

  Returns:
    The new `(params, optimizer state)`.
  """
  count = images.shape[0]
  batch = min(learner.batching.batch, count)
  steps = steps_per_epoch(count, batch)
  order_key, augment_key = jax.random.split(key)
  order = jax.random.permutation(order_key, count)
  # The last batch is filled up with images of weight zero; CutMix may paste from them.
  index = jnp.resize(order, (steps, batch))
  real = (jnp.arange(steps * batch) < count).astype(jnp.float32).reshape(steps, batch)

  def step(carry, batch_inputs):
    number, index, weights = batch_inputs
    # The third key beside the two above, which are the same without CutMix.
    mix_key = jax.random.fold_in(jax.random.fold_in(key, 2), number)
    drop_key = None  # the fourth
    if learner.network.train is not None:
      drop_key = jax.random.fold_in(jax.random.fold_in(key, 3), number)
    keys = jax.random.fold_in(augment_key, number), mix_key, drop_key
    batch = images[index], labels[index], weights / weights.sum()
    return _step(learner, carry, batch, keys)[0], None

  return jax.lax.scan(step, carry, (jnp.arange(steps), index, real))[0]


def _step(
  learner: Learner,
  carry: tuple[Params, Any],
  batch: tuple[Array, Array, Array],
  keys: tuple[Key, Key, Key | None],
) -> tuple[tuple[Params, Any], Array]:
  """One step on a batch, and the weight of what was classified right before it.

  The batch is images as `batching.decode` takes them, labels and weights; the keys are those of the
  augmentation, of CutMix and, if there is any, of dropout.
  """
  network, optimizer, batching, loss, refine = learner
  params, state = carry
  augment_key, mix_key, drop_key = keys
  images, targets, weights = batch
  images = batching.augment(augment_key, batching.decode(images))
  if batching.cutmix:
    if targets.ndim == 1:
      logits, _ = jax.eval_shape(network.apply, params, images)
      targets = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    images, targets = cutmix(mix_key, images, targets, batching.cutmix)
  targets = batching.teach(images, targets)

  def of_batch(params):
    return gradient_and_right(
      network, params, images, targets, weights, block=batching.block, key=drop_key, loss=loss
    )

  gradients, right = of_batch(params)
  gradients = refine(lambda params: of_batch(params)[0], params, gradients)
  update = optax.with_extra_args_support(optimizer).update
  updates, state = update(gradients, state, params, images=images)
  return (optax.apply_updates(params, updates), state), right


def random_steps(
  learner: Learner,
  carry: tuple[Params, Any],
  images: Array,
  labels: Array,
  key: Key,
  *,
  start: Array | int,
  stop: Array | int,
  indices: Array | None = None,
) -> tuple[tuple[Params, Any], Array]:
  """Takes steps `start` to `stop` on batches that are drawn at random, with replacement.

  Step t draws from `fold_in(key, t)`, so that training in pieces changes nothing.

  Args:
    learner: the network, its optimiser, and how batches are made.
    carry: `(params, optimizer state)`.
    images: `[N, H, W, C]` as `batching.decode` takes them.
    labels: int32 `[N]`, or soft ones `[N, classes]` as the learner's loss takes them.
    key: of the batches, the augmentation and CutMix.
    start: number of the first step; may be traced.
    stop: number of the step after the last.
    indices: int32 `[steps, batch]` in `images`, from `start` on, as `step_indices` draws them;
      None: each step draws its own, among all images.

  Returns:
    The new `(params, optimizer state)`; and the sum over the steps of the share of their batch that
    the network classified right before each, a scalar.
  """
  begin = carry, jnp.float32(0)
  if indices is not None and not len(indices):
    return begin  # there is no step, of which no batch could be traced
  batch = learner.batching.batch
  weights = jnp.full(batch, 1 / batch, jnp.float32)
  draw = anywhere(images.shape[0], batch)

  def body(number, so_far):
    carry, sum_of_shares = so_far
    step_key = jax.random.fold_in(key, number)
    index = draw(step_key) if indices is None else indices[number - start]
    drop_key = None if learner.network.train is None else jax.random.fold_in(step_key, 3)
    keys = jax.random.fold_in(step_key, 1), jax.random.fold_in(step_key, 2), drop_key
    inputs = images[index], labels[index], weights
    carry, right = _step(learner, carry, inputs, keys)
    return carry, sum_of_shares + right

  return jax.lax.fori_loop(start, stop, body, begin)


def anywhere(count: int, batch: int) -> Callable[[Key], Array]:
  """`draw(key) -> int32 [batch]`, uniform over `count` indices, with replacement."""
  return lambda key: jax.random.randint(key, (batch,), 0, count)


def step_indices(
  draw: Callable[[Key], Array], key: Key, *, start: Array | int, steps: int
) -> Array:
  """What `random_steps` draws in so many steps from `start` on, int32 `[steps, batch]`."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, start + jnp.arange(steps))
  return jax.vmap(draw)(keys)


def epochs(
  learner: Learner,
  carry: tuple[Params, Any],
  images: Array,
  labels: Array,
  key: Key,
  *,
  start: Array | int,
  stop: Array | int,
) -> tuple[Params, Any]:
  """Trains from epoch `start` up to `stop`, which may be traced; see `epoch`.

  Epoch e draws from `fold_in(key, e)`, so that training in pieces changes nothing.
  """

  def body(number, carry):
    epoch_key = jax.random.fold_in(key, number)
    return epoch(learner, carry, images, labels, epoch_key)

  return jax.lax.fori_loop(start, stop, body, carry)
