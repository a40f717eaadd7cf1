"""Writing what a run has come to: rows, evaluations and checkpoints."""

import math
from typing import Any

import numpy as np

from launch import records
from launch.experiment import build, metrics, progress, scores
from launch.experiment.starting import State
from launch.rundir import checkpoints
from vae import terms, training


def log(
  state: State, measured: training.Metrics, shown: progress.Progress, last: bool
) -> None:
  """Writes the last step to its tables, and may print it.

  Args:
    state: the run.
    measured: by that step, before its update.
    shown: where it is printed.
    last: whether training ends with it.
  """
  config, step = state.config, state.step
  values, latents = terms.divisors(
    config.reduction, math.prod(state.dataset.shape), config.latent_size
  )
  # float32 prints in as many digits as it has.
  printed = {'total': np.float32(measured.loss)}
  if state.manifest['has_elbo']:
    printed['kl'] = np.float32(measured.rate / latents)
  printed['reconstruction'] = np.float32(measured.distortion / values)
  if last or state.schedule.is_printed(step):
    shown.print(
      str({'step': step} | {name: float(str(v)) for name, v in printed.items()})
    )
  epoch = step * config.batch_size / state.schedule.num_train
  row: dict[str, Any] = dict.fromkeys(records.COLUMNS[records.TRAIN])
  row |= printed | {
    'step': step,
    'epoch': f'{epoch:.6g}',
    'learning_rate': state.schedule.learning_rates(step, 1)[0],
  }
  if state.manifest['has_elbo']:
    row |= {
      'beta': _beta(state),
      'distortion_nats': np.float32(measured.distortion),
      'rate_nats': np.float32(measured.rate),
      'elbo_nats': -np.float32(measured.distortion + measured.rate),
    }
  records.append(state.path, records.TRAIN, row)
  records.append(
    state.path,
    records.TERMS,
    *(
      {'step': step, 'term': name, 'value': np.float32(value)}
      for name, value in measured.measured.items()
      if math.isfinite(value)
    ),
  )
  records.append(
    state.path,
    records.TIMING,
    {'step': step, 'seconds': f'{state.seconds:.3f}'},
  )
  state.console.row(
    {
      name: value if value is None else float(str(value))
      for name, value in row.items()
    }
    | {'step': step}
  )


def _beta(state: State) -> float | None:
  """Returns what weighs the rate at this step; None where no number does."""
  config = state.config
  if 'beta' not in config.weights:
    return None if state.manifest['effective_beta'] is None else 1.0
  if not config.beta_warmup_steps:
    return config.beta
  return float(state.schedule.weights(state.step, 1)['beta'][0])


def evaluate(state: State, split: str) -> metrics.Evaluated:
  """Evaluates a split and writes what comes out to its tables.

  Of the split of `records.result_split`, `--eval_images` of it.

  Raises:
    NonFiniteError: it is not finite; nothing is written.
  """
  config, program = state.config, state.program
  data = state.dataset.splits[split]
  is_result = split == records.result_split(state.manifest)
  if is_result and not config.eval_scores:
    data = metrics.some(data, config.eval_images)
  result = program.evaluator(data.examples, config.binarize, config.seed)
  name, estimate = (
    ('elbo', result.elbo)
    if state.manifest['has_elbo']
    else ('squared error', result.squared_error)
  )
  if not math.isfinite(estimate.value):
    raise training.NonFiniteError(
      state.step + 1, f'{name} of the {split} split', estimate.value
    )
  evaluated = metrics.Evaluated(
    config,
    state.manifest,
    state.step,
    program.model,
    split,
    data,
    result,
  )
  metrics.record(state.path, evaluated, in_training=True)
  if config.eval_scores and is_result:
    scores.record(
      state.path,
      scores.Codes.of(evaluated),
      config.eval_scores,
      report=lambda line: None,
      in_training=True,
    )
  return evaluated


def save(state: State) -> None:
  """Writes a checkpoint and how long training took up to it.

  Raises:
    NonFiniteError: a variable is not finite; nothing is written.
  """
  values = build.values(state.program.variables)
  for name, value in values.items():
    if not np.isfinite(value).all():
      # The loss is measured before the update, and so does not show it yet.
      raise training.NonFiniteError(state.step + 1, name, math.nan)
  checkpoints.save(state.path, state.step, values)
  best = {} if state.best_step is None else {'best_step': state.best_step}
  state.write_status('running', seconds=round(state.seconds, 3), **best)
  # Only now that the manifest names no other as the best.
  checkpoints.delete_old(state.path, state.best_step)
