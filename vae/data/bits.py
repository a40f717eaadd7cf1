"""Images of black and white pixels, eight to a byte."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


class PackedImages:
  """Looks like uint8 images [N, H, W, C] of 0 and 255, in an eighth of them.

  `images[rows]` keeps them packed, and of a slice makes no copy; NumPy and
  TensorFlow unpack them where they ask for an array.

  Attributes:
    packed: uint8 [N, ceil(H * W * C / 8)], as of `numpy.packbits`.
    shape: [N, H, W, C].
    dtype: of the images, uint8.
    ndim: of the images, 4.
  """

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(self, packed: np.ndarray, shape: Sequence[int]):
    """Initializes the images.

    Args:
      packed: see above; may be mapped from a file.
      shape: of one image, [H, W, C].

    Raises:
      ValueError: bytes that are too many or too few for the shape.
    """
    if packed.shape[1:] != (num_bytes(shape),):
      raise ValueError(f'{packed.shape} bytes hold no images {tuple(shape)}')
    self.packed = packed
    self.shape = (len(packed), *shape)

  @property
  def nbytes(self) -> int:
    """Returns the bytes that the packed images take."""
    return self.packed.nbytes

  def __len__(self) -> int:
    """Returns N."""
    return len(self.packed)

  def __getitem__(self, rows: slice | np.ndarray) -> 'PackedImages':
    """Returns some of the images, packed."""
    return PackedImages(self.packed[rows], self.shape[1:])

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    """Returns the images unpacked, uint8 [N, H, W, C] unless told otherwise."""
    del copy  # There is no array that could be returned instead of one.
    pixels = np.unpackbits(self.packed, axis=1, count=math.prod(self.shape[1:]))
    np.multiply(pixels, 255, out=pixels)
    return pixels.reshape(self.shape).astype(dtype or np.uint8, copy=False)


def num_bytes(shape: Sequence[int]) -> int:
  """Returns how many bytes hold the bits of one image [H, W, C]."""
  return -(-math.prod(shape) // 8)


def pack(images: np.ndarray) -> np.ndarray:
  """Packs images [N, ...], white where not 0, into `PackedImages.packed`."""
  return np.packbits(images.reshape(len(images), -1) > 0, axis=1)


def unpack(packed: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
  """Unpacks images where the tensor lies, also under XLA.

  Args:
    packed: uint8 [B, ceil(H * W * C / 8)].
    shape: of one image, [H, W, C].

  Returns:
    uint8 [B, H, W, C], 0 or 255.
  """
  # A table of what each byte holds costs nothing beside a step; shifts, which
  # XLA repeats wherever the images are used, cost a quarter of a small one's.
  table = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 255
  pixels = tf.gather(tf.constant(table), tf.cast(packed, tf.int32))
  pixels = tf.reshape(pixels, [-1, 8 * packed.shape[1]])
  return tf.reshape(pixels[:, : math.prod(shape)], [-1, *shape])
