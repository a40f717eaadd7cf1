"""Prepared arrays: written once, then opened memory-mapped in milliseconds."""

import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np

from vae.data import bits, sources

# Entries of a provenance that name what the examples hold, where there are any.
NAMES = ('factors', 'value_names', 'label_names')


def write(
  name: str,
  data: sources.SourceData,
  folder: pathlib.Path,
  options: sources.Options,
  cut: int,
) -> None:
  """Writes the arrays of each split and their provenance.

  Args:
    name: of the dataset.
    data: what its source gives.
    folder: an empty one.
    options: how splits are cut.
    cut: `sources.CUT`, or 1 as older versions did.

  Raises:
    SourceError: splits that cannot be, or a source that fails.
    DamagedError: files of the source are damaged.
    OSError: the disk is full.
  """
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
  if data.splits['train'].dtype == np.bool_:
    provenance['pixels'] = 'binary'
  provenance |= _names(data)
  share = options.test_share
  if 'test' not in data.splits:
    share = sources.TEST_SHARE if share is None else share
    provenance['test_share'] = share
  elif share is not None:
    raise sources.SourceError(
      f'--test_share={share:g}: {name} has a test split of its own'
    )
  provenance['source'] += _missing(data)
  data = data._replace(source=provenance['source'])
  plan = _plan(data, share)
  dtype = data.splits['train'].dtype
  packed = dtype == np.bool_
  if not packed and dtype != np.uint8:
    data, provenance['columns'] = _standardised(data, *plan['train'])
    provenance['source'] = data.source
  arrays = {}
  for split, (origin, rows) in plan.items():
    part = data.splits[origin]
    shape, dtype = part.shape, part.dtype
    if packed:
      shape, dtype = (bits.num_bytes(shape),), np.uint8
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
      held = bits.pack(batch) if packed else batch
      for array, place in places:
        to = place[filled : filled + len(batch)]
        array[to[to >= 0]] = held[to >= 0]
      filled += len(batch)
    if filled != part.num_examples:
      raise sources.SourceError(
        f'{data.source} gave {filled:,} {origin} images instead of '
        f'{part.num_examples:,}'
      )
  # TFDS's binarized_mnist holds zeros and ones; here white is 255.
  if not packed and all(
    images.dtype == np.uint8 and images.max() <= 1 for images in arrays.values()
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


def _names(data: sources.SourceData) -> dict[str, Any]:
  """The entries of a provenance that are `NAMES`."""
  return {
    name: value
    for name, value in {
      # Pairs, because the keys of JSON's objects are sorted on the way.
      'factors': [list(item) for item in data.factors.items()],
      'value_names': {k: list(v) for k, v in data.value_names.items()},
      'label_names': data.label_names and list(data.label_names),
    }.items()
    if value
  }


def _plan(
  data: sources.SourceData, share: float | None
) -> dict[str, tuple[str, np.ndarray]]:
  """Returns of which split of the source each is, and its rows in order.

  Args:
    data: what the source gives.
    share: of the training examples that become the test split; None or 0 for
      the splits of the source.
  """
  plan = {}
  for split, part in data.splits.items():
    if tuple(part.shape) != tuple(data.splits['train'].shape):
      raise sources.SourceError(
        f'{data.source}: a {split} example has the shape {part.shape}, one for '
        f'training {data.splits["train"].shape}'
      )
    rows = np.arange(part.num_examples)
    if not data.in_order:
      rows = sources.mixed(part.num_examples, part.labels)
    plan[split] = split, rows
  if not share:
    return plan
  part = data.splits['train']
  # Two at least, of which a mean has a standard error.
  num_test = max(2, round(share * part.num_examples))
  try:
    train, test = sources.cut(part.num_examples, num_test, part.labels)
  except sources.SourceError as error:
    raise sources.SourceError(f'--test_share={share:g}: {error}') from error
  return plan | {'train': ('train', train), 'test': ('train', test)}


def _missing(data: sources.SourceData) -> str:
  """Says which classes a split lacks that the source itself cut."""
  notes = ''
  labels = {s: p.labels for s, p in data.splits.items() if p.labels is not None}
  if labels:
    classes = np.unique(np.concatenate([*labels.values()]))
    for split, held in labels.items():
      missing = np.setdiff1d(classes, held)
      if missing.size:
        names = data.label_names or ()
        first = names[missing[0]] if missing[0] < len(names) else missing[0]
        notes += (
          f'; WARNING: its {split} split lacks {missing.size} of '
          f'{classes.size} classes, such as {first}'
        )
  return notes


def _standardised(
  data: sources.SourceData, origin: str, train: np.ndarray
) -> tuple[sources.SourceData, dict[str, list[float]]]:
  """Columns of mean 0 and deviation 1 over the training rows of a split.

  And what was the mean and deviation of each.
  """
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
  columns = {
    'mean': (mean * scale).tolist(),
    'deviation': (deviation * scale).tolist(),
  }
  return data._replace(source=source, splits=splits), columns


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
  """Digests the images' bytes, past the mapping to keep memory flat."""
  with path.open('rb') as file:
    file.seek(images.offset)
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _stamp(path: pathlib.Path) -> list[int]:
  """Changes when the file is written to; cheap where its digest is not."""
  status = path.stat()
  return [status.st_size, status.st_mtime_ns]


def read(
  folder: pathlib.Path, about: sources.SourceData | None = None
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
  """Opens prepared arrays; those touched since are checked by their digests.

  Args:
    folder: from `write`.
    about: what is said of the dataset now; its words and names are taken for
      those of then where it is the same version, whose images are the same.

  Returns:
    The `examples`, `labels` and `factors` of each split, and the provenance.

  Raises:
    DamagedError: files that are not what was written.
  """
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
      examples = np.load(path, mmap_mode='r', allow_pickle=False)
      touched = stamps.get(split) != _stamp(path)
      if touched and _sha256(path, examples) != expected:
        raise sources.DamagedError(
          f'{path} is damaged: its SHA-256 differs; {cure}'
        )
      if examples.ndim == 2 and examples.dtype == np.uint8:
        examples = bits.PackedImages(examples, provenance['shape'])
      splits[split] = {'examples': examples}
      for kind in ('labels', 'factors'):
        path = folder / f'{split}_{kind}.npy'
        if path.exists():
          splits[split][kind] = np.load(path, allow_pickle=False)
    if about and about.version == provenance['version']:
      kept = {k: v for k, v in provenance.items() if k not in NAMES}
      provenance = kept | {'source': about.source} | _names(about)
    expected = {'train'}
    if provenance.get('test_share') != 0:
      expected.add('test')
    if not expected <= splits.keys():
      raise KeyError('train or test')
  except sources.DamagedError:
    raise
  except Exception as error:  # JSON and NumPy raise many kinds.
    raise sources.DamagedError(
      f'{folder} is damaged ({error!r}); {cure}'
    ) from error
  return splits, provenance
