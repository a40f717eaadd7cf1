import numpy as np
import pytest
import tensorflow as tf

from vae import randomness
from vae.data import batches

KEY = randomness.key(0, randomness.Purpose.BINARISATION, 0)


def test_every_image_is_seen_once_an_epoch():
  indices = batches.indices(0, 10, 4, 1, 5).ravel()
  for epoch in indices.reshape(2, 10):
    np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
  assert (indices[:10] != indices[10:]).any()


def test_batches_do_not_depend_on_where_a_block_starts():
  together = batches.indices(3, 10, 4, 1, 9)
  apart = [batches.indices(3, 10, 4, step, 1)[0] for step in range(1, 10)]
  np.testing.assert_array_equal(together, apart)


def test_seeds_permute_differently():
  one, two = (batches.indices(seed, 50, 50, 1, 1) for seed in (0, 1))
  assert (one != two).any()


@pytest.mark.parametrize('batch_size', [0, 11])
def test_batches_larger_than_the_data_are_refused(batch_size):
  with pytest.raises(ValueError, match='batch_size must be between 1 and'):
    batches.indices(0, 10, batch_size, 1, 1)


# -- Binarisation -------------------------------------------------------------


def test_grey_values_are_bytes_over_255():
  images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  actual = batches.to_float(tf.constant(images), 'none', KEY)
  np.testing.assert_allclose(actual, images / 255.0, rtol=1e-6)


def test_threshold_cuts_at_one_half():
  images = tf.constant([[127, 128]], tf.uint8)
  actual = batches.to_float(images, 'threshold', KEY)
  np.testing.assert_array_equal(actual, [[0.0, 1.0]])


def test_dynamic_binarisation_is_white_with_the_pixels_probability():
  levels = np.array([0, 1, 64, 128, 254, 255], np.uint8)
  images = tf.constant(np.tile(levels, (200_000, 1)))
  draws = batches.to_float(images, 'dynamic', KEY).numpy()
  assert set(np.unique(draws)) == {0.0, 1.0}
  p = levels / 255
  error = np.sqrt(p * (1 - p) / len(draws))
  assert (np.abs(draws.mean(0) - p) <= 4 * error).all()


def test_dynamic_draws_differ_by_step_and_repeat_by_key():
  images = tf.fill([4, 8, 8, 1], tf.constant(128, tf.uint8))
  draws = [
    batches.to_float(
      images,
      'dynamic',
      randomness.key(0, randomness.Purpose.BINARISATION, step),
    ).numpy()
    for step in (1, 1, 2)
  ]
  np.testing.assert_array_equal(draws[0], draws[1])
  assert (draws[0] != draws[2]).any()


def test_static_binarisation_is_one_draw_with_the_pixels_probability():
  levels = np.array([0, 64, 128, 255], np.uint8)
  images = np.tile(levels, (50_000, 1)).reshape(50_000, 2, 2, 1)
  draws = batches.statically_binarised(images, 'train')
  assert set(np.unique(draws)) == {0, 255}
  p = levels / 255
  error = np.sqrt(p * (1 - p) / len(draws))
  frequencies = (draws / 255).mean(0).ravel()
  assert (np.abs(frequencies - p) <= 4 * error).all()
  np.testing.assert_array_equal(
    draws, batches.statically_binarised(images, 'train')
  )
  assert (draws != batches.statically_binarised(images, 'test')).any()


def test_unknown_binarisation_is_refused():
  with pytest.raises(ValueError, match='ternary'):
    batches.to_float(tf.zeros([1, 1], tf.uint8), 'ternary', KEY)
