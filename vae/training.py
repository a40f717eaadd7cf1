"""The training engine: many steps in one compiled program.

A *step* is a plain function that draws nothing but what (seed, purpose, step)
determine. The engine compiles a loop of steps; beta, learning rate, seed, first
step and number of steps are inputs of the program, so that it is compiled once,
and a block of steps may end anywhere without changing a bit.
"""

import mmap
from collections.abc import Callable
from concurrent import futures
from typing import NamedTuple, Protocol

import numpy as np
import sonnet as snt
import tensorflow as tf

from vae import losses, mode, models, randomness
from vae.data import batches, bits

# Bytes of images that one block may hold when the host gathers them; and of
# those that it gathers before it gives the pages that they lie on back.
_BLOCK_BYTES = 16 * 2**20
_GATHER_BYTES = 2**20

# Steps in a block at most; also the number that is compiled in.
_BLOCK_STEPS = 1024


class Objective(Protocol):
  """What is minimised: a function of the model, images, a key and beta."""

  def __call__(
    self,
    model: models.VAE,
    images: tf.Tensor,
    key: tf.Tensor,
    beta: tf.Tensor,
  ) -> tuple[tf.Tensor, losses.Terms]:
    """Returns the loss, a scalar, and the per-image terms in nats, [B]."""
    ...


class Metrics(NamedTuple):
  """What one step measures, before its update: batch means.

  Attributes:
    loss: what was minimised, in the run's reduction.
    distortion: nats per image.
    rate: nats per image.
  """

  loss: float
  distortion: float
  rate: float


class NonFiniteError(ArithmeticError):
  """A loss was infinite or not a number; its update was not applied.

  Attributes:
    step: the step of that loss; the variables are those before its update.
    term: what is not finite: 'distortion', 'rate', 'loss', or the name of a
      variable.
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


def ladder(learning_rate: float, epochs: np.ndarray) -> np.ndarray:
  """The learning rates of Burda et al. 2015, section 5.

  3^i epochs at `learning_rate * 10^(-i/7)` for i = 0, 1, 2, ...

  Args:
    learning_rate: of the first epoch.
    epochs: passes over the data before each step, float [K].

  Returns:
    float32 [K].
  """
  stages = np.arange(40)
  starts = (3.0**stages - 1.0) / 2.0  # 0, 1, 4, 13, ...
  stage = np.searchsorted(starts, epochs, side='right') - 1
  return (learning_rate * 10.0 ** (-stage / 7.0)).astype(np.float32)


OPTIMIZERS = ('adam', 'momentum', 'rmsprop', 'sgd')


def make_optimizer(
  name: str,
  learning_rate: float,
  parameters: list[tf.Variable],
  adam_epsilon: float = 1e-8,
  momentum: float = 0.9,
) -> snt.Optimizer:
  """An optimizer of Sonnet, with its slots.

  Args:
    name: 'adam' (Kingma & Ba 2014, https://arxiv.org/abs/1412.6980), 'rmsprop'
      (decay 0.9, epsilon 1e-10), 'momentum' or 'sgd'.
    learning_rate: the first step's; the engine sets it before every step.
    parameters: the variables that will be updated.
    adam_epsilon: added to the root of Adam's second moment.
    momentum: decay of the sum of gradients that `momentum` follows.

  Raises:
    ValueError: a name that does not exist.
  """
  rate = tf.Variable(learning_rate, trainable=False, name='learning_rate')
  if name == 'adam':
    optimizer = snt.optimizers.Adam(rate, epsilon=adam_epsilon)
  elif name == 'rmsprop':
    optimizer = snt.optimizers.RMSProp(rate, epsilon=1e-10)
  elif name == 'momentum':
    optimizer = snt.optimizers.Momentum(rate, momentum)
  elif name == 'sgd':
    optimizer = snt.optimizers.SGD(rate)
  else:
    raise ValueError(f'name must be one of {OPTIMIZERS}, got {name!r}')
  # Sonnet makes slots at the first update, which must not be inside a compiled
  # program. This update moves no parameter; its traces are wiped.
  optimizer.apply([tf.zeros_like(p) for p in parameters], parameters)
  reset_optimizer(optimizer, learning_rate)
  return optimizer


def reset_optimizer(optimizer: snt.Optimizer, learning_rate: float) -> None:
  """Makes an optimizer as it was before its first step."""
  for variable in optimizer.variables:
    variable.assign(tf.zeros_like(variable))
  optimizer.learning_rate.assign(learning_rate)


def train_step(
  model: models.VAE,
  optimizer: snt.Optimizer,
  objective: Objective,
  images: tf.Tensor,
  key: tf.Tensor,
  beta: tf.Tensor,
) -> tf.Tensor:
  """One update of the model's parameters.

  Args:
    model: the VAE.
    optimizer: updates the parameters.
    objective: what is minimised.
    images: float32 [B, H, W, C].
    key: of the posterior's noise.
    beta: weight of the rate, a scalar.

  Returns:
    `Metrics` before the update, as a tensor of shape [3].
  """
  parameters = model.trainable_variables
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(parameters)
    loss, terms = objective(model, images, key, beta)
  optimizer.apply(tape.gradient(loss, parameters), parameters)
  return tf.stack(
    [loss, tf.reduce_mean(terms.distortion), tf.reduce_mean(terms.rate)]
  )


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
    self._variables = (*model.variables, *optimizer.variables)
    self._device_images = tf.constant(held) if on_device else None
    self._gathered_steps = max(1, _GATHER_BYTES // image_bytes)
    _give_back(held)
    # The block that is gathered ahead: its seed, first step and images.
    self._ahead: tuple[int, int, futures.Future | None] = (seed, 0, None)
    self._gatherer = futures.ThreadPoolExecutor(1)

    def step(seed, index, images, beta, learning_rate):
      draw = lambda purpose: randomness.key(seed, purpose, index)
      if isinstance(self._images, bits.PackedImages):
        images = bits.unpack(images, self._images.shape[1:])
      images = batches.to_float(
        images, binarize, draw(randomness.Purpose.BINARISATION)
      )
      optimizer.learning_rate.assign(learning_rate)
      with mode.training(draw(randomness.Purpose.DROPOUT)):
        return train_step(
          model,
          optimizer,
          objective,
          images,
          draw(randomness.Purpose.POSTERIOR),
          beta,
        )

    def block(batches, all_images, seed, betas, learning_rates, first, count):
      def unfinished(done, metrics):
        return (done < count) & tf.reduce_all(tf.math.is_finite(metrics))

      def body(done, metrics):
        del metrics
        images = batches[done]
        if all_images is not None:
          images = tf.gather(all_images, images)
        metrics = step(
          seed,
          first + tf.cast(done, tf.int64),
          images,
          betas[done],
          learning_rates[done],
        )
        return done + 1, metrics

      return tf.while_loop(
        unfinished, body, [tf.constant(0), tf.zeros([len(Metrics._fields)])]
      )

    self._block: Callable = tf.function(block, jit_compile=jit, autograph=False)

  def run(
    self, first: int, betas: np.ndarray, learning_rates: np.ndarray
  ) -> Metrics:
    """Runs the steps `first` to `first + len(betas) - 1`.

    Args:
      first: the first step, counted from 1.
      betas: weight of the rate at each step, float32 [K], K at most
        `max_steps`.
      learning_rates: of each step, float32 [K].

    Returns:
      The last step's metrics.

    Raises:
      NonFiniteError: a step's loss was not finite. The variables are those
        before that step.
      ValueError: too many steps.
    """
    count = len(betas)
    if not 1 <= count <= self.max_steps:
      raise ValueError(f'a block has 1 to {self.max_steps} steps, got {count}')
    before = [tf.identity(variable) for variable in self._variables]
    done, metrics = self._run(first, betas, learning_rates)
    if np.isfinite(metrics).all():
      return metrics
    # Rather than guard every update in the loop, which costs 5% of the speed,
    # the steps before the bad one are run again: the same bits come out.
    for variable, value in zip(self._variables, before, strict=True):
      variable.assign(value)
    if done > 1:
      self._run(first, betas[: done - 1], learning_rates[: done - 1])
    for term in ('distortion', 'rate', 'loss'):
      if not np.isfinite(value := getattr(metrics, term)):
        raise NonFiniteError(first + done - 1, term, value)
    raise AssertionError

  def batch(self, step: int) -> np.ndarray:
    """The uint8 images of one step's batch, [B, H, W, C]."""
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
    self, first: int, betas: np.ndarray, learning_rates: np.ndarray
  ) -> tuple[int, Metrics]:
    count = len(betas)
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
      tf.constant(pad(betas), tf.float32),
      tf.constant(pad(learning_rates), tf.float32),
      tf.constant(first, tf.int64),
      tf.constant(count),
    )
    return int(done), Metrics(*metrics.numpy().tolist())
