"""Datasets as memory-mapped arrays, prepared where they were not before.

What `vae.data.chain` finds is prepared once into files of NumPy under
`DATA_DIR/prepared`, so that a run opens its data in milliseconds and reads
only the images that it needs.
"""

import dataclasses
import functools
import hashlib
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vae.data import arrays, batches, chain, folders, prepared, sources

# What `auto` stands for: the first, or the second where it cannot be had.
_FULL, _FALLBACK = 'mnist', 'mnist_5k'

# No part starts with a dot, so that none leads out of a folder.
_TFDS_NAME = re.compile(r'\w+(/\w[\w.+-]*)?(:[0-9*][0-9*.]*)?', re.ASCII)


class DatasetError(ValueError):
  """A dataset cannot be had; the message says what was tried."""


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of a dataset.

  Attributes:
    examples: images, uint8 [N, H, W, C], where 0 is black and 255 is white; or
      a table, float32 [N, F].
    labels: int64 [N], or None where there are none.
    factors: int64 [N, K], which value each factor has, or None where they are
      not known.
  """

  examples: batches.Examples
  labels: np.ndarray | None = None
  factors: np.ndarray | None = None

  def __getitem__(self, rows: slice | np.ndarray) -> 'Split':
    """Returns some of the examples; of a slice, without a copy."""
    return Split(
      self.examples[rows],
      None if self.labels is None else self.labels[rows],
      None if self.factors is None else self.factors[rows],
    )


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A prepared dataset.

  Attributes:
    name: as the launcher takes it.
    splits: by name; 'train' and 'test', but where all train; perhaps
      'validation'.
    provenance: for the manifest: name, version, source, shape, how it was cut,
      number of images and SHA-256 of each split's images, names of the labels
      and number of values of each factor.
  """

  name: str
  splits: Mapping[str, Split]
  provenance: Mapping[str, Any]

  @property
  def has_images(self) -> bool:
    """Returns whether the examples are images; else they are rows."""
    return self.splits['train'].examples.dtype == np.uint8

  @property
  def shape(self) -> tuple[int, ...]:
    """Returns the shape of an example: [H, W, C], or [F] for a table."""
    return self.splits['train'].examples.shape[1:]

  @property
  def factors(self) -> Mapping[str, int]:
    """Number of values of each factor, by name, in their order."""
    return dict(self.provenance.get('factors', ()))

  @property
  def names(self) -> Mapping[str, Any]:
    """Entries of the provenance that name factors, their values and labels."""
    entries = self.provenance
    return {name: entries[name] for name in prepared.NAMES if name in entries}

  @property
  def has_grid(self) -> bool:
    """Returns whether it holds every combination of its factors once."""
    return self._grid is not None

  def images_of(self, factors: np.ndarray) -> np.ndarray:
    """Returns the images of some factors, from whichever splits hold them.

    Args:
      factors: integers [M, K], each below its number of values.

    Returns:
      uint8 [M, H, W, C].

    Raises:
      ValueError: values out of range, or the data do not hold every combination
        of factors once.
    """
    if self._grid is None:
      raise ValueError(
        f'{self.name} does not hold every combination of its factors once'
      )
    index = np.ravel_multi_index(
      tuple(np.asarray(factors).T), tuple(self.factors.values())
    )
    places = self._grid[index]
    images = np.empty((len(places), *self.shape), np.uint8)
    for split in self.splits.values():
      held = (places >= 0) & (places < len(split.examples))
      images[held] = np.asarray(split.examples[places[held]])
      places = places - len(split.examples)
    return images

  @functools.cached_property
  def _grid(self) -> np.ndarray | None:
    """Finds where each combination of factors is, over all splits."""
    sizes = tuple(self.factors.values())
    factors = [s.factors for s in self.splits.values() if s.factors is not None]
    if not factors:
      return None
    index = np.ravel_multi_index(tuple(np.concatenate(factors).T), sizes)
    if len(index) != math.prod(sizes) or (np.bincount(index) != 1).any():
      return None
    return np.argsort(index)

  def statically_binarised(self) -> 'Dataset':
    """Returns the dataset with one fixed Bernoulli draw of every pixel."""
    splits = {
      name: dataclasses.replace(
        split, examples=batches.statically_binarised(split.examples, name)
      )
      for name, split in self.splits.items()
    }
    return dataclasses.replace(self, splits=splits)

  def with_validation(self, num_images: int) -> 'Dataset':
    """Makes training images, in their share of each class, a validation split.

    Args:
      num_images: how many; 0 leaves the dataset as it is.

    Raises:
      ValueError: there is one already, or one part would lack a class.
    """
    if not num_images:
      return self
    if 'validation' in self.splits:
      raise ValueError(
        f'must be 0: {self.name} has a validation split of its own'
      )
    train = self.splits['train']
    if num_images >= len(train.examples):
      raise ValueError(
        f'must be less than the {len(train.examples):,} training images'
      )
    if 'cut' not in self.provenance:  # Prepared before `sources.CUT` was.
      parts = train[:-num_images], train[-num_images:]
    else:
      parts = _cut(train, num_images, self.provenance['mixed'])
    splits = {**self.splits, 'train': parts[0], 'validation': parts[1]}
    counts = {name: len(split.examples) for name, split in splits.items()}
    provenance = {**self.provenance, 'num_images': counts}
    return dataclasses.replace(self, splits=splits, provenance=provenance)


def _cut(split: Split, num_cut: int, is_mixed: bool) -> tuple[Split, Split]:
  """Cuts a split in two, without a copy where its order is mixed already."""
  if is_mixed:
    kept = len(split.examples) - num_cut
    if split.labels is not None:
      parts = split.labels[:kept], split.labels[kept:]
      sources.check_classes(split.labels, parts)
    return split[:kept], split[kept:]
  first, second = sources.cut(len(split.examples), num_cut, split.labels)
  return split[np.sort(first)], split[second]


def load(
  name: str,
  data_dir: str | os.PathLike,
  report: sources.Report = print,
  options: sources.Options = sources.OPTIONS,
  cut: int = sources.CUT,
  given: Mapping[str, np.ndarray] | None = None,
) -> Dataset:
  """Opens a dataset, preparing it first where that was not done before.

  Args:
    name: 'mnist_5k'; 'wine'; 'sprites'; 'xy_squares'; a TFDS name such as
      'mnist'; the path of a folder of images or of IDX files, of a table, or
      of arrays (see `is_path`); a name of `arrays.given`; or 'auto': full MNIST
      where it can be had, else 'mnist_5k', with a warning.
    data_dir: TFDS's data folder, where prepared arrays are kept too.
    report: is told what is being tried.
    options: how it is read.
    cut: `sources.CUT`, or 1 for the splits of runs that were started before.
    given: the arrays of `arrays.given`, which need be given once.

  Raises:
    DatasetError: no source has it, its files are damaged, or the name is not
      one; the message lists what was tried and what to do.
  """
  data_dir = pathlib.Path(os.path.expanduser(data_dir)).absolute()
  if is_path(name):  # The name must hold wherever the run is resumed from.
    name = os.path.abspath(os.path.expanduser(name))

  def opened(name: str) -> Dataset:
    folder = _prepare(name, data_dir, report, options, cut, given)
    splits, provenance = prepared.read(folder, chain.about(name))
    splits = {split: Split(**held) for split, held in splits.items()}
    return Dataset(name, splits, provenance)

  try:
    if name != 'auto':
      return opened(name)
    try:
      return opened(_FULL)
    except sources.SourceError as error:
      report(
        f'WARNING: {error} Going on with {_FALLBACK}, 5,000 images of MNIST; '
        'results are not comparable with full MNIST.'
      )
    fallback = opened(_FALLBACK)
    provenance = {**fallback.provenance, 'fallback_for': _FULL}
    return dataclasses.replace(fallback, provenance=provenance)
  except (sources.SourceError, sources.DamagedError) as error:
    cure = ''
    if not is_path(name) and os.path.exists(name):
      cure = f'; for the path, write ./{name}'
    what = f'--dataset={name}' if given is None else 'dataset'
    raise DatasetError(f'{what}: {error}{cure}') from error
  except OSError as error:
    raise DatasetError(f'--data_dir={data_dir}: {error}') from error


def is_path(name: str) -> bool:
  """Returns whether a dataset's name is the path of a folder or a file."""
  return name.startswith(('/', '.', '~')) or (
    ('/' in name or pathlib.Path(name).suffix != '') and os.path.exists(name)
  )


def key_of(name: str) -> str:
  """Returns a dataset's name, or of a path what changes with its files.

  The path is absolute in it, and files count by their sizes and times.

  Args:
    name: as in `load`.

  Raises:
    DatasetError: a path that leads nowhere, or cannot be read.
  """
  if not is_path(name):
    return name
  source = pathlib.Path(os.path.abspath(os.path.expanduser(name)))
  if not os.path.isdir(source) and not os.path.isfile(source):
    raise DatasetError(f'--dataset={source}: no such folder or file')
  digest = hashlib.sha256(os.fspath(source).encode())
  files = sorted(source.rglob('*')) if source.is_dir() else [source]
  for path in files:
    try:
      status = path.stat()
    except OSError as error:
      raise DatasetError(f'{path} cannot be read: {error.strerror}') from error
    digest.update(
      f'{path.relative_to(source)}\0{status.st_size}\0{status.st_mtime_ns}\n'.encode()
    )
  return f'folder-{digest.hexdigest()[:16]}'


def _prepare(
  name: str,
  data_dir: pathlib.Path,
  report: sources.Report,
  options: sources.Options,
  cut: int,
  given: Mapping[str, np.ndarray] | None,
) -> pathlib.Path:
  """Makes sure that the prepared arrays exist and returns their folder."""
  if is_path(name) or arrays.is_given(name):
    key = key_of(name)
  elif _TFDS_NAME.fullmatch(name):
    key = re.sub('[/:]', '-', name)
  else:
    raise DatasetError(
      f'--dataset={name!r} is neither mnist_5k, wine, sprites, xy_squares, '
      'nor the name of a TFDS dataset (such as mnist, fashion_mnist, kmnist), '
      'nor the path of a folder or a file'
    )
  if not (is_path(name) or arrays.is_given(name)):
    cut = min(cut, 2)  # What is prepared of these has not changed since.
  if cut > 1:  # The key was the name alone before.
    key = f'{key}@{cut}'
    if options != sources.OPTIONS:
      key += f'-{hashlib.sha256(repr(options).encode()).hexdigest()[:16]}'
  folder = data_dir / 'prepared' / key
  if folder.is_dir():
    return folder
  with folders.making(folder) as partial:
    if partial:  # Else another process was faster.
      report(f'preparing {name}')
      data = chain.find(name, data_dir, report, options, cut, given)
      prepared.write(name, data, partial, options, cut)
  return folder
