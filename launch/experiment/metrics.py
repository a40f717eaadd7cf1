"""Measuring a run: the rows of eval.csv, and what they say in words."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch import records, runs
from launch.experiment import messages, pictures
from launch.rundir import opening
from launch.settings.config import Config
from vae import models
from vae.metrics import aggregate, evaluation, importance

# Above this many nats per image, the expected bias of the importance-weighted
# bound is worth a warning; so is a share of images whose weights hardly count
# more than one sample.
_BIAS_NATS = 0.1
_DEGENERATE_SHARE = 0.05

_TRAINING_METRICS = (
  'elbo_nats',
  'distortion_nats',
  'rate_nats',
  'elbo_bits_per_dimension',
  'active_units',
  'squared_error',
  'fitted_scale',
  'likelihood_scale',  # Of older runs, where it had a setting's name.
  'equivalent_beta',
)


def _row(
  step: int,
  split: str,
  num_images: int,
  metric: str,
  num_samples: int,
  estimate: evaluation.Estimate,
) -> dict[str, object]:
  return {
    'step': step,
    'split': split,
    'n': num_images,
    'metric': metric,
    'num_samples': num_samples,
    'value': estimate.value,
    'se': estimate.se,
  }


def is_written_by_training(row: Mapping[str, str], config: Config) -> bool:
  """Whether a row of a table is one that training writes by itself."""
  metric = row.get('metric', _TRAINING_METRICS[0])
  splits = ('test', 'validation') if config.patience else ('test',)
  return row['split'] in splits and metric in _TRAINING_METRICS


def _exact(value: float) -> evaluation.Estimate:
  return evaluation.Estimate(value, math.nan)


def record(
  path: pathlib.Path,
  step: int,
  split: str,
  result: evaluation.Evaluation,
  num_values: int,
  likelihood: Mapping[str, float],
  expected: Mapping[str, Any] | None = None,
) -> None:
  """Writes an evaluation to eval.csv and rate_per_latent.csv.

  Numbers that the model does not have get no row.

  Args:
    path: the run directory.
    step: the number of updates of the model.
    split: the split.
    result: its evaluation, with one posterior sample per image.
    num_values: H W C, for bits per dimension.
    likelihood: from `likelihood_scale`.
    expected: the manifest of the run that was evaluated, where another may
      have taken its place.
  """
  metrics = {'squared_error': result.squared_error}
  if result.has_elbo:
    per_bit = num_values * math.log(2.0)
    metrics = {
      'elbo_nats': result.elbo,
      'distortion_nats': result.distortion,
      'rate_nats': result.rate,
      'elbo_bits_per_dimension': evaluation.Estimate(
        -result.elbo.value / per_bit, result.elbo.se / per_bit
      ),
      'active_units': _exact(result.active_units),
      **{name: _exact(value) for name, value in likelihood.items()},
    }
  records.upsert(
    path,
    records.EVAL,
    [
      _row(step, split, result.num_images, metric, 1, estimate)
      for metric, estimate in metrics.items()
    ],
    expected,
  )
  if not result.has_elbo:
    return
  records.upsert(
    path,
    records.RATE_PER_LATENT,
    [
      {
        'step': step,
        'split': split,
        'latent': latent,
        'rate_nats': float(rate),
        'mean_variance': float(variance),
      }
      for latent, (rate, variance) in enumerate(
        zip(result.rate_per_latent, result.mean_variance, strict=True)
      )
    ],
    expected,
  )


def likelihood_scale(
  model: models.VAE, effective_beta: float | None
) -> dict[str, float]:
  """The one scale of a Normal likelihood and what beta is worth under it.

  With a scale s, distortion + beta rate is, up to a constant and the factor
  1 / s^2,

      squared error / 2 + beta s^2 rate

  (Rybkin et al. 2021, https://arxiv.org/abs/2006.13202, section 3).

  Returns:
    `fitted_scale` s, in the data's unit, and `equivalent_beta`, beta s^2;
    nothing where the likelihood is another.
  """
  assert isinstance(model.decode, models.Decoder)
  scale = getattr(model.decode.likelihood, 'scale', None)
  if scale is None or effective_beta is None:
    return {}
  scale = float(scale)
  return {
    'fitted_scale': scale,
    'equivalent_beta': effective_beta * scale**2,
  }


def best_validated(path: pathlib.Path, has_elbo: bool) -> int | None:
  """The step whose weights did best on the validation split so far.

  By the elbo, whose beta is always 1, so that a beta that moves does not move
  the scale; an autoencoder's by its squared error.

  Returns:
    The step, of equals the earliest; None where nothing was validated yet.
  """
  metric, sign = ('elbo_nats', 1) if has_elbo else ('squared_error', -1)
  validated = [
    (sign * float(row['value']), -int(row['step']))
    for row in records.read_rows(path, records.EVAL)
    if row['split'] == 'validation' and row['metric'] == metric and row['value']
  ]
  return -max(validated)[1] if validated else None


def _record_bounds(
  run: runs.Run,
  split: str,
  num_images: int,
  bounds: Sequence[importance.Bound],
) -> None:
  rows = []
  for bound in bounds:
    for metric, estimate in (
      ('log_p_nats', bound.log_p),
      ('effective_sample_size', evaluation.Estimate(bound.ess, math.nan)),
      ('log_p_expected_bias_nats', evaluation.Estimate(bound.bias, math.nan)),
      ('degenerate_share', evaluation.Estimate(bound.degenerate, math.nan)),
    ):
      rows.append(
        _row(run.step, split, num_images, metric, bound.num_samples, estimate)
      )
  records.upsert(run.path, records.EVAL, rows, run.manifest)


def _record_decomposition(
  run: runs.Run, split: str, parts: aggregate.Decomposition
) -> None:
  records.upsert(
    run.path,
    records.EVAL,
    [
      _row(run.step, split, parts.num_images, f'{name}_nats', 1, estimate)
      for name, estimate in parts._asdict().items()
      if name != 'num_images'
    ],
    run.manifest,
  )


def evaluate(
  run: runs.Run,
  split: str,
  num_importance_samples: int,
  progress: Callable[[str, int], Callable[[int], None]],
) -> list[str]:
  """Measures a run over every image of a split and writes what it finds.

  Args:
    run: from `runs.load`.
    split: the split.
    num_importance_samples: at most; 0 for none, where targets are grey.
    progress: from a label and a number of images, a function that is told how
      many of them are done.

  Returns:
    Lines for the terminal: the numbers, warnings, and a sentence in words.

  Raises:
    RunError: a split that does not exist or is too small.
  """
  examples = run.examples(split)
  if len(examples) < 2:
    raise opening.RunError(
      f'--split={split}: has {len(examples)} example; a standard error needs '
      'at least 2'
    )
  result = run.evaluate(split)
  record(
    run.path,
    run.step,
    split,
    result,
    math.prod(run.manifest['dataset']['shape']),
    likelihood_scale(run.model, run.manifest['effective_beta']),
    run.manifest,
  )
  counted = messages.counted(run.manifest['dataset']['shape'])
  unit = f'nats per {counted[:-1]} ' if result.has_elbo else ''
  lines = [
    f'{split} split of {run.config.dataset}, {len(examples):,} {counted}, step '
    f'{run.step:,}; {unit}(± standard error):',
    f'  {messages.result(result)}',
  ]
  if split == 'test':
    pictures.write(
      run.path,
      run.step,
      run.model,
      run.dataset.splits[split],
      run.config,
      result,
      run.manifest,
    )
  if not result.has_elbo:
    return lines
  parts = run.decompose_rate(split, progress('aggregate', len(examples)))
  _record_decomposition(run, split, parts)
  ceiling = math.log(len(examples))
  lines += [
    f'  the rate over the mixture of the {len(examples):,} posteriors, one '
    'sample each: mutual information '
    f'{messages.nats(parts.mutual_information)} (at most log N = '
    f'{ceiling:.2f}), total correlation '
    f'{messages.nats(parts.total_correlation)}, dimension-wise KL '
    f'{messages.nats(parts.dimension_wise_kl)}'
  ]
  bounds: list[importance.Bound] = []
  if num_importance_samples:
    bounds = run.importance_weighted_bounds(
      split, num_importance_samples, progress('log p(x)', len(examples))
    )
    _record_bounds(run, split, len(examples), bounds)
    lines += [
      f'  log p(x) >= {messages.nats(bound.log_p)} at {bound.num_samples:,} '
      f'samples (effective sample size {bound.ess:,.1f})'
      for bound in bounds
    ]
    last = bounds[-1]
    if last.bias > _BIAS_NATS or last.degenerate > _DEGENERATE_SHARE:
      lines.append(
        f'WARNING: {last.degenerate:.0%} of the images have an effective '
        f'sample size below 10 at {last.num_samples:,} samples, and the '
        'estimate of log p(x) is expected to lie '
        f'{last.bias:.2f} nats too low, or more: read it as a lower bound, not '
        'as the value'
      )
  else:
    lines.append(
      '  no importance-weighted bound: the targets are grey, where a Bernoulli '
      'gives no log-density and the bound would bound nothing (--binarize)'
    )
  lines.append(in_words(result, bounds))
  return lines


def in_words(
  result: evaluation.Evaluation, bounds: Sequence[importance.Bound]
) -> str:
  """One sentence that says what was measured."""
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
    return (
      f'{sentence}; the bound at {bound.num_samples:,} samples is '
      f'{bound.log_p.value:.1f} ± {bound.log_p.se:.1f} nats '
      f'(ESS {bound.ess:,.0f}).'
    ).replace('-', '−')
  return (
    f'{sentence}; the elbo is {result.elbo.value:.1f} ± {result.elbo.se:.1f} '
    'nats.'
  ).replace('-', '−')
