import csv
import hashlib
import pathlib

import numpy as np
import pytest

from vae.data import sprites

# Of each frame of dSprites' published preview (a .gif in its repository): the
# factors, the pixels (row:column) by which ours differ, and the first half of
# the SHA-256 of the frame's packed bits. So the frames themselves need not be
# copied here, and yet every one of their pixels is tested.
_PREVIEW = pathlib.Path('tests/data/sprites_preview.csv')


def _grid(*sizes: int) -> np.ndarray:
  return np.indices(sizes).reshape(len(sizes), -1).T


def test_preview_of_dsprites_is_drawn():
  with _PREVIEW.open() as file:
    frames = list(csv.DictReader(file))
  factors = np.array(
    [[int(frame[name]) for name in sprites.FACTORS] for frame in frames]
  )
  images = sprites.images(factors)[..., 0]
  num_wrong = []
  for frame, image in zip(frames, images, strict=True):
    wrong = frame['flipped'].split()
    for pixel in wrong:
      row, column = map(int, pixel.split(':'))
      image[row, column] = 255 - image[row, column]
    digest = hashlib.sha256(np.packbits(image)).hexdigest()
    assert digest.startswith(frame['sha256']), frame
    num_wrong.append(len(wrong))
  assert len(frames) == 320
  assert num_wrong.count(0) >= 316
  assert max(num_wrong) <= 1


def test_white_pixels_of_the_whole_set():
  # The total is dSprites' own, its published mean times the number of pixels;
  # the means are those of another reconstruction.
  white = np.array(
    [
      np.count_nonzero(
        sprites.images(
          np.insert(_grid(32, 32), [0, 0, 0], [*chosen], axis=1)
        ).reshape(1024, -1),
        axis=1,
      )
      for chosen in _grid(3, 6, 39)
    ]
  ).reshape(3, 6, 39, 1024)
  white = np.concatenate([white, white[:, :, :1]], axis=2)  # The last turn.
  assert white.size == 737_280
  assert white.sum() == pytest.approx(128_328_862, rel=1e-4)
  np.testing.assert_allclose(
    white.mean(axis=(2, 3)),
    [
      [92.2, 132.7, 180.6, 235.9, 298.5, 368.6],
      [72.4, 104.2, 141.8, 185.2, 234.4, 289.4],
      [56.2, 80.9, 110.1, 143.8, 181.9, 224.6],
    ],
    atol=0.1,
  )


def test_first_orientation_is_the_last():
  first = np.insert(_grid(3, 6, 32), [2, 3], [0, 7], axis=1)
  last = np.insert(_grid(3, 6, 32), [2, 3], [39, 7], axis=1)
  np.testing.assert_array_equal(sprites.images(first), sprites.images(last))


@pytest.mark.parametrize('image_size', [64, 32, 50])
def test_squares_are_where_their_equation_says(image_size):
  rng = np.random.default_rng(0)
  factors = rng.integers([1, 6, 40, 32, 32], size=[200, 5])
  images = sprites.images(factors, image_size)
  assert images.dtype == np.uint8
  centres = (np.arange(image_size) + 0.5) * 64 / image_size
  for (_, scale, orientation, x, y), image in zip(factors, images, strict=True):
    right = centres[None, :] - (16 + 32 * x / 31)
    up = (16 + 32 * y / 31) - centres[:, None]
    turned = (right + 1j * up) * np.exp(-2j * np.pi * orientation / 39)
    half = 9.597 * (0.5 + scale / 10)
    inside = (abs(turned.real) < half) & (abs(turned.imag) < half)
    np.testing.assert_array_equal(image[..., 0], np.where(inside, 255, 0))


@pytest.mark.parametrize(
  'factors', [[[0, 0, 0, 0]], [[3, 0, 0, 0, 0]], [[0, 0, 0, 0, -1]], [0] * 5]
)
def test_factors_outside_of_the_grid_are_refused(factors):
  with pytest.raises(ValueError, match=r'factors|invalid entry'):
    sprites.images(np.array(factors))
