"""One run, from its config to its last file."""

import contextlib
import math
import pathlib
import re
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from launch import files, records
from launch.experiment import (
  build,
  messages,
  metrics,
  pictures,
  programs,
  progress,
  schedule,
  stop,
)
from launch.rundir import checkpoints, differences, opening, provenance
from launch.settings import config as config_lib
from launch.settings.config import Config
from vae import losses, training
from vae.metrics import evaluation

# A block of steps takes about this long, so that Ctrl-C, progress and the
# check for finite losses are never far.
_BLOCK_SECONDS = 1.0


def _report(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def run(
  path: pathlib.Path,
  config: Config,
  data_dir: str,
  command: str,
  *,
  overwrite: bool = False,
  original: str | None = None,
  bench: programs.Workbench | None = None,
) -> int:
  """Trains, evaluates and writes a run directory; resumes where one exists.

  Args:
    path: the run directory, locked by this process.
    config: the settings, of which some may be left open.
    data_dir: TFDS's data folder.
    command: what a person typed, for the manifest.
    overwrite: whether to delete the run that the folder holds, once it is
      known that the new one can start.
    original: the config.json of the run that is repeated.
    bench: of a process that trains several runs; None for a new one.

  Returns:
    The exit code: 0 finished, 1 failed, 130 or 143 stopped by a signal.

  Raises:
    RunError, ConfigError, DatasetError, RecordError, CheckpointError: with one
      line that says what is wrong and what to do.
  """
  manifest = None
  if (path / records.CONFIG).exists() and not overwrite:
    manifest = records.read_manifest(path)
  bench = bench or programs.Workbench()
  prepared = bench.prepare(config, data_dir, manifest, _report)
  if original is not None:
    here = {**provenance.session(), 'dataset': prepared.dataset.provenance}
    print(
      differences.with_original(original, prepared.config, here), flush=True
    )
  experiment = _Experiment(path, prepared, command)
  if overwrite:
    records.clear(path)
  started = experiment.start_or_resume()
  return experiment.train() if started else 0


class _Experiment:
  """The state of one run in this process."""

  def __init__(
    self, path: pathlib.Path, prepared: programs.Prepared, command: str
  ):
    self._path = path
    self._command = command
    self._config, self._dataset, self._program = config, dataset, _ = prepared
    self._model = self._program.model
    self._step = 0
    self._num_values = math.prod(dataset.shape)
    self._splits = dataset.splits
    number, unit = config_lib.parse_interval(config.checkpoint_every)
    self._checkpoint_seconds = number if unit == 'seconds' else math.inf
    self._schedule = schedule.Schedule(
      config,
      num_train=len(dataset.splits['train'].examples),
      checkpoint_steps=int(number) if unit == 'steps' else 0,
    )
    # On the test split, after step `_step`.
    self._evaluated: evaluation.Evaluation | None = None
    self._best_step: int | None = None
    self._seconds_before = 0.0

  # -- Starting ---------------------------------------------------------------

  def start_or_resume(self) -> bool:
    """Makes the run's files or takes up where they end; False if finished."""
    config, path = self._config, self._path
    if not (path / records.CONFIG).exists():
      self._manifest = self._new_manifest()
      for name in records.RUN_TABLES:
        records.create_table(path, name)
      records.write_manifest(path, self._manifest)
      files.replace_file(path / records.CONFIG, config.to_json().encode())
      return True
    stored = config_lib.load(path / records.CONFIG)
    opening.check_same(path, stored, config)
    self._manifest = records.read_manifest(path)
    loaded = checkpoints.load_newest(path, _report)
    if loaded is not None:
      self._step, tensors = loaded
      build.assign(self._program.variables, tensors)
    finished = self._manifest['status'] == 'finished'
    if finished and (
      self._step >= self._schedule.last or self._manifest.get('stopped_early')
    ):
      print(
        f'{path} is finished ({self._step:,} steps). A larger '
        '--training_steps goes on, unless training stopped early; --overwrite '
        'starts anew.'
      )
      return False
    for name in records.RUN_TABLES:
      records.keep_rows(path, name, self._is_kept(name, stored))
    if config.patience:
      self._best_step = self._find_best()
    self._seconds_before = float(self._manifest.get('seconds', 0.0))
    self._manifest.pop('error', None)
    self._manifest.setdefault('resumed', []).append(
      {'step': self._step, **self._session()}
    )
    self._update_manifest('running', training_steps=self._schedule.last)
    files.replace_file(path / records.CONFIG, config.to_json().encode())
    print(f'resuming {path} after step {self._step:,}')
    return True

  def _is_kept(self, name: str, stored: Config):
    """Which rows stay: those up to the checkpoint that this run would write.

    A run that goes on had a last step that is nothing special to the longer
    one, whose files must come out as if it had never ended there. What
    `launch.evaluate` measured stays.
    """
    step = self._step

    def keep(row_step: int, row: Mapping[str, str]) -> bool:
      evaluated = name in (records.EVAL, records.RATE_PER_LATENT)
      if evaluated and not metrics.is_written_by_training(row, stored):
        return True
      if row_step > step:
        return False
      if evaluated and row['split'] == 'validation':
        return self._schedule.is_validated(row_step)
      if row_step != stored.training_steps or row_step == self._schedule.last:
        return True
      if evaluated:
        return self._schedule.is_evaluated(row_step)
      return self._schedule.is_logged(row_step)

    return keep

  def _session(self) -> dict[str, Any]:
    """What this process is."""
    return {
      'started': provenance.now(),
      'command': self._command,
      **provenance.session(),
    }

  def _new_manifest(self) -> dict[str, Any]:
    config = self._config
    return {
      'format': records.FORMAT,
      'status': 'running',
      'ended': None,
      'seconds': 0.0,
      **self._session(),
      'threads': config.threads,
      'dataset': dict(self._dataset.provenance),
      'targets': messages.targets(config),
      'num_parameters': {
        'encoder': build.num_parameters(self._model.encode),
        'decoder': build.num_parameters(self._model.decode),
      },
      'effective_beta': losses.effective_beta(
        config.beta, config.reduction, self._num_values, config.latent_size
      )
      if config.has_effective_beta
      else None,
      'training_steps': self._schedule.last,
    }

  def _update_manifest(self, status: str, **entries: Any) -> None:
    assert status in records.STATUSES
    ended = None if status == 'running' else provenance.now()
    self._manifest.update(status=status, ended=ended, **entries)
    records.write_manifest(self._path, self._manifest)

  # -- Training ---------------------------------------------------------------

  def train(self) -> int:
    """Trains to the last step and evaluates; returns the exit code."""
    config, schedule = self._config, self._schedule
    print(
      messages.start(
        self._path, config, self._manifest, build.num_parameters(self._model)
      ),
      flush=True,
    )
    shown = progress.Progress(self._step, schedule.last)
    self._started = saved = time.monotonic()
    block_steps: int | None = None
    with stop.Stop() as stopping:
      last = self._is_last()
      while not last:
        first = self._step + 1
        count = min(
          schedule.next_stop(self._step) - self._step,
          block_steps or 1,
          self._program.engine.max_steps,
        )
        block_started = time.monotonic()
        try:
          metrics = self._run_block(first, count)
          # The first block compiles, and says nothing about the speed.
          if block_steps is None:
            block_steps = 1
          else:
            speed = count / (time.monotonic() - block_started)
            block_steps = max(1, int(speed * _BLOCK_SECONDS))
          self._step += count
          improved = schedule.is_validated(self._step) and self._validate()
          last = self._is_last()
          if last or schedule.is_logged(self._step):
            self._log(metrics, shown, last)
          if schedule.is_evaluated(self._step):
            self._evaluate()
          every = schedule.checkpoint_steps
          due = (every and self._step % every == 0) or (
            time.monotonic() - saved > self._checkpoint_seconds
          )
          if last or due or improved or stopping.signal:
            self._save()
            saved = time.monotonic()
        except training.NonFiniteError as error:
          shown.close()
          return self._fail(error)
        except tf.errors.ResourceExhaustedError as error:
          shown.close()
          return self._run_out_of_memory(error)
        except OSError as error:
          shown.close()
          return self._lose_disk(error)
        shown.update(self._step)
        if stopping.signal is not None and not last:
          shown.close()
          self._update_manifest('interrupted')
          print(
            f'{self._path} stopped after step {self._step:,}. To resume:\n'
            f'python -m launch.train --run_dir={shlex.quote(str(self._path))}'
          )
          return 128 + stopping.signal
      shown.close()
      self._finish()
    return 0

  @property
  def _seconds(self) -> float:
    """How long all processes of this run have trained."""
    return self._seconds_before + time.monotonic() - self._started

  def _run_block(self, first: int, count: int) -> training.Metrics:
    """Trains `count` steps, the first of which is `first`.

    Raises:
      NonFiniteError: a loss is not finite; what shows it is kept.
    """
    try:
      return self._program.engine.run(
        first,
        self._schedule.betas(first, count),
        self._schedule.learning_rates(first, count),
      )
    except training.NonFiniteError as error:
      self._keep_replay(error)
      raise

  def _save(self) -> None:
    """Writes a checkpoint and how long training took up to it.

    Raises:
      NonFiniteError: a variable is not finite; nothing is written.
    """
    values = build.values(self._program.variables)
    for name, value in values.items():
      if not np.isfinite(value).all():
        # The loss is measured before the update, and so does not show it yet.
        raise training.NonFiniteError(self._step + 1, name, math.nan)
    checkpoints.save(self._path, self._step, values, self._best_step)
    best = {} if self._best_step is None else {'best_step': self._best_step}
    self._update_manifest('running', seconds=round(self._seconds, 3), **best)

  def _log(
    self, metrics: training.Metrics, shown: progress.Progress, last: bool
  ) -> None:
    config, step = self._config, self._step
    reconstruction, kl = metrics.distortion, metrics.rate
    if config.reduction == 'mean':
      reconstruction /= self._num_values
      kl /= config.latent_size
    # float32 prints in as many digits as it has.
    row = {'total': np.float32(metrics.loss)}
    nats: dict[str, Any] = {
      'beta': None,
      'kl': None,
      'distortion_nats': None,
      'rate_nats': None,
      'elbo_nats': None,
    }
    if config.has_elbo:
      row['kl'] = np.float32(kl)
      nats = {
        'beta': float(self._schedule.betas(step, 1)[0])
        if config.beta_warmup_steps
        else config.beta,
        'distortion_nats': np.float32(metrics.distortion),
        'rate_nats': np.float32(metrics.rate),
        'elbo_nats': -np.float32(metrics.distortion + metrics.rate),
      }
    row['reconstruction'] = np.float32(reconstruction)
    if last or self._schedule.is_printed(step):
      shown.print(
        str({'step': step} | {name: float(str(v)) for name, v in row.items()})
      )
    epoch = step * config.batch_size / self._schedule.num_train
    records.append(
      self._path,
      records.TRAIN,
      nats
      | row
      | {
        'step': step,
        'epoch': f'{epoch:.6g}',
        'learning_rate': self._schedule.learning_rates(step, 1)[0],
      },
    )
    records.append(
      self._path,
      records.TIMING,
      {'step': step, 'seconds': f'{self._seconds:.3f}'},
    )

  # -- Evaluating -------------------------------------------------------------

  def _measure(self, split: str) -> evaluation.Evaluation:
    """Evaluates a split and writes what comes out.

    Raises:
      NonFiniteError: it is not finite; nothing is written.
    """
    result = self._program.evaluator(
      self._splits[split].examples, self._config.binarize, self._config.seed
    )
    name, estimate = (
      ('elbo', result.elbo)
      if self._config.has_elbo
      else ('squared error', result.squared_error)
    )
    if not math.isfinite(estimate.value):
      raise training.NonFiniteError(
        self._step + 1, f'{name} of the {split} split', estimate.value
      )
    metrics.record(
      self._path,
      self._step,
      split,
      result,
      self._num_values,
      self._likelihood_scale(),
    )
    return result

  def _likelihood_scale(self) -> dict[str, float]:
    return metrics.likelihood_scale(
      self._model, self._manifest['effective_beta']
    )

  def _evaluate(self) -> None:
    self._evaluated = self._measure('test')

  def _validate(self) -> bool:
    """Evaluates the validation split; whether these weights are the best."""
    self._measure('validation')
    self._best_step = self._find_best()
    return self._best_step == self._step

  def _find_best(self) -> int | None:
    return metrics.best_validated(self._path, self._config.has_elbo)

  def _is_stopped_early(self) -> bool:
    """Whether patience is at its end, not before beta is at its own."""
    patience, schedule = self._config.patience, self._schedule
    if not patience or self._best_step is None:
      return False
    waited = schedule.epochs(self._step) - schedule.epochs(self._best_step)
    return waited >= patience and self._step >= self._config.beta_warmup_steps

  def _is_last(self) -> bool:
    return self._step >= self._schedule.last or self._is_stopped_early()

  # -- Ending -----------------------------------------------------------------

  def _keep_replay(self, error: training.NonFiniteError) -> None:
    """Keeps what shows the fault: the weights and the batch of that step."""
    self._step = error.step - 1  # The model is as before the bad step.
    if self._step:
      with contextlib.suppress(training.NonFiniteError):
        self._save()
    records.write_arrays(
      self._path,
      'failed_batch',
      error.step,
      {
        'images': self._program.engine.batch(error.step),
        'beta': self._schedule.betas(error.step, 1)[0],
        'learning_rate': self._schedule.learning_rates(error.step, 1)[0],
      },
    )

  def _fail(self, error: training.NonFiniteError) -> int:
    newest = checkpoints.paths(self._path)
    kept = (
      f'the last good checkpoint is {newest[0]}'
      if newest
      else ('no checkpoint had been written')
    )
    self._update_manifest('failed', error=str(error))
    _report(
      f'launch.train: error: {error}; the run is marked failed; {kept}. A '
      'smaller --learning_rate often helps.'
    )
    return 1

  def _run_out_of_memory(self, error: tf.errors.ResourceExhaustedError) -> int:
    what = re.search(r'shape ?\[[\d,]*\]', error.message)
    where = f' for a tensor of {what[0]}' if what else ''
    self._update_manifest('failed', error='out of memory')
    _report(
      f'launch.train: error: out of memory{where} after step {self._step:,}, '
      f'with --batch_size={self._config.batch_size}; a smaller one, or a '
      'smaller network, needs less'
    )
    return 1

  def _lose_disk(self, error: OSError) -> int:
    reason = f'{error.filename or self._path}: {error.strerror or error}'
    # The manifest may be as impossible to write as what failed.
    with contextlib.suppress(OSError):
      self._update_manifest('failed', error=reason)
    _report(
      f'launch.train: error: {reason}. {self._path} holds whole files up to '
      'its last checkpoint; once it can be written again, resume with:\n'
      f'python -m launch.train --run_dir={shlex.quote(str(self._path))}'
    )
    return 1

  def _finish(self) -> None:
    last_step = self._step
    if self._best_step is not None and self._best_step != self._step:
      self._step, tensors = checkpoints.load(
        checkpoints.path_of(self._path, self._best_step)
      )
      build.assign(self._program.variables, tensors)
      self._evaluated = None
    # Also where a kill came between the last checkpoint and this line.
    if self._evaluated is None:
      self._evaluate()
    assert self._evaluated is not None
    pictures.write(
      self._path,
      self._step,
      self._model,
      self._splits['test'],
      self._config,
      self._evaluated,
    )
    stopped = {}
    if self._config.patience:
      stopped = {'stopped_early': last_step < self._schedule.last}
    self._update_manifest('finished', **stopped)
    print(
      messages.end(
        self._path,
        self._config,
        self._manifest,
        self._evaluated,
        last_step,
        self._likelihood_scale(),
      )
    )
