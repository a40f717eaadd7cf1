"""TFDS: its prepared copies, its downloads, and its order of IDX files."""

import functools
import os
import pathlib
import sys
import tempfile
import urllib.parse
from collections.abc import Mapping

import numpy as np

from vae.data import hosts, idx, sources

_BUCKET = 'https://storage.googleapis.com/tfds-data'


@functools.cache
def _bucket_answers() -> bool:
  """Whether TFDS's bucket of prepared datasets can be reached.

  TFDS asks the bucket whenever it builds a dataset that is not prepared yet,
  and retries for minutes where it cannot be reached.
  """
  return hosts.unreachable(_BUCKET) is None


def builder_of(name: str, data_dir: pathlib.Path):
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.utils import gcs_utils

  gcs_utils._is_gcs_disabled = not _bucket_answers()
  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError:
    raise sources.SourceError(f'TFDS has no dataset named {name!r}') from None
  except (ValueError, AssertionError, RuntimeError) as error:
    reason = ' '.join(str(error).split())
    raise sources.SourceError(
      f'TFDS refuses {name!r}: {reason[:200]}'
    ) from error
  features = builder.info.features
  is_dict = isinstance(features, tfds.features.FeaturesDict)
  image = features['image'] if is_dict and 'image' in features else None
  if not isinstance(image, tfds.features.Image) or None in image.shape:
    raise sources.SourceError(
      f'the TFDS dataset {name!r} does not hold images of one fixed size '
      f'(its features: {" ".join(str(features).split())[:200]})'
    )
  return builder


def _from_builder(builder, source: str) -> sources.SourceData:
  """Reads what TFDS prepared, in the order of its files."""
  import tensorflow as tf
  import tensorflow_datasets as tfds

  features = builder.info.features
  names = None
  if 'label' in features and isinstance(
    features['label'], tfds.features.ClassLabel
  ):
    names = tuple(features['label'].names)

  def batches(split: str, feature: str):
    dataset = builder.as_dataset(
      split=split,
      batch_size=1000,
      shuffle_files=False,
      decoders=tfds.decode.PartialDecoding({feature: True}),
      read_config=tfds.ReadConfig(
        interleave_cycle_length=1, try_autocache=False
      ),
    )
    try:
      for batch in tfds.as_numpy(dataset):
        yield batch[feature]
    except tf.errors.OpError as error:
      reason = ' '.join(str(error).split())
      raise sources.DamagedError(
        f'{builder.data_path} is damaged: {reason[:200]}; delete it to have it '
        'prepared again'
      ) from error

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
    labels = None
    if names:
      labels = np.concatenate([*batches(name, 'label')]).astype(np.int64)
    splits[role] = sources.SourceSplit(
      available[name].num_examples,
      tuple(features['image'].shape),
      functools.partial(batches, name, 'image'),
      labels,
    )
  return sources.SourceData(
    str(builder.version),
    source,
    splits,
    # Names that are the labels themselves say nothing.
    label_names=names
    if names != tuple(map(str, range(len(names or ()))))
    else None,
    in_order='test' in splits,  # TFDS's, which is mixed.
  )


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


def _prepare(builder, source: str, try_bucket: bool) -> sources.SourceData:
  """Has TFDS's own builder download what it needs and prepare itself."""
  import tensorflow_datasets as tfds

  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=try_bucket)
  )
  return _from_builder(builder, source)


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


def prepared_copy(name: str, data_dir: pathlib.Path) -> sources.SourceData:
  builder = builder_of(name, data_dir)
  if not builder.data_path.exists():
    raise sources.SourceError(f'none under {data_dir}')
  return _from_builder(builder, "TFDS's prepared copy")


def download(
  name: str, data_dir: pathlib.Path, report: sources.Report
) -> sources.SourceData:
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.download import download_manager

  builder = builder_of(name, data_dir)
  if not _bucket_answers():
    urls = builder.url_infos or ()  # Not every builder registers its URLs.
    for url in {
      urllib.parse.urlsplit(url).netloc: url for url in urls
    }.values():
      if reason := hosts.unreachable(url):
        raise sources.SourceError(reason)
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
    raise sources.SourceError(
      f'{type(error).__name__}: {reason[:200]}'
    ) from error
