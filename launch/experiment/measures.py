"""Scores of disentanglement of some rows, by name, with their variants.

A new score is a function of `Drawn` in `MEASURES`, and its settings in
`launch.settings.scores`. Nothing here computes with TensorFlow.
"""

import copy
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import threadpoolctl

from vae.metrics import disentanglement

# Of a draw's rows, the part to which classifiers are fitted; the others test.
TRAIN_SHARE = 2 / 3

# Labelled rows that a probe has.
_NUM_LABELS = (100, 1000)


class Drawn(NamedTuple):
  """Rows of a split in random order, and what else a score takes.

  Attributes:
    codes: float64 [N, L].
    factors: integers [N, K].
    seed: of the draw, and of scikit-learn's classifiers.
    start: the state from which a score draws.
  """

  codes: np.ndarray
  factors: np.ndarray
  seed: int
  start: np.random.Generator

  @property
  def num_train(self) -> int:
    """Returns how many of the rows classifiers are fitted to."""
    return round(len(self.codes) * TRAIN_SHARE)

  @property
  def fitted(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of a score that tests nothing."""
    rows = slice(self.num_train)
    return self.codes[rows], self.factors[rows]

  @property
  def generator(self) -> np.random.Generator:
    """Returns a generator that draws the same in every score."""
    return copy.deepcopy(self.start)


class Reading(NamedTuple):
  """A score of some rows.

  Attributes:
    values: by variant.
    importances: of codes for factors, [L, K], where it has such.
  """

  values: Mapping[str, float]
  importances: np.ndarray | None = None


def _one(value: float) -> Reading:
  return Reading({'': value})


def _modularity(of: Drawn) -> Reading:
  return Reading(
    {
      '': disentanglement.modularity(*of.fitted).value,
      'active': disentanglement.modularity(*of.fitted, active_only=True).value,
    }
  )


def _infomec(of: Drawn) -> Reading:
  found = disentanglement.infomec(*of.fitted, of.seed)
  return Reading(
    {
      'modularity': found.modularity,
      'compactness': found.compactness,
      'explicitness': found.explicitness,
    }
  )


def _probe(of: Drawn) -> Reading:
  return Reading(
    {
      str(count): disentanglement.probe(
        of.codes, of.factors, num_labels=count, num_train=of.num_train
      ).value
      for count in _NUM_LABELS
      if count <= of.num_train
    }
  )


def _dci(of: Drawn, function: Callable[..., disentanglement.DCI]) -> Reading:
  found = function(of.codes, of.factors, of.seed, num_train=of.num_train)
  return Reading(
    {
      'disentanglement': found.disentanglement,
      'completeness': found.completeness,
      'informativeness': found.informativeness,
    },
    found.importances,
  )


MEASURES: Mapping[str, Callable[[Drawn], Reading]] = types.MappingProxyType(
  {
    'beta_vae': lambda of: _one(
      disentanglement.beta_vae_score(of.codes, of.factors, of.generator).value
    ),
    'factor_vae': lambda of: _one(
      disentanglement.factor_vae_score(of.codes, of.factors, of.generator).value
    ),
    'mig': lambda of: _one(disentanglement.mig(*of.fitted).value),
    'modularity': _modularity,
    'sap': lambda of: _one(
      disentanglement.sap(
        of.codes, of.factors, of.seed, num_train=of.num_train
      ).value
    ),
    'sap_r2': lambda of: _one(disentanglement.sap_r2(*of.fitted).value),
    'explicitness': lambda of: _one(
      disentanglement.explicitness(
        of.codes, of.factors, num_train=of.num_train
      ).value
    ),
    'irs': lambda of: _one(disentanglement.irs(*of.fitted).value),
    'infomec': _infomec,
    'dci_forest': lambda of: _dci(of, disentanglement.dci_forest),
    'dci': lambda of: _dci(of, disentanglement.dci),
    'gaussian_total_correlation_nats': lambda of: _one(
      disentanglement.gaussian_total_correlation(of.fitted[0])
    ),
    'pairwise_information_nats': lambda of: _one(
      disentanglement.mean_pairwise_information(of.fitted[0])
    ),
    'probe': _probe,
  }
)


def measure(name: str, of: Drawn) -> Reading | str:
  """Returns a score of some rows, or in words why they have none.

  Args:
    name: of `MEASURES`.
    of: the rows.
  """
  try:
    # The work is shared between processes: more threads than cores wait for
    # each other, and burn as much time again.
    with threadpoolctl.threadpool_limits(1):
      return MEASURES[name](of)
  except ValueError as error:
    return str(error)
