"""Datasets as memory-mapped arrays: preparing, opening, splitting.

What `vae.data.chain` finds is prepared once into files of NumPy under
`DATA_DIR/prepared`, so that a run opens its data in milliseconds and reads
only the images that it needs.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from vae.data import batches, chain, sources

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
  """

  examples: batches.Examples
  labels: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A prepared dataset.

  Attributes:
    name: as the launcher takes it.
    splits: by name; at least 'train' and 'test'.
    provenance: for the manifest: name, version, source, shape, number of
      images and SHA-256 of each split's images.
  """

  name: str
  splits: Mapping[str, Split]
  provenance: Mapping[str, Any]

  @property
  def has_images(self) -> bool:
    """Whether the examples are images; else they are rows of a table."""
    return self.splits['train'].examples.dtype == np.uint8

  @property
  def shape(self) -> tuple[int, ...]:
    """Of one example: [H, W, C], or [F] for a table."""
    return self.splits['train'].examples.shape[1:]

  def statically_binarised(self) -> 'Dataset':
    """The dataset with one fixed Bernoulli draw of every pixel."""
    splits = {
      name: Split(
        batches.statically_binarised(split.examples, name), split.labels
      )
      for name, split in self.splits.items()
    }
    return dataclasses.replace(self, splits=splits)

  def with_validation(self, num_images: int) -> 'Dataset':
    """Makes the last training images the validation split.

    Args:
      num_images: how many; 0 leaves the dataset as it is.

    Raises:
      ValueError: no training image would be left.
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

    def part(images: slice) -> Split:
      labels = None if train.labels is None else train.labels[images]
      return Split(train.examples[images], labels)

    splits = {
      **self.splits,
      'train': part(slice(None, -num_images)),
      'validation': part(slice(-num_images, None)),
    }
    counts = {name: len(split.examples) for name, split in splits.items()}
    provenance = {**self.provenance, 'num_images': counts}
    return dataclasses.replace(self, splits=splits, provenance=provenance)


def load(
  name: str, data_dir: str | os.PathLike, report: sources.Report = print
) -> Dataset:
  """Opens a dataset, preparing it first where that was not done before.

  Args:
    name: 'mnist_5k'; 'wine'; a TFDS name such as 'mnist'; the path (with a '/'
      or '.' at its start) of a folder of images or of IDX files, or of a table
      in a .csv file; or 'auto': full MNIST where it can be had, else
      'mnist_5k', with a warning.
    data_dir: TFDS's data folder, where prepared arrays are kept too.
    report: is told what is being tried.

  Raises:
    DatasetError: no source has it, its files are damaged, or the name is not
      one; the message lists what was tried and what to do.
  """
  data_dir = pathlib.Path(os.path.expanduser(data_dir)).absolute()
  if is_path(name):  # The name must hold wherever the run is resumed from.
    name = os.path.abspath(os.path.expanduser(name))
  try:
    if name != 'auto':
      return _open(name, _prepare(name, data_dir, report))
    try:
      return _open(_FULL, _prepare(_FULL, data_dir, report))
    except sources.SourceError as error:
      report(
        f'WARNING: {error} Going on with {_FALLBACK}, 5,000 images of MNIST; '
        'results are not comparable with full MNIST.'
      )
    fallback = _open(_FALLBACK, _prepare(_FALLBACK, data_dir, report))
    provenance = {**fallback.provenance, 'fallback_for': _FULL}
    return dataclasses.replace(fallback, provenance=provenance)
  except (sources.SourceError, sources.DamagedError) as error:
    raise DatasetError(f'--dataset={name}: {error}') from error
  except OSError as error:
    raise DatasetError(f'--data_dir={data_dir}: {error}') from error


def is_path(name: str) -> bool:
  """Whether a dataset's name is the path of a folder or a table."""
  return name.startswith(('/', '.', '~'))


def _path_digest(source: pathlib.Path) -> str:
  """Changes when the file, or one of the folder, is added or replaced."""
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
  return digest.hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: pathlib.Path):
  """Holds a lock that ends with the process, so that none can be stale."""
  with path.open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _prepare(
  name: str, data_dir: pathlib.Path, report: sources.Report
) -> pathlib.Path:
  """Makes sure that the prepared arrays exist and returns their folder."""
  if is_path(name):
    source = pathlib.Path(name)
    if not source.is_dir() and not (
      source.is_file() and source.suffix == '.csv'
    ):
      raise DatasetError(f'--dataset={name}: no such folder or .csv file')
    key = f'folder-{_path_digest(source)}'
  elif _TFDS_NAME.fullmatch(name):
    source = None
    key = re.sub('[/:]', '-', name)
  else:
    raise DatasetError(
      f'--dataset={name!r} is neither mnist_5k, nor wine, nor the name of a '
      'TFDS dataset (such as mnist, fashion_mnist, kmnist), nor the path of a '
      'folder or a .csv file (starting with / or . or ~)'
    )
  prepared = data_dir / 'prepared' / key
  if prepared.is_dir():
    return prepared
  prepared.parent.mkdir(parents=True, exist_ok=True)
  with _locked(prepared.parent / f'.{key}.lock'):
    if prepared.is_dir():  # Another process was faster.
      return prepared
    report(f'preparing {name}')
    data = chain.find(name, data_dir, report)
    with tempfile.TemporaryDirectory(dir=prepared.parent) as folder:
      complete = pathlib.Path(folder, 'complete')
      complete.mkdir()
      _write(name, data, complete)
      complete.replace(prepared)
  return prepared


def _sha256(images: np.memmap) -> str:
  """Of the images' bytes, read past the mapping to keep memory flat."""
  assert isinstance(images.filename, pathlib.Path)
  with images.filename.open('rb') as file:
    file.seek(images.offset)
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _write(name: str, data: sources.SourceData, folder: pathlib.Path) -> None:
  """Writes the arrays of each split and their provenance."""
  provenance: dict[str, Any] = {
    'name': name,
    'version': data.version,
    'source': data.source,
    'shape': list(data.splits['train'].shape),
    'num_images': {},
    'sha256': {},
  }
  arrays = {}
  for split, part in data.splits.items():
    images = np.lib.format.open_memmap(
      folder / f'{split}_images.npy',
      mode='w+',
      dtype=part.dtype,
      shape=(part.num_examples, *part.shape),
    )
    labels = []
    filled = 0
    for batch, batch_labels in part.batches():
      images[filled : filled + len(batch)] = batch
      filled += len(batch)
      if batch_labels is not None:
        labels.append(batch_labels)
    if filled != part.num_examples:
      raise sources.SourceError(
        f'{data.source} gave {filled:,} {split} images instead of '
        f'{part.num_examples:,}'
      )
    if labels:
      np.save(folder / f'{split}_labels.npy', np.concatenate(labels))
    arrays[split] = images
  # TFDS's binarized_mnist holds zeros and ones; here white is 255.
  if all(
    images.dtype == np.uint8 and images.max() <= 1 for images in arrays.values()
  ):
    for images in arrays.values():
      np.multiply(images, 255, out=images)
  for split, images in arrays.items():
    images.flush()
    provenance['num_images'][split] = len(images)
    provenance['sha256'][split] = _sha256(images)
  (folder / 'provenance.json').write_text(
    json.dumps(provenance, indent=2, sort_keys=True) + '\n'
  )


def _open(name: str, folder: pathlib.Path) -> Dataset:
  """Opens prepared arrays and checks them against their digests."""
  cure = f'delete {folder} to have it prepared again'
  try:
    provenance = json.loads((folder / 'provenance.json').read_text())
    splits = {}
    for split, expected in provenance['sha256'].items():
      if split not in sources.SPLITS:
        raise KeyError(split)
      images = np.load(
        folder / f'{split}_images.npy', mmap_mode='r', allow_pickle=False
      )
      if _sha256(images) != expected:
        raise DatasetError(
          f'{folder}/{split}_images.npy is damaged: its SHA-256 differs; {cure}'
        )
      labels = folder / f'{split}_labels.npy'
      splits[split] = Split(
        images,
        np.load(labels, allow_pickle=False) if labels.exists() else None,
      )
    if not {'train', 'test'} <= splits.keys():
      raise KeyError('train or test')
  except DatasetError:
    raise
  except Exception as error:  # JSON and NumPy raise many kinds.
    raise DatasetError(f'{folder} is damaged ({error!r}); {cure}') from error
  return Dataset(name, splits, provenance)
