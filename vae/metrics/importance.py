"""The importance-weighted bound on log p(x), at many samples in bounded memory.

Burda et al. 2015 (https://arxiv.org/abs/1509.00519), equation 8, with q(z|x) as
the proposal: L_k = E[log (1/k) sum_s p(x, z_s) / q(z_s|x)].
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from vae import compilation, distributions, models, randomness, terms
from vae.data import batches
from vae.metrics import evaluation

# Samples of each image that are decoded together.
_CHUNK = 4

# Samples by which the time of many is told, enough for more than overhead.
_TIMED_SAMPLES = 16 * _CHUNK

# Above it, the numbers of chunks would leave their place in the key.
MOST_SAMPLES = 2**24

_LOG_ZERO = -1e30


class Bound(NamedTuple):
  """The bound at one number of samples.

  Attributes:
    num_samples: k.
    log_p: L_k, nats per image: a lower bound on log p(x) in expectation.
    ess: mean over images of the effective sample size (sum w)^2 / sum w^2
      (Kish 1965), between 1 and k.
    bias: nats per image that the estimate is expected to lie below log p(x),
      by the delta method (1/ess - 1/k) / 2: an indication, itself too small
      where the weights' largest values were not seen.
    degenerate: share of images whose effective sample size is below 10.
  """

  num_samples: int
  log_p: evaluation.Estimate
  ess: float
  bias: float
  degenerate: float


def sample_counts(most: int) -> list[int]:
  """Returns the numbers of samples of the reported bounds: 1, 10, ... `most`.

  Raises:
    ValueError: `most` below 1.
  """
  if most < 1:
    raise ValueError(f'the number of samples must be at least 1, got {most}')
  powers = [10**p for p in range(1 + math.floor(math.log10(most)))]
  return sorted({*powers, most})


class Estimator:
  """Estimates the bound of one model; compiles once."""

  def __init__(self, model: models.VAE, jit: bool):
    """Initializes the estimator.

    Args:
      model: the VAE.
      jit: whether XLA compiles the loop over samples.
    """

    def accumulate(images, state, batch, first, count, seed):
      """Adds `count` samples from `first` on to running sums of weights.

      The state is [3, B]: the largest log-weight m, and the sums of
      exp(log w - m) and exp(2 (log w - m)).
      """
      posterior = model.encode(images)

      def body(done, state):
        chunk = (first + done) // _CHUNK
        key = randomness.key(
          seed, randomness.Purpose.EVALUATION_IMPORTANCE, batch
        )
        latents = distributions.sample(
          posterior, _CHUNK, randomness.fold(key, chunk)
        )
        distortions = -model.decode(latents).log_prob(images)
        weights = terms.log_weights(model, posterior, latents, distortions)
        counted = done + tf.range(_CHUNK) < count
        weights = tf.where(counted[:, None], weights, _LOG_ZERO)
        largest, total, squares = tf.unstack(state)
        new = tf.maximum(largest, tf.reduce_max(weights, axis=0))
        old_share = tf.exp(largest - new)
        shares = tf.exp(weights - new)
        total = total * old_share + tf.reduce_sum(shares, axis=0)
        squares = squares * old_share**2 + tf.reduce_sum(shares**2, axis=0)
        return done + _CHUNK, tf.stack([new, total, squares])

      _, state = tf.while_loop(
        lambda done, state: done < count, body, [tf.constant(0), state]
      )
      return state

    self._accumulate = compilation.compiled(accumulate, jit)

  def __call__(
    self,
    images: batches.Examples,
    binarize: str,
    seed: int,
    counts: Sequence[int],
    progress: Callable[[int], None] = lambda num_images: None,
  ) -> list[Bound]:
    """Estimates the bound over every image of a split.

    Args:
      images: uint8 [N, H, W, C].
      binarize: one of `batches.BINARISATIONS`; with 'none' the likelihood
        must be a density of grey pixels, which a Bernoulli is not.
      seed: the run's seed.
      counts: increasing numbers of samples, at most `MOST_SAMPLES`; the
        samples of one are among those of the next.
      progress: is told how many images are done.

    Returns:
      A bound for each count.

    Raises:
      ValueError: counts that are none.
    """
    if not counts or min(counts) < 1 or max(counts) > MOST_SAMPLES:
      raise ValueError(
        f'sample counts must lie in [1, {MOST_SAMPLES}], got {counts}'
      )
    log_p: list[list[np.ndarray]] = [[] for _ in counts]
    ess: list[list[np.ndarray]] = [[] for _ in counts]
    seen = 0
    for valid, batch, floats, _ in evaluation.fixed_batches(
      images, binarize, seed
    ):
      states = self._states(floats, batch, seed, counts)
      for index, (count, state) in enumerate(zip(counts, states, strict=True)):
        largest, total, squares = state.numpy().astype('f8')[:, :valid]
        log_p[index].append(largest + np.log(total) - math.log(count))
        ess[index].append(total**2 / squares)
      seen += valid
      progress(seen)
    bounds = []
    for count, values, sizes in zip(counts, log_p, ess, strict=True):
      size = np.concatenate(sizes)
      bounds.append(
        Bound(
          count,
          evaluation.estimate(np.concatenate(values)),
          float(size.mean()),
          float(np.mean(1.0 / size - 1.0 / count) / 2.0),
          float(np.mean(size < 10.0)),
        )
      )
    return bounds

  def seconds(
    self, images: batches.Examples, binarize: str, num_samples: int
  ) -> float:
    """Returns about how long the bound over a split will take, by timing a bit.

    Compiles, and draws the first samples of the first batch in vain.

    Args:
      images: as in the call.
      binarize: as in the call.
      num_samples: of each image.
    """
    _, batch, floats, _ = next(evaluation.fixed_batches(images, binarize, 0))
    timed = min(num_samples, _TIMED_SAMPLES)
    for _ in range(2):  # The first compiles.
      start = time.monotonic()
      self._states(floats, batch, 0, [timed])[0].numpy()
      once = time.monotonic() - start
    return once * num_samples / timed * math.ceil(len(images) / len(floats))

  def _states(
    self, floats: tf.Tensor, batch: int, seed: int, counts: Sequence[int]
  ) -> list[tf.Tensor]:
    """The running sums of one batch at each count."""
    size = floats.shape[0]
    state = tf.constant([[_LOG_ZERO], [0.0], [0.0]]) * tf.ones([1, size])
    done = 0
    states = []

    def add(state, first, count):
      return self._accumulate(
        floats,
        state,
        tf.constant(batch),
        tf.constant(first),
        tf.constant(count),
        tf.constant(seed, tf.int64),
      )

    for count in counts:
      # Only whole chunks are carried on, so that every draw has one place.
      whole = count // _CHUNK * _CHUNK
      if whole > done:
        state = add(state, done, whole - done)
        done = whole
      states.append(add(state, done, count - done) if count > done else state)
    return states
