"""IDX files, the format of MNIST and of the datasets made like it."""

import gzip
import hashlib
import math
import pathlib
import struct
import zlib
from collections.abc import Mapping

import numpy as np

from vae.data import sources

FILES = {
  'train_data': 'train-images-idx3-ubyte',
  'train_labels': 'train-labels-idx1-ubyte',
  'test_data': 't10k-images-idx3-ubyte',
  'test_labels': 't10k-labels-idx1-ubyte',
}

# MD5 of the uncompressed IDX files, in the order of `FILES`. The files of
# MNIST and of its successors have the same names; only these tell them apart.
MD5 = {
  'mnist': (
    '6bbc9ace898e44ae57da46a324031adb',
    'a25bea736e30d166cdddb491f175f624',
    '2646ac647ad5339dbf082846283269ea',
    '27ae3e4e09519cfbb04c329615203637',
  ),
  'fashion_mnist': (
    'f4a8712d7a061bf5bd6d2ca38dc4d50a',
    '9018921c3c673c538a1fc5bad174d6f9',
    '8181f5470baa50b63fa0f6fddb340f0a',
    '15d484375f8d13e6eb1aabb0c3f46965',
  ),
}


def read_bytes(path: pathlib.Path) -> bytes:
  opener = gzip.open if path.suffix == '.gz' else open
  try:
    with opener(path, 'rb') as file:
      return file.read()
  except (OSError, EOFError, zlib.error) as error:
    raise sources.DamagedError(f'{path} cannot be read: {error}') from error


def read(path: pathlib.Path) -> np.ndarray:
  """Reads an IDX file of unsigned bytes, gzipped where its name ends in .gz.

  Args:
    path: the file.

  Returns:
    uint8 array, of the shape that the header states.

  Raises:
    DamagedError: a file that is no such IDX file, or is truncated or too long.
  """
  content = read_bytes(path)
  if len(content) < 4 or content[:3] != b'\x00\x00\x08':
    raise sources.DamagedError(f'{path} is no IDX file of unsigned bytes')
  rank = content[3]
  header = 4 + 4 * rank
  if len(content) < header:
    raise sources.DamagedError(f'{path} is truncated inside its header')
  shape = struct.unpack(f'>{rank}I', content[4:header])
  expected = header + math.prod(shape)
  if len(content) != expected:
    raise sources.DamagedError(
      f'{path} is damaged: {len(content):,} bytes where its header {shape} '
      f'says {expected:,}'
    )
  try:
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
  except ValueError as error:  # More dimensions than NumPy has.
    raise sources.DamagedError(
      f'{path} has the shape {shape}: {error}'
    ) from error


def find(folder: pathlib.Path) -> dict[str, pathlib.Path] | None:
  """Finds the four IDX files of a folder by role; None where one is missing."""
  found = {}
  for role, stem in FILES.items():
    for name in (stem, f'{stem}.gz'):
      if (folder / name).is_file():
        found[role] = folder / name
        break
    else:
      return None
  return found


def check(name: str, files: Mapping[str, pathlib.Path]) -> None:
  for role, expected in zip(FILES, MD5[name], strict=True):
    content = read_bytes(files[role])
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != expected:
      raise sources.DamagedError(
        f'{files[role]} is not the file of {name}: MD5 {digest}, expected '
        f'{expected}'
      )


def folder(path: pathlib.Path) -> sources.SourceData:
  """Returns what a folder with the four IDX files of a dataset holds.

  Args:
    path: holds `train-images-idx3-ubyte` and the like, gzipped or not.

  Raises:
    DamagedError: damaged files, or images and labels of different numbers.
  """
  files = find(path)
  assert files is not None
  splits = {}
  for split in ('train', 'test'):
    images = read(files[f'{split}_data'])
    labels = read(files[f'{split}_labels'])
    if images.ndim != 3 or not images.size or labels.shape != images.shape[:1]:
      raise sources.DamagedError(
        f'{path}: {split} images of shape {images.shape} do not go with '
        f'labels of shape {labels.shape}'
      )
    splits[split] = sources.in_memory(
      images[..., None], labels.astype(np.int64)
    )
  return sources.SourceData('1', f'IDX files in {path}', splits)
