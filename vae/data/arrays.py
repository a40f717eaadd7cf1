"""Arrays of images, in .npy and .npz files or given, with what is known."""

import hashlib
import pathlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

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
  """Returns the images of a file, with labels and factors where it has any.

  A .npy file holds images alone, a .npz file what `parse` takes.

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
            found[name] = np.lib.format.read_array(file)
  return parse(found, str(path), f'arrays in {path}')


def parse(
  arrays: Mapping[str, np.ndarray],
  where: str,
  source: str,
  takes_rows: bool = False,
) -> sources.SourceData:
  """Returns images, and labels and factors where there are any.

  Args:
    arrays: `images`, perhaps `labels` [N], `factors` [N, K] and `factor_names`
      [K]; or each of these for the splits, as in `train_images` and
      `test_images`. Images are uint8, bool, or floats in [0, 1], of the shape
      [N, H, W] or [N, H, W, C] with one or three channels.
    where: they are, for errors.
    source: as the manifest names it.
    takes_rows: whether `images` may be the rows of a table too, [N, F].

  Raises:
    SourceError: arrays that are no such images, or do not go together.
  """
  found = {_NAMES.get(name, name): array for name, array in arrays.items()}
  names = found.pop('factor_names', None)
  if 'images' in found:
    for kind in _KINDS & found.keys():
      found[f'train_{kind}'] = found.pop(kind)
  splits = {}
  for split in sources.SPLITS:
    if f'{split}_images' in found:
      array = found.pop(f'{split}_images')
      if takes_rows and array.ndim == 2:
        splits[split] = sources.in_memory(rows(where, array))
      else:
        splits[split] = images(where, array)
  labels, factors = (
    _of_splits(where, splits, found, kind) for kind in ('labels', 'factors')
  )
  if found or 'train' not in splits:
    raise sources.SourceError(
      f'{where}: expected images, labels, factors and factor_names, or '
      'train_images, test_images and so on; found '
      f'{", ".join(found) or "nothing to train on"}'
    )
  label_names, sizes, value_names = None, {}, {}
  if labels is not None:
    if labels.size != len(labels):
      raise sources.SourceError(f'{where}: an image has more than one label')
    labels, label_names = sources.coded(labels.ravel())
  if factors is not None:
    if names is None:
      names = [f'factor_{number}' for number in range(factors.shape[-1])]
    if factors.ndim != 2 or len({*map(str, names)}) != factors.shape[1]:
      raise sources.SourceError(
        f'{where}: factors of the shape {factors.shape} do not go with '
        f'{len(names)} factor_names'
      )
    codes = [np.unique(column, return_inverse=True) for column in factors.T]
    factors_are_words = factors.dtype.kind == 'U'
    factors = np.stack([code for _, code in codes], axis=-1).astype(np.int64)
    sizes = {
      str(name): len(levels)
      for name, (levels, _) in zip(names, codes, strict=True)
    }
    if factors_are_words:
      value_names = {
        str(name): tuple(map(str, levels))
        for name, (levels, _) in zip(names, codes, strict=True)
      }
  start = 0
  for split, part in splits.items():
    place = slice(start, start + part.num_examples)
    splits[split] = part._replace(
      labels=None if labels is None else labels[place],
      factors=None if factors is None else factors[place],
    )
    start = place.stop
  return sources.SourceData(
    '1', source, splits, sizes, value_names, label_names
  )


def _of_splits(
  where: str,
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
      f'{where}: {kind} of the shapes {", ".join(str(a.shape) for a in given)} '
      f'do not go with {", ".join(f"{count:,}" for count in counts)} images'
    )
  return np.concatenate(given)


def images(where: str, array: np.ndarray) -> sources.SourceSplit:
  """Returns images as bytes, of which a piece is read at a time.

  Args:
    where: they are, for errors.
    array: uint8, bool, or floats in [0, 1], [N, H, W] or [N, H, W, 1 or 3].

  Raises:
    SourceError: an array that holds no images; values that are none where
      they are read.
  """
  shape = array.shape[1:]
  if array.ndim == 3:
    shape = *shape, 1
  if len(shape) != 3 or shape[2] not in (1, 3) or not array.size:
    cure = ''
    if len(shape) == 3 and shape[0] in (1, 3):
      cure = '; move the channels to the end'
    raise sources.SourceError(
      f'{where} holds an array of the shape {array.shape}; images have the '
      f'shape [N, H, W] or [N, H, W, C] with one or three channels{cure}'
    )
  is_float = np.issubdtype(array.dtype, np.floating)
  if array.dtype not in (np.uint8, np.bool_) and not is_float:
    raise sources.SourceError(
      f'{where} holds images of {array.dtype}; they must be uint8, bool, or '
      'floats in [0, 1]'
    )

  def batches() -> Iterator[np.ndarray]:
    for start in range(0, len(array), _CHUNK):
      part = array[start : start + _CHUNK].reshape(-1, *shape)
      if is_float:
        if np.isnan(part).any():
          raise sources.SourceError(
            f'{where} holds values that are no numbers (NaN); floats must lie '
            'in [0, 1]'
          )
        if not (part.min() >= 0 and part.max() <= 1):
          raise sources.SourceError(
            f'{where} holds values from {part.min():g} to {part.max():g}; '
            'floats must lie in [0, 1]'
          )
        part = np.rint(part * np.float32(255)).astype(np.uint8)
      yield part

  dtype = np.bool_ if array.dtype == np.bool_ else np.uint8
  return sources.SourceSplit(len(array), shape, batches, dtype=dtype)


def rows(where: str, array: np.ndarray) -> np.ndarray:
  """Returns the rows of a table, float64 [N, F].

  Args:
    where: they are, for errors.
    array: numbers, [N, F].

  Raises:
    SourceError: no numbers, or ones that are not finite.
  """
  if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
    raise sources.SourceError(
      f'{where} holds rows of {array.dtype}; they must be numbers'
    )
  if not array.size:
    raise sources.SourceError(
      f'{where} holds an array of the shape {array.shape}, which is empty'
    )
  finite = np.isfinite(array)
  if not finite.all():
    row, column = np.argwhere(~finite)[0]
    raise sources.SourceError(
      f'{where} holds {array[row, column]} in row {row}, column {column}; '
      'numbers must be finite'
    )
  return array.astype(np.float64)


# -- Given in Python ----------------------------------------------------------

# A dataset that was given as arrays is named by their digest.
_GIVEN = re.compile('arrays-[0-9a-f]{16}', re.ASCII)


def is_given(name: str) -> bool:
  """Returns whether a name is of a dataset that was given as arrays."""
  return bool(_GIVEN.fullmatch(name))


def given(data: Any) -> tuple[str, dict[str, np.ndarray]]:
  """Returns the name of data that are given in Python, and their arrays.

  Args:
    data: images (or rows); a tuple of them and their labels; or a mapping: from
      the splits, as 'train' and 'test', to one of these, or of what `parse`
      takes.

  Returns:
    A name that tells them from any others, and the arrays for `parse`.

  Raises:
    SourceError: what is no array of numbers.
  """
  parts = data if isinstance(data, Mapping) else {'': data}
  found: dict[str, Any] = {}
  for name, part in parts.items():
    if name and name not in sources.SPLITS:
      found[str(name)] = part
      continue
    prefix = f'{name}_' if name else ''
    if isinstance(part, tuple) and len(part) == 2:
      found[f'{prefix}images'], found[f'{prefix}labels'] = part
    else:
      found[f'{prefix}images'] = part
  arrays = {}
  digest = hashlib.sha256()
  for name in sorted(found):
    try:
      array = np.asarray(found[name])
    except ValueError as error:
      raise sources.SourceError(
        f'{name} is no array: {sources.one_line(error)}'
      ) from error
    if array.dtype == object:
      raise sources.SourceError(
        f'{name} holds {type(found[name]).__name__} of Python objects; it must '
        'be an array of numbers'
      )
    arrays[name] = array
    digest.update(f'{name}\0{array.dtype.str}\0{array.shape}\0'.encode())
    for start in range(0, len(array) if array.ndim else 0, _CHUNK):
      digest.update(array[start : start + _CHUNK].tobytes())
  return f'arrays-{digest.hexdigest()[:16]}', arrays
