"""Every random number as a pure function of (seed, purpose, step).

No generator and no iterator holds state, so none can be lost: a run that
resumes at step N draws what it would have drawn had it never stopped.

Device draws are all made from the int32 words of Philox 4x32-10 (Salmon et al.
2011, https://doi.org/10.1145/2063384.2063405), which are the same with and
without XLA; TensorFlow's own stateless float draws are not. Host draws (epoch
permutations, initial weights) use NumPy's Philox under the same keys.
"""

import enum
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from vae import compilation


class Purpose(enum.IntEnum):
  """Purposes of draws. Numbers are part of what a seed means: append only."""

  WEIGHTS = 0
  PERMUTATION = 1
  BINARISATION = 2
  POSTERIOR = 3
  EVALUATION_BINARISATION = 4
  EVALUATION_POSTERIOR = 5
  PRIOR = 6
  STATIC_BINARISATION = 7
  SPLIT = 8
  EVALUATION_IMPORTANCE = 9
  EVALUATION_AGGREGATE = 10
  DROPOUT = 11
  SCORES = 12
  SCORES_WITHIN = 13
  SCORES_FLOOR = 14
  PIXELS = 15
  INPUT_BINARISATION = 16
  EVALUATION_IMAGES = 17


def key(
  seed: int | tf.Tensor, purpose: Purpose, step: int | tf.Tensor
) -> tf.Tensor:
  """Returns the key of one draw: an int64 tensor of shape [2].

  Args:
    seed: the run's seed, at least 0.
    purpose: what the draw is for.
    step: which draw of this purpose, in [0, 2**32).
  """
  return tf.stack(
    [tf.cast(seed, tf.int64), (int(purpose) << 32) + tf.cast(step, tf.int64)]
  )


def fold(key: tf.Tensor, index: int | tf.Tensor) -> tf.Tensor:
  """Returns one of many keys within a draw's own; index 0 is the key itself.

  Args:
    key: from `key`, not folded before.
    index: in [0, 2**23).
  """
  # Steps and purposes lie below bit 40.
  index = tf.cast(index, tf.int64)
  return key + tf.stack([tf.zeros_like(index), index * 2**40])


def repurposed(key: tf.Tensor, purpose: Purpose) -> tf.Tensor:
  """Returns the key of the same seed, step and fold for another purpose."""
  cleared = tf.bitwise.bitwise_and(key[1], ~(0xFF << 32))
  return tf.stack([key[0], cleared + (int(purpose) << 32)])


def bits(key: tf.Tensor, shape: Sequence[int] | tf.Tensor) -> tf.Tensor:
  """Draws uniform int32 words over the full range, shape `shape`."""
  if compilation.is_for_xla() and not tf.config.list_logical_devices('GPU'):
    return _bits_for_xla(key, shape)
  return tf.random.stateless_uniform(
    shape, key, minval=None, maxval=None, dtype=tf.int32, alg='philox'
  )


def _bits_for_xla(
  key: tf.Tensor, shape: Sequence[int] | tf.Tensor
) -> tf.Tensor:
  """The words of `tf.random.stateless_uniform`, on CPUs six times as fast.

  XLA makes one loop of that, which goes through all rounds for each word of a
  block, and none of them in vectors.
  """
  size = tf.reduce_prod(shape)
  seed = tf.bitcast(key, tf.uint32)  # [2, 2], the low halves first.
  # TensorFlow scrambles seeds by this key.
  scramble = tf.constant([0x3EC8F720, 0x02461E29], tf.uint32)
  mixed = philox(tf.reshape(seed, [4]), scramble)
  block = tf.cast(tf.range((size + 3) // 4), tf.uint32)
  zero = tf.zeros_like(block)
  counter = [block, zero, zero + mixed[2], zero + mixed[3]]
  words = tf.transpose(tf.stack(philox(counter, mixed[:2])))
  return tf.reshape(tf.bitcast(tf.reshape(words, [-1])[:size], tf.int32), shape)


def philox(
  counter: Sequence[tf.Tensor], key: Sequence[tf.Tensor]
) -> Sequence[tf.Tensor]:
  """Returns the four words of each block of Philox 4x32-10.

  Args:
    counter: four uint32 tensors of one shape, the low word first.
    key: two uint32 scalars, likewise.
  """

  def products(word: tf.Tensor, factor: int) -> tuple[tf.Tensor, tf.Tensor]:
    product = tf.cast(word, tf.uint64) * tf.constant(factor, tf.uint64)
    high = tf.bitwise.right_shift(product, tf.constant(32, tf.uint64))
    return tf.cast(high, tf.uint32), tf.cast(product, tf.uint32)

  def go_round(count, key0, key1, word0, word1, word2, word3):
    high0, low0 = products(word0, 0xD2511F53)
    high1, low1 = products(word2, 0xCD9E8D57)
    keys = (
      key0 + tf.constant(0x9E3779B9, tf.uint32),
      key1 + tf.constant(0xBB67AE85, tf.uint32),
    )
    words = (high1 ^ word1 ^ key0, low1, high0 ^ word3 ^ key1, low0)
    return (count + 1, *keys, *words)

  start = (tf.constant(0), *tf.unstack(key), *tf.unstack(counter))
  _, _, _, *words = tf.while_loop(lambda count, *_: count < 10, go_round, start)
  return words


def _top_24_bits(words: tf.Tensor) -> tf.Tensor:
  # float32 holds every integer up to 2**24, so nothing is rounded.
  return tf.cast(
    tf.bitwise.bitwise_and(tf.bitwise.right_shift(words, 8), 0xFFFFFF),
    tf.float32,
  )


def uniform(key: tf.Tensor, shape: Sequence[int] | tf.Tensor) -> tf.Tensor:
  """Draws uniform float32 of [0, 1), multiples of 2**-24, shape `shape`."""
  return _top_24_bits(bits(key, shape)) * 2.0**-24


def normal(key: tf.Tensor, shape: Sequence[int] | tf.Tensor) -> tf.Tensor:
  """Draws standard normal float32 of shape `shape`, at most 5.77 in size.

  By the transform of Box and Muller (1958): with u in (0, 1] and v in [0, 1),
  `sqrt(-2 log u) cos(2 pi v)` and `sqrt(-2 log u) sin(2 pi v)` are independent.
  """
  size = tf.reduce_prod(shape)
  pairs = (size + 1) // 2
  words = _top_24_bits(bits(key, [2, pairs]))
  radius = tf.sqrt(-2.0 * tf.math.log((words[0] + 1.0) * 2.0**-24))
  angle = words[1] * (2.0 * math.pi * 2.0**-24)
  draws = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)
  return tf.reshape(draws[:size], shape)


def host_generator(
  seed: int, purpose: Purpose, step: int = 0
) -> np.random.Generator:
  """Returns a NumPy generator of the stream of (seed, purpose, step)."""
  words = np.array([seed, (int(purpose) << 32) + step], dtype=np.uint64)
  return np.random.Generator(np.random.Philox(key=words))
