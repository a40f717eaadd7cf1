"""Batches: which images make up each, and their values as floats."""

import functools

import numpy as np
import tensorflow as tf

from vae import randomness
from vae.data import bits, sources

# Images, uint8 [N, H, W, C], perhaps packed; or a table, float32 [N, F].
Examples = np.ndarray | bits.PackedImages

BINARISATIONS = ('none', 'threshold', 'static', 'dynamic')


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
  generator = randomness.host_generator(
    seed, randomness.Purpose.PERMUTATION, epoch
  )
  return generator.permutation(num_examples).astype(np.int32)


def indices(
  seed: int, num_examples: int, batch_size: int, first_step: int, num_steps: int
) -> np.ndarray:
  """Returns which images make up the batches of some steps.

  The epochs' permutations are laid end to end and cut into batches: every
  image is seen once an epoch, none is left out, and a batch may hold the end
  of one epoch and the start of the next.

  Args:
    seed: the run's seed.
    num_examples: N.
    batch_size: B, at most N.
    first_step: the first step, counted from 1.
    num_steps: K.

  Returns:
    int32 indices of shape [K, B].

  Raises:
    ValueError: a batch larger than the data.
  """
  if not 1 <= batch_size <= num_examples:
    raise ValueError(
      f'batch_size must be between 1 and the {num_examples} examples, '
      f'got {batch_size}'
    )
  start = (first_step - 1) * batch_size
  stop = start + num_steps * batch_size
  pieces = []
  for epoch in range(start // num_examples, -(-stop // num_examples)):
    offset = epoch * num_examples
    pieces.append(
      _permutation(seed, epoch, num_examples)[
        max(start - offset, 0) : stop - offset
      ]
    )
  return np.concatenate(pieces).reshape(num_steps, batch_size)


def mean_image(images: Examples) -> np.ndarray:
  """Returns the mean of images in [0, 1], float64 [H, W, C]."""
  total = np.zeros(images.shape[1:])
  for start in range(0, len(images), 1000):
    total += np.asarray(images[start : start + 1000]).sum(axis=0, dtype='f8')
  return total / len(images) / 255.0


def statically_binarised(images: Examples, split: str) -> Examples:
  """Draws the pixels by a fixed Bernoulli, the same for every run and seed.

  Args:
    images: uint8 [N, H, W, C].
    split: name of the split, each of which has a draw of its own.

  Returns:
    uint8 images of zeros and 255s, of the same shape.
  """
  if isinstance(images, bits.PackedImages):
    return images  # Black stays black, white white.
  binary = np.empty(images.shape, np.uint8)
  stream = sources.SPLITS.index(split)
  generator = randomness.host_generator(
    0, randomness.Purpose.STATIC_BINARISATION, stream
  )
  for start in range(0, len(images), 1000):
    chunk = images[start : start + 1000]
    draws = generator.random(chunk.shape, np.float32)
    binary[start : start + 1000] = (draws * np.float32(255) < chunk) * 255
  return binary


def to_float(images: tf.Tensor, binarize: str, key: tf.Tensor) -> tf.Tensor:
  """Turns bytes into what a model sees; rows of a table are that already.

  Args:
    images: uint8 [B, H, W, C], or float32 [B, F] with 'none'.
    binarize: 'none' keeps grey values; 'threshold' makes what is above one
      half white; 'dynamic' draws every pixel anew, white with probability
      value / 255; 'static' expects `statically_binarised` images.
    key: of the dynamic draw, from `randomness.key`.

  Returns:
    float32 [B, H, W, C] in [0, 1], or [B, F].

  Raises:
    ValueError: a binarisation that does not exist.
  """
  if binarize not in BINARISATIONS:
    raise ValueError(f'binarize must be one of {BINARISATIONS}, got {binarize}')
  if images.dtype == tf.float32:
    if binarize != 'none':
      raise ValueError(f'binarize must be none for a table, got {binarize}')
    return images
  values = tf.cast(images, tf.float32) / 255.0
  if binarize == 'threshold':
    return tf.cast(values > 0.5, tf.float32)
  if binarize == 'dynamic':
    shape = images.shape
    if not shape.is_fully_defined():
      shape = tf.shape(images)
    return tf.cast(randomness.uniform(key, shape) < values, tf.float32)
  return values
