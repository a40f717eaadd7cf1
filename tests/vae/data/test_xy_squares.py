import numpy as np
import pytest

from vae.data import xy_squares


def test_each_square_fills_its_place():
  image = xy_squares.images(np.array([[0, 1, 2, 3, 7, 7]]))[0]
  expected = np.zeros([64, 64, 3], np.uint8)
  expected[8:16, 0:8, 0] = 255
  expected[24:32, 16:24, 1] = 255
  expected[56:64, 56:64, 2] = 255
  np.testing.assert_array_equal(image, expected)
  small = xy_squares.images(np.array([[0, 1, 2, 3, 7, 7]]), 16)[0]
  np.testing.assert_array_equal(small, expected[::4, ::4])


def test_images_that_differ_in_one_square_are_equally_far_apart():
  factors = np.zeros([8, 6], np.int64)
  factors[:, 3] = np.arange(8)
  images = xy_squares.images(factors).astype(np.int64) // 255
  distances = abs(images[:, None] - images).sum(axis=(2, 3, 4))
  np.testing.assert_array_equal(distances, 128 * (1 - np.eye(8)))


@pytest.mark.parametrize(
  ('factors', 'image_size'), [([[8] * 6], 64), ([[0] * 5], 64), ([[0] * 6], 60)]
)
def test_what_is_not_on_the_grid_is_refused(factors, image_size):
  with pytest.raises(ValueError, match=r'factors|invalid entry|multiple'):
    xy_squares.images(np.array(factors), image_size)
