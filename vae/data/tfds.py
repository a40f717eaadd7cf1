"""TFDS: its prepared copies, its downloads, and its order of IDX files.

Three names that TFDS does not document are used here and nowhere else:
`gcs_utils._is_gcs_disabled`, `download_manager.NonMatchingChecksumError` and a
builder's `_split_generators`. They hold for TFDS 4.9; a test says so where
another is installed.
"""

import functools
import os
import pathlib
import sys
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from vae.data import folders, hosts, idx, images, sources, sprites

_BUCKET = 'https://storage.googleapis.com/tfds-data'


@functools.cache
def _bucket_answers() -> bool:
  """Returns whether TFDS's bucket of prepared datasets can be reached.

  TFDS asks the bucket whenever it builds a dataset that is not prepared yet,
  and retries for minutes where it cannot be reached.
  """
  return hosts.unreachable(_BUCKET) is None


def builder_of(
  name: str, data_dir: pathlib.Path, image_size: int | None = None
):
  """Makes TFDS's builder of an image dataset; nothing is downloaded.

  Args:
    name: of the dataset.
    data_dir: TFDS's data folder.
    image_size: to which images of several sizes are brought.

  Raises:
    SourceError: TFDS does not know it, or it has no images of one size.
  """
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.utils import gcs_utils

  gcs_utils._is_gcs_disabled = not _bucket_answers()
  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError:
    raise sources.SourceError(f'TFDS has no dataset named {name!r}') from None
  except (ValueError, AssertionError, RuntimeError) as error:
    raise sources.SourceError(
      f'TFDS refuses {name!r}: {sources.one_line(error)}'
    ) from error
  features = builder.info.features
  is_dict = isinstance(features, tfds.features.FeaturesDict)
  image = features['image'] if is_dict and 'image' in features else None
  if not isinstance(image, tfds.features.Image) or image.shape[-1] is None:
    raise sources.SourceError(
      f'the TFDS dataset {name!r} does not hold images '
      f'(its features: {sources.one_line(str(features))})'
    )
  if None in image.shape and image_size is None:
    raise sources.SourceError(
      f'the images of the TFDS dataset {name!r} differ in size; '
      '--image_size=64 crops each to its middle square and resizes it'
    )
  return builder


def _from_builder(
  builder, source: str, image_size: int | None = None
) -> sources.SourceData:
  """Reads what TFDS prepared, in the order of its files."""
  import tensorflow as tf
  import tensorflow_datasets as tfds

  features = builder.info.features
  # The classes of an image: its label, or else the values of its factors.
  classes = {
    name: feature
    for name, feature in features.items()
    if isinstance(feature, tfds.features.ClassLabel)
  }
  names = tuple(classes['label'].names) if 'label' in classes else None
  factors = {} if names else classes
  shape = tuple(features['image'].shape)
  differ = None in shape
  if differ:
    assert image_size is not None  # Else `builder_of` refuses.
    shape = image_size, image_size, shape[2]
    source += images.resizing(image_size)

  def read(split: str, *chosen: str) -> Iterator[dict[str, np.ndarray]]:
    dataset = builder.as_dataset(
      split=split,
      batch_size=1 if differ else 1000,
      shuffle_files=False,
      decoders=tfds.decode.PartialDecoding(dict.fromkeys(chosen, True)),
      read_config=tfds.ReadConfig(
        interleave_cycle_length=1, try_autocache=False
      ),
    )
    try:
      yield from tfds.as_numpy(dataset)
    except tf.errors.OpError as error:
      raise sources.DamagedError(
        f'{builder.data_path} is damaged: {sources.one_line(error)}; delete it '
        'to have it prepared again'
      ) from error

  def read_images(split: str) -> Iterator[np.ndarray]:
    for batch in read(split, 'image'):
      if image_size and differ:
        yield images.fitted(batch['image'][0], image_size)[None]
      else:
        yield batch['image']

  def columns(split: str, chosen: Iterable[str]) -> np.ndarray:
    parts = [
      np.stack([batch[name] for name in chosen], axis=-1)
      for batch in read(split, *chosen)
    ]
    return np.concatenate(parts).astype(np.int64)

  available = builder.info.splits
  if 'train' not in available:
    raise sources.SourceError(
      f'the TFDS dataset {builder.name!r} has no split named train '
      f'(it has {", ".join(available)})'
    )
  splits = {}
  for name in sources.SPLITS:
    if name not in available:
      continue
    # Where no test set is published, the validation set takes its place.
    role = 'test' if name == 'validation' and 'test' not in available else name
    splits[role] = sources.SourceSplit(
      available[name].num_examples,
      shape,
      functools.partial(read_images, name),
      columns(name, ['label'])[:, 0] if names else None,
      columns(name, factors) if factors else None,
      np.bool_ if builder.name == 'dsprites' else np.uint8,
    )
  return sources.SourceData(
    str(builder.version),
    source,
    splits,
    factors={
      name.removeprefix('label_'): feature.num_classes
      for name, feature in factors.items()
    },
    value_names={
      name.removeprefix('label_'): tuple(feature.names)
      for name, feature in factors.items()
      if _say_something(feature.names)
    }
    | (sprites.VALUE_NAMES if builder.name == 'dsprites' else {}),
    label_names=names if names and _say_something(names) else None,
    in_order='test' in splits,  # TFDS's, which is mixed.
  )


def _say_something(names: Sequence[str]) -> bool:
  """Says if names are others than 0, 1, ..."""
  return tuple(names) != tuple(map(str, range(len(names))))


class _LocalFiles:
  """Stands where TFDS's builders of IDX files expect a download manager."""

  def __init__(self, files: Mapping[str, pathlib.Path]):
    self._files = files

  def download_and_extract(self, urls: Mapping[str, str]) -> dict[str, str]:
    roles = {stem: role for role, stem in idx.FILES.items()}
    stems = {
      key: pathlib.PurePosixPath(url).name.removesuffix('.gz')
      for key, url in urls.items()
    }
    return {
      key: os.fspath(self._files[roles[stem]]) for key, stem in stems.items()
    }


def _prepare(
  builder, source: str, try_bucket: bool, image_size: int | None = None
) -> sources.SourceData:
  """Has TFDS's own builder download what it needs and prepare itself."""
  import tensorflow_datasets as tfds

  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  with folders.locked(pathlib.Path(builder.data_path)):
    if builder.data_path.exists():  # Another process was faster.
      builder.info.read_from_directory(builder.data_path)
    else:
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
          try_download_gcs=try_bucket
        )
      )
  return _from_builder(builder, source, image_size)


def prepare_from_idx(
  name: str,
  data_dir: pathlib.Path,
  files: Mapping[str, pathlib.Path],
  source: str,
) -> sources.SourceData:
  """Has TFDS's own builder prepare IDX files.

  The images then come in TFDS's order whatever they were made from, so that a
  seed gives the same run on every machine.
  """
  idx.check(name, files)
  with tempfile.TemporaryDirectory() as folder:
    plain = {}
    for role, path in files.items():
      plain[role] = path
      if path.suffix == '.gz':  # TFDS expects its downloads decompressed.
        plain[role] = pathlib.Path(folder, path.stem)
        plain[role].write_bytes(idx.read_bytes(path))
    builder = builder_of(name, data_dir)
    generators = type(builder)._split_generators
    builder._split_generators = lambda manager: generators(
      builder, _LocalFiles(plain)
    )
    return _prepare(builder, source, try_bucket=False)


def prepared_copy(
  name: str, data_dir: pathlib.Path, image_size: int | None = None
) -> sources.SourceData:
  """Returns what TFDS prepared before; see `builder_of`."""
  builder = builder_of(name, data_dir, image_size)
  if not builder.data_path.exists():
    raise sources.SourceError(f'none under {data_dir}')
  return _from_builder(builder, "TFDS's prepared copy", image_size)


def download(
  name: str,
  data_dir: pathlib.Path,
  report: sources.Report,
  image_size: int | None = None,
) -> sources.SourceData:
  """Has TFDS download a dataset and prepare it; see `builder_of`."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.download import download_manager

  builder = builder_of(name, data_dir, image_size)
  if not _bucket_answers():
    urls = builder.url_infos or ()  # Not every builder registers its URLs.
    for url in {
      urllib.parse.urlsplit(url).netloc: url for url in urls
    }.values():
      if reason := hosts.unreachable(url):
        raise sources.SourceError(reason)
  report(f'{name}: TFDS downloads to {data_dir}')
  try:
    return _prepare(builder, 'TFDS download', _bucket_answers(), image_size)
  except (
    AssertionError,  # Data that must be downloaded by hand.
    OSError,
    RuntimeError,
    tfds.download.DownloadError,
    download_manager.NonMatchingChecksumError,
  ) as error:
    raise sources.SourceError(
      f'{type(error).__name__}: {sources.one_line(error)}'
    ) from error
