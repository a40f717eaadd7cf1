"""The contract of a run directory: its files, columns and loaders.

The one module of `launch` that `analysis` may import. No TensorFlow here.
"""

import contextlib
import csv
import io
import json
import math
import os
import pathlib
import types
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from launch import files

if TYPE_CHECKING:
  import pandas as pd

FORMAT = 1

CONFIG = 'config.json'
MANIFEST = 'manifest.json'
TRAIN = 'train.csv'
TERMS = 'terms.csv'
TIMING = 'timing.csv'
EVAL = 'eval.csv'
RATE_PER_LATENT = 'rate_per_latent.csv'
SCORES = 'scores.csv'
SWEEP_SCORES = 'scores of a sweep'
BENCHMARK = 'benchmark.csv'
SWEEP = 'sweep.csv'
SWEEP_PLAN = 'sweep.json'
LOG = 'log.txt'
EXPLORE = 'explore.html'
CHECKPOINTS = 'checkpoints'
ARRAYS = 'arrays'
FIGURES = 'figures'
SAVED_MODEL = 'saved_model'
TENSORBOARD = 'tensorboard'

# The columns of each table, in their order.
COLUMNS: Mapping[str, tuple[str, ...]] = {
  name: tuple(columns.split())
  for name, columns in {
    TRAIN: 'step epoch beta learning_rate total reconstruction kl '
    'distortion_nats rate_nats elbo_nats',
    TERMS: 'step term value',
    TIMING: 'step seconds',
    EVAL: 'step split n metric num_samples value se',
    RATE_PER_LATENT: 'step split latent rate_nats mean_variance',
    SCORES: 'step split n score variant draw_seed value se floor exact active '
    'settings',
    SWEEP_SCORES: 'run_dir step split n score variant draw_seed value group '
    'num_models settings',
    BENCHMARK: 'part task contestant version device repeat metric value',
  }.items()
}

# What a column holds where it is not a number, or none.
_CONTENTS: Mapping[str, str] = {
  column: content
  for content, columns in {
    'words': 'split term metric part task contestant version device score '
    'variant settings run_dir group',
    'counts': 'step n num_samples latent draw_seed active num_models',
  }.items()
  for column in columns.split()
}

# What identifies a row that a later write replaces.
KEYS: Mapping[str, tuple[str, ...]] = {
  EVAL: ('step', 'split', 'metric', 'num_samples'),
  RATE_PER_LATENT: ('step', 'split', 'latent'),
  SCORES: ('step', 'split', 'score', 'variant', 'draw_seed'),
  SWEEP_SCORES: ('run_dir', 'score', 'variant', 'draw_seed'),
}

# The tables of a run; the others stand alone.
RUN_TABLES = (TRAIN, TERMS, TIMING, EVAL, RATE_PER_LATENT)

# Those that older runs lack, where they are as if they were empty.
_LATER_TABLES = (TERMS, SCORES, SWEEP_SCORES)

# The file of a table whose name is not that.
_FILES = {SWEEP_SCORES: SCORES}

# The contestant of the benchmark beside which the others are shown.
OURS = 'this project'

# A column of sweep.csv that is no setting: the value of the one that differs
# from objective to objective, where these have grids of their own.
STRENGTH = 'strength'

# What every figure says of itself, before the name of its command.
DRAWN_BY = 'drawn by: python -m analysis.'

# What the page to look at a run with says of itself.
EXPLORED_BY = 'written by: python -m launch.explore'

STATUSES = ('running', 'finished', 'failed', 'interrupted')


class RecordError(ValueError):
  """A run directory or one of its files cannot be read or written."""


# -- What a file may hold -----------------------------------------------------
# A run directory may come from anywhere, so that nothing read from it is used
# before it is known to be what the code that takes it expects.

# Larger examples than any: a gigabyte each.
_MOST_VALUES = 2**28


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_flag(value: Any) -> bool:
  return type(value) is bool


def _is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
  return type(value) in (int, float) and abs(value) <= 1e38  # No NaN either.


def _is_finite(value: Any) -> bool:
  return type(value) is float and math.isfinite(value)


def _is_shape(value: Any) -> bool:
  if not isinstance(value, list) or len(value) not in (1, 3):
    return False
  sides = all(map(_is_count, value))
  return sides and 1 <= math.prod(value) <= _MOST_VALUES


def _each(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: (
    isinstance(value, dict) and all(map(is_valid, value.values()))
  )


def _or_none(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: value is None or is_valid(value)


def _list_of(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
  return lambda value: isinstance(value, list) and all(map(is_valid, value))


def _with(
  later: Mapping[str, Callable[[Any], bool]] = types.MappingProxyType({}),
  **entries: Callable[[Any], bool],
) -> Callable[[Any], bool]:
  """Returns what checks an object's entries; those of `later` may lack."""
  return lambda value: (
    isinstance(value, dict)
    and all(
      key in value and is_valid(value[key]) for key, is_valid in entries.items()
    )
    and all(
      is_valid(value[key]) for key, is_valid in later.items() if key in value
    )
  )


def _is_splits(value: Any) -> bool:
  return _each(_is_count)(value) and 'train' in value


_SESSION = {
  'started': _is_text,
  'packages': _each(_is_text),
  'source': _with(commit=_or_none(_is_text), dirty=lambda value: True),
  'device': _with(name=_is_text, type=_is_text),
}

# Entries of a dataset that not every one has.
_DATASET_LATER = {
  'cut': _is_count,
  'pixels': _is_text,
  'label_names': _or_none(_list_of(_is_text)),
  'value_names': _each(_list_of(_is_text)),
  'factors': _or_none(
    _list_of(
      lambda item: (
        isinstance(item, list)
        and len(item) == 2
        and _is_text(item[0])
        and _is_count(item[1])
      )
    )
  ),
  'columns': _with(mean=_list_of(_is_finite), deviation=_list_of(_is_finite)),
}

_MANIFEST = {
  **_SESSION,
  'status': lambda value: value in STATUSES,
  'effective_beta': _or_none(_is_number),
  'dataset': _with(
    _DATASET_LATER,
    name=_is_text,
    version=_is_text,
    source=_is_text,
    shape=_is_shape,
    num_images=_is_splits,
    sha256=_each(_is_text),
  ),
}

# Entries of manifest.json that not every run has.
_MANIFEST_LATER = {
  'id': _is_text,
  'has_elbo': _is_flag,
  'has_density': _is_flag,
  'takes_beta': _is_flag,
  'weights': _each(_is_number),
  'best_step': _is_count,
  'seconds': _is_number,
  'targets': _is_text,
  'num_parameters': _each(_is_count),
  'resumed': _list_of(_with(**_SESSION)),
}

# Settings that figures are made of; `launch.settings.config` checks the rest.
_CONFIG = {
  'beta': _is_number,
  'latent_size': _is_count,
  'reduction': lambda value: value in ('mean', 'sum'),
  'seed': _is_count,
}


def _check(
  path: pathlib.Path,
  content: Mapping[str, Any],
  entries: Mapping[str, Callable[[Any], bool]],
) -> None:
  """Raises RecordError unless the entries are there and can be."""
  if missing := sorted(entries.keys() - content.keys()):
    raise RecordError(f'{path} is damaged: it lacks {", ".join(missing)}')
  for key, is_valid in entries.items():
    if not is_valid(content[key]):
      shown = repr(content[key])
      raise RecordError(f'{path} is damaged: its {key} is {shown[:100]}')


def _is_cell(column: str, text: str) -> bool:
  """Returns whether a text may stand in a column of a table."""
  if _CONTENTS.get(column) == 'words':
    return True
  if _CONTENTS.get(column) == 'counts':
    return text.isascii() and text.isdigit() and len(text) < 19
  try:
    return not text or math.isfinite(float(text))
  except ValueError:
    return False


def text(value: Any) -> str:
  """Returns a setting as one would type it, to its last digit."""
  if isinstance(value, list | tuple):
    return ','.join(map(text, value))
  if isinstance(value, float) and float(f'{value:g}') == value:
    return f'{value:g}'
  return str(value)


# -- Whole files --------------------------------------------------------------


def write_manifest(run_dir: pathlib.Path, manifest: Mapping[str, Any]) -> None:
  """Replaces manifest.json."""
  write_object(run_dir / MANIFEST, manifest)


def read_manifest(run_dir: str | os.PathLike) -> dict[str, Any]:
  """Reads manifest.json.

  Raises:
    RecordError: no run directory, a damaged manifest, or one of another format.
  """
  path = pathlib.Path(run_dir, MANIFEST)
  if not path.exists():
    raise RecordError(f'{run_dir} is no run directory: it has no {MANIFEST}')
  manifest = read_object(path)
  if (found := manifest.get('format')) != FORMAT:
    raise RecordError(
      f'{path} has format {found!r:.100}; this version reads format {FORMAT}'
    )
  later = manifest.keys() & _MANIFEST_LATER.keys()
  _check(
    path, manifest, _MANIFEST | {key: _MANIFEST_LATER[key] for key in later}
  )
  if 'has_elbo' not in manifest and pathlib.Path(run_dir, CONFIG).exists():
    manifest |= _said_by_names(read_config(run_dir))
  return manifest


def _said_by_names(config: Mapping[str, Any]) -> dict[str, bool]:
  """Says what manifests of older runs leave to the names of the parts."""
  has_elbo = (
    config.get('posterior') != 'deterministic'
    and config.get('likelihood') != 'squared_error'
  )
  is_grey = config.get('binarize', 'none') == 'none'
  cross_entropy = is_grey and config.get('likelihood') in (None, 'bernoulli')
  return {
    'has_elbo': has_elbo,
    'has_density': has_elbo and not cross_entropy,
    'takes_beta': has_elbo and config.get('objective') not in ('iwae', 'dreg'),
  }


def read_config(run_dir: str | os.PathLike) -> dict[str, Any]:
  """Reads config.json as a plain dictionary.

  Also where a setting names a part that this code does not have, since figures
  need none of them; `launch.settings.config.load` checks every one.

  Raises:
    RecordError: a file that is missing or damaged.
  """
  path = pathlib.Path(run_dir, CONFIG)
  settings = read_object(path)
  _check(path, settings, _CONFIG)
  return settings


def write_object(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  """Replaces a file of JSON that holds one object, with its keys sorted."""
  text = json.dumps(content, indent=2, sort_keys=True) + '\n'
  files.replace_file(path, text.encode())


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """Reads a file of JSON that holds one object.

  Raises:
    RecordError: a file that is missing or damaged.
  """
  try:
    content = json.loads(files.read_bytes(path).decode())
  except (OSError, ValueError, RecursionError) as error:
    raise RecordError(f'{path} cannot be read: {error}') from error
  if not isinstance(content, dict):
    raise RecordError(f'{path} must hold one JSON object')
  return content


# -- Tables -------------------------------------------------------------------


def _cell(value: Any) -> str:
  is_number = isinstance(value, float | np.floating)
  if value is None or (is_number and not math.isfinite(value)):
    return ''  # An empty cell is a number that does not exist.
  return str(value)


def to_csv(lines: Iterable[Sequence[Any]]) -> str:
  """Returns lines as CSV; what is None or not finite is an empty cell."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  writer.writerows([_cell(cell) for cell in line] for line in lines)
  return buffer.getvalue()


def _cells(name: str, row: Mapping[str, Any]) -> list[Any]:
  columns = COLUMNS[name]
  if row.keys() != set(columns):
    raise ValueError(
      f'{name} has the columns {columns}, got a row with {tuple(row)}'
    )
  return [row[column] for column in columns]


def _path(folder: str | os.PathLike, name: str) -> pathlib.Path:
  return pathlib.Path(folder, _FILES.get(name, name))


def write_table(
  run_dir: pathlib.Path, name: str, rows: Iterable[Mapping[str, Any]] = ()
) -> None:
  """Replaces a table, or makes it, of its header alone where there are no rows.

  Args:
    run_dir: the run.
    name: the table.
    rows: a value for each column, as in `append`.

  Raises:
    ValueError: a key that is unknown or missing.
  """
  lines = [COLUMNS[name], *(_cells(name, row) for row in rows)]
  files.replace_file(_path(run_dir, name), to_csv(lines).encode())


def append(run_dir: pathlib.Path, name: str, *rows: Mapping[str, Any]) -> None:
  """Appends rows in one write, so that a kill leaves whole rows.

  Args:
    run_dir: the run.
    name: the table.
    *rows: of each a value for each column; None, or what is not finite, for a
      number that does not exist.

  Raises:
    ValueError: a key that is unknown or missing.
  """
  content = to_csv(_cells(name, row) for row in rows)
  files.append_text(_path(run_dir, name), content)


def read_lines(path: pathlib.Path) -> list[list[str]]:
  """Returns the cells of a CSV file, without a last line that is half-written.

  Returns:
    The header, if there is one, and the rows, each as long as it.

  Raises:
    RecordError: a file that is missing or damaged.
  """
  try:
    text = files.read_bytes(path).decode()
    whole = text[: text.rfind('\n') + 1]
    lines = list(csv.reader(io.StringIO(whole), strict=True))
  except (OSError, ValueError, csv.Error) as error:
    raise RecordError(f'{path} cannot be read: {error}') from error
  for number, line in enumerate(lines, 1):
    if len(line) != len(lines[0]):
      raise RecordError(f'{path} is damaged at line {number}')
  return lines


def read_rows(run_dir: str | os.PathLike, name: str) -> list[dict[str, str]]:
  """Reads the rows of a table as text, without a half-written last one.

  Raises:
    RecordError: a missing file, another header, or damaged rows.
  """
  path = _path(run_dir, name)
  if name in _LATER_TABLES and not path.exists():
    return []
  lines = read_lines(path)
  if not lines or tuple(lines[0]) != COLUMNS[name]:
    raise RecordError(f'{path} does not start with {",".join(COLUMNS[name])}')
  for number, line in enumerate(lines[1:], 2):
    if not all(map(_is_cell, COLUMNS[name], line)):
      raise RecordError(f'{path} is damaged at line {number}')
  return [dict(zip(COLUMNS[name], line, strict=True)) for line in lines[1:]]


def read_table(run_dir: str | os.PathLike, name: str) -> 'pd.DataFrame':
  """Returns a table as a data frame; empty cells are NaN.

  Raises:
    RecordError: a missing file, another header, or damaged rows.
  """
  import pandas as pd

  frame = pd.DataFrame(read_rows(run_dir, name), columns=list(COLUMNS[name]))
  for column in frame.columns:
    if _CONTENTS.get(column) == 'words':
      continue
    try:
      frame[column] = pd.to_numeric(frame[column].replace('', None))
    except (ValueError, TypeError) as error:
      path = _path(run_dir, name)
      raise RecordError(f'{path}: column {column}: {error}') from error
  return frame


def result_split(manifest: Mapping[str, Any]) -> str:
  """Returns the split that a run is evaluated on: 'train' where all train."""
  return 'test' if 'test' in manifest['dataset']['num_images'] else 'train'


# What a commit is called that is not known, or that is not all there was.
UNKNOWN, CHANGED = 'unknown', ' with changes'


def commit(session: Mapping[str, Any], digits: int = 40) -> str:
  """Returns the commit that a session of a run ran at, and if it had changes.

  Args:
    session: the manifest, or one of its `resumed`.
    digits: of the commit.
  """
  source = session['source']
  changed = CHANGED if source['dirty'] else ''
  return (source['commit'] or UNKNOWN)[:digits] + changed


def commits(manifest: Mapping[str, Any]) -> str:
  """Returns the commits that a run ran at, in turn."""
  sessions = (manifest, *manifest.get('resumed', ()))
  return ', then '.join(dict.fromkeys(map(commit, sessions)))


def named(
  manifest: Mapping[str, Any], values: np.ndarray, factor: str | None = None
) -> np.ndarray:
  """Returns the names of values, or values that have none as they are.

  Args:
    manifest: of the run.
    values: labels, or values of a factor, [N].
    factor: its name; None for labels.
  """
  data = manifest['dataset']
  names = (
    data.get('value_names', {}).get(factor)
    if factor
    else data.get('label_names')
  )
  if (
    not isinstance(names, list) or not np.isin(values, range(len(names))).all()
  ):
    return values
  return np.array([str(name) for name in names])[values.astype(int)]


def result_step(
  manifest: Mapping[str, Any], rows: Iterable[Mapping[Any, Any]]
) -> int | None:
  """Returns the step whose rows are the result of a run, which all must show.

  That of the weights which a run with `--patience` keeps, also while it trains,
  whatever was measured of others since; else the last that was evaluated on
  `result_split`, or, where none was, on another.

  Args:
    manifest: of the run.
    rows: of its eval.csv or rate_per_latent.csv.

  Returns:
    The step; None where nothing was evaluated.
  """
  if 'best_step' in manifest:
    return manifest['best_step']
  rows = list(rows)
  split = result_split(manifest)
  tested = [row for row in rows if row['split'] == split]
  return max((int(row['step']) for row in tested or rows), default=None)


def read_results(
  run_dir: str | os.PathLike, manifest: Mapping[str, Any], column: str = 'value'
) -> dict[str, float]:
  """Returns the results of a run, by metric.

  Those of `result_step` on `result_split`; a bound at more samples stands for
  those at fewer.

  Args:
    run_dir: the run.
    manifest: of the run.
    column: `value`, or `se` for their standard errors over images.

  Raises:
    RecordError: a damaged eval.csv.
  """
  if not pathlib.Path(run_dir, EVAL).exists():
    return {}
  rows = read_rows(run_dir, EVAL)
  step = result_step(manifest, rows)
  split = result_split(manifest)
  rows = [
    row for row in rows if row['split'] == split and int(row['step']) == step
  ]
  rows.sort(key=lambda row: int(row['num_samples']))
  # Runs of older versions gave this one the name of a setting.
  names = {'likelihood_scale': 'fitted_scale'}
  return {
    names.get(row['metric'], row['metric']): float(row[column] or 'nan')
    for row in rows
  }


@contextlib.contextmanager
def held(
  run_dir: pathlib.Path, expected: Mapping[str, Any] | None = None
) -> Iterator[None]:
  """Holds what a run has recorded against other processes that change it.

  Args:
    run_dir: the run.
    expected: the manifest of the run that was read there before; None where
      this process holds the run itself.

  Raises:
    RecordError: another run lies there by now.
  """
  # Runs of older versions have no id.
  identity = lambda manifest: (manifest.get('id'), manifest['started'])
  with files.locked(run_dir / '.records.lock'):
    if expected is not None:
      is_same = False
      with contextlib.suppress(RecordError):
        is_same = identity(read_manifest(run_dir)) == identity(expected)
      if not is_same:
        raise RecordError(
          f'{run_dir} holds another run than when it was read; nothing was '
          'added to it'
        )
    yield


def keep_rows(
  run_dir: pathlib.Path,
  name: str,
  keep: Callable[[int, Mapping[str, str]], bool],
) -> None:
  """Keeps the rows of a table for which `keep` of step and row is true.

  Raises:
    RecordError: a damaged table.
  """
  with held(run_dir):
    rows = [
      row for row in read_rows(run_dir, name) if keep(int(row['step']), row)
    ]
    write_table(run_dir, name, rows)


def upsert(
  run_dir: pathlib.Path,
  name: str,
  rows: Sequence[Mapping[str, Any]],
  expected: Mapping[str, Any] | None = None,
) -> None:
  """Adds rows to a table; a row replaces the one of the same key.

  Safe beside other processes that do the same to the same run, which is to be
  the one that `held` expects.
  """
  key = lambda row: tuple(_cell(row[column]) for column in KEYS[name])
  with held(run_dir, expected):
    merged: dict[tuple[str, ...], Mapping[str, Any]] = {
      key(row): row for row in read_rows(run_dir, name)
    }
    merged.update((key(row), row) for row in rows)
    write_table(run_dir, name, [*merged.values()])


# -- Arrays -------------------------------------------------------------------

# What figures show of what latents decode to, whose arrays have its plural.
SHOWN = ('mean', 'mode', 'sample')


def _shown(axes: str, start: str = '') -> dict[str, str]:
  return {f'{start}{name}s': axes for name in SHOWN}


# The axes of arrays of numbers: in one file, one letter is one size; * stands
# for those of an example, [H, W, C] or [F]. Every file has a `step` besides.
_AXES: Mapping[str, Mapping[str, str]] = {
  'reconstructions': {'images': 'N*', **_shown('N*')},
  'latents': {
    'means': 'NL',
    'stddevs': 'NL',
    'pixels_pca': 'MP',
    'factors': 'NK',
  },
  # `indices` of test images, and the `codes` around which latents move.
  'traversals': {
    'indices': 'N',
    'images': 'N*',
    'codes': 'NL',
    'values': 'G',
    **_shown('NLG*'),
    'quantiles': 'Q',
    'quantile_values': 'LQ',
    **_shown('NLQ*', 'quantile_'),
  },
  'samples': _shown('N*'),
  'latent_grid': {
    'latents': 'K',
    'rates': 'K',
    'values': 'G',
    **_shown('RG*'),
  },
  'manifold': {'values': 'G', **_shown('RG*')},
  'embedding': {'images': 'ND', 'latents': 'ND'},
  # `labels` name the factor that varies.
  'by_factor': {
    'values': 'N',
    'num_values': 'N',
    'images': 'N*',
    **_shown('N*'),
  },
  # I(code; factor), and entropies, of factors by name; DCI's importances, and
  # by which score of the table.
  'scores': {
    'factors': 'K',
    'information_nats': 'LK',
    'entropy_nats': 'K',
    'importances': 'LK',
    'importances_of': '',
  },
}
# Words or numbers, one for each of the first axis.
_LABELS = 'labels'
# What arrays hold that need not be numbers, or not any: NumPy's kinds.
_KINDS = {
  'step': 'iu',
  _LABELS: 'biufU',
  'latents.factors': 'iu',
  'traversals.indices': 'iu',
  'scores.factors': 'U',
  'importances_of': 'U',
}


def _mismatch(name: str, arrays: Mapping[str, np.ndarray]) -> str | None:
  """Says which of a file's arrays cannot be what its name says, if any."""
  sizes: dict[str, Any] = {}
  for key, axes in {**_AXES.get(name, {}), _LABELS: 'N', 'step': ''}.items():
    if key not in arrays:
      continue
    array = arrays[key]
    kinds = _KINDS.get(key, _KINDS.get(f'{name}.{key}', 'biuf'))
    plain = axes.removesuffix('*')
    shape: tuple[Any, ...] = array.shape
    if plain != axes:
      shape = (*shape[: len(plain)], shape[len(plain) :] or None)
    fits = len(shape) == len(axes) and shape[-1:] != (None,)
    same = all(
      sizes.setdefault(axis, size) == size
      for axis, size in zip(axes, shape, strict=False)
    )
    if array.dtype.kind not in kinds or not (fits and same and array.size):
      return f'{key} is {array.dtype} of shape {array.shape}'
  return None


def _most_bytes(run_dir: str | os.PathLike) -> int:
  """Returns more bytes than any file of arrays of a run unpacks to.

  Each image has moments of its code, factors and principal components; and
  what latents decode to is shown at places of each, and in grids.
  """
  count, latents, values = 0, 0, 0
  with contextlib.suppress(RecordError):  # Where there is no run yet.
    data = read_manifest(run_dir)['dataset']
    latents = read_config(run_dir)['latent_size']
    count, values = max(data['num_images'].values()), math.prod(data['shape'])
  numbers = (
    2**22 + count * (2 * latents + 256) + values * (512 * latents + 4096)
  )
  return min(8 * numbers, 2**33)


def write_arrays(
  run_dir: pathlib.Path,
  name: str,
  step: int,
  arrays: Mapping[str, np.ndarray],
  expected: Mapping[str, Any] | None = None,
) -> None:
  """Replaces arrays/NAME.npz, unless it is of a later step.

  Args:
    run_dir: the run.
    name: of the file.
    step: the number of updates of the model, kept as the array `step`.
    arrays: by name.
    expected: as in `held`.
  """
  buffer = io.BytesIO()
  np.savez_compressed(buffer, allow_pickle=False, step=step, **arrays)
  # Evaluating an old checkpoint may end after training has.
  with held(run_dir, expected):
    folder = files.make_folder(run_dir / ARRAYS)
    newer = False
    with contextlib.suppress(RecordError, KeyError):
      newer = int(read_arrays(run_dir, name)['step']) > step
    if not newer:
      files.replace_file(folder / f'{name}.npz', buffer.getvalue())


def read_arrays(
  run_dir: str | os.PathLike, name: str, needed: Sequence[str] = ()
) -> dict[str, np.ndarray]:
  """Reads arrays/NAME.npz.

  Args:
    run_dir: the run.
    name: of the file.
    needed: arrays that must be in it.

  Raises:
    RecordError: a file that is missing or damaged, or lacks an array.
  """
  path = pathlib.Path(run_dir, ARRAYS, f'{name}.npz')
  if not path.exists():
    raise RecordError(
      f'{path} does not exist; python -m launch.evaluate '
      f'--run_dir={run_dir} writes it'
    )
  try:
    content = io.BytesIO(files.read_bytes(path))
    with zipfile.ZipFile(content) as archive:
      size = sum(member.file_size for member in archive.infolist())
    if size > (most := _most_bytes(run_dir)):
      raise ValueError(f'it unpacks to {size:,} bytes, {most:,} would be many')
    with np.load(content, allow_pickle=False) as arrays:
      found = {key: arrays[key] for key in arrays.files}
  except Exception as error:  # zipfile, zlib and NumPy raise many kinds.
    raise RecordError(f'{path} is damaged: {error}') from error
  if mismatch := _mismatch(name, found):
    raise RecordError(f'{path} is damaged: {mismatch}')
  if missing := sorted(set(needed) - found.keys()):
    raise RecordError(
      f'{path} lacks {", ".join(missing)}; python -m launch.evaluate '
      f'--run_dir={run_dir} writes it'
    )
  return found


# -- Figures ------------------------------------------------------------------


def write_figure(path: pathlib.Path, content: bytes) -> None:
  """Replaces a file that shows runs, in a folder made where it is missing.

  Raises:
    OSError: it cannot be written, or would land outside the run.
  """
  path.parent.parent.mkdir(parents=True, exist_ok=True)
  if path.parent.name == FIGURES:
    files.make_folder(path.parent)
  path.parent.mkdir(exist_ok=True)
  files.replace_file(path, content)


def append_events(path: pathlib.Path, content: bytes) -> None:
  """Adds to a file of events, in a folder made where it is missing.

  Raises:
    OSError: it cannot be written, or would land outside the run.
  """
  files.make_folder(path.parent)
  with open(files.open_to_append(path), 'ab') as file:
    file.write(content)


# -- Run directories ----------------------------------------------------------


def runs_of(sweep_dir: str | os.PathLike) -> list[pathlib.Path]:
  """Returns the run directories of a sweep, in the order of their names.

  Raises:
    RecordError: there are none.
  """
  found = sorted(
    path.parent for path in pathlib.Path(sweep_dir).glob(f'*/{MANIFEST}')
  )
  if not found:
    raise RecordError(f'{sweep_dir} holds no runs of a sweep')
  return found


def newest_run(root: str | os.PathLike = 'runs') -> pathlib.Path:
  """Returns the run under `root` that was started last.

  Raises:
    RecordError: there is none.
  """
  started = {}
  for path in pathlib.Path(root).glob(f'*/{MANIFEST}'):
    with contextlib.suppress(RecordError):
      started[path.parent] = str(read_manifest(path.parent).get('started', ''))
  if not started:
    raise RecordError(
      f'no runs under {root}; give --run_dir, or train one: '
      'python -m launch.train'
    )
  return max(started, key=lambda path: (started[path], path.name))
