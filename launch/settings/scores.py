"""The scores of disentanglement that can be asked for, by name.

Here are the settings that each is computed with; `launch.experiment.measures`
computes them. Nothing here imports TensorFlow or scikit-learn, so that `--help`
answers at once.
"""

import types
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Fresh draws of a split's rows whose spread gives the standard error.
NUM_DRAWS = 5

# All that take seconds.
ALL = 'all'


class ScoreError(ValueError):
  """A run cannot be scored; one line that says why."""


class Setup(NamedTuple):
  """The way in which a score is measured.

  Attributes:
    settings: as `scores.csv` says them.
    num_factors: how many factors it needs.
    num_draws: fresh draws whose mean is taken.
    takes_minutes: whether `all` leaves it out. Its floor is then that of codes
      of pure noise, measured once for a data set.
    is_quick: whether evaluations in training may take it; less than a second.
    of_sweep: whether it compares the runs of a sweep.
  """

  settings: str
  num_factors: int = 1
  num_draws: int = NUM_DRAWS
  takes_minutes: bool = False
  is_quick: bool = False
  of_sweep: bool = False


SCORES: Mapping[str, Setup] = types.MappingProxyType(
  {
    'beta_vae': Setup(
      'logistic regression; 64 pairs a point; 10000 points, 5000 tested',
      num_factors=2,
      is_quick=True,
    ),
    'factor_vae': Setup(
      'majority vote; 64 rows a vote; 10000 votes, 5000 tested; stddev >= 0.05',
      num_factors=2,
      is_quick=True,
    ),
    'mig': Setup('20 bins', is_quick=True),
    'modularity': Setup('20 bins', num_factors=2, is_quick=True),
    'sap': Setup('linear support vectors, C 0.01'),
    'sap_r2': Setup('squared correlation', is_quick=True),
    'explicitness': Setup('logistic regression'),
    'irs': Setup('quantile 0.99', is_quick=True),
    'infomec': Setup('10 neighbours; range >= 1/20', num_factors=2),
    'dci_forest': Setup('random forests', num_factors=2),
    'dci': Setup(
      'boosted trees', num_factors=2, num_draws=1, takes_minutes=True
    ),
    'gaussian_total_correlation_nats': Setup('active codes', num_factors=0),
    'pairwise_information_nats': Setup('20 bins, active codes', num_factors=0),
    'probe': Setup(
      'accuracy of logistic regression on standardised codes; variant: '
      'labelled rows'
    ),
    'udr': Setup(
      'Lasso alpha 0.1, or Spearman; latents of rate > 0.01 nats; median over '
      'the other models of the group, which differ in their seed alone',
      num_factors=0,
      num_draws=1,
      of_sweep=True,
    ),
  }
)


# Those that evaluations in training may take.
IN_TRAINING = tuple(n for n, score in SCORES.items() if score.is_quick)


def parse(names: Sequence[str], of_sweep: bool = False) -> list[str]:
  """Returns the scores that a flag names; `all` for those that take seconds.

  Args:
    names: of scores.
    of_sweep: whether several runs are scored.

  Raises:
    ScoreError: a name that is none, or of a score that needs several runs.
  """
  found = []
  for name in names:
    if name == ALL:
      found += [
        n
        for n, score in SCORES.items()
        if not score.takes_minutes and (of_sweep or not score.of_sweep)
      ]
    elif name not in SCORES:
      raise ScoreError(
        f'--scores={name}: must be {ALL}, or of {", ".join(SCORES)}'
      )
    elif SCORES[name].of_sweep and not of_sweep:
      raise ScoreError(
        f'--scores={name}: compares the runs of a sweep; give --sweep_dir'
      )
    else:
      found.append(name)
  return list(dict.fromkeys(found))
