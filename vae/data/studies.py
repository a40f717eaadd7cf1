"""Files of the studies of disentanglement, as their authors publish them.

dSprites (.npz and .hdf5), 3D Shapes (.h5), MPI3D (.npz) and Cars3D (a folder of
.mat files, or a .npz of all their images). They hold every combination of their
factors, most in the order of the grid, and are read a piece at a time.
"""

import functools
import math
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vae.data import drawn, sources, sprites

# By the number of images, of files that hold images alone, in grid order.
_GRIDS: Mapping[int, tuple[str, Mapping[str, int]]] = {
  math.prod(factors.values()): (name, factors)
  for name, factors in (
    # Reed et al. 2015, https://papers.nips.cc/paper/5845.
    ('Cars3D', {'elevation': 4, 'azimuth': 24, 'object': 183}),
    # Gondal et al. 2019, https://arxiv.org/abs/1906.03292.
    *(
      (
        name,
        {
          'object_color': shapes,
          'object_shape': shapes,
          'object_size': 2,
          'camera_height': 3,
          'background_color': 3,
          'horizontal_axis': 40,
          'vertical_axis': 40,
        },
      )
      for name, shapes in (('MPI3D', 6), ('MPI3D complex', 4))
    ),
  )
}

# Columns of the factors: Matthey et al. 2017 and Burgess & Kim 2018,
# https://github.com/google-deepmind/dsprites-dataset and /3d-shapes.
_DSPRITES = ('color', 'shape', 'scale', 'orientation', 'x', 'y')
_SHAPES3D = (
  'floor_hue',
  'wall_hue',
  'object_hue',
  'scale',
  'shape',
  'orientation',
)

_CHUNK = 1024  # Images that are read at once.

SUFFIXES = ('.npz', '.h5', '.hdf5')


def find(path: pathlib.Path) -> sources.SourceData | None:
  """Returns the study whose file or folder this is; None where it is of none.

  Args:
    path: a folder, or a file whose name ends in one of `SUFFIXES`.

  Raises:
    SourceError: an HDF5 file of no study, or images and factors that do not
      go together.
    DamagedError: a file that cannot be read.
  """
  if path.is_dir():
    return _cars3d(path)
  if path.suffix == '.npz':
    return _npz(path)
  if path.suffix not in SUFFIXES:
    return None
  if data := _hdf5(path):
    return data
  raise sources.SourceError(
    f'{path} is of no study that is known: dSprites or 3D Shapes'
  )


def _npz(path: pathlib.Path) -> sources.SourceData | None:
  """dSprites: `imgs` and `latents_classes`; or nothing but images in a grid."""
  with sources.reading(path), zipfile.ZipFile(path) as archive:
    names = {name.removesuffix('.npy') for name in archive.namelist()}
    if {'imgs', 'latents_classes'} <= names:
      with np.load(path, allow_pickle=False) as file:
        classes = file['latents_classes']
      shape, read = _member(path, 'imgs')
      return _data('dSprites', path, shape, read, _DSPRITES, classes)
    if len(names) == 1 and names <= {'imgs', 'images'}:
      shape, read = _member(path, *names)
      if shape and shape[0] in _GRIDS:
        study, sizes = _GRIDS[shape[0]]
        factors = drawn.grid(tuple(sizes.values()))
        return _data(study, path, shape, read, tuple(sizes), factors)
  return None


def _hdf5(path: pathlib.Path) -> sources.SourceData | None:
  """3D Shapes: `images` and `labels`; dSprites: `imgs`, `latents/classes`."""
  import h5py

  def read(images: str) -> Iterator[np.ndarray]:
    with sources.reading(path), h5py.File(path) as file:
      for start in range(0, len(file[images]), _CHUNK):
        yield file[images][start : start + _CHUNK]

  with sources.reading(path), h5py.File(path) as file:
    for study, images, factors, names in (
      ('3D Shapes', 'images', 'labels', _SHAPES3D),
      ('dSprites', 'imgs', 'latents/classes', _DSPRITES),
    ):
      if images in file and factors in file:
        return _data(
          study,
          path,
          file[images].shape,
          functools.partial(read, images),
          names,
          file[factors][:],
        )
  return None


def _cars3d(folder: pathlib.Path) -> sources.SourceData | None:
  """A .mat file a car: `im`, uint8 [H, W, 3, azimuths, elevations]."""
  import scipy.io

  paths = sorted(folder.glob('*.mat'))
  if not paths:
    return None

  def car(path: pathlib.Path) -> np.ndarray:
    with sources.reading(path):
      images = scipy.io.loadmat(path)['im']
    if images.ndim != 5 or images.dtype != np.uint8:
      raise sources.DamagedError(
        f'{path}: im is {images.dtype} of the shape {images.shape}, not uint8 '
        '[H, W, 3, azimuths, elevations]'
      )
    return np.transpose(images, [4, 3, 0, 1, 2])

  shape = car(paths[0]).shape

  def read() -> Iterator[np.ndarray]:
    for path in paths:
      images = car(path)
      if images.shape != shape:
        raise sources.DamagedError(
          f'{path} holds images of another shape than {paths[0]}'
        )
      yield images.reshape(-1, *shape[2:])

  sizes = {'elevation': shape[0], 'azimuth': shape[1], 'object': len(paths)}
  cars = drawn.grid((len(paths), *shape[:2]))  # In the order of the files.
  factors = np.roll(cars, -1, axis=1)
  return _data(
    'Cars3D', folder, (len(factors), *shape[2:]), read, tuple(sizes), factors
  )


def _data(
  study: str,
  path: pathlib.Path,
  shape: tuple[int, ...],
  read: Callable[[], Iterator[np.ndarray]],
  names: tuple[str, ...],
  values: np.ndarray,
) -> sources.SourceData:
  """Images with their factors, but for those that never change."""
  if len(shape) not in (3, 4) or values.shape != (shape[0], len(names)):
    raise sources.SourceError(
      f'{path} looks like {study}, but its images of the shape {shape} do not '
      f'go with factors of the shape {values.shape}'
    )
  columns, sizes, value_names = [], {}, {}
  for name, column in zip(names, values.T, strict=True):
    levels, indices = np.unique(column, return_inverse=True)
    if len(levels) > 1:
      columns.append(indices)
      sizes[name] = len(levels)
      if study == 'dSprites' and name in sprites.VALUE_NAMES:
        words = sprites.VALUE_NAMES[name]
        value_names[name] = tuple(words[level] for level in levels.astype(int))
  is_binary = study == 'dSprites' and all(part.max() <= 1 for part in read())
  image_shape = shape[1:] if len(shape) == 4 else (*shape[1:], 1)
  split = sources.SourceSplit(
    shape[0],
    image_shape,
    lambda: (part.reshape(-1, *image_shape) for part in read()),
    factors=np.stack(columns, axis=-1).astype(np.int64),
    dtype=np.bool_ if is_binary else np.uint8,
  )
  return sources.SourceData(
    '1', f'{study} in {path}', {'train': split}, sizes, value_names
  )


def _member(
  path: pathlib.Path, name: str
) -> tuple[tuple[int, ...], Callable[[], Iterator[np.ndarray]]]:
  """The shape of an array of uint8 in a .npz file, and what reads it.

  The shape is empty where the array is of another type or order.
  """

  def header(file: Any) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    shape, is_fortran, dtype = (
      np.lib.format.read_array_header_1_0
      if version == (1, 0)
      else np.lib.format.read_array_header_2_0
    )(file)
    return () if dtype != np.uint8 or is_fortran else shape

  def read() -> Iterator[np.ndarray]:
    with (
      sources.reading(path),
      zipfile.ZipFile(path) as archive,
      archive.open(f'{name}.npy') as file,
    ):
      count, *shape = header(file)
      size = math.prod(shape)
      for start in range(0, count, _CHUNK):
        content = file.read(min(_CHUNK, count - start) * size)
        yield np.frombuffer(content, np.uint8).reshape(-1, *shape)

  with zipfile.ZipFile(path) as archive, archive.open(f'{name}.npy') as file:
    return header(file), read
