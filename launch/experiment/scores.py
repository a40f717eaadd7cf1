"""Scores a run: the table of scores of disentanglement, and scores.csv."""

import importlib.metadata
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from launch import records
from launch.experiment import metrics
from vae import randomness
from vae.metrics import disentanglement

# Rows that a draw has, where the split has as many: those that classifiers are
# fitted to, and those that they are tested on.
_NUM_TRAIN, _NUM_TEST = 10_000, 5_000

# Draws whose spread gives the standard error.
_NUM_DRAWS = 5


class ScoreError(ValueError):
  """A run cannot be scored; one line that says why."""


class _Drawn(NamedTuple):
  """Rows of a split in random order, and what else a score takes."""

  codes: np.ndarray
  factors: np.ndarray
  seed: int

  @property
  def num_train(self) -> int:
    share = _NUM_TRAIN / (_NUM_TRAIN + _NUM_TEST)
    return round(len(self.codes) * share)

  @property
  def fitted(self) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a score that tests nothing."""
    rows = slice(self.num_train)
    return self.codes[rows], self.factors[rows]

  @property
  def generator(self) -> np.random.Generator:
    return np.random.default_rng(self.seed)


class Entry(NamedTuple):
  """A score: a new one is a function of codes and factors and an entry here.

  Attributes:
    measure: from rows of codes and factors to numbers by variant.
    settings: what it is computed with, as `scores.csv` says it.
    num_factors: how many factors it needs.
    num_draws: fresh draws whose mean is taken.
    on_request: whether `all` leaves it out, since it takes minutes.
  """

  measure: Callable[[_Drawn], Mapping[str, float]]
  settings: str
  num_factors: int = 1
  num_draws: int = _NUM_DRAWS
  on_request: bool = False


def _dci(function: Callable[..., disentanglement.DCI]) -> Callable:
  def measure(of: _Drawn) -> Mapping[str, float]:
    found = function(of.codes, of.factors, of.seed, num_train=of.num_train)
    return {
      'disentanglement': found.disentanglement,
      'completeness': found.completeness,
      'informativeness': found.informativeness,
    }

  return measure


def _infomec(of: _Drawn) -> Mapping[str, float]:
  found = disentanglement.infomec(*of.fitted, of.seed)
  return {
    'modularity': found.modularity,
    'compactness': found.compactness,
    'explicitness': found.explicitness,
  }


SCORES: dict[str, Entry] = {
  'beta_vae': Entry(
    lambda of: {
      '': disentanglement.beta_vae_score(
        of.codes, of.factors, of.generator
      ).value
    },
    'logistic regression; 64 pairs a point; 10000 points, 5000 tested',
    num_factors=2,
  ),
  'factor_vae': Entry(
    lambda of: {
      '': disentanglement.factor_vae_score(
        of.codes, of.factors, of.generator
      ).value
    },
    'majority vote; 64 rows a vote; 10000 votes, 5000 tested; stddev >= 0.05',
    num_factors=2,
  ),
  'mig': Entry(
    lambda of: {'': disentanglement.mig(*of.fitted).value}, '20 bins'
  ),
  'modularity': Entry(
    lambda of: {
      '': disentanglement.modularity(*of.fitted).value,
      'active': disentanglement.modularity(*of.fitted, active_only=True).value,
    },
    '20 bins',
    num_factors=2,
  ),
  'sap': Entry(
    lambda of: {
      '': disentanglement.sap(
        of.codes, of.factors, of.seed, num_train=of.num_train
      ).value
    },
    'linear support vectors, C 0.01',
  ),
  'sap_r2': Entry(
    lambda of: {'': disentanglement.sap_r2(*of.fitted).value},
    'squared correlation',
  ),
  'explicitness': Entry(
    lambda of: {
      '': disentanglement.explicitness(
        of.codes, of.factors, num_train=of.num_train
      ).value
    },
    'logistic regression',
  ),
  'irs': Entry(
    lambda of: {'': disentanglement.irs(*of.fitted).value}, 'quantile 0.99'
  ),
  'infomec': Entry(_infomec, '10 neighbours; range >= 1/20', num_factors=2),
  'dci_forest': Entry(
    _dci(disentanglement.dci_forest), 'random forests', num_factors=2
  ),
  'dci': Entry(
    _dci(disentanglement.dci),
    'boosted trees',
    num_factors=2,
    num_draws=1,
    on_request=True,
  ),
  'total_correlation_nats': Entry(
    lambda of: {'': disentanglement.gaussian_total_correlation(of.fitted[0])},
    'Gaussian, active codes',
    num_factors=0,
  ),
  'pairwise_information_nats': Entry(
    lambda of: {'': disentanglement.mean_pairwise_information(of.fitted[0])},
    '20 bins, active codes',
    num_factors=0,
  ),
}


def parse(names: Sequence[str]) -> list[str]:
  """Returns the scores that a flag names; `all` for those that take seconds.

  Raises:
    ScoreError: a name that is none.
  """
  found = []
  for name in names:
    if name == 'all':
      found += [n for n, entry in SCORES.items() if not entry.on_request]
    elif name in SCORES:
      found.append(name)
    else:
      raise ScoreError(
        f'--scores={name}: must be all, or of {", ".join(SCORES)}'
      )
  return list(dict.fromkeys(found))


def _factors(of: metrics.Evaluated) -> np.ndarray:
  """Those of the split that vary, [N, K]; a class label is one, too."""
  factors = of.data.factors
  if factors is None and of.data.labels is not None:
    factors = of.data.labels[:, None]
  if factors is None:
    raise ScoreError(
      f'--scores: {of.config.dataset} has no factors to compare codes with; '
      '--dataset=sprites has, and README names others'
    )
  return factors[:, [len(np.unique(column)) > 1 for column in factors.T]]


def record(
  path: pathlib.Path,
  of: metrics.Evaluated,
  names: Iterable[str],
  report: Callable[[str], None] = print,
) -> None:
  """Scores a split's codes, its posterior means, into scores.csv.

  Each draw takes fresh rows of the split. The standard error is that of the
  mean over draws: it says how sure the score of this model is, not of its
  recipe. The floor is the score where factors are permuted, and `exact` that of
  the factors as codes; both are of the first draw's rows.

  Args:
    path: the run directory.
    of: what was evaluated.
    names: of the scores.
    report: is told each score in words.

  Raises:
    ScoreError: data without factors.
  """
  factors = _factors(of)
  codes = of.result.means
  version = importlib.metadata.version('scikit-learn')
  active = int(disentanglement.active_codes(codes).sum())
  drawn = [_draw(codes, factors, seed) for seed in range(_NUM_DRAWS)]
  first = drawn[0]
  permuted = first._replace(
    factors=first.generator.permutation(first.factors, axis=0)
  )
  themselves = first._replace(codes=first.factors.astype(np.float64))
  for name in names:
    entry = SCORES[name]
    if factors.shape[1] < entry.num_factors:
      report(
        f'  {name}: needs {entry.num_factors} factors, and there is '
        f'{factors.shape[1]}'
      )
      continue
    draws = [entry.measure(rows) for rows in drawn[: entry.num_draws]]
    floor = entry.measure(permuted) if entry.num_factors else {}
    exact = entry.measure(themselves)
    rows = []
    for variant in draws[0]:
      values = np.array([measured[variant] for measured in draws])
      error = (
        np.std(values, ddof=1) / len(values) ** 0.5
        if len(values) > 1
        else float('nan')
      )
      rows.append(
        {
          'step': of.step,
          'split': of.split,
          'n': len(first.codes),
          'score': name,
          'variant': variant,
          'draw_seed': 0,
          'value': float(values.mean()),
          'se': float(error),
          'floor': floor.get(variant),
          'exact': exact[variant],
          'active': active,
          'settings': f'{entry.settings}; {len(values)} draws; scikit-learn '
          f'{version}',
        }
      )
      report(_in_words(rows[-1]))
    records.upsert(path, records.SCORES, rows, of.manifest)


def _draw(codes: np.ndarray, factors: np.ndarray, seed: int) -> _Drawn:
  generator = randomness.host_generator(
    seed, randomness.Purpose.SCORES, len(codes)
  )
  count = min(len(codes), _NUM_TRAIN + _NUM_TEST)
  rows = generator.choice(len(codes), count, replace=False)
  return _Drawn(codes[rows].astype(np.float64), factors[rows], seed)


def _in_words(row: Mapping[str, Any]) -> str:
  name = f'{row["score"]} {row["variant"]}'.strip()
  error = '' if np.isnan(row['se']) else f' ± {row["se"]:.4f}'
  floor = '' if row['floor'] is None else f'floor {row["floor"]:.4f}, '
  return (
    f'  {name:28} {row["value"]:.4f}{error} '
    f'({floor}the factors themselves {row["exact"]:.4f})'
  )
