"""Sprites: white shapes on black, every one of whose factors is known.

Squares, ellipses and hearts in 6 scales, 40 orientations and 32 x 32 positions:
737,280 binary images of 64 x 64 pixels, drawn by formula. The geometry is
fitted to the published preview of dSprites (Matthey et al. 2017,
https://github.com/google-deepmind/dsprites-dataset): 316 of the preview's 320
frames come out bit for bit, the others but for one pixel, and all images
together have 0.0015% more white pixels than that dataset. They are not its
files, and numbers that come from them say so.
"""

import math

import numpy as np

SOURCE = 'drawn, geometry fitted to the published preview of dSprites'

# Each factor's name and number of values, in the order of the grid: the last
# changes fastest.
FACTORS = {'shape': 3, 'scale': 6, 'orientation': 40, 'x': 32, 'y': 32}

VALUE_NAMES = {'shape': ('square', 'ellipse', 'heart')}

# All lengths are in pixels of the canvas that was fitted.
_CANVAS = 64

_EDGES = 128
_CROSSINGS = 4  # Of a horizontal line with an outline: two lobes of the heart.

_CHUNK = 1024  # Images drawn at once: some 10 MB at 64 x 64.


def _outlines() -> np.ndarray:
  """Vertices (x, y) at scale 1, y downwards, float64 [3, _EDGES, 2].

  A vertex may repeat: the edge between the two has no length and is never
  crossed. The numbers lie in the middle of those that fit the preview best;
  they are 19.2 for the side of the square and the width of the heart, and
  12.8 x 7.2 for the semi-axes of the ellipse, up to 0.02 pixels.
  """
  corners = 9.597 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
  t = 2 * math.pi * np.arange(64) / 64
  ellipse = np.stack([12.7797 * np.cos(t), 7.221 * np.sin(t)], axis=-1)
  t = 2 * math.pi * np.arange(_EDGES) / _EDGES
  lobes = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
  heart = np.stack([9.6034 * np.sin(t) ** 3, -0.6623 * lobes - 1.4406], axis=-1)
  return np.stack(
    [
      np.repeat(outline, _EDGES // len(outline), axis=0)
      for outline in (corners, ellipse, heart)
    ]
  )


_OUTLINES = _outlines()


def images(factors: np.ndarray, image_size: int = _CANVAS) -> np.ndarray:
  """Draws the images of some factors.

  A pixel is white where its centre lies inside the outline; there are no grey
  edges. Orientations turn counterclockwise in steps of 1/39 of a turn, so that
  the last equals the first.

  Args:
    factors: indices of the values of `FACTORS`, integers [N, 5]; the shape is
      an index of its `VALUE_NAMES`.
    image_size: height and width of the canvas, on which the same geometry is
      drawn.

  Returns:
    uint8 [N, image_size, image_size, 1], 0 or 255.

  Raises:
    ValueError: factors of another shape or outside of their values.
  """
  factors = np.asarray(factors)
  if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
    raise ValueError(
      f'factors must have the shape [N, {len(FACTORS)}], got {factors.shape}'
    )
  np.ravel_multi_index(tuple(factors.T), tuple(FACTORS.values()))  # Checks.
  white = np.empty([len(factors), image_size, image_size, 1], np.uint8)
  for start in range(0, len(factors), _CHUNK):
    chunk = slice(start, start + _CHUNK)
    inside = _inside(factors[chunk], image_size)
    np.multiply(inside, 255, out=white[chunk, ..., 0], dtype=np.uint8)
  return white


def _inside(factors: np.ndarray, image_size: int) -> np.ndarray:
  """Tells which pixels lie in the outline, by the even-odd rule, [N, H, W]."""
  # Images that differ in x alone are crossed by their rows in the same places.
  rows, which = np.unique(
    np.ravel_multi_index(
      tuple(np.delete(factors, 3, axis=1).T),
      (*list(FACTORS.values())[:3], FACTORS['y']),
    ),
    return_inverse=True,
  )
  shape, scale, orientation, y = np.unravel_index(
    rows, (*list(FACTORS.values())[:3], FACTORS['y'])
  )
  crossings = _crossings(shape, scale, orientation, y, image_size)[which]
  pixel = _CANVAS / image_size
  centre = _position(factors[:, 3])[:, None, None]
  first = np.ceil((crossings + centre) / pixel - 0.5)  # Right of the crossing.
  first = np.clip(first, 0, image_size).astype(np.int16)[..., None]
  columns = np.arange(image_size, dtype=np.int16)
  inside = columns >= first[:, :, 0]
  for crossing in range(1, _CROSSINGS):
    inside ^= columns >= first[:, :, crossing]
  return inside


def _position(index: np.ndarray) -> np.ndarray:
  """Places the centre, over the middle half of the canvas."""
  return 16 + 32 * index / 31


def _crossings(
  shape: np.ndarray,
  scale: np.ndarray,
  orientation: np.ndarray,
  y: np.ndarray,
  image_size: int,
) -> np.ndarray:
  """Finds where rows of pixels cross an outline.

  Args:
    shape: and the other factors, integers [M].
    scale: see `shape`.
    orientation: see `shape`.
    y: see `shape`.
    image_size: number of rows, H.

  Returns:
    x from the centre of the shape, float64 [M, H, 4], infinite where there
    are fewer crossings; in the order of the outline's edges.
  """
  angle = 2 * math.pi * (orientation % 39) / 39
  size = 0.5 + 0.1 * scale
  cos, sin = (size * np.cos(angle))[:, None], (size * np.sin(angle))[:, None]
  outline_x, outline_y = np.moveaxis(_OUTLINES[shape], -1, 0)
  from_x = cos * outline_x + sin * outline_y  # [M, edges]
  from_y = cos * outline_y - sin * outline_x
  rows = (np.arange(image_size) + 0.5) * (_CANVAS / image_size)
  rows = rows - _position(y)[:, None]  # [M, H]
  above = from_y[:, None] <= rows[..., None]  # [M, H, edges]
  image, row, edge = np.nonzero(above != np.roll(above, -1, axis=-1))
  x0, y0 = from_x[image, edge], from_y[image, edge]
  following = (edge + 1) % _EDGES
  x1, y1 = from_x[image, following], from_y[image, following]
  crossings = np.full([len(rows) * image_size, _CROSSINGS], np.inf)
  line = image * image_size + row  # Sorted, as `nonzero` is.
  nth = np.arange(len(line)) - np.searchsorted(line, line)
  crossings[line, nth] = x0 + (rows[image, row] - y0) * (x1 - x0) / (y1 - y0)
  return crossings.reshape(len(rows), image_size, _CROSSINGS)
