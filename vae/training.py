"""The training engine: many steps in one compiled program.

A *step* is a plain function that draws nothing but what (seed, purpose, step)
determine. The engine compiles a loop of steps; the weights of the objective's
terms, learning rate, seed, first step and number of steps are inputs of the
program, so that it is compiled once, and a block of steps may end anywhere
without changing a bit.
"""

import mmap
import types
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np
import sonnet as snt
import tensorflow as tf

from vae import compilation, models, randomness, replicas, terms
from vae.data import batches, bits

# Bytes of images that one block may hold when the host gathers them; and of
# those that it gathers before it gives the pages that they lie on back.
_BLOCK_BYTES = 16 * 2**20
_GATHER_BYTES = 2**20

# Steps in a block at most; also the number that is compiled in.
_BLOCK_STEPS = 1024


class Objective(NamedTuple):
  """A loss to minimise, with the network and optimizer that it may own.

  Attributes:
    loss: the objective itself, with its settings: called with a model, a batch
      and the weights of this step by their names.
    weights: the names of what weighs its terms, such as beta.
    measured: the names of what its losses measure besides.
    module: that owns variables, which minimise its losses' `adversary`.
    optimizer: of those variables, with its slots.
  """

  loss: Callable[..., terms.Loss]
  weights: tuple[str, ...] = ()
  measured: tuple[str, ...] = ()
  module: snt.Module | None = None
  optimizer: snt.Optimizer | None = None

  @property
  def owned(self) -> dict[str, snt.Module | snt.Optimizer]:
    """Returns what owns variables, by their name in checkpoints."""
    owners = {'objective': self.module, 'objective_optimizer': self.optimizer}
    return {name: owner for name, owner in owners.items() if owner is not None}


class Metrics(NamedTuple):
  """Measurements of one step, before its update: batch means.

  Attributes:
    loss: what was minimised, in the run's reduction.
    distortion: nats per image.
    rate: nats per image.
    adversary: what the objective's own variables minimise; 0 without any.
    measured: what the objective measures besides, by name.
  """

  loss: float
  distortion: float
  rate: float
  adversary: float = 0.0
  measured: Mapping[str, float] = types.MappingProxyType({})


# Those of the metrics that must be finite.
_LOSSES = ('distortion', 'rate', 'loss', 'adversary')


class NonFiniteError(ArithmeticError):
  """A loss was infinite or not a number; its update was not applied.

  Attributes:
    step: the step of that loss; the variables are those before its update.
    term: what is not finite: 'distortion', 'rate', 'loss', 'adversary', or the
      name of a variable.
  """

  def __init__(self, step: int, term: str, value: float):
    """Initializes the error.

    Args:
      step: the step whose update was not applied.
      term: what is not finite.
      value: of the term.
    """
    self.step = step
    self.term = term
    super().__init__(f'{term} is {value} at step {step}')


def with_slots(
  optimizer: snt.Optimizer, parameters: Sequence[tf.Variable]
) -> snt.Optimizer:
  """Returns an optimizer with the slots that its first update would make.

  That must not happen inside a compiled program. This update moves no
  parameter, and its traces are wiped.

  Args:
    optimizer: of Sonnet, before its first update.
    parameters: the variables that it will update.
  """
  snt.allow_empty_variables(optimizer)  # As plain gradient descent has.
  before = {id(v): tf.identity(v) for v in optimizer.variables}
  optimizer.apply([tf.zeros_like(p) for p in parameters], parameters)
  for variable in optimizer.variables:
    variable.assign(before.get(id(variable), tf.zeros_like(variable)))
  return optimizer


class Clipped(snt.Optimizer):
  """An optimizer whose gradients are scaled down where they exceed a norm.

  The norm is that of all gradients of one update together (Pascanu et al. 2013,
  https://arxiv.org/abs/1211.5063, algorithm 1).
  """

  def __init__(self, optimizer: snt.Optimizer, clip_norm: tf.Variable):
    """Initializes the optimizer.

    Args:
      optimizer: makes the updates, with its slots made.
      clip_norm: the largest norm.
    """
    super().__init__()
    self._optimizer, self._clip_norm = optimizer, clip_norm

  @property
  def learning_rate(self) -> tf.Variable:
    return self._optimizer.learning_rate

  def apply(
    self, updates: Sequence[tf.Tensor], parameters: Sequence[tf.Variable]
  ) -> None:
    updates, _ = tf.clip_by_global_norm(updates, self._clip_norm)
    self._optimizer.apply(updates, parameters)


class Decayed(snt.Optimizer):
  """An optimizer beside which some parameters decay.

  Each update takes `learning_rate * weight_decay` of their values away, apart
  from what the gradients do: AdamW, and the like with other optimizers
  (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101, algorithm 2). As
  in PyTorch, Keras and Optax the decay is in units of the learning rate: the
  paper's lambda is `learning_rate * weight_decay`, of the full learning rate.
  """

  def __init__(
    self,
    optimizer: snt.Optimizer,
    weight_decay: tf.Variable,
    decayed: Sequence[bool],
  ):
    """Initializes the optimizer.

    Args:
      optimizer: makes the updates, with its slots made.
      weight_decay: per update, in units of the learning rate.
      decayed: whether each of the parameters does.
    """
    super().__init__()
    self._optimizer, self._weight_decay = optimizer, weight_decay
    self._decayed = decayed

  @property
  def learning_rate(self) -> tf.Variable:
    return self._optimizer.learning_rate

  def apply(
    self, updates: Sequence[tf.Tensor], parameters: Sequence[tf.Variable]
  ) -> None:
    share = self.learning_rate * self._weight_decay
    for parameter, decays in zip(parameters, self._decayed, strict=True):
      if decays:
        parameter.assign_sub(share * parameter)
    self._optimizer.apply(updates, parameters)


def train_step(
  model: models.VAE,
  optimizer: snt.Optimizer,
  objective: Objective,
  batch: terms.Batch,
  weights: Mapping[str, tf.Tensor],
) -> tf.Tensor:
  """Updates the model's parameters once, and the objective's own.

  Both are made from the variables as they were before.

  Args:
    model: the VAE.
    optimizer: updates the parameters.
    objective: what is minimised.
    batch: images and what else an objective may look at.
    weights: of the objective's terms at this step, scalars by name.

  Returns:
    `Metrics` before the update, as a tensor: its losses in their order, then
    what is measured.
  """
  parameters = model.trainable_variables
  own = objective.module.trainable_variables if objective.module else ()
  with tf.GradientTape(bool(own), watch_accessed_variables=False) as tape:
    tape.watch((*parameters, *own))
    loss = objective.loss(model, batch, **weights)
  gradients = replicas.averaged(tape.gradient(loss.value, parameters))
  if objective.optimizer:
    of_own = replicas.averaged(tape.gradient(loss.adversary, own))
    objective.optimizer.apply(of_own, own)
  optimizer.apply(gradients, parameters)
  loss.terms.check_shapes()
  distortion = tf.reduce_mean(loss.terms.distortion)
  rate = tf.reduce_mean(loss.terms.rate)
  adversary = tf.zeros([]) if loss.adversary is None else loss.adversary
  measured = [loss.measured[name] for name in objective.measured]
  return tf.stack([loss.value, distortion, rate, adversary, *measured])


def _give_back(images: np.ndarray) -> None:
  """Gives the pages of a mapped file that were read back to the system.

  It keeps them as long as it has room, but they do not count as ours: memory
  does not grow with the dataset.
  """
  mapped = getattr(images, '_mmap', None)
  if mapped is not None:
    mapped.madvise(mmap.MADV_DONTNEED)


class Engine:
  """Runs blocks of training steps over one dataset.

  Where the host gathers the images or the device does, both give the same
  bits; so does any division of the steps into blocks.

  Attributes:
    seed: of all draws; a new one starts another run of the same program.
    max_steps: of a block.
  """

  def __init__(
    self,
    model: models.VAE,
    optimizer: snt.Optimizer,
    objective: Objective,
    images: batches.Examples,
    *,
    seed: int,
    batch_size: int,
    binarize: str,
    jit: bool,
    on_device: bool,
    strategy: tf.distribute.Strategy | None = None,
  ):
    """Initializes the engine; the first block compiles.

    Args:
      model: with its variables made.
      optimizer: with its slots made.
      objective: what is minimised.
      images: uint8 [N, H, W, C], perhaps packed, or a table, float32 [N, F].
      seed: of all draws.
      batch_size: B, at most N.
      binarize: one of `batches.BINARISATIONS`.
      jit: whether XLA compiles the loop.
      on_device: whether the device holds all images, or the host sends each
        block's.
      strategy: from `replicas`, in whose scope all variables were made; None
        for one device.
    """
    self._images = images
    # What is gathered: images as they are held, packed where they are.
    held = images.packed if isinstance(images, bits.PackedImages) else images
    self._held = held
    self.seed = seed
    self._batch_size = batch_size
    self._on_device = on_device
    image_bytes = held[0].nbytes * batch_size
    self.max_steps = (
      _BLOCK_STEPS
      if on_device
      else max(1, min(_BLOCK_STEPS, _BLOCK_BYTES // image_bytes))
    )
    self._variables = (
      *model.variables,
      *optimizer.variables,
      *(v for owner in objective.owned.values() for v in owner.variables),
    )
    self._measured, self._weights = objective.measured, objective.weights
    num_examples = len(images)
    self._device_images = tf.constant(held) if on_device else None
    self._gathered_steps = max(1, _GATHER_BYTES // image_bytes)
    _give_back(held)
    # The block that is gathered ahead: its seed, first step and images.
    self._ahead: tuple[int, int, futures.Future | None] = (seed, 0, None)
    self._gatherer = futures.ThreadPoolExecutor(1)

    num_losses = len(_LOSSES)
    strategy = strategy or replicas.strategy(1)

    def block(rows, all_images, seed, weights, learning_rates, first, count):
      def unfinished(done, metrics):
        finite = tf.math.is_finite(metrics[:num_losses])
        return (done < count) & tf.reduce_all(finite)

      def step(done, metrics):
        del metrics
        images = rows[done]
        if all_images is not None:
          images = tf.gather(all_images, images)
        index = first + tf.cast(done, tf.int64)
        inputs = images, index, seed, weights[done], learning_rates[done]
        return done + 1, replicas.run(strategy, update, inputs)

      def update(images, index, seed, weights, learning_rate):
        draw = lambda purpose: randomness.key(seed, purpose, index)
        if isinstance(self._images, bits.PackedImages):
          images = bits.unpack(images, self._images.shape[1:])
        images = batches.to_float(
          images, binarize, draw(randomness.Purpose.BINARISATION)
        )
        batch = terms.Batch(
          images, draw(randomness.Purpose.POSTERIOR), index, num_examples
        )
        named = zip(objective.weights, tf.unstack(weights), strict=True)
        optimizer.learning_rate.assign(learning_rate)
        return train_step(model, optimizer, objective, batch, dict(named))

      nothing = tf.zeros([num_losses + len(objective.measured)])
      return tf.while_loop(unfinished, step, [tf.constant(0), nothing])

    self._block = compilation.compiled(block, jit)

  def run(
    self,
    first: int,
    weights: Mapping[str, np.ndarray],
    learning_rates: np.ndarray,
  ) -> Metrics:
    """Runs the steps `first` to `first + len(learning_rates) - 1`.

    Args:
      first: the first step, counted from 1.
      weights: what weighs the objective's terms, by name, float32 [K] for
        the steps; K at most `max_steps`.
      learning_rates: of each step, float32 [K].

    Returns:
      The last step's metrics.

    Raises:
      NonFiniteError: a step's loss was not finite. The variables are those
        before that step.
      ValueError: too many steps.
    """
    count = len(learning_rates)
    if not 1 <= count <= self.max_steps:
      raise ValueError(f'a block has 1 to {self.max_steps} steps, got {count}')
    before = [tf.identity(variable) for variable in self._variables]
    columns = [weights[name] for name in self._weights]
    stacked = np.array(columns, np.float32).reshape(len(columns), count).T
    done, metrics = self._run(first, stacked, learning_rates)
    bad = [term for term in _LOSSES if not np.isfinite(getattr(metrics, term))]
    if not bad:
      return metrics
    # Rather than guard every update in the loop, which costs 5% of the speed,
    # the steps before the bad one are run again: the same bits come out.
    for variable, value in zip(self._variables, before, strict=True):
      variable.assign(value)
    if done > 1:
      self._run(first, stacked[: done - 1], learning_rates[: done - 1])
    raise NonFiniteError(first + done - 1, bad[0], getattr(metrics, bad[0]))

  def batch(self, step: int) -> np.ndarray:
    """Returns the uint8 images of one step's batch, [B, H, W, C]."""
    return np.asarray(self._images[self._indices(self.seed, step, 1)[0]])

  def _gather(self, first: int, count: int) -> np.ndarray:
    """The images of a block, gathered while the one before it ran.

    A block may be shorter than what was gathered for it, or another one than
    was expected; it is then gathered now.
    """
    *expected, ahead = self._ahead
    is_expected = expected == [self.seed, first]
    images = ahead.result() if is_expected and ahead else None
    if images is None or len(images) < count:
      images = self._gather_now(self.seed, first, count)
    following = first + count
    self._ahead = (
      self.seed,
      following,
      self._gatherer.submit(self._gather_now, self.seed, following, count),
    )
    return images[:count]

  def _gather_now(self, seed: int, first: int, count: int) -> np.ndarray:
    indices = self._indices(seed, first, count)
    images = np.empty([*indices.shape, *self._held.shape[1:]], self._held.dtype)
    for start in range(0, count, self._gathered_steps):
      part = slice(start, start + self._gathered_steps)
      images[part] = self._held[indices[part]]
      _give_back(self._held)
    return images

  def _indices(self, seed: int, first: int, count: int) -> np.ndarray:
    return batches.indices(
      seed, len(self._images), self._batch_size, first, count
    )

  def _run(
    self, first: int, weights: np.ndarray, learning_rates: np.ndarray
  ) -> tuple[int, Metrics]:
    count = len(learning_rates)
    batches = (
      self._indices(self.seed, first, count)
      if self._on_device
      else self._gather(first, count)
    )
    padding = self.max_steps - count  # XLA compiles for one size only.
    pad = lambda array: np.pad(
      array, [(0, padding)] + [(0, 0)] * (array.ndim - 1)
    )
    done, metrics = self._block(
      tf.constant(pad(batches)),
      self._device_images,
      tf.constant(self.seed, tf.int64),
      tf.constant(pad(weights), tf.float32),
      tf.constant(pad(learning_rates), tf.float32),
      tf.constant(first, tf.int64),
      tf.constant(count),
    )
    loss, distortion, rate, adversary, *measured = metrics.numpy().tolist()
    named = dict(zip(self._measured, measured, strict=True))
    return int(done), Metrics(loss, distortion, rate, adversary, named)
