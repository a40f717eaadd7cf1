"""Scores of disentanglement: functions of codes and of the known factors.

Codes are what a model says of N images, such as posterior means, [N, L];
factors are what the images were made from, as integers, [N, K]. Settings are
those of Locatello et al. 2019 (https://arxiv.org/abs/1811.12359) unless a
function says otherwise. A score that fits a classifier fits it to the first
`num_train` rows and tests it on the rest, so that rows must come in random
order; the study has 10,000 and 5,000.

Every function is a pure one of its arguments: what is drawn comes from the
`numpy.random.Generator` that it is given. Logarithms are natural.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import sklearn.ensemble
import sklearn.exceptions
import sklearn.feature_selection
import sklearn.linear_model
import sklearn.metrics
import sklearn.svm

from vae import metrics

# Ways in which UDR compares the codes of two models.
UDR_METHODS = ('lasso', 'spearman')

# Keeps the logarithm of a share of zero finite, as in the study.
_EPSILON = 1e-11

# Iterations after which a classifier is taken to have converged; at the
# study's 100 many have not, and warn.
_MOST_ITERATIONS = 1000


class Score(NamedTuple):
  """A score and what it is made of.

  Attributes:
    value: the score.
    by_factor: its part for each factor [K], or for each code [L] where it is a
      mean over codes.
    matrix: what relates codes to factors, [L, K].
  """

  value: float
  by_factor: np.ndarray
  matrix: np.ndarray


class DCI(NamedTuple):
  """The three scores of Eastwood and Williams, and what they are made of.

  Attributes:
    disentanglement: 1 where each code serves one factor.
    completeness: 1 where each factor is served by one code.
    informativeness: accuracy on the test rows, averaged over factors.
    importances: of code l for factor k, [L, K]; each column adds up to 1.
    train_accuracy: as `informativeness`, on the rows that were fitted.
  """

  disentanglement: float
  completeness: float
  informativeness: float
  importances: np.ndarray
  train_accuracy: float


class InfoMEC(NamedTuple):
  """Modularity, explicitness and compactness by Hsu et al. 2023.

  Attributes:
    modularity: InfoM; 1 where each active code tells of one factor.
    compactness: InfoC; 1 where one active code tells of each factor.
    explicitness: InfoE; 1 where factors can be read off linearly.
    information: I(code; factor) / H(factor) [L, K]; zero for inactive codes.
  """

  modularity: float
  compactness: float
  explicitness: float
  information: np.ndarray


def _checked(
  codes: np.ndarray, factors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  codes, factors = np.asarray(codes, np.float64), np.asarray(factors)
  if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
    raise ValueError(
      'codes must be [N, L] and factors [N, K] of the same N, got '
      f'{codes.shape} and {factors.shape}'
    )
  if not np.issubdtype(factors.dtype, np.integer):
    raise ValueError(f'factors must be integers, got {factors.dtype}')
  if not np.isfinite(codes).all():
    raise ValueError('codes must be finite')
  for k, column in enumerate(factors.T):
    if len(np.unique(column)) < 2:
      raise ValueError(
        f'factor {k} has the same value in every row, so that no code can tell '
        'of it; leave it out'
      )
  return codes, factors


def _train_and_test(
  codes: np.ndarray, factors: np.ndarray, num_train: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  codes, factors = _checked(codes, factors)
  if not 0 < num_train < len(codes):
    raise ValueError(
      f'num_train must leave some of the {len(codes):,} rows to test on, got '
      f'{num_train:,}'
    )
  return (
    codes[:num_train],
    factors[:num_train],
    codes[num_train:],
    factors[num_train:],
  )


def active_codes(codes: np.ndarray) -> np.ndarray:
  """Returns which codes vary more than `metrics.ACTIVE_VARIANCE`, [L].

  Args:
    codes: posterior means, [N, L].
  """
  return np.var(np.asarray(codes, np.float64), axis=0) > metrics.ACTIVE_VARIANCE


# -- Mutual information -------------------------------------------------------


def _binned(codes: np.ndarray, bins: int) -> np.ndarray:
  """Returns the part of its range, of `bins`, that each code is in, [N, L]."""
  low, high = codes.min(axis=0), codes.max(axis=0)
  width = np.where(high > low, high - low, 1.0)
  return np.minimum((codes - low) / width * bins, bins - 1).astype(np.int64)


def _information(first: np.ndarray, second: np.ndarray) -> float:
  """The plug-in mutual information of two columns of integers >= 0, nats."""
  width = int(second.max()) + 1
  pairs = np.bincount(first * width + second, minlength=width)
  joint = np.pad(pairs, (0, -len(pairs) % width)).reshape(-1, width)
  joint = joint / joint.sum()
  independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
  seen = joint > 0
  value = np.sum(joint[seen] * np.log(joint[seen] / independent[seen]))
  # Of a constant column rounding leaves about 1e-17, which modularity, a ratio,
  # would take for information.
  return float(value) if value > 1e-12 else 0.0


def entropies(factors: np.ndarray) -> np.ndarray:
  """Returns the entropy of each factor by its values' shares, nats [K].

  Args:
    factors: integers, [N, K].
  """
  shares = (
    np.unique(column, return_counts=True)[1] / len(column)
    for column in factors.T
  )
  return np.array([-np.sum(share * np.log(share)) for share in shares])


def _ranks(factors: np.ndarray) -> np.ndarray:
  """Each column's values as 0, 1, 2, ..., whatever integers they were."""
  columns = [np.unique(column, return_inverse=True)[1] for column in factors.T]
  return np.stack(columns, axis=1)


def mutual_information(
  codes: np.ndarray, factors: np.ndarray, bins: int = 20
) -> np.ndarray:
  """Returns I(code; factor) by histograms, nats [L, K].

  The plug-in estimate, which independent columns exceed by about
  (bins - 1) (V - 1) / (2 N) for a factor of V values.

  Args:
    codes: [N, L].
    factors: integers, [N, K].
    bins: equal parts of each code's range.

  Raises:
    ValueError: shapes that differ, or a factor that is constant.
  """
  codes, factors = _checked(codes, factors)
  binned, ranks = _binned(codes, bins), _ranks(factors)
  return np.array(
    [[_information(code, factor) for factor in ranks.T] for code in binned.T]
  )


def _gaps(matrix: np.ndarray) -> np.ndarray:
  """Returns how far each column's largest value is above the next, or 0."""
  ordered = np.sort(np.pad(matrix, ((1, 0), (0, 0))), axis=0)
  return ordered[-1] - ordered[-2]


def mig(codes: np.ndarray, factors: np.ndarray, bins: int = 20) -> Score:
  """Returns the mutual information gap (Chen et al. 2018), by histograms.

  https://arxiv.org/abs/1802.04942, equation 6: the gap between the two codes
  that tell most of a factor, over the factor's entropy, averaged over factors.
  Chen et al. estimate the information from samples of the aggregate posterior;
  this is the study's estimator, another number under the same name. It grows
  with N, factors of more values than bins cannot reach 1, and one outlier
  leaves few bins to all other rows.

  Args:
    codes: [N, L].
    factors: integers, [N, K].
    bins: equal parts of each code's range.

  Returns:
    The score, the gaps [K] and the mutual information in nats [L, K].
  """
  information = mutual_information(codes, factors, bins)
  gaps = _gaps(information) / entropies(np.asarray(factors))
  return Score(float(gaps.mean()), gaps, information)


def modularity(
  codes: np.ndarray,
  factors: np.ndarray,
  bins: int = 20,
  active_only: bool = False,
) -> Score:
  """Returns the modularity of Ridgeway and Mozer 2018, by histograms.

  https://arxiv.org/abs/1802.05312, equations 2 to 4. Of a code with mutual
  information m over K factors, 1 - (sum m^2 - max m^2) / (max m^2 (K - 1));
  0 where it tells of none. The plug-in bias lets a code of pure noise score by
  the factors' sizes alone (0.65 on five factors), so that `active_only` gives
  another view.

  Args:
    codes: [N, L].
    factors: integers, [N, K], K at least 2.
    bins: equal parts of each code's range.
    active_only: whether the mean is over active codes; 0 where there are none.

  Returns:
    The score, the scores of all codes [L] and the information in nats [L, K].
  """
  information = mutual_information(codes, factors, bins)
  if information.shape[1] < 2:
    raise ValueError('modularity needs at least two factors')
  squared = information**2
  most = squared.max(axis=1)
  others = squared.sum(axis=1) - most
  scale = np.where(most > 0, most, 1.0) * (squared.shape[1] - 1)
  scores = np.where(most > 0, 1.0 - others / scale, 0.0)
  counted = scores[active_codes(codes)] if active_only else scores
  value = float(counted.mean()) if len(counted) else 0.0
  return Score(value, scores, information)


# -- Scores that fix a factor -------------------------------------------------


class _Partners:
  """Draws rows that share the value of a factor with given rows."""

  def __init__(self, factors: np.ndarray):
    self._order = np.argsort(factors, axis=0, kind='stable')
    ranks = _ranks(factors)
    self._first, self._count = [], []
    for column in ranks.T:
      counts = np.bincount(column)
      starts = np.cumsum(counts) - counts
      self._first.append(starts[column])
      self._count.append(counts[column])

  def __call__(
    self, factor: int, rows: np.ndarray, generator: np.random.Generator
  ) -> np.ndarray:
    offsets = generator.random(rows.shape) * self._count[factor][rows]
    places = self._first[factor][rows] + offsets.astype(np.int64)
    return self._order[places, factor]


def beta_vae_score(
  codes: np.ndarray,
  factors: np.ndarray,
  generator: np.random.Generator,
  *,
  num_train: int = 10_000,
  num_test: int = 5_000,
  batch_size: int = 64,
) -> Score:
  """Returns the score of Higgins et al. 2017, as the study computes it.

  https://openreview.net/forum?id=Sy2fzU9gl, section 3. A point is the mean over
  `batch_size` pairs of |z - z'|, where each pair shares one factor; the score
  is the accuracy with which logistic regression tells which. It depends on the
  scale of codes, through the penalty on weights.

  Args:
    codes: [N, L], from which pairs are drawn with replacement.
    factors: integers, [N, K].
    generator: draws factors and pairs.
    num_train: points that are fitted.
    num_test: points that are tested.
    batch_size: pairs a point.

  Returns:
    The accuracy, that for each factor [K], and the mean difference of each
    code where a factor is shared [L, K].
  """
  codes, factors = _checked(codes, factors)
  num_factors = factors.shape[1]
  partners = _Partners(factors)
  shared = generator.integers(num_factors, size=num_train + num_test)
  points = np.empty((len(shared), codes.shape[1]))
  for factor in range(num_factors):
    chosen = np.flatnonzero(shared == factor)
    for part in np.array_split(chosen, -(-len(chosen) // 1000) or 1):
      rows = generator.integers(len(codes), size=(len(part), batch_size))
      others = partners(factor, rows, generator)
      points[part] = np.abs(codes[rows] - codes[others]).mean(axis=1)
  classifier = sklearn.linear_model.LogisticRegression(
    max_iter=_MOST_ITERATIONS
  )
  classifier.fit(points[:num_train], shared[:num_train])
  right = classifier.predict(points[num_train:]) == shared[num_train:]
  tested = shared[num_train:]
  by_factor = np.array([right[tested == k].mean() for k in range(num_factors)])
  matrix = np.stack(
    [points[shared == k].mean(axis=0) for k in range(num_factors)], axis=1
  )
  return Score(float(right.mean()), by_factor, matrix)


def factor_vae_score(
  codes: np.ndarray,
  factors: np.ndarray,
  generator: np.random.Generator,
  *,
  num_train: int = 10_000,
  num_test: int = 5_000,
  batch_size: int = 64,
  num_variance: int = 10_000,
  least_stddev: float = 0.05,
) -> Score:
  """Returns the score of Kim and Mnih 2018, as the study computes it.

  https://arxiv.org/abs/1802.05983, section 4. A batch shares one factor; it
  votes for the code whose variance, over that of all images, is smallest; the
  score is the accuracy of the majority's factor for each code. It does not
  depend on the scale of any code, and codes whose standard deviation is less
  than `least_stddev` take no part.

  Args:
    codes: [N, L], from which batches are drawn with replacement.
    factors: integers, [N, K].
    generator: draws factors and batches.
    num_train: votes that the majorities are made of.
    num_test: votes that are tested.
    batch_size: rows a vote.
    num_variance: rows, at most, for the variance over all images.
    least_stddev: of the codes that take part.

  Returns:
    The accuracy, 0 where no code takes part; that for each factor [K]; and
    the votes [L, K].
  """
  codes, factors = _checked(codes, factors)
  num_factors, num_codes = factors.shape[1], codes.shape[1]
  if len(codes) > num_variance:
    rows = generator.choice(len(codes), num_variance, replace=False)
    variances = codes[rows].var(axis=0, ddof=1)
  else:
    variances = codes.var(axis=0, ddof=1)
  kept = np.flatnonzero(np.sqrt(variances) >= least_stddev)
  votes = np.zeros((2, num_codes, num_factors))
  if not len(kept):
    return Score(0.0, np.zeros(num_factors), votes[0])
  partners = _Partners(factors)
  for fitted, count in ((0, num_train), (1, num_test)):
    shared = generator.integers(num_factors, size=count)
    for factor in range(num_factors):
      size = int(np.sum(shared == factor))
      for start in range(0, size, 1000):
        rows = generator.integers(len(codes), size=min(1000, size - start))
        rows = np.broadcast_to(rows[:, None], (len(rows), batch_size))
        batches = codes[:, kept][partners(factor, rows, generator)]
        ratios = batches.var(axis=1, ddof=1) / variances[kept]
        np.add.at(votes[fitted, :, factor], kept[np.argmin(ratios, axis=1)], 1)
  chosen = votes[0].argmax(axis=1)
  right = votes[1][np.arange(num_codes), chosen]
  by_factor = np.bincount(chosen, right, num_factors) / votes[1].sum(axis=0)
  return Score(float(right.sum() / votes[1].sum()), by_factor, votes[0])


# -- Scores that fit a classifier ---------------------------------------------


def disentanglement(importances: np.ndarray) -> float:
  """Returns DCI's disentanglement of importances [L, K].

  The mean over codes of 1 - H_K(shares of a code's importance), where H_K is
  the entropy in base K, weighted by the codes' importance; 0 where all are 0.
  """
  return _concentration(np.asarray(importances).T)


def completeness(importances: np.ndarray) -> float:
  """Returns DCI's completeness of importances [L, K].

  As `disentanglement`, over the codes of each factor, with H_L: codes that do
  nothing raise it.
  """
  return _concentration(np.asarray(importances))


def _concentration(importances: np.ndarray) -> float:
  """Returns the mean over columns, weighted by their sums."""
  total = importances.sum()
  if total == 0.0 or len(importances) < 2:
    return 0.0
  shares = importances + _EPSILON
  shares = shares / shares.sum(axis=0)
  entropies = -np.sum(shares * np.log(shares), axis=0) / np.log(len(shares))
  return float(np.sum((1.0 - entropies) * importances.sum(axis=0)) / total)


def dci(
  codes: np.ndarray,
  factors: np.ndarray,
  seed: int,
  *,
  num_train: int = 10_000,
  estimator: Callable[..., Any] = (sklearn.ensemble.GradientBoostingClassifier),
) -> DCI:
  """Returns the scores of Eastwood and Williams 2018, by boosted trees.

  https://openreview.net/forum?id=By-7dz-AZ. Importances are those of one
  classifier a factor. Which classifier moves the scores, so that `dci_forest`
  is another one. Boosted trees take minutes for factors of many values.

  Args:
    codes: [N, L].
    factors: integers, [N, K].
    seed: of the classifiers.
    num_train: rows that are fitted.
    estimator: of scikit-learn; with `feature_importances_`.
  """
  train, train_factors, test, test_factors = _train_and_test(
    codes, factors, num_train
  )
  importances = np.zeros((train.shape[1], train_factors.shape[1]))
  accuracies = np.zeros((2, train_factors.shape[1]))
  for k, (fitted, tested) in enumerate(
    zip(train_factors.T, test_factors.T, strict=True)
  ):
    classifier = estimator(random_state=seed).fit(train, fitted)
    importances[:, k] = np.abs(classifier.feature_importances_)
    accuracies[0, k] = np.mean(classifier.predict(train) == fitted)
    accuracies[1, k] = np.mean(classifier.predict(test) == tested)
  return DCI(
    disentanglement(importances),
    completeness(importances),
    float(accuracies[1].mean()),
    importances,
    float(accuracies[0].mean()),
  )


def dci_forest(
  codes: np.ndarray, factors: np.ndarray, seed: int, *, num_train: int = 10_000
) -> DCI:
  """Returns `dci` by random forests of 100 trees: seconds, other numbers.

  Args:
    codes: [N, L].
    factors: integers, [N, K].
    seed: of the forests.
    num_train: rows that are fitted.
  """
  forest = functools.partial(
    sklearn.ensemble.RandomForestClassifier, min_samples_leaf=5, max_depth=12
  )
  return dci(codes, factors, seed, num_train=num_train, estimator=forest)


def _sap(matrix: np.ndarray) -> Score:
  gaps = _gaps(matrix)
  return Score(float(gaps.mean()), gaps, matrix)


def sap(
  codes: np.ndarray, factors: np.ndarray, seed: int, *, num_train: int = 10_000
) -> Score:
  """Returns the separated attribute predictability, by classification.

  Kumar et al. 2018 (https://arxiv.org/abs/1711.00848), section 3, as the study
  has it: the gap between the two codes from which a linear support vector
  machine (C = 0.01, balanced classes) tells a factor best. Not the R^2 of
  `sap_r2`, from which the literature's larger numbers come; neither free of
  scale, nor 1 for the factors themselves.

  Args:
    codes: [N, L].
    factors: integers, [N, K].
    seed: of the classifiers.
    num_train: rows that are fitted.

  Returns:
    The score, the gaps [K] and the accuracies on the test rows [L, K]; 0 for
    codes that are constant.
  """
  train, train_factors, test, test_factors = _train_and_test(
    codes, factors, num_train
  )
  matrix = np.zeros((train.shape[1], train_factors.shape[1]))
  for i in np.flatnonzero(np.var(test, axis=0) > 1e-12):
    for k in range(train_factors.shape[1]):
      machine = sklearn.svm.LinearSVC(
        C=0.01, class_weight='balanced', random_state=seed
      )
      with warnings.catch_warnings():
        warnings.simplefilter('ignore', sklearn.exceptions.ConvergenceWarning)
        machine.fit(train[:, i : i + 1], train_factors[:, k])
      predicted = machine.predict(test[:, i : i + 1])
      matrix[i, k] = np.mean(predicted == test_factors[:, k])
  return _sap(matrix)


def sap_r2(codes: np.ndarray, factors: np.ndarray) -> Score:
  """Returns the separated attribute predictability by squared correlation.

  Kumar et al. 2018, section 3, for factors whose order means something.

  Args:
    codes: [N, L].
    factors: integers, [N, K].

  Returns:
    The score, the gaps [K] and the squared correlations [L, K]; 0 for codes
    that are constant.
  """
  codes, factors = _checked(codes, factors)
  centred = codes - codes.mean(axis=0)
  targets = factors - factors.mean(axis=0)
  variances = np.outer((centred**2).mean(axis=0), (targets**2).mean(axis=0))
  covariances = centred.T @ targets / len(codes)
  alive = (centred**2).mean(axis=0)[:, None] > 1e-12
  matrix = np.where(
    alive, covariances**2 / np.where(alive, variances, 1.0), 0.0
  )
  return _sap(matrix)


def _standardised(
  train: np.ndarray, *others: np.ndarray
) -> tuple[np.ndarray, ...]:
  mean, deviation = train.mean(axis=0), train.std(axis=0)
  deviation = np.where(deviation > 0, deviation, 1.0)
  return tuple((part - mean) / deviation for part in (train, *others))


def explicitness(
  codes: np.ndarray, factors: np.ndarray, *, num_train: int = 10_000
) -> Score:
  """Returns the explicitness of Ridgeway and Mozer 2018.

  https://arxiv.org/abs/1802.05312, section 3: the area under the ROC curve of
  multinomial logistic regression on standardised codes, one value against the
  rest, averaged over values and factors. 0.5 is chance.

  Args:
    codes: [N, L].
    factors: integers, [N, K].
    num_train: rows that are fitted.

  Returns:
    The score, that of each factor [K], and the size of the weights [L, K].

  Raises:
    ValueError: a value of a factor that some of the rows lack.
  """
  train, train_factors, test, test_factors = _train_and_test(
    codes, factors, num_train
  )
  train, test = _standardised(train, test)
  areas, weights = [], []
  for k, (fitted, tested) in enumerate(
    zip(train_factors.T, test_factors.T, strict=True)
  ):
    if missing := set(fitted) ^ set(tested):
      raise ValueError(
        f'factor {k}: the value {min(missing)} is missing among '
        f'{num_train:,} or the other {len(tested):,} rows; more are needed'
      )
    regression = sklearn.linear_model.LogisticRegression(
      max_iter=_MOST_ITERATIONS
    ).fit(train, fitted)
    shares = regression.predict_proba(test)
    areas.append(
      np.mean(
        [
          sklearn.metrics.roc_auc_score(tested == value, share)
          for value, share in zip(regression.classes_, shares.T, strict=True)
        ]
      )
    )
    weights.append(np.abs(regression.coef_).mean(axis=0))
  return Score(float(np.mean(areas)), np.array(areas), np.stack(weights, 1))


def probe(
  codes: np.ndarray,
  factors: np.ndarray,
  *,
  num_labels: int,
  num_train: int = 10_000,
) -> Score:
  """Returns how well factors are read off codes with few labels.

  The accuracy, averaged over factors, of multinomial logistic regression
  (scikit-learn's penalty, C = 1) on standardised codes: a simple task
  downstream of a model. 1 for codes that tell all values apart linearly, the
  share of the commonest value for those that tell nothing; a value that no
  label has is always wrong.

  Args:
    codes: [N, L].
    factors: integers, [N, K].
    num_labels: the first rows, which are fitted.
    num_train: the rows before those that are tested, as of other scores.

  Returns:
    The accuracy, that of each factor [K], and the size of the weights [L, K].

  Raises:
    ValueError: more labels than rows before those that are tested.
  """
  train, train_factors, test, test_factors = _train_and_test(
    codes, factors, num_train
  )
  if not 0 < num_labels <= num_train:
    raise ValueError(
      f'num_labels must be at least 1 and at most {num_train:,}, got '
      f'{num_labels:,}'
    )
  train, test = _standardised(train[:num_labels], test)
  accuracies, weights = [], []
  for fitted, tested in zip(
    train_factors[:num_labels].T, test_factors.T, strict=True
  ):
    if len(np.unique(fitted)) < 2:  # Nothing to tell apart.
      accuracies.append(np.mean(tested == fitted[0]))
      weights.append(np.zeros(train.shape[1]))
      continue
    regression = sklearn.linear_model.LogisticRegression(
      max_iter=_MOST_ITERATIONS
    ).fit(train, fitted)
    accuracies.append(np.mean(regression.predict(test) == tested))
    weights.append(np.abs(regression.coef_).mean(axis=0))
  return Score(
    float(np.mean(accuracies)), np.array(accuracies), np.stack(weights, 1)
  )


def irs(
  codes: np.ndarray, factors: np.ndarray, quantile: float = 0.99
) -> Score:
  """Returns the interventional robustness score of Suter et al. 2019.

  https://arxiv.org/abs/1811.00007, section 4. Of a code and a factor, 1 minus
  how far the code strays from its mean while the factor stays (the quantile of
  the distance, averaged over values), over how far it ever strays; the best
  factor of each code, averaged by how far codes stray. Noise does not score 0
  (0.375 for a Gaussian at 10,000 rows).

  Args:
    codes: [N, L].
    factors: integers, [N, K].
    quantile: of the distances; 1 in the paper, 0.99 in the study's code.

  Returns:
    The score, 0 where all codes are constant; that of each code [L]; and all
    of them [L, K].
  """
  codes, factors = _checked(codes, factors)
  furthest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
  matrix = np.zeros((codes.shape[1], factors.shape[1]))
  alive = codes.var(axis=0) > 0
  for k, factor in enumerate(factors.T):
    values = np.unique(factor)
    strayed = np.zeros(codes.shape[1])
    for value in values:
      group = codes[factor == value]
      distances = np.abs(group - group.mean(axis=0))
      strayed += np.quantile(distances, quantile, axis=0) / len(values)
    matrix[alive, k] = 1.0 - strayed[alive] / furthest[alive]
  scores = matrix.max(axis=1)
  if not alive.any():
    return Score(0.0, scores, matrix)
  value = np.average(scores[alive], weights=furthest[alive])
  return Score(float(value), scores, matrix)


def infomec(
  codes: np.ndarray,
  factors: np.ndarray,
  seed: int,
  *,
  neighbors: int = 10,
  least_range: float = 1 / 20,
) -> InfoMEC:
  """Returns InfoM, InfoC and InfoE of Hsu et al. 2023.

  https://arxiv.org/abs/2305.18378, section 4. Mutual information is the nearest
  neighbours' estimate of Ross 2014, over each factor's entropy. With A active
  codes and K factors, over the normalised information N [A, K],

      InfoM = (mean over codes of max / sum - 1 / K) / (1 - 1 / K)
      InfoC = (mean over factors of max / sum - 1 / A) / (1 - 1 / A)

  where a sum of zero counts as a share of zero, and InfoC is 1 for one active
  code. Noise does not score 0, since estimates below zero are clipped and the
  shares of those that are left are uneven: about 0.6 and 0.3 for ten codes
  of 4,000 rows. InfoE is 1 minus the logarithmic loss of a logistic regression
  without penalty, over that of a guess, on the rows that it was fitted to: any
  invertible linear map of the factors reaches 1.

  Args:
    codes: [N, L].
    factors: integers, [N, K], K at least 2.
    seed: of the noise that breaks ties between neighbours.
    neighbors: of each row, in the estimate.
    least_range: of an active code, as a share of the widest range of any.
  """
  codes, factors = _checked(codes, factors)
  if factors.shape[1] < 2:
    raise ValueError('infomec needs at least two factors')
  ranges = np.ptp(codes, axis=0)
  active = (ranges > 0) & (ranges >= least_range * ranges.max())
  information = np.zeros((codes.shape[1], factors.shape[1]))
  entropy = entropies(factors)
  if active.any():
    for k, factor in enumerate(factors.T):
      information[active, k] = (
        sklearn.feature_selection.mutual_info_classif(
          codes[:, active],
          factor,
          discrete_features=False,
          n_neighbors=neighbors,
          random_state=seed,
        )
        / entropy[k]
      )
  relevant = information[active]
  return InfoMEC(
    _evenness(relevant),
    _evenness(relevant.T),
    _linear_explicitness(codes[:, active], factors),
    information,
  )


def _evenness(information: np.ndarray) -> float:
  """The mean over rows of max / sum, from 0 for even rows to 1 for one-hot."""
  if not information.size:
    return 0.0
  sums = information.sum(axis=1)
  shares = information.max(axis=1) / np.where(sums > 0, sums, 1.0)
  count = information.shape[1]
  if count == 1:
    return float(shares.mean())
  return float(max(0.0, (shares.mean() - 1 / count) / (1 - 1 / count)))


def _linear_explicitness(codes: np.ndarray, factors: np.ndarray) -> float:
  if not codes.shape[1]:
    return 0.0
  (codes,) = _standardised(codes)
  shares = []
  for factor in factors.T:
    # Balanced classes weigh each value alike, and a guess is then even.
    regression = sklearn.linear_model.LogisticRegression(
      C=np.inf, class_weight='balanced', max_iter=_MOST_ITERATIONS
    ).fit(codes, factor)
    values, places = np.unique(factor, return_inverse=True)
    weights = 1.0 / np.bincount(places)[places]
    loss = sklearn.metrics.log_loss(
      factor, regression.predict_proba(codes), sample_weight=weights
    )
    shares.append(1.0 - loss / np.log(len(values)))
  return float(np.mean(shares))


# -- Scores that need no factors ----------------------------------------------


def gaussian_total_correlation(codes: np.ndarray) -> float:
  """Returns the total correlation of a Gaussian with the codes' covariance.

  (sum of log C_ll - log det C) / 2 in nats, over the active codes; 0 for fewer
  than two.

  Args:
    codes: [N, L].
  """
  codes = np.asarray(codes, np.float64)[:, active_codes(codes)]
  if codes.shape[1] < 2:
    return 0.0
  correlations = np.corrcoef(codes, rowvar=False)
  return float(-0.5 * np.linalg.slogdet(correlations)[1])


def mean_pairwise_information(codes: np.ndarray, bins: int = 20) -> float:
  """Returns the mutual information of two active codes, averaged over pairs.

  By histograms, in nats, as `mutual_information`; 0 for fewer than two.

  Args:
    codes: [N, L].
    bins: equal parts of each code's range.
  """
  codes = np.asarray(codes, np.float64)[:, active_codes(codes)]
  binned = _binned(codes, bins) if codes.shape[1] else np.zeros((0, 0), int)
  pairs = [
    _information(binned[:, i], binned[:, j])
    for i in range(codes.shape[1])
    for j in range(i)
  ]
  return float(np.mean(pairs)) if pairs else 0.0


def udr(
  codes: Sequence[np.ndarray],
  rates: Sequence[np.ndarray],
  method: str = 'lasso',
  least_rate: float = 0.01,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the unsupervised disentanglement ranking of Duan et al. 2020.

  https://arxiv.org/abs/1905.12614, section 3: models of one recipe that
  disentangle agree up to order and sign. Between two models, R is the size of
  Lasso's weights (alpha 0.1) from the standardised codes of the one to those of
  the other, or of Spearman's correlation, over codes whose rate exceeds
  `least_rate`; the score is the mean over both sides of max^2 / sum. As in the
  authors' code, the two sides' means are averaged.

  Args:
    codes: of each of M models, [N, L], of the same images.
    rates: KL of each latent in nats, [L].
    method: 'lasso' or 'spearman'.
    least_rate: of codes that take part, nats.

  Returns:
    The median over the other models, for each [M], and all pairs [M, M], whose
    diagonal is NaN.

  Raises:
    ValueError: fewer than two models, images that differ in number, or another
      method.
  """
  if len(codes) < 2 or len({len(model) for model in codes}) != 1:
    raise ValueError('udr needs at least two models, of the same images')
  if method not in UDR_METHODS:
    raise ValueError(f'method must be one of {UDR_METHODS}, got {method!r}')
  prepared = []
  for model in codes:
    model = np.asarray(model, np.float64)
    if method == 'spearman':
      model = scipy.stats.rankdata(model, axis=0)
    prepared.append(_standardised(model)[0])
  kept = [np.asarray(rate) > least_rate for rate in rates]
  pairs = np.full((len(codes), len(codes)), np.nan)
  for a, first in enumerate(prepared):
    for b, second in enumerate(prepared):
      if a == b:
        continue
      if method == 'lasso':
        regression = sklearn.linear_model.Lasso(alpha=0.1).fit(first, second)
        related = np.abs(np.atleast_2d(regression.coef_)).T
      else:
        related = np.abs(first.T @ second) / len(first)
      pairs[a, b] = _agreement(related[np.ix_(kept[a], kept[b])])
  return np.nanmedian(pairs, axis=1), pairs


def _agreement(related: np.ndarray) -> float:
  if not related.size:
    return 0.0
  sides = []
  for axis in (0, 1):
    sums = related.sum(axis=axis)
    sides.append(
      np.mean(related.max(axis=axis) ** 2 / np.where(sums > 0, sums, 1.0))
    )
  return float(np.mean(sides))
