"""Measures a run: the table of metrics, and the rows of eval.csv."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from launch import records
from launch.experiment import messages
from launch.settings.config import Config
from vae import models
from vae.data import datasets
from vae.metrics import aggregate, evaluation, importance

# Above this many nats per image, the expected bias of the importance-weighted
# bound is worth a warning; so is a share of images whose weights hardly count
# more than one sample.
_BIAS_NATS = 0.1
_DEGENERATE_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Evaluated:
  """A model and the split that it was evaluated on: all a metric may look at.

  Attributes:
    config: the run's settings.
    manifest: of the run.
    step: the number of updates of the model.
    model: the VAE.
    split: the split's name.
    data: its examples, and labels where there are any.
    result: its evaluation, with one posterior sample per image: estimates in
      nats, means and standard deviations of the latents [N, L].
    num_importance_samples: at most, for the bound; 0 for none.
    progress: from a label and a number of images, a function that is told how
      many of them are done.
  """

  config: Config
  manifest: Mapping[str, Any]
  step: int
  model: models.VAE
  split: str
  data: datasets.Split
  result: evaluation.Evaluation
  num_importance_samples: int = 0
  progress: Callable[[str, int], Callable[[int], None]] = (
    lambda label, num_images: lambda done: None
  )

  @functools.cached_property
  def rate_parts(self) -> aggregate.Decomposition:
    """The rate taken apart by the aggregate posterior."""
    chosen = aggregate.choose(len(self.data.examples))
    posterior = aggregate.aggregate_posterior(
      self.model,
      self.data.examples[chosen],
      self.config.binarize,
      self.config.seed,
    )
    return aggregate.decompose(
      posterior,
      self.model.prior,
      self.config.seed,
      self.progress('aggregate', len(chosen)),
    )

  @functools.cached_property
  def bounds(self) -> list[importance.Bound]:
    """Lower bounds on log p(x), at 1, 10, ... samples.

    Raises:
      ValueError: grey targets under a Bernoulli, or no samples.
    """
    if not self.manifest['has_density']:
      raise ValueError(
        'grey pixels have no log-density under a Bernoulli; their '
        'importance-weighted bound bounds nothing'
      )
    return self._estimator(
      self.data.examples,
      self.config.binarize,
      self.config.seed,
      importance.sample_counts(self.num_importance_samples),
      self.progress('log p(x)', len(self.data.examples)),
    )

  def seconds_of_bounds(self) -> float:
    """Returns about how long `bounds` will take, from its first samples."""
    return self._estimator.seconds(
      self.data.examples, self.config.binarize, self.num_importance_samples
    )

  @functools.cached_property
  def _estimator(self) -> importance.Estimator:
    return importance.Estimator(self.model, self.config.jit == 'on')


def some(split: datasets.Split, most: int) -> datasets.Split:
  """Returns the examples of a split that evaluations in training take.

  Args:
    split: all of them.
    most: the setting `eval_images`; 0 for all.
  """
  if not 0 < most < len(split.examples):
    return split
  return split[evaluation.choose(len(split.examples), most)]


# -- The table ----------------------------------------------------------------


def _has_probability(of: Evaluated) -> bool:
  """Returns whether targets are binary, and have a probability.

  A density's nats are no code length until pixels have a width, nor are those
  of grey targets under a Bernoulli.
  """
  likelihood = getattr(of.model.decode, 'likelihood', None)
  density_of = getattr(likelihood, 'density_of', 'any')
  return of.manifest['has_density'] and density_of == 'binary'


# What a metric may need, and what has it.
NEEDS: Mapping[str, Callable[[Evaluated], bool]] = {
  # A rate and a distortion in nats; an autoencoder has neither.
  'elbo': lambda of: of.result.has_elbo,
  'autoencoder': lambda of: not of.result.has_elbo,
  'probability': _has_probability,
  'bound': lambda of: of.num_importance_samples > 0,
  'labels': lambda of: of.data.labels is not None,
}

Number = float | evaluation.Estimate | None


class Metric(NamedTuple):
  """A number of a split: a new one is a function and an entry of `METRICS`.

  Attributes:
    measure: returns a mean over images with its error, or a number, or one by
      the number of posterior samples, or None.
    needs: keys of `NEEDS`; of what lacks one there is no row.
    in_training: whether every evaluation in training measures it, too. Rows of
      such are cut where a run resumes, for it to write them again.
    num_images: of how many images it is.
  """

  measure: Callable[[Evaluated], Number | Mapping[int, Number]]
  needs: Sequence[str] = ('elbo',)
  in_training: bool = False
  num_images: Callable[[Evaluated], int] = lambda of: of.result.num_images


def _bits_per_dimension(of: Evaluated) -> evaluation.Estimate:
  bits = math.prod(of.manifest['dataset']['shape']) * math.log(2.0)
  elbo = of.result.elbo
  return evaluation.Estimate(-elbo.value / bits, elbo.se / bits)


def _scale(name: str) -> Callable[[Evaluated], float | None]:
  return lambda of: likelihood_scale(
    of.model, of.manifest['effective_beta']
  ).get(name)


def _part(name: str) -> Metric:
  return Metric(
    lambda of: getattr(of.rate_parts, name),
    num_images=lambda of: of.rate_parts.num_images,
  )


def _bound(name: str) -> Metric:
  return Metric(
    lambda of: {b.num_samples: getattr(b, name) for b in of.bounds},
    ('elbo', 'bound'),
  )


# By the name in eval.csv, which says the unit.
METRICS: dict[str, Metric] = {
  'elbo_nats': Metric(lambda of: of.result.elbo, in_training=True),
  'distortion_nats': Metric(lambda of: of.result.distortion, in_training=True),
  'rate_nats': Metric(lambda of: of.result.rate, in_training=True),
  'elbo_bits_per_dimension': Metric(
    _bits_per_dimension, ('elbo', 'probability'), in_training=True
  ),
  'active_units': Metric(lambda of: of.result.active_units, in_training=True),
  'squared_error': Metric(
    lambda of: of.result.squared_error, ('autoencoder',), in_training=True
  ),
  'fitted_scale': Metric(_scale('fitted_scale'), in_training=True),
  'equivalent_beta': Metric(_scale('equivalent_beta'), in_training=True),
  'mutual_information_nats': _part('mutual_information'),
  'marginal_kl_nats': _part('marginal_kl'),
  'total_correlation_nats': _part('total_correlation'),
  'dimension_wise_kl_nats': _part('dimension_wise_kl'),
  'log_p_nats': _bound('log_p'),
  'effective_sample_size': _bound('ess'),
  'log_p_expected_bias_nats': _bound('bias'),
  'degenerate_share': _bound('degenerate'),
}

# Of older runs, where `fitted_scale` had a setting's name.
_RETIRED = ('likelihood_scale',)


def is_written_by_training(row: Mapping[str, str], config: Config) -> bool:
  """Returns whether a row of a table is one that training writes by itself."""
  tested = 'train' if config.test_share == 0 else 'test'
  splits = (tested, 'validation') if config.patience else (tested,)
  if row['split'] not in splits:
    return False
  if 'metric' not in row or row['metric'] in _RETIRED:
    return True
  metric = METRICS.get(row['metric'])
  return metric is not None and metric.in_training


def stand(path: pathlib.Path, num_importance_samples: int) -> bool:
  """Returns whether a run has what `launch.evaluate` measures of its result.

  Args:
    path: the run directory.
    num_importance_samples: at which the bound is asked for; 0 for none.

  Raises:
    RecordError: a damaged run.
  """
  manifest = records.read_manifest(path)
  rows = records.read_rows(path, records.EVAL)
  step, split = (
    records.result_step(manifest, rows),
    records.result_split(manifest),
  )
  rows = [r for r in rows if int(r['step']) == step and r['split'] == split]
  if not manifest['has_elbo']:
    # Training measures all that there is, but perhaps of a part of the split.
    total = manifest['dataset']['num_images'][split]
    return any(
      row['metric'] == 'squared_error' and int(row['n']) == total
      for row in rows
    )
  have = {
    (METRICS[row['metric']].needs, int(row['num_samples']))
    for row in rows
    if row['metric'] in METRICS and not METRICS[row['metric']].in_training
  }
  return any('bound' not in needs for needs, _ in have) and (
    not (num_importance_samples and manifest['has_density'])
    or any(
      'bound' in needs and count == num_importance_samples
      for needs, count in have
    )
  )


def rows(of: Evaluated, names: Iterable[str]) -> list[dict[str, Any]]:
  """Returns the metrics that apply as rows of eval.csv.

  Args:
    of: what was evaluated.
    names: of the metrics.
  """
  found = []
  for name in names:
    metric = METRICS[name]
    if not all(NEEDS[need](of) for need in metric.needs):
      continue
    measured = metric.measure(of)
    if not isinstance(measured, Mapping):
      measured = {1: measured}
    for num_samples, number in measured.items():
      if number is None:
        continue
      if not isinstance(number, evaluation.Estimate):
        number = evaluation.Estimate(float(number), math.nan)
      found.append(
        {
          'step': of.step,
          'split': of.split,
          'n': metric.num_images(of),
          'metric': name,
          'num_samples': num_samples,
          'value': number.value,
          'se': number.se,
        }
      )
  return found


def record(
  path: pathlib.Path, of: Evaluated, in_training: bool
) -> list[dict[str, Any]]:
  """Measures what applies, into eval.csv and rate_per_latent.csv.

  What takes long is written when it is there, so that a kill costs no more than
  what was under way.

  Args:
    path: the run directory.
    of: what was evaluated.
    in_training: whether to leave out what `launch.evaluate` alone measures.

  Returns:
    The rows of eval.csv.
  """
  # Another run may have taken the place of the one that was loaded.
  expected = None if in_training else of.manifest
  always = [name for name, metric in METRICS.items() if metric.in_training]
  found = rows(of, always)
  records.upsert(path, records.EVAL, found, expected)
  if of.result.has_elbo:
    per_latent = zip(
      of.result.rate_per_latent, of.result.mean_variance, strict=True
    )
    records.upsert(
      path,
      records.RATE_PER_LATENT,
      [
        {
          'step': of.step,
          'split': of.split,
          'latent': latent,
          'rate_nats': float(rate),
          'mean_variance': float(variance),
        }
        for latent, (rate, variance) in enumerate(per_latent)
      ],
      expected,
    )
  for name in () if in_training else [n for n in METRICS if n not in always]:
    found += (more := rows(of, [name]))
    records.upsert(path, records.EVAL, more, expected)
  return found


def likelihood_scale(
  model: models.VAE, effective_beta: float | None
) -> dict[str, float]:
  """Returns the scale of a Normal likelihood, and beta's worth under it.

  With a scale s, distortion + beta rate is, up to a constant and the factor
  1 / s^2,

      squared error / 2 + beta s^2 rate

  (Rybkin et al. 2021, https://arxiv.org/abs/2006.13202, section 3).

  Returns:
    `fitted_scale` s, in the data's unit, and `equivalent_beta`, beta s^2,
    where there is an effective beta; nothing where the likelihood is another.
  """
  assert isinstance(model.decode, models.Decoder)
  scale = getattr(model.decode.likelihood, 'scale', None)
  if scale is None:
    return {}
  found = {'fitted_scale': float(scale)}
  if effective_beta is not None:
    found['equivalent_beta'] = effective_beta * found['fitted_scale'] ** 2
  return found


def unbounded(
  manifest: Mapping[str, Any], model: models.VAE, data: datasets.Split
) -> list[str]:
  """Returns a warning where nats of a density have no upper bound, or nothing.

  Pixels are points, whose density a scale that is learned raises without end
  (Theis et al. 2016, https://arxiv.org/abs/1511.01844).

  Args:
    manifest: of the run.
    model: the VAE.
    data: a split.
  """
  assert isinstance(model.decode, models.Decoder)
  if (
    not (manifest['has_elbo'] and manifest['has_density'])
    or data.examples.dtype != np.uint8
    or getattr(model.decode.likelihood, 'is_bounded', False)
  ):
    return []
  return [
    'WARNING: pixels of 8 bits have no noise that would make them continuous '
    '(no dequantisation), and the density adapts to them: its elbo, distortion '
    'and log p(x) have no upper bound, and compare only within this likelihood'
  ]


def best_validated(
  path: pathlib.Path, has_elbo: bool, settled: int
) -> int | None:
  """Returns the step whose weights did best on the validation split so far.

  By the elbo, whose beta is always 1, so that a beta that moves does not move
  the scale; an autoencoder's by its squared error.

  Args:
    path: the run.
    has_elbo: whether it has one.
    settled: the first step that counts: before it the model was trained on
      other weights of its terms than the run is asked for.

  Returns:
    The step, of equals the earliest; None where nothing was validated yet.
  """
  metric, sign = ('elbo_nats', 1) if has_elbo else ('squared_error', -1)
  validated = [
    (sign * float(row['value']), -int(row['step']))
    for row in records.read_rows(path, records.EVAL)
    if row['split'] == 'validation' and row['metric'] == metric and row['value']
    if int(row['step']) >= settled
  ]
  return -max(validated)[1] if validated else None


# -- In words -----------------------------------------------------------------


def lines(of: Evaluated, rows: Iterable[Mapping[str, Any]]) -> list[str]:
  """Returns what was measured, for the terminal.

  Args:
    of: what was evaluated.
    rows: from `record`.

  Returns:
    The numbers, warnings, and a sentence in words.
  """
  counted = messages.counted(of.manifest['dataset']['shape'])
  found = [
    f'{of.split} split of {of.config.dataset}, {of.result.num_images:,} '
    f'{counted}, step {of.step:,} (± standard error over {counted}):'
  ]
  # Of a bound, that at the most samples; eval.csv has the others.
  for name, row in {row['metric']: row for row in rows}.items():
    line = f'  {name.ljust(max(map(len, METRICS)))}  {row["value"]:.6g}'
    if row['se'] == row['se']:
      line += f' ± {row["se"]:.2g}'
    if row['num_samples'] > 1:
      line += f' at {row["num_samples"]:,} samples'
    if row['n'] != of.result.num_images:
      line += f' over {row["n"]:,} of the {counted}'
    found.append(line)
  if not of.result.has_elbo:
    return found
  if not of.manifest['has_density']:
    found.append(
      'no importance-weighted bound: the targets are '
      f'{of.manifest["targets"].split(":")[0]}, where a Bernoulli gives no '
      'log-density and the bound would bound nothing (--binarize)'
    )
  found += unbounded(of.manifest, of.model, of.data)
  bounds = of.bounds if of.num_importance_samples else []
  if bounds and (
    bounds[-1].bias > _BIAS_NATS or bounds[-1].degenerate > _DEGENERATE_SHARE
  ):
    last = bounds[-1]
    found.append(
      f'WARNING: {last.degenerate:.0%} of the images have an effective '
      f'sample size below 10 at {last.num_samples:,} samples, and the '
      'estimate of log p(x) is expected to lie '
      f'{last.bias:.2f} nats too low, or more: read it as a lower bound, not '
      'as the value'
    )
  return [*found, in_words(of.result, bounds)]


def in_words(
  result: evaluation.Evaluation, bounds: Sequence[importance.Bound]
) -> str:
  """Returns one sentence that says what was measured."""
  active, latents = result.active_units, len(result.rate_per_latent)
  if active == 0:
    sentence = (
      f'The model is collapsed: none of its {latents} latents is active'
    )
  else:
    verb = 'is' if active == 1 else 'are'
    sentence = f'{active} of {latents} latents {verb} active'
  if bounds:
    bound = bounds[-1]
    measured = (
      f'bound at {bound.num_samples:,} samples is {bound.log_p.value:.1f} ± '
      f'{bound.log_p.se:.1f} nats (ESS {bound.ess:,.0f})'
    )
  else:
    measured = f'elbo is {result.elbo.value:.1f} ± {result.elbo.se:.1f} nats'
  return f'{sentence}; the {measured}.'.replace('-', '−')
