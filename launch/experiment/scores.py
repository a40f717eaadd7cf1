"""Scores a run: scores.csv, and the matrices behind it in arrays/scores.npz."""

import concurrent.futures
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from launch import files, records
from launch.experiment import measures, metrics
from launch.experiment.measures import Drawn, Reading
from launch.settings import scores as settings
from launch.settings.scores import SCORES, ScoreError
from vae import randomness
from vae.metrics import disentanglement

# Rows that a draw has, where the split has as many: two in three of them are
# fitted and the others tested.
_NUM_ROWS = 15_000

# Scores with importances, those that stand before others first.
_WITH_IMPORTANCES = ('dci', 'dci_forest')

# Of the column of names that is printed.
_WIDTH = max(map(len, SCORES))


class Codes(NamedTuple):
  """The codes of a split, and what they are compared with.

  Attributes:
    manifest: of the run.
    step: the number of updates of the model.
    split: its name.
    means: posterior means, [N, L].
    factors: those that vary, integers [N, K].
    names: of the factors.
  """

  manifest: Mapping[str, Any]
  step: int
  split: str
  means: np.ndarray
  factors: np.ndarray
  names: tuple[str, ...]

  @classmethod
  def of(cls, evaluated: metrics.Evaluated) -> 'Codes':
    """Returns those of what was evaluated."""
    data, means = evaluated.data, evaluated.result.means
    factors, names = varying(
      evaluated.manifest, data.factors, data.labels, len(means)
    )
    return cls(
      evaluated.manifest,
      evaluated.step,
      evaluated.split,
      means,
      factors,
      names,
    )

  @classmethod
  def read(cls, path: pathlib.Path) -> 'Codes | None':
    """Returns those that a run has recorded of its result, without its model.

    Returns:
      None where other weights, or no factors, are recorded.

    Raises:
      RecordError, ScoreError: a damaged run.
    """
    manifest = records.read_manifest(path)
    rows = records.read_rows(path, records.EVAL)
    step = records.result_step(manifest, rows)
    try:
      arrays = records.read_arrays(path, 'latents', ['means', 'step'])
    except records.RecordError:
      return None
    has_names = 'factors' in manifest['dataset']
    if int(arrays['step']) != step or ('factors' in arrays) != has_names:
      return None  # Of runs of older versions, too.
    means, split = arrays['means'], records.result_split(manifest)
    factors, names = varying(
      manifest, arrays.get('factors'), arrays.get('labels'), len(means)
    )
    if len(means) != manifest['dataset']['num_images'][split]:
      return None
    return cls(manifest, int(arrays['step']), split, means, factors, names)


def varying(
  manifest: Mapping[str, Any],
  factors: np.ndarray | None,
  labels: np.ndarray | None,
  num_rows: int,
) -> tuple[np.ndarray, tuple[str, ...]]:
  """Returns the factors of a split that vary, [N, K], and their names.

  Args:
    manifest: of the run; its `dataset` counts.
    factors: integers [N, K], or None.
    labels: integers [N], or None; where there are no factors, they are one.
    num_rows: N.

  Raises:
    ScoreError: factors that are not those of the manifest.
  """
  names = [name for name, _ in manifest['dataset'].get('factors', ())]
  if factors is None and labels is not None:
    factors, names = labels[:, None], ['label']
  if factors is None:
    factors, names = np.zeros([num_rows, 0], np.int64), []
  if factors.shape[1] != len(names):
    raise ScoreError(
      f'{factors.shape[1]} factors, of which the manifest names {len(names)}'
    )
  kept = [k for k, column in enumerate(factors.T) if np.ptp(column) > 0]
  return factors[:, kept], tuple(names[k] for k in kept)


def check(
  names: Iterable[str],
  manifest: Mapping[str, Any],
  has_factors: bool,
  flag: str = '--scores',
) -> None:
  """Checks that data have factors, where scores need them.

  Args:
    names: of the scores.
    manifest: of the run, or what will be its `dataset`.
    has_factors: or labels.
    flag: by which they were asked for.

  Raises:
    ScoreError: they have none.
  """
  if not has_factors and any(SCORES[name].num_factors for name in names):
    raise ScoreError(
      f'{flag}: {manifest["dataset"]["name"]} has no factors to compare '
      'codes with; --dataset=sprites has, and README names others'
    )


# -- Rows ---------------------------------------------------------------------


def draw(codes: np.ndarray, factors: np.ndarray, seed: int) -> Drawn:
  """Returns fresh rows of a split, in random order.

  The same rows for all models of as many images.

  Args:
    codes: [N, L].
    factors: [N, K].
    seed: of the draw.
  """
  generator = randomness.host_generator(
    seed, randomness.Purpose.SCORES, len(codes)
  )
  count = min(len(codes), _NUM_ROWS)
  rows = generator.choice(len(codes), count, replace=False)
  return Drawn(
    codes[rows].astype(np.float64),
    factors[rows],
    seed,
    randomness.host_generator(seed, randomness.Purpose.SCORES_WITHIN),
  )


def _floor(name: str, first: Drawn) -> Drawn:
  """Rows whose codes tell nothing of their factors."""
  generator = randomness.host_generator(0, randomness.Purpose.SCORES_FLOOR)
  if SCORES[name].takes_minutes:  # The same for all models of as many codes.
    return first._replace(codes=generator.standard_normal(first.codes.shape))
  return first._replace(factors=generator.permutation(first.factors, axis=0))


def marks_folder(data_dir: str) -> pathlib.Path:
  """Returns where `Marks` are kept: with the prepared data."""
  # No dataset's name starts with a dot.
  return pathlib.Path(data_dir, 'prepared', '.marks')


def processes() -> concurrent.futures.ProcessPoolExecutor:
  """Returns processes that measure, one for each core."""
  return concurrent.futures.ProcessPoolExecutor(
    len(os.sched_getaffinity(0)), multiprocessing.get_context('spawn')
  )


class Marks:
  """Floors and marks that depend on the data alone, kept for the next model."""

  def __init__(self, folder: pathlib.Path | None):
    """Initializes what is kept.

    Args:
      folder: where, as a file each; None for nowhere.
    """
    self._folder = folder

  def _path(self, name: str, of: Drawn) -> pathlib.Path | None:
    if self._folder is None:
      return None
    digest = hashlib.sha256(repr((name, _version(), of.seed)).encode())
    for module in (measures, disentanglement):  # Other code, other numbers.
      assert module.__file__
      digest.update(pathlib.Path(module.__file__).read_bytes())
    for array in (of.codes, of.factors):
      digest.update(repr((array.shape, array.dtype.str)).encode())
      digest.update(array.tobytes())
    return self._folder / f'{name}-{digest.hexdigest()[:32]}.json'

  def read(self, name: str, of: Drawn) -> Reading | None:
    """Returns what was measured before, if it was."""
    path = self._path(name, of)
    if path is None or not path.exists():
      return None
    try:
      values = records.read_object(path)
      return Reading({variant: float(v) for variant, v in values.items()})
    except (ValueError, TypeError):  # Damaged: it is measured again.
      return None

  def write(self, name: str, of: Drawn, found: Reading | str) -> None:
    """Keeps what was measured, where the folder can be written to."""
    path = self._path(name, of)
    if path is None or isinstance(found, str):
      return
    with contextlib.suppress(OSError):
      path.parent.mkdir(parents=True, exist_ok=True)
      files.replace_file(path, json.dumps(dict(found.values)).encode() + b'\n')


# -- Recording ----------------------------------------------------------------


def _version() -> str:
  return importlib.metadata.version('scikit-learn')


def _settings(name: str) -> str:
  """Returns the settings of a score as its rows have them."""
  if name not in SCORES:
    return ''
  score = SCORES[name]
  return (
    f'{score.settings}; {score.num_draws} '
    f'draw{"s" if score.num_draws > 1 else ""}; scikit-learn {_version()}'
  )


def missing(path: pathlib.Path, of: Codes, names: Iterable[str]) -> list[str]:
  """Returns the scores that a run does not have of these weights yet.

  Args:
    path: the run directory.
    of: what would be scored.
    names: of scores.

  Raises:
    RecordError: a damaged scores.csv.
  """
  have = {
    row['score']
    for row in records.read_rows(path, records.SCORES)
    if (int(row['step']), row['split']) == (of.step, of.split)
    and row['settings'] == _settings(row['score'])
  }
  return [name for name in names if name not in have]


def _show(line: str) -> None:
  print(line, flush=True)


def record(
  path: pathlib.Path,
  of: Codes,
  names: Iterable[str],
  *,
  marks: Marks | None = None,
  pool: concurrent.futures.Executor | None = None,
  report: Callable[[str], None] = _show,
  in_training: bool = False,
) -> None:
  """Scores a split's codes into scores.csv and arrays/scores.npz.

  Each draw takes fresh rows of the split. The standard error is that of the
  mean over draws: it says how sure the score of this model is, not of its
  recipe. The floor is the score where factors are permuted, and `exact` that of
  the factors as codes; both are of the first draw's rows, and so are the
  matrices. The floor of what takes minutes is that of codes of pure noise.

  Args:
    path: the run directory.
    of: what is scored.
    names: of the scores.
    marks: what other models of these data have measured.
    pool: of processes that share the work; None for this one alone.
    report: is told each score in words.
    in_training: whether this process holds the run.
  """
  expected = None if in_training else of.manifest
  marks = marks or Marks(None)
  active = int(disentanglement.active_codes(of.means).sum())
  drawn = [draw(of.means, of.factors, s) for s in range(settings.NUM_DRAWS)]
  first = drawn[0]
  themselves = first._replace(codes=first.factors.astype(np.float64))
  write_matrices(path, of, first, {}, expected)

  def later(name: str, rows: Drawn, is_kept: bool) -> Callable:
    """Begins to measure where there is a pool; returns what waits for it."""
    known = marks.read(name, rows) if is_kept else None
    if known is not None:
      return lambda: known
    wait = functools.partial(measures.measure, name, rows)
    if pool is not None and not SCORES[name].is_quick:
      wait = pool.submit(measures.measure, name, rows).result

    def measured() -> Reading | str:
      found = wait()
      if is_kept:
        marks.write(name, rows, found)
      return found

    return measured

  pending = []
  for name in names:
    score = SCORES[name]
    if len(of.names) < score.num_factors:
      report(
        f'  {name}: needs {score.num_factors} '
        f'factor{"s" if score.num_factors > 1 else ""}, and there is '
        f'{len(of.names)}'
      )
      continue
    draws = [later(name, rows, False) for rows in drawn[: score.num_draws]]
    floor = None
    if score.num_factors:
      floor = later(name, _floor(name, first), score.takes_minutes)
    exact = later(name, themselves, True) if of.names else None
    pending.append((name, draws, floor, exact))
  for name, draws, floor, exact in pending:
    measured = [wait() for wait in draws]
    if failed := [found for found in measured if isinstance(found, str)]:
      report(f'  {name}: not measured: {failed[0]}')
      continue
    rows = _rows(name, of, len(first.codes), active, measured)
    for column, wait in (('floor', floor), ('exact', exact)):
      found = wait() if wait else None
      for row in rows:
        if isinstance(found, Reading):
          row[column] = found.values[row['variant']]
    records.upsert(path, records.SCORES, rows, expected)
    importances = measured[0].importances
    if importances is not None:
      write_matrices(path, of, first, {name: importances}, expected)
    for row in rows:
      report(_in_words(row))


def _rows(
  name: str,
  of: Codes,
  num_rows: int,
  active: int,
  draws: Sequence[Reading],
) -> list[dict[str, Any]]:
  """Returns the rows of a score, whose floor and mark are still to come."""
  rows = []
  for variant in draws[0].values:
    values = np.array([measured.values[variant] for measured in draws])
    error = None
    if len(values) > 1:
      error = float(np.std(values, ddof=1) / len(values) ** 0.5)
    rows.append(
      {
        'step': of.step,
        'split': of.split,
        'n': num_rows,
        'score': name,
        'variant': variant,
        'draw_seed': 0,
        'value': float(values.mean()),
        'se': error,
        'floor': None,
        'exact': None,
        'active': active,
        'settings': _settings(name),
      }
    )
  return rows


def write_matrices(
  path: pathlib.Path,
  of: Codes,
  first: Drawn,
  importances: Mapping[str, np.ndarray],
  expected: Mapping[str, Any] | None,
) -> None:
  """Writes what relates codes to factors into arrays/scores.npz.

  Only of the split that is the run's result, as all arrays. Importances that
  the file holds of these weights stay, those of boosted trees before those of
  forests.

  Args:
    path: the run directory.
    of: what is scored.
    first: rows of the first draw.
    importances: [L, K], by the score that they are of.
    expected: as in `records.held`.
  """
  if of.split != records.result_split(of.manifest) or not of.names:
    return
  with contextlib.suppress(records.RecordError, KeyError):
    before = records.read_arrays(path, 'scores')
    if int(before['step']) == of.step:
      importances = {
        str(before['importances_of']): before['importances'],
        **importances,
      }
  arrays = {
    'factors': np.array(of.names),
    'information_nats': disentanglement.mutual_information(*first.fitted),
    'entropy_nats': disentanglement.entropies(first.fitted[1]),
  }
  for name in _WITH_IMPORTANCES:
    if name in importances:
      arrays['importances'] = importances[name]
      arrays['importances_of'] = np.array(name)
      break
  records.write_arrays(path, 'scores', of.step, arrays, expected)


def _in_words(row: Mapping[str, Any]) -> str:
  name = f'{row["score"]} {row["variant"]}'.strip()
  error = '' if row['se'] is None else f' ± {row["se"]:.4f}'
  marks = [
    f'{words} {row[column]:.4f}'
    for column, words in (
      ('floor', 'floor'),
      ('exact', 'the factors themselves'),
    )
    if row[column] is not None
  ]
  return f'  {name:28} {row["value"]:.4f}{error} ({", ".join(marks)})'
