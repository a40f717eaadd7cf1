"""Arrays of images in .npy and .npz files, with labels and factors."""

import pathlib
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from vae.data import sources

SUFFIXES = ('.npy', '.npz')

_KINDS = {'images', 'labels', 'factors'}

_CHUNK = 1024  # Images that are read, or turned to bytes, at once.

# What Keras and MedMNIST call them, beside our own names.
_NAMES = {
  'x': 'images',
  'y': 'labels',
  'imgs': 'images',
  'val_images': 'validation_images',
  'val_labels': 'validation_labels',
  **{
    f'{short}_{split}': f'{split}_{kind}'
    for short, kind in (('x', 'images'), ('y', 'labels'))
    for split in ('train', 'test')
  },
}


def read(path: pathlib.Path) -> sources.SourceData:
  """Returns images, and labels and factors where there are any.

  A .npy file holds images alone. A .npz file holds `images`, perhaps `labels`
  [N], `factors` [N, K] and `factor_names` [K]; or each of these for the splits,
  as in `train_images` and `test_images`. Images are uint8, bool, or floats in
  [0, 1], of the shape [N, H, W] or [N, H, W, C] with one or three channels.

  Args:
    path: of the file.

  Raises:
    SourceError: arrays that are no such images, or do not go together.
    DamagedError: a file that cannot be read.
  """
  found: dict[str, np.ndarray] = {}
  with sources.reading(path):
    if path.suffix == '.npy':
      found['images'] = np.lib.format.open_memmap(path, mode='r')
    else:
      # Not by `numpy.load`, which leaves damaged files open.
      with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
          with archive.open(member) as file:
            name = member.removesuffix('.npy')
            found[_NAMES.get(name, name)] = np.lib.format.read_array(file)
  names = found.pop('factor_names', None)
  if 'images' in found:
    for kind in _KINDS & found.keys():
      found[f'train_{kind}'] = found.pop(kind)
  splits = {}
  for split in sources.SPLITS:
    if f'{split}_images' in found:
      splits[split] = _images(path, found.pop(f'{split}_images'))
  labels, factors = (
    _of_splits(path, splits, found, kind) for kind in ('labels', 'factors')
  )
  if found or 'train' not in splits:
    raise sources.SourceError(
      f'{path}: expected images, labels, factors and factor_names, or '
      'train_images, test_images and so on; found '
      f'{", ".join(found) or "nothing to train on"}'
    )
  label_names, sizes = None, {}
  if labels is not None:
    if labels.size != len(labels):
      raise sources.SourceError(f'{path}: an image has more than one label')
    labels, label_names = sources.coded(labels.ravel())
  if factors is not None:
    if names is None:
      names = [f'factor_{number}' for number in range(factors.shape[-1])]
    if factors.ndim != 2 or len({*map(str, names)}) != factors.shape[1]:
      raise sources.SourceError(
        f'{path}: factors of the shape {factors.shape} do not go with '
        f'{len(names)} factor_names'
      )
    codes = [np.unique(column, return_inverse=True) for column in factors.T]
    factors = np.stack([code for _, code in codes], axis=-1).astype(np.int64)
    sizes = {
      str(name): len(levels)
      for name, (levels, _) in zip(names, codes, strict=True)
    }
  start = 0
  for split, part in splits.items():
    rows = slice(start, start + part.num_examples)
    splits[split] = part._replace(
      labels=None if labels is None else labels[rows],
      factors=None if factors is None else factors[rows],
    )
    start = rows.stop
  return sources.SourceData(
    '1', f'arrays in {path}', splits, sizes, label_names
  )


def _of_splits(
  path: pathlib.Path,
  splits: Mapping[str, sources.SourceSplit],
  found: dict[str, np.ndarray],
  kind: str,
) -> np.ndarray | None:
  """Takes an array of every split out of those found, one after the other."""
  arrays = [found.pop(f'{split}_{kind}', None) for split in splits]
  given = [array for array in arrays if array is not None]
  if not given:
    return None
  counts = [part.num_examples for part in splits.values()]
  if [len(array) if array.ndim else 0 for array in given] != counts or any(
    array.shape[1:] != given[0].shape[1:] for array in given
  ):
    raise sources.SourceError(
      f'{path}: {kind} of the shapes {", ".join(str(a.shape) for a in given)} '
      f'do not go with {", ".join(f"{count:,}" for count in counts)} images'
    )
  return np.concatenate(given)


def _images(path: pathlib.Path, array: np.ndarray) -> sources.SourceSplit:
  """Images as bytes, read a piece at a time."""
  shape = array.shape[1:]
  if array.ndim == 3:
    shape = *shape, 1
  if len(shape) != 3 or shape[2] not in (1, 3) or not array.size:
    cure = ''
    if len(shape) == 3 and shape[0] in (1, 3):
      cure = '; move the channels to the end'
    raise sources.SourceError(
      f'{path} holds an array of the shape {array.shape}; images have the '
      f'shape [N, H, W] or [N, H, W, C] with one or three channels{cure}'
    )
  is_float = np.issubdtype(array.dtype, np.floating)
  if array.dtype not in (np.uint8, np.bool_) and not is_float:
    raise sources.SourceError(
      f'{path} holds images of {array.dtype}; they must be uint8, bool, or '
      'floats in [0, 1]'
    )

  def batches() -> Iterator[np.ndarray]:
    for start in range(0, len(array), _CHUNK):
      part = array[start : start + _CHUNK].reshape(-1, *shape)
      if is_float:
        if not (part.min() >= 0 and part.max() <= 1):  # Also what is no number.
          raise sources.SourceError(
            f'{path} holds values from {part.min():g} to {part.max():g}; '
            'floats must lie in [0, 1]'
          )
        part = np.rint(part * np.float32(255)).astype(np.uint8)
      yield part

  dtype = np.bool_ if array.dtype == np.bool_ else np.uint8
  return sources.SourceSplit(len(array), shape, batches, dtype=dtype)
