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
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from vae.data import batches, bits, chain, sources

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
    splits: by name; at least 'train' and 'test'.
    provenance: for the manifest: name, version, source, shape, how it was cut,
      number of images and SHA-256 of each split's images, names of the labels
      and number of values of each factor.
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

  @property
  def factors(self) -> Mapping[str, int]:
    """Number of values of each factor, by name, in their order."""
    return dict(self.provenance.get('factors', ()))

  def statically_binarised(self) -> 'Dataset':
    """The dataset with one fixed Bernoulli draw of every pixel."""
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
) -> Dataset:
  """Opens a dataset, preparing it first where that was not done before.

  Args:
    name: 'mnist_5k'; 'wine'; 'sprites'; 'xy_squares'; a TFDS name such as
      'mnist'; the path (with a '/' or '.' at its start) of a folder of images
      or of IDX files, or of a table in a .csv file; or 'auto': full MNIST
      where it can be had, else 'mnist_5k', with a warning.
    data_dir: TFDS's data folder, where prepared arrays are kept too.
    report: is told what is being tried.
    options: how it is read.
    cut: `sources.CUT`, or 1 for the splits of runs that were started before.

  Raises:
    DatasetError: no source has it, its files are damaged, or the name is not
      one; the message lists what was tried and what to do.
  """
  data_dir = pathlib.Path(os.path.expanduser(data_dir)).absolute()
  if is_path(name):  # The name must hold wherever the run is resumed from.
    name = os.path.abspath(os.path.expanduser(name))

  def opened(name: str) -> Dataset:
    return _open(name, _prepare(name, data_dir, report, options, cut))

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


def _prepare(
  name: str,
  data_dir: pathlib.Path,
  report: sources.Report,
  options: sources.Options,
  cut: int,
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
    key = re.sub('[/:]', '-', name)
  else:
    raise DatasetError(
      f'--dataset={name!r} is neither mnist_5k, wine, sprites, xy_squares, '
      'nor the name of a TFDS dataset (such as mnist, fashion_mnist, kmnist), '
      'nor the path of a folder or a .csv file (starting with / or . or ~)'
    )
  if cut > 1:  # The key was the name alone before.
    given = options._asdict().items()
    key = ','.join(
      [f'{key}@{cut}', *(f'{k}={v}' for k, v in given if v is not None)]
    )
  prepared = data_dir / 'prepared' / key
  if prepared.is_dir():
    return prepared
  prepared.parent.mkdir(parents=True, exist_ok=True)
  with _locked(prepared) as partial:
    if prepared.is_dir():  # Another process was faster.
      return prepared
    report(f'preparing {name}')
    partial.mkdir()
    data = chain.find(name, data_dir, report, options, cut)
    _write(name, data, partial, options, cut)
    partial.replace(prepared)
  return prepared


@contextlib.contextmanager
def _locked(prepared: pathlib.Path):
  """Holds a lock that ends with the process, so that none can be stale.

  Yields where to prepare. What preparing leaves there is deleted, also what
  was left by processes that were killed.
  """
  locks = [prepared.parent / f'.{prepared.name}.lock']
  locks += set(prepared.parent.glob('.*.lock')) - set(locks)
  with contextlib.ExitStack() as held:
    for index, lock in enumerate(locks):
      file = held.enter_context(lock.open('w'))
      try:
        fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if index else 0))
      except BlockingIOError:  # Its process lives.
        continue
      shutil.rmtree(lock.with_suffix('.partial'), ignore_errors=True)
      if index:
        file.close()
    partial = locks[0].with_suffix('.partial')
    try:
      yield partial
    finally:
      shutil.rmtree(partial, ignore_errors=True)


def _write(
  name: str,
  data: sources.SourceData,
  folder: pathlib.Path,
  options: sources.Options,
  cut: int,
) -> None:
  """Writes the arrays of each split and their provenance."""
  provenance: dict[str, Any] = {
    'name': name,
    'version': data.version,
    'source': data.source,
    'shape': list(data.splits['train'].shape),
    'num_images': {},
    'sha256': {},
  }
  if cut > 1:  # Older versions did not say.
    provenance |= {'cut': cut, 'mixed': not data.in_order}
  if data.factors:
    # Pairs, because the keys of JSON's objects are sorted on the way.
    provenance['factors'] = [list(item) for item in data.factors.items()]
  if data.label_names:
    provenance['label_names'] = data.label_names
  plan = {}
  for split, part in data.splits.items():
    if list(part.shape) != provenance['shape']:
      raise sources.SourceError(
        f'{data.source}: a {split} example has the shape {part.shape}, one for '
        f'training {data.splits["train"].shape}'
      )
    rows = np.arange(part.num_examples)
    if not data.in_order:
      rows = sources.mixed(part.num_examples, part.labels)
    plan[split] = split, rows
  if 'test' not in plan:
    part = data.splits['train']
    share = options.test_share or sources.TEST_SHARE
    provenance['test_share'] = share
    try:
      train, test = sources.cut(
        part.num_examples, max(1, round(share * part.num_examples)), part.labels
      )
    except sources.SourceError as error:
      raise sources.SourceError(
        f'{error}; --test_share={share:g} is too small for a test split'
      ) from error
    plan |= {'train': ('train', train), 'test': ('train', test)}
  elif options.test_share is not None:
    raise sources.SourceError(
      f'--test_share={options.test_share:g}: {name} has a test split of its own'
    )
  if data.splits['train'].dtype not in (np.uint8, np.bool_):
    data = _standardised(data, *plan['train'])
    provenance['source'] = data.source
  arrays = {}
  for split, (origin, rows) in plan.items():
    part = data.splits[origin]
    shape, dtype = part.shape, part.dtype
    if dtype == np.bool_:
      shape, dtype = (bits.num_bytes(part.shape),), np.uint8
    arrays[split] = _allocated(_path(folder, split), dtype, (len(rows), *shape))
    for kind in ('labels', 'factors'):
      values = getattr(part, kind)
      if values is not None:
        np.save(folder / f'{split}_{kind}.npy', values[rows])
  for origin, part in data.splits.items():
    places = []  # Of each example in the arrays that it may go to.
    for split, (of, rows) in plan.items():
      if of == origin:
        place = np.full(part.num_examples, -1)
        place[rows] = np.arange(len(rows))
        places.append((arrays[split], place))
    filled = 0
    for batch in part.batches():
      if part.dtype == np.bool_:
        batch = bits.pack(batch)
      for array, place in places:
        to = place[filled : filled + len(batch)]
        array[to[to >= 0]] = batch[to >= 0]
      filled += len(batch)
    if filled != part.num_examples:
      raise sources.SourceError(
        f'{data.source} gave {filled:,} {origin} images instead of '
        f'{part.num_examples:,}'
      )
  # TFDS's binarized_mnist holds zeros and ones; here white is 255.
  if all(
    data.splits[plan[split][0]].dtype == np.uint8 and images.max() <= 1
    for split, images in arrays.items()
  ):
    for images in arrays.values():
      np.multiply(images, 255, out=images)
  stamps = {}
  for split, images in arrays.items():
    images.flush()
    provenance['num_images'][split] = len(images)
    path = _path(folder, split)
    provenance['sha256'][split] = _sha256(path, images)
    stamps[split] = _stamp(path)
  _write_json(folder / 'stamps.json', stamps)
  _write_json(folder / 'provenance.json', provenance)


def _standardised(
  data: sources.SourceData, origin: str, train: np.ndarray
) -> sources.SourceData:
  """Columns of mean 0 and deviation 1 over the training rows of a split."""
  tables = {
    split: np.concatenate([*part.batches()])
    for split, part in data.splits.items()
  }
  rows = tables[origin][train]
  # Squares of large numbers overflow. By a power of two, no bit changes.
  scale = 2.0 ** np.frexp(np.abs(rows).max(axis=0))[1]
  mean, deviation = (rows / scale).mean(axis=0), (rows / scale).std(axis=0)
  constant = (rows == rows[0]).all(axis=0)
  mean[constant], deviation[constant] = (rows[0] / scale)[constant], 1.0
  splits = {}
  for split, part in data.splits.items():
    table = ((tables[split] / scale - mean) / deviation).astype(np.float32)
    splits[split] = sources.in_memory(table, part.labels, part.factors)
  source = f'{data.source}, columns standardised by the training rows'
  return data._replace(source=source, splits=splits)


def _write_json(path: pathlib.Path, content: Any) -> None:
  path.write_text(json.dumps(content, indent=2, sort_keys=True) + '\n')


def _allocated(
  path: pathlib.Path, dtype: type, shape: tuple[int, ...]
) -> np.memmap:
  """A new memory-mapped file whose space on the disk is there.

  Raises:
    OSError: the disk is full; a file with holes would end the process instead.
  """
  array = np.lib.format.open_memmap(path, mode='w+', dtype=dtype, shape=shape)
  with path.open('r+b') as file:
    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
  return array


def _path(folder: pathlib.Path, split: str) -> pathlib.Path:
  return folder / f'{split}_images.npy'


def _sha256(path: pathlib.Path, images: np.memmap) -> str:
  """Of the images' bytes, read past the mapping to keep memory flat."""
  with path.open('rb') as file:
    file.seek(images.offset)
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _stamp(path: pathlib.Path) -> list[int]:
  """Changes when the file is written to; cheap where its digest is not."""
  status = path.stat()
  return [status.st_size, status.st_mtime_ns]


def _open(name: str, folder: pathlib.Path) -> Dataset:
  """Opens prepared arrays; those touched since are checked by their digests."""
  cure = f'delete {folder} to have it prepared again'
  stamps = {}
  try:
    provenance = json.loads((folder / 'provenance.json').read_text())
    if (folder / 'stamps.json').exists():
      stamps = json.loads((folder / 'stamps.json').read_text())
    splits = {}
    for split, expected in provenance['sha256'].items():
      if split not in sources.SPLITS:
        raise KeyError(split)
      path = _path(folder, split)
      images = np.load(path, mmap_mode='r', allow_pickle=False)
      touched = stamps.get(split) != _stamp(path)
      if touched and _sha256(path, images) != expected:
        raise DatasetError(f'{path} is damaged: its SHA-256 differs; {cure}')
      targets = []
      for kind in ('labels', 'factors'):
        path = folder / f'{split}_{kind}.npy'
        targets.append(
          np.load(path, allow_pickle=False) if path.exists() else None
        )
      is_packed = images.ndim == 2 and images.dtype == np.uint8
      splits[split] = Split(
        bits.PackedImages(images, provenance['shape']) if is_packed else images,
        *targets,
      )
    if not {'train', 'test'} <= splits.keys():
      raise KeyError('train or test')
  except DatasetError:
    raise
  except Exception as error:  # JSON and NumPy raise many kinds.
    raise DatasetError(f'{folder} is damaged ({error!r}); {cure}') from error
  return Dataset(name, splits, provenance)
