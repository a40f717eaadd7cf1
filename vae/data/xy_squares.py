"""Three squares on a grid, on which losses of pixels show no order.

A red, a green and a blue square each stand on one of 8 x 8 places: 262,144
images of 64 x 64 pixels. Two places of a square never overlap, so that all
images that differ in one square are equally far apart pixel by pixel: a model
that compares pixels cannot learn which places are neighbours. `XYSquares` of
Michlo et al. 2022, https://arxiv.org/abs/2202.13341, written from its
definition.
"""

import numpy as np

SOURCE = 'drawn by the definition of XYSquares'

# Each factor's name and number of values, in the order of the grid: the last
# changes fastest.
FACTORS = {
  'x_red': 8,
  'y_red': 8,
  'x_green': 8,
  'y_green': 8,
  'x_blue': 8,
  'y_blue': 8,
}

_PLACES = 8  # Along x and along y.


def images(factors: np.ndarray, image_size: int = 64) -> np.ndarray:
  """Draws the images of some factors.

  Args:
    factors: columns and rows of the squares on the grid, integers [N, 6], in
      the order of `FACTORS`.
    image_size: height and width, a multiple of 8; a square's side is an eighth.

  Returns:
    uint8 [N, image_size, image_size, 3], 0 or 255; one square a channel.

  Raises:
    ValueError: factors of another shape or outside of their values, or a size
      that is no multiple of 8.
  """
  factors = np.asarray(factors)
  if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
    raise ValueError(
      f'factors must have the shape [N, {len(FACTORS)}], got {factors.shape}'
    )
  np.ravel_multi_index(tuple(factors.T), tuple(FACTORS.values()))  # Checks.
  if image_size < _PLACES or image_size % _PLACES:
    raise ValueError(
      f'image_size must be a multiple of {_PLACES}, got {image_size}'
    )
  place = np.arange(image_size) // (image_size // _PLACES)
  x, y = factors[:, None, ::2], factors[:, None, 1::2]  # [N, 1, 3]
  columns = place[:, None] == x  # [N, W, 3]
  rows = place[:, None] == y  # [N, H, 3]
  white = rows[:, :, None] & columns[:, None]
  return np.multiply(white, 255, dtype=np.uint8)
