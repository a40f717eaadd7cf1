import numpy as np
import pytest
import tensorflow as tf

from vae.data import batches, bits

# Of 105 pixels, which fill no whole number of bytes.
_SHAPE = (7, 5, 3)


def _images(count):
  white = np.random.default_rng(0).random([count, *_SHAPE]) < 0.5
  images = white * np.uint8(255)
  return images, bits.PackedImages(bits.pack(images), _SHAPE)


def test_packed_images_look_like_images():
  images, packed = _images(9)
  assert len(packed) == 9
  assert packed.shape == images.shape
  assert packed.dtype == images.dtype
  assert packed.nbytes == 9 * 14
  np.testing.assert_array_equal(np.asarray(packed), images)
  np.testing.assert_array_equal(np.asarray(packed, np.float32), images)
  np.testing.assert_array_equal(tf.constant(packed[2:4]), images[2:4])
  rows = np.array([3, 0, 3])
  np.testing.assert_array_equal(np.asarray(packed[rows]), images[rows])


def test_slices_stay_packed_without_a_copy():
  _, packed = _images(9)
  assert np.shares_memory(packed[2:4].packed, packed.packed)


@pytest.mark.parametrize('jit', [False, True])
def test_unpacking_on_the_device(jit):
  images, packed = _images(9)
  unpack = tf.function(lambda p: bits.unpack(p, _SHAPE), jit_compile=jit)
  unpacked = unpack(tf.constant(packed.packed))
  np.testing.assert_array_equal(unpacked, images)
  assert unpacked.dtype == tf.uint8


def test_white_is_whatever_is_not_black():
  ones = np.ones([2, *_SHAPE], np.uint8)
  np.testing.assert_array_equal(bits.pack(ones), bits.pack(ones * 255))


def test_bytes_that_do_not_fit_the_shape_are_refused():
  with pytest.raises(ValueError, match='hold no images'):
    bits.PackedImages(np.zeros([2, 13], np.uint8), _SHAPE)


def test_static_binarisation_leaves_packed_images():
  images, packed = _images(2001)
  np.testing.assert_array_equal(
    np.asarray(batches.statically_binarised(packed, 'train')),
    batches.statically_binarised(images, 'train'),
  )


def test_mean_image_is_the_mean_of_any_images():
  images, packed = _images(2001)
  expected = images.mean(axis=0) / 255.0
  np.testing.assert_array_equal(batches.mean_image(images), expected)
  np.testing.assert_array_equal(batches.mean_image(packed), expected)
