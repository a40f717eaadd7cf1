"""Data that are drawn by formula, all of whose factors are known."""

import functools
import math
import types
from collections.abc import Iterator, Mapping

import numpy as np

from vae.data import sources, sprites, xy_squares

MODULES: Mapping[str, types.ModuleType] = {
  'sprites': sprites,
  'xy_squares': xy_squares,
}

_CHUNK = 1024  # Images that are drawn before they are written.


def grid(sizes: tuple[int, ...]) -> np.ndarray:
  """Returns every combination of factors, the last changing fastest.

  Args:
    sizes: number of values of each of K factors.

  Returns:
    int64 [N, K].
  """
  return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=-1)


def about(name: str) -> sources.SourceData:
  """Returns what is said of a drawn dataset; no splits.

  Args:
    name: of `MODULES`.
  """
  module = MODULES[name]
  value_names = getattr(module, 'VALUE_NAMES', {})
  return sources.SourceData('1', module.SOURCE, {}, module.FACTORS, value_names)


def find(name: str, image_size: int | None = None) -> sources.SourceData:
  """Returns a drawn dataset: every combination of its factors, once.

  Args:
    name: of `MODULES`.
    image_size: height and width of the canvas; None for that of the formula.

  Raises:
    SourceError: a size that cannot be drawn.
  """
  module = MODULES[name]
  draw = functools.partial(
    module.images, **({'image_size': image_size} if image_size else {})
  )
  factors = grid(tuple(module.FACTORS.values()))
  try:
    shape = draw(factors[:1]).shape[1:]
  except ValueError as error:
    raise sources.SourceError(f'--image_size={image_size}: {error}') from error

  def batches() -> Iterator[np.ndarray]:
    for start in range(0, len(factors), _CHUNK):
      yield draw(factors[start : start + _CHUNK])

  split = sources.SourceSplit(
    len(factors), shape, batches, factors=factors, dtype=np.bool_
  )
  return about(name)._replace(splits={'train': split})
